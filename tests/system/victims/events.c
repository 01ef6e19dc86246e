/* epoll with everything in it: eventfd, timerfd, signalfd, pipe, socket; and
 * the counters and edge states inside. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "victim.h"

static int ep, ev, edge, tfd, sfd, pipe_fd[2], pair[2];
static uint64_t timer_events;

static void add(int fd, uint64_t id, uint32_t how)
{
	struct epoll_event e = {.events = how, .data.u64 = id};
	VICTIM_MUST(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e) == 0);
}

/* What epoll reports now, as a set of ids. */
static uint64_t ready(void)
{
	struct epoll_event e[16];
	uint64_t set = 0;
	int n = epoll_wait(ep, e, 16, 200);
	for (int i = 0; i < n; i++)
		set |= 1ull << e[i].data.u64;
	return set;
}

static const char *check(void)
{
	uint64_t n = 0;
	struct signalfd_siginfo si;
	uint64_t set = 0;
	for (int i = 0; i < 5; i++)
		set |= ready();
	if (!(set & 1 << 1) || !(set & 1 << 3) || !(set & 1 << 4) || !(set & 1 << 5))
		return victim_bad("epoll reports %llx, not everything that is ready", (unsigned long long)set);
	if (set & 1 << 6)
		return "epoll reports a socket that has nothing";
	if (read(ev, &n, 8) != 8 || n != 41 || write(ev, &n, 8) != 8)
		return victim_bad("an eventfd held 41 and gives %llu", (unsigned long long)n);
	if (read(sfd, &si, sizeof si) != sizeof si || si.ssi_signo != SIGUSR1 || kill(getpid(), SIGUSR1) != 0)
		return "a signalfd lost its signal";
	char c;
	if (read(pipe_fd[0], &c, 1) != 1 || c != 'x' || write(pipe_fd[1], "x", 1) != 1)
		return "a pipe in epoll lost its byte";
	if (read(tfd, &n, 8) == 8)
		timer_events += n;
	if (!timer_events)
		return "a timerfd in epoll does not fire";
	if (send(pair[0], "y", 1, 0) != 1 || !(ready() & 1 << 6) || recv(pair[1], &c, 1, 0) != 1)
		return "epoll does not see a socket become ready";
	return NULL;
}

int main(void)
{
	sigset_t set;
	struct itimerspec ts = {.it_interval.tv_nsec = 20000000, .it_value.tv_nsec = 20000000};
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	VICTIM_MUST(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
	ep = epoll_create1(EPOLL_CLOEXEC);
	ev = eventfd(41, EFD_NONBLOCK);
	edge = eventfd(3, EFD_NONBLOCK);
	tfd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	sfd = signalfd(-1, &set, SFD_NONBLOCK);
	VICTIM_MUST(ep >= 0 && ev >= 0 && edge >= 0 && tfd >= 0 && sfd >= 0);
	VICTIM_MUST(pipe(pipe_fd) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	VICTIM_MUST(timerfd_settime(tfd, 0, &ts, NULL) == 0 && kill(getpid(), SIGUSR1) == 0 &&
	            write(pipe_fd[1], "x", 1) == 1);
	add(ev, 1, EPOLLIN);
	add(edge, 2, EPOLLIN | EPOLLET);
	add(tfd, 3, EPOLLIN);
	add(sfd, 4, EPOLLIN);
	add(pipe_fd[0], 5, EPOLLIN);
	add(pair[1], 6, EPOLLIN);
	victim_serve(check, NULL);
}
