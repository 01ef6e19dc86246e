/* scan_pages: large files, page by page (pagelog.h).
 *
 * A file that is large gets a number at its first whole look, the kernel is told of
 * it at the end of that round, and the next look at all of it is the base: each page
 * is clean and in the cache before it is read, or stays marked. From then on a look
 * reads the marked pages only, and sends those whose sum is another. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/gw_log.h"
#include "base/io.h"
#include "base/scope.h"
#include "files/scan_priv.h"
#include "files/sum.h"

enum { PAGE = GW_SCAN_BLOCK, PIECE_PAGES = GW_SCAN_PIECE / PAGE };
/* From here on a file is followed: that is changed; that is there. */
static const uint64_t LARGE = 1 << 20, VERY_LARGE = 16 << 20;

static uint64_t pages_of(uint64_t size)
{
	return (size + PAGE - 1) / PAGE;
}

static bool is_hole(int fd, uint64_t from, uint64_t to, uint64_t *inout_data)
{
	if (*inout_data <= from) {
		off_t at = lseek(fd, (off_t)from, SEEK_DATA);
		*inout_data = at >= 0 ? (uint64_t)at : errno == ENXIO ? UINT64_MAX : from;
	}
	return *inout_data >= to;
}

/* Into the cache, and clean? It is read after this. */
static int settle(struct gw_scan *s, struct gw_known_inode *i, int fd, uint64_t page, size_t n, size_t bytes)
{
	size_t got;
	if (gw_cache_settled(fd, page * PAGE, bytes))
		return 0;
	int rc = gw_scan_read(s, fd, page * PAGE, bytes, &got);
	if (rc == 0 && !gw_cache_settled(fd, page * PAGE, bytes))
		gw_pagelog_mark(s->log, i->log_file, page, n);
	return rc;
}

/* ---- the base ---- */

/* Before a whole look: what is not settled stays marked. */
static int settle_all(struct gw_scan *s, struct gw_known_inode *i, int fd, uint64_t size)
{
	int rc = 0;
	uint64_t data = 0;
	gw_cache_clean(fd);
	for (uint64_t from = 0; rc == 0 && from < size; from += GW_SCAN_PIECE) {
		uint64_t to = size - from < GW_SCAN_PIECE ? size : from + GW_SCAN_PIECE;
		if (is_hole(fd, from, to, &data))
			gw_pagelog_mark(s->log, i->log_file, from / PAGE, PIECE_PAGES);
		else
			rc = settle(s, i, fd, from / PAGE, PIECE_PAGES, (size_t)(to - from));
	}
	return rc;
}

void gw_scan_page_sums(struct gw_scan *s, struct gw_known_inode *i, size_t piece, size_t n)
{
	uint64_t *sums = i->sums + piece * PIECE_PAGES;
	for (size_t at = 0; at < n; at += PAGE) {
		size_t len = n - at < PAGE ? n - at : PAGE;
		sums[at / PAGE] = gw_is_zero(s->piece + at, len) ? 0 : gw_sum(s->piece + at, len);
	}
}

/* ---- marked pages ---- */

struct run {
	uint64_t page; /* of the file */
	size_t n, bytes;
};

/* The changed pages of a run that was read (is_zero: they are a hole), in as few records as may be. */
static int put_run(struct gw_scan *s, const struct gw_at *at, struct gw_known_inode *i, const struct run *r,
                   bool is_zero, struct gw_err *e)
{
	int rc = 0;
	for (size_t k = 0; rc == 0 && k < r->n;) {
		size_t from = k;
		bool zero = false;
		for (; k < r->n; k++) {
			size_t off = k * PAGE, len = r->bytes - off < PAGE ? r->bytes - off : PAGE;
			bool z = is_zero || gw_is_zero(s->piece + off, len);
			uint64_t sum = z ? 0 : gw_sum(s->piece + off, len);
			if (sum == i->sums[r->page + k] || (k > from && z != zero))
				break;
			zero = z;
			i->sums[r->page + k] = sum;
		}
		if (k == from) { /* as it was */
			k++;
			continue;
		}
		i->pieces[r->page / PIECE_PAGES] = GW_SUM_NONE;
		size_t off = from * PAGE, end = k * PAGE < r->bytes ? k * PAGE : r->bytes;
		struct gw_rec rec = {.op = zero ? GW_REC_HOLE : GW_REC_DATA, .size = r->page * PAGE + off};
		if (zero)
			rec.rdev = (k - from) * PAGE;
		else
			rec.body = s->piece + off, rec.body_len = (uint32_t)(end - off);
		rc = gw_scan_put(s, &rec, at, e);
	}
	return rc;
}

