#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/gw_err.h"
#include "files/names.h"

/* watch: which names of watched directories changed since the last look.
 *
 * inotify, one mark for each directory (docs/files.md says why not fanotify).
 * A thread of its own empties the kernel's queue, so that only a burst of more
 * than fs.inotify.max_queued_events within a moment is lost, and that is said.
 * The kernel queues an event in the writer's own call: when a writer stands
 * still, all it did is in the queue.
 *
 * Not seen: writes through a mapping.
 * Threads  one caller. Owner: the scan. */
struct gw_watch;

int gw_watch_new(struct gw_watch **out, struct gw_err *e);
void gw_watch_free(struct gw_watch *w);

/* Watch the directory that fd (also O_PATH) is, known as `path` of `tree`; again
 * after it was renamed. contents_only: what it is said to contain is watched
 * elsewhere, only writes into its files are looked for here.
 * -ENOSPC: fs.inotify.max_user_watches is reached. */
int gw_watch_dir(struct gw_watch *w, uint32_t tree, const char *path, int fd, bool contents_only);

/* The changes so far, each name once, to be freed with gw_changes_free.
 * *out_lost: there were more than could be kept; look at everything. */
struct gw_change *gw_watch_take(struct gw_watch *w, bool *out_lost);
