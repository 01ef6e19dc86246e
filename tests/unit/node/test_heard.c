#include <stdio.h>
#include <string.h>

#include "node/heard.h"
#include "test.h"

static struct heard h;

static int set_up(void **state)
{
	(void)state;
	heard_init(&h);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	heard_free(&h);
	return 0;
}

static struct gw_migration of(const char *uid, const char *phase)
{
	struct gw_migration m = {0};
	(void)snprintf(m.uid, sizeof(m.uid), "%s", uid);
	(void)snprintf(m.phase, sizeof(m.phase), "%s", phase);
	return m;
}

static void put(const char *uid, const char *phase, bool gone)
{
	struct gw_migration m = of(uid, phase);
	heard_put(&h, &m, gone);
}

static void synced(void)
{
	heard_synced(&h, NULL, NULL);
}

static void nothing_is_unknown_before_all_is_told(void **state)
{
	(void)state;
	assert_int_equal(heard_life(&h, "a"), HEARD_GOES_ON);
	assert_false(heard_is_synced(&h));
	synced();
	assert_true(heard_is_synced(&h));
	assert_int_equal(heard_life(&h, "a"), HEARD_UNKNOWN);
}

static void what_ends_is_remembered_as_ended(void **state)
{
	struct gw_migration m;
	const char *const ends[] = {"Succeeded", "Failed", "Cancelled"};
	(void)state;
	synced();
	for (size_t i = 0; i < 3; i++) {
		put("a", "PreCopy", false);
		assert_true(heard_latest(&h, "a", &m));
		assert_string_equal(m.phase, "PreCopy");
		put("a", ends[i], false);
		assert_false(heard_latest(&h, "a", &m));
		assert_int_equal(heard_life(&h, "a"), HEARD_ENDED);
	}
	put("b", "Freezing", false);
	assert_int_equal(heard_life(&h, "b"), HEARD_GOES_ON);
	put("b", "Freezing", true);
	assert_int_equal(heard_life(&h, "b"), HEARD_ENDED);
}

static void only_so_many_ended_ones_are_kept(void **state)
{
	char uid[32];
	(void)state;
	synced();
	for (int i = 0; i <= HEARD_ENDED_MAX; i++) {
		(void)snprintf(uid, sizeof(uid), "m%d", i);
		put(uid, "Failed", false);
		put(uid, "Failed", false); /* told twice it takes one place */
	}
	assert_int_equal(heard_life(&h, "m0"), HEARD_UNKNOWN);
	assert_int_equal(heard_life(&h, "m1"), HEARD_ENDED);
	assert_int_equal(heard_life(&h, uid), HEARD_ENDED);
}

static void count(void *ctx, const struct gw_migration *m)
{
	char *names = ctx;
	strcat(names, m->uid);
}

static void what_a_new_list_lacks_is_gone(void **state)
{
	struct gw_migration m;
	char names[16] = "";
	(void)state;
	heard_listing(&h);
	put("a", "PreCopy", false);
	put("b", "PreCopy", false);
	heard_synced(&h, count, names);
	assert_string_equal(names, "");
	heard_listing(&h);
	put("b", "Freezing", false);
	heard_synced(&h, count, names);
	assert_string_equal(names, "a");
	assert_int_equal(heard_life(&h, "a"), HEARD_ENDED);
	assert_true(heard_latest(&h, "b", &m));
	assert_string_equal(m.phase, "Freezing");
}

static void more_than_it_can_hold_are_not_called_ended(void **state)
{
	struct gw_migration m;
	char uid[32];
	(void)state;
	for (int i = 0; i <= HEARD_MAX; i++) {
		(void)snprintf(uid, sizeof(uid), "m%d", i);
		put(uid, "PreCopy", false);
	}
	assert_false(heard_latest(&h, uid, &m));
	assert_int_not_equal(heard_life(&h, uid), HEARD_ENDED);
	put("m0", "Failed", false); /* makes room */
	put(uid, "PreCopy", false);
	assert_true(heard_latest(&h, uid, &m));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(nothing_is_unknown_before_all_is_told, set_up, tear_down),
	        cmocka_unit_test_setup_teardown(what_ends_is_remembered_as_ended, set_up, tear_down),
	        cmocka_unit_test_setup_teardown(only_so_many_ended_ones_are_kept, set_up, tear_down),
	        cmocka_unit_test_setup_teardown(what_a_new_list_lacks_is_gone, set_up, tear_down),
	        cmocka_unit_test_setup_teardown(more_than_it_can_hold_are_not_called_ended, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
