#pragma once
#include <stddef.h>
#include <stdint.h>

/* track_softdirty: what is pure in the soft-dirty backend: the meaning of
 * /proc/PID/pagemap entries (Documentation/admin-guide/mm/pagemap.rst). */

/* The frame of the zero page, and of the huge one (0: none there). */
struct gw_zero_pages {
	uint64_t small, huge;
};

enum gw_page_kind { GW_PAGE_ABSENT, GW_PAGE_CLEAN, GW_PAGE_DIRTY };
enum gw_page_kind gw_page_kind(uint64_t entry, const struct gw_zero_pages *zero);

/* Cut entries of pages from addr on into runs of one kind, and call fn for
 * each. fn returns < 0 to end it. */
typedef int gw_page_run_fn(void *ctx, enum gw_page_kind kind, uint64_t start, uint64_t end);
int gw_page_runs(const uint64_t *entries, size_t n, uint64_t addr, const struct gw_zero_pages *zero, gw_page_run_fn *fn,
                 void *ctx);
