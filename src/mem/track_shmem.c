#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "base/scope.h"
#include "mem/scan.h"
#include "mem/segments.h"
#include "mem/track_impl.h"
#include "mem/track_uffd.h"

/* Shared memory without a path: one space an object, whoever maps it.
 *
 * Page tables are each process's own, so what one of them says is only what
 * that process did. Which pages there are is asked of the object itself
 * (SEEK_DATA), and later of our own mapping of it, which is faster. A page is clean when every mapping that covers it
 * marks it as unwritten: the kernel keeps the mark in an empty entry too, so "no entry and no mark" is somebody who
 * wrote and whose entry was taken away again, and counts as written. What else there is to see: unmapped took its marks
 * along: the object is reported whole mapped anew         no marks, so all of it counts as written; mapped and gone
 * between two looks: access time (of a memfd, of a segment: mmap and shmat set it), to the tick, so one that is younger
 * than SETTLED_MS counts as changed forked, wrote and   page faults that its parent has inherited when it died in
 * between     waited for it, or a zombie; a parent that ignores SIGCHLD: whole every time hole punched, page  the
 * kernel keeps the marks (seen on 6.18). It does not there again         keep the entries of our own mapping of the
 * object
 *                       (`witness`): one that is gone counts as written
 *   write(2)            shows nowhere. It takes a descriptor, so a memfd that
 *                       some process has one of is CRIU's
 *   others              a segment that somebody outside of the container has
 *                       mapped as well (another one of its pod) is CRIU's
 * What stays unseen: writes to a memfd of a process outside of the container; a memfd received over a socket, written
 * with write(2) and closed again within one round; SA_NOCLDWAIT with a handler; a mapping made and gone within one
 * round through an O_NOATIME descriptor. */
enum {
	SETTLED_MS = 100,
	TABLES_MIN = 64 << 20,
	TABLES_SHARE = 8,
	PAGES_A_TABLE_BYTE = 512, /* bytes of a mapping to a byte of page tables */
	NAME_MAX_BYTES = 240,
};

struct mapping {
	struct gw_proc *p;
	uint32_t space; /* of p: who it is also when p is gone */
	uint64_t start, end, off;
	bool writable; /* now: what is not may have been */
};

struct gw_shm {
	uint64_t ino;
	enum gw_shm_kind kind;
	uint32_t space;
	int fd;    /* the object, read-only, without setting its access time */
	bool ours; /* this time; else CRIU's */
	bool has_fd;
	bool elsewhere; /* mapped outside of the container too, so written unseen (System V) */
	bool whole;     /* report all, once */
	bool told;
	uint64_t size, held, told_size; /* held: memory it has */
	struct timespec atime;          /* as of the last look */
	bool settled;
	char name[NAME_MAX_BYTES + 1];
	void *witness;
	size_t witness_len;
	struct gw_pageset reported;
	struct mapping *now, *before;
	size_t nnow, nbefore, now_cap, before_cap;
};

static void witness_done(struct gw_shm *o)
{
	if (o->witness)
		(void)munmap(o->witness, o->witness_len);
	o->witness = NULL;
}

void gw_shm_done(struct gw_tracker *t)
{
	for (size_t i = 0; i < t->nshm; i++) {
		witness_done(t->shm[i]);
		if (t->shm[i]->fd >= 0)
			(void)close(t->shm[i]->fd);
		gw_pageset_done(&t->shm[i]->reported);
		free(t->shm[i]->now);
		free(t->shm[i]->before);
		free(t->shm[i]);
	}
	free(t->shm);
	if (t->own_pagemap > 0)
		(void)close(t->own_pagemap);
	t->own_pagemap = 0;
	t->shm = NULL;
	t->nshm = 0;
}

static int no_memory(struct gw_err *e)
{
	return gw_fail(e, GW_SYS, ENOMEM, "track shared memory");
}

/* ---- which objects there are, and who maps them ---- */

