#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "wire/conn.h"

/* A queue in time instead of a bucket of tokens: each taker books the next
 * free stretch and sleeps until it begins. Takers are served in order, and
 * what was not used for longer than `burst_ns` is lost. */
struct gw_rate {
	pthread_mutex_t lock;
	uint64_t bytes_per_s;
	uint64_t free_at_ns;
};

static const uint64_t burst_ns = 10u * 1000u * 1000u;

struct gw_rate *gw_rate_new(uint64_t bytes_per_s)
{
	struct gw_rate *r = calloc(1, sizeof(*r));
	if (!r)
		return NULL;
	(void)pthread_mutex_init(&r->lock, NULL);
	r->bytes_per_s = bytes_per_s;
	return r;
}

void gw_rate_free(struct gw_rate *r)
{
	if (!r)
		return;
	(void)pthread_mutex_destroy(&r->lock);
	free(r);
}

void gw_rate_take(struct gw_rate *r, size_t n)
{
	if (!r || !r->bytes_per_s)
		return;
	uint64_t now = gw_now_ns();
	(void)pthread_mutex_lock(&r->lock);
	if (r->free_at_ns + burst_ns < now)
		r->free_at_ns = now - burst_ns;
	uint64_t start = r->free_at_ns;
	/* 128 bits: n * 10^9 overflows 64 from 18 GiB on. */
	r->free_at_ns += (uint64_t)((unsigned __int128)n * 1000000000u / r->bytes_per_s);
	(void)pthread_mutex_unlock(&r->lock);
	if (start <= now)
		return;
	struct timespec t = {.tv_sec = (time_t)(start / 1000000000u), .tv_nsec = (long)(start % 1000000000u)};
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
		;
}
