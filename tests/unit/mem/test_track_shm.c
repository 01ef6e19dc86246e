#include "test.h"

#include <stdio.h>
#include <sys/resource.h>
#include <sys/shm.h>

#include "base/gw_err.h"
#include "track_rig.h"

/* Shared memory, followed through page tables that are each process's own. */

static struct rig_victim *begin(struct rig *r, const char *kind)
{
	char what[32];
	struct gw_err e = {0};
	(void)snprintf(what, sizeof(what), "shared-%s", kind);
	struct rig_victim *v = rig_start(r, what);
	rig_track(r);
	assert_int_equal(gw_tracker_set_shmem(r->t, &e), 0);
	return v;
}

/* A round after each step; the last ones only the frozen round sees. */
static void steps(struct rig *r, struct rig_victim *v, const char *seen, const char *unseen)
{
	for (const char *p = seen; *p; p++) {
		(void)rig_step(v, *p);
		rig_round(r);
	}
	for (const char *p = unseen; *p; p++)
		(void)rig_step(v, *p);
	rig_final(r);
	assert_int_equal(r->nours, 1);
}

static void all_of_it(struct rig *r, const char *kind)
{
	struct rig_victim *v = begin(r, kind);
	rig_round(r);
	steps(r, v, "wfwcwdcrwcdohz", "wcdrph");
	rig_thaw(r);
	(void)rig_step(v, 'w');
	rig_round(r);
	(void)rig_step(v, 'c');
	rig_final(r);
}

static void shared_memory_is_the_union_of_all_writers(void **state)
{
	all_of_it(*state, "anon");
}

static void so_is_a_memfd_without_descriptors(void **state)
{
	all_of_it(*state, "memfd");
}

static void so_is_a_system_v_segment(void **state)
{
	all_of_it(*state, "sysv");
}

/* Each alone: together one could hide what the other does not see. */
static void one_step_is_seen(struct rig *r, const char *kind, const char *unseen)
{
	struct rig_victim *v = begin(r, kind);
	steps(r, v, *unseen == 'u' ? "mss" : "sss", unseen);
	if (rig_backend() != GW_TRACK_SOFT_DIRTY)
		assert_true(r->dirty_pages > 0);
}

static void a_hole_that_was_filled_with_zero_is_seen(void **state)
{
	one_step_is_seen(*state, "anon", "h");
}

static void a_new_page_is_seen(void **state)
{
	one_step_is_seen(*state, "anon", "w");
}

static void a_page_whose_entry_was_taken_away_is_seen(void **state)
{
	one_step_is_seen(*state, "anon", "d");
}

static void a_mapping_that_went_is_seen(void **state)
{
	one_step_is_seen(*state, "anon", "u");
}

static void a_page_written_and_then_guarded_is_seen(void **state)
{
	one_step_is_seen(*state, "anon", "b");
}

static void a_child_that_nobody_waited_for_is_seen(void **state)
{
	one_step_is_seen(*state, "anon", "z");
}

static void a_child_that_was_waited_for_is_seen(void **state)
{
	one_step_is_seen(*state, "memfd", "p");
}

static void a_mapping_that_came_and_went_is_seen(void **state)
{
	one_step_is_seen(*state, "memfd", "a");
}

static void a_segment_attached_and_detached_is_seen(void **state)
{
	one_step_is_seen(*state, "sysv", "a");
}

static void an_object_that_grows_is_followed(void **state)
{
	struct rig *r = *state;
	struct rig_victim *v = begin(r, "memfd");
	steps(r, v, "sswg", "w");
	rig_thaw(r);
	(void)rig_step(v, 'w');
	rig_round(r);
	rig_final(r);
}

static void a_memfd_with_a_descriptor_is_left_to_criu(void **state)
{
	struct rig *r = *state;
	struct rig_victim *v = begin(r, "fd");
	rig_round(r);
	(void)rig_step(v, 'w');
	rig_final(r);
	assert_int_equal(r->nours, 0);
}

/* The segment of a victim, by who made it: "key shmid perms size cpid ...". */
static int segment_of(pid_t pid)
{
	char line[512];
	int id = -1, at;
	pid_t maker;
	FILE *f = fopen("/proc/sysvipc/shm", "r");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%*d %d %*o %*u %d", &at, &maker) == 2 && maker == pid)
			id = at;
	if (f)
		fclose(f);
	return id;
}

static void a_segment_that_others_have_too_is_left_to_criu(void **state)
{
	struct rig *r = *state;
	struct rig_victim *v = begin(r, "sysv");
	rig_round(r);
	char *mine = shmat(segment_of(v->pid), NULL, 0);
	assert_true(mine != (void *)-1);
	rig_round(r);
	mine[0]++; /* as no mark of the victim's tells */
	rig_final(r);
	assert_int_equal(r->nours, 0);
	rig_thaw(r);
	assert_int_equal(shmdt(mine), 0);
	(void)rig_step(v, 'w');
	rig_round(r);
	rig_final(r);
	assert_int_equal(r->nours, 1);
}

static void marks_that_would_cost_too_much_are_not_set(void **state)
{
	struct rig *r = *state;
	/* Three descriptors a process. */
	struct rlimit files;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
	files.rlim_cur = files.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
	struct rig_victim *v = begin(r, "crowd");
	rig_round(r);
	(void)rig_step(v, 'w');
	rig_final(r);
	assert_int_equal(r->nours, 0);
	assert_int_equal(r->last.processes, 401);
}

static void quiet_shared_memory_is_not_reported_again(void **state)
{
	struct rig *r = *state;
	struct rig_victim *v = begin(r, "anon");
	(void)rig_step(v, 'f');
	rig_round(r);
	(void)rig_step(v, 'o');
	(void)rig_step(v, 's');
	rig_round(r);
	rig_round(r);
	rig_round(r);
	uint64_t private_only = r->dirty_pages;
	(void)rig_step(v, 'w');
	rig_round(r);
	assert_in_range(r->dirty_pages, private_only + 1, private_only + 20);
	rig_final(r);
	assert_in_range(r->dirty_pages, 0, private_only + 20);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, rig_open, rig_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
	        TEST(shared_memory_is_the_union_of_all_writers),
	        TEST(so_is_a_memfd_without_descriptors),
	        TEST(so_is_a_system_v_segment),
	        TEST(a_hole_that_was_filled_with_zero_is_seen),
	        TEST(a_new_page_is_seen),
	        TEST(a_page_whose_entry_was_taken_away_is_seen),
	        TEST(a_mapping_that_went_is_seen),
	        TEST(a_page_written_and_then_guarded_is_seen),
	        TEST(a_child_that_nobody_waited_for_is_seen),
	        TEST(a_child_that_was_waited_for_is_seen),
	        TEST(a_mapping_that_came_and_went_is_seen),
	        TEST(a_segment_attached_and_detached_is_seen),
	        TEST(an_object_that_grows_is_followed),
	        TEST(a_memfd_with_a_descriptor_is_left_to_criu),
	        TEST(a_segment_that_others_have_too_is_left_to_criu),
	        TEST(marks_that_would_cost_too_much_are_not_set),
	        TEST(quiet_shared_memory_is_not_reported_again),
	};
	rig_need_backend();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
