#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "ckpt/bury.h"
#include "ckpt/freezer.h"

enum { BIG = 32 << 20 };

/* A process in a cgroup of its own that counts: it runs when the count grows. */
struct victim {
	char dir[4096];
	pid_t pid;
	_Atomic uint64_t *count;
};

static int setup(void **state)
{
	static struct victim v;
	char mine[2048], file[4200], text[16];
	if (gw_freezer_of(getpid(), mine, sizeof(mine), NULL) < 0)
		return -1;
	snprintf(v.dir, sizeof(v.dir), "%s/gw-test-%d", strcmp(mine, "/") ? mine : "", getpid());
	if (mkdir(v.dir, 0755) < 0)
		return -1;
	v.count = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	v.pid = fork();
	if (v.pid == 0)
		for (char *big = mmap(NULL, BIG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);;) {
			if (atomic_load(v.count) == 0)
				memset(big, 1, BIG);
			atomic_fetch_add(v.count, 1);
			usleep(100);
		}
	snprintf(file, sizeof(file), "%s/cgroup.procs", v.dir);
	snprintf(text, sizeof(text), "%d", v.pid);
	*state = &v;
	while (atomic_load(v.count) == 0)
		usleep(1000);
	return gw_write_knob(file, text);
}

static int teardown(void **state)
{
	struct victim *v = *state;
	(void)gw_freezer_kill(v->dir, 2000, NULL);
	(void)waitpid(v->pid, NULL, 0);
	munmap((void *)(uintptr_t)v->count, 4096);
	for (int i = 0; rmdir(v->dir) < 0; i++) {
		if (i == 1000)
			return -1;
		usleep(1000);
	}
	return 0;
}

static bool runs(struct victim *v)
{
	uint64_t before = atomic_load(v->count);
	usleep(20000);
	return atomic_load(v->count) != before;
}

static void a_frozen_process_stands_and_a_thawed_one_runs(void **state)
{
	struct victim *v = *state;
	assert_true(runs(v));
	assert_int_equal(gw_freezer_freeze(v->dir, 2000, NULL), 0);
	assert_false(runs(v));
	assert_int_equal(gw_freezer_thaw(v->dir, NULL), 0);
	assert_true(runs(v));
}

static void a_task_held_by_a_tracer_stays_stopped_when_it_lets_go(void **state)
{
	struct victim *v = *state;
	int st;
	assert_int_equal(ptrace(PTRACE_SEIZE, v->pid, 0, 0), 0);
	assert_int_equal(ptrace(PTRACE_INTERRUPT, v->pid, 0, 0), 0);
	assert_int_equal(waitpid(v->pid, &st, __WALL), v->pid);
	assert_int_equal(gw_freezer_freeze_soon(v->dir, NULL), 0);
	uint64_t before = atomic_load(v->count);
	assert_int_equal(ptrace(PTRACE_DETACH, v->pid, 0, 0), 0);
	usleep(20000);
	assert_int_equal(atomic_load(v->count), before);
	assert_int_equal(gw_freezer_thaw(v->dir, NULL), 0);
	assert_true(runs(v));
}

static void a_killed_frozen_process_runs_no_further(void **state)
{
	struct victim *v = *state;
	assert_int_equal(gw_freezer_freeze(v->dir, 2000, NULL), 0);
	uint64_t before = atomic_load(v->count);
	assert_int_equal(gw_freezer_kill(v->dir, 5000, NULL), 0);
	assert_int_equal(atomic_load(v->count), before);
	int st;
	assert_int_equal(waitpid(v->pid, &st, 0), v->pid);
	assert_true(WIFSIGNALED(st));
}

static int count_pid(void *ctx, pid_t pid)
{
	(void)pid;
	++*(int *)ctx;
	return 0;
}

static void processes_of_child_cgroups_are_listed_too(void **state)
{
	struct victim *v = *state;
	char sub[4200], file[4300], text[16];
	snprintf(sub, sizeof(sub), "%s/sub", v->dir);
	assert_int_equal(mkdir(sub, 0755), 0);
	snprintf(file, sizeof(file), "%s/cgroup.procs", sub);
	snprintf(text, sizeof(text), "%d", v->pid);
	assert_int_equal(gw_write_knob(file, text), 0);
	int n = 0;
	assert_int_equal(gw_freezer_each(v->dir, count_pid, &n), 0);
	assert_int_equal(n, 1);
	assert_int_equal(gw_freezer_kill(v->dir, 5000, NULL), 0);
	assert_int_equal(waitpid(v->pid, NULL, 0), v->pid);
	for (int i = 0; rmdir(sub) < 0 && i < 1000; i++)
		usleep(1000);
}

static void a_missing_cgroup_is_an_error_in_words(void **state)
{
	(void)state;
	struct gw_err e;
	assert_int_equal(gw_freezer_freeze("/sys/fs/cgroup/no-such", 10, &e), -ENOENT);
	assert_non_null(strstr(e.text, "/sys/fs/cgroup/no-such"));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
static unsigned long long resident(pid_t pid)
{
	char path[64], *text;
	unsigned long long size, rss = 0;
	gw_path(path, sizeof(path), "/proc/%d/statm", pid);
	assert_int_equal(gw_read_file(path, 4096, &text, NULL, NULL), 0);
	assert_int_equal(sscanf(text, "%llu %llu", &size, &rss), 2);
	free(text);
	return rss * 4096;
}

/* v2 lets a killed process go though it is frozen: there is nobody left to look at. */
static void the_memory_of_the_dead_goes_before_they_do(void **state)
{
	struct victim *v = *state;
	if (gw_freezer_is_v2(v->dir))
		skip();
	assert_true(runs(v));
	assert_int_equal(gw_freezer_freeze(v->dir, 2000, NULL), 0);
	gw_bury(v->dir); /* nobody has been killed: nothing is taken from the living */
	assert_true(resident(v->pid) >= BIG);
	assert_int_equal(gw_freezer_each(v->dir, gw_kill_pid, NULL), 0);
	gw_bury(v->dir);
	assert_true(resident(v->pid) < BIG / 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        T(a_frozen_process_stands_and_a_thawed_one_runs),
	        T(a_task_held_by_a_tracer_stays_stopped_when_it_lets_go),
	        T(a_killed_frozen_process_runs_no_further),
	        T(processes_of_child_cgroups_are_listed_too),
	        T(the_memory_of_the_dead_goes_before_they_do),
	        cmocka_unit_test(a_missing_cgroup_is_an_error_in_words),
	};
	return cmocka_run_group_tests_name("ckpt/freezer", tests, NULL, NULL);
}
