/* Threads that wait in the kernel for a time or an event. Nobody sends them a signal, so
 * none of their system calls may end early: programs like busybox' sleep end with it. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "victim.h"

enum { LONG_S = 3600, SHORT_MS = 200 };
static int silent[2]; /* a pipe into which nobody writes */
static const char *trouble;
static uint64_t naps;

static void *ended(const char *what)
{
	static char words[100];
	(void)snprintf(words, sizeof words, "%s ended (errno %d)", what, errno);
	trouble = words;
	return NULL;
}

static const struct timespec *rest_of_plain, *rest_by_clock;

static void *sleeps(void *arg)
{
	struct timespec t = {.tv_sec = LONG_S};
	(void)arg;
	rest_of_plain = &t;
	(void)syscall(SYS_nanosleep, &t, &t);
	return ended("nanosleep that puts the rest where it found the time");
}

static void *sleeps_without_rest(void *arg)
{
	const struct timespec t = {.tv_sec = LONG_S};
	(void)arg;
	(void)syscall(SYS_nanosleep, &t, NULL);
	return ended("nanosleep that does not ask for the rest");
}

static void *sleeps_with_rest(void *arg)
{
	const struct timespec t = {.tv_sec = LONG_S};
	struct timespec rest;
	(void)arg;
	(void)syscall(SYS_nanosleep, &t, &rest);
	return ended("nanosleep with its rest elsewhere");
}

static void *sleeps_by_a_clock(void *arg)
{
	struct timespec t = {.tv_sec = LONG_S};
	(void)arg;
	rest_by_clock = &t;
	(void)syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &t, &t);
	return ended("clock_nanosleep");
}

static void *sleeps_until(void *arg)
{
	struct timespec t;
	(void)arg;
	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += LONG_S;
	(void)syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
	return ended("clock_nanosleep until a time");
}

static void *polls(void *arg)
{
	struct pollfd p = {.fd = silent[0], .events = POLLIN};
	(void)syscall(SYS_poll, &p, 1, arg ? LONG_S * 1000 : -1);
	return ended(arg ? "poll with a time" : "poll without a time");
}

static void *polls_epoll(void *arg)
{
	struct epoll_event ev;
	int fd = epoll_create1(0);
	(void)syscall(SYS_epoll_pwait, fd, &ev, 1, arg ? LONG_S * 1000 : -1, NULL, 8);
	return ended(arg ? "epoll_pwait with a time" : "epoll_pwait without a time");
}

static void *takes_a_signal(void *arg)
{
	sigset_t s;
	(void)arg;
	(void)sigemptyset(&s);
	(void)sigaddset(&s, SIGUSR2);
	(void)pthread_sigmask(SIG_BLOCK, &s, NULL);
	const struct timespec t = {.tv_sec = LONG_S};
	(void)syscall(SYS_rt_sigtimedwait, &s, NULL, &t, 8);
	return ended("sigtimedwait");
}

static void *pauses(void *arg)
{
	(void)arg;
	(void)pause();
	return ended("pause");
}

/* Over and over, so that some are on their way when it freezes: none is too short. */
static void *naps_in_turn(void *arg)
{
	(void)arg;
	for (;;) {
		struct timespec t = {.tv_nsec = SHORT_MS * 1000000L};
		uint64_t began = victim_now_ms();
		if (syscall(SYS_nanosleep, &t, &t) < 0 || victim_now_ms() - began < SHORT_MS)
			return ended("a short nanosleep");
		__atomic_add_fetch(&naps, 1, __ATOMIC_SEQ_CST);
	}
}

static const char *check(void)
{
	static unsigned asked;
	/* It is asked once before it is moved. The kernel writes what is left of a sleep when
	 * it is interrupted, which is after everything has been copied. */
	if (asked++ && (rest_of_plain->tv_sec == LONG_S || rest_by_clock->tv_sec == LONG_S))
		return "a sleep begins from its beginning";
	uint64_t before = __atomic_load_n(&naps, __ATOMIC_SEQ_CST);
	victim_sleep_ms(4 * SHORT_MS);
	if (!trouble && __atomic_load_n(&naps, __ATOMIC_SEQ_CST) == before)
		return "short sleeps do not end";
	return trouble;
}

int main(void)
{
	void *(*const threads[])(void *) = {
	        sleeps, sleeps_without_rest, sleeps_with_rest, sleeps_by_a_clock, sleeps_until, polls,
	        pauses, naps_in_turn,        polls_epoll,      takes_a_signal};
	VICTIM_MUST(pipe(silent) == 0);
	for (unsigned i = 0; i < sizeof threads / sizeof *threads; i++) {
		pthread_t t;
		VICTIM_MUST(pthread_create(&t, NULL, threads[i], NULL) == 0);
	}
	pthread_t t;
	VICTIM_MUST(pthread_create(&t, NULL, polls, silent) == 0);
	VICTIM_MUST(pthread_create(&t, NULL, polls_epoll, silent) == 0);
	victim_serve(check, NULL);
}
