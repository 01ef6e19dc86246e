#include "mem/track_uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/scope.h"
#include "mem/inject.h"
#include "mem/scan.h"
#include "mem/track_impl.h"
#include "mem/track_probe.h"

/* The userfaultfd backend.
 *
 * How a write is seen: a scan protects what it reports. The next write to
 * such a page takes a fault that only removes the protection (WP_ASYNC: no
 * message, nobody waits), and a page without it counts as written. A page
 * that is new has none from the start.
 *
 * How a mapping is seen: one that is not registered with our descriptor
 * (new, moved, mapped over) makes a scan fail with EPERM; then it is
 * registered and reported whole. */

enum {
	REGIONS = 16384, /* 384 KiB */
	JOB_PAGES = 64 << 10,
	TWO_THREADS_PAGES = 128 << 10, /* 512 MiB: below, starting a thread costs what it saves */
};
#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL /* linux/pidfd.h, since 6.9 */
#endif

int gw_uffd_api(int uffd)
{
	struct uffdio_api api = {.api = UFFD_API,
	                         .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_ASYNC |
	                                     UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_WP_HUGETLBFS_SHMEM};
	return ioctl(uffd, UFFDIO_API, &api) < 0 ? -errno : 0;
}

int gw_uffd_register(int uffd, uint64_t start, uint64_t end)
{
	struct uffdio_register r = {.range = {.start = start, .len = end - start}, .mode = UFFDIO_REGISTER_MODE_WP};
	if (ioctl(uffd, UFFDIO_REGISTER, &r) == 0)
		return 0;
	return errno == ENOENT ? -EINVAL : -errno;
}

int gw_uffd_protect(int uffd, uint64_t start, uint64_t end, bool on)
{
	struct uffdio_writeprotect w = {.range = {.start = start, .len = end - start},
	                                .mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0};
	return ioctl(uffd, UFFDIO_WRITEPROTECT, &w) < 0 ? -errno : 0;
}

/* ---- setting up ---- */

struct take {
	struct gw_tracker *t;
	struct gw_proc *p;
	bool leaks;
	int uffd;
	struct gw_inject *in;
};

static int take_fd(struct take *k, int remote)
{
	pid_t tid = gw_inject_tid(k->in);
	gw_auto(fd) int of_thread = tid == k->p->pid ? -1 : (int)syscall(SYS_pidfd_open, tid, PIDFD_THREAD);
	int fd = (int)syscall(SYS_pidfd_getfd, of_thread >= 0 ? of_thread : k->p->pidfd, remote, 0);
	return fd < 0 ? -errno : fd;
}

static void close_leak(void *ctx, int fd)
{
	struct take *k = ctx;
	int64_t ret;
	(void)gw_inject_call(k->in, SYS_close, (const uint64_t[6]){(uint64_t)fd}, &ret);
}

/* In the process's thread. Whatever happens, no descriptor stays behind. */
static int take_body(struct gw_inject *in, void *ctx, struct gw_err *e)
{
	struct take *k = ctx;
	const uint64_t args[6] = {O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY};
	int64_t remote, ret;
	k->in = in;
	int rc = gw_inject_call(in, SYS_userfaultfd, args, &remote);
	if (rc < 0)
		return gw_fail(e, GW_RETRY, -rc, "make a userfaultfd in process %d: %s", k->p->pid, strerror(-rc));
	if (remote == -EMFILE || remote == -ENFILE)
		return gw_fail(e, GW_INPUT, EMFILE,
		               "process %d has no descriptor left for the moment that tracking needs one: raise its "
		               "RLIMIT_NOFILE",
		               k->p->pid);
	if (remote < 0)
		return gw_fail(e, GW_SYS, (int)-remote, "make a userfaultfd in process %d", k->p->pid);
	k->uffd = take_fd(k, (int)remote);
	rc = gw_inject_call(in, SYS_close, (const uint64_t[6]){(uint64_t)remote}, &ret);
	if (rc < 0)
		return gw_fail(e, GW_RETRY, -rc, "close a userfaultfd in process %d", k->p->pid);
	if (k->uffd < 0)
		return gw_fail(e, GW_RETRY, -k->uffd, "take the userfaultfd of process %d", k->p->pid);
	if (k->leaks)
		(void)gw_track_leaks(k->t, k->p->pid, close_leak, k);
	return 0;
}

static int uffd_setup(struct gw_tracker *t, struct gw_proc *p, struct gw_err *e)
{
	struct take k = {.t = t, .p = p, .uffd = -1, .leaks = gw_track_leaked(t, p)};
	uint64_t stopped = 0;
	int rc = gw_inject_run(p->pid, take_body, &k, &stopped, e);
	gw_auto(fd) int uffd = k.uffd;
	if (stopped > t->round.stopped_us)
		t->round.stopped_us = stopped;
	if (rc < 0)
		return rc;
	rc = gw_uffd_api(uffd);
	if (rc < 0)
		return gw_fail(e, GW_RETRY, -rc, "turn on the userfaultfd of process %d", p->pid);
	int pagemap = gw_proc_open(p->pid, "pagemap", O_RDONLY);
	if (pagemap < 0)
		return gw_fail(e, GW_SYS, -pagemap, "open the page map of process %d", p->pid);
	p->pagemap = pagemap;
	p->uffd = gw_take_fd(&uffd);
	return 0;
}

