#include "mem/track.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/gw_log.h"
#include "base/io.h"
#include "base/scope.h"
#include "mem/track_impl.h"
#include "mem/track_probe.h"

static const uint64_t PAGES_END = UINT64_MAX >> GW_PAGE_SHIFT;

static const struct gw_track_ops *ops_of(enum gw_track_backend b)
{
	return b == GW_TRACK_UFFD ? &gw_track_uffd : b == GW_TRACK_SOFT_DIRTY ? &gw_track_softdirty : NULL;
}

const char *gw_track_backend_name(enum gw_track_backend b)
{
	const struct gw_track_ops *o = ops_of(b);
	return o ? o->name : "auto";
}

int gw_proc_open(pid_t pid, const char *name, int flags)
{
	char path[64];
	gw_path(path, sizeof(path), "/proc/%d/%s", pid, name);
	int fd = open(path, flags | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	return fd;
}

int gw_tracker_new(enum gw_track_backend want, const char *cgroup_dir, pid_t init_pid, struct gw_tracker **out,
                   struct gw_err *e)
{
	char why[400];
	enum gw_track_backend best = want;
	if (want == GW_TRACK_AUTO)
		best = gw_track_supported(why, sizeof(why));
	else if (!gw_track_backend_works(want, why, sizeof(why)))
		return gw_fail(e, GW_INPUT, EOPNOTSUPP, "track memory by %s: %s", gw_track_backend_name(want), why);
	if (best == GW_TRACK_AUTO)
		return gw_fail(e, GW_INPUT, EOPNOTSUPP, "this kernel cannot track memory: %s", why);
	struct gw_task task;
	int rc = gw_task_read(init_pid, &task);
	if (rc < 0)
		return gw_fail(e, GW_INPUT, -rc, "look at process %d", init_pid);
	if (!task.nlevels)
		return gw_fail(e, GW_SYS, ENOSYS, "process %d: the kernel does not tell pids in namespaces (NSpid)",
		               init_pid);
	struct gw_tracker *t = calloc(1, sizeof(*t));
	char *dir = strdup(cgroup_dir);
	if (!t || !dir) {
		free(t);
		free(dir);
		return gw_fail(e, GW_SYS, ENOMEM, "track memory");
	}
	t->ops = ops_of(best);
	t->cgroup_dir = dir;
	t->init_pid = init_pid;
	t->level = task.nlevels - 1;
	*out = t;
	return 0;
}

static void proc_forget(struct gw_tracker *t, struct gw_proc *p)
{
	t->ops->forget(p);
	if (p->pagemap >= 0)
		(void)close(p->pagemap);
	p->pagemap = -1;
	p->tracked = p->stale = false;
	p->fresh = true;
	gw_flags_done(&p->flags);
	gw_pageset_done(&p->young);
	gw_pageset_done(&p->old);
}

static void proc_free(struct gw_tracker *t, struct gw_proc *p)
{
	proc_forget(t, p);
	if (p->pidfd >= 0)
		(void)close(p->pidfd);
	gw_maps_done(&p->maps);
	gw_text_done(&p->text);
	gw_pageset_done(&p->reported);
	free(p);
}

void gw_tracker_free(struct gw_tracker *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->n; i++)
		proc_free(t, t->v[i]);
	gw_shm_done(t);
	gw_pids_done(&t->pids);
	free(t->v);
	free(t->lazy);
	free(t->cgroup_dir);
	free(t);
}

enum gw_track_backend gw_tracker_backend(const struct gw_tracker *t)
{
	return t->ops->id;
}

int gw_tracker_set_shmem(struct gw_tracker *t, struct gw_err *e)
{
	int rc = t->shmem || !t->ops->shmem ? 0 : gw_shm_start(t);
	if (rc < 0)
		return gw_fail(e, GW_SYS, -rc, "track shared memory");
	t->shmem = t->ops->shmem;
	return 0;
}

/* ---- what goes to the sink ---- */

