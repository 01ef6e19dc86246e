#include "move/batch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/io.h"
#include "base/scope.h"

enum { PAGEMAP_WINDOW = 512 };

int gw_batch_read_init(struct gw_batch_read *r)
{
	*r = (struct gw_batch_read){.data = aligned_alloc(GW_PAGE, GW_BATCH_BYTES)};
	return r->data ? 0 : -ENOMEM;
}

void gw_batch_read_done(struct gw_batch_read *r)
{
	free(r->data);
	r->data = NULL;
}

typedef uint64_t vec __attribute__((vector_size(16), may_alias));

bool gw_page_is_zero(const uint8_t *p)
{
	const vec *v = (const vec *)(const void *)p;
	/* In steps of 256 bytes: most pages that are not zero show it at once. */
	for (const vec *end = v + GW_PAGE / sizeof(vec); v < end; v += 16) {
		vec any = v[0];
		for (unsigned i = 1; i < 16; i++)
			any |= v[i];
		if (any[0] | any[1])
			return false;
	}
	return true;
}

/* Where we are in the spans of a batch. */
struct place {
	const struct gw_batch *b;
	uint32_t span, page; /* page of that span */
	uint32_t index;      /* page of the batch */
};

static bool at_end(const struct place *p)
{
	return p->span == p->b->nspans;
}

static uint64_t addr_at(const struct place *p)
{
	return p->b->spans[p->span].addr + (uint64_t)p->page * GW_PAGE;
}

static uint32_t left_in_span(const struct place *p)
{
	return p->b->spans[p->span].npages - p->page;
}

static void step(struct place *p, uint32_t pages)
{
	p->index += pages;
	p->page += pages;
	if (p->page == p->b->spans[p->span].npages) {
		p->span++;
		p->page = 0;
	}
}

static void add_run(struct gw_batch_read *r, uint64_t addr, uint32_t flags)
{
	struct gw_run *last = r->nruns ? &r->runs[r->nruns - 1] : NULL;
	if (last && last->flags == flags && last->addr + (uint64_t)last->npages * GW_PAGE == addr)
		last->npages++;
	else
		r->runs[r->nruns++] = (struct gw_run){.addr = addr, .npages = 1, .flags = flags};
}

/* Pages [from, from + n) of the buffer hold what was read at p. Zero pages
 * are taken out by moving later ones down; *inout_to is where the next goes. */
static void take_pages(struct gw_batch_read *r, struct place *p, uint32_t from, uint32_t n, uint32_t *inout_to)
{
	for (uint32_t i = 0; i < n; i++) {
		const uint8_t *page = r->data + (size_t)(from + i) * GW_PAGE;
		uint64_t addr = addr_at(p);
		step(p, 1);
		r->pages++;
		if (gw_page_is_zero(page)) {
			r->zero_pages++;
			add_run(r, addr, GW_RUN_ZERO);
			continue;
		}
		add_run(r, addr, 0);
		if (*inout_to != from + i)
			memcpy(r->data + (size_t)*inout_to * GW_PAGE, page, GW_PAGE);
		++*inout_to;
	}
}

static void skip_pages(struct gw_batch_read *r, struct place *p, uint32_t n)
{
	while (n) {
		uint64_t addr = addr_at(p);
		uint32_t k = n < left_in_span(p) ? n : left_in_span(p);
		struct gw_span *last = r->nskipped ? &r->skipped[r->nskipped - 1] : NULL;
		if (last && last->addr + (uint64_t)last->npages * GW_PAGE == addr)
			last->npages += k;
		else
			r->skipped[r->nskipped++] = (struct gw_span){.addr = addr, .npages = k};
		step(p, k);
		n -= k;
	}
}

/* Documentation/admin-guide/mm/pagemap.rst */
static bool is_cow_shared(uint64_t entry)
{
	bool present = entry >> 63 & 1, file = entry >> 61 & 1, exclusive = entry >> 56 & 1;
	return present && !file && !exclusive;
}

/* Which pages of b are shared with another process until one writes? Reading
 * them with process_vm_readv would be a write: it pins, and a pin takes such
 * a page's copy first, so that reading eight forked workers would leave them
 * with eight times the memory. -ESRCH when the process is gone. */
