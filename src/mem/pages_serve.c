#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/gw_log.h"
#include "base/scope.h"
#include "mem/pages_priv.h"

enum { MESSAGES = 16, READS_AT_ONCE = 4, WAITING_MAX = 1 << 16, ENOMEM_PAUSE_US = 1000 };

static const uint64_t ADDR_WRITE = 1; /* flag in a kept address: the access was a write */

/* ---- life ---- */

struct consumer *consumer_new(struct server *s, int take_uffd, pid_t vpid, struct gw_err *e)
{
	gw_auto(fd) int uffd = take_uffd;
	/* poll() of a blocking userfaultfd reports an error for ever. */
	int flags = fcntl(uffd, F_GETFL);
	if (flags < 0 || fcntl(uffd, F_SETFL, flags | O_NONBLOCK) < 0) {
		(void)gw_fail(e, GW_SYS, errno, "userfaultfd of process %d", vpid);
		return NULL;
	}
	struct consumer *c = calloc(1, sizeof(*c));
	if (!c) {
		(void)gw_fail(e, GW_SYS, ENOMEM, "process %d", vpid);
		return NULL;
	}
	*c = (struct consumer){.uffd = gw_take_fd(&uffd), .vpid = vpid, .mine = {.fd = -1}, .next = s->consumers};
	s->consumers = c;
	atomic_store(&s->shared->holds, 1);
	return c;
}

static void consumer_free(struct consumer *c)
{
	if (c->uffd >= 0)
		(void)close(c->uffd);
	gw_bits_done(&c->mine);
	gw_map_done(&c->map);
	free(c->waiting);
	free(c);
}

static void watch(struct server *s, struct consumer *c)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
	if (epoll_ctl(s->epoll, EPOLL_CTL_ADD, c->uffd, &ev) < 0)
		pages_fail(s, errno, "watch the page faults of process %d", c->vpid);
}

static void join_space(struct consumer *c, struct space *sp)
{
	c->space = sp;
	c->sibling = sp->first;
	sp->first = c;
}

void consumer_attach(struct server *s, struct consumer *c)
{
	struct space *sp = NULL;
	/* A pid that was used twice on the source: the later space is the living one. */
	for (struct space *i = s->spaces; i; i = i->next)
		if (i->vpid == c->vpid && (!sp || i->id > sp->id))
			sp = i;
	if (!sp) {
		pages_fail(s, ENOENT, "CRIU restored process %d, of which no memory has come", c->vpid);
		return;
	}
	if (sp->first) {
		pages_fail(s, EBUSY, "CRIU restored process %d twice", c->vpid);
		return;
	}
	if (gw_map_init(&c->map) < 0) {
		pages_fail(s, ENOMEM, "process %d", c->vpid);
		return;
	}
	c->left = &sp->data;
	c->left_pages = sp->total_pages;
	join_space(c, sp);
	watch(s, c);
}

static void count_left(struct server *s, int64_t pages)
{
	(void)atomic_fetch_add(&s->shared->left_bytes, (uint64_t)(pages * (int64_t)GW_PAGE_BYTES));
}

static void took(struct server *s, struct consumer *c, uint64_t pages)
{
	c->left_pages -= pages;
	count_left(s, -(int64_t)pages);
	if (c->left_pages == 0)
		s->sweep = true;
}

void consumer_end(struct server *s, struct consumer *c)
{
	if (c->uffd < 0)
		return;
	(void)epoll_ctl(s->epoll, EPOLL_CTL_DEL, c->uffd, NULL);
	(void)close(gw_take_fd(&c->uffd));
	s->nwaiting -= c->nwaiting > 0;
	c->nwaiting = 0;
	if (c->parent)
		s->nunsettled--;
	c->parent = NULL;
	for (struct consumer *k = s->consumers; k && s->nunsettled; k = k->next)
		if (k->parent == c) {
			k->parent = NULL;
			s->nunsettled--;
			watch(s, k);
		}
	if (c->space && c->left_pages) {
		/* Its process is gone: what it had left is what nobody may keep in the store. */
		(void)gw_bits_clear(c->left, 0, GW_BITS_PAGES);
		took(s, c, c->left_pages);
		release_later(s, c->space, 0, GW_BITS_PAGES);
	}
	s->sweep = true;
}

static void leave_space(struct consumer *c)
{
	for (struct consumer **p = c->space ? &c->space->first : NULL; p && *p; p = &(*p)->sibling)
		if (*p == c) {
			*p = c->sibling;
			return;
		}
}

