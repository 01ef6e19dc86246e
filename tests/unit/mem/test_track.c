#include "test.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "track_rig.h"

enum { PAGE = 4096 };

static void every_page_of_a_process_arrives(void **state)
{
	struct rig *r = *state;
	(void)rig_start(r, "plain");
	rig_track(r);
	rig_round(r);
	assert_true(r->dirty_pages > 4096);
	rig_final(r);
}

static void only_what_was_written_is_reported_again(void **state)
{
	struct rig *r = *state;
	struct rig_victim *v = rig_start(r, "plain");
	uint64_t m = strtoull(rig_step(v, 'a'), NULL, 16);
	rig_track(r);
	rig_round(r);
	(void)rig_step(v, 'r');
	rig_round(r);
	assert_int_equal(rig_reported(r, v->pid, m, 4096 * PAGE), 0);
	(void)rig_step(v, 'w');
	rig_round(r);
	assert_int_equal(rig_reported(r, v->pid, m, 4096 * PAGE), 10);
	assert_int_equal(rig_reported(r, v->pid, m + 300 * PAGE, PAGE), 1);
	assert_true(r->dirty_pages < 60);
	(void)rig_step(v, 'w');
	rig_final(r);
	assert_int_equal(rig_reported(r, v->pid, m, 4096 * PAGE), 10);
}

/* A step between two rounds, and between the last and the freeze. */
static void steps(struct rig *r, const char *what, const char *list)
{
	struct rig_victim *v = rig_start(r, what);
	rig_track(r);
	rig_round(r);
	for (const char *p = list; *p; p++) {
		(void)rig_step(v, *p);
		if (p[1])
			rig_round(r);
	}
	rig_final(r);
}

static void pages_that_were_thrown_away_are_dropped(void **state)
{
	struct rig *r = *state;
	steps(r, "plain", "wd");
	assert_int_equal(r->dropped_pages, 64);
}

static void the_zero_page_counts_as_nothing(void **state)
{
	struct rig *r = *state;
	steps(r, "plain", "z");
	assert_true(r->dropped_pages >= 64);
}

static void pages_of_a_removed_mapping_are_dropped(void **state)
{
	struct rig *r = *state;
	steps(r, "plain", "u");
	assert_true(r->dropped_pages >= 64);
}

static void a_mapping_in_the_place_of_another_is_reported_whole(void **state)
{
	steps(*state, "plain", "oo");
}

static void pages_behind_no_access_are_carried(void **state)
{
	steps(*state, "plain", "pwqp");
}

static void a_heap_that_grows_is_followed(void **state)
{
	steps(*state, "plain", "bbwb");
}

static void a_moved_mapping_is_reported_where_it_is(void **state)
{
	steps(*state, "plain", "wm");
}

static void marks_of_a_mapping_that_merged_are_not_believed(void **state)
{
	steps(*state, "merge", "mwmw");
}

static void memory_that_becomes_locked_is_left_to_criu(void **state)
{
	struct rig *r = *state;
	struct rig_victim *v = rig_start(r, "plain");
	struct gw_err e = {0};
	rig_track(r);
	rig_round(r);
	if (strcmp(rig_step(v, 'l'), "done") != 0)
		skip();
	assert_int_equal(gw_tracker_learn_flags(r->t, &e), 0);
	rig_final(r);
	assert_true(r->dropped_pages >= 32);
	/* The source goes on after all, and unlocks it. */
	rig_thaw(r);
	(void)rig_step(v, 'k');
	rig_round(r);
	rig_final(r);
}

static void a_child_is_carried_from_the_next_round_on(void **state)
{
	struct rig *r = *state;
	struct rig_victim *v = rig_start(r, "children");
	rig_track(r);
	rig_round(r);
	(void)rig_step(v, 'f');
	rig_round(r);
	assert_int_equal(r->last.processes, 2);
	(void)rig_step(v, 'f'); /* this one is new in the final round */
	rig_final(r);
	assert_int_equal(r->last.processes, 3);
}

static void processes_may_come_and_go(void **state)
{
	struct rig *r = *state;
	struct rig_victim *v = rig_start(r, "children");
	rig_track(r);
	rig_round(r);
	for (int i = 0; i < 3; i++) {
		rig_send(v, 'c');
		for (int k = 0; k < 20; k++)
			rig_round(r);
		(void)rig_answer(v);
	}
	(void)rig_step(v, 'f');
	rig_round(r);
	(void)rig_step(v, 'k');
	rig_final(r);
	assert_int_equal(r->last.processes, 1);
}

static void a_zombie_has_no_memory(void **state)
{
	struct rig *r = *state;
	struct rig_victim *v = rig_start(r, "children");
	rig_track(r);
	(void)rig_step(v, 'f');
	rig_round(r);
	(void)rig_step(v, 'z');
	rig_round(r);
	rig_final(r);
	assert_int_equal(r->last.processes, 1);
}

