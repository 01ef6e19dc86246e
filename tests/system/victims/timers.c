/* Time goes on: interval timers, POSIX timers, timerfd, sleeping threads; the
 * clock never steps back, and nothing fires twice as often as it should. */
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "victim.h"

static volatile sig_atomic_t alarms;
static volatile sig_atomic_t posix_ticks;
static uint64_t naps, fd_ticks;
static int tfd;
static uint64_t last_ms, started_ms;
static const char *trouble;
static timer_t timer;

static void on_alarm(int s)
{
	(void)s;
	alarms++;
}
static void on_posix(int s)
{
	(void)s;
	posix_ticks++;
}

static void *napper(void *arg)
{
	(void)arg;
	for (;;) {
		struct timespec t = {.tv_nsec = 50000000};
		(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
		__atomic_add_fetch(&naps, 1, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

static void tick(void)
{
	uint64_t n;
	if (read(tfd, &n, sizeof n) == sizeof n)
		fd_ticks += n;
	uint64_t now = victim_now_ms();
	if (now < last_ms)
		trouble = "the monotonic clock went backwards";
	last_ms = now;
}

static const char *check(void)
{
	uint64_t a = (uint64_t)alarms;
	uint64_t p = (uint64_t)posix_ticks;
	uint64_t n = __atomic_load_n(&naps, __ATOMIC_SEQ_CST);
	uint64_t f = fd_ticks;
	for (int i = 0; i < 50; i++) {
		victim_sleep_ms(10);
		tick();
	}
	if (trouble)
		return trouble;
	uint64_t most = (victim_now_ms() - started_ms) / 50 + 10;
	if ((uint64_t)alarms == a || (uint64_t)alarms > most)
		return victim_bad("setitimer fired %d times, before %llu", (int)alarms, (unsigned long long)a);
	if ((uint64_t)posix_ticks == p || (uint64_t)posix_ticks > most)
		return victim_bad("timer_create fired %d times, before %llu", (int)posix_ticks, (unsigned long long)p);
	if (fd_ticks == f || fd_ticks > most)
		return victim_bad("timerfd fired %llu times, before %llu", (unsigned long long)fd_ticks,
		                  (unsigned long long)f);
	if (__atomic_load_n(&naps, __ATOMIC_SEQ_CST) == n)
		return "a sleeping thread does not wake";
	struct itimerspec left;
	if (timer_gettime(timer, &left) != 0 || left.it_interval.tv_nsec != 50000000)
		return "a POSIX timer lost its interval";
	return NULL;
}

int main(void)
{
	struct itimerval it = {.it_interval.tv_usec = 50000, .it_value.tv_usec = 50000};
	struct itimerspec ts = {.it_interval.tv_nsec = 50000000, .it_value.tv_nsec = 50000000};
	struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 1};
	struct sigaction sa = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
	struct sigaction sp = {.sa_handler = on_posix, .sa_flags = SA_RESTART};
	pthread_t t;
	started_ms = last_ms = victim_now_ms();
	VICTIM_MUST(sigaction(SIGALRM, &sa, NULL) == 0 && sigaction(SIGRTMIN + 1, &sp, NULL) == 0);
	VICTIM_MUST(pthread_create(&t, NULL, napper, NULL) == 0);
	VICTIM_MUST(setitimer(ITIMER_REAL, &it, NULL) == 0);
	VICTIM_MUST(timer_create(CLOCK_MONOTONIC, &ev, &timer) == 0 && timer_settime(timer, 0, &ts, NULL) == 0);
	tfd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	VICTIM_MUST(tfd >= 0 && timerfd_settime(tfd, 0, &ts, NULL) == 0);
	victim_serve(check, tick);
}
