#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "godwit-criu.h"

static int value; /* in memory that a forked child has its own copy of */

static int status_of(pid_t pid)
{
	int st = -1;
	assert_int_equal(waitpid(pid, &st, 0), pid);
	return st;
}

/* As cr_system_userns does: locals written by the child, descriptors moved, all others closed. */
__attribute__((noinline)) static int run(int in, int out, char *const argv[])
{
	char frame[600];
	sigset_t mask, old;
	memset(frame, 1, sizeof(frame));
	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	assert_int_equal(sigprocmask(SIG_BLOCK, &mask, &old), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		memset(frame, 2, sizeof(frame));
		sigfillset(&mask);
		value = 7;
		(void)sigprocmask(SIG_SETMASK, &mask, NULL);
		out = dup(out);
		in = dup2(in, STDIN_FILENO);
		out = dup2(out, STDOUT_FILENO);
		(void)close_range(STDERR_FILENO + 1, ~0u, 0);
		if (chdir("/") < 0)
			_exit(5);
		if (argv)
			(void)execvp(argv[0], argv);
		_exit(in == 0 && out == 1 ? 3 : 4);
	}
	int st = status_of(pid);
	for (size_t i = 0; i < sizeof(frame); i++)
		assert_int_equal(frame[i], 1);
	assert_int_equal(sigprocmask(SIG_SETMASK, &old, &mask), 0);
	assert_int_equal(sigismember(&mask, SIGCHLD), 1);
	assert_int_equal(sigismember(&mask, SIGUSR1), 0);
	return st;
}

struct place {
	int null, pipe[2];
	char cwd[200];
};

static void begin(struct place *p)
{
	value = 0;
	p->null = open("/dev/null", O_RDWR | O_CLOEXEC);
	assert_true(p->null > 2);
	assert_int_equal(pipe2(p->pipe, O_CLOEXEC), 0);
	assert_non_null(getcwd(p->cwd, sizeof(p->cwd)));
}

static void end(struct place *p)
{
	char cwd[sizeof(p->cwd)];
	assert_non_null(getcwd(cwd, sizeof(cwd)));
	assert_string_equal(cwd, p->cwd);
	assert_int_equal(close(p->null), 0);
	assert_int_equal(close(p->pipe[0]), 0);
	assert_int_equal(close(p->pipe[1]), 0);
}

/* Shares memory (value shows it) and nothing else; the frame that both go on in is the parent's. */
static void a_child_for_tar_copies_nothing_and_leaves_the_parent_as_it_was(void **state)
{
	(void)state;
	struct place p;
	begin(&p);
	for (int i = 0; i < 100; i++) {
		value = 0;
		gwc_child_opened("tmpfs-dev-57.tar.gz.img", 5);
		int st = run(p.null, p.pipe[1], NULL);
		assert_true(WIFEXITED(st));
		assert_int_equal(WEXITSTATUS(st), 3);
#ifdef __x86_64__
		assert_int_equal(value, 7);
#endif
	}
	end(&p);
}

static void it_may_become_another_program(void **state)
{
	(void)state;
	struct place p;
	char text[8] = "";
	char *const argv[] = {(char[]){"echo"}, (char[]){"tar"}, NULL};
	begin(&p);
	gwc_child_opened("tmpfs-dev-57.tar.gz.img", 5);
	int st = run(p.null, p.pipe[1], argv);
	assert_true(WIFEXITED(st) && WEXITSTATUS(st) == 0);
	assert_int_equal(read(p.pipe[0], text, sizeof(text)), 4);
	assert_string_equal(text, "tar\n");
	gwc_child_opened("tmpfs-dev-57.tar.gz.img", 5);
	char *const nothing[] = {(char[]){"/nowhere/tar"}, NULL};
	st = run(p.null, p.pipe[1], nothing);
	assert_true(WIFEXITED(st) && WEXITSTATUS(st) == 3);
	end(&p);
}

static void one_that_is_killed_is_seen_to_be(void **state)
{
	(void)state;
	gwc_child_opened("tmpfs-dev-57.tar.gz.img", 5);
	pid_t pid = fork();
	if (pid == 0) {
		(void)kill(getpid(), SIGKILL);
		_exit(0);
	}
	int st = status_of(pid);
	assert_true(WIFSIGNALED(st) && WTERMSIG(st) == SIGKILL);
}

/* On a stack that ends just above, as that of a task CRIU has cloned may. */
static void *volatile stack_end;

static void on_a_small_stack(int sig)
{
	(void)sig;
	struct place p;
	begin(&p);
	gwc_child_opened("tmpfs-dev-57.tar.gz.img", 5);
	int st = run(p.null, p.pipe[1], NULL);
	assert_true(WIFEXITED(st) && WEXITSTATUS(st) == 3);
	assert_true((uintptr_t)&p < (uintptr_t)stack_end && (uintptr_t)stack_end - (uintptr_t)&p < 8192);
	end(&p);
}

static void nothing_above_the_stack_is_touched(void **state)
{
	(void)state;
	size_t page = 4096, size = 32 * page;
	char *p = mmap(NULL, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(p, MAP_FAILED);
	assert_int_equal(munmap(p + size, page), 0);
	stack_end = p + size;
	stack_t ss = {.ss_sp = p, .ss_size = size}, old;
	struct sigaction sa = {.sa_handler = on_a_small_stack, .sa_flags = SA_ONSTACK}, was;
	assert_int_equal(sigaltstack(&ss, &old), 0);
	assert_int_equal(sigaction(SIGUSR2, &sa, &was), 0);
	assert_int_equal(raise(SIGUSR2), 0);
	assert_int_equal(sigaction(SIGUSR2, &was, NULL), 0);
	assert_int_equal(sigaltstack(&old, NULL), 0);
	assert_int_equal(munmap(p, size), 0);
}

static void other_children_are_forked(void **state)
{
	(void)state;
	struct place p;
	begin(&p);
	gwc_child_opened("tmpfs-dev-57.tar.gz.img", 5);
	(void)run(p.null, p.pipe[1], NULL);
	value = 0;
	(void)run(p.null, p.pipe[1], NULL); /* once for each image */
	assert_int_equal(value, 0);
	gwc_child_opened("tmpfs-dev-57.tar.gz.img", -1);
	(void)run(p.null, p.pipe[1], NULL);
	assert_int_equal(value, 0);
	gwc_child_opened("tmpfs-dev-57.tar.gz.img", 5);
	gwc_child_opened("netns-9.img", 6);
	(void)run(p.null, p.pipe[1], NULL);
	assert_int_equal(value, 0);
	gwc_child_opened("userns-9.img", 6); /* the last: from here on always */
	gwc_child_opened("tmpfs-dev-57.tar.gz.img", 5);
	(void)run(p.null, p.pipe[1], NULL);
	assert_int_equal(value, 0);
	end(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(a_child_for_tar_copies_nothing_and_leaves_the_parent_as_it_was),
	        cmocka_unit_test(it_may_become_another_program),
	        cmocka_unit_test(one_that_is_killed_is_seen_to_be),
	        cmocka_unit_test(nothing_above_the_stack_is_touched),
	        cmocka_unit_test(other_children_are_forked),
	};
	return cmocka_run_group_tests_name("preload/child", tests, NULL, NULL);
}