int gw_emit_flush(struct gw_tracker *t, struct gw_err *e)
{
	if (!t->nout)
		return 0;
	uint64_t from = gw_now_us();
	int rc = t->out_drop ? t->sink->drop(t->sink->ctx, t->out_space, t->out, t->nout, e)
	                     : t->sink->dirty(t->sink->ctx, t->out_space, t->out, t->nout, e);
	t->sink_us += gw_now_us() - from;
	t->nout = 0;
	if (rc < 0)
		t->sink_rc = rc;
	return rc < 0 ? rc : 0;
}

int gw_emit(struct gw_tracker *t, uint32_t space, bool drop, uint64_t page, uint64_t n, struct gw_err *e)
{
	if (t->nout && (t->out_space != space || t->out_drop != drop)) {
		int rc = gw_emit_flush(t, e);
		if (rc < 0)
			return rc;
	}
	t->out_space = space;
	t->out_drop = drop;
	if (!drop)
		t->round.dirty_pages += n;
	while (n) {
		uint32_t k = n < GW_SPAN_PAGES_MAX ? (uint32_t)n : GW_SPAN_PAGES_MAX;
		t->out[t->nout++] = (struct gw_span){.addr = page << GW_PAGE_SHIFT, .npages = k};
		page += k;
		n -= k;
		int rc = t->nout == GW_SPANS_MAX ? gw_emit_flush(t, e) : 0;
		if (rc < 0)
			return rc;
	}
	return 0;
}

struct drop_ctx {
	struct gw_tracker *t;
	uint32_t space;
	struct gw_err *e;
};

static int drop_one(void *ctx, uint64_t page, uint64_t n)
{
	struct drop_ctx *d = ctx;
	return gw_emit(d->t, d->space, true, page, n, d->e);
}

int gw_emit_drops(struct gw_tracker *t, uint32_t space, struct gw_pageset *reported, uint64_t from, uint64_t to,
                  struct gw_err *e)
{
	struct drop_ctx d = {.t = t, .space = space, .e = e};
	return gw_pageset_take(reported, from, to, drop_one, &d);
}

int gw_round_dirty(struct gw_tracker *t, struct gw_proc *p, uint64_t start, uint64_t end, struct gw_err *e)
{
	uint64_t page = start >> GW_PAGE_SHIFT, n = (end - start) >> GW_PAGE_SHIFT;
	if (gw_pageset_add(&p->reported, page, n) < 0 || gw_pageset_add(&p->young, page, n) < 0)
		return gw_fail(e, GW_SYS, ENOMEM, "remember the pages of process %d", p->pid);
	return gw_emit(t, p->space, false, page, n, e);
}

int gw_round_absent(struct gw_tracker *t, struct gw_proc *p, uint64_t start, uint64_t end, struct gw_err *e)
{
	return gw_emit_drops(t, p->space, &p->reported, start >> GW_PAGE_SHIFT, end >> GW_PAGE_SHIFT, e);
}

static int announce(struct gw_tracker *t, struct gw_proc *p, struct gw_err *e)
{
	if (p->known)
		return 0;
	const struct gw_space s = {.id = p->space, .kind = GW_SPACE_PROC, .pid = p->pid, .vpid = p->vpid};
	int rc = t->sink->space(t->sink->ctx, &s, e);
	if (rc < 0) {
		t->sink_rc = rc;
		return rc;
	}
	p->known = true;
	return 0;
}

/* ---- who there is ---- */

bool gw_proc_memory_alive(const struct gw_proc *p)
{
	uint64_t entry;
	return p->pagemap >= 0 && pread(p->pagemap, &entry, sizeof(entry), 0) > 0;
}

/* The whole process has ended, zombie or not. */
static bool has_ended(const struct gw_proc *p)
{
	struct pollfd f = {.fd = p->pidfd, .events = POLLIN};
	return poll(&f, 1, 0) > 0;
}

static void proc_end(struct gw_tracker *t, struct gw_proc *p)
{
	proc_forget(t, p);
	p->ended = true;
}

static struct gw_proc *proc_of(struct gw_tracker *t, pid_t pid)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->v[i]->pid == pid && !t->v[i]->ended)
			return t->v[i];
	return NULL;
}

