#include "mem/track_softdirty.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/io.h"
#include "base/scope.h"
#include "mem/inject.h"
#include "mem/track_impl.h"

/* The soft-dirty backend, for kernels before 6.7.
 *
 * /proc/PID/clear_refs takes the bit off all pages of a process, a write or a
 * new mapping sets it, /proc/PID/pagemap shows it. There is no reading and
 * clearing in one: what is written between the two would be lost. So all
 * threads of the process are stopped for the time (15-25 ms a GiB). One that
 * cannot be stopped is read without clearing: what it wrote is reported, and
 * again in the next round. The first pass needs no stop: clear, then report
 * all.
 *
 * What costs: pagemap tells 8 bytes about every page of a mapping, also of a
 * hole of a TiB that was only reserved (about 3 ms a GiB of address space). */

enum {
	ENTRIES = 128 << 10, /* 1 MiB, 512 MiB of addresses */
	HUGE_PAGE = 2 << 20,
};
static const uint64_t PM_FRAME = ((uint64_t)1 << 55) - 1, PM_SOFT_DIRTY = (uint64_t)1 << 55,
                      PM_GUARD = (uint64_t)1 << 58, PM_SWAP = (uint64_t)1 << 62, PM_PRESENT = (uint64_t)1 << 63;

enum gw_page_kind gw_page_kind(uint64_t entry, const struct gw_zero_pages *z)
{
	if (!(entry & (PM_PRESENT | PM_SWAP)) || (entry & PM_GUARD))
		return GW_PAGE_ABSENT;
	if (entry & PM_PRESENT) {
		uint64_t frame = entry & PM_FRAME;
		if ((z->small && frame == z->small) || (z->huge && frame - z->huge < HUGE_PAGE / GW_PAGE_BYTES))
			return GW_PAGE_ABSENT;
	}
	return entry & PM_SOFT_DIRTY ? GW_PAGE_DIRTY : GW_PAGE_CLEAN;
}

int gw_page_runs(const uint64_t *entries, size_t n, uint64_t addr, const struct gw_zero_pages *z, gw_page_run_fn *fn,
                 void *ctx)
{
	for (size_t i = 0; i < n;) {
		enum gw_page_kind kind = gw_page_kind(entries[i], z);
		size_t k = i + 1;
		while (k < n && (entries[k] == entries[i] || gw_page_kind(entries[k], z) == kind))
			k++;
		int rc = fn(ctx, kind, addr + i * GW_PAGE_BYTES, addr + k * GW_PAGE_BYTES);
		if (rc < 0)
			return rc;
		i = k;
	}
	return 0;
}

static struct gw_zero_pages zero;
static pthread_once_t zero_once = PTHREAD_ONCE_INIT;

/* Both stay mapped: the huge one is one frame only as long as it is used. */
static void find_zero_pages(void)
{
	uint64_t e[2] = {0};
	gw_auto(fd) int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	char *m = mmap(NULL, 3 * HUGE_PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (fd < 0 || m == MAP_FAILED)
		return;
	m = (char *)(((uintptr_t)m + HUGE_PAGE - 1) & ~((uintptr_t)HUGE_PAGE - 1));
	(void)madvise(m, HUGE_PAGE, MADV_HUGEPAGE);
	(void)madvise(m + HUGE_PAGE, GW_PAGE_BYTES, MADV_NOHUGEPAGE);
	(void)*(volatile char *)m;
	(void)*(volatile char *)(m + HUGE_PAGE);
	if (pread(fd, e, sizeof(e), (off_t)((uintptr_t)m / GW_PAGE_BYTES * 8)) == sizeof(e) && (e[1] & PM_PRESENT) &&
	    (e[1] & PM_FRAME) == (e[0] & PM_FRAME) + 1)
		zero.huge = e[0] & PM_FRAME;
	if (pread(fd, e, sizeof(e[0]), (off_t)((uintptr_t)(m + HUGE_PAGE) / GW_PAGE_BYTES * 8)) == sizeof(e[0]))
		zero.small = e[0] & PM_FRAME;
}

/* ---- collecting ----
 *
 * Runs are gathered first and reported when the process goes on again. */
struct run {
	uint64_t start, end;
};

struct gather {
	struct gw_proc *p;
	bool all; /* clean pages count as dirty */
	struct run *dirty, *absent;
	size_t ndirty, nabsent, dirty_cap, absent_cap;
};

static int run_add(struct run **v, size_t *n, size_t *cap, uint64_t start, uint64_t end)
{
	if (*n && (*v)[*n - 1].end == start) {
		(*v)[*n - 1].end = end;
		return 0;
	}
	if (*n == *cap) {
		size_t more_cap = *cap ? *cap * 2 : 512;
		struct run *more = reallocarray(*v, more_cap, sizeof(*more));
		if (!more)
			return -ENOMEM;
		*v = more;
		*cap = more_cap;
	}
	(*v)[(*n)++] = (struct run){start, end};
	return 0;
}

static int gather_run(void *ctx, enum gw_page_kind kind, uint64_t start, uint64_t end)
{
	struct gather *g = ctx;
	if (kind == GW_PAGE_ABSENT)
		return run_add(&g->absent, &g->nabsent, &g->absent_cap, start, end);
	if (kind == GW_PAGE_DIRTY || g->all)
		return run_add(&g->dirty, &g->ndirty, &g->dirty_cap, start, end);
	/* Not written since, but never reported: it was somebody else's (locked) when it was. */
	uint64_t page, n, at = start >> GW_PAGE_SHIFT;
	int rc = 0;
	while (rc == 0 && (n = gw_pageset_missing(&g->p->reported, at, end >> GW_PAGE_SHIFT, &page))) {
		rc = run_add(&g->dirty, &g->ndirty, &g->dirty_cap, page << GW_PAGE_SHIFT, (page + n) << GW_PAGE_SHIFT);
		at = page + n;
	}
	return rc;
}

static int read_vma(struct gather *g, const struct gw_vma *v, uint64_t *buf)
{
	for (uint64_t at = v->start; at < v->end;) {
		uint64_t want = (v->end - at) / GW_PAGE_BYTES;
		want = want < ENTRIES ? want : ENTRIES;
		ssize_t n = pread(g->p->pagemap, buf, want * 8, (off_t)(at / GW_PAGE_BYTES * 8));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n < 8)
			return -ESRCH;
		uint64_t got = (uint64_t)n / 8;
		int rc = gw_page_runs(buf, got, at, &zero, gather_run, g);
		if (rc < 0)
			return rc;
		at += got * GW_PAGE_BYTES;
	}
	return 0;
}

