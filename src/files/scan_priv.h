#pragma once
#include <limits.h>
#include <sys/stat.h>

#include "files/known.h"
#include "files/names.h"
#include "files/pagelog.h"
#include "files/record.h"
#include "files/scan.h"
#include "files/watch.h"

/* scan_priv: shared by scan.c, scan_file.c and scan_pages.c only. */
enum { GW_SCAN_PIECE = 64 << 10, GW_SCAN_BLOCK = 4096, GW_SCAN_FRAME = 1 << 20 };

struct gw_tree {
	int fd, view_fd;
	bool is_layer, is_still;
};

/* One name: `name` in the directory dir_fd, which is `path` of the tree. */
struct gw_at {
	uint32_t tree;
	int dir_fd;
	const char *path, *name;
};

struct gw_logged {
	uint32_t tree;
	uint64_t ino; /* 0: nobody */
};

struct gw_scan {
	gw_scan_fn *sink;
	void *ctx;
	struct gw_tree trees[GW_REC_TREES_MAX];
	uint32_t ntrees;
	struct gw_known *known;
	struct gw_watch *watch; /* NULL: none to be had */
	uint32_t walk;          /* number of looks at everything */
	uint32_t round;
	bool walking;
	bool is_last;           /* the container stands still */
	struct gw_pagelog *log; /* NULL: not needed so far, or no_log */
	bool no_log;
	struct gw_logged logged[GW_PAGELOG_FILES_MAX]; /* by number - 1 */
	struct gw_names touched;                       /* directories whose times are to be set */
	struct gw_names removed;                       /* names that are gone */
	struct gw_names again;                         /* is_racy */
	struct gw_names mapped;
	struct gw_names written; /* of layers, ever */
	struct gw_names base;    /* large files whose pages are to be known, for a round */
	struct gw_scan_stats stats;
	char cache_dir[PATH_MAX]; /* whose descriptor cache_fd is, "": nobody's */
	uint32_t cache_tree;
	int cache_fd;
	size_t frame_len;
	uint8_t frame[GW_SCAN_FRAME];
	uint8_t piece[GW_SCAN_PIECE];
};

int gw_scan_flush(struct gw_scan *s, struct gw_err *e);
int gw_scan_put(struct gw_scan *s, struct gw_rec *r, const struct gw_at *at, struct gw_err *e);
int gw_scan_name(struct gw_scan *s, const struct gw_at *at, bool force, struct gw_err *e);
int gw_scan_walk(struct gw_scan *s, uint32_t tree, const char *path, struct gw_err *e);
/* scan_file.c: into s->piece, at most GW_SCAN_PIECE; -errno. */
int gw_scan_read(struct gw_scan *s, int fd, uint64_t from, size_t want, size_t *out);
/* All pieces, of which i has the right number; also its pages' sums. *out_whole: no byte was missing. */
int gw_scan_pieces(struct gw_scan *s, const struct gw_at *at, int fd, struct gw_known_inode *i, uint64_t size,
                   bool with_pages, bool *out_whole, struct gw_err *e);
/* scan_pages.c: what is to be looked at because nothing is known of its pages; at the end of a round */
void gw_scan_pages_begin(struct gw_scan *s);
void gw_scan_pages_end(struct gw_scan *s);
/* The sums of n bytes of pages in s->piece. */
void gw_scan_page_sums(struct gw_scan *s, struct gw_known_inode *i, size_t piece, size_t n);
/* What differs of a regular file from what was sent: of all, or of the pages that may. */
int gw_scan_pages(struct gw_scan *s, const struct gw_at *at, int fd, struct gw_known_inode *i, uint64_t size,
                  struct gw_err *e);
/* scan_file.c: the same of a name */
int gw_scan_contents(struct gw_scan *s, const struct gw_at *at, struct gw_known_inode *i, const struct statx *st,
                     struct gw_err *e);
int gw_scan_end(struct gw_scan *s, const struct gw_at *at, const struct statx *st, struct gw_err *e);
/* A directory of a layer whose contents are those of another one below. */
int gw_scan_refuse_redirect(const struct gw_at *at, struct gw_err *e);
