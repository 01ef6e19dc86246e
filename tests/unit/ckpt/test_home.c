#include "test.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "ckpt/home.h"

static char path[64];
static struct gw_home *home;

static int setup(void **state)
{
	(void)state;
	snprintf(path, sizeof(path), "/tmp/gw-home-%d", getpid());
	return gw_home_open(path, &home, NULL);
}

static int teardown(void **state)
{
	(void)state;
	gw_home_close(home);
	home = NULL;
	return access(path, F_OK) == 0; /* the socket file must be gone */
}

/* A child that calls home and exits with 'g' or 0: what it was told. */
static pid_t caller(const char *line)
{
	pid_t pid = fork();
	if (pid == 0) {
		int fd;
		char c = 0;
		if (gw_unix_connect(path, &fd, NULL) < 0 || gw_write_full(fd, line, strlen(line)) < 0)
			_exit(1);
		(void)!read(fd, &c, 1);
		_exit(c);
	}
	return pid;
}

static int told(pid_t pid)
{
	int st;
	assert_int_equal(waitpid(pid, &st, 0), pid);
	assert_true(WIFEXITED(st));
	return WEXITSTATUS(st);
}

static void the_caller_waits_until_it_is_told_to_go(void **state)
{
	(void)state;
	pid_t child = caller("freeze 17 4711\n"), pid, task;
	assert_int_equal(gw_home_wait(home, "freeze", 5000, child, -1, &pid, &task, NULL), 0);
	assert_int_equal(pid, 17);
	assert_int_equal(task, 4711);
	assert_int_equal(waitpid(child, NULL, WNOHANG), 0);
	gw_home_go(home);
	assert_int_equal(told(child), 'g');
}

static void closing_tells_the_caller_to_give_up(void **state)
{
	(void)state;
	pid_t child = caller("freeze 17 0\n");
	assert_int_equal(gw_home_wait(home, "freeze", 5000, child, -1, NULL, NULL, NULL), 0);
	gw_home_close(home);
	assert_int_equal(gw_home_open(path, &home, NULL), 0);
	assert_int_equal(told(child), 0);
}

static void another_point_is_a_broken_protocol(void **state)
{
	(void)state;
	struct gw_err e;
	pid_t child = caller("images 17 0\n");
	assert_int_equal(gw_home_wait(home, "freeze", 5000, child, -1, NULL, NULL, &e), -EPROTO);
	assert_int_equal(e.class, GW_PEER);
	assert_int_equal(told(child), 0);
}

static void the_end_of_the_watched_process_ends_the_wait(void **state)
{
	(void)state;
	struct gw_err e;
	pid_t child = fork();
	if (child == 0)
		_exit(0);
	assert_int_equal(gw_home_wait(home, "freeze", 60000, child, -1, NULL, NULL, &e), -ECHILD);
	assert_int_equal(waitpid(child, NULL, 0), child);
}

static void a_cancel_ends_the_wait(void **state)
{
	(void)state;
	struct gw_err e;
	int p[2];
	assert_int_equal(pipe(p), 0);
	assert_int_equal(write(p[1], "x", 1), 1);
	assert_true(gw_home_wait(home, "freeze", 60000, 0, p[0], NULL, NULL, &e) < 0);
	assert_string_equal(e.code, "Cancelled");
	close(p[0]);
	close(p[1]);
}

static void a_caller_that_never_comes_is_a_time_out(void **state)
{
	(void)state;
	assert_int_equal(gw_home_wait(home, "freeze", 20, 0, -1, NULL, NULL, NULL), -ETIMEDOUT);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
	        T(the_caller_waits_until_it_is_told_to_go),
	        T(closing_tells_the_caller_to_give_up),
	        T(another_point_is_a_broken_protocol),
	        T(the_end_of_the_watched_process_ends_the_wait),
	        T(a_cancel_ends_the_wait),
	        T(a_caller_that_never_comes_is_a_time_out),
	};
	return cmocka_run_group_tests_name("ckpt/home", tests, NULL, NULL);
}
