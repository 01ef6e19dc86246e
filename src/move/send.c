#include "move/send.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <zstd.h>

#include "base/clock.h"
#include "base/gw_log.h"
#include "base/scope.h"
#include "move/batch.h"

enum {
	QUEUE = 32,
	ZSTD_LEVEL = -1,          /* what the zstd program calls --fast=1 */
	ZSTD_REST = 15,           /* frames not tried after one that did not shrink */
	RATE_PIECE = 64 * 1024,   /* a cancel waits for at most so much */
	SKIPPED_MAX = 1 << 20,    /* 24 MiB: more is an error, not a leak */
	WORKER_STACK = 128 << 10, /* buffers are on the heap */
};

struct skipped {
	uint32_t space;
	struct gw_span span;
};

struct counters {
	_Atomic uint64_t pages, zero_pages, skipped_pages, wire_bytes, frames;
};

struct worker {
	struct gw_sender *s;
	struct gw_conn *conn;
	pthread_t thread;
	bool started;
	pid_t tid;             /* under the sender's lock; 0: not running yet */
	uint64_t barrier_done; /* the last one this connection has answered */
	struct gw_batch batch; /* the one in work */
	struct gw_batch_read read;
	ZSTD_CCtx *zctx;
	uint8_t *zdata;
	unsigned zrest;
	uint8_t head[GW_PAGES_HDR_BYTES + GW_BATCH_SPANS * GW_RUN_BYTES];
};

struct gw_sender {
	struct gw_sender_opts opts;
	struct counters n;
	pthread_mutex_t lock; /* of all that follows */
	pthread_cond_t work;  /* a batch, a barrier or the end has come */
	pthread_cond_t room;  /* a batch was taken */
	pthread_cond_t done;  /* the last worker has done its barrier */
	struct gw_batch *queue;
	unsigned first, count;
	unsigned busy;    /* workers with a batch in work */
	uint64_t barrier; /* counts up; workers answer each once */
	unsigned barrier_left;
	bool stop;
	struct gw_err failed; /* class GW_OK: no */
	uint64_t first_push_us;
	struct gw_send_stats before; /* totals at the last barrier */
	struct skipped *skipped;
	size_t nskipped, skipped_room;
	unsigned nworkers;
	struct worker workers[];
};

static_assert((int)GW_SEND_BATCH_PAGES <= (int)GW_BATCH_SPANS && (int)GW_SEND_BATCH_PAGES <= (int)GW_RUNS_MAX);
static_assert((int)GW_BATCH_BYTES <= (int)GW_PAGES_RAW_MAX);

/* ---- failing ---- */

static bool is_over(const struct gw_sender *s)
{
	return s->failed.class != GW_OK;
}

static int over(const struct gw_sender *s, struct gw_err *e)
{
	if (e)
		*e = s->failed;
	return s->failed.err ? -s->failed.err : -EIO;
}

/* Only the first failure is told: the others follow from it. */
static void fail_locked(struct gw_sender *s, const struct gw_err *why)
{
	if (is_over(s))
		return;
	s->failed = *why;
	for (unsigned i = 0; i < s->nworkers; i++)
		gw_conn_shutdown(s->workers[i].conn);
	(void)pthread_cond_broadcast(&s->work);
	(void)pthread_cond_broadcast(&s->room);
	(void)pthread_cond_broadcast(&s->done);
}

void gw_sender_cancel(struct gw_sender *s)
{
	struct gw_err why = {0};
	(void)gw_fail(&why, GW_SYS, ECANCELED, "send memory");
	(void)pthread_mutex_lock(&s->lock);
	fail_locked(s, &why);
	(void)pthread_mutex_unlock(&s->lock);
}

static bool over_now(struct gw_sender *s)
{
	(void)pthread_mutex_lock(&s->lock);
	bool is = is_over(s);
	(void)pthread_mutex_unlock(&s->lock);
	return is;
}

/* ---- workers ---- */

static void take_rate(struct gw_sender *s, size_t bytes)
{
	while (s->opts.rate && bytes && !over_now(s)) {
		size_t n = bytes < RATE_PIECE ? bytes : RATE_PIECE;
		gw_rate_take(s->opts.rate, n);
		bytes -= n;
	}
}

