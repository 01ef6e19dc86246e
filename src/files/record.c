#include "files/record.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

static void put(uint8_t **p, uint64_t v, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		*(*p)++ = (uint8_t)(v >> (8 * i));
}

static uint64_t get(const uint8_t **p, unsigned n)
{
	uint64_t v = 0;
	for (unsigned i = 0; i < n; i++)
		v |= (uint64_t)*(*p)++ << (8 * i);
	return v;
}

size_t gw_rec_bytes(const struct gw_rec *r)
{
	return GW_REC_HDR_BYTES + strlen(r->path) + r->body_len;
}

size_t gw_rec_pack(const struct gw_rec *r, uint8_t *out)
{
	uint8_t *p = out;
	size_t n = strlen(r->path);
	put(&p, r->op, 1);
	put(&p, r->flags, 1);
	put(&p, n, 2);
	put(&p, r->body_len, 4);
	put(&p, r->tree, 4);
	put(&p, r->mode, 4);
	put(&p, r->uid, 4);
	put(&p, r->gid, 4);
	put(&p, r->rdev, 8);
	put(&p, r->size, 8);
	put(&p, (uint64_t)r->mtime_s, 8);
	put(&p, (uint64_t)r->atime_s, 8);
	put(&p, r->mtime_ns, 4);
	put(&p, r->atime_ns, 4);
	put(&p, 0, 8);
	memcpy(p, r->path, n);
	p += n;
	if (r->body_len)
		memcpy(p, r->body, r->body_len);
	return (size_t)(p - out) + r->body_len;
}

/* Relative, without NUL, empty parts, "." or "..": it cannot lead out of its tree. */
static bool path_is_plain(const uint8_t *p, size_t n)
{
	if (n == 1 && p[0] == '.')
		return true;
	for (size_t from = 0; from <= n;) {
		const uint8_t *slash = memchr(p + from, '/', n - from);
		size_t to = slash ? (size_t)(slash - p) : n, len = to - from;
		if (len == 0 || len > NAME_MAX || (len == 1 && p[from] == '.') ||
		    (len == 2 && p[from] == '.' && p[from + 1] == '.'))
			return false;
		from = to + 1;
	}
	return memchr(p, 0, n) == NULL;
}

static bool body_fits(const struct gw_rec *r)
{
	bool in_range = r->size <= INT64_MAX && r->rdev <= INT64_MAX && r->size + r->rdev <= INT64_MAX;
	switch (r->op) {
	case GW_REC_MAKE:
		if (S_ISLNK(r->mode))
			return r->body_len > 0 && r->body_len < PATH_MAX && !memchr(r->body, 0, r->body_len);
		return r->body_len == 0 && in_range;
	case GW_REC_DATA: return r->body_len > 0 && r->size <= (uint64_t)INT64_MAX - r->body_len;
	case GW_REC_HOLE: return r->body_len == 0 && in_range && r->rdev > 0;
	case GW_REC_LINK: return r->body_len > 0 && r->body_len < PATH_MAX && path_is_plain(r->body, r->body_len);
	case GW_REC_REMOVE: return r->body_len == 0 && strcmp(r->path, ".") != 0;
	case GW_REC_END: return r->mtime_ns < 1000000000 && r->atime_ns < 1000000000;
	default: return false;
	}
}

int gw_rec_unpack(const uint8_t *payload, size_t len, size_t *inout_at, struct gw_rec *out, struct gw_err *e)
{
	size_t at = *inout_at;
	if (at == len)
		return 1;
	if (len - at < GW_REC_HDR_BYTES)
		return gw_fail(e, GW_PEER, EPROTO, "TREE frame ends in the header of a record");
	const uint8_t *p = payload + at;
	struct gw_rec *r = out;
	r->op = (enum gw_rec_op)get(&p, 1);
	r->flags = (uint8_t)get(&p, 1);
	size_t n = get(&p, 2);
	r->body_len = (uint32_t)get(&p, 4);
	r->tree = (uint32_t)get(&p, 4);
	r->mode = (uint32_t)get(&p, 4);
	r->uid = (uint32_t)get(&p, 4);
	r->gid = (uint32_t)get(&p, 4);
	r->rdev = get(&p, 8);
	r->size = get(&p, 8);
	r->mtime_s = (int64_t)get(&p, 8);
	r->atime_s = (int64_t)get(&p, 8);
	r->mtime_ns = (uint32_t)get(&p, 4);
	r->atime_ns = (uint32_t)get(&p, 4);
	uint64_t reserved = get(&p, 8);
	size_t left = len - at - GW_REC_HDR_BYTES;
	if (n == 0 || n >= PATH_MAX || r->body_len > GW_REC_BODY_MAX || n + r->body_len > left)
		return gw_fail(e, GW_PEER, EPROTO, "record of %zu + %u bytes in a TREE frame with %zu left", n,
		               r->body_len, left);
	if (r->tree >= GW_REC_TREES_MAX || reserved || !path_is_plain(p, n))
		return gw_fail(e, GW_PEER, EPROTO, "record of tree %u with an impossible path or number", r->tree);
	memcpy(r->path, p, n);
	r->path[n] = 0;
	r->body = p + n;
	if (!body_fits(r))
		return gw_fail(e, GW_PEER, EPROTO, "record %u of %.200s does not make sense", r->op, r->path);
	*inout_at = at + GW_REC_HDR_BYTES + n + r->body_len;
	return 0;
}

size_t gw_xattr_pack(const char *name, const void *value, uint32_t value_len, uint8_t *out)
{
	uint8_t *p = out;
	size_t n = strlen(name);
	put(&p, n, 2);
	put(&p, value_len, 4);
	memcpy(p, name, n);
	if (value_len)
		memcpy(p + n, value, value_len);
	return 6 + n + value_len;
}

int gw_xattr_unpack(const uint8_t *body, size_t len, size_t *inout_at, struct gw_xattr *out, struct gw_err *e)
{
	size_t at = *inout_at;
	if (at == len)
		return 1;
	const uint8_t *p = body + at;
	if (len - at < 6)
		return gw_fail(e, GW_PEER, EPROTO, "attributes end early");
	size_t n = get(&p, 2), value_len = get(&p, 4);
	if (n == 0 || n >= sizeof(out->name) || n + value_len > len - at - 6 || memchr(p, 0, n))
		return gw_fail(e, GW_PEER, EPROTO, "attribute of %zu + %zu bytes, %zu are there", n, value_len,
		               len - at - 6);
	memcpy(out->name, p, n);
	out->name[n] = 0;
	out->value = p + n;
	out->value_len = (uint32_t)value_len;
	*inout_at = at + 6 + n + value_len;
	return 0;
}
