#pragma once
#include <linux/fs.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* scan: PAGEMAP_SCAN (Linux 6.7+) on /proc/PID/pagemap, in the four shapes
 * the tracker asks for.
 *
 * What a shape returns for every page costs 12 ns, what it skips 2-3 ns: so
 * "which were written" and "which are not there" are two scans that return
 * little (0.9 + 0.7 ms a GiB) instead of one that returns every page (3.3).
 * The shared zero page and guard regions count as not there.
 *
 * Owner: none. Threads: any. Source: Documentation/admin-guide/mm/pagemap.rst
 * and fs/proc/task_mmu.c. */
enum gw_scan_kind {
	GW_SCAN_PROTECT_WRITTEN, /* there and written since; protects them again */
	GW_SCAN_PROTECT_ALL,     /* all that are there, and protects them; PAGE_IS_WRITTEN tells which were not */
	GW_SCAN_WRITTEN,         /* there and written since; changes nothing */
	GW_SCAN_ALL,             /* all that are there; changes nothing */
	GW_SCAN_ABSENT,          /* not there; regions for which gw_region_absent() is false are swapped out */
	/* Of shared memory, where the mark stays in an empty entry. What is in none
	 * of the two is marked; a guard region is in the first, and on 6.18 what is
	 * empty, too. */
	GW_SCAN_UNMARKED, /* there, or something else than a mark is, without a mark */
	GW_SCAN_EMPTY,    /* nothing is there, not even a mark */
};

/* At most cap regions from *at on; *at moves to where the scan ended (`end`
 * when it is through). The number of regions, or -errno:
 *   -EPERM  something in the range is not tracked (not for ALL, ABSENT,
 *           PROTECT_ALL). What a protecting scan had protected by then is lost to
 *           the caller, who has to take everything as written.
 * A region may come twice: kernels up to 6.18 at least report where the last
 * full buffer ended as the end of a scan that went on. */
ssize_t gw_scan(int pagemap, enum gw_scan_kind kind, uint64_t *at, uint64_t end, struct page_region *out, size_t cap);

/* -ENOTTY or -EINVAL: the kernel has none. Call once before the first scan. */
int gw_scan_probe(void);

bool gw_region_absent(const struct page_region *r);