static int proc_add(struct gw_tracker *t, pid_t pid, struct gw_err *e)
{
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0)
		return errno == ESRCH || errno == EINVAL
		               ? 0
		               : gw_fail(e, GW_SYS, errno, "open a handle on process %d", pid);
	struct gw_proc *p = NULL;
	if (t->n == t->cap) {
		size_t cap = t->cap ? t->cap * 2 : 16;
		struct gw_proc **more = reallocarray(t->v, cap, sizeof(struct gw_proc *));
		if (more) {
			t->v = more;
			t->cap = cap;
		}
	}
	if (t->n < t->cap)
		p = calloc(1, sizeof(*p));
	if (!p) {
		(void)close(pidfd);
		return gw_fail(e, GW_SYS, ENOMEM, "track process %d", pid);
	}
	*p = (struct gw_proc){.pid = pid,
	                      .space = ++t->next_space,
	                      .pidfd = pidfd,
	                      .pagemap = -1,
	                      .uffd = -1,
	                      .fresh = true,
	                      .seen = true};
	t->v[t->n++] = p;
	return 1;
}

static int look_at(struct gw_tracker *t, struct gw_proc *p, bool frozen, struct gw_err *e)
{
	p->held = false;
	int rc = gw_task_read(p->pid, &p->task);
	if (rc < 0 && rc != -ESRCH)
		return gw_fail(e, GW_SYS, -rc, "look at process %d", p->pid);
	if (rc < 0 || has_ended(p)) {
		proc_end(t, p);
		return 0;
	}
	if (p->task.state == 'Z' || p->task.state == 'X') {
		/* Its first thread has ended and others go on; or all are about to. */
		if (frozen)
			return gw_fail(
			        e, GW_INPUT, EOPNOTSUPP,
			        "the first thread of process %d has ended while others go on: CRIU cannot dump that",
			        p->pid);
		p->task.threads = 0;
		return 0;
	}
	if (!p->vpid)
		p->vpid = p->task.nspid[t->level < p->task.nlevels ? t->level : p->task.nlevels - 1];
	if (p->tracked && (p->stale || !gw_proc_memory_alive(p)))
		proc_forget(t, p); /* exec: another memory behind the same pid */
	p->held = true;
	return 0;
}

