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

bool gwc_quiet(void *buf, size_t len)
{
	enum { REQ_TYPE = 1, REQ_OPTS = 2, RESTORE = 2, OPTS_LOG_LEVEL = 9, WARNINGS = 2 };
	struct reader r = {.p = buf, .end = (const uint8_t *)buf + len};
	struct reader in = r;
	uint64_t type, n, level;
	if (find_field(&in, REQ_TYPE, &type) < 0 || type != RESTORE)
		return false;
	if (find_field(&r, REQ_OPTS, &n) < 0 || n > (uint64_t)(r.end - r.p))
		return false;
	in = (struct reader){.p = r.p, .end = r.p + n};
	/* A varint of one byte, which in is behind now. */
	if (find_field(&in, OPTS_LOG_LEVEL, &level) < 0 || level <= WARNINGS || level > 0x7f)
		return false;
	((uint8_t *)buf)[in.p - 1 - (const uint8_t *)buf] = WARNINGS;
	return true;
}
