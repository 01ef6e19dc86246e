#pragma once
#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#include "base/gw_err.h"

/* record: what was written in a directory tree, as it travels (docs/files.md).
 *
 * A TREE frame is a sequence of records, each a step that the receiver takes in
 * its copy of tree `tree`, in this order. Paths are relative to the tree's root,
 * "." is the root itself; no component is "." or "..", none is empty. The codec is
 * pure: lengths, paths and bodies are checked before a record is handed out.
 * Any thread. */
enum gw_rec_op : uint8_t {
	GW_REC_MAKE = 1,   /* be there: mode's type, size (files), rdev (devices); body: a symlink's target */
	GW_REC_DATA = 2,   /* body at offset `size` of a file */
	GW_REC_HOLE = 3,   /* `rdev` bytes at offset `size` read as zero and take no room */
	GW_REC_LINK = 4,   /* another name of the file whose path is the body */
	GW_REC_REMOVE = 5, /* be gone, with all below */
	GW_REC_END = 6,    /* owner, permissions, times; body: all extended attributes (gw_xattr_*) */
};
enum { GW_REC_OPAQUE = 1 /* flag of MAKE: nothing of a lower layer shows in this directory */ };
enum { GW_REC_HDR_BYTES = 72, GW_REC_BODY_MAX = 768 << 10, GW_REC_TREES_MAX = 256 };

struct gw_rec {
	enum gw_rec_op op;
	uint8_t flags;
	uint32_t tree;
	uint32_t mode; /* as st_mode */
	uint32_t uid, gid;
	uint64_t rdev, size;
	int64_t mtime_s, atime_s;
	uint32_t mtime_ns, atime_ns;
	char path[PATH_MAX];
	const uint8_t *body; /* borrowed: from the caller, or in the payload */
	uint32_t body_len;
};

/* Bytes that gw_rec_pack writes for r. */
size_t gw_rec_bytes(const struct gw_rec *r);
size_t gw_rec_pack(const struct gw_rec *r, uint8_t *out);
/* The record at *inout_at of a payload; moves on. 0, 1 at the end, GW_PEER when it is wrong. */
int gw_rec_unpack(const uint8_t *payload, size_t len, size_t *inout_at, struct gw_rec *out, struct gw_err *e);

/* The body of END: for each attribute u16 length of the name, u32 length of the
 * value, name, value. out must have room for 6 + both. */
size_t gw_xattr_pack(const char *name, const void *value, uint32_t value_len, uint8_t *out);
struct gw_xattr {
	char name[256];
	const uint8_t *value;
	uint32_t value_len;
};
/* As gw_rec_unpack. */
int gw_xattr_unpack(const uint8_t *body, size_t len, size_t *inout_at, struct gw_xattr *out, struct gw_err *e);
