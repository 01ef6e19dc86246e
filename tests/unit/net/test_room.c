#include "test.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "lab.h"
#include "net/room.h"

enum { WIDE = 8 << 20 };

static struct gw_err e;

/* A process of the pod with a socket of that type, as a container of one process. */
struct holder {
	pid_t pid;
	volatile int *bytes; /* what it sees of its socket's room */
	char dir[32];
};

static struct holder hold_socket(int type)
{
	struct holder h = {.bytes = mmap(NULL, sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0),
	                   .dir = "/tmp/godwit-room-XXXXXX"};
	char path[64], text[16];
	assert_ptr_not_equal(h.bytes, MAP_FAILED);
	assert_non_null(mkdtemp(h.dir));
	h.pid = fork();
	assert_true(h.pid >= 0);
	if (h.pid == 0) {
		lab_enter("pA");
		int fd = lab_listen("pA", AF_INET6, 9001, type), usual = 100000;
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &usual, sizeof(usual));
		for (;;) {
			int got = 0;
			socklen_t len = sizeof(got);
			(void)getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &got, &len);
			*h.bytes = got;
			gw_sleep_us(1000);
		}
	}
	for (int i = 0; i < 5000 && !*h.bytes; i++)
		gw_sleep_us(1000);
	gw_path(path, sizeof(path), "%s/cgroup.procs", h.dir);
	(void)snprintf(text, sizeof(text), "%d\n", h.pid);
	OK(gw_write_file(path, text, strlen(text), &e));
	return h;
}

static bool sees(const struct holder *h, int bytes)
{
	for (int i = 0; i < 5000; i++) {
		if (*h->bytes == bytes)
			return true;
		gw_sleep_us(1000);
	}
	return false;
}

static void drop(struct holder *h)
{
	(void)kill(h->pid, SIGKILL);
	(void)waitpid(h->pid, NULL, 0);
	OK(gw_remove_tree(h->dir, &e));
}

static void a_datagram_socket_has_more_room_for_the_moment(void **state)
{
	(void)state;
	struct holder h = hold_socket(SOCK_DGRAM);
	int before = *h.bytes;
	struct gw_room *r = gw_room_make(h.dir);
	assert_non_null(r);
	assert_true(sees(&h, WIDE));
	gw_room_end(r);
	assert_true(sees(&h, before));
	drop(&h);
}

static void others_are_left_alone(void **state)
{
	(void)state;
	struct holder h = hold_socket(SOCK_STREAM);
	assert_null(gw_room_make(h.dir));
	drop(&h);
}

static void one_that_has_ended_is_no_harm(void **state)
{
	(void)state;
	struct holder h = hold_socket(SOCK_DGRAM);
	struct gw_room *r = gw_room_make(h.dir);
	assert_non_null(r);
	(void)kill(h.pid, SIGKILL);
	(void)waitpid(h.pid, NULL, 0);
	gw_room_end(r);
	assert_null(gw_room_make(h.dir));
	OK(gw_remove_tree(h.dir, &e));
}

#define WITH_LAB(t) cmocka_unit_test_setup_teardown(t, lab_with_pod, lab_end)

static int tests(void)
{
	const struct CMUnitTest all[] = {
	        WITH_LAB(a_datagram_socket_has_more_room_for_the_moment),
	        WITH_LAB(others_are_left_alone),
	        WITH_LAB(one_that_has_ended_is_no_harm),
	};
	return cmocka_run_group_tests_name("net/room", all, NULL, NULL);
}

int main(void)
{
	_exit(lab_run(tests)); /* its children's pid namespace is dead: no leak check can start */
}