/* The next pages that are marked, within one piece. */
static bool next_run(const uint64_t *bits, uint64_t npages, uint64_t size, struct run *inout)
{
	uint64_t p = inout->page + inout->n;
	while (p < npages && !(bits[p / 64] >> (p % 64)))
		p = (p / 64 + 1) * 64;
	while (p < npages && !(bits[p / 64] >> (p % 64) & 1))
		p++;
	if (p >= npages)
		return false;
	inout->page = p;
	inout->n = 0;
	do {
		inout->n++;
		p++;
	} while (p < npages && p % PIECE_PAGES && bits[p / 64] >> (p % 64) & 1);
	inout->bytes = (size_t)((p * PAGE < size ? p * PAGE : size) - inout->page * PAGE);
	return true;
}

static int marked_pages(struct gw_scan *s, const struct gw_at *at, int fd, struct gw_known_inode *i, uint64_t size,
                        const uint64_t *bits, struct gw_err *e)
{
	struct run r = {0};
	uint64_t data = 0;
	if (!s->is_last)
		gw_cache_clean(fd);
	while (next_run(bits, pages_of(size), size, &r)) {
		bool hole = is_hole(fd, r.page * PAGE, r.page * PAGE + r.bytes, &data);
		size_t got = r.bytes;
		int rc = 0;
		if (hole && !s->is_last)
			gw_pagelog_mark(s->log, i->log_file, r.page, r.n);
		else if (!hole && !s->is_last)
			rc = settle(s, i, fd, r.page, r.n, r.bytes);
		if (rc == 0 && !hole)
			rc = gw_scan_read(s, fd, r.page * PAGE, r.bytes, &got);
		if (rc < 0)
			return gw_fail(e, GW_SYS, -rc, "read %s", at->path);
		if (got < r.bytes) { /* shorter meanwhile: that is told, and what is gone was marked */
			gw_pagelog_mark(s->log, i->log_file, r.page, r.n);
			memset(s->piece + got, 0, r.bytes - got);
		}
		rc = put_run(s, at, i, &r, hole, e);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* ---- which files ---- */

static void consider(struct gw_scan *s, const struct gw_at *at, int fd, struct gw_known_inode *i, uint64_t size,
                     bool is_first)
{
	struct gw_err e;
	if (s->is_last || s->no_log || s->trees[at->tree].is_still || size < (is_first ? VERY_LARGE : LARGE) ||
	    !gw_pagelog_suits(fd))
		return;
	if (!s->log && gw_pagelog_new(&s->log, &e) < 0) {
		gw_info("large files are read whole when they change", kv_str("reason", e.text));
		s->no_log = true;
		return;
	}
	i->log_file = gw_pagelog_add(s->log, i->ino);
	if (i->log_file)
		s->logged[i->log_file - 1] = (struct gw_logged){.tree = i->tree, .ino = i->ino};
}

void gw_scan_pages_begin(struct gw_scan *s)
{
	if (!s->log)
		return;
	gw_pagelog_drain(s->log);
	for (unsigned k = 0; k < GW_PAGELOG_FILES_MAX; k++) {
		struct gw_logged *g = &s->logged[k];
		struct gw_known_inode *i = g->ino ? gw_known_inode(s->known, g->tree, g->ino) : NULL;
		if (i && i->log_file == k + 1) {
			if (!s->is_last && !s->no_log && !gw_pagelog_knows(s->log, k + 1))
				gw_names_add(&s->base, g->tree, i->paths->path);
		} else if (g->ino) {
			gw_pagelog_drop(s->log, k + 1);
			*g = (struct gw_logged){0};
		}
	}
}

void gw_scan_pages_end(struct gw_scan *s)
{
	struct gw_err e;
	if (!s->log || s->is_last || gw_pagelog_follow(s->log, &e) == 0)
		return;
	gw_info("large files are read whole when they change", kv_str("reason", e.text));
	s->no_log = true;
}

int gw_scan_pages(struct gw_scan *s, const struct gw_at *at, int fd, struct gw_known_inode *i, uint64_t size,
                  struct gw_err *e)
{
	bool is_first = i->npieces == 0, is_base = false;
	uint64_t npages = pages_of(size);
	gw_auto(mem) uint64_t *bits = i->log_file ? gw_pagelog_take(s->log, i->log_file, npages) : NULL;
	if (gw_known_pieces(i, (size_t)((size + GW_SCAN_PIECE - 1) / GW_SCAN_PIECE)) < 0 ||
	    (i->log_file && gw_known_sums(i, (size_t)npages) < 0))
		return gw_fail(e, GW_SYS, ENOMEM, "copy %s", at->path);
	if (bits)
		return marked_pages(s, at, fd, i, size, bits, e);
	if (i->log_file && !s->is_last && gw_pagelog_looked_at(s->log, i->log_file)) {
		is_base = true;
		int rc = settle_all(s, i, fd, size);
		if (rc < 0)
			return gw_fail(e, GW_SYS, -rc, "read %s", at->path);
	}
	bool whole;
	int rc = gw_scan_pieces(s, at, fd, i, size, is_base, &whole, e);
	if (rc == 0 && is_base && whole)
		gw_pagelog_begin(s->log, i->log_file);
	if (rc == 0 && !i->log_file)
		consider(s, at, fd, i, size, is_first);
	return rc;
}
