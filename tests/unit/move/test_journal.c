#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/gw_log.h"
#include "base/io.h"
#include "move/journal.h"

static char state_dir[64];

static int setup(void **state)
{
	(void)state;
	char path[100];
	strcpy(state_dir, "/tmp/gw-journal-XXXXXX");
	if (!mkdtemp(state_dir))
		return -1;
	snprintf(path, sizeof(path), "%s/journal", state_dir);
	return gw_mkdirs(path, NULL);
}

static int teardown(void **state)
{
	(void)state;
	return gw_remove_tree(state_dir, NULL);
}

static struct gw_journal sample(void)
{
	struct gw_journal j = {.mig = "0123456789ab",
	                       .is_source = true,
	                       .source = S_COMMITTING,
	                       .container = "web",
	                       .peer = "host-b",
	                       .runc_root = "/run/runc",
	                       .freezer_dir = "/f",
	                       .cpu_quota_path = "/c",
	                       .cpu_quota = "-1",
	                       .netns_path = "/run/netns/web"};
	j.pod_json = strdup("{\"ifname\":\"eth0\",\"odd\":\"\\\"\"}");
	return j;
}

static void path_of(const char *mig, char *out, size_t size)
{
	snprintf(out, size, "%s/journal/%s.json", state_dir, mig);
}

static void what_is_written_is_read_back(void **state)
{
	(void)state;
	char path[200];
	struct gw_journal j = sample(), k;
	assert_int_equal(gw_journal_write(state_dir, &j, NULL), 0);
	path_of(j.mig, path, sizeof(path));
	assert_int_equal(gw_journal_read(path, &k, NULL), 0);
	assert_string_equal(k.mig, j.mig);
	assert_true(k.is_source);
	assert_int_equal(k.source, S_COMMITTING);
	assert_string_equal(k.container, "web");
	assert_string_equal(k.peer, "host-b");
	assert_string_equal(k.freezer_dir, "/f");
	assert_string_equal(k.cpu_quota, "-1");
	assert_string_equal(k.pod_json, j.pod_json);
	gw_journal_done(&j);
	gw_journal_done(&k);
}

static void a_destination_entry_keeps_its_role(void **state)
{
	(void)state;
	char path[200];
	struct gw_journal j = {.mig = "abcdefabcdef", .dest = D_PREPARED}, k;
	assert_int_equal(gw_journal_write(state_dir, &j, NULL), 0);
	path_of(j.mig, path, sizeof(path));
	assert_int_equal(gw_journal_read(path, &k, NULL), 0);
	assert_false(k.is_source);
	assert_int_equal(k.dest, D_PREPARED);
	assert_null(k.pod_json);
}

static void count(void *ctx, struct gw_journal *j)
{
	(void)j;
	++*(int *)ctx;
}

static void a_damaged_entry_hides_no_other(void **state)
{
	(void)state;
	char path[200];
	int n = 0;
	struct gw_journal j = sample();
	assert_int_equal(gw_journal_write(state_dir, &j, NULL), 0);
	path_of("deadbeef0000", path, sizeof(path));
	assert_int_equal(gw_write_file(path, "{\"version\":1,\"mig\":", 19, NULL), 0);
	path_of("deadbeef0001", path, sizeof(path));
	assert_int_equal(gw_write_file(path, "{\"version\":99,\"mig\":\"deadbeef0001\"}", 35, NULL), 0);
	gw_journal_each(state_dir, count, &n);
	assert_int_equal(n, 1);
	assert_int_equal(access(path, F_OK), 0); /* kept for a person to look at */
	gw_journal_done(&j);
}

static void a_full_disk_is_told_and_the_old_entry_stays(void **state)
{
	(void)state;
	char dir[220], path[200];
	struct gw_err e;
	struct gw_journal j = sample(), k;
	assert_int_equal(gw_journal_write(state_dir, &j, NULL), 0);
	/* The .new file cannot be made: the nearest thing to a full disk that needs no mount. */
	path_of(j.mig, path, sizeof(path));
	snprintf(dir, sizeof(dir), "%s.new", path);
	assert_int_equal(gw_mkdirs(dir, NULL), 0);
	j.source = S_MOVED;
	assert_true(gw_journal_write(state_dir, &j, &e) < 0);
	assert_int_equal(e.class, GW_SYS);
	assert_int_equal(gw_journal_read(path, &k, NULL), 0);
	assert_int_equal(k.source, S_COMMITTING);
	gw_journal_done(&j);
	gw_journal_done(&k);
}

static void a_removed_entry_is_gone(void **state)
{
	(void)state;
	int n = 0;
	struct gw_journal j = sample();
	assert_int_equal(gw_journal_write(state_dir, &j, NULL), 0);
	gw_journal_remove(state_dir, j.mig);
	gw_journal_each(state_dir, count, &n);
	assert_int_equal(n, 0);
	gw_journal_done(&j);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
	        T(what_is_written_is_read_back),   T(a_destination_entry_keeps_its_role),
	        T(a_damaged_entry_hides_no_other), T(a_full_disk_is_told_and_the_old_entry_stays),
	        T(a_removed_entry_is_gone),
	};
	return cmocka_run_group_tests_name("move/journal", tests, NULL, NULL);
}
