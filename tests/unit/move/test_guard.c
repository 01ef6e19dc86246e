#include "test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "move/guard.h"

static char freezer[80], quota[80];

static int setup(void **state)
{
	(void)state;
	snprintf(freezer, sizeof(freezer), "/tmp/gw-guard-f-%d", getpid());
	snprintf(quota, sizeof(quota), "/tmp/gw-guard-q-%d", getpid());
	return gw_write_file(freezer, "FROZEN", 6, NULL) || gw_write_file(quota, "500", 3, NULL);
}

static int teardown(void **state)
{
	(void)state;
	return unlink(freezer) || unlink(quota);
}

static bool holds(const char *path, const char *want)
{
	char *text;
	if (gw_read_file(path, 100, &text, NULL, NULL) < 0)
		return false;
	bool same = !strncmp(text, want, strlen(want));
	free(text);
	return same;
}

static bool soon(const char *path, const char *want)
{
	for (int i = 0; i < 2000; i++) {
		if (holds(path, want))
			return true;
		usleep(1000);
	}
	return false;
}

/* A stand-in for godwitd: makes the guard, then dies of SIGKILL. */
static void die_in(enum gw_guard_phase phase, bool dismiss)
{
	pid_t pid = fork();
	if (pid == 0) {
		struct gw_guard_opts o = {
		        .freezer_file = freezer, .thaw_word = "THAWED", .quota_file = quota, .quota = "-1"};
		struct gw_guard *g;
		if (gw_guard_new(&o, &g, NULL) < 0)
			_exit(1);
		gw_guard_phase(g, phase);
		if (dismiss)
			gw_guard_free(g);
		(void)kill(getpid(), SIGKILL);
	}
	int st;
	assert_int_equal(waitpid(pid, &st, 0), pid);
	assert_true(WIFSIGNALED(st));
}

static void the_death_of_godwitd_before_the_commit_thaws(void **state)
{
	(void)state;
	die_in(GUARD_THAW, false);
	assert_true(soon(freezer, "THAWED"));
	assert_true(soon(quota, "-1"));
}

/* Its end shows that the guard is gone, so that "nothing happened" is not
 * only "nothing happened yet". */
static void wait_for_orphans(void)
{
	for (int i = 0; i < 2000 && waitpid(-1, NULL, WNOHANG) >= 0; i++)
		usleep(1000);
}

static void in_doubt_nothing_is_thawed(void **state)
{
	(void)state;
	die_in(GUARD_STAY, false);
	wait_for_orphans();
	assert_true(holds(freezer, "FROZEN"));
	assert_true(holds(quota, "500"));
}

static void a_dismissed_guard_does_nothing(void **state)
{
	(void)state;
	die_in(GUARD_THAW, true);
	wait_for_orphans();
	assert_true(holds(freezer, "FROZEN"));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
	/* The guard outlives its maker: adopt it, to see its end. */
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1);
	const struct CMUnitTest tests[] = {
	        T(the_death_of_godwitd_before_the_commit_thaws),
	        T(in_doubt_nothing_is_thawed),
	        T(a_dismissed_guard_does_nothing),
	};
	return cmocka_run_group_tests_name("move/guard", tests, NULL, NULL);
}
