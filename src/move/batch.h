#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/gw_err.h"
#include "mem/space.h"
#include "move/send.h"
#include "wire/frame.h"

/* batch: some pages of one process become the contents of one frame. Private
 * to src/move. A reader belongs to one thread. */
enum { GW_BATCH_SPANS = 256, GW_BATCH_BYTES = GW_SEND_BATCH_PAGES * GW_PAGE };

struct gw_batch {
	uint32_t space;
	bool is_drop; /* spans only: nothing is read, npages is not bounded */
	pid_t pid;
	int object; /* read from this file; -1: from pid */
	uint32_t nspans;
	uint32_t npages;
	struct gw_span spans[GW_BATCH_SPANS];
};

/* The pages of a batch that could be read, and what became of the others. */
struct gw_batch_read {
	uint8_t *data; /* GW_BATCH_BYTES, page-aligned */
	uint32_t nruns, nskipped;
	uint32_t pages, zero_pages;
	uint32_t data_bytes; /* of the runs that carry data */
	struct gw_run runs[GW_SEND_BATCH_PAGES];
	struct gw_span skipped[GW_SEND_BATCH_PAGES];
};

int gw_batch_read_init(struct gw_batch_read *r); /* -ENOMEM */
void gw_batch_read_done(struct gw_batch_read *r);

/* Read all pages of b into r, zero pages found and taken out. Unmapped pages
 * and all pages of a dead process end up in skipped; that is no failure. */
int gw_batch_read(const struct gw_batch *b, struct gw_batch_read *r, struct gw_err *e);

/* All 4096 bytes zero? p is aligned to 16. */
bool gw_page_is_zero(const uint8_t *p);
