#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/gw_err.h"

/* pagelog_trace: an instance of the kernel's trace that has pages of some inodes only.
 *
 * Used by pagelog.c only, under its lock. tracefs is mounted nowhere: it is reached
 * through a descriptor. An instance ends with its log; one that a killed process
 * left is removed by the next. */
struct gw_trace;

int gw_trace_new(struct gw_trace **out, struct gw_err *e);
void gw_trace_free(struct gw_trace *t);
/* From now on events of these inodes, at most GW_PAGELOG_FILES_MAX. */
int gw_trace_follow(struct gw_trace *t, const uint64_t *inos, size_t n, struct gw_err *e);
/* fn for each page, or run of pages, that became dirty or left the cache. false:
 * some were lost, or could not be read. */
typedef void gw_trace_fn(void *ctx, uint64_t ino, uint64_t page, uint64_t n);
bool gw_trace_read(struct gw_trace *t, gw_trace_fn *fn, void *ctx);
/* Has the kernel written down all since the last time this was asked? Some 10 us a CPU. */
bool gw_trace_is_whole(struct gw_trace *t);