/* The list of now. Processes that ended stay until their pages are dropped. */
static int refresh(struct gw_tracker *t, bool frozen, struct gw_err *e)
{
	int rc = gw_pids_read(&t->pids, t->cgroup_dir, e);
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < t->n; i++)
		t->v[i]->seen = false;
	size_t old = t->n;
	for (size_t i = 0; i < t->pids.n; i++) {
		struct gw_proc *p = proc_of(t, t->pids.v[i]);
		if (p && has_ended(p)) {
			proc_end(t, p);
			p = NULL;
		}
		if (p)
			p->seen = true;
		rc = p ? 0 : proc_add(t, t->pids.v[i], e);
		if (rc < 0)
			return rc;
	}
	/* A handle that was opened on a number may be on its next owner. */
	if (t->n > old)
		rc = gw_pids_read(&t->pids, t->cgroup_dir, e);
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < t->n; i++) {
		struct gw_proc *p = t->v[i];
		if (p->ended)
			continue;
		if (!p->seen || !gw_pids_has(&t->pids, p->pid)) {
			proc_end(t, p);
			continue;
		}
		rc = look_at(t, p, frozen, e);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* Another process of ours with the same memory (a vfork under way). */
static const struct gw_proc *shares_memory(const struct gw_tracker *t, const struct gw_proc *p, bool only_tracked)
{
	for (size_t i = 0; i < t->n; i++) {
		const struct gw_proc *o = t->v[i];
		if (o != p && !o->ended && o->held && (o->tracked || !only_tracked) &&
		    syscall(SYS_kcmp, p->pid, o->pid, KCMP_VM, 0, 0) == 0)
			return o;
	}
	return NULL;
}

/* ---- writes that no page table shows ----
 *
 * A device may write into a page long after the kernel has looked it up for
 * that (O_DIRECT, AIO): the write fault came at the beginning, so the page
 * was reported then, perhaps before its data had arrived. Pages of processes
 * that do such I/O are therefore reported a second time when GW_SETTLE_MS
 * have passed, and in the final round all that are younger. */
enum { GW_SETTLE_MS = 500 };

static int report_again(struct gw_tracker *t, struct gw_proc *p, struct gw_pageset *set, struct gw_err *e)
{
	uint64_t page, n, at = 0;
	while ((n = gw_pageset_next(set, at, PAGES_END, &page))) {
		uint64_t k, hit, end = page + n;
		for (at = page; (k = gw_pageset_next(&p->reported, at, end, &hit)); at = hit + k) {
			int rc = gw_emit(t, p->space, false, hit, k, e);
			if (rc < 0)
				return rc;
		}
		at = end;
	}
	return 0;
}

static int settle(struct gw_tracker *t, struct gw_proc *p, struct gw_err *e)
{
	uint64_t now = gw_now_ms();
	if (now - p->young_since_ms < GW_SETTLE_MS)
		return 0;
	int rc = p->direct_io ? report_again(t, p, &p->old, e) : 0;
	gw_pageset_done(&p->old);
	p->old = p->young;
	p->young = (struct gw_pageset){0};
	p->young_since_ms = now;
	return rc;
}

/* ---- rounds ---- */

static int set_up(struct gw_tracker *t, struct gw_proc *p, struct gw_err *e)
{
	if (p->pagemap >= 0)
		(void)close(p->pagemap);
	p->pagemap = -1;
	int rc = t->ops->setup(t, p, e);
	if (rc == 0)
		p->tracked = p->fresh = true;
	return rc;
}

static int run_mapped(struct gw_tracker *t, struct gw_proc *p, struct gw_err *e)
{
	gw_smaps_mark(&p->flags, &p->maps);
	p->direct_io = gw_track_direct_io(p->pid, &p->maps);
	int rc = announce(t, p, e);
	if (rc == 0)
		rc = settle(t, p, e);
	if (rc == 0)
		rc = t->ops->run(t, p, e);
	bool again = rc > 0;
	if (rc >= 0)
		rc = gw_emit_flush(t, e);
	/* What the kernel had told by then may not have arrived. */
	p->fresh = again || rc < 0;
	return rc;
}

/* A process that ends under our hands is no error: the next list lacks it. */
static int run_one(struct gw_tracker *t, struct gw_proc *p, struct gw_err *e)
{
	struct gw_err why = {0};
	if (!p->tracked && shares_memory(t, p, true))
		return 0; /* until it execs or ends */
	int rc = p->tracked ? 0 : set_up(t, p, &why);
	if (rc == 0) {
		rc = gw_maps_read(&p->maps, p->pid);
		if (rc < 0)
			(void)gw_fail(&why, GW_SYS, -rc, "read the mappings of process %d", p->pid);
		else
			rc = p->maps.n ? run_mapped(t, p, &why) : 0;
	}
	if (rc == -ESRCH && !t->sink_rc)
		return 0;
	/* exec has replaced what we called in: the next round tries again. */
	if (rc == -EFAULT && !p->tracked && why.class == GW_RETRY && p->stales++ < GW_STALES_MAX)
		return 0;
	if (rc < 0 && e)
		*e = why;
	return rc;
}

static int run_all(struct gw_tracker *t, struct gw_err *e)
{
	for (size_t i = 0; i < t->n; i++) {
		if (t->v[i]->ended || !t->v[i]->held)
			continue;
		int rc = run_one(t, t->v[i], e);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int read_frozen_maps(struct gw_tracker *t, struct gw_proc *p, struct gw_err *e)
{
	int rc = gw_maps_read(&p->maps, p->pid);
	if (rc < 0 && rc != -ESRCH)
		return gw_fail(e, GW_SYS, -rc, "read the mappings of process %d", p->pid);
	p->held = rc == 0 && p->maps.n;
	if (!p->held || p->tracked)
		return 0;
	const struct gw_proc *o = shares_memory(t, p, false);
	if (o)
		return gw_fail(
		        e, GW_RETRY, EAGAIN,
		        "processes %d and %d share their memory (a vfork under way?): let them run and try again",
		        p->pid, o->pid);
	return gw_track_leaked(t, p)
	               ? gw_fail(e, GW_RETRY, EAGAIN,
	                         "process %d has inherited a descriptor of ours: let it run for one more round", p->pid)
	               : 0;
}

/* What was reported outside of what is ours now. */
static int drop_gaps(struct gw_tracker *t, struct gw_proc *p, struct gw_err *e)
{
	uint64_t at = 0;
	for (size_t i = 0; i < p->maps.n; i++) {
		const struct gw_vma *v = &p->maps.v[i];
		if (!v->ours)
			continue;
		int rc = gw_round_absent(t, p, at, v->start, e);
		if (rc < 0)
			return rc;
		at = v->end;
	}
	return gw_emit_drops(t, p->space, &p->reported, at >> GW_PAGE_SHIFT, PAGES_END, e);
}

static int last_all(struct gw_tracker *t, struct gw_err *e)
{
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < t->n; i++) {
		struct gw_proc *p = t->v[i];
		if (p->ended)
			rc = gw_emit_drops(t, p->space, &p->reported, 0, PAGES_END, e);
		else if (p->held)
			rc = announce(t, p, e);
		uint64_t reported = p->reported.count;
		if (rc == 0 && !p->ended && p->held)
			rc = drop_gaps(t, p, e);
		/* Should it go on running, that memory may be ours again, as it is now. */
		p->gap = p->reported.count < reported;
	}
	if (rc == 0)
		rc = t->ops->last(t, e);
	for (size_t i = 0; rc == 0 && i < t->n; i++) {
		struct gw_proc *p = t->v[i];
		p->fresh |= p->gap;
		if (p->ended || !p->held || !p->direct_io)
			continue;
		rc = report_again(t, p, &p->old, e);
		if (rc == 0)
			rc = report_again(t, p, &p->young, e);
	}
	return rc;
}

static void bury(struct gw_tracker *t)
{
	size_t k = 0;
	for (size_t i = 0; i < t->n; i++)
		if (t->v[i]->ended && !t->v[i]->reported.count)
			proc_free(t, t->v[i]);
		else
			t->v[k++] = t->v[i];
	t->n = k;
}

static int list_frozen(struct gw_tracker *t, struct gw_err *e)
{
	int rc = refresh(t, true, e);
	for (size_t i = 0; rc == 0 && i < t->n; i++) {
		struct gw_proc *p = t->v[i];
		if (!p->ended && p->held)
			rc = read_frozen_maps(t, p, e);
		if (rc == 0 && !p->ended && p->held)
			gw_smaps_mark(&p->flags, &p->maps);
	}
	return rc;
}

static void sum_up(struct gw_tracker *t)
{
	for (size_t i = 0; i < t->n; i++) {
		const struct gw_proc *p = t->v[i];
		if (p->ended)
			continue;
		t->round.processes++;
		t->round.threads += p->task.threads;
		t->round.present_pages += p->reported.count;
	}
}

int gw_tracker_round(struct gw_tracker *t, bool is_final, const struct gw_track_sink *sink, struct gw_round *out,
                     struct gw_err *e)
{
	if (t->broken)
		return gw_fail(e, GW_INPUT, ECANCELED, "the last round of this tracker failed: begin with a new one");
	t->sink = sink;
	t->round = (struct gw_round){0};
	t->nout = 0;
	t->sink_us = 0;
	t->sink_rc = 0;
	bool listed = is_final && t->have_frozen;
	t->have_frozen = false;
	int rc = listed ? 0 : is_final ? list_frozen(t, e) : refresh(t, false, e);
	if (rc < 0)
		return rc;
	uint64_t from = gw_now_us();
	rc = is_final ? last_all(t, e) : run_all(t, e);
	if (rc == 0 && t->shmem)
		rc = gw_shm_round(t, is_final, e);
	if (rc == 0)
		rc = gw_emit_flush(t, e);
	t->sink = NULL;
	/* Drops are named once: when they did not arrive, only a new start is right. */
	t->broken = rc < 0 && is_final;
	if (rc < 0)
		return rc;
	t->round.scan_us = gw_now_us() - from - t->sink_us;
	bury(t);
	sum_up(t);
	*out = t->round;
	return 0;
}

/* ---- what CRIU reads ---- */

int gw_tracker_learn_flags(struct gw_tracker *t, struct gw_err *e)
{
	t->have_frozen = false;
	int rc = refresh(t, false, e);
	for (size_t i = 0; rc == 0 && i < t->n; i++) {
		struct gw_proc *p = t->v[i];
		if (p->ended || !p->held)
			continue;
		rc = gw_flags_learn(&p->flags, p->pid);
		if (rc < 0 && rc != -ESRCH)
			return gw_fail(e, GW_SYS, -rc, "read the smaps of process %d", p->pid);
		rc = 0;
	}
	return rc;
}

static int make_text(struct gw_proc *p, struct gw_err *e)
{
	int rc = p->flags.known && p->flags.locked_kb == p->task.locked_kb
	                 ? gw_smaps_text(&p->flags, &p->maps, &p->text)
	                 : -ENODATA;
	if (rc == -ENODATA) {
		gw_debug("smaps read", kv_u64("pid", (uint64_t)p->pid));
		rc = gw_flags_learn(&p->flags, p->pid);
		if (rc == 0)
			rc = gw_maps_read(&p->maps, p->pid);
		if (rc == 0)
			rc = gw_smaps_text(&p->flags, &p->maps, &p->text);
	}
	if (rc == -ENODATA)
		return gw_fail(e, GW_SYS, EBUSY, "the mappings of process %d change: it is not frozen", p->pid);
	return rc < 0 ? gw_fail(e, GW_SYS, -rc, "read the smaps of process %d", p->pid) : 0;
}

/* One range for mappings that touch. */
static int lazy_ranges(struct gw_tracker *t, const struct gw_maps *m, size_t *out_n)
{
	if (t->lazy_cap < m->n) {
		struct gw_lazy_range *more = reallocarray(t->lazy, m->n, sizeof(*more));
		if (!more)
			return -ENOMEM;
		t->lazy = more;
		t->lazy_cap = m->n;
	}
	size_t n = 0;
	for (size_t i = 0; i < m->n; i++) {
		const struct gw_vma *v = &m->v[i];
		if (!v->ours)
			continue;
		if (n && t->lazy[n - 1].end == v->start)
			t->lazy[n - 1].end = v->end;
		else
			t->lazy[n++] = (struct gw_lazy_range){.start = v->start, .end = v->end};
	}
	*out_n = n;
	return 0;
}

int gw_tracker_smaps(struct gw_tracker *t, gw_smaps_fn *fn, void *ctx, struct gw_err *e)
{
	t->have_frozen = t->shm_listed = false;
	int rc = refresh(t, true, e);
	for (size_t i = 0; rc == 0 && i < t->n; i++) {
		struct gw_proc *p = t->v[i];
		size_t n = 0;
		if (p->ended || !p->held)
			continue;
		rc = read_frozen_maps(t, p, e);
		if (rc < 0 || !p->held)
			continue;
		rc = make_text(p, e);
		if (rc == 0 && lazy_ranges(t, &p->maps, &n) < 0)
			rc = gw_fail(e, GW_SYS, ENOMEM, "list the mappings of process %d", p->pid);
		if (rc == 0)
			rc = fn(ctx, p->pid, p->text.s, p->text.len, t->lazy, n, e);
	}
	/* Now: CRIU maps shared memory when it dumps it, and that shows. */
	if (rc == 0 && t->shmem)
		rc = gw_shm_list(t, true, e);
	t->have_frozen = t->shm_listed = rc == 0;
	return rc < 0 ? rc : 0;
}
