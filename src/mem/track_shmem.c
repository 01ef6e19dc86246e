#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/scope.h"
#include "mem/scan.h"
#include "mem/track_impl.h"
#include "mem/track_uffd.h"

/* Shared anonymous memory: one space an object, whoever maps it.
 *
 * Page tables are each process's own, so what one of them says is only what
 * that process did. Which pages there are is asked of the object itself
 * (SEEK_DATA through /proc/PID/map_files). A page is clean when it is marked
 * as unwritten in every mapping that covers it: the kernel keeps the mark in
 * an empty entry too, so "no entry and no mark" is somebody who wrote and
 * whose entry was taken away again, and counts as written.
 *
 * A mapping that went away took its marks with it, and a process that was
 * born, wrote and died between two rounds was never seen: then the object is
 * reported whole. The second kind shows in the page faults that parents have
 * inherited from children they waited for; a process that ignores SIGCHLD
 * inherits none. What stays unseen: SA_NOCLDWAIT with a handler. */

struct mapping {
	struct gw_proc *p;
	uint32_t space; /* of p: who it is also when p is gone */
	uint64_t start, end, off;
};

struct gw_shm {
	uint64_t ino;
	uint32_t minor;
	uint32_t space;
	pid_t told_pid; /* through whom the sink was told to read it */
	uint64_t told_addr;
	bool seen;
	bool whole; /* report all, once */
	struct gw_pageset reported;
	struct mapping *now, *before;
	size_t nnow, nbefore, now_cap, before_cap;
};

void gw_shm_done(struct gw_tracker *t)
{
	for (size_t i = 0; i < t->nshm; i++) {
		gw_pageset_done(&t->shm[i]->reported);
		free(t->shm[i]->now);
		free(t->shm[i]->before);
		free(t->shm[i]);
	}
	free(t->shm);
	t->shm = NULL;
	t->nshm = 0;
}

static int no_memory(struct gw_err *e)
{
	return gw_fail(e, GW_SYS, ENOMEM, "track shared memory");
}

static struct gw_shm *object_of(struct gw_tracker *t, const struct gw_vma *v)
{
	for (size_t i = 0; i < t->nshm; i++)
		if (t->shm[i]->ino == v->ino && t->shm[i]->minor == v->minor)
			return t->shm[i];
	if (t->nshm == t->shm_cap) {
		size_t cap = t->shm_cap ? t->shm_cap * 2 : 8;
		struct gw_shm **more = reallocarray(t->shm, cap, sizeof(struct gw_shm *));
		if (!more)
			return NULL;
		t->shm = more;
		t->shm_cap = cap;
	}
	struct gw_shm *o = calloc(1, sizeof(*o));
	if (!o)
		return NULL;
	*o = (struct gw_shm){.ino = v->ino, .minor = v->minor, .space = ++t->next_space, .whole = true};
	return t->shm[t->nshm++] = o;
}

static int mapping_add(struct gw_shm *o, struct gw_proc *p, const struct gw_vma *v)
{
	if (o->nnow == o->now_cap) {
		size_t cap = o->now_cap ? o->now_cap * 2 : 8;
		struct mapping *more = reallocarray(o->now, cap, sizeof(*more));
		if (!more)
			return -ENOMEM;
		o->now = more;
		o->now_cap = cap;
	}
	o->now[o->nnow++] =
	        (struct mapping){.p = p, .space = p->space, .start = v->start, .end = v->end, .off = v->off};
	return 0;
}

/* Everything of before is still there? */
static bool lost_a_mapping(const struct gw_shm *o)
{
	for (size_t i = 0; i < o->nbefore; i++) {
		bool kept = false;
		for (size_t k = 0; k < o->nnow && !kept; k++)
			kept = o->before[i].space == o->now[k].space && o->before[i].start == o->now[k].start &&
			       o->before[i].end == o->now[k].end && o->before[i].off == o->now[k].off;
		if (!kept)
			return true;
	}
	return false;
}

/* Can a process have come and gone since the last round? */
static bool somebody_passed(struct gw_tracker *t)
{
	bool yes = t->gone;
	t->gone = false;
	for (size_t i = 0; i < t->n; i++) {
		struct gw_proc *p = t->v[i];
		uint64_t faults = p->child_faults;
		if (p->ended)
			continue;
		if (!p->held || p->task.ignores_child || gw_task_child_faults(p->pid, &faults) < 0 ||
		    faults != p->child_faults)
			yes = true;
		p->child_faults = faults;
	}
	return yes;
}