static void children_in_cgroups_below_are_found(void **state)
{
	struct rig *r = *state;
	(void)rig_start(r, "plain");
	struct rig_victim *b = rig_start_in(r, "below", "plain");
	struct rig_victim *c = rig_start_in(r, "below/deeper", "plain");
	rig_track(r);
	rig_round(r);
	assert_int_equal(r->last.processes, 3);
	(void)rig_step(b, 'w');
	(void)rig_step(c, 'd');
	rig_final(r);
}

static void exec_begins_anew(void **state)
{
	struct rig *r = *state;
	struct rig_victim *v = rig_start(r, "execs");
	rig_track(r);
	rig_round(r);
	assert_string_equal(rig_step(v, 'e'), "ready");
	rig_round(r);
	(void)rig_step(v, 'w');
	rig_final(r);
	assert_int_equal(rig_spaces_of(r, v->pid), 1);
}

static void exec_just_before_the_freeze_is_seen(void **state)
{
	struct rig *r = *state;
	struct rig_victim *v = rig_start(r, "execs");
	struct gw_err e = {0};
	rig_track(r);
	rig_round(r);
	assert_int_equal(gw_tracker_learn_flags(r->t, &e), 0);
	assert_string_equal(rig_step(v, 'e'), "ready");
	rig_final(r);
	assert_true(r->dropped_pages > 0);
}

static void a_process_that_waits_for_a_vfork_is_named(void **state)
{
	struct rig *r = *state;
	struct rig_victim *v = rig_start(r, "vforks");
	struct gw_err e = {0};
	rig_track(r);
	(void)rig_step(v, 'v');
	gw_sleep_us(50000);
	int rc = rig_try(r, false, &e);
	(void)kill(v->pid, 0);
	if (rig_backend() != GW_TRACK_SOFT_DIRTY) {
		assert_int_equal(rc, -ETIMEDOUT);
		assert_int_equal(e.class, GW_RETRY);
		assert_non_null(strstr(e.text, "vfork"));
	}
	/* Nobody is left stopped: the child can end, its parent goes on. */
	rig_freeze(r);
	assert_int_equal(rig_try(r, true, &e), -EAGAIN);
	assert_int_equal(e.class, GW_RETRY);
	rig_thaw(r);
}

static void another_thread_is_stopped_when_one_waits_for_a_vfork(void **state)
{
	struct rig *r = *state;
	struct rig_victim *v = rig_start(r, "vforks");
	rig_track(r);
	(void)rig_step(v, 't');
	rig_round(r);
	assert_int_equal(r->last.processes, 2);
	(void)rig_step(v, 'x');
	gw_sleep_us(50000);
	rig_round(r);
	rig_final(r);
	assert_int_equal(r->last.processes, 1);
}

static void thousands_of_mappings_are_no_problem(void **state)
{
	steps(*state, "many", "ww");
}

static void a_stack_that_grows_is_followed(void **state)
{
	steps(*state, "stack", "gg");
}

static void a_large_hole_costs_nothing(void **state)
{
	struct rig *r = *state;
	struct rig_victim *v = rig_start(r, "sparse");
	uint64_t tables = rig_status_kb(v->pid, "VmPTE");
	rig_track(r);
	rig_round(r);
	rig_round(r);
	assert_int_equal(rig_status_kb(v->pid, "VmPTE"), tables);
	(void)rig_step(v, 'w');
	rig_round(r);
	(void)rig_step(v, 'w');
	rig_final(r);
}

static void huge_pages_are_followed_page_by_page(void **state)
{
	struct rig *r = *state;
	struct rig_victim *v = rig_start(r, "huge");
	uint64_t m = strtoull(rig_step(v, 'a'), NULL, 16);
	rig_track(r);
	rig_round(r);
	assert_int_equal(rig_reported(r, v->pid, m, 2048 * PAGE), 2048);
	(void)rig_step(v, 'w');
	rig_round(r);
	uint64_t n = rig_reported(r, v->pid, m, 2048 * PAGE);
	assert_true(n == 1 || rig_backend() == GW_TRACK_SOFT_DIRTY);
	(void)rig_step(v, 'z');
	(void)rig_step(v, 'd');
	rig_final(r);
	assert_true(r->dropped_pages >= 522);
}

static void locked_droppable_and_guarded_memory_is_not_ours(void **state)
{
	steps(*state, "odd", "gwsn");
}

