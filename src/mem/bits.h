#pragma once
#include <stddef.h>
#include <stdint.h>

/* bits: one bit for each page of a 48-bit address space, shared by fd.
 *
 * Flat: bit n of the file is page n, so that a page fault is judged by one
 * load and two processes need not agree on anything but the descriptor. The
 * file is sparse (4 KiB of it cover 128 MiB of addresses); what is mapped is
 * 8 GiB of address space, which costs nothing.
 *
 * Owner: whoever opened it. Threads: setting and clearing are atomic per
 * word; a scan beside a writer may miss what is being written. */
#define GW_PAGE_SHIFT 12
#define GW_PAGE_BYTES ((uint64_t)1 << GW_PAGE_SHIFT)
#define GW_ADDR_BITS  48
#define GW_ADDR_END   ((uint64_t)1 << GW_ADDR_BITS)
#define GW_BITS_PAGES ((uint64_t)1 << (GW_ADDR_BITS - GW_PAGE_SHIFT))

struct gw_bits {
	int fd; /* -1: not open */
	uint64_t *words;
};

int gw_bits_new(struct gw_bits *out);               /* all clear; -errno */
int gw_bits_open(int take_fd, struct gw_bits *out); /* somebody else's; -errno, also when it is none */
int gw_bits_copy(struct gw_bits *out, const struct gw_bits *from);
void gw_bits_done(struct gw_bits *b); /* closed already is fine */

/* Return how many bits changed. page + n must not pass GW_BITS_PAGES. */
uint64_t gw_bits_set(struct gw_bits *b, uint64_t page, uint64_t n);
uint64_t gw_bits_clear(struct gw_bits *b, uint64_t page, uint64_t n);

static inline bool gw_bits_test(const struct gw_bits *b, uint64_t page)
{
	return __atomic_load_n(&b->words[page >> 6], __ATOMIC_RELAXED) >> (page & 63) & 1;
}

/* The first set bit in [page, end); `end` when there is none. Skips what
 * the file never stored, so a scan costs what is there. */
uint64_t gw_bits_next(const struct gw_bits *b, uint64_t page, uint64_t end);
/* How many bits from page on are set (or clear), at most max. */
uint64_t gw_bits_run(const struct gw_bits *b, uint64_t page, uint64_t max, bool value);
uint64_t gw_bits_count(const struct gw_bits *b);
