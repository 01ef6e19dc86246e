#include "test.h"

#include "fake_criu.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/scope.h"

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

/* ---- ends that are not the end ---- */

static void read_for_ever(struct victim *v, void *arg)
{
	const struct area *a = arg;
	v_begin(v);
	char *p = v_map(v, 0, a->pages);
	v_hand_over(v);
	uint64_t rnd = 1;
	for (uint64_t i = 0; !atomic_load(&v->rep->stop); i++) {
		uint64_t page = v_random(&rnd) % a->pages;
		v_expect(v, p + page * PAGE, a->space, page);
		if (i == 20)
			v_stage(v, 1);
	}
}

static struct victim *reader(struct scene *s, struct area *a)
{
	struct victim *v = scene_victim(s, read_for_ever, a);
	scene_space(s, v, a->space);
	scene_area(s, a->space, a->pages);
	scene_run(s);
	scene_wait_stage(s, 1);
	return v;
}

/* Looked at once a round: between two looks the dead one may go, before the new one is there. */
static void wait_keeper_after(const struct scene *s, pid_t old)
{
	uint64_t end = gw_now_ms() + 10000;
	for (pid_t now = old; now == old || now < 0; now = keeper_of(s)) {
		assert_true(gw_now_ms() < end);
		gw_sleep_us(500);
	}
}

static void assert_killed_with_reason(struct scene *s, struct victim *v, const char *why)
{
	int st = victim_wait_status(v);
	if (!WIFSIGNALED(st) || WTERMSIG(st) != SIGKILL || atomic_load(&v->rep->wrong))
		fail_msg("status 0x%x, %u pages wrong: %s", (unsigned)st, atomic_load(&v->rep->wrong), v->rep->text);
	struct gw_err e = {0};
	gw_auto(mem) char *text = NULL;
	if (gw_read_file(s->reason, 4096, &text, NULL, &e) < 0)
		fail_msg("%s", e.text);
	if (!strstr(text, why) || !strstr(text, "the container was killed"))
		fail_msg("reason: %s", text);
}

static void when_the_page_server_is_killed_before_the_end_the_container_dies_with_a_reason(void **state)
{
	struct scene *s = *state;
	static struct area a = {.space = 1, .pages = AREA_PAGES};
	struct victim *v = reader(s, &a);
	pid_t keeper = keeper_of(s);
	assert_true(keeper > 0);
	assert_int_equal(kill(gw_pages_pid(s->pages), SIGKILL), 0);
	assert_killed_with_reason(s, v, "it was killed or crashed");
	wait_gone(keeper);
	struct gw_err e = {0};
	struct gw_pages_status st;
	assert_int_equal(gw_pages_status(s->pages, &st, &e), -EPIPE);
	assert_int_equal(e.class, GW_LOST);
}

/* 256 MiB, so that there is a middle. */
static void killed_in_the_middle_of_the_fill_no_wrong_page_is_read(void **state)
{
	struct scene *s = *state;
	static struct area a = {.space = 1, .pages = 131072};
	struct victim *v = reader(s, &a);
	/* On a busy machine all of it would be there before we had looked. */
	(void)setpriority(PRIO_PROCESS, 0, -15);
	scene_finish(s);
	struct gw_pages_status st;
	struct gw_err e = {0};
	do
		assert_int_equal(gw_pages_status(s->pages, &st, &e), 0);
	while (st.copied_bytes < 32 << 20 && !st.done);
	assert_false(st.done);
	assert_int_equal(kill(gw_pages_pid(s->pages), SIGKILL), 0);
	(void)setpriority(PRIO_PROCESS, 0, 0);
	assert_killed_with_reason(s, v, "missing");
}

static void knob(const struct scene *s, const char *name, const char *value)
{
	char path[256];
	gw_path(path, sizeof(path), "%s/%s", s->cgroup, name);
	assert_int_equal(gw_write_knob(path, value), 0);
}

static void a_frozen_container_is_killed_too(void **state)
{
	struct scene *s = *state;
	static struct area a = {.space = 1, .pages = AREA_PAGES};
	struct victim *v = reader(s, &a);
	char path[256];
	gw_path(path, sizeof(path), "%s/freezer.state", s->cgroup);
	if (access(path, F_OK) == 0)
		knob(s, "freezer.state", "FROZEN");
	else
		knob(s, "cgroup.freeze", "1");
	gw_sleep_us(2000);
	assert_int_equal(kill(gw_pages_pid(s->pages), SIGKILL), 0);
	assert_killed_with_reason(s, v, "it was killed or crashed");
}

static void a_keeper_that_is_killed_is_replaced_and_nothing_is_lost(void **state)
{
	struct scene *s = *state;
	static struct area a = {.space = 1, .pages = AREA_PAGES};
	struct victim *v = reader(s, &a);
	for (int i = 0; i < 3; i++) {
		pid_t old = keeper_of(s);
		assert_true(old > 0);
		assert_int_equal(kill(old, SIGKILL), 0);
		wait_keeper_after(s, old);
	}
	pid_t keeper = keeper_of(s);
	scene_finish(s);
	scene_wait_done(s);
	atomic_store(&v->rep->stop, 1);
	(void)victim_wait(v);
	assert_int_equal(access(s->reason, F_OK), -1);
	wait_gone(keeper);
	wait_gone(gw_pages_pid(s->pages));
}

