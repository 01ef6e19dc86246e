#include "mem/pages_map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/scope.h"
#include "mem/bits.h"

static int reserve(struct gw_map *m, size_t more)
{
	if (m->n + more <= m->cap)
		return 0;
	size_t cap = m->cap ? m->cap * 2 : 16;
	while (cap < m->n + more)
		cap *= 2;
	struct gw_map_range *r = realloc(m->r, cap * sizeof(*r));
	if (!r)
		return -ENOMEM;
	m->r = r;
	m->cap = cap;
	return 0;
}

int gw_map_init(struct gw_map *m)
{
	*m = (struct gw_map){0};
	int rc = reserve(m, 1);
	if (rc < 0)
		return rc;
	m->r[m->n++] = (struct gw_map_range){.start = 0, .end = GW_ADDR_END, .img = 0};
	return 0;
}

int gw_map_copy(struct gw_map *out, const struct gw_map *from)
{
	struct gw_map m = {0};
	int rc = reserve(&m, from->n ? from->n : 1);
	if (rc < 0)
		return rc;
	if (from->n)
		memcpy(m.r, from->r, from->n * sizeof(*m.r));
	m.n = from->n;
	*out = m;
	return 0;
}

void gw_map_done(struct gw_map *m)
{
	free(m->r);
	*m = (struct gw_map){0};
}

/* Index of the first range that ends behind addr. */
static size_t first_after(const struct gw_map *m, uint64_t addr)
{
	size_t lo = 0, hi = m->n;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (m->r[mid].end > addr)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

bool gw_map_next(const struct gw_map *m, uint64_t addr, uint64_t end, struct gw_map_range *out)
{
	size_t i = first_after(m, addr);
	if (addr >= end || i == m->n || m->r[i].start >= end)
		return false;
	struct gw_map_range r = m->r[i];
	if (r.start < addr) {
		r.img += addr - r.start;
		r.start = addr;
	}
	if (r.end > end)
		r.end = end;
	*out = r;
	return true;
}

bool gw_map_where(const struct gw_map *m, uint64_t img, uint64_t *out_addr, uint64_t *out_len)
{
	for (size_t i = 0; i < m->n; i++) {
		const struct gw_map_range *r = &m->r[i];
		if (img < r->img || img - r->img >= r->end - r->start)
			continue;
		*out_addr = r->start + (img - r->img);
		*out_len = r->end - *out_addr;
		return true;
	}
	return false;
}

int gw_map_cut(struct gw_map *m, uint64_t start, uint64_t end)
{
	int rc = reserve(m, 1);
	if (rc < 0)
		return rc;
	if (start >= end)
		return 0;
	size_t i = first_after(m, start);
	if (i < m->n && m->r[i].start < start) {
		/* Split: the tail becomes a range of its own. */
		struct gw_map_range tail = m->r[i];
		tail.img += start - tail.start;
		tail.start = start;
		m->r[i].end = start;
		i++;
		memmove(&m->r[i + 1], &m->r[i], (m->n - i) * sizeof(*m->r));
		m->r[i] = tail;
		m->n++;
	}
	size_t j = i;
	while (j < m->n && m->r[j].end <= end)
		j++;
	memmove(&m->r[i], &m->r[j], (m->n - j) * sizeof(*m->r));
	m->n -= j - i;
	if (i < m->n && m->r[i].start < end) {
		m->r[i].img += end - m->r[i].start;
		m->r[i].start = end;
	}
	return 0;
}

static bool joins(const struct gw_map_range *a, const struct gw_map_range *b)
{
	return a->end == b->start && a->img + (a->end - a->start) == b->img;
}

static int insert(struct gw_map *m, struct gw_map_range r)
{
	int rc = reserve(m, 1);
	if (rc < 0)
		return rc;
	size_t i = first_after(m, r.start);
	memmove(&m->r[i + 1], &m->r[i], (m->n - i) * sizeof(*m->r));
	m->r[i] = r;
	m->n++;
	/* A program that moves a buffer to and fro must not grow the table. */
	if (i + 1 < m->n && joins(&m->r[i], &m->r[i + 1])) {
		m->r[i].end = m->r[i + 1].end;
		memmove(&m->r[i + 1], &m->r[i + 2], (m->n - i - 2) * sizeof(*m->r));
		m->n--;
	}
	if (i > 0 && joins(&m->r[i - 1], &m->r[i])) {
		m->r[i - 1].end = m->r[i].end;
		memmove(&m->r[i], &m->r[i + 1], (m->n - i - 1) * sizeof(*m->r));
		m->n--;
	}
	return 0;
}

int gw_map_move(struct gw_map *m, uint64_t from, uint64_t to, uint64_t len)
{
	size_t n = 0, cap = 0;
	struct gw_map_range r;
	for (uint64_t at = from; gw_map_next(m, at, from + len, &r); at = r.end)
		cap++;
	gw_auto(mem) struct gw_map_range *moved = calloc(cap ? cap : 1, sizeof(*moved));
	if (!moved)
		return -ENOMEM;
	for (uint64_t at = from; gw_map_next(m, at, from + len, &r); at = r.end)
		moved[n++] = r;
	int rc = gw_map_cut(m, from, from + len);
	if (rc == 0)
		rc = gw_map_cut(m, to, to + len);
	for (size_t i = 0; rc == 0 && i < n; i++) {
		r = moved[i];
		r.start = r.start - from + to;
		r.end = r.end - from + to;
		rc = insert(m, r);
	}
	return rc;
}
