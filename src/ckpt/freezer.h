#pragma once
#include <stdbool.h>
#include <sys/types.h>

#include "base/gw_err.h"

/* freezer: stop and go for all processes of a cgroup.
 *
 * dir is the container's directory in the freezer hierarchy (cgroup v1,
 * freezer.state) or in the unified one (v2, cgroup.freeze); which of the two
 * it is, is found by looking. Freezing looks at the state every 50 us, never
 * in steps of 100 ms. Any thread. No state of its own. */
int gw_freezer_freeze(const char *dir, int timeout_ms, struct gw_err *e); /* on failure it is thawed again */
int gw_freezer_thaw(const char *dir, struct gw_err *e);
/* Ask for it without waiting: for tasks that are stopped by a tracer anyway. */
int gw_freezer_freeze_soon(const char *dir, struct gw_err *e);
bool gw_freezer_is_v2(const char *dir);

/* Kill every process of the cgroup and its children, frozen or not, so that
 * none runs one more instruction of its own: SIGKILL is pending before the
 * thaw. Waits until the cgroup is empty. */
int gw_freezer_kill(const char *dir, int timeout_ms, struct gw_err *e);

/* The freezer (v1) or unified (v2) directory of a process, as seen here. */
int gw_freezer_of(pid_t pid, char *out, size_t size, struct gw_err *e);
int gw_memory_of(pid_t pid, char *out, size_t size, struct gw_err *e); /* the same of memory */

/* fn for each process of the cgroup and its children; stops at < 0. */
typedef int gw_pid_fn(void *ctx, pid_t pid);
int gw_freezer_each(const char *dir, gw_pid_fn *fn, void *ctx);
int gw_kill_pid(void *ctx, pid_t pid); /* a gw_pid_fn: SIGKILL; counts into ctx (unsigned *) unless NULL */
