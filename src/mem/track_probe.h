#pragma once
#include <stddef.h>
#include <sys/types.h>

#include "mem/maps.h"
#include "mem/track.h"

/* track_probe: what the kernel can do, and what a process does that matters
 * to the tracker. Any thread. */

/* Tried on ourselves. *out_why: what is missing. */
bool gw_track_backend_works(enum gw_track_backend b, char *out_why, size_t size);

/* Has it a file open with O_DIRECT, or an AIO ring? (Those write into its
 * memory behind the back of the page tables.) */
bool gw_track_direct_io(pid_t pid, const struct gw_maps *m);

/* Does it hold a copy of one of our userfaultfds? They are in a process for
 * the 20-50 us between their making and their closing, and another thread
 * that forks just then hands a copy to the child, which CRIU could not dump. */
struct gw_proc;
bool gw_track_leaked(const struct gw_tracker *t, const struct gw_proc *p);

/* Each such descriptor: fn(ctx, number in the process). */
typedef void gw_leak_fn(void *ctx, int fd);
size_t gw_track_leaks(const struct gw_tracker *t, pid_t pid, gw_leak_fn *fn, void *ctx);
