#pragma once
#include <stdbool.h>

#include "base/gw_err.h"

/* netns: network namespaces by path and by descriptor.
 *
 * The calling thread's namespace never changes: what has to run elsewhere
 * runs in a thread of its own that ends before the call returns.
 * Any thread. */

/* A descriptor of the namespace at path. Anything else there is refused. */
int gw_netns_open(const char *path, int *out_fd, struct gw_err *e);

/* Is it the calling thread's own? 1, 0 or -errno. */
int gw_netns_is_ours(int fd);

/* Call fn(arg) in the namespace. Its result is ours, *e its error. */
int gw_netns_run(int fd, int (*fn)(void *arg, struct gw_err *e), void *arg, struct gw_err *e);

/* A new namespace kept alive by a bind mount at path (as `ip netns` does:
 * the directory is a shared mount). An existing path: -EEXIST. */
int gw_netns_make(const char *path, struct gw_err *e);

/* Unmount and unlink; a missing path is fine. What runs inside keeps it. */
int gw_netns_drop(const char *path, struct gw_err *e);
