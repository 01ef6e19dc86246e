#include <string.h>

#include "load.h"

/* splitmix64: every bit of the value depends on key and version. */
static uint64_t next(uint64_t *s)
{
	uint64_t z = (*s += 0x9e3779b97f4a7c15u);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

void load_value_fill(uint8_t *out, uint32_t len, uint32_t key, uint32_t version)
{
	uint64_t s = (uint64_t)key << 32 | version;
	for (uint32_t i = 0; i < len; i += 8) {
		uint64_t v = next(&s);
		memcpy(out + i, &v, len - i < 8 ? len - i : 8);
	}
}

bool load_value_ok(const uint8_t *got, uint32_t len, uint32_t key, uint32_t version)
{
	uint8_t want[LOAD_VALUE_MAX];
	load_value_fill(want, len, key, version);
	return memcmp(got, want, len) == 0;
}
