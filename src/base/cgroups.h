#pragma once
#include <sys/types.h>

/* cgroups: where our own processes are. */

/* Into the root cgroup of every hierarchy that is mounted here; where the
 * kernel refuses, it stays. Each move can take an RCU grace period (20 ms);
 * none is made out of where it is already. Safe from threads. */
void gw_cgroups_leave(pid_t pid);
/* Into the cgroup `path` (from the root of the mount, made if it is not there) of
 * every hierarchy that counts what a container uses: memory, cpu, pids, blkio; of
 * v2 the only one. Not where a cgroup has to be set up first (cpuset) or where a
 * container's must be empty (devices). What is refused is logged and left.
 * Safe from threads. */
void gw_cgroups_enter(pid_t pid, const char *path);
