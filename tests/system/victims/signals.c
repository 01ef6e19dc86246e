/* Handlers, masks, an alternate stack, and signals that wait: one blocked for
 * the process, several queued with values, one for a single thread. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "victim.h"

enum { QUEUED = 5 };
static int values[QUEUED + 1];
static unsigned nvalues;
static volatile sig_atomic_t on_alt_stack;
static uint8_t *alt;
static pthread_t other;
static bool taken;

static void on_value(int s, siginfo_t *i, void *c)
{
	(void)s;
	(void)c;
	if (nvalues <= QUEUED)
		values[nvalues++] = i->si_value.sival_int;
}
static void on_alt(int s)
{
	uint8_t here;
	(void)s;
	on_alt_stack = &here >= alt && &here < alt + 65536;
}
static void *other_main(void *arg)
{
	(void)arg;
	for (;;)
		victim_sleep_ms(1000);
	return NULL;
}

static const char *take_queued(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 3);
	sigaddset(&set, SIGUSR1);
	sigset_t pending;
	if (sigpending(&pending) != 0 || !sigismember(&pending, SIGUSR1) || !sigismember(&pending, SIGRTMIN + 3))
		return "signals that waited are gone";
	struct timespec no = {0};
	siginfo_t i;
	sigdelset(&set, SIGUSR1);
	for (int n = 0; n < QUEUED; n++) {
		if (sigtimedwait(&set, &i, &no) < 0)
			return "a queued signal is gone";
		if (i.si_value.sival_int != 40 + n)
			return victim_bad("queued signal %d carries %d", n, i.si_value.sival_int);
	}
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	return sigtimedwait(&set, &i, &no) == SIGUSR1 ? NULL : "a blocked signal is gone";
}

static const char *check(void)
{
	struct sigaction sa;
	sigset_t mask;
	stack_t st;
	if (!taken) {
		taken = true;
		const char *bad = take_queued();
		if (bad)
			return bad;
	}
	if (sigaction(SIGUSR2, NULL, &sa) != 0 || !(sa.sa_flags & SA_SIGINFO) || sa.sa_sigaction != on_value ||
	    !sigismember(&sa.sa_mask, SIGHUP))
		return "a handler, its flags or its mask changed";
	if (sigaction(SIGTERM, NULL, &sa) != 0 || sa.sa_handler != SIG_IGN)
		return "an ignored signal is no longer ignored";
	if (pthread_sigmask(SIG_BLOCK, NULL, &mask) != 0 || !sigismember(&mask, SIGUSR1) || sigismember(&mask, SIGUSR2))
		return "the mask changed";
	if (sigaltstack(NULL, &st) != 0 || st.ss_sp != alt || st.ss_size != 65536)
		return "the alternate stack is forgotten";
	on_alt_stack = 0;
	if (raise(SIGHUP) != 0 || !on_alt_stack)
		return "a handler does not run on the alternate stack";
	nvalues = 0;
	if (sigqueue(getpid(), SIGUSR2, (union sigval){.sival_int = 7}) != 0)
		return "no signal can be sent";
	for (int i = 0; i < 100 && !nvalues; i++)
		victim_sleep_ms(10);
	return nvalues == 1 && values[0] == 7 ? NULL : "a signal does not arrive with its value";
}

int main(void)
{
	struct sigaction value = {.sa_sigaction = on_value, .sa_flags = SA_SIGINFO};
	struct sigaction altact = {.sa_handler = on_alt, .sa_flags = SA_ONSTACK};
	struct sigaction ign = {.sa_handler = SIG_IGN};
	sigset_t block;
	sigaddset(&value.sa_mask, SIGHUP);
	alt = malloc(65536);
	stack_t st = {.ss_sp = alt, .ss_size = 65536};
	VICTIM_MUST(alt && sigaltstack(&st, NULL) == 0);
	VICTIM_MUST(sigaction(SIGUSR2, &value, NULL) == 0 && sigaction(SIGHUP, &altact, NULL) == 0 &&
	            sigaction(SIGTERM, &ign, NULL) == 0);
	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	sigaddset(&block, SIGRTMIN + 3);
	VICTIM_MUST(pthread_sigmask(SIG_BLOCK, &block, NULL) == 0);
	VICTIM_MUST(pthread_create(&other, NULL, other_main, NULL) == 0);
	VICTIM_MUST(kill(getpid(), SIGUSR1) == 0);
	for (int i = 0; i < QUEUED; i++)
		VICTIM_MUST(sigqueue(getpid(), SIGRTMIN + 3, (union sigval){.sival_int = 40 + i}) == 0);
	victim_serve(check, NULL);
}