static int list_mappings(struct gw_tracker *t, bool is_final, struct gw_err *e)
{
	bool passed = somebody_passed(t);
	for (size_t i = 0; i < t->nshm; i++) {
		struct gw_shm *o = t->shm[i];
		struct mapping *m = o->before;
		size_t cap = o->before_cap;
		o->before = o->now;
		o->nbefore = o->nnow;
		o->before_cap = o->now_cap;
		o->now = m;
		o->now_cap = cap;
		o->nnow = 0;
	}
	for (size_t i = 0; i < t->n; i++) {
		struct gw_proc *p = t->v[i];
		for (size_t k = 0; !p->ended && p->held && k < p->maps.n; k++) {
			const struct gw_vma *v = &p->maps.v[k];
			if (!gw_vma_is_shared_anon(&p->maps, v))
				continue;
			struct gw_shm *o = object_of(t, v);
			if (!o || mapping_add(o, p, v) < 0)
				return no_memory(e);
			/* settle() in track.c says why. */
			o->whole |= is_final && p->direct_io;
		}
	}
	for (size_t i = 0; i < t->nshm; i++)
		if (passed || !t->ops->shmem || lost_a_mapping(t->shm[i]))
			t->shm[i]->whole = true;
	return 0;
}

/* Its pages, by page number in the object. -ESRCH: nobody left to ask. */
static int present_pages(const struct gw_shm *o, struct gw_pageset *out, uint64_t *size)
{
	gw_auto(fd) int fd = -1;
	for (size_t i = 0; i < o->nnow && fd < 0; i++) {
		char name[64];
		struct stat st;
		gw_path(name, sizeof(name), "map_files/%llx-%llx", (unsigned long long)o->now[i].start,
		        (unsigned long long)o->now[i].end);
		fd = gw_proc_open(o->now[i].p->pid, name, O_RDONLY);
		if (fd >= 0 && (fstat(fd, &st) < 0 || st.st_ino != o->ino)) {
			(void)close(fd);
			fd = -1;
		}
		if (fd >= 0)
			*size = (uint64_t)st.st_size;
	}
	if (fd < 0)
		return -ESRCH;
	off_t at = 0;
	while ((at = lseek(fd, at, SEEK_DATA)) >= 0) {
		off_t end = lseek(fd, at, SEEK_HOLE);
		if (end < 0)
			break;
		uint64_t page = (uint64_t)at >> GW_PAGE_SHIFT,
		         last = ((uint64_t)end + GW_PAGE_BYTES - 1) >> GW_PAGE_SHIFT;
		int rc = gw_pageset_add(out, page, last - page);
		if (rc < 0)
			return rc;
		at = end;
	}
	return errno == ENXIO ? 0 : -errno;
}

/* Address in a mapping, page in its object. */
static uint64_t page_of(const struct mapping *m, uint64_t addr)
{
	return (addr - m->start + m->off) >> GW_PAGE_SHIFT;
}
static uint64_t addr_of(const struct mapping *m, uint64_t page)
{
	return (page << GW_PAGE_SHIFT) - m->off + m->start;
}

/* Every present page of m that it does not mark as unwritten, into dirty. */
static int written_in(const struct mapping *m, struct gw_pageset *present, struct gw_pageset *dirty)
{
	struct page_region r[256];
	struct gw_pageset marked = {0};
	int rc = 0;
	for (uint64_t at = m->start; rc == 0 && m->p->tracked && at < m->end;) {
		ssize_t n = gw_scan(m->p->pagemap, GW_SCAN_PROTECTED, &at, m->end, r, gw_countof(r));
		if (n == -EPERM)
			gw_pageset_done(&marked);
		if (n < 0) {
			rc = n == -EPERM ? 0 : (int)n;
			break;
		}
		for (ssize_t i = 0; rc == 0 && i < n; i++)
			rc = gw_pageset_add(&marked, page_of(m, r[i].start), (r[i].end - r[i].start) >> GW_PAGE_SHIFT);
	}
	uint64_t page, n, at = page_of(m, m->start), end = page_of(m, m->end);
	while (rc == 0 && (n = gw_pageset_next(present, at, end, &page))) {
		uint64_t k, hit, to = page + n;
		for (at = page; rc == 0 && (k = gw_pageset_missing(&marked, at, to, &hit)); at = hit + k)
			rc = gw_pageset_add(dirty, hit, k);
		at = to;
	}
	gw_pageset_done(&marked);
	return rc;
}