static int send_frame(struct worker *w, enum gw_frame_type type, size_t head, const void *data, size_t len,
                      struct gw_err *e)
{
	const struct iovec io[2] = {{w->head, head}, {(void *)(uintptr_t)data, len}};
	take_rate(w->s, GW_FRAME_HDR_BYTES + head + len);
	int rc = gw_conn_send(w->conn, type, io, len ? 2 : 1, e);
	if (rc == 0) {
		w->s->n.wire_bytes += GW_FRAME_HDR_BYTES + head + len;
		w->s->n.frames++;
	}
	return rc;
}

/* The size compressed into zdata, or 0: send it plain. */
static size_t compress(struct worker *w)
{
	if (!w->zctx || !w->read.data_bytes)
		return 0;
	if (w->zrest) {
		w->zrest--;
		return 0;
	}
	/* No room for more than 7/8: then it is not worth the receiver's time. */
	size_t room = w->read.data_bytes - w->read.data_bytes / 8;
	size_t n = ZSTD_compressCCtx(w->zctx, w->zdata, room, w->read.data, w->read.data_bytes, ZSTD_LEVEL);
	if (!ZSTD_isError(n))
		return n;
	w->zrest = ZSTD_REST;
	return 0;
}

static int note_skipped(struct gw_sender *s, uint32_t space, const struct gw_span *spans, uint32_t n, struct gw_err *e)
{
	int rc = 0;
	(void)pthread_mutex_lock(&s->lock);
	if (s->nskipped + n > s->skipped_room) {
		size_t room = s->skipped_room ? s->skipped_room * 2 : 256;
		struct skipped *more = room > SKIPPED_MAX ? NULL : realloc(s->skipped, room * sizeof(*more));
		if (more) {
			s->skipped = more;
			s->skipped_room = room;
		} else {
			rc = gw_fail(e, GW_SYS, ENOMEM, "note pages that could not be read");
		}
	}
	for (uint32_t i = 0; rc == 0 && i < n; i++) {
		s->skipped[s->nskipped++] = (struct skipped){space, spans[i]};
		s->n.skipped_pages += spans[i].npages;
	}
	(void)pthread_mutex_unlock(&s->lock);
	return rc;
}

static int do_pages(struct worker *w, struct gw_err *e)
{
	struct gw_batch_read *r = &w->read;
	int rc = gw_batch_read(&w->batch, r, e);
	if (rc == 0 && r->nskipped)
		rc = note_skipped(w->s, w->batch.space, r->skipped, r->nskipped, e);
	if (rc < 0 || !r->nruns)
		return rc;
	size_t z = compress(w);
	struct gw_pages_hdr h = {.space = w->batch.space,
	                         .nruns = r->nruns,
	                         .codec = z ? GW_CODEC_ZSTD : GW_CODEC_PLAIN,
	                         .raw_bytes = r->data_bytes};
	size_t head = gw_pages_pack(&h, r->runs, w->head);
	rc = z ? send_frame(w, GW_F_PAGES, head, w->zdata, z, e)
	       : send_frame(w, GW_F_PAGES, head, r->data, r->data_bytes, e);
	if (rc == 0) {
		w->s->n.pages += r->pages;
		w->s->n.zero_pages += r->zero_pages;
	}
	return rc;
}

static int do_drop(struct worker *w, struct gw_err *e)
{
	struct gw_run runs[GW_BATCH_SPANS];
	for (uint32_t i = 0; i < w->batch.nspans; i++)
		runs[i] = (struct gw_run){.addr = w->batch.spans[i].addr, .npages = w->batch.spans[i].npages};
	return send_frame(w, GW_F_DROP, gw_drop_pack(w->batch.space, runs, w->batch.nspans, w->head), NULL, 0, e);
}

