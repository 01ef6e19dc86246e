#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* segments: the System V segments of a process's IPC namespace. */
struct gw_segment {
	uint64_t id;
	uint64_t attached; /* mappings, of whomever */
};

/* *out is the caller's to free; sorted by nothing. Reads in a thread of its own: the
 * caller's namespace stays. < 0: -errno. Any thread. */
int gw_segments_of(pid_t pid, struct gw_segment **out, size_t *out_n);
