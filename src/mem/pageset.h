#pragma once
#include <stddef.h>
#include <stdint.h>

/* pageset: a set of page numbers, sparse, in private memory.
 *
 * Two levels: a sorted table of chunks, and 4 KiB of bits a chunk (32,768
 * pages, 128 MiB of addresses). A chunk that became empty is freed. Nothing
 * here knows what a page is, so every rule has a unit test.
 *
 * Owner: whoever holds the struct; all zero is an empty set. Threads: one at
 * a time. Limits: page numbers below 2^52. */
struct gw_pageset {
	struct gw_pageset_chunk *chunks;
	size_t n, cap, last; /* last: where the last look-up ended */
	uint64_t count;
};

void gw_pageset_done(struct gw_pageset *s); /* frees, leaves an empty set */

/* Add [page, page + n). -ENOMEM may leave a part of them added. */
int gw_pageset_add(struct gw_pageset *s, uint64_t page, uint64_t n);
bool gw_pageset_has(struct gw_pageset *s, uint64_t page);

/* Take every page of [from, to) out and name it: fn(ctx, page, n) in rising
 * order, runs as long as they get inside a chunk. When fn returns non-zero
 * the walk ends with that; what was named is out, fn's last run too. */
typedef int gw_pageset_fn(void *ctx, uint64_t page, uint64_t n);
int gw_pageset_take(struct gw_pageset *s, uint64_t from, uint64_t to, gw_pageset_fn *fn, void *ctx);

/* The first page of [from, to) that is in the set, with how many follow it
 * (inside its chunk); 0: none. */
uint64_t gw_pageset_next(struct gw_pageset *s, uint64_t from, uint64_t to, uint64_t *out_page);

/* The same for pages that are not in the set (a run may stop short of where
 * it ends; ask again). */
uint64_t gw_pageset_missing(struct gw_pageset *s, uint64_t from, uint64_t to, uint64_t *out_page);

/* The end of the shortest [from, x) with at least `want` pages of the set
 * in it, in whole chunks; `to` when there are fewer. For cutting work. */
uint64_t gw_pageset_cut(const struct gw_pageset *s, uint64_t from, uint64_t to, uint64_t want);