/* Mark what is about to be reported as unwritten, in every mapping. */
static int mark(const struct gw_shm *o, struct gw_pageset *dirty)
{
	int rc = 0;
	for (size_t i = 0; i < o->nnow; i++) {
		const struct mapping *m = &o->now[i];
		if (!m->p->tracked || gw_uffd_register(m->p->uffd, m->start, m->end) < 0) {
			rc = -EAGAIN;
			continue;
		}
		uint64_t page, n, at = page_of(m, m->start), end = page_of(m, m->end);
		while ((n = gw_pageset_next(dirty, at, end, &page))) {
			if (gw_uffd_protect(m->p->uffd, addr_of(m, page), addr_of(m, page + n), true) < 0)
				rc = -EAGAIN;
			at = page + n;
		}
	}
	return rc;
}

static int tell(struct gw_tracker *t, struct gw_shm *o, uint64_t size, struct gw_err *e)
{
	const struct mapping *best = &o->now[0];
	for (size_t i = 0; i < o->nnow; i++) {
		const struct mapping *m = &o->now[i];
		if (m->p->pid == o->told_pid && m->start == o->told_addr)
			return 0;
		if (m->end - m->start > best->end - best->start)
			best = m;
	}
	const struct gw_space s = {.id = o->space,
	                           .kind = GW_SPACE_SHMEM,
	                           .pid = best->p->pid,
	                           .vpid = best->p->vpid,
	                           .shmid = o->ino,
	                           .size_bytes = size,
	                           .map_addr = best->start,
	                           .map_off = best->off};
	int rc = t->sink->space(t->sink->ctx, &s, e);
	if (rc < 0)
		return t->sink_rc = rc;
	o->told_pid = best->p->pid;
	o->told_addr = best->start;
	return 0;
}

static int report(struct gw_tracker *t, struct gw_shm *o, struct gw_pageset *present, struct gw_pageset *dirty,
                  bool is_final, struct gw_err *e)
{
	uint64_t page, n, at = 0;
	while ((n = gw_pageset_next(dirty, at, UINT64_MAX, &page))) {
		int rc = gw_pageset_add(&o->reported, page, n) < 0 ? no_memory(e)
		                                                   : gw_emit(t, o->space, false, page, n, e);
		if (rc < 0)
			return rc;
		at = page + n;
	}
	for (at = 0; is_final && (n = gw_pageset_missing(present, at, UINT64_MAX >> GW_PAGE_SHIFT, &page));
	     at = page + n) {
		int rc = gw_emit_drops(t, o->space, &o->reported, page, page + n, e);
		if (rc < 0)
			return rc;
	}
	return gw_emit_flush(t, e);
}

static int look(struct gw_tracker *t, struct gw_shm *o, bool is_final, struct gw_err *e)
{
	struct gw_pageset present = {0}, dirty = {0};
	uint64_t size = 0;
	int rc = o->nnow ? present_pages(o, &present, &size) : -ESRCH;
	/* Nobody maps it any more, or nobody we can ask: the next round sees. */
	if (rc == -ESRCH) {
		o->whole = true;
		gw_pageset_done(&present);
		return is_final ? gw_emit_drops(t, o->space, &o->reported, 0, UINT64_MAX >> GW_PAGE_SHIFT, e) : 0;
	}
	uint64_t page, n, at = 0;
	/* Also what nobody maps: it is as it was when it was reported, or new. */
	while (rc == 0 && (n = gw_pageset_next(&present, at, UINT64_MAX, &page))) {
		uint64_t k, hit;
		for (at = page;
		     rc == 0 && (k = o->whole ? page + n - at : gw_pageset_missing(&o->reported, at, page + n, &hit));
		     at = hit + k) {
			hit = o->whole ? at : hit;
			rc = gw_pageset_add(&dirty, hit, k);
		}
		at = page + n;
	}
	for (size_t i = 0; rc == 0 && !o->whole && i < o->nnow; i++)
		rc = written_in(&o->now[i], &present, &dirty);
	if (rc < 0)
		rc = gw_fail(e, GW_SYS, -rc, "look at shared memory %llu", (unsigned long long)o->ino);
	bool marked = rc == 0 && !is_final && t->ops->shmem && mark(o, &dirty) == 0;
	o->whole = true; /* unless all goes well */
	if (rc == 0)
		rc = tell(t, o, size, e);
	if (rc == 0)
		rc = report(t, o, &present, &dirty, is_final, e);
	if (rc == 0 && marked)
		o->whole = false;
	t->round.present_pages += present.count;
	gw_pageset_done(&present);
	gw_pageset_done(&dirty);
	return rc;
}

int gw_shm_round(struct gw_tracker *t, bool is_final, struct gw_err *e)
{
	int rc = list_mappings(t, is_final, e);
	for (size_t i = 0; rc == 0 && i < t->nshm; i++)
		rc = look(t, t->shm[i], is_final, e);
	return rc;
}