static void flags_that_were_learned_make_the_same_text(void **state)
{
	struct rig *r = *state;
	struct rig_victim *v = rig_start(r, "odd");
	struct gw_err e = {0};
	rig_track(r);
	rig_round(r);
	assert_int_equal(gw_tracker_learn_flags(r->t, &e), 0);
	for (const char *p = "wsng"; *p; p++) {
		(void)rig_step(v, *p);
		rig_freeze(r);
		rig_check_smaps(r);
		rig_thaw(r);
	}
	rig_final(r);
}

static void a_source_that_thaws_again_can_be_tried_again(void **state)
{
	struct rig *r = *state;
	struct rig_victim *v = rig_start(r, "plain");
	rig_track(r);
	rig_round(r);
	for (int i = 0; i < 3; i++) {
		(void)rig_step(v, "wdz"[i]);
		rig_final(r);
		rig_thaw(r);
		(void)rig_step(v, 'w');
		(void)rig_step(v, 'b');
		rig_round(r);
	}
	rig_final(r);
}

static void a_round_that_the_sink_broke_off_loses_nothing(void **state)
{
	struct rig *r = *state;
	struct rig_victim *v = rig_start(r, "plain");
	struct gw_err e = {0};
	rig_track(r);
	rig_round(r);
	for (unsigned i = 1; i < 3; i++) {
		(void)rig_step(v, 'w');
		r->fail_after = i;
		if (rig_try(r, false, &e) < 0)
			assert_int_equal(e.class, GW_PEER);
		r->fail_after = 0;
	}
	rig_round(r);
	rig_final(r);
}

static void after_a_failed_final_round_one_must_begin_anew(void **state)
{
	struct rig *r = *state;
	struct rig_victim *v = rig_start(r, "plain");
	struct gw_err e = {0};
	rig_track(r);
	rig_round(r);
	(void)rig_step(v, 'w');
	rig_freeze(r);
	r->fail_after = 1;
	assert_int_equal(rig_try(r, true, &e), -ECONNRESET);
	r->fail_after = 0;
	assert_int_equal(rig_try(r, true, &e), -ECANCELED);
	rig_thaw(r);
}

static void nothing_is_left_when_tracking_ends(void **state)
{
	struct rig *r = *state;
	struct rig_victim *v = rig_start(r, "plain");
	char cmd[128];
	rig_track(r);
	rig_round(r);
	gw_tracker_free(r->t);
	r->t = NULL;
	(void)snprintf(cmd, sizeof(cmd), "grep -q '^VmFlags:.* uw' /proc/%d/smaps", v->pid);
	assert_int_not_equal(system(cmd), 0);
	(void)snprintf(cmd, sizeof(cmd), "ls -l /proc/%d/fd | grep -q userfaultfd", v->pid);
	assert_int_not_equal(system(cmd), 0);
	assert_string_equal(rig_step(v, 'w'), "done");
	/* And it can be tracked again. */
	rig_track(r);
	rig_round(r);
	(void)rig_step(v, 'w');
	rig_final(r);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, rig_open, rig_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
	        TEST(every_page_of_a_process_arrives),
	        TEST(only_what_was_written_is_reported_again),
	        TEST(pages_that_were_thrown_away_are_dropped),
	        TEST(the_zero_page_counts_as_nothing),
	        TEST(pages_of_a_removed_mapping_are_dropped),
	        TEST(a_mapping_in_the_place_of_another_is_reported_whole),
	        TEST(pages_behind_no_access_are_carried),
	        TEST(a_heap_that_grows_is_followed),
	        TEST(a_moved_mapping_is_reported_where_it_is),
	        TEST(marks_of_a_mapping_that_merged_are_not_believed),
	        TEST(memory_that_becomes_locked_is_left_to_criu),
	        TEST(a_child_is_carried_from_the_next_round_on),
	        TEST(processes_may_come_and_go),
	        TEST(a_zombie_has_no_memory),
	        TEST(children_in_cgroups_below_are_found),
	        TEST(exec_begins_anew),
	        TEST(exec_just_before_the_freeze_is_seen),
	        TEST(a_process_that_waits_for_a_vfork_is_named),
	        TEST(another_thread_is_stopped_when_one_waits_for_a_vfork),
	        TEST(thousands_of_mappings_are_no_problem),
	        TEST(a_stack_that_grows_is_followed),
	        TEST(a_large_hole_costs_nothing),
	        TEST(huge_pages_are_followed_page_by_page),
	        TEST(locked_droppable_and_guarded_memory_is_not_ours),
	        TEST(flags_that_were_learned_make_the_same_text),
	        TEST(a_source_that_thaws_again_can_be_tried_again),
	        TEST(a_round_that_the_sink_broke_off_loses_nothing),
	        TEST(after_a_failed_final_round_one_must_begin_anew),
	        TEST(nothing_is_left_when_tracking_ends),
	};
	rig_need_backend();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
