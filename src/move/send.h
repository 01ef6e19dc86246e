#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/gw_err.h"
#include "mem/space.h"
#include "wire/conn.h"

/* send: page contents of running processes, over several connections.
 *
 *   push ──▶ [queue of batches] ──▶ worker 1: read, find zeros, (zstd), encrypt ──▶ conn 1
 *                               ──▶ worker 2: ...                               ──▶ conn 2
 *
 * Pages are read when they are sent, not when they are pushed: what travels
 * is never older than the push. A page that cannot be read any more is left
 * out and noted (gw_sender_skipped). Between two barriers nothing is ordered:
 * a page may be in two batches on two connections, so everything that must
 * come later (the next round, drops of what was sent) goes behind a barrier.
 *
 * Owner    the migration on the source. The connections are borrowed: they
 *          must outlive the sender, and nobody else may use them meanwhile.
 * Threads  push, drop, barrier, skipped, set_nice: one at a time. cancel and
 *          total: from anywhere. One thread of ours per connection.
 * Limits   GW_SENDER_CONNS_MAX connections; a queue of 32 batches of at most
 *          GW_SEND_BATCH_PAGES pages; per connection one buffer of a batch
 *          (two with zstd). push blocks while the queue is full.
 * Errors   after the first failure or a cancel every call fails with it, and
 *          the connections are shut down. */
struct gw_sender;

enum { GW_SENDER_CONNS_MAX = 16, GW_SEND_BATCH_PAGES = 128 };

struct gw_sender_opts {
	bool zstd;            /* compress each frame (zstd --fast=1) when that helps */
	struct gw_rate *rate; /* bandwidth limit, borrowed; NULL: none */
	int nice;             /* of our threads: 0 to 19 */
};

int gw_sender_new(struct gw_conn *const *conns, unsigned n, const struct gw_sender_opts *opts, struct gw_sender **out,
                  struct gw_err *e);

/* Send these pages of space. They are read from process pid; when object >= 0
 * from that file, which must stay open until the next barrier. */
int gw_sender_push(struct gw_sender *s, uint32_t space, pid_t pid, int object, const struct gw_span *spans, size_t n,
                   struct gw_err *e);
/* Tell the peer that these pages exist no more. */
int gw_sender_drop(struct gw_sender *s, uint32_t space, const struct gw_span *spans, size_t n, struct gw_err *e);

struct gw_send_stats {
	uint64_t pages;         /* sent, zero ones included */
	uint64_t zero_pages;    /* sent as "zero" */
	uint64_t skipped_pages; /* could not be read any more */
	uint64_t raw_bytes;     /* pages * 4096 */
	uint64_t wire_bytes;    /* frames, after compression, without TLS */
	uint64_t frames;
	uint64_t send_us; /* from the first push after the last barrier to the end of this one */
};

/* Wait until everything pushed is sent and stored by the peer. *out (may be
 * NULL): what went since the last barrier. */
int gw_sender_barrier(struct gw_sender *s, struct gw_send_stats *out, struct gw_err *e);
/* Since the beginning, also while sending. */
void gw_sender_total(struct gw_sender *s, struct gw_send_stats *out);

/* Pages left out since the last call: fn(ctx, space, span), then they are
 * forgotten. A page that went is gone or will be reported again. Call after a barrier. Ends early with what fn returns
 * when that is < 0. */
typedef int gw_skipped_fn(void *ctx, uint32_t space, const struct gw_span *span);
int gw_sender_skipped(struct gw_sender *s, gw_skipped_fn *fn, void *ctx);

/* Change the priority of our threads, e.g. to 0 once the container is frozen.
 * -errno (going below what we were started with needs CAP_SYS_NICE). */
int gw_sender_set_nice(struct gw_sender *s, int nice);

/* End everything: blocked and later calls fail with -ECANCELED. */
void gw_sender_cancel(struct gw_sender *s);
/* Ends the threads. Without a barrier before it, what is still queued is lost
 * and the connections are shut down. NULL is fine. */
void gw_sender_free(struct gw_sender *s);
