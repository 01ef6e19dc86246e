#include "test.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
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
/* A child that asks for object 7 or 8 and exits with the answer's letter, or 1
 * when the descriptor is not the one that belongs to it. */
static pid_t asker(const char *line)
{
	pid_t pid = fork();
	if (pid == 0) {
		int fd, got[1];
		unsigned n = 1;
		char c = 0, text[4] = "";
		if (gw_unix_connect(path, &fd, NULL) < 0 || gw_write_full(fd, line, strlen(line)) < 0)
			_exit(1);
		if (gw_recv_fds(fd, &c, 1, got, &n) != 1)
			_exit(0);
		if (c == 'n' ? n != 0 : n != 1 || pread(got[0], text, 3, 0) != 3 || strcmp(text, "abc") != 0)
			_exit(1);
		_exit(c);
	}
	return pid;
}

static int object_of(void *ctx, const char *what, uint64_t id, int *out_fd)
{
	assert_string_equal(what, "shmem");
	*out_fd = *(int *)ctx;
	return id == 7 ? GW_HOME_GIVEN : id == 8 ? GW_HOME_SEGMENT : id == 9 ? -EIO : GW_HOME_NOT_OURS;
}

static void objects_are_given_while_a_point_is_waited_for(void **state)
{
	(void)state;
	int fd = memfd_create("test", MFD_CLOEXEC);
	assert_int_equal(pwrite(fd, "abc", 3, 0), 3);
	gw_home_serve(home, object_of, &fd);
	pid_t a = asker("shmem 1 7\n"), b = asker("shmem 1 8\n"), c = asker("shmem 1 9\n"),
	      d = asker("shmem 1 4294967295\n");
	assert_int_equal(gw_home_wait(home, "resume", 300, 0, -1, NULL, NULL, NULL), -ETIMEDOUT);
	assert_int_equal(told(a), 'g');
	assert_int_equal(told(b), 's');
	assert_int_equal(told(c), 0);
	assert_int_equal(told(d), 'n');
	pid_t child = caller("resume 17 0\n");
	assert_int_equal(gw_home_wait(home, "resume", 5000, child, -1, NULL, NULL, NULL), 0);
	gw_home_go(home);
	assert_int_equal(told(child), 'g');
	(void)close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        T(the_caller_waits_until_it_is_told_to_go),
	        T(closing_tells_the_caller_to_give_up),
	        T(another_point_is_a_broken_protocol),
	        T(the_end_of_the_watched_process_ends_the_wait),
	        T(a_cancel_ends_the_wait),
	        T(a_caller_that_never_comes_is_a_time_out),
	        T(objects_are_given_while_a_point_is_waited_for),
	};
	return cmocka_run_group_tests_name("ckpt/home", tests, NULL, NULL);
}