static void uffd_forget(struct gw_proc *p)
{
	if (p->uffd >= 0)
		(void)close(p->uffd);
	p->uffd = -1;
}

/* ---- running rounds ---- */

static int scan_failed(const struct gw_proc *p, int rc, struct gw_err *e)
{
	return gw_fail(e, GW_SYS, -rc, "scan the pages of process %d", p->pid);
}

static int report(struct gw_tracker *t, struct gw_proc *p, const struct page_region *r, ssize_t n, struct gw_err *e)
{
	int rc = 0;
	for (ssize_t i = 0; rc == 0 && i < n; i++)
		rc = gw_round_dirty(t, p, r[i].start, r[i].end, e);
	return rc;
}

/* Report and protect all of [at, end), written or not. 1: ask again next
 * round. A page that comes up as not written although we have just registered
 * it has kept its mark from a mapping that was ours before (mremap can merge a
 * moved mapping into a neighbour, and then nobody tracks either); the mark
 * means nothing any more, the page may even be writable: take it off first. */
static int protect_all(struct gw_tracker *t, struct gw_proc *p, uint64_t at, uint64_t end, struct page_region *buf,
                       struct gw_err *e)
{
	int again = 0;
	while (at < end) {
		ssize_t n = gw_scan(p->pagemap, GW_SCAN_PROTECT_ALL, &at, end, buf, REGIONS);
		if (n < 0)
			return scan_failed(p, (int)n, e);
		for (ssize_t i = 0; i < n; i++) {
			struct page_region scratch[8];
			uint64_t from = buf[i].start;
			if (buf[i].categories & PAGE_IS_WRITTEN)
				continue;
			if (gw_uffd_protect(p->uffd, from, buf[i].end, false) < 0)
				again = 1;
			while (from < buf[i].end)
				if (gw_scan(p->pagemap, GW_SCAN_PROTECT_ALL, &from, buf[i].end, scratch,
				            gw_countof(scratch)) < 0)
					return scan_failed(p, EIO, e);
		}
		int rc = report(t, p, buf, n, e);
		if (rc < 0)
			return rc;
	}
	return again;
}

static int take_on(struct gw_tracker *t, struct gw_proc *p, uint64_t at, uint64_t end, struct page_region *buf,
                   struct gw_err *e)
{
	int rc = gw_uffd_register(p->uffd, at, end);
	if (rc == -EBUSY)
		return gw_fail(e, GW_RETRY, EBUSY,
		               "process %d has memory under another userfaultfd: its own, or that of a migration whose "
		               "pages are still coming in",
		               p->pid);
	bool none = rc == -EINVAL || rc == -EPERM;
	if (rc < 0 && !none && !gw_proc_memory_alive(p))
		return -ESRCH;
	/* The userfaultfd was made a moment before the page map was opened, and exec came between. */
	if (rc == -ENOMEM && p->stales++ < GW_STALES_MAX) {
		p->stale = true;
		return -ESRCH;
	}
	if (rc < 0 && !none)
		return gw_fail(e, GW_SYS, -rc, "register memory of process %d", p->pid);
	/* Also when nothing was: the scan that failed may have protected some. */
	return protect_all(t, p, at, end, buf, e);
}