static int do_barrier(struct worker *w, uint64_t number, struct gw_err *e)
{
	gw_barrier_pack(number, w->head);
	int rc = send_frame(w, GW_F_BARRIER, GW_BARRIER_BYTES, NULL, 0, e);
	struct gw_frame f;
	if (rc == 0)
		rc = gw_conn_recv(w->conn, -1, &f, e);
	if (rc < 0)
		return rc;
	uint64_t answer = 0;
	if (f.type != GW_F_BARRIER_ACK)
		return gw_fail(e, GW_PEER, EPROTO, "%s answered a barrier with a frame of type %d",
		               gw_conn_peer(w->conn), f.type);
	rc = gw_barrier_unpack(f.payload, f.len, &answer, e);
	if (rc < 0)
		return rc;
	if (answer != number)
		return gw_fail(e, GW_PEER, EPROTO, "%s answered barrier %llu, asked was %llu", gw_conn_peer(w->conn),
		               (unsigned long long)answer, (unsigned long long)number);
	return 0;
}

/* One batch, or the barrier behind all batches. Called and left with the lock
 * held. */
static int work_once(struct worker *w, struct gw_err *e)
{
	struct gw_sender *s = w->s;
	int rc;
	if (s->count) {
		const struct gw_batch *b = &s->queue[s->first];
		memcpy(&w->batch, b, offsetof(struct gw_batch, spans) + b->nspans * sizeof(b->spans[0]));
		s->first = (s->first + 1) % QUEUE;
		s->count--;
		s->busy++;
		/* Not for each batch: the pusher would wake for every one. */
		if (s->count == QUEUE / 2)
			(void)pthread_cond_signal(&s->room);
		(void)pthread_mutex_unlock(&s->lock);
		rc = w->batch.is_drop ? do_drop(w, e) : do_pages(w, e);
		(void)pthread_mutex_lock(&s->lock);
		s->busy--;
		return rc;
	}
	uint64_t number = s->barrier;
	(void)pthread_mutex_unlock(&s->lock);
	rc = do_barrier(w, number, e);
	(void)pthread_mutex_lock(&s->lock);
	w->barrier_done = number;
	if (rc == 0 && --s->barrier_left == 0)
		(void)pthread_cond_signal(&s->done);
	return rc;
}

/* On Linux a priority is one thread's, not the process's. */
static int renice(const struct worker *w, int nice)
{
	return setpriority(PRIO_PROCESS, (id_t)w->tid, nice) < 0 ? -errno : 0;
}

int gw_sender_set_nice(struct gw_sender *s, int nice)
{
	int rc = 0;
	(void)pthread_mutex_lock(&s->lock);
	s->opts.nice = nice;
	for (unsigned i = 0; rc == 0 && !is_over(s) && i < s->nworkers; i++)
		if (s->workers[i].tid)
			rc = renice(&s->workers[i], nice);
	(void)pthread_mutex_unlock(&s->lock);
	return rc;
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct gw_sender *s = w->s;
	(void)pthread_setname_np(pthread_self(), "gw-send");
	struct gw_err e = {0};
	(void)pthread_mutex_lock(&s->lock);
	w->tid = gettid();
	if (s->opts.nice && renice(w, s->opts.nice) < 0)
		gw_debug("sender keeps its priority", kv_i64("nice", s->opts.nice));
	while (!s->stop && !is_over(s)) {
		if (!s->count && w->barrier_done == s->barrier)
			(void)pthread_cond_wait(&s->work, &s->lock);
		else if (work_once(w, &e) < 0)
			fail_locked(s, &e);
	}
	(void)pthread_mutex_unlock(&s->lock);
	return NULL;
}

/* ---- the caller's side ---- */

/* The batch that more of the same may go into, else a new one; NULL: full. */
static struct gw_batch *open_batch(struct gw_sender *s, const struct gw_batch *key)
{
	struct gw_batch *b = &s->queue[(s->first + s->count + QUEUE - 1) % QUEUE];
	if (s->count && b->space == key->space && b->is_drop == key->is_drop && b->pid == key->pid &&
	    b->object == key->object && b->nspans < GW_BATCH_SPANS && (key->is_drop || b->npages < GW_SEND_BATCH_PAGES))
		return b;
	if (s->count == QUEUE)
		return NULL;
	b = &s->queue[(s->first + s->count) % QUEUE];
	*b = (struct gw_batch){.space = key->space, .is_drop = key->is_drop, .pid = key->pid, .object = key->object};
	s->count++;
	return b;
}

