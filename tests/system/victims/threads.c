/* 64 threads that stay, each with its name, its thread-local memory and its
 * place in a ring of mutexes and condition variables; and others that come and go. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "victim.h"

enum { THREADS = 64 };
static thread_local uint64_t own[512];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turn = PTHREAD_COND_INITIALIZER;
static unsigned whose;
static uint64_t laps;
static const char *trouble;
static uint64_t came, went;

static void look(unsigned me, pid_t tid)
{
	char name[16] = "";
	char want[16];
	(void)snprintf(want, sizeof want, "ring-%u", me);
	(void)prctl(PR_GET_NAME, name);
	if (strcmp(name, want) != 0)
		trouble = "a thread lost its name";
	if ((pid_t)syscall(SYS_gettid) != tid)
		trouble = "a thread has another id";
	for (unsigned i = 0; i < 512; i++)
		if (own[i] != ((uint64_t)me << 32 | i))
			trouble = "thread-local memory changed";
}

static void *member(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg;
	char name[16];
	(void)snprintf(name, sizeof name, "ring-%u", me);
	(void)prctl(PR_SET_NAME, name);
	pid_t tid = (pid_t)syscall(SYS_gettid);
	for (unsigned i = 0; i < 512; i++)
		own[i] = (uint64_t)me << 32 | i;
	(void)pthread_mutex_lock(&lock);
	for (;;) {
		while (whose != me)
			(void)pthread_cond_wait(&turn, &lock);
		look(me, tid);
		whose = (whose + 1) % THREADS;
		laps += whose == 0;
		(void)pthread_cond_broadcast(&turn);
	}
	return NULL;
}

static void *guest(void *arg)
{
	volatile uint64_t mine = (uintptr_t)arg;
	victim_sleep_ms(20);
	if (mine != (uintptr_t)arg)
		trouble = "a short-lived thread lost its stack";
	__atomic_add_fetch(&went, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

static void tick(void)
{
	pthread_t t;
	if (pthread_create(&t, NULL, guest, (void *)(uintptr_t)came) == 0) {
		(void)pthread_detach(t);
		came++;
	}
}

static const char *check(void)
{
	uint64_t before = __atomic_load_n(&laps, __ATOMIC_SEQ_CST);
	uint64_t guests = __atomic_load_n(&went, __ATOMIC_SEQ_CST);
	tick();
	victim_sleep_ms(500);
	if (__atomic_load_n(&laps, __ATOMIC_SEQ_CST) == before)
		return "the ring of threads stands still";
	if (__atomic_load_n(&went, __ATOMIC_SEQ_CST) == guests)
		return "new threads do not run to their end";
	return trouble;
}

int main(void)
{
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_t t;
		VICTIM_MUST(pthread_create(&t, NULL, member, (void *)(uintptr_t)i) == 0);
	}
	victim_serve(check, tick);
}