void consumers_sweep(struct server *s)
{
	/* Before the restore is whole, CRIU may still register mappings with a drained one. */
	for (struct consumer *c = s->consumers; c && s->restored; c = c->next)
		if (c->left_pages == 0)
			consumer_end(s, c);
	for (struct consumer **p = &s->consumers; *p;) {
		struct consumer *c = *p;
		if (c->uffd >= 0) {
			p = &c->next;
			continue;
		}
		*p = c->next;
		leave_space(c);
		consumer_free(c);
	}
	s->sweep = false;
}

/* ---- copies ---- */

/* The kernel looks at mmap_changing before anything else, so a copy of
 * nothing is EAGAIN while an event is on its way, and EINVAL otherwise. */
static bool quiet(const struct consumer *c)
{
	struct uffdio_copy k = {.len = 0};
	return c->uffd < 0 || (ioctl(c->uffd, UFFDIO_COPY, &k) < 0 && errno != EAGAIN);
}

enum ioctl_result { IO_DONE, IO_PRESENT, IO_UNMAPPED, IO_LATER, IO_GONE, IO_FAILED };

static enum ioctl_result judge(struct server *s, struct consumer *c, int err, const char *what, uint64_t addr)
{
	switch (err) {
	case EEXIST: return IO_PRESENT;
	case ENOENT:
		/* Linux 6.9 and later look for the mapping before they see that one is
		 * on the move: only without an event on its way it is really gone. */
		if (quiet(c))
			return IO_UNMAPPED;
		[[fallthrough]];
	case EAGAIN: c->changing = true; return IO_LATER;
	case ENOMEM:
		/* The container's memory limit: its own reclaim or OOM killer decides. */
		s->pause_us = ENOMEM_PAUSE_US;
		return IO_LATER;
	case ESRCH: consumer_end(s, c); return IO_GONE;
	default:
		pages_fail(s, err, "%s of process %d at 0x%llx", what, c->vpid, (unsigned long long)addr);
		return IO_FAILED;
	}
}

/* *out_pages are in place; the result is about the page behind them. */
static enum ioctl_result copy_in(struct server *s, struct consumer *c, uint64_t addr, const char *from, uint64_t npages,
                                 uint64_t *out_pages)
{
	struct uffdio_copy k = {.dst = addr, .src = (uintptr_t)from, .len = npages * GW_PAGE_BYTES};
	int err = ioctl(c->uffd, UFFDIO_COPY, &k) < 0 ? errno : 0;
	*out_pages = k.copy > 0 ? (uint64_t)k.copy / GW_PAGE_BYTES : 0;
	if (*out_pages) {
		c->changing = false;
		c->nmoves = 0;
	}
	/* Stopped half way: EAGAIN stands for whatever stopped it, trying on will tell. */
	if (*out_pages && err == EAGAIN)
		err = 0;
	return err ? judge(s, c, err, "copy memory", addr) : IO_DONE;
}

static enum ioctl_result zero_in(struct server *s, struct consumer *c, uint64_t addr, uint64_t npages)
{
	struct uffdio_zeropage z = {.range = {.start = addr, .len = npages * GW_PAGE_BYTES}};
	if (ioctl(c->uffd, UFFDIO_ZEROPAGE, &z) == 0 || z.zeropage > 0)
		return IO_DONE;
	return judge(s, c, errno, "clear memory", addr);
}

static void wake(struct consumer *c, uint64_t addr)
{
	struct uffdio_range r = {.start = addr, .len = GW_PAGE_BYTES};
	(void)ioctl(c->uffd, UFFDIO_WAKE, &r);
}

bool consumer_blocked(struct consumer *c)
{
	if (c->parent)
		return true;
	if (c->changing && quiet(c))
		c->changing = false;
	return c->changing;
}

static void in_place(struct server *s, struct consumer *c, uint64_t page, uint64_t n)
{
	took(s, c, gw_bits_clear(c->left, page, n));
}

