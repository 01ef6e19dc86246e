#pragma once
#include <sys/types.h>

/* cgroups: where our own processes are. */

/* Into the root cgroup of every hierarchy that is mounted here; where the
 * kernel refuses, it stays. Each move can take an RCU grace period (20 ms);
 * none is made out of where it is already. Safe from threads. */
void gw_cgroups_leave(pid_t pid);
