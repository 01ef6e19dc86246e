#include "move/links.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { VERSION = 1, HEAD = 12, LINK_HEAD = 20, RECORD_HEAD = 4 };
static const uint8_t MAGIC[4] = {'G', 'W', 'L', 'K'};

static void put32(uint8_t *p, uint32_t v)
{
	for (unsigned i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

int gw_queue_add(struct gw_queue *q, const void *data, size_t len)
{
	if (len > GW_LINKS_BYTES_MAX || q->len + RECORD_HEAD + len > GW_LINKS_BYTES_MAX)
		return -EFBIG;
	if (q->len + RECORD_HEAD + len > q->cap) {
		size_t cap = (q->len + RECORD_HEAD + len) * 2;
		uint8_t *more = realloc(q->v, cap);
		if (!more)
			return -ENOMEM;
		q->v = more;
		q->cap = cap;
	}
	put32(q->v + q->len, (uint32_t)len);
	if (len)
		memcpy(q->v + q->len + RECORD_HEAD, data, len);
	q->len += RECORD_HEAD + len;
	return 0;
}

int gw_queue_next(const struct gw_queue *q, size_t *at, const uint8_t **out, size_t *out_len)
{
	if (*at == q->len)
		return 0;
	if (q->len - *at < RECORD_HEAD)
		return -EPROTO;
	size_t len = get32(q->v + *at);
	if (len > q->len - *at - RECORD_HEAD)
		return -EPROTO;
	*out = q->v + *at + RECORD_HEAD;
	*out_len = len;
	*at += RECORD_HEAD + len;
	return 1;
}

int gw_links_add(struct gw_links *l, const struct gw_link *take_link)
{
	struct gw_link *more = reallocarray(l->v, l->n + 1, sizeof(*more));
	if (!more) {
		free(take_link->at[0].v);
		free(take_link->at[1].v);
		return -ENOMEM;
	}
	l->v = more;
	l->v[l->n++] = *take_link;
	return 0;
}

void gw_links_done(struct gw_links *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(l->v[i].at[0].v);
		free(l->v[i].at[1].v);
	}
	free(l->v);
	*l = (struct gw_links){0};
}

static void pack_link(const struct gw_link *k, uint8_t *p)
{
	put32(p, k->type);
	for (unsigned i = 0; i < 2; i++) {
		put32(p + 4 + 4 * i, k->ino[i]);
		put32(p + 12 + 4 * i, (uint32_t)k->at[i].len);
	}
}

int gw_links_pack(const struct gw_links *l, uint8_t **out, size_t *out_len, struct gw_err *e)
{
	size_t len = HEAD;
	for (size_t i = 0; i < l->n; i++)
		len += LINK_HEAD + l->v[i].at[0].len + l->v[i].at[1].len;
	if (l->n > GW_LINKS_MAX || len > GW_LINKS_BYTES_MAX)
		return gw_fail(e, GW_INPUT, E2BIG, "%zu unix connections between containers, %zu bytes", l->n, len);
	uint8_t *p = malloc(len), *at = p;
	if (!p)
		return gw_fail(e, GW_SYS, ENOMEM, "pack unix connections");
	memcpy(at, MAGIC, sizeof(MAGIC));
	put32(at + 4, VERSION);
	put32(at + 8, (uint32_t)l->n);
	at += HEAD;
	for (size_t i = 0; i < l->n; i++) {
		pack_link(&l->v[i], at);
		at += LINK_HEAD;
		for (unsigned k = 0; k < 2; k++) {
			if (l->v[i].at[k].len)
				memcpy(at, l->v[i].at[k].v, l->v[i].at[k].len);
			at += l->v[i].at[k].len;
		}
	}
	*out = p;
	*out_len = len;
	return 0;
}

static int bad(struct gw_err *e, const char *what)
{
	return gw_fail(e, GW_PEER, EPROTO, "unix connections between containers: %s", what);
}

static int unpack_queue(const uint8_t *p, size_t len, struct gw_queue *out, struct gw_err *e)
{
	struct gw_queue q = {.v = malloc(len ?: 1), .len = len, .cap = len};
	const uint8_t *r;
	size_t at = 0, n;
	int rc;
	if (!q.v)
		return gw_fail(e, GW_SYS, ENOMEM, "unpack unix connections");
	if (len)
		memcpy(q.v, p, len);
	while ((rc = gw_queue_next(&q, &at, &r, &n)) > 0)
		;
	if (rc < 0) {
		free(q.v);
		return bad(e, "a record ends beyond its queue");
	}
	*out = q;
	return 0;
}

/* Bytes used, or < 0. */
static ssize_t unpack_link(const uint8_t *p, size_t left, struct gw_link *out, struct gw_err *e)
{
	struct gw_link k = {0};
	if (left < LINK_HEAD)
		return bad(e, "cut short");
	k.type = get32(p);
	size_t used = LINK_HEAD, len[2];
	for (unsigned i = 0; i < 2; i++) {
		k.ino[i] = get32(p + 4 + 4 * i);
		len[i] = get32(p + 12 + 4 * i);
	}
	if ((k.type != SOCK_STREAM && k.type != SOCK_SEQPACKET) || !k.ino[0] || !k.ino[1] || k.ino[0] == k.ino[1])
		return bad(e, "a bad type or inode");
	for (unsigned i = 0; i < 2; i++) {
		int rc = len[i] > left - used ? bad(e, "cut short") : unpack_queue(p + used, len[i], &k.at[i], e);
		if (rc < 0) {
			free(k.at[0].v);
			return rc;
		}
		used += len[i];
	}
	*out = k;
	return (ssize_t)used;
}

int gw_links_unpack(const uint8_t *p, size_t len, struct gw_links *out, struct gw_err *e)
{
	struct gw_links l = {0};
	if (len < HEAD || len > GW_LINKS_BYTES_MAX || memcmp(p, MAGIC, sizeof(MAGIC)) != 0 || get32(p + 4) != VERSION ||
	    get32(p + 8) > GW_LINKS_MAX)
		return bad(e, "a bad beginning");
	size_t n = get32(p + 8), at = HEAD;
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < n; i++) {
		struct gw_link k;
		ssize_t used = unpack_link(p + at, len - at, &k, e);
		if (used < 0)
			rc = (int)used;
		else if (gw_links_add(&l, &k) < 0)
			rc = gw_fail(e, GW_SYS, ENOMEM, "unpack unix connections");
		else
			at += (size_t)used;
	}
	if (rc == 0 && at != len)
		rc = bad(e, "bytes are left over");
	if (rc < 0) {
		gw_links_done(&l);
		return rc;
	}
	*out = l;
	return 0;
}
