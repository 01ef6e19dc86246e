#pragma once
#include <stdint.h>
#include <time.h>

/* clock: monotonic time, for durations. Never wall time. Any thread. */
static inline uint64_t gw_now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
static inline uint64_t gw_now_us(void)
{
	return gw_now_ns() / 1000u;
}
static inline uint64_t gw_now_ms(void)
{
	return gw_now_ns() / 1000000u;
}
static inline void gw_sleep_us(uint64_t us)
{
	struct timespec t = {.tv_sec = (time_t)(us / 1000000u), .tv_nsec = (long)(us % 1000000u) * 1000};
	while (nanosleep(&t, &t) < 0)
		;
}
