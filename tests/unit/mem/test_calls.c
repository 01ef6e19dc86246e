#include "test.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "mem/calls.h"

static struct gw_err e;

static void a_call_is_read_with_its_place(void **state)
{
	(void)state;
	struct gw_call c;
	assert_true(gw_call_parse("7 0x7ffd10 0x1 0xea60 0x8 0x0 0x0 0x7ffc88 0x7f12aa\n", NULL, &c));
	assert_int_equal(c.nr, SYS_poll);
	assert_int_equal(c.sp, 0x7ffc88);
	assert_int_equal(c.pc, 0x7f12aa);
	assert_true(gw_call_parse("35 0x7ffd10 0x0 0x0 0x8 0x0 0x0 0x7ffc88 0x7f12aa\n", NULL, &c));
	assert_int_equal(c.nr, SYS_nanosleep);
}

static void calls_that_wait_for_no_time_are_left_out(void **state)
{
	(void)state;
	struct gw_call c;
	assert_false(gw_call_parse("running\n", NULL, &c));
	assert_false(gw_call_parse("-1 0x7ffc88 0x7f12aa\n", NULL, &c));
	assert_false(gw_call_parse("0 0x3 0x7ffd10 0x400 0x8 0x0 0x0 0x7ffc88 0x7f12aa\n", NULL, &c));
	assert_false(gw_call_parse("", NULL, &c));
}

static uint64_t goes_on_with(const char *arg, const char *stack)
{
	char text[200];
	struct gw_call c;
	(void)snprintf(text, sizeof(text), "219 %s 0x0 0x7ffd10 0x8 0x0 0x0 0x7ffc88 0x7f12aa\n", arg);
	return gw_call_parse(text, stack, &c) ? c.nr : 0;
}

static void a_call_that_went_on_is_told_by_its_stack(void **state)
{
	(void)state;
	assert_int_equal(goes_on_with("0x7ffd10", "[<0>] do_sys_poll+0x4e0\n[<0>] do_restart_poll+0x5a\n"), SYS_poll);
	const char *sleep = "[<0>] do_nanosleep+0x6a\n[<0>] hrtimer_nanosleep_restart+0x7a\n";
	assert_int_equal(goes_on_with("0x7ffd10", sleep), SYS_nanosleep);
	assert_int_equal(goes_on_with("0x1", sleep), SYS_clock_nanosleep);
	const char *tail = "[<0>] do_syscall_64+0x71/0x280\n[<0>] entry_SYSCALL_64_after_hwframe+0x76/0x7e\n";
	assert_int_equal(goes_on_with("0x7ffd10", tail), SYS_nanosleep);
	assert_int_equal(goes_on_with("0x1", tail), SYS_clock_nanosleep);
	assert_int_equal(goes_on_with("0x2", "[<0>] posix_cpu_nsleep_restart+0x7a\n"), SYS_clock_nanosleep);
	assert_int_equal(goes_on_with("0x7ffd10", "[<0>] futex_wait_restart+0x4a\n"), 0);
	assert_int_equal(goes_on_with("0x7ffd10", NULL), 0);
}

static void wait_in(long nr)
{
	struct timespec t = {.tv_sec = 600};
	struct pollfd none = {.fd = -1};
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (nr == SYS_poll)
		(void)syscall(SYS_poll, &none, 1, 600000);
	else if (nr == SYS_nanosleep)
		(void)syscall(SYS_nanosleep, &t, &t);
	else
		(void)syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &t, &t);
	_exit(0);
}

/* A folder that looks like a cgroup with that process, as gw_pids_read sees it. */
static void write_cgroup(char *dir, pid_t pid)
{
	char path[64], text[32];
	assert_non_null(mkdtemp(dir));
	gw_path(path, sizeof(path), "%s/cgroup.procs", dir);
	int n = snprintf(text, sizeof(text), "%d\n", pid);
	OK(gw_write_file(path, text, (size_t)n, &e));
}

/* What is written of it, 0 for nothing; looked for until it waits in `raw`. */
static uint64_t written(const char *dir, pid_t pid, long raw)
{
	char path[64], proc[64], *text;
	struct gw_call c = {0};
	size_t len = 0;
	gw_path(proc, sizeof(proc), "/proc/%d/syscall", pid);
	for (int i = 0; i < 500; i++, gw_sleep_us(10000)) {
		OK(gw_read_file(proc, 4096, &text, NULL, &e));
		long nr = strtol(text, NULL, 10);
		free(text);
		if (nr == raw)
			break;
	}
	gw_path(path, sizeof(path), "%s/calls", dir);
	OK(gw_calls_write(dir, path, &e));
	OK(gw_read_file(path, 4096, &text, &len, &e));
	memcpy(&c, text, len < sizeof(c) ? len : sizeof(c));
	free(text);
	assert_true(len == 0 || (len == sizeof(c) && c.tid == (uint64_t)pid && c.sp && c.pc));
	return c.nr;
}

static void a_process_that_was_stopped_is_known_by_its_first_call(void **state)
{
	(void)state;
	const long calls[] = {SYS_poll, SYS_nanosleep, SYS_clock_nanosleep};
	for (unsigned i = 0; i < 3; i++) {
		char dir[] = "/tmp/test_calls.XXXXXX";
		pid_t pid = fork();
		if (pid == 0)
			wait_in(calls[i]);
		write_cgroup(dir, pid);
		assert_int_equal(written(dir, pid, calls[i]), calls[i]);
		int st;
		assert_int_equal(kill(pid, SIGSTOP), 0);
		assert_int_equal(waitpid(pid, &st, WUNTRACED), pid);
		assert_int_equal(kill(pid, SIGCONT), 0);
		assert_int_equal(written(dir, pid, SYS_restart_syscall), calls[i]);
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, &st, 0), pid);
		OK(gw_remove_tree(dir, &e));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(a_call_is_read_with_its_place),
	        cmocka_unit_test(calls_that_wait_for_no_time_are_left_out),
	        cmocka_unit_test(a_call_that_went_on_is_told_by_its_stack),
	        cmocka_unit_test(a_process_that_was_stopped_is_known_by_its_first_call),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
