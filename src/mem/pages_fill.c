#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/gw_log.h"
#include "base/scope.h"
#include "mem/pages_priv.h"

enum { RELEASE_MAX = 1 << 20 };

void space_free(struct space *sp)
{
	(void)close(sp->memfd);
	gw_bits_done(&sp->data);
	free(sp->wipe);
	free(sp);
}

int space_read(struct server *s, const struct space *sp, uint64_t page, uint64_t n, char *buf)
{
	size_t len = n * GW_PAGE_BYTES, got = 0;
	while (got < len) {
		/* Not mmap: a read into a warm buffer is a quarter faster than populating page tables. */
		ssize_t k = pread(sp->memfd, buf + got, len - got, (off_t)(page * GW_PAGE_BYTES + got));
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0) {
			pages_fail(s, k < 0 ? errno : EIO, "read memory of process %d from the store", sp->vpid);
			return -EIO;
		}
		got += (size_t)k;
	}
	return 0;
}

/* ---- freeing the store ---- */

void release_later(struct server *s, struct space *sp, uint64_t page, uint64_t n)
{
	struct release *last = s->nrelease > s->at_release ? &s->release[s->nrelease - 1] : NULL;
	if (last && last->space == sp && last->page + last->n == page) {
		last->n += n;
		return;
	}
	if (s->at_release == s->nrelease)
		s->at_release = s->nrelease = 0;
	if (s->nrelease == s->cap_release) {
		size_t cap = s->cap_release ? s->cap_release * 2 : 256;
		struct release *more = cap <= RELEASE_MAX ? realloc(s->release, cap * sizeof(*more)) : NULL;
		if (!more)
			return; /* it stays in the store till our end */
		s->release = more;
		s->cap_release = cap;
	}
	s->release[s->nrelease++] = (struct release){.space = sp, .page = page, .n = n};
}

/* The first page of [page, end) that somebody still has to get. */
static uint64_t needed(const struct space *sp, uint64_t page, uint64_t end)
{
	for (const struct consumer *c = sp->first; c; c = c->sibling)
		if (c->uffd >= 0 && c->left_pages)
			end = gw_bits_next(c->left, page, end);
	return end;
}

static void punch(const struct space *sp, uint64_t page, uint64_t n)
{
	if (fallocate(sp->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(page * GW_PAGE_BYTES),
	              (off_t)(n * GW_PAGE_BYTES)) < 0)
		gw_debug("store not freed", kv_i64("errno", errno));
}

bool release_step(struct server *s, bool is_idle)
{
	if (s->at_release == s->nrelease)
		return false;
	struct release *r = &s->release[s->at_release];
	if (!is_idle && r->n < CHUNK_PAGES && s->at_release + 1 == s->nrelease)
		return false; /* it may still grow */
	uint64_t end = r->page + r->n;
	if (r->n > CHUNK_PAGES) {
		off_t data = lseek(r->space->memfd, (off_t)(r->page * GW_PAGE_BYTES), SEEK_DATA);
		uint64_t page = data < 0 ? end : (uint64_t)data / GW_PAGE_BYTES;
		r->page = page < end ? page : end;
	}
	uint64_t stop = r->page + CHUNK_PAGES < end ? r->page + CHUNK_PAGES : end;
	uint64_t keep = needed(r->space, r->page, stop);
	if (keep > r->page)
		punch(r->space, r->page, keep - r->page);
	else if (keep < stop)
		keep++;
	r->n = end - keep;
	r->page = keep;
	if (r->n == 0)
		s->at_release++;
	return true;
}

/* ---- filling ---- */

/* False: some of it has to be done later. */
static bool fill_range(struct server *s, struct space *sp, uint64_t page, uint64_t n)
{
	bool whole = true;
	if (space_read(s, sp, page, n, s->buf) < 0)
		return false;
	for (struct consumer *c = sp->first; c && !s->failed; c = c->sibling)
		if (c->uffd >= 0 && c->left_pages && !consumer_fill(s, c, page, n, s->buf))
			whole = false;
	release_later(s, sp, page, n);
	return whole;
}

/* From page on, to the end of its piece, as far as the same pages are needed. */
static uint64_t piece_at(const struct space *sp, uint64_t page, uint64_t end)
{
	uint64_t stop = (page | (PIECE_PAGES - 1)) + 1;
	stop = stop < end ? stop : end;
	uint64_t n = 1;
	for (const struct consumer *c = sp->first; c; c = c->sibling)
		if (c->uffd >= 0 && c->left_pages) {
			uint64_t run = gw_bits_run(c->left, page, stop - page, true);
			n = run > n ? run : n;
		}
	return n;
}