static struct gw_shm *object_of(struct gw_tracker *t, const struct gw_vma *v, enum gw_shm_kind kind)
{
	for (size_t i = 0; i < t->nshm; i++)
		if (t->shm[i]->ino == v->ino && (t->shm[i]->kind == GW_SHM_SYSV) == (kind == GW_SHM_SYSV))
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
	*o = (struct gw_shm){.ino = v->ino, .kind = kind, .space = ++t->next_space, .fd = -1, .whole = true};
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
	o->now[o->nnow++] = (struct mapping){.p = p,
	                                     .space = p->space,
	                                     .start = v->start,
	                                     .end = v->end,
	                                     .off = v->off,
	                                     .writable = v->prot & GW_PROT_W};
	return 0;
}

static int list_mappings(struct gw_tracker *t, bool is_final, struct gw_err *e)
{
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
		o->has_fd = false;
		o->elsewhere = false;
	}
	for (size_t i = 0; i < t->n; i++) {
		struct gw_proc *p = t->v[i];
		for (size_t k = 0; !p->ended && p->held && k < p->maps.n; k++) {
			const struct gw_vma *v = &p->maps.v[k];
			enum gw_shm_kind kind = gw_vma_shm_kind(&p->maps, v, t->shm_minor);
			if (kind == GW_SHM_NONE)
				continue;
			struct gw_shm *o = object_of(t, v, kind);
			if (!o || mapping_add(o, p, v) < 0)
				return no_memory(e);
			/* settle() in track.c says why. */
			o->whole |= is_final && p->direct_io;
		}
	}
	return 0;
}

/* Has a child of p come and gone since the last look? */
static bool lost_a_child(struct gw_tracker *t, struct gw_proc *p)
{
	uint64_t faults = p->child_faults, zombies = p->zombies;
	bool unsure = gw_task_child_faults(p->pid, &faults) < 0 || gw_task_zombies(p->pid, &t->pids, &zombies) < 0;
	bool yes = unsure || p->task.ignores_child || faults != p->child_faults || zombies != p->zombies;
	p->child_faults = faults;
	p->zombies = zombies;
	return yes;
}