static int find_cow_shared(const struct gw_batch *b, bool out[GW_SEND_BATCH_PAGES])
{
	char path[64];
	gw_path(path, sizeof(path), "/proc/%d/pagemap", (int)b->pid);
	gw_auto(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	uint64_t entries[PAGEMAP_WINDOW];
	uint64_t from = 0, have = 0; /* the window: page numbers [from, from + have) */
	for (struct place p = {.b = b}; !at_end(&p); step(&p, 1)) {
		uint64_t page = addr_at(&p) / GW_PAGE;
		if (page < from || page >= from + have) {
			const struct gw_span *last = &b->spans[b->nspans - 1];
			uint64_t until = last->addr / GW_PAGE + last->npages;
			uint64_t want = until > page && until - page < PAGEMAP_WINDOW ? until - page : PAGEMAP_WINDOW;
			ssize_t n = pread(fd, entries, want * sizeof(entries[0]), (off_t)(page * sizeof(entries[0])));
			if (n < 0)
				return -errno;
			from = page;
			have = (uint64_t)n / sizeof(entries[0]);
			if (!have)
				return -ESRCH;
		}
		out[p.index] = is_cow_shared(entries[page - from]);
	}
	return 0;
}

/* Whole pages read from p on, up to the next shared one; 0 when the page at p
 * cannot be read so; -errno. */
static ssize_t read_fast(const struct place *p, const bool *shared, uint8_t *to)
{
	struct iovec from[GW_SEND_BATCH_PAGES];
	unsigned long n = 0;
	size_t bytes = 0;
	for (struct place q = *p; !at_end(&q) && !shared[q.index]; step(&q, 1)) {
		if (n && q.page)
			from[n - 1].iov_len += GW_PAGE;
		else
			from[n++] = (struct iovec){(void *)addr_at(&q), GW_PAGE};
		bytes += GW_PAGE;
	}
	if (!n)
		return 0;
	const struct iovec local = {to, bytes};
	ssize_t got = process_vm_readv(p->b->pid, &local, 1, from, n, 0);
	if (got < 0)
		return errno == EFAULT ? 0 : -errno;
	return got / GW_PAGE;
}

/* /proc/PID/mem takes half as long again, but it does not pin, and like
 * ptrace it does not ask the mapping's protection: a PROT_NONE page has
 * contents all the same. */
static ssize_t read_forced(const struct place *p, const bool *shared, uint8_t *to)
{
	char path[64];
	gw_path(path, sizeof(path), "/proc/%d/mem", (int)p->b->pid);
	gw_auto(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	size_t n = 1;
	while (n < left_in_span(p) && shared[p->index + n])
		n++;
	ssize_t got = pread(fd, to, n * GW_PAGE, (off_t)addr_at(p));
	if (got < 0)
		return errno == EIO || errno == EFAULT ? 0 : -errno;
	/* End of file: the memory is gone, and its process. */
	return got == 0 ? -ESRCH : got / GW_PAGE;
}

/* Holes read as zero; 0: it ends before that. */
static ssize_t read_object(const struct place *p, uint8_t *to)
{
	size_t want = (size_t)left_in_span(p) * GW_PAGE, got = 0;
	while (got < want) {
		ssize_t n = pread(p->b->object, to + got, want - got, (off_t)(addr_at(p) + got));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		got += (size_t)n;
	}
	size_t over = got % GW_PAGE;
	if (!over)
		return (ssize_t)(got / GW_PAGE);
	/* It ends within this page, of which a mapping shows all. */
	uint64_t last = addr_at(p) + got - over;
	void *page = mmap(NULL, GW_PAGE, PROT_READ, MAP_SHARED, p->b->object, (off_t)last);
	if (page == MAP_FAILED)
		return -errno;
	int rc = madvise(page, GW_PAGE, MADV_POPULATE_READ) < 0 ? -errno : 0;
	if (rc == 0)
		memcpy(to + got - over, page, GW_PAGE);
	(void)munmap(page, GW_PAGE);
	/* Not there: it was cut just now. */
	return rc == 0 ? (ssize_t)(got / GW_PAGE) + 1 : rc == -EFAULT ? (ssize_t)(got / GW_PAGE) : rc;
}

static void skip_rest(struct gw_batch_read *r, struct place *p)
{
	while (!at_end(p))
		skip_pages(r, p, left_in_span(p));
}

int gw_batch_read(const struct gw_batch *b, struct gw_batch_read *r, struct gw_err *e)
{
	r->nruns = r->nskipped = r->pages = r->zero_pages = 0;
	bool shared[GW_SEND_BATCH_PAGES];
	uint32_t used = 0;
	struct place p = {.b = b};
	ssize_t n = b->object >= 0 ? 0 : find_cow_shared(b, shared);
	while (n >= 0 && !at_end(&p)) {
		uint8_t *to = r->data + (size_t)used * GW_PAGE;
		n = b->object >= 0 ? read_object(&p, to) : read_fast(&p, shared, to);
		if (n == 0 && b->object < 0)
			n = read_forced(&p, shared, to);
		if (n == 0)
			skip_pages(r, &p, 1);
		else if (n > 0)
			take_pages(r, &p, used, (uint32_t)n, &used);
	}
	if (n == -ESRCH)
		skip_rest(r, &p);
	else if (n < 0)
		return gw_fail(e, GW_SYS, (int)-n, "read memory of process %d", (int)b->pid);
	r->data_bytes = used * GW_PAGE;
	return 0;
}
