#include "files/sum.h"

#include <pthread.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"

static uint64_t keys[8];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_keys(void)
{
	if (getrandom(keys, sizeof(keys), 0) != sizeof(keys))
		keys[0] = gw_now_ns();
	for (unsigned i = 0; i < 8; i++)
		keys[i] |= 1;
}

static uint64_t load(const uint8_t *p)
{
	uint64_t v;
	memcpy(&v, p, sizeof(v));
	return v;
}

/* Both halves of a 128-bit product: each bit of it depends on most of its factors'. */
static uint64_t fold(uint64_t a, uint64_t b)
{
	unsigned __int128 v = (unsigned __int128)a * b;
	return (uint64_t)v ^ (uint64_t)(v >> 64);
}

uint64_t gw_sum(const uint8_t *p, size_t n)
{
	uint8_t tail[64] = {0};
	pthread_once(&once, make_keys);
	uint64_t a = n, b = keys[4], c = keys[5], d = keys[6];
	size_t whole = n / 64 * 64;
	memcpy(tail, p + whole, n - whole);
	for (size_t i = 0; i <= whole; i += 64) {
		const uint8_t *q = i == whole ? tail : p + i;
		a = fold(load(q) ^ a, load(q + 8) ^ keys[0]) + keys[4];
		b = fold(load(q + 16) ^ b, load(q + 24) ^ keys[1]) + keys[5];
		c = fold(load(q + 32) ^ c, load(q + 40) ^ keys[2]) + keys[6];
		d = fold(load(q + 48) ^ d, load(q + 56) ^ keys[3]) + keys[7];
	}
	uint64_t sum = fold(a ^ keys[1], b ^ keys[2]) ^ fold(c ^ keys[3], d ^ keys[7]);
	return sum > GW_SUM_NONE ? sum : sum + 2;
}

bool gw_is_zero(const uint8_t *p, size_t n)
{
	return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}