static int clear_refs(const struct gw_proc *p)
{
	char path[64];
	gw_path(path, sizeof(path), "/proc/%d/clear_refs", p->pid);
	int rc = gw_write_knob(path, "4");
	return rc == -ENOENT ? -ESRCH : rc;
}

static int gather_all(struct gather *g)
{
	gw_auto(mem) uint64_t *buf = malloc((size_t)ENTRIES * 8);
	int rc = buf ? 0 : -ENOMEM;
	for (size_t i = 0; rc == 0 && i < g->p->maps.n; i++)
		if (g->p->maps.v[i].ours)
			rc = read_vma(g, &g->p->maps.v[i], buf);
	return rc;
}

/* Clearing reaches every mapping, so it must not come between the reading of
 * the list and a mapping that is not in it. */
static int read_maps(struct gw_proc *p)
{
	int rc = gw_maps_read(&p->maps, p->pid);
	if (rc == 0)
		gw_smaps_mark(&p->flags, &p->maps);
	return rc;
}

static int held_body(void *ctx, struct gw_err *e)
{
	struct gather *g = ctx;
	int rc = read_maps(g->p);
	if (rc == 0)
		rc = gather_all(g);
	if (rc == 0)
		rc = clear_refs(g->p);
	return rc < 0 ? gw_fail(e, rc == -ESRCH ? GW_RETRY : GW_SYS, -rc, "read the page map of process %d", g->p->pid)
	              : 0;
}

static void gw_end_gather(struct gather *g)
{
	free(g->dirty);
	free(g->absent);
}

static int report(struct gw_tracker *t, struct gather *g, bool absent, struct gw_err *e)
{
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < g->ndirty; i++)
		rc = gw_round_dirty(t, g->p, g->dirty[i].start, g->dirty[i].end, e);
	for (size_t i = 0; rc == 0 && absent && i < g->nabsent; i++)
		rc = gw_round_absent(t, g->p, g->absent[i].start, g->absent[i].end, e);
	return rc;
}

static int softdirty_setup(struct gw_tracker *t, struct gw_proc *p, struct gw_err *e)
{
	(void)t;
	(void)pthread_once(&zero_once, find_zero_pages);
	int fd = gw_proc_open(p->pid, "pagemap", O_RDONLY);
	if (fd < 0)
		return gw_fail(e, GW_SYS, -fd, "open the page map of process %d", p->pid);
	p->pagemap = fd;
	return 0;
}

static int softdirty_run(struct gw_tracker *t, struct gw_proc *p, struct gw_err *e)
{
	gw_auto(gather) struct gather g = {.p = p, .all = p->fresh};
	uint64_t stopped = 0;
	int rc;
	if (p->fresh) {
		rc = clear_refs(p);
		if (rc == 0)
			rc = read_maps(p);
		if (rc == 0)
			rc = gather_all(&g);
	} else {
		struct gw_err why = {0};
		rc = gw_inject_hold(p->pid, held_body, &g, &stopped, &why);
		if (rc == -ETIMEDOUT) {
			rc = gather_all(&g);
		} else if (rc < 0) {
			if (e)
				*e = why;
			return rc;
		}
	}
	if (stopped > t->round.stopped_us)
		t->round.stopped_us = stopped;
	if (rc < 0)
		return gw_fail(e, GW_SYS, -rc, "read the page map of process %d", p->pid);
	return report(t, &g, false, e);
}

static int softdirty_last(struct gw_tracker *t, struct gw_err *e)
{
	(void)pthread_once(&zero_once, find_zero_pages);
	for (size_t i = 0; i < t->n; i++) {
		struct gw_proc *p = t->v[i];
		if (p->ended || !p->held)
			continue;
		gw_auto(gather) struct gather g = {.p = p, .all = p->fresh || !p->tracked};
		if (p->pagemap < 0)
			p->pagemap = gw_proc_open(p->pid, "pagemap", O_RDONLY);
		int rc = p->pagemap < 0 ? p->pagemap : gather_all(&g);
		if (rc == -ESRCH) {
			p->held = false;
			continue;
		}
		if (rc < 0)
			return gw_fail(e, GW_SYS, -rc, "read the page map of process %d", p->pid);
		rc = report(t, &g, true, e);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static void softdirty_forget(struct gw_proc *p)
{
	(void)p;
}

const struct gw_track_ops gw_track_softdirty = {.id = GW_TRACK_SOFT_DIRTY,
                                                .name = "soft-dirty",
                                                .setup = softdirty_setup,
                                                .run = softdirty_run,
                                                .last = softdirty_last,
                                                .forget = softdirty_forget};
