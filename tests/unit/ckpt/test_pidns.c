#include "test.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "ckpt/pidns.h"

static char dir[] = "/tmp/gw-pidns-XXXXXX";

static void process(long pid, long thread)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/%ld/task/%ld", dir, pid, pid);
	assert_int_equal(gw_mkdirs(path, NULL), 0);
	snprintf(path, sizeof(path), "%s/%ld/task/%ld", dir, pid, thread ? thread : pid);
	assert_int_equal(gw_mkdirs(path, NULL), 0);
}

static int new_dir(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/gw-pidns-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int old_dir(void **state)
{
	(void)state;
	return gw_remove_tree(dir, NULL);
}

static void an_empty_proc_is_an_error(void **state)
{
	(void)state;
	pid_t from = 7;
	assert_true(gw_pidns_gap(dir, &from, NULL) < 0);
	assert_int_equal(from, 7);
}

static void it_counts_on_after_the_last_thread(void **state)
{
	(void)state;
	pid_t from;
	process(1, 0);
	process(400, 950);
	process(700, 0);
	assert_int_equal(gw_pidns_gap(dir, &from, NULL), 0);
	assert_int_equal(from, 951);
}

static void small_numbers_are_left_alone(void **state)
{
	(void)state;
	pid_t from;
	process(1, 0);
	process(7, 8);
	assert_int_equal(gw_pidns_gap(dir, &from, NULL), 0);
	assert_int_equal(from, 300);
}

static void at_the_end_of_the_numbers_it_takes_the_longest_stretch(void **state)
{
	(void)state;
	pid_t from;
	process(1, 0);
	process(1000, 0);
	process(20000, 0);
	process(32700, 0);
	assert_int_equal(gw_pidns_gap(dir, &from, NULL), 0);
	assert_int_equal(from, 1001);
}

/* A namespace whose first process waits; its pid. */
static pid_t namespace_of(int *out_keep)
{
	int keep[2], said[2];
	pid_t pid = 0;
	assert_int_equal(pipe(keep), 0);
	assert_int_equal(pipe(said), 0);
	pid_t mid = fork();
	if (mid == 0) {
		char c;
		if (unshare(CLONE_NEWPID) < 0)
			_exit(1);
		close(keep[1]);
		pid_t in = fork();
		if (in > 0 && write(said[1], &in, sizeof(in)) == sizeof(in))
			_exit(0);
		_exit((int)read(keep[0], &c, 1));
	}
	int status = 0;
	close(keep[0]);
	close(said[1]);
	assert_int_equal(waitpid(mid, &status, 0), mid);
	ssize_t n = read(said[0], &pid, sizeof(pid));
	close(said[0]);
	*out_keep = keep[1];
	return n == sizeof(pid) ? pid : -1;
}

static void the_next_process_has_that_number(void **state)
{
	(void)state;
	int keep;
	char path[64];
	pid_t in = namespace_of(&keep);
	if (in < 0)
		skip(); /* no right to make one */
	snprintf(path, sizeof(path), "/proc/%d/ns/pid", in);
	assert_int_equal(gw_pidns_count_from(path, 5000, NULL), 0);
	pid_t mid = fork();
	if (mid == 0) {
		FILE *f = fopen(path, "r");
		if (!f || setns(fileno(f), CLONE_NEWPID) < 0)
			_exit(1);
		pid_t child = fork();
		if (child == 0)
			_exit(getpid() == 5000 ? 0 : 2);
		int status = 0;
		waitpid(child, &status, 0);
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 3);
	}
	int status = 0;
	assert_int_equal(waitpid(mid, &status, 0), mid);
	close(keep);
	assert_int_equal(status, 0);
}

static void what_is_no_namespace_is_refused(void **state)
{
	(void)state;
	assert_true(gw_pidns_count_from("/proc/self/exe", 5000, NULL) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(an_empty_proc_is_an_error, new_dir, old_dir),
	        cmocka_unit_test_setup_teardown(it_counts_on_after_the_last_thread, new_dir, old_dir),
	        cmocka_unit_test_setup_teardown(small_numbers_are_left_alone, new_dir, old_dir),
	        cmocka_unit_test_setup_teardown(at_the_end_of_the_numbers_it_takes_the_longest_stretch, new_dir,
	                                        old_dir),
	        cmocka_unit_test(the_next_process_has_that_number),
	        cmocka_unit_test(what_is_no_namespace_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
