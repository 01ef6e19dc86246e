/* group: the members of a pod wait for each other; one that fails fails all. */
#include "move/group.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "test.h"

enum { MEMBERS = 5 };
static _Atomic unsigned frozen, early;

/* Nobody may be saved while another one runs. */
static void *member(void *arg)
{
	struct gw_group *g = arg;
	struct gw_err e;
	if (gw_group_meet(g, GW_GROUP_ARMED, &e) < 0)
		return NULL;
	frozen++;
	if (gw_group_meet(g, GW_GROUP_FROZEN, &e) < 0)
		return NULL;
	early += frozen != MEMBERS;
	gw_group_arrive(g, GW_GROUP_COMMITTING);
	return gw_group_outcome(g) ? g : NULL;
}

static void all_at_once(void **state)
{
	(void)state;
	for (int round = 0; round < 200; round++) {
		struct gw_group *g = gw_group_new("0123", MEMBERS + 0);
		pthread_t t[MEMBERS];
		struct gw_err e;
		frozen = early = 0;
		for (int i = 0; i < MEMBERS; i++)
			assert_int_equal(pthread_create(&t[i], NULL, member, g), 0);
		assert_int_equal(gw_group_wait(g, GW_GROUP_COMMITTING, 0, &e), 0);
		gw_group_decide(g, round % 2);
		for (int i = 0; i < MEMBERS; i++) {
			void *out;
			pthread_join(t[i], &out);
			assert_true((out != NULL) == (round % 2 == 1));
		}
		assert_int_equal(early, 0);
		gw_group_unref(g);
	}
}

static void one_fails_all(void **state)
{
	struct gw_group *g = gw_group_new("0123", MEMBERS + 1);
	pthread_t t[MEMBERS];
	struct gw_err e, why, later;
	(void)state;
	for (int i = 0; i < MEMBERS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, member, g), 0);
	(void)gw_fail_code(&why, GW_PEER, "LinkCut", "the link was cut");
	(void)gw_fail_code(&later, GW_PEER, "Other", "and so on");
	gw_group_fail(g, &why);
	gw_group_fail(g, &later);
	for (int i = 0; i < MEMBERS; i++) {
		void *out;
		pthread_join(t[i], &out);
		assert_null(out);
	}
	assert_true(gw_group_failed(g, &e) < 0);
	assert_string_equal(e.code, "LinkCut");
	gw_group_unref(g);
}

static void alone(void **state)
{
	struct gw_err e;
	(void)state;
	assert_int_equal(gw_group_meet(NULL, GW_GROUP_FROZEN, &e), 0);
	assert_true(gw_group_all(NULL, GW_GROUP_READY, 0));
	assert_int_equal(gw_group_failed(NULL, &e), 0);
}

static void ids(void **state)
{
	static const char uid[] = "3ee1c4d0-aaaa-4bbb-8ccc-0123456789ab";
	char seen[GW_GROUP_MAX][40];
	(void)state;
	(void)snprintf(seen[0], sizeof(seen[0]), "%s", uid);
	for (unsigned i = 1; i < GW_GROUP_MAX; i++) {
		gw_group_id(uid, i, seen[i]);
		assert_true(gw_group_is_of(seen[i], uid));
		for (unsigned k = 0; k < i; k++)
			assert_string_not_equal(seen[i], seen[k]);
	}
	assert_false(gw_group_is_of("3ee1c4d0-aaaa-4bbb-8ccc-0123456789ac", uid));
	assert_false(gw_group_is_of("0123456789ab", "ff23456789ab"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(all_at_once), cmocka_unit_test(one_fails_all),
	                                   cmocka_unit_test(alone), cmocka_unit_test(ids)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
