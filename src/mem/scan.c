#include "mem/scan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/scope.h"

#ifndef PAGE_IS_GUARD
#define PAGE_IS_GUARD (1 << 8) /* linux/fs.h since 6.16 */
#endif

static const uint64_t THERE = PAGE_IS_PRESENT | PAGE_IS_SWAPPED;
/* PAGE_IS_GUARD where the kernel knows it. */
static atomic_uint_fast64_t guard;

int gw_scan_probe(void)
{
	uint64_t at = 0;
	struct page_region r;
	gw_auto(fd) int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	guard = PAGE_IS_GUARD;
	ssize_t n = gw_scan(fd, GW_SCAN_ALL, &at, 4096, &r, 1);
	if (n == -EINVAL) {
		guard = 0;
		n = gw_scan(fd, GW_SCAN_ALL, &at, 4096, &r, 1);
	}
	return n < 0 ? (int)n : 0;
}

static void shape(enum gw_scan_kind kind, struct pm_scan_arg *a)
{
	const uint64_t nothing = PAGE_IS_PFNZERO | guard;
	a->category_inverted = a->category_mask = nothing;
	a->category_anyof_mask = THERE;
	a->return_mask = PAGE_IS_WRITTEN;
	switch (kind) {
	case GW_SCAN_PROTECT_WRITTEN: a->flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC; break;
	case GW_SCAN_PROTECT_ALL: a->flags = PM_SCAN_WP_MATCHING; break;
	case GW_SCAN_WRITTEN: a->flags = PM_SCAN_CHECK_WPASYNC; break;
	case GW_SCAN_UNMARKED:
	case GW_SCAN_EMPTY:
		a->flags = PM_SCAN_CHECK_WPASYNC;
		a->category_mask = kind == GW_SCAN_EMPTY ? THERE : PAGE_IS_WRITTEN;
		a->category_inverted = kind == GW_SCAN_EMPTY ? THERE : 0;
		a->category_anyof_mask = 0;
		break;
	case GW_SCAN_ALL: a->return_mask = PAGE_IS_PRESENT; break;
	case GW_SCAN_ABSENT:
		a->category_inverted = PAGE_IS_PRESENT;
		a->category_mask = 0;
		a->category_anyof_mask = PAGE_IS_PRESENT | nothing;
		a->return_mask = THERE | nothing;
		break;
	}
	if (kind == GW_SCAN_PROTECT_WRITTEN || kind == GW_SCAN_WRITTEN)
		a->category_mask |= PAGE_IS_WRITTEN;
}

ssize_t gw_scan(int pagemap, enum gw_scan_kind kind, uint64_t *at, uint64_t end, struct page_region *out, size_t cap)
{
	struct pm_scan_arg a = {.size = sizeof(a), .start = *at, .end = end, .vec = (uintptr_t)out, .vec_len = cap};
	shape(kind, &a);
	int n;
	do
		n = ioctl(pagemap, PAGEMAP_SCAN, &a);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	/* walk_end is right only when the buffer is what ended the scan. */
	*at = (size_t)n == cap && a.walk_end > *at ? a.walk_end : end;
	return n;
}

bool gw_region_absent(const struct page_region *r)
{
	return !(r->categories & PAGE_IS_SWAPPED) || (r->categories & guard);
}