/* One fault says little: most programs go on somewhere else, and do so sooner when
 * they are let run. A second one in the same piece, or one beside a piece that was
 * filled for that, is somebody on his way through: then it comes before all else. */
void fill_hot(struct server *s, struct space *sp, uint64_t page)
{
	if (!s->restored)
		return;
	page &= ~(uint64_t)(PIECE_PAGES - 1);
	bool onward = s->through.space == sp &&
	              (s->through.piece + PIECE_PAGES == page || s->through.piece == page + PIECE_PAGES);
	for (unsigned i = 0; i < s->nhot; i++)
		if (s->hot[i].space == sp && s->hot[i].piece == page) {
			s->nurgent += !s->hot[i].is_urgent;
			s->hot[i].is_urgent = true;
			return;
		}
	if (s->nhot == sizeof(s->hot) / sizeof(s->hot[0]))
		s->nhot = s->nurgent = 0; /* faults all over: nothing to be learnt from the old ones */
	s->hot[s->nhot++] = (struct hot){.space = sp, .piece = page, .page = page, .is_urgent = onward};
	s->nurgent += onward;
}

static void hot_remove(struct server *s, unsigned i)
{
	s->nurgent -= s->hot[i].is_urgent;
	if (s->hot[i].is_urgent)
		s->through = s->hot[i];
	memmove(&s->hot[i], &s->hot[i + 1], (--s->nhot - i) * sizeof(s->hot[0]));
}

/* The latest one first. False: there is none. */
static bool step_hot(struct server *s, bool only_urgent)
{
	for (unsigned i = s->nhot; i-- > 0 && (!only_urgent || s->nurgent);) {
		struct hot *h = &s->hot[i];
		if (only_urgent && !h->is_urgent)
			continue;
		uint64_t end = h->piece + PIECE_PAGES;
		uint64_t page = needed(h->space, h->page, end);
		if (page == end) {
			hot_remove(s, i);
			continue;
		}
		uint64_t n = piece_at(h->space, page, end);
		struct space *sp = h->space;
		h->page = page + n;
		if (h->page == end)
			hot_remove(s, i);
		(void)fill_range(s, sp, page, n); /* what is left is met again in address order */
		return true;
	}
	return false;
}

static struct space *space_by_id(struct server *s, uint32_t id)
{
	for (struct space *sp = s->spaces; sp; sp = sp->next)
		if (sp->id == id)
			return sp;
	return NULL;
}

static bool step_recent(struct server *s)
{
	for (; s->at_recent < s->nrecent; s->at_recent++, s->recent_page = 0) {
		const struct link_span *sn = &s->recent[s->at_recent];
		uint64_t first = sn->addr / GW_PAGE_BYTES, end = first + sn->npages;
		if (!s->fill_space || s->fill_space->id != sn->space)
			s->fill_space = space_by_id(s, sn->space);
		if (!s->fill_space)
			continue;
		uint64_t page = needed(s->fill_space, s->recent_page > first ? s->recent_page : first, end);
		if (page == end)
			continue;
		uint64_t n = piece_at(s->fill_space, page, end);
		s->recent_page = page + n;
		(void)fill_range(s, s->fill_space, page, n);
		return true;
	}
	s->fill_space = NULL;
	return false;
}

/* Is there anybody who could take something now? */
static bool is_open(struct space *sp)
{
	for (struct consumer *c = sp->first; c; c = c->sibling)
		if (c->uffd >= 0 && c->left_pages && !consumer_blocked(c))
			return true;
	return false;
}

static enum fill_state step_rest(struct server *s)
{
	if (!s->fill_space) {
		s->fill_space = s->spaces;
		s->fill_page = 0;
		s->pass_skipped = false;
	}
	for (; s->fill_space; s->fill_space = s->fill_space->next, s->fill_page = 0) {
		uint64_t page = needed(s->fill_space, s->fill_page, GW_BITS_PAGES);
		if (page == GW_BITS_PAGES)
			continue;
		if (!is_open(s->fill_space)) {
			s->pass_skipped = true;
			continue;
		}
		uint64_t n = piece_at(s->fill_space, page, GW_BITS_PAGES);
		s->fill_page = page + n;
		if (!fill_range(s, s->fill_space, page, n))
			s->pass_skipped = true;
		return FILL_WORKED;
	}
	return s->pass_skipped ? FILL_BLOCKED : FILL_EMPTY;
}

bool fill_soon(struct server *s)
{
	return step_hot(s, true) || (s->at_recent < s->nrecent && step_recent(s));
}

enum fill_state fill_step(struct server *s)
{
	if (step_hot(s, false))
		return FILL_WORKED;
	return gw_now_us() - s->restored_us < (uint64_t)REST_AFTER_US ? FILL_LATER : step_rest(s);
}
