#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/gw_err.h"

/* calls: which threads wait for a time, and in which system call.
 *
 * A thread that is stopped in poll, nanosleep or clock_nanosleep and goes on
 * does so by restart_syscall(2), which says nothing of what it goes on with:
 * that is the kernel's own state, which nobody can read or move. It happens to
 * whoever was frozen before (a migration that was given up, a paused container,
 * a freeze in two tries). So it is written down while the threads still wait,
 * for libgodwit-criu.so, which shows CRIU the call as it was (docs/criu.md).
 *
 * x86-64. Any thread. */
struct gw_call {
	uint64_t tid, nr, sp, pc;
};

/* All threads of a cgroup that wait so now, as struct gw_call in any order, into a new
 * file at path. Some 10 us a thread. A thread of which it can't be told is left out. */
int gw_calls_write(const char *cgroup_dir, const char *path, struct gw_err *e);

/* The text of /proc/TID/syscall, and of its /proc/TID/stack (NULL: not readable), which is
 * looked at after restart_syscall alone. False: it does not wait for a time. */
bool gw_call_parse(const char *syscall, const char *stack, struct gw_call *out);
