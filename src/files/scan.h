#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/gw_err.h"

/* scan: directory trees of a running container, and what changes in them.
 *
 *   round 1      everything: watch, list, send
 *   round n      names that changed (watch.h), files seen mapped, files whose
 *                times said nothing the last time
 *   last round   the same, of a container that stands still: afterwards the
 *                other side has exactly what is here
 *
 * A file that changed is read once, and the 64 KiB pieces of it that differ from
 * what was sent go (known.h); of a large one only pages that may have changed are
 * read (pagelog.h), where the kernel tells. A renamed file goes as a link to its old name. The
 * cost of a round grows with what changed and with the size of files that did,
 * not with the number of files.
 *
 * Without watches (the kernel has none left) every round looks at all names.
 * Threads: one caller. Limits: GW_REC_TREES_MAX trees. */
struct gw_scan;

struct gw_scan_tree {
	const char *root; /* the directory, on this host */
	/* An overlay's upper layer: its whiteouts are names that are gone. */
	bool is_layer;
	const char *view; /* where that overlay is mounted: writes show there. NULL: it is not */
	bool is_still;    /* nobody writes there: no watches */
};

/* A full or last frame of records (record.h). Returns < 0 to end the round. */
typedef int gw_scan_fn(void *ctx, const uint8_t *records, size_t len, struct gw_err *e);

struct gw_scan_stats {
	uint64_t files;   /* names known at the end */
	uint64_t changed; /* names looked at */
	uint64_t sent_bytes, read_bytes;
	bool watched;
};

/* Copies what it needs of trees. sink is called from gw_scan_round only. */
int gw_scan_new(const struct gw_scan_tree *trees, size_t n, gw_scan_fn *sink, void *ctx, struct gw_scan **out,
                struct gw_err *e);
int gw_scan_round(struct gw_scan *s, struct gw_scan_stats *out, struct gw_err *e);
/* The container stands still from now on: nothing is made ready for another round. */
void gw_scan_last(struct gw_scan *s);
/* This file is mapped shared and writable: what is written so shows nowhere, so
 * it is compared in every round from now on. Unknown paths are ignored. */
void gw_scan_mapped(struct gw_scan *s, uint32_t tree, const char *path);
void gw_scan_free(struct gw_scan *s);