/* A copy must lie within one mapping: ENOENT for several pages says only that this does not. */
static bool fill_run(struct server *s, struct consumer *c, uint64_t page, uint64_t n, uint64_t addr, const char *from)
{
	uint64_t step = n;
	while (n) {
		uint64_t done = 0, k = step < n ? step : n;
		enum ioctl_result r = copy_in(s, c, addr, from, k, &done);
		if (r == IO_UNMAPPED && k > 1) {
			step = k / 2;
			continue;
		}
		if (r == IO_UNMAPPED && !s->restored)
			return false;
		if (r == IO_PRESENT || r == IO_UNMAPPED) {
			wake(c, addr);
			done = 1;
		}
		(void)atomic_fetch_add(&s->shared->copied_bytes, r == IO_DONE ? done * GW_PAGE_BYTES : 0);
		in_place(s, c, page, done);
		if (r == IO_LATER || r == IO_GONE || r == IO_FAILED)
			return r == IO_GONE;
		page += done;
		n -= done;
		addr += done * GW_PAGE_BYTES;
		from += done * GW_PAGE_BYTES;
	}
	return true;
}

bool consumer_fill(struct server *s, struct consumer *c, uint64_t page, uint64_t n, char *buf)
{
	if (consumer_blocked(c))
		return false;
	uint64_t first = page, end = page + n, addr, len;
	while (c->uffd >= 0 && (page = gw_bits_next(c->left, page, end)) < end) {
		uint64_t run = gw_bits_run(c->left, page, end - page, true);
		if (!gw_map_where(&c->map, page * GW_PAGE_BYTES, &addr, &len)) {
			in_place(s, c, page, 1);
			page++;
			continue;
		}
		run = run < len / GW_PAGE_BYTES ? run : len / GW_PAGE_BYTES;
		if (!fill_run(s, c, page, run, addr, buf + (page - first) * GW_PAGE_BYTES))
			return false;
		page += run;
	}
	return true;
}

/* ---- page faults ---- */

static void wait_on(struct server *s, struct consumer *c, uint64_t addr)
{
	if (c->nwaiting == c->cap_waiting) {
		size_t cap = c->cap_waiting ? c->cap_waiting * 2 : 16;
		uint64_t *more = cap <= WAITING_MAX ? realloc(c->waiting, cap * sizeof(*more)) : NULL;
		if (!more) {
			/* Woken without its page, the thread faults again: slower, not wrong. */
			wake(c, addr & ~ADDR_WRITE);
			return;
		}
		c->waiting = more;
		c->cap_waiting = cap;
	}
	s->nwaiting += c->nwaiting == 0;
	c->waiting[c->nwaiting++] = addr;
}

/* How many pages from addr on have nothing coming, at most to the end of their piece. */
static uint64_t empty_run(const struct consumer *c, uint64_t addr)
{
	uint64_t end = (addr | (PIECE_PAGES * GW_PAGE_BYTES - 1)) + 1, at = addr;
	struct gw_map_range r;
	while (gw_map_next(&c->map, at, end, &r)) {
		uint64_t page = r.img / GW_PAGE_BYTES, n = (r.end - r.start) / GW_PAGE_BYTES;
		uint64_t clear = gw_bits_run(c->left, page, n, false);
		at = r.start + clear * GW_PAGE_BYTES;
		if (clear < n)
			return (at - addr) / GW_PAGE_BYTES;
	}
	return (end - addr) / GW_PAGE_BYTES;
}

/* Fresh memory: the neighbours too, they are asked for next. The zero page costs no memory. */
static enum ioctl_result answer_zero(struct server *s, struct consumer *c, uint64_t addr, bool is_write)
{
	uint64_t n = s->restored ? empty_run(c, addr) : 1, done;
	enum ioctl_result r = IO_UNMAPPED;
	if (!is_write && n > 1)
		r = zero_in(s, c, addr, n);
	if (!is_write && r == IO_UNMAPPED) /* more than one mapping, or none */
		r = zero_in(s, c, addr, 1);
	if (!is_write)
		return r;
	r = copy_in(s, c, addr, s->zero, 1, &done);
	if (r == IO_DONE && n > 1) {
		struct uffdio_zeropage z = {.range = {.start = addr + GW_PAGE_BYTES, .len = (n - 1) * GW_PAGE_BYTES}};
		(void)ioctl(c->uffd, UFFDIO_ZEROPAGE, &z); /* a favour: no matter if it fails */
	}
	return r;
}

static enum ioctl_result answer_data(struct server *s, struct consumer *c, uint64_t addr, uint64_t page)
{
	uint64_t done;
	if (space_read(s, c->space, page, 1, s->buf) < 0)
		return IO_FAILED;
	enum ioctl_result r = copy_in(s, c, addr, s->buf, 1, &done);
	if (r == IO_DONE)
		(void)atomic_fetch_add(&s->shared->copied_bytes, GW_PAGE_BYTES);
	if (r == IO_DONE || r == IO_PRESENT) {
		struct space *sp = c->space;
		in_place(s, c, page, 1);
		release_later(s, sp, page, 1);
		fill_hot(s, sp, page);
	}
	return r;
}

