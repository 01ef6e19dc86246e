#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* known: what the other side has by now, file by file.
 *
 * A path leads to an inode; several paths of a tree to one are hard links. An
 * inode lives as long as a path leads to it. Owner and thread: the scan's.
 * Memory: some 190 bytes and the path for each, 8 bytes for each 64 KiB. */
struct gw_known;

struct gw_known_inode {
	struct gw_known_inode *next; /* private */
	struct gw_known_path *paths;
	uint64_t ino;
	uint32_t tree;
	uint32_t mode;
	uint64_t size;
	int64_t ctime_s, mtime_s;
	uint32_t ctime_ns, mtime_ns;
	bool is_racy;     /* looked at within a tick of its change: its times say nothing */
	bool is_mapped;   /* seen mapped for writing: such writes show nowhere */
	uint32_t round;   /* in which it was compared last */
	uint64_t *pieces; /* a sum for each piece as sent; 0: zeros */
	size_t npieces;
	unsigned log_file; /* its number in the pagelog, 0: none */
	uint64_t *sums;    /* the same of its pages, when it has a number */
	size_t nsums;
};

struct gw_known_path {
	struct gw_known_path *next, *next_name;                 /* private; other names of the inode */
	struct gw_known_path *parent, *child, *sibling, **prev; /* private: the names in a directory */
	struct gw_known_inode *inode;
	uint32_t tree;
	uint32_t seen; /* the walk that saw it last */
	char path[];
};

struct gw_known *gw_known_new(void);
void gw_known_free(struct gw_known *k);
struct gw_known_path *gw_known_path(const struct gw_known *k, uint32_t tree, const char *path);
struct gw_known_inode *gw_known_inode(const struct gw_known *k, uint32_t tree, uint64_t ino);
/* inode NULL: a new one. */
struct gw_known_path *gw_known_add(struct gw_known *k, uint32_t tree, const char *path, uint64_t ino,
                                   struct gw_known_inode *inode);
/* The path, and all below it when it is a directory's. */
void gw_known_drop(struct gw_known *k, struct gw_known_path *p);
size_t gw_known_count(const struct gw_known *k);
/* In no order; fn may drop nothing. */
void gw_known_each(const struct gw_known *k, void (*fn)(void *ctx, struct gw_known_path *p), void *ctx);
/* Give room for n sums of pieces, of pages; new ones 0. -ENOMEM. */
int gw_known_pieces(struct gw_known_inode *i, size_t n);
int gw_known_sums(struct gw_known_inode *i, size_t n);
