/* 160 MiB of private memory written at random by four threads, without pause:
 * every page carries its version, so a write that was missed, torn or undone shows. */
#include <pthread.h>
#include <sys/mman.h>

#include "victim.h"

enum { PAGE = 4096, PAGES = 40960, THREADS = 4, EACH = PAGES / THREADS };
static uint8_t *mem;
static uint32_t *version; /* in its own pages, moved like the rest */
static pthread_mutex_t lock[THREADS];

static void *writer(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg;
	uint64_t rnd = me;
	for (unsigned n = 0;; n++) {
		unsigned p = me * EACH + (unsigned)(victim_random(&rnd) % EACH);
		(void)pthread_mutex_lock(&lock[me]);
		victim_fill(mem + (size_t)p * PAGE, PAGE, ((uint64_t)p << 32) | ++version[p]);
		(void)pthread_mutex_unlock(&lock[me]);
		if (n % 8 == 7)
			victim_sleep_ms(1);
	}
	return NULL;
}

static const char *check(void)
{
	const char *bad = NULL;
	for (unsigned t = 0; t < THREADS; t++) {
		(void)pthread_mutex_lock(&lock[t]);
		for (unsigned p = t * EACH; !bad && p < (t + 1) * EACH; p++)
			if (!victim_filled(mem + (size_t)p * PAGE, PAGE, ((uint64_t)p << 32) | version[p]))
				bad = victim_bad("page %u does not hold version %u", p, version[p]);
		(void)pthread_mutex_unlock(&lock[t]);
	}
	return bad;
}

int main(void)
{
	mem = mmap(NULL, (size_t)PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	version = mmap(NULL, PAGES * sizeof *version, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	VICTIM_MUST(mem != MAP_FAILED && version != MAP_FAILED);
	for (unsigned p = 0; p < PAGES; p++)
		victim_fill(mem + (size_t)p * PAGE, PAGE, (uint64_t)p << 32);
	for (unsigned t = 0; t < THREADS; t++) {
		pthread_t id;
		VICTIM_MUST(pthread_mutex_init(&lock[t], NULL) == 0);
		VICTIM_MUST(pthread_create(&id, NULL, writer, (void *)(uintptr_t)t) == 0);
	}
	victim_serve(check, NULL);
}
