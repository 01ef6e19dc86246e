#include "test.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "move/check_look.h"

/* What two hosts that fit each other say of themselves. */
static struct gw_facts good(const char *name)
{
	struct gw_facts f = {.kernel = "6.12.1",
	                     .arch = "x86_64",
	                     .criu_version = 40201,
	                     .runc_version = 10300,
	                     .criu_lazy_pages = true,
	                     .userfaultfd = true,
	                     .track_uffd = true,
	                     .can_hold = true,
	                     .mem_available_bytes = 1ull << 40,
	                     .cpu_vendor = "GenuineIntel",
	                     .cpu_flags = (char *)(uintptr_t)"avx sse2"};
	strcpy(f.host, name);
	return f;
}

static bool has(const struct gw_reasons *rs, const char *code)
{
	for (size_t i = 0; i < rs->n; i++)
		if (!strcmp(rs->r[i].code, code))
			return true;
	return false;
}

/* Only this is in the way; NULL: nothing is. */
static void expect(const struct gw_facts *here, const struct gw_facts *there, const char *code)
{
	static const struct gw_container c;
	struct gw_reasons *rs = calloc(1, sizeof(*rs));
	assert_non_null(rs);
	gw_look_hosts(&c, 1 << 20, here, there, rs);
	if (code)
		assert_true(has(rs, code));
	assert_int_equal(rs->n, code ? 1 : 0);
	free(rs);
}

static void hosts_that_fit_are_no_reason(void **state)
{
	(void)state;
	struct gw_facts a = good("a"), b = good("b");
	expect(&a, &b, NULL);
	a.criu_version = 40101;
	expect(&a, &b, NULL);
	a.runc_version = 10105;
	b.selinux = true;
	expect(&a, &b, NULL);
}

static void versions_that_do_not_fit_are_named(void **state)
{
	(void)state;
	struct gw_facts a = good("a"), b = good("b");
	b.criu_version = 40101;
	expect(&a, &b, "CriuOlder");
	b.criu_version = 40200;
	expect(&a, &b, NULL);
	b.criu_version = 31700;
	expect(&a, &b, "CriuTooOld");
	b.criu_version = 0;
	expect(&a, &b, "CriuMissing");
	b = good("b");
	b.runc_version = 10099;
	expect(&a, &b, "RuncTooOld");
	b = good("b");
	strcpy(b.criu_why, "no inotify");
	b.criu_lazy_pages = false;
	expect(&a, &b, "CriuFails");
	b.criu_why[0] = 0;
	expect(&a, &b, "CriuNoLazyPages");
}

static void labels_need_selinux_on_both_sides(void **state)
{
	(void)state;
	struct gw_facts a = good("a"), b = good("b");
	a.selinux = true;
	expect(&a, &b, "LsmProfile");
	b.selinux = true;
	expect(&a, &b, NULL);
}

static void facts_survive_the_way(void **state)
{
	(void)state;
	struct gw_facts a = good("a"), b = {0};
	struct gw_err e;
	a.selinux = true;
	strcpy(a.criu_why, "no inotify");
	yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *root = yyjson_mut_obj(doc);
	yyjson_mut_doc_set_root(doc, root);
	gw_facts_to_json(&a, doc, root);
	yyjson_doc *read = yyjson_mut_doc_imut_copy(doc, NULL);
	assert_int_equal(gw_facts_from_json(yyjson_doc_get_root(read), &b, &e), 0);
	assert_true(b.selinux);
	assert_string_equal(b.criu_why, "no inotify");
	assert_int_equal(b.criu_version, 40201);
	gw_facts_done(&b);
	yyjson_doc_free(read);
	yyjson_mut_doc_free(doc);
}

static bool arrival_says(const char *config, const char *code)
{
	struct gw_reasons *rs = calloc(1, sizeof(*rs));
	struct gw_err e;
	assert_non_null(rs);
	assert_int_equal(gw_check_arrival("nobody-has-this", "/nonexistent", config, 0, rs, &e), 0);
	bool says = has(rs, code);
	free(rs);
	return says;
}

static void profiles_that_are_not_here_are_refused(void **state)
{
	(void)state;
	assert_true(arrival_says("{\"process\":{\"apparmorProfile\":\"godwit-has-no-such\"}}", "LsmProfile"));
	assert_false(arrival_says("{\"process\":{\"apparmorProfile\":\"unconfined\"}}", "LsmProfile"));
	assert_false(arrival_says("{\"process\":{}}", "LsmProfile"));
	bool is_on = access("/sys/fs/selinux/enforce", F_OK) == 0;
	assert_int_equal(arrival_says("{\"process\":{\"selinuxLabel\":\"a:b:c:s0\"}}", "LsmProfile"), !is_on);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(hosts_that_fit_are_no_reason),
	        cmocka_unit_test(versions_that_do_not_fit_are_named),
	        cmocka_unit_test(labels_need_selinux_on_both_sides),
	        cmocka_unit_test(facts_survive_the_way),
	        cmocka_unit_test(profiles_that_are_not_here_are_refused),
	};
	return cmocka_run_group_tests_name("move/hosts", tests, NULL, NULL);
}