static void look_at_children(struct gw_tracker *t)
{
	for (size_t i = 0; i < t->n; i++)
		t->v[i]->asked = false;
	for (size_t i = 0; i < t->nshm; i++) {
		struct gw_shm *o = t->shm[i];
		for (size_t k = 0; k < o->nnow; k++) {
			struct gw_proc *p = o->now[k].p;
			if (!p->asked)
				p->lost_child = lost_a_child(t, p);
			p->asked = true;
			o->whole |= p->lost_child;
		}
	}
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

/* A process that cannot be looked into may have a descriptor of any memfd. */
static void note_descriptors(struct gw_tracker *t, const struct gw_proc *p)
{
	static const char memfd[] = "/memfd:";
	gw_auto(fd) int fd = gw_proc_open(p->pid, "fd", O_RDONLY | O_DIRECTORY);
	gw_auto(dir) DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (d)
		(void)gw_take_fd(&fd);
	for (size_t i = 0; !d && i < t->nshm; i++)
		t->shm[i]->has_fd = true;
	for (const struct dirent *de; d && (de = readdir(d));) {
		char to[sizeof(memfd)];
		struct stat st;
		if (de->d_name[0] == '.' || readlinkat(dirfd(d), de->d_name, to, sizeof(to)) < (ssize_t)sizeof(to) ||
		    memcmp(to, memfd, sizeof(memfd) - 1) != 0 || fstatat(dirfd(d), de->d_name, &st, 0) < 0)
			continue;
		for (size_t i = 0; i < t->nshm; i++)
			t->shm[i]->has_fd |= t->shm[i]->ino == st.st_ino;
	}
}

static void look_for_descriptors(struct gw_tracker *t)
{
	bool any = false;
	for (size_t i = 0; i < t->nshm; i++)
		any |= t->shm[i]->kind == GW_SHM_MEMFD && t->shm[i]->nnow;
	for (size_t i = 0; any && i < t->n; i++)
		if (!t->v[i]->ended && t->v[i]->held)
			note_descriptors(t, t->v[i]);
}

/* A pod's containers share their segments. Whoever else has one mapped writes
 * what the marks of this container's processes do not tell. */
static void look_for_others(struct gw_tracker *t)
{
	struct gw_segment *v = NULL;
	size_t n = 0;
	bool any = false;
	for (size_t i = 0; i < t->nshm; i++)
		any |= t->shm[i]->kind == GW_SHM_SYSV && t->shm[i]->nnow;
	int rc = any ? gw_segments_of(t->init_pid, &v, &n) : 0;
	for (size_t i = 0; any && i < t->nshm; i++) {
		struct gw_shm *o = t->shm[i];
		bool found = false;
		if (o->kind != GW_SHM_SYSV)
			continue;
		for (size_t k = 0; rc == 0 && k < n; k++)
			found |= v[k].id == o->ino && v[k].attached == o->nnow;
		o->elsewhere = !found;
	}
	free(v);
}

/* The name that CRIU would give the memfd; false: one that we cannot pass on. */
static bool name_from(struct gw_shm *o, const char *link)
{
	static const char memfd[] = "/memfd:", deleted[] = " (deleted)";
	size_t n = strlen(link), tail = sizeof(deleted) - 1;
	if (o->kind == GW_SHM_SYSV)
		return true;
	if (n >= tail && !strcmp(link + n - tail, deleted))
		n -= tail;
	if (!strncmp(link, memfd, sizeof(memfd) - 1)) {
		link += sizeof(memfd) - 1;
		n -= sizeof(memfd) - 1;
	}
	if (n > NAME_MAX_BYTES)
		return false;
	for (size_t i = 0; i < n; i++)
		if (link[i] < ' ' || link[i] > '~')
			return false;
	memcpy(o->name, link, n);
	o->name[n] = 0;
	return true;
}

static bool open_by(struct gw_tracker *t, struct gw_shm *o, const struct mapping *m)
{
	char path[96], link[PATH_MAX];
	struct stat st;
	gw_path(path, sizeof(path), "/proc/%d/map_files/%llx-%llx", m->p->pid, (unsigned long long)m->start,
	        (unsigned long long)m->end);
	gw_auto(fd) int fd = open(path, O_RDONLY | O_NOATIME | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_ino != o->ino || major(st.st_dev) || minor(st.st_dev) != t->shm_minor)
		return false;
	gw_path(path, sizeof(path), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(path, link, sizeof(link) - 1);
	if (n < 0)
		return false;
	link[n] = 0;
	/* A segment and a file may have the same number. */
	if ((!strncmp(link, "/SYSV", 5)) != (o->kind == GW_SHM_SYSV) || !name_from(o, link))
		return false;
	o->fd = gw_take_fd(&fd);
	return true;
}

/* CRIU names an object by 32 bits of its inode, and a segment by its id. */
static bool has_namesake(const struct gw_tracker *t, const struct gw_shm *o)
{
	for (size_t i = 0; i < t->nshm; i++)
		if (t->shm[i] != o && t->shm[i]->nnow && (uint32_t)t->shm[i]->ino == (uint32_t)o->ino)
			return true;
	return false;
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

/* Size, and whether somebody may have mapped it since the last look. */
static bool look_at_inode(struct gw_shm *o)
{
	struct stat st;
	struct timespec now;
	if (fstat(o->fd, &st) < 0 || clock_gettime(CLOCK_REALTIME, &now) < 0)
		return false;
	o->whole |= !o->settled || !same_time(&o->atime, &st.st_atim);
	int64_t age = (int64_t)(now.tv_sec - st.st_atim.tv_sec) * 1000 + (now.tv_nsec - st.st_atim.tv_nsec) / 1000000;
	o->settled = age < 0 || age > SETTLED_MS;
	o->atime = st.st_atim;
	o->size = (uint64_t)st.st_size;
	o->held = (uint64_t)st.st_blocks * 512;
	return st.st_size > 0 && (uint64_t)st.st_size <= GW_ADDR_END;
}

/* Marks live in page tables, 8 bytes a page in every process that maps it, and
 * the container pays for them. What its processes have of them already (a data
 * base's that have seen most of its buffers) is not counted. */
static bool marks_too_dear(const struct gw_shm *o)
{
	uint64_t more = 0;
	for (size_t i = 0; i < o->nnow; i++) {
		struct gw_proc *p = o->now[i].p;
		uint64_t len = o->now[i].end - o->now[i].start;
		uint64_t need = (len < o->held ? len : o->held) / PAGES_A_TABLE_BYTE;
		uint64_t has = need < p->tables_left ? need : p->tables_left;
		p->tables_left -= has;
		more += need - has;
	}
	return more > TABLES_MIN && more > o->held / TABLES_SHARE;
}

static void count_tables(struct gw_tracker *t)
{
	for (size_t i = 0; i < t->n; i++) {
		struct gw_proc *p = t->v[i];
		uint64_t has = p->task.tables_kb << 10, private = (p->task.anon_kb << 10) / PAGES_A_TABLE_BYTE;
		p->tables_left = has > private ? has - private : 0;
	}
}

int gw_shm_list(struct gw_tracker *t, bool is_final, struct gw_err *e)
{
	int rc = list_mappings(t, is_final, e);
	if (rc < 0)
		return rc;
	look_at_children(t);
	look_for_descriptors(t);
	look_for_others(t);
	count_tables(t);
	for (size_t i = 0; i < t->nshm; i++) {
		struct gw_shm *o = t->shm[i];
		for (size_t k = 0; o->fd < 0 && i < GW_SHMEM_MAX && k < o->nnow && !open_by(t, o, &o->now[k]); k++)
			;
		o->ours = o->fd >= 0 && look_at_inode(o) && o->nnow && !marks_too_dear(o) && !o->has_fd &&
		          !o->elsewhere && !has_namesake(t, o);
		o->whole |= !o->ours || !t->ops->shmem || lost_a_mapping(o);
	}
	return 0;
}

/* ---- which pages were written ---- */

static const uint64_t PAGES_END = UINT64_MAX >> GW_PAGE_SHIFT;

/* 40 ns a page: for what is not known yet. */
static int present_pages(const struct gw_shm *o, struct gw_pageset *out)
{
	off_t at = 0;
	while ((at = lseek(o->fd, at, SEEK_DATA)) >= 0) {
		off_t end = lseek(o->fd, at, SEEK_HOLE);
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

/* Which of [page, end) are there, into both. Few: it is asked for each. */
static int look_for_pages(const struct gw_shm *o, uint64_t page, uint64_t end, struct gw_pageset *present,
                          struct gw_pageset *dirty)
{
	while (page < end) {
		off_t at = lseek(o->fd, (off_t)(page << GW_PAGE_SHIFT), SEEK_DATA);
		if (at < 0)
			return errno == ENXIO ? 0 : -errno;
		page = (uint64_t)at >> GW_PAGE_SHIFT;
		if (page < end && (gw_pageset_add(present, page, 1) < 0 || gw_pageset_add(dirty, page, 1) < 0))
			return -ENOMEM;
		page++;
	}
	return 0;
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

/* What of [at, end) is in `of`, into out. */
static int add_common(struct gw_pageset *of, uint64_t at, uint64_t end, struct gw_pageset *out)
{
	uint64_t page, n;
	int rc = 0;
	for (; rc == 0 && (n = gw_pageset_next(of, at, end, &page)); at = page + n)
		rc = gw_pageset_add(out, page, n);
	return rc;
}

/* Nobody can write through a mapping of a file that was opened for reading,
 * whatever becomes of its protection. */
static bool never_writes(const struct mapping *m)
{
	return !m->writable && m->p->tracked && gw_uffd_register(m->p->uffd, m->start, m->end) == -EPERM;
}

/* Every present page of m that it does not mark as unwritten, into dirty. */
static int written_in(const struct mapping *m, struct gw_pageset *present, struct gw_pageset *dirty)
{
	static const enum gw_scan_kind kinds[] = {GW_SCAN_UNMARKED, GW_SCAN_EMPTY};
	struct page_region r[256];
	if (never_writes(m))
		return 0;
	bool all = !m->p->tracked;
	for (size_t k = 0; !all && k < gw_countof(kinds); k++)
		for (uint64_t at = m->start; !all && at < m->end;) {
			ssize_t n = gw_scan(m->p->pagemap, kinds[k], &at, m->end, r, gw_countof(r));
			all = n == -EPERM;
			int rc = n < 0 && !all ? (int)n : 0;
			for (ssize_t i = 0; rc == 0 && i < n; i++)
				rc = add_common(present, page_of(m, r[i].start), page_of(m, r[i].end), dirty);
			if (rc < 0)
				return rc;
		}
	return all ? add_common(present, page_of(m, m->start), page_of(m, m->end), dirty) : 0;
}

/* Mark what is about to be reported as unwritten, in every mapping. */
static int mark(const struct gw_shm *o, struct gw_pageset *dirty)
{
	int rc = 0;
	for (size_t i = 0; i < o->nnow; i++) {
		const struct mapping *m = &o->now[i];
		if (never_writes(m))
			continue;
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

/* ---- the witness: our own mapping, through which nobody writes ---- */

static int witness_map(struct gw_shm *o)
{
	if (o->witness && o->witness_len == o->size)
		return 0;
	witness_done(o);
	void *p = mmap(NULL, o->size, PROT_READ, MAP_SHARED, o->fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	o->witness = p;
	o->witness_len = o->size;
	return 0;
}

static int forget_run(void *ctx, uint64_t page, uint64_t n)
{
	(void)ctx;
	(void)page;
	(void)n;
	return 0;
}

/* What was reported and our mapping still has is there, and is the page it
 * was. What it has lost, or was not there before, is asked for and dirty: our
 * mapping may have a page that came while we took others (fault-around). */
static int present_by_witness(struct gw_tracker *t, struct gw_shm *o, struct gw_pageset *present,
                              struct gw_pageset *dirty)
{
	struct page_region r[256];
	uint64_t base = (uintptr_t)o->witness, pages = (o->size + GW_PAGE_BYTES - 1) >> GW_PAGE_SHIFT, page, n;
	int rc = add_common(&o->reported, 0, pages, present);
	for (uint64_t at = 0; rc == 0 && (n = gw_pageset_missing(&o->reported, at, pages, &page)); at = page + n)
		rc = look_for_pages(o, page, page + n, present, dirty);
	for (uint64_t at = base, end = base + (pages << GW_PAGE_SHIFT); rc == 0 && at < end;) {
		ssize_t k = gw_scan(t->own_pagemap, GW_SCAN_ABSENT, &at, end, r, gw_countof(r));
		rc = k < 0 ? (int)k : 0;
		for (ssize_t i = 0; rc == 0 && i < k; i++) {
			uint64_t from = (r[i].start - base) >> GW_PAGE_SHIFT, to = (r[i].end - base) >> GW_PAGE_SHIFT;
			(void)gw_pageset_take(present, from, to, forget_run, NULL);
			rc = look_for_pages(o, from, to, present, dirty);
		}
	}
	return rc;
}

static int witness_take(const struct gw_shm *o, struct gw_pageset *dirty)
{
	uint64_t page, n, at = 0, end = (o->witness_len + GW_PAGE_BYTES - 1) >> GW_PAGE_SHIFT;
	int rc = 0;
	while ((n = gw_pageset_next(dirty, at, end, &page))) {
		if (madvise((char *)o->witness + (page << GW_PAGE_SHIFT), n << GW_PAGE_SHIFT, MADV_POPULATE_READ) < 0)
			rc = -EAGAIN; /* it has shrunk */
		at = page + n;
	}
	return rc;
}

/* ---- a look ---- */

static int tell(struct gw_tracker *t, struct gw_shm *o, struct gw_err *e)
{
	if (o->told && o->told_size == o->size)
		return 0;
	const struct gw_space s = gw_shm_space(o);
	int rc = t->sink->space(t->sink->ctx, &s, e);
	if (rc < 0)
		return t->sink_rc = rc;
	o->told = true;
	o->told_size = o->size;
	return 0;
}

struct gw_space gw_shm_space(const struct gw_shm *o)
{
	return (struct gw_space){.id = o->space,
	                         .kind = GW_SPACE_SHMEM,
	                         .pid = o->nnow ? o->now[0].p->pid : 0,
	                         .shmid = o->ino,
	                         .size_bytes = o->size,
	                         .sysv = o->kind == GW_SHM_SYSV,
	                         .fd = o->fd,
	                         .name = o->name};
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
	for (at = 0; is_final && (n = gw_pageset_missing(present, at, PAGES_END, &page)); at = page + n) {
		int rc = gw_emit_drops(t, o->space, &o->reported, page, page + n, e);
		if (rc < 0)
			return rc;
	}
	return gw_emit_flush(t, e);
}

static int find_dirty(struct gw_tracker *t, struct gw_shm *o, struct gw_pageset *present, struct gw_pageset *dirty)
{
	int rc = o->whole ? present_pages(o, present) : present_by_witness(t, o, present, dirty);
	if (rc == 0 && o->whole)
		rc = add_common(present, 0, PAGES_END, dirty);
	for (size_t i = 0; rc == 0 && !o->whole && i < o->nnow; i++)
		rc = written_in(&o->now[i], present, dirty);
	/* One that mapped it has just ended: what it wrote last, nobody knows any more. */
	return rc == -ESRCH ? add_common(present, 0, PAGES_END, dirty) : rc;
}

static int look(struct gw_tracker *t, struct gw_shm *o, bool is_final, struct gw_err *e)
{
	struct gw_pageset present = {0}, dirty = {0};
	if (!o->ours)
		return is_final ? gw_emit_drops(t, o->space, &o->reported, 0, PAGES_END, e) : 0;
	bool grew = !o->witness || o->witness_len != o->size;
	o->whole |= grew;
	int rc = is_final ? 0 : witness_map(o);
	if (rc == 0)
		rc = find_dirty(t, o, &present, &dirty);
	if (rc < 0)
		rc = gw_fail(e, GW_SYS, -rc, "look at shared memory %llu", (unsigned long long)o->ino);
	/* In this order: what is put in a page's place later is seen. */
	bool marked = rc == 0 && !is_final && t->ops->shmem && witness_take(o, &dirty) == 0 && mark(o, &dirty) == 0;
	o->whole = true; /* unless all goes well */
	if (rc == 0)
		rc = tell(t, o, e);
	if (rc == 0)
		rc = report(t, o, &present, &dirty, is_final, e);
	if (rc == 0 && marked)
		o->whole = false;
	t->round.present_pages += present.count;
	gw_pageset_done(&present);
	gw_pageset_done(&dirty);
	return rc;
}

int gw_shm_start(struct gw_tracker *t)
{
	struct stat st;
	gw_auto(fd) int fd = memfd_create("godwit-probe", MFD_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	t->shm_minor = minor(st.st_dev);
	t->own_pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	return t->own_pagemap < 0 ? -errno : 0;
}

int gw_shm_round(struct gw_tracker *t, bool is_final, struct gw_err *e)
{
	bool listed = is_final && t->shm_listed;
	t->shm_listed = false;
	int rc = listed ? 0 : gw_shm_list(t, is_final, e);
	for (size_t i = 0; rc == 0 && i < t->nshm; i++)
		rc = look(t, t->shm[i], is_final, e);
	return rc;
}

int gw_tracker_shmem(struct gw_tracker *t, gw_shmem_fn *fn, void *ctx, struct gw_err *e)
{
	int rc = 0;
	for (size_t i = 0; rc >= 0 && t->shm_listed && i < t->nshm; i++) {
		const struct gw_space s = gw_shm_space(t->shm[i]);
		if (t->shm[i]->ours)
			rc = fn(ctx, &s, e);
	}
	return rc < 0 ? rc : 0;
}
