#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/gw_err.h"

/* pagelog: which pages of some files may have changed, from the kernel's trace of its page cache.
 *
 * Two tracepoints are followed in a trace instance of our own (tracefs), filtered by
 * inode number: a page becomes dirty, a page leaves the cache. For a page that was
 * clean and in the cache at some moment (gw_cache_settled) every later change of
 * the file's contents is one of them: write(2), splice and a mapping make it dirty
 * before they return, O_DIRECT, truncation, holes and clones take it out of the
 * cache. It holds for file systems on a disk (gw_pagelog_suits), not for tmpfs.
 * What the trace buffer lost is said: then all files are unknown again.
 *
 * Two files with one number on two file systems are marked both: too much, never
 * too little. The kernel's cost: a comparison of numbers for each page that
 * anybody makes dirty, and 1.4 MiB a CPU while a log lives.
 * Threads: one caller, and one of its own. Pages are of 4 KiB (the kernel's). */
enum { GW_PAGELOG_FILES_MAX = 128 };
struct gw_pagelog;

/* Fails where there is no tracefs or no such tracepoint. */
int gw_pagelog_new(struct gw_pagelog **out, struct gw_err *e);
void gw_pagelog_free(struct gw_pagelog *l); /* NULL is fine */

/* Is the open file on a file system for which this holds? */
bool gw_pagelog_suits(int fd);
/* Its number, from 1 on; 0: GW_PAGELOG_FILES_MAX are followed. */
unsigned gw_pagelog_add(struct gw_pagelog *l, uint64_t ino);
void gw_pagelog_drop(struct gw_pagelog *l, unsigned file);
/* Tell the kernel of what was added and dropped; some 10 ms when there is any. */
int gw_pagelog_follow(struct gw_pagelog *l, struct gw_err *e);

/* Take what the kernel has so far. The marks of a take below are those up to here. */
void gw_pagelog_drain(struct gw_pagelog *l);
/* Hands out, and clears, the marks of a file that has npages now: a bit each,
 * to be freed. Pages beyond its former end are marked. NULL: nothing is known, all
 * may have changed. Then, when the caller has looked at all of it and marked what
 * was not settled, gw_pagelog_begin: from that drain on marks tell. */
uint64_t *gw_pagelog_take(struct gw_pagelog *l, unsigned file, uint64_t npages);
void gw_pagelog_begin(struct gw_pagelog *l, unsigned file);
/* Does gw_pagelog_begin make sense: was it followed at the last take? */
bool gw_pagelog_looked_at(struct gw_pagelog *l, unsigned file);
bool gw_pagelog_knows(struct gw_pagelog *l, unsigned file);
void gw_pagelog_mark(struct gw_pagelog *l, unsigned file, uint64_t page, uint64_t n);

/* Write out what is dirty, so that it can be settled. Changes nothing that is read. */
void gw_cache_clean(int fd);
/* Are these bytes all in the page cache, and clean? Asked before they are read. */
bool gw_cache_settled(int fd, uint64_t offset, uint64_t len);