static void a_new_keeper_keeps_as_well_as_the_first(void **state)
{
	struct scene *s = *state;
	static struct area a = {.space = 1, .pages = AREA_PAGES};
	struct victim *v = reader(s, &a);
	pid_t old = keeper_of(s);
	assert_int_equal(kill(old, SIGKILL), 0);
	wait_keeper_after(s, old);
	assert_int_equal(kill(gw_pages_pid(s->pages), SIGKILL), 0);
	assert_killed_with_reason(s, v, "it was killed or crashed");
}

static void asked_to_end_it_first_brings_everything_into_place(void **state)
{
	struct scene *s = *state;
	static struct area a = {.space = 1, .pages = AREA_PAGES};
	struct victim *v = reader(s, &a);
	assert_int_equal(kill(gw_pages_pid(s->pages), SIGTERM), 0);
	assert_int_equal(kill(gw_pages_pid(s->pages), SIGHUP), 0);
	assert_int_equal(kill(keeper_of(s), SIGTERM), 0);
	gw_sleep_us(20000);
	assert_false(is_gone(gw_pages_pid(s->pages)));
	assert_true(keeper_of(s) > 0);
	scene_finish(s);
	scene_wait_done(s);
	atomic_store(&v->rep->stop, 1);
	(void)victim_wait(v);
}

static void asked_to_end_before_anybody_needs_it_it_does(void **state)
{
	struct scene *s = *state;
	scene_start(s);
	pid_t keeper = keeper_of(s);
	assert_int_equal(kill(gw_pages_pid(s->pages), SIGTERM), 0);
	wait_gone(gw_pages_pid(s->pages));
	wait_gone(keeper);
	assert_int_equal(access(s->socket, F_OK), -1);
}

static void it_goes_on_when_its_owner_forgets_it(void **state)
{
	struct scene *s = *state;
	static struct area a = {.space = 1, .pages = AREA_PAGES};
	struct victim *v = reader(s, &a);
	pid_t pid = gw_pages_pid(s->pages);
	gw_pages_free(s->pages, false);
	s->pages = NULL;
	gw_store_free(s->store);
	s->store = NULL;
	assert_false(is_gone(pid));
	scene_finish(s);
	wait_gone(pid);
	assert_int_equal(access(s->reason, F_OK), -1);
	atomic_store(&v->rep->stop, 1);
	(void)victim_wait(v);
}

static void discarded_it_ends_with_its_keeper_and_kills_nobody(void **state)
{
	struct scene *s = *state;
	static struct area a = {.space = 1, .pages = AREA_PAGES};
	struct victim *v = reader(s, &a);
	pid_t pid = gw_pages_pid(s->pages), keeper = keeper_of(s);
	assert_int_equal(kill(v->pid, SIGSTOP), 0); /* as its owner has stopped it */
	gw_pages_free(s->pages, true);
	s->pages = NULL;
	wait_gone(pid);
	wait_gone(keeper);
	assert_false(is_gone(v->pid));
	assert_int_equal(access(s->reason, F_OK), -1);
	assert_int_equal(access(s->socket, F_OK), -1);
}

static void a_criu_that_dies_before_the_restore_is_whole_ends_it(void **state)
{
	struct scene *s = *state;
	static struct area a = {.space = 1, .pages = AREA_PAGES};
	struct victim *v = reader(s, &a);
	pid_t pid = gw_pages_pid(s->pages);
	/* CRIU kills what it has made so far, and with it goes the last copy of the socket. */
	assert_int_equal(kill(v->pid, SIGKILL), 0);
	(void)victim_wait_status(v);
	(void)close(s->sock);
	s->sock = -1;
	wait_gone(pid);
	struct gw_err e = {0};
	struct gw_pages_status st;
	assert_int_equal(gw_pages_status(s->pages, &st, &e), -EPIPE);
	assert_non_null(strstr(e.text, "CRIU ended before the restore was whole"));
	assert_int_equal(access(s->socket, F_OK), -1);
}

static void a_process_that_dies_during_the_fill_frees_its_memory(void **state)
{
	struct scene *s = *state;
	static struct area a = {.space = 1, .pages = AREA_PAGES};
	struct victim *v = reader(s, &a);
	assert_int_equal(kill(v->pid, SIGKILL), 0);
	(void)victim_wait_status(v);
	scene_finish(s);
	scene_wait_done(s);
	assert_int_equal(gw_store_bytes(s->store), 0);
	assert_int_equal(access(s->reason, F_OK), -1);
}

