#pragma once
#include <stddef.h>
#include <stdint.h>

#include "base/gw_err.h"

/* apply: records (record.h) become files again.
 *
 * Every path is opened below its tree's root through no symbolic link, so that
 * what a container made of its names cannot lead out of it. A tree may first be
 * received anywhere and put into its place later.
 * Owner and thread: one. Errors are final: a tree is then somewhere between. */
struct gw_apply;

enum gw_apply_kind {
	GW_APPLY_PLAIN, /* a directory, or an overlay as it is mounted: a whiteout removes */
	GW_APPLY_LAYER, /* an upper layer that waits for its place: whiteouts are made there */
};

struct gw_apply *gw_apply_new(void);
void gw_apply_free(struct gw_apply *a);

/* From now on tree's root is this directory, which must exist. */
int gw_apply_root(struct gw_apply *a, uint32_t tree, const char *dir, enum gw_apply_kind kind, struct gw_err *e);
/* The payload of a TREE frame. GW_PEER: it is wrong, or names a tree without a root. */
int gw_apply_frame(struct gw_apply *a, const uint8_t *payload, size_t len, struct gw_err *e);

/* What was received of tree so far goes into `dir`, which becomes its root: by
 * rename where that is the same file system and nothing is there, else as a copy. */
int gw_apply_place(struct gw_apply *a, uint32_t tree, const char *dir, struct gw_err *e);