static int enqueue(struct gw_sender *s, const struct gw_batch *key, struct gw_span span, struct gw_err *e)
{
	assert(span.addr % GW_PAGE == 0);
	while (span.npages) {
		struct gw_batch *b = is_over(s) ? NULL : open_batch(s, key);
		if (is_over(s))
			return over(s, e);
		if (!b) {
			(void)pthread_cond_broadcast(&s->work);
			(void)pthread_cond_wait(&s->room, &s->lock);
			continue;
		}
		uint32_t n = span.npages;
		if (!key->is_drop && n > GW_SEND_BATCH_PAGES - b->npages)
			n = GW_SEND_BATCH_PAGES - b->npages;
		b->spans[b->nspans++] = (struct gw_span){.addr = span.addr, .npages = n};
		b->npages += key->is_drop ? 0 : n;
		span.addr += (uint64_t)n * GW_PAGE;
		span.npages -= n;
	}
	return 0;
}

static int enqueue_all(struct gw_sender *s, const struct gw_batch *key, const struct gw_span *spans, size_t n,
                       struct gw_err *e)
{
	int rc = 0;
	(void)pthread_mutex_lock(&s->lock);
	if (!s->first_push_us)
		s->first_push_us = gw_now_us();
	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = enqueue(s, key, spans[i], e);
	(void)pthread_cond_broadcast(&s->work);
	(void)pthread_mutex_unlock(&s->lock);
	return rc;
}

int gw_sender_push(struct gw_sender *s, uint32_t space, pid_t pid, int object, const struct gw_span *spans, size_t n,
                   struct gw_err *e)
{
	const struct gw_batch key = {.space = space, .pid = pid, .object = object};
	return enqueue_all(s, &key, spans, n, e);
}

int gw_sender_drop(struct gw_sender *s, uint32_t space, const struct gw_span *spans, size_t n, struct gw_err *e)
{
	const struct gw_batch key = {.space = space, .is_drop = true, .object = -1};
	return enqueue_all(s, &key, spans, n, e);
}

void gw_sender_total(struct gw_sender *s, struct gw_send_stats *out)
{
	*out = (struct gw_send_stats){.pages = s->n.pages,
	                              .zero_pages = s->n.zero_pages,
	                              .skipped_pages = s->n.skipped_pages,
	                              .raw_bytes = s->n.pages * GW_PAGE,
	                              .wire_bytes = s->n.wire_bytes,
	                              .frames = s->n.frames};
	(void)pthread_mutex_lock(&s->lock);
	out->send_us = s->before.send_us + (s->first_push_us ? gw_now_us() - s->first_push_us : 0);
	(void)pthread_mutex_unlock(&s->lock);
}

static struct gw_send_stats minus(const struct gw_send_stats *a, const struct gw_send_stats *b)
{
	return (struct gw_send_stats){.pages = a->pages - b->pages,
	                              .zero_pages = a->zero_pages - b->zero_pages,
	                              .skipped_pages = a->skipped_pages - b->skipped_pages,
	                              .raw_bytes = a->raw_bytes - b->raw_bytes,
	                              .wire_bytes = a->wire_bytes - b->wire_bytes,
	                              .frames = a->frames - b->frames,
	                              .send_us = a->send_us - b->send_us};
}

int gw_sender_barrier(struct gw_sender *s, struct gw_send_stats *out, struct gw_err *e)
{
	(void)pthread_mutex_lock(&s->lock);
	if (!is_over(s)) {
		s->barrier++;
		s->barrier_left = s->nworkers;
		(void)pthread_cond_broadcast(&s->work);
	}
	while (!is_over(s) && s->barrier_left)
		(void)pthread_cond_wait(&s->done, &s->lock);
	int rc = is_over(s) ? over(s, e) : 0;
	(void)pthread_mutex_unlock(&s->lock);
	if (rc < 0)
		return rc;
	struct gw_send_stats total;
	gw_sender_total(s, &total);
	if (out)
		*out = minus(&total, &s->before);
	(void)pthread_mutex_lock(&s->lock);
	s->before = total;
	s->first_push_us = 0;
	(void)pthread_mutex_unlock(&s->lock);
	return 0;
}

