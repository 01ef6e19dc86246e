#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fate.h"
#include "base/io.h"

enum { TRIES = 300 };

static char dir[] = "/tmp/godwit-fate-XXXXXX";

static int setup(void **state)
{
	char kept[64];
	struct gw_err e;
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	gw_path(kept, sizeof(kept), "%s/kept", dir);
	return gw_mkdirs(kept, &e);
}

static int teardown(void **state)
{
	struct gw_err e;
	(void)state;
	return gw_remove_tree(dir, &e);
}

static void stand(const char *id)
{
	char mark[64];
	struct gw_err e;
	gw_path(mark, sizeof(mark), "%s/kept/%s", dir, id);
	assert_int_equal(gw_write_file(mark, "1", 1, &e), 0);
}

static void who_is_first_decides(void **state)
{
	(void)state;
	struct gw_err e;
	stand("a");
	assert_int_equal(gw_fate_decide(dir, "a", GW_FATE_COMMIT, &e), 0);
	assert_int_equal(gw_fate_decide(dir, "a", GW_FATE_END, &e), -EBUSY);
	gw_fate_reopen(dir, "a");
	assert_int_equal(gw_fate_decide(dir, "a", GW_FATE_END, &e), 0);
	assert_int_equal(gw_fate_decide(dir, "a", GW_FATE_COMMIT, &e), -EBUSY);
	gw_fate_over(dir, "a");
}

static void what_is_not_kept_cannot_be_decided(void **state)
{
	(void)state;
	struct gw_err e;
	assert_int_equal(gw_fate_decide(dir, "b", GW_FATE_COMMIT, &e), -ENOENT);
	stand("b");
	gw_fate_over(dir, "b");
	assert_int_equal(gw_fate_decide(dir, "b", GW_FATE_COMMIT, &e), -ENOENT);
	/* and leaves nothing that a later one of that name would find */
	stand("b");
	assert_int_equal(gw_fate_decide(dir, "b", GW_FATE_END, &e), 0);
	gw_fate_over(dir, "b");
}

static atomic_int turn, wins[2];

static void *decide_each(void *arg)
{
	int me = arg != NULL;
	for (int i = 0; i < TRIES; i++) {
		struct gw_err e;
		char id[16];
		gw_path(id, sizeof(id), "r%d", i);
		atomic_fetch_add(&turn, 1);
		while (atomic_load(&turn) < 2 * (i + 1))
			(void)sched_yield();
		if (gw_fate_decide(dir, id, me ? GW_FATE_COMMIT : GW_FATE_END, &e) == 0)
			atomic_fetch_add(&wins[me], 1);
	}
	return NULL;
}

static void two_at_once_never_both_decide(void **state)
{
	(void)state;
	pthread_t t;
	for (int i = 0; i < TRIES; i++) {
		char id[16];
		gw_path(id, sizeof(id), "r%d", i);
		stand(id);
	}
	assert_int_equal(pthread_create(&t, NULL, decide_each, &turn), 0);
	(void)decide_each(NULL);
	assert_int_equal(pthread_join(t, NULL), 0);
	assert_int_equal(wins[0] + wins[1], TRIES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(who_is_first_decides),
	        cmocka_unit_test(what_is_not_kept_cannot_be_decided),
	        cmocka_unit_test(two_at_once_never_both_decide),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