static bool answer(struct server *s, struct consumer *c, uint64_t kept)
{
	uint64_t addr = kept & ~(GW_PAGE_BYTES - 1);
	struct gw_map_range r;
	bool mapped = gw_map_next(&c->map, addr, addr + GW_PAGE_BYTES, &r);
	bool has = mapped && gw_bits_test(c->left, r.img / GW_PAGE_BYTES);
	enum ioctl_result io =
	        has ? answer_data(s, c, addr, r.img / GW_PAGE_BYTES) : answer_zero(s, c, addr, kept & ADDR_WRITE);
	if (io == IO_LATER)
		return false;
	if (io == IO_PRESENT || io == IO_UNMAPPED)
		wake(c, addr);
	uint64_t us = (gw_now_ns() - s->asked_ns) / 1000;
	if (us > atomic_load_explicit(&s->shared->fault_us_max, memory_order_relaxed))
		atomic_store_explicit(&s->shared->fault_us_max, us, memory_order_relaxed);
	return true;
}

static void on_fault(struct server *s, struct consumer *c, const struct uffd_msg *m)
{
	uint64_t addr = m->arg.pagefault.address & ~(uint64_t)(GW_PAGE_BYTES - 1);
	if (m->arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WRITE)
		addr |= ADDR_WRITE;
	(void)atomic_fetch_add_explicit(&s->shared->faults, 1, memory_order_relaxed);
	if (!answer(s, c, addr))
		wait_on(s, c, addr);
}

static void retry_faults(struct server *s, struct consumer *c)
{
	size_t kept = 0, n = c->nwaiting;
	for (size_t i = 0; i < n && c->uffd >= 0; i++)
		if (consumer_blocked(c) || !answer(s, c, c->waiting[i]))
			c->waiting[kept++] = c->waiting[i];
	if (c->uffd < 0)
		return;
	c->nwaiting = kept;
	s->nwaiting -= kept == 0;
}

/* ---- events ---- */

static void drop(struct server *s, struct consumer *c, uint64_t start, uint64_t end)
{
	struct gw_map_range r;
	for (uint64_t at = start; gw_map_next(&c->map, at, end, &r); at = r.end) {
		uint64_t page = r.img / GW_PAGE_BYTES, n = (r.end - r.start) / GW_PAGE_BYTES;
		uint64_t gone = gw_bits_clear(c->left, page, n);
		if (gone) {
			took(s, c, gone);
			release_later(s, c->space, page, n);
		}
	}
}

static void apply_move(struct server *s, struct consumer *c, struct move m)
{
	drop(s, c, m.to, m.to + m.len);
	int rc = gw_map_move(&c->map, m.from, m.to, m.len);
	if (rc < 0)
		pages_fail(s, -rc, "follow a mapping of process %d that moved", c->vpid);
}

/* Events of different threads are read in another order than they happened:
 * an mremap whose event comes right before or after that of a fork may have
 * been on the other side of it. Where the child has the memory, the kernel
 * says: the copy of a page that belongs there anyway is ENOENT where it is not. */
static void settle_move(struct server *s, struct consumer *child, struct move m, bool is_applied)
{
	uint64_t base = is_applied ? m.to : m.from;
	struct gw_map_range r;
	for (uint64_t at = base; gw_map_next(&child->map, at, base + m.len, &r); at = r.end) {
		uint64_t first = r.img / GW_PAGE_BYTES, end = first + (r.end - r.start) / GW_PAGE_BYTES, done;
		uint64_t page = gw_bits_next(child->left, first, end);
		if (page == end)
			continue;
		uint64_t off = r.start - base + (page - first) * GW_PAGE_BYTES;
		if (space_read(s, child->space, page, 1, s->buf) < 0)
			return;
		enum ioctl_result io = copy_in(s, child, m.to + off, s->buf, 1, &done);
		bool is_there = io == IO_DONE || io == IO_PRESENT;
		if (is_there)
			in_place(s, child, page, 1);
		if (is_there && !is_applied)
			apply_move(s, child, m);
		else if (io == IO_UNMAPPED && is_applied)
			apply_move(s, child, (struct move){.from = m.to, .to = m.from, .len = m.len});
		return;
	}
}

