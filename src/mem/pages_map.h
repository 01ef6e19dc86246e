#pragma once
#include <stddef.h>
#include <stdint.h>

/* pages_map: where the pages of an image are now in a process that runs.
 *
 * Sorted ranges of addresses, each with the image offset its first byte had.
 * A fresh map is the identity. mremap moves ranges; munmap and
 * MADV_DONTNEED cut them out (such an address reads as zero). Each image page
 * is at no more than one address. No system calls in here.
 *
 * Owner: its consumer. One thread. -ENOMEM leaves a map unfit for use. */
struct gw_map_range {
	uint64_t start, end; /* addresses */
	uint64_t img;        /* image offset of start */
};

struct gw_map {
	struct gw_map_range *r;
	size_t n, cap;
};

int gw_map_init(struct gw_map *m);
int gw_map_copy(struct gw_map *out, const struct gw_map *from);
void gw_map_done(struct gw_map *m);

/* The first piece of [addr, end) that has an image; false: there is none. */
bool gw_map_next(const struct gw_map *m, uint64_t addr, uint64_t end, struct gw_map_range *out);
/* The address of image offset img, and how far it goes on from there. */
bool gw_map_where(const struct gw_map *m, uint64_t img, uint64_t *out_addr, uint64_t *out_len);

int gw_map_cut(struct gw_map *m, uint64_t start, uint64_t end);
/* What was at from is at to; what was at to is gone. */
int gw_map_move(struct gw_map *m, uint64_t from, uint64_t to, uint64_t len);