static int run_vma(struct gw_tracker *t, struct gw_proc *p, const struct gw_vma *v, struct page_region *buf,
                   struct gw_err *e)
{
	uint64_t at = v->start;
	if (p->fresh)
		return take_on(t, p, at, v->end, buf, e);
	while (at < v->end) {
		uint64_t from = at;
		ssize_t n = gw_scan(p->pagemap, GW_SCAN_PROTECT_WRITTEN, &at, v->end, buf, REGIONS);
		if (n == -EPERM)
			return take_on(t, p, from, v->end, buf, e);
		if (n < 0)
			return scan_failed(p, (int)n, e);
		int rc = report(t, p, buf, n, e);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int uffd_run(struct gw_tracker *t, struct gw_proc *p, struct gw_err *e)
{
	gw_auto(mem) struct page_region *buf = malloc(REGIONS * sizeof(*buf));
	if (!buf)
		return gw_fail(e, GW_SYS, ENOMEM, "scan the pages of process %d", p->pid);
	int again = 0;
	for (size_t i = 0; i < p->maps.n; i++) {
		if (!p->maps.v[i].ours)
			continue;
		int rc = run_vma(t, p, &p->maps.v[i], buf, e);
		if (rc < 0)
			return rc;
		again |= rc;
	}
	return again;
}

/* ---- the final round ----
 *
 * Two scans a piece (scan.h), in two threads when there is enough to do; what
 * they find goes to the sink afterwards, from the caller's thread. */
struct job {
	struct gw_proc *p;
	uint64_t start, end;
	struct page_region *dirty, *absent;
	size_t ndirty, nabsent;
	int rc;
};

struct jobs {
	struct job *v;
	size_t n, cap;
	atomic_size_t next;
};

static int collect(int pagemap, enum gw_scan_kind kind, uint64_t at, uint64_t end, struct page_region **out,
                   size_t *out_n)
{
	enum { FIRST = 512 };
	size_t n = 0, cap = 0;
	while (at < end) {
		if (n == cap) {
			size_t more_cap = cap ? cap * 2 : FIRST;
			struct page_region *more = reallocarray(*out, more_cap, sizeof(*more));
			if (!more)
				return -ENOMEM;
			*out = more;
			cap = more_cap;
		}
		ssize_t got = gw_scan(pagemap, kind, &at, end, *out + n, cap - n);
		if (got < 0)
			return (int)got;
		n += (size_t)got;
	}
	*out_n = n;
	return 0;
}

static void job_do(struct job *j)
{
	const struct gw_proc *p = j->p;
	enum gw_scan_kind kind = p->tracked && !p->fresh ? GW_SCAN_WRITTEN : GW_SCAN_ALL;
	j->rc = collect(p->pagemap, kind, j->start, j->end, &j->dirty, &j->ndirty);
	if (j->rc == -EPERM)
		j->rc = collect(p->pagemap, GW_SCAN_ALL, j->start, j->end, &j->dirty, &j->ndirty);
	if (j->rc == 0)
		j->rc = collect(p->pagemap, GW_SCAN_ABSENT, j->start, j->end, &j->absent, &j->nabsent);
}

static void *work(void *arg)
{
	struct jobs *js = arg;
	size_t i;
	while ((i = atomic_fetch_add(&js->next, 1)) < js->n)
		job_do(&js->v[i]);
	return NULL;
}

static int job_add(struct jobs *js, struct gw_proc *p, uint64_t start, uint64_t end)
{
	if (js->n == js->cap) {
		size_t cap = js->cap ? js->cap * 2 : 64;
		struct job *more = reallocarray(js->v, cap, sizeof(*more));
		if (!more)
			return -ENOMEM;
		js->v = more;
		js->cap = cap;
	}
	js->v[js->n++] = (struct job){.p = p, .start = start, .end = end};
	return 0;
}

static int plan(struct gw_tracker *t, struct jobs *js, uint64_t *pages)
{
	for (size_t k = 0; k < t->n; k++) {
		struct gw_proc *p = t->v[k];
		if (p->ended || !p->held)
			continue;
		if (p->pagemap < 0)
			p->pagemap = gw_proc_open(p->pid, "pagemap", O_RDONLY);
		if (p->pagemap == -ESRCH) {
			p->held = false; /* killed while frozen */
			continue;
		}
		if (p->pagemap < 0)
			return p->pagemap;
		*pages += p->reported.count;
		for (size_t i = 0; i < p->maps.n; i++) {
			const struct gw_vma *v = &p->maps.v[i];
			for (uint64_t at = v->start; v->ours && at < v->end;) {
				uint64_t end = gw_pageset_cut(&p->reported, at >> GW_PAGE_SHIFT,
				                              v->end >> GW_PAGE_SHIFT, JOB_PAGES)
				               << GW_PAGE_SHIFT;
				int rc = job_add(js, p, at, end);
				if (rc < 0)
					return rc;
				at = end;
			}
		}
	}
	return 0;
}

static int hand_over(struct gw_tracker *t, const struct job *j, struct gw_err *e)
{
	if (j->rc < 0)
		return scan_failed(j->p, j->rc, e);
	int rc = report(t, j->p, j->dirty, (ssize_t)j->ndirty, e);
	for (size_t i = 0; rc == 0 && i < j->nabsent; i++)
		if (gw_region_absent(&j->absent[i]))
			rc = gw_round_absent(t, j->p, j->absent[i].start, j->absent[i].end, e);
	return rc;
}

static int uffd_last(struct gw_tracker *t, struct gw_err *e)
{
	struct jobs js = {0};
	uint64_t pages = 0;
	pthread_t second;
	sigset_t all, old;
	int rc = plan(t, &js, &pages);
	if (rc < 0)
		rc = gw_fail(e, GW_SYS, -rc, "prepare the last scan");
	else {
		sigfillset(&all);
		(void)pthread_sigmask(SIG_SETMASK, &all, &old);
		bool two = pages >= TWO_THREADS_PAGES && pthread_create(&second, NULL, work, &js) == 0;
		(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
		(void)work(&js);
		if (two)
			(void)pthread_join(second, NULL);
	}
	for (size_t i = 0; i < js.n; i++) {
		if (rc == 0)
			rc = hand_over(t, &js.v[i], e);
		free(js.v[i].dirty);
		free(js.v[i].absent);
	}
	free(js.v);
	return rc;
}

const struct gw_track_ops gw_track_uffd = {.id = GW_TRACK_UFFD,
                                           .name = "uffd",
                                           .setup = uffd_setup,
                                           .run = uffd_run,
                                           .last = uffd_last,
                                           .forget = uffd_forget,
                                           .shmem = true};
