/* SPDX-License-Identifier: MIT */
#include <stdint.h>

#include "godwit-criu.h"

/* Protocol buffers wire format: a key is field << 3 | type; type 0 is a
 * varint, 2 a length and bytes. Nothing else occurs in these messages. */
struct reader {
	const uint8_t *p, *end;
};

static int varint(struct reader *r, uint64_t *out)
{
	uint64_t v = 0;
	for (unsigned shift = 0; r->p < r->end && shift < 64; shift += 7) {
		uint8_t b = *r->p++;
		v |= (uint64_t)(b & 0x7f) << shift;
		if (!(b & 0x80)) {
			*out = v;
			return 0;
		}
	}
	return -1;
}

/* Position r at field `want`; *out is a varint's value or a length. */
static int find_field(struct reader *r, unsigned want, uint64_t *out)
{
	uint64_t key;
	while (varint(r, &key) == 0) {
		uint64_t v;
		if (((key & 7) != 0 && (key & 7) != 2) || varint(r, &v) < 0)
			return -1;
		if (key >> 3 == want) {
			*out = v;
			return 0;
		}
		if ((key & 7) == 2) {
			if (v > (uint64_t)(r->end - r->p))
				return -1;
			r->p += v;
		}
	}
	return -1;
}

int gwc_notify_pid(const void *buf, size_t len)
{
	struct reader r = {.p = buf, .end = (const uint8_t *)buf + len};
	uint64_t n, pid;
	if (find_field(&r, 5, &n) < 0 || n > (uint64_t)(r.end - r.p))
		return -1;
	struct reader in = {.p = r.p, .end = r.p + n};
	if (find_field(&in, 2, &pid) < 0 || pid > INT32_MAX)
		return -1;
	return (int)pid;
}