static void a_process_of_which_no_memory_came_is_an_error_with_its_name(void **state)
{
	struct scene *s = *state;
	static struct area a = {.space = 1, .pages = AREA_PAGES};
	struct victim *v = scene_victim(s, read_for_ever, &a);
	scene_run(s);
	(void)victim_wait_status(v); /* the keeper kills it: it may not run without its memory */
	wait_gone(gw_pages_pid(s->pages));
	struct gw_err e = {0};
	struct gw_pages_status st;
	assert_int_equal(gw_pages_status(s->pages, &st, &e), -EPIPE);
	assert_non_null(strstr(e.text, "of which no memory has come"));
}

static void zombies_and_spaces_of_nobody_do_not_keep_it_from_ending(void **state)
{
	struct scene *s = *state;
	struct gw_err e = {0};
	struct gw_space sp = {.id = 3, .kind = GW_SPACE_PROC, .vpid = 77},
	                shm = {.id = 4, .kind = GW_SPACE_SHMEM, .size_bytes = 4 * PAGE};
	char page[PAGE] = {1};
	assert_int_equal(gw_store_add(s->store, &sp, &e), 0);
	assert_int_equal(gw_store_add(s->store, &shm, &e), 0);
	scene_pages(s, 3, 0, 100);
	assert_int_equal(gw_store_write(s->store, 4, 0, 1, page, &e), 0);
	scene_start(s);
	scene_give(s);
	int zombie = -77;
	assert_int_equal(gw_write_full(s->sock, &zombie, sizeof(zombie)), 0);
	scene_finish(s);
	scene_wait_done(s);
	assert_int_equal(gw_store_bytes(s->store), PAGE); /* shared memory is not its business */
}

static void nonsense_on_criu_s_socket_is_refused(void **state)
{
	struct scene *s = *state;
	scene_start(s);
	scene_give(s);
	int pid = 5, fds[1] = {s->sock};
	/* A descriptor where the pid should be. */
	assert_int_equal(gw_send_fds(s->sock, &pid, sizeof(pid), fds, 1), 0);
	wait_gone(gw_pages_pid(s->pages));
	struct gw_err e = {0};
	struct gw_pages_status st;
	assert_int_equal(gw_pages_status(s->pages, &st, &e), -EPIPE);
	assert_non_null(strstr(e.text, "CRIU sent"));
}

static void a_start_that_cannot_work_says_why(void **state)
{
	struct scene *s = *state;
	struct gw_err e = {0};
	struct gw_pages *p = NULL;
	struct gw_pages_opts o = {.program = GODWIT_PAGES,
	                          .socket_path = s->socket,
	                          .cgroup_dir = "/nonexistent",
	                          .reason_path = s->reason,
	                          .label = "test"};
	assert_true(gw_pages_start(&o, s->store, &p, &e) < 0);
	assert_non_null(strstr(e.text, "cgroup /nonexistent"));
	o.cgroup_dir = s->cgroup;
	o.socket_path = "/nonexistent/socket";
	assert_true(gw_pages_start(&o, s->store, &p, &e) < 0);
	assert_non_null(strstr(e.text, "/nonexistent/socket"));
	o.program = "/nonexistent/godwit-pages";
	assert_true(gw_pages_start(&o, s->store, &p, &e) < 0);
	assert_non_null(strstr(e.text, "/nonexistent/godwit-pages"));
	assert_null(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(
	                when_the_page_server_is_killed_before_the_end_the_container_dies_with_a_reason, make, unmake),
	        cmocka_unit_test_setup_teardown(killed_in_the_middle_of_the_fill_no_wrong_page_is_read, make, unmake),
	        cmocka_unit_test_setup_teardown(a_frozen_container_is_killed_too, make, unmake),
	        cmocka_unit_test_setup_teardown(a_keeper_that_is_killed_is_replaced_and_nothing_is_lost, make, unmake),
	        cmocka_unit_test_setup_teardown(a_new_keeper_keeps_as_well_as_the_first, make, unmake),
	        cmocka_unit_test_setup_teardown(asked_to_end_it_first_brings_everything_into_place, make, unmake),
	        cmocka_unit_test_setup_teardown(asked_to_end_before_anybody_needs_it_it_does, make, unmake),
	        cmocka_unit_test_setup_teardown(it_goes_on_when_its_owner_forgets_it, make, unmake),
	        cmocka_unit_test_setup_teardown(discarded_it_ends_with_its_keeper_and_kills_nobody, make, unmake),
	        cmocka_unit_test_setup_teardown(a_criu_that_dies_before_the_restore_is_whole_ends_it, make, unmake),
	        cmocka_unit_test_setup_teardown(a_process_that_dies_during_the_fill_frees_its_memory, make, unmake),
	        cmocka_unit_test_setup_teardown(a_process_of_which_no_memory_came_is_an_error_with_its_name, make,
	                                        unmake),
	        cmocka_unit_test_setup_teardown(zombies_and_spaces_of_nobody_do_not_keep_it_from_ending, make, unmake),
	        cmocka_unit_test_setup_teardown(nonsense_on_criu_s_socket_is_refused, make, unmake),
	        cmocka_unit_test_setup_teardown(a_start_that_cannot_work_says_why, make, unmake),
	};
	return cmocka_run_group_tests_name("mem/pages_end", tests, NULL, NULL);
}
