#include "move/recv.h"

#include <errno.h>
#include <stdlib.h>
#include <zstd.h>

#include "base/scope.h"

enum { DROP_RUNS_AT = 8 };

struct unzip {
	ZSTD_DCtx *ctx;
	uint8_t *data;
};

static void gw_end_unzip(struct unzip *z)
{
	ZSTD_freeDCtx(z->ctx);
	free(z->data);
}

struct loop {
	struct gw_conn *c;
	struct gw_store *st;
	struct gw_recv_counters *n;
	struct unzip zip;
};

/* Exactly raw bytes, or the frame is refused: zstd stops at that limit
 * whatever the frame says about itself. */
static int unzip(struct unzip *z, const uint8_t *p, size_t len, uint32_t raw, const uint8_t **out, struct gw_err *e)
{
	if (!z->ctx)
		z->ctx = ZSTD_createDCtx();
	if (!z->data)
		z->data = malloc(GW_PAGES_RAW_MAX);
	if (!z->ctx || !z->data)
		return gw_fail(e, GW_SYS, ENOMEM, "decompress pages");
	size_t n = ZSTD_decompressDCtx(z->ctx, z->data, raw, p, len);
	if (ZSTD_isError(n))
		return gw_fail(e, GW_PEER, EPROTO, "decompress pages: %s", ZSTD_getErrorName(n));
	if (n != raw)
		return gw_fail(e, GW_PEER, EPROTO, "decompress pages: %zu bytes came out, %u were announced", n, raw);
	*out = z->data;
	return 0;
}

static int take_pages(struct loop *l, const struct gw_frame *f, struct gw_err *e)
{
	struct gw_pages_hdr h;
	size_t data_at = 0;
	int rc = gw_pages_unpack(f->payload, f->len, &h, &data_at, e);
	const uint8_t *data = f->payload + data_at;
	if (rc == 0 && h.codec == GW_CODEC_ZSTD)
		rc = unzip(&l->zip, data, f->len - data_at, h.raw_bytes, &data, e);
	for (uint32_t i = 0; rc == 0 && i < h.nruns; i++) {
		struct gw_run r;
		gw_run_unpack(f->payload + GW_PAGES_HDR_BYTES, i, &r);
		l->n->pages += r.npages;
		if (r.flags & GW_RUN_ZERO) {
			l->n->zero_pages += r.npages;
			rc = gw_store_drop(l->st, h.space, r.addr, r.npages, e);
			continue;
		}
		rc = gw_store_write(l->st, h.space, r.addr, r.npages, data, e);
		data += (size_t)r.npages * GW_PAGE;
	}
	return rc;
}

static int take_drop(struct loop *l, const struct gw_frame *f, struct gw_err *e)
{
	struct gw_pages_hdr h;
	int rc = gw_drop_unpack(f->payload, f->len, &h, e);
	for (uint32_t i = 0; rc == 0 && i < h.nruns; i++) {
		struct gw_run r;
		gw_run_unpack(f->payload + DROP_RUNS_AT, i, &r);
		l->n->dropped_pages += r.npages;
		rc = gw_store_drop(l->st, h.space, r.addr, r.npages, e);
	}
	return rc;
}

/* The store has everything already: writes are done when they return. What
 * comes next comes later: until then no buffer is kept. */
static int answer_barrier(struct loop *l, const struct gw_frame *f, struct gw_err *e)
{
	uint64_t number;
	int rc = gw_barrier_unpack(f->payload, f->len, &number, e);
	if (rc < 0)
		return rc;
	uint8_t answer[GW_BARRIER_BYTES];
	gw_barrier_pack(number, answer);
	gw_conn_drop_room(l->c);
	l->n->barriers++;
	return gw_conn_send(l->c, GW_F_BARRIER_ACK, &(struct iovec){answer, sizeof(answer)}, 1, e);
}

static int take_frame(struct loop *l, const struct gw_frame *f, struct gw_err *e)
{
	l->n->frames++;
	l->n->wire_bytes += GW_FRAME_HDR_BYTES + f->len;
	switch (f->type) {
	case GW_F_PAGES: return take_pages(l, f, e);
	case GW_F_DROP: return take_drop(l, f, e);
	case GW_F_BARRIER: return answer_barrier(l, f, e);
	case GW_F_HELLO:
	case GW_F_MSG:
	case GW_F_BARRIER_ACK:
	case GW_F_FILE:
	case GW_F_TREE: break;
	}
	return gw_fail(e, GW_PEER, EPROTO, "a frame of type %d does not belong on a data connection", (int)f->type);
}

static void gw_end_loop(struct loop *l)
{
	gw_end_unzip(&l->zip);
}

int gw_recv_data(struct gw_conn *c, struct gw_store *st, struct gw_recv_counters *n, struct gw_err *e)
{
	gw_auto(loop) struct loop l = {.c = c, .st = st, .n = n};
	struct gw_err why = {0};
	for (;;) {
		struct gw_frame f;
		int rc = gw_conn_recv(c, -1, &f, &why);
		if (rc == -ECONNRESET)
			return 0;
		if (rc == 0) {
			rc = take_frame(&l, &f, &why);
			if (rc < 0)
				(void)gw_wrap(&why, "data from %s (%s)", gw_conn_peer(c), gw_conn_where(c));
		}
		if (rc < 0) {
			if (e)
				*e = why;
			return rc;
		}
	}
}
