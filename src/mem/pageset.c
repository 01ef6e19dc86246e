#include "mem/pageset.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_SHIFT = 15, CHUNK_PAGES = 1 << CHUNK_SHIFT, WORDS = CHUNK_PAGES / 64 };

struct gw_pageset_chunk {
	uint64_t key; /* page >> CHUNK_SHIFT */
	uint64_t *words;
	uint32_t count;
};

void gw_pageset_done(struct gw_pageset *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->chunks[i].words);
	free(s->chunks);
	*s = (struct gw_pageset){0};
}

/* Index of the first chunk whose key is not below `key`. */
static size_t lower(const struct gw_pageset *s, uint64_t key)
{
	size_t lo = 0, hi = s->n;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (s->chunks[mid].key < key)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static size_t find(struct gw_pageset *s, uint64_t key)
{
	if (s->last < s->n && s->chunks[s->last].key == key)
		return s->last;
	return s->last = lower(s, key);
}

static struct gw_pageset_chunk *chunk_at(struct gw_pageset *s, uint64_t key)
{
	size_t i = find(s, key);
	if (i < s->n && s->chunks[i].key == key)
		return &s->chunks[i];
	if (s->n == s->cap) {
		size_t cap = s->cap ? s->cap * 2 : 16;
		struct gw_pageset_chunk *more = reallocarray(s->chunks, cap, sizeof(*more));
		if (!more)
			return NULL;
		s->chunks = more;
		s->cap = cap;
	}
	uint64_t *words = calloc(WORDS, sizeof(*words));
	if (!words)
		return NULL;
	memmove(s->chunks + i + 1, s->chunks + i, (s->n - i) * sizeof(*s->chunks));
	s->chunks[i] = (struct gw_pageset_chunk){.key = key, .words = words};
	s->n++;
	return &s->chunks[i];
}

static void chunk_remove(struct gw_pageset *s, size_t i)
{
	free(s->chunks[i].words);
	s->n--;
	memmove(s->chunks + i, s->chunks + i + 1, (s->n - i) * sizeof(*s->chunks));
}

/* Bits [bit, bit + n) of word bit / 64, cut at the word's end. */
static uint64_t mask_of(uint32_t bit, uint32_t n)
{
	uint32_t in = 64 - (bit & 63);
	uint32_t k = n < in ? n : in;
	return (k == 64 ? ~(uint64_t)0 : ((uint64_t)1 << k) - 1) << (bit & 63);
}

static uint32_t chunk_set(struct gw_pageset_chunk *c, uint32_t bit, uint32_t n)
{
	uint32_t added = 0;
	while (n) {
		uint64_t m = mask_of(bit, n);
		uint32_t k = (uint32_t)__builtin_popcountll(m);
		added += (uint32_t)__builtin_popcountll(m & ~c->words[bit / 64]);
		c->words[bit / 64] |= m;
		bit += k;
		n -= k;
	}
	return added;
}

int gw_pageset_add(struct gw_pageset *s, uint64_t page, uint64_t n)
{
	while (n) {
		struct gw_pageset_chunk *c = chunk_at(s, page >> CHUNK_SHIFT);
		if (!c)
			return -ENOMEM;
		uint32_t bit = (uint32_t)(page & (CHUNK_PAGES - 1));
		uint32_t k = n < CHUNK_PAGES - bit ? (uint32_t)n : CHUNK_PAGES - bit;
		uint32_t added = chunk_set(c, bit, k);
		c->count += added;
		s->count += added;
		page += k;
		n -= k;
	}
	return 0;
}

bool gw_pageset_has(struct gw_pageset *s, uint64_t page)
{
	size_t i = find(s, page >> CHUNK_SHIFT);
	if (i == s->n || s->chunks[i].key != page >> CHUNK_SHIFT)
		return false;
	uint32_t bit = (uint32_t)(page & (CHUNK_PAGES - 1));
	return s->chunks[i].words[bit / 64] >> (bit & 63) & 1;
}

/* First bit of [bit, end) with this value; end when there is none. */
static uint32_t scan(const struct gw_pageset_chunk *c, uint32_t bit, uint32_t end, bool value)
{
	while (bit < end) {
		uint64_t w = (value ? c->words[bit / 64] : ~c->words[bit / 64]) >> (bit & 63);
		if (w) {
			bit += (uint32_t)__builtin_ctzll(w);
			return bit < end ? bit : end;
		}
		bit = (bit | 63) + 1;
	}
	return end;
}

uint64_t gw_pageset_next(struct gw_pageset *s, uint64_t from, uint64_t to, uint64_t *out_page)
{
	if (from >= to)
		return 0;
	for (size_t i = find(s, from >> CHUNK_SHIFT); i < s->n; i++) {
		const struct gw_pageset_chunk *c = &s->chunks[i];
		uint64_t base = c->key << CHUNK_SHIFT;
		if (base >= to)
			break;
		s->last = i;
		uint32_t a = from > base ? (uint32_t)(from - base) : 0;
		uint32_t z = to - base < CHUNK_PAGES ? (uint32_t)(to - base) : CHUNK_PAGES;
		uint32_t hit = scan(c, a, z, true);
		if (hit < z) {
			*out_page = base + hit;
			return scan(c, hit, z, false) - hit;
		}
	}
	return 0;
}

uint64_t gw_pageset_missing(struct gw_pageset *s, uint64_t from, uint64_t to, uint64_t *out_page)
{
	while (from < to) {
		size_t i = find(s, from >> CHUNK_SHIFT);
		const struct gw_pageset_chunk *c = i < s->n ? &s->chunks[i] : NULL;
		uint64_t base = c ? c->key << CHUNK_SHIFT : to;
		if (from < base) {
			*out_page = from;
			return (base < to ? base : to) - from;
		}
		uint32_t z = to - base < CHUNK_PAGES ? (uint32_t)(to - base) : CHUNK_PAGES;
		uint32_t hit = scan(c, (uint32_t)(from - base), z, false);
		if (hit < z) {
			*out_page = base + hit;
			return scan(c, hit, z, true) - hit;
		}
		from = base + CHUNK_PAGES;
	}
	return 0;
}

static void chunk_clear(struct gw_pageset *s, uint64_t page, uint32_t n)
{
	size_t i = find(s, page >> CHUNK_SHIFT);
	struct gw_pageset_chunk *c = &s->chunks[i];
	uint32_t bit = (uint32_t)(page & (CHUNK_PAGES - 1));
	c->count -= n;
	s->count -= n;
	while (n) {
		uint64_t m = mask_of(bit, n);
		uint32_t k = (uint32_t)__builtin_popcountll(m);
		c->words[bit / 64] &= ~m;
		bit += k;
		n -= k;
	}
	if (!c->count)
		chunk_remove(s, i);
}

int gw_pageset_take(struct gw_pageset *s, uint64_t from, uint64_t to, gw_pageset_fn *fn, void *ctx)
{
	uint64_t page, n;
	while ((n = gw_pageset_next(s, from, to, &page))) {
		chunk_clear(s, page, (uint32_t)n);
		int rc = fn ? fn(ctx, page, n) : 0;
		if (rc)
			return rc;
		from = page + n;
	}
	return 0;
}

uint64_t gw_pageset_cut(const struct gw_pageset *s, uint64_t from, uint64_t to, uint64_t want)
{
	uint64_t seen = 0;
	for (size_t i = lower(s, from >> CHUNK_SHIFT); i < s->n; i++) {
		uint64_t end = (s->chunks[i].key + 1) << CHUNK_SHIFT;
		if (end >= to)
			break;
		seen += s->chunks[i].count;
		if (seen >= want)
			return end;
	}
	return to;
}