int gw_sender_skipped(struct gw_sender *s, gw_skipped_fn *fn, void *ctx)
{
	(void)pthread_mutex_lock(&s->lock);
	gw_auto(mem) struct skipped *list = gw_take(s->skipped);
	size_t n = s->nskipped;
	s->nskipped = s->skipped_room = 0;
	(void)pthread_mutex_unlock(&s->lock);
	int rc = 0;
	for (size_t i = 0; rc >= 0 && i < n; i++)
		rc = fn(ctx, list[i].space, &list[i].span);
	return rc < 0 ? rc : 0;
}

/* ---- beginning and end ---- */

static int worker_init(struct worker *w, struct gw_sender *s, struct gw_conn *conn)
{
	w->s = s;
	w->conn = conn;
	if (gw_batch_read_init(&w->read) < 0)
		return -ENOMEM;
	if (!s->opts.zstd)
		return 0;
	w->zctx = ZSTD_createCCtx();
	w->zdata = malloc(GW_BATCH_BYTES);
	return w->zctx && w->zdata ? 0 : -ENOMEM;
}

static int worker_start(struct worker *w, const pthread_attr_t *attr)
{
	/* Signals are for the threads that wait for them. */
	sigset_t all, old;
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	int rc = -pthread_create(&w->thread, attr, worker_main, w);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	w->started = rc == 0;
	return rc;
}

int gw_sender_new(struct gw_conn *const *conns, unsigned n, const struct gw_sender_opts *opts, struct gw_sender **out,
                  struct gw_err *e)
{
	assert(n >= 1 && n <= GW_SENDER_CONNS_MAX);
	struct gw_sender *s = calloc(1, sizeof(*s) + n * sizeof(s->workers[0]));
	if (!s)
		return gw_fail(e, GW_SYS, ENOMEM, "start sending memory");
	s->opts = *opts;
	s->nworkers = n;
	(void)pthread_mutex_init(&s->lock, NULL);
	(void)pthread_cond_init(&s->work, NULL);
	(void)pthread_cond_init(&s->room, NULL);
	(void)pthread_cond_init(&s->done, NULL);
	s->queue = calloc(QUEUE, sizeof(s->queue[0]));
	int rc = s->queue ? 0 : -ENOMEM;
	pthread_attr_t attr;
	(void)pthread_attr_init(&attr);
	(void)pthread_attr_setstacksize(&attr, WORKER_STACK);
	for (unsigned i = 0; rc == 0 && i < n; i++)
		rc = worker_init(&s->workers[i], s, conns[i]);
	for (unsigned i = 0; rc == 0 && i < n; i++)
		rc = worker_start(&s->workers[i], &attr);
	(void)pthread_attr_destroy(&attr);
	if (rc < 0) {
		gw_sender_free(s);
		return gw_fail(e, GW_SYS, -rc, "start sending memory");
	}
	*out = s;
	return 0;
}

void gw_sender_free(struct gw_sender *s)
{
	if (!s)
		return;
	(void)pthread_mutex_lock(&s->lock);
	bool unfinished = s->count || s->busy || s->barrier_left;
	s->stop = true;
	(void)pthread_cond_broadcast(&s->work);
	(void)pthread_mutex_unlock(&s->lock);
	if (unfinished)
		gw_sender_cancel(s);
	for (unsigned i = 0; i < s->nworkers; i++) {
		struct worker *w = &s->workers[i];
		if (w->started)
			(void)pthread_join(w->thread, NULL);
		gw_batch_read_done(&w->read);
		ZSTD_freeCCtx(w->zctx);
		free(w->zdata);
	}
	(void)pthread_cond_destroy(&s->work);
	(void)pthread_cond_destroy(&s->room);
	(void)pthread_cond_destroy(&s->done);
	(void)pthread_mutex_destroy(&s->lock);
	free(s->queue);
	free(s->skipped);
	free(s);
}
