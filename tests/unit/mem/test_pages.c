#include "test.h"

#include "fake_criu.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"

enum { AREA_PAGES = 8192 }; /* 32 MiB, of which every fourth 256 KiB is a hole */

static bool has_data(uint64_t page)
{
	return page / 64 % 4 != 3;
}

static void expect(struct victim *v, const char *p, uint32_t space, uint64_t page)
{
	if (has_data(page))
		v_is(v, p, space, page);
	else
		v_is_zero(v, p);
}

static void store_area(struct scene *s, uint32_t id, uint64_t pages)
{
	for (uint64_t page = 0; page < pages; page += 64)
		if (has_data(page))
			scene_pages(s, id, page, 64);
}

static int make(void **state)
{
	*state = scene_new();
	return *state ? 0 : -1;
}

static int unmake(void **state)
{
	scene_free(*state);
	return 0;
}

/* ---- contents ---- */

static void read_at_random_then_all(struct victim *v, void *arg)
{
	uint32_t space = *(const uint32_t *)arg;
	v_begin(v);
	char *p = v_map(v, 0, AREA_PAGES);
	v_hand_over(v);
	v_stage(v, 1);
	uint64_t rnd = space;
	for (int i = 0; i < 4000; i++) {
		uint64_t page = v_random(&rnd) % AREA_PAGES;
		expect(v, p + page * PAGE, space, page);
		if (i == 100)
			v_stage(v, 2);
	}
	for (uint64_t page = 0; page < AREA_PAGES; page++)
		expect(v, p + page * PAGE, space, page);
}

static void every_page_is_right_under_random_access_while_it_is_filled(void **state)
{
	struct scene *s = *state;
	static uint32_t id = 1;
	struct victim *v = scene_victim(s, read_at_random_then_all, &id);
	scene_space(s, v, id);
	store_area(s, id, AREA_PAGES);
	scene_start(s);
	scene_give(s);
	scene_go(s);
	scene_wait_stage(s, 2); /* pages are served before the restore is whole */
	scene_finish(s);
	assert_int_equal(victim_wait(v), 4000 + AREA_PAGES);
	scene_wait_done(s);
	assert_int_equal(gw_store_bytes(s->store), 0);
	assert_int_equal(access(s->socket, F_OK), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(every_page_is_right_under_random_access_while_it_is_filled, make,
	                                        unmake),
	};
	return cmocka_run_group_tests_name("mem/pages", tests, NULL, NULL);
}