static void on_remap(struct server *s, struct consumer *c, const struct uffd_msg *m)
{
	struct move mv = {.from = m->arg.remap.from, .to = m->arg.remap.to, .len = m->arg.remap.len};
	apply_move(s, c, mv);
	for (struct consumer *k = c->space->first; k && s->nunsettled; k = k->sibling)
		if (k->parent == c && k->uffd >= 0)
			settle_move(s, k, mv, false);
	if (c->nmoves == MOVES_KEPT)
		memmove(&c->moves[0], &c->moves[1], --c->nmoves * sizeof(*c->moves));
	c->moves[c->nmoves++] = mv;
}

static int inherit(struct server *s, struct consumer *child, struct consumer *c)
{
	int rc = gw_map_copy(&child->map, &c->map);
	if (rc == 0)
		rc = gw_bits_copy(&child->mine, c->left);
	if (rc < 0)
		return rc;
	child->left = &child->mine;
	child->left_pages = c->left_pages;
	count_left(s, (int64_t)child->left_pages);
	join_space(child, c->space);
	for (size_t i = 0; i < c->space->nwipe; i++)
		in_place(s, child, c->space->wipe[i].page, c->space->wipe[i].n);
	return 0;
}

static void on_fork(struct server *s, struct consumer *c, const struct uffd_msg *m)
{
	struct gw_err e;
	struct consumer *child = consumer_new(s, (int)m->arg.fork.ufd, c->vpid, &e);
	if (!child) {
		pages_fail(s, e.err, "follow a fork: %s", e.text);
		return;
	}
	wipe_finish(s);
	int rc = inherit(s, child, c);
	if (rc < 0) {
		pages_fail(s, -rc, "follow a fork of process %d", c->vpid);
		return;
	}
	for (unsigned i = c->nmoves; i > 0 && child->uffd >= 0; i--)
		settle_move(s, child, c->moves[i - 1], true);
	if (child->uffd < 0)
		return;
	if (quiet(c)) {
		watch(s, child);
		return;
	}
	child->parent = c;
	s->nunsettled++;
}

static void on_message(struct server *s, struct consumer *c, const struct uffd_msg *m)
{
	if (m->event != UFFD_EVENT_PAGEFAULT)
		s->event_us = gw_now_us();
	switch (m->event) {
	case UFFD_EVENT_PAGEFAULT: on_fault(s, c, m); break;
	case UFFD_EVENT_FORK: on_fork(s, c, m); break;
	case UFFD_EVENT_REMAP: on_remap(s, c, m); break;
	case UFFD_EVENT_REMOVE:
	case UFFD_EVENT_UNMAP: drop(s, c, m->arg.remove.start, m->arg.remove.end); break;
	default: pages_fail(s, EPROTO, "unknown userfaultfd event 0x%x", m->event); break;
	}
}

/* The kernel hands out faults before events, also those of threads that saw
 * what the event tells of, and an event that was read holds no copy back any
 * more: so first the events. */
static void on_messages(struct server *s, struct consumer *c, const struct uffd_msg *m, size_t n)
{
	for (unsigned faults = 0; faults < 2; faults++)
		for (size_t i = 0; i < n && !s->failed; i++) {
			if ((m[i].event == UFFD_EVENT_PAGEFAULT) != faults)
				continue;
			if (c->uffd >= 0)
				on_message(s, c, &m[i]);
			else if (m[i].event == UFFD_EVENT_FORK)
				(void)close((int)m[i].arg.fork.ufd);
		}
}

void consumer_read(struct server *s, struct consumer *c)
{
	struct uffd_msg m[MESSAGES];
	for (int i = 0; i < READS_AT_ONCE && c->uffd >= 0 && !s->failed; i++) {
		ssize_t n = read(c->uffd, m, sizeof(m));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			pages_fail(s, n < 0 ? errno : EPIPE, "read the page faults of process %d", c->vpid);
			return;
		}
		size_t k = (size_t)n / sizeof(*m);
		on_messages(s, c, m, k);
		if (k < MESSAGES)
			return;
	}
}

void consumers_retry(struct server *s)
{
	for (struct consumer *c = s->consumers; c && (s->nwaiting || s->nunsettled); c = c->next) {
		if (c->uffd < 0)
			continue;
		if (c->parent && quiet(c->parent)) {
			c->parent = NULL;
			s->nunsettled--;
			watch(s, c);
		}
		if (c->nwaiting)
			retry_faults(s, c);
	}
}
