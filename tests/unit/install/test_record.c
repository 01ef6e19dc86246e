#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/scope.h"
#include "install/record.h"

static char dir[] = "/tmp/record-XXXXXX", path[64];

static int make(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/installed.json", dir);
	return 0;
}

static int drop(void **state)
{
	(void)state;
	return gw_remove_tree(dir, NULL);
}

static void what_was_added_is_there_after_a_kill(void **state)
{
	(void)state;
	struct gw_record r;
	struct gw_err e;
	const char *kind, *p;
	assert_int_equal(gw_record_open(path, &r, &e), 0);
	assert_int_equal(gw_record_count(&r), 0);
	assert_int_equal(gw_record_add(&r, "dir", "/opt/cni", &e), 0);
	assert_int_equal(gw_record_add(&r, "link", "/opt/cni/x", &e), 0);
	assert_int_equal(gw_record_add(&r, "link", "/opt/cni/x", &e), 0);
	assert_int_equal(gw_record_note(&r, "restart", "needed", &e), 0);
	gw_record_done(&r);
	assert_int_equal(gw_record_open(path, &r, &e), 0);
	assert_int_equal(gw_record_count(&r), 2);
	assert_true(gw_record_at(&r, 1, &kind, &p));
	assert_string_equal(kind, "link");
	assert_string_equal(p, "/opt/cni/x");
	assert_string_equal(gw_record_noted(&r, "restart"), "needed");
	assert_int_equal(gw_record_note(&r, "restart", "", &e), 0);
	assert_int_equal(gw_record_drop(&r, "/opt/cni/x", &e), 0);
	assert_int_equal(gw_record_drop(&r, "/never", &e), 0);
	gw_record_done(&r);
	assert_int_equal(gw_record_open(path, &r, &e), 0);
	assert_int_equal(gw_record_count(&r), 1);
	assert_false(gw_record_has(&r, "/opt/cni/x"));
	assert_true(gw_record_has(&r, "/opt/cni"));
	assert_string_equal(gw_record_noted(&r, "restart"), "");
	gw_record_done(&r);
}

static void a_record_of_another_kind_is_not_guessed_at(void **state)
{
	(void)state;
	static const char *const bad[] = {"", "{}", "[]", "{\"version\":2,\"made\":[],\"notes\":{}}",
	                                  "{\"version\":1,\"notes\":{}}"};
	for (size_t i = 0; i < gw_countof(bad); i++) {
		struct gw_record r;
		struct gw_err e;
		assert_int_equal(gw_write_file(path, bad[i], strlen(bad[i]), &e), 0);
		assert_true(gw_record_open(path, &r, &e) < 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(what_was_added_is_there_after_a_kill),
	        cmocka_unit_test(a_record_of_another_kind_is_not_guessed_at),
	};
	return cmocka_run_group_tests_name("record", tests, make, drop);
}
