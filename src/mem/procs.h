#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/gw_err.h"

/* procs: who is in a cgroup, and what /proc/PID/status says of one of them.
 *
 * Both cgroup versions: a directory, its cgroup.procs, and the directories in
 * it. A directory that goes away while we look had nobody in it.
 *
 * Owner: whoever holds the struct; reading again reuses its memory. Threads:
 * one at a time. Limits: 64 levels of cgroups. */
struct gw_pids {
	pid_t *v; /* rising, each once */
	size_t n, cap;
};

int gw_pids_read(struct gw_pids *p, const char *cgroup_dir, struct gw_err *e);
void gw_pids_done(struct gw_pids *p);
bool gw_pids_has(const struct gw_pids *p, pid_t pid);

enum { GW_NSPID_MAX = 33 }; /* MAX_PID_NS_LEVEL of the kernel + 1 */

struct gw_task {
	char state; /* as in proc_pid_status(5); 'Z' and 'X' have no memory */
	uint32_t threads;
	pid_t tgid;
	pid_t tracer;
	uint64_t locked_kb; /* VmLck */
	uint64_t tables_kb; /* VmPTE */
	uint64_t anon_kb;   /* RssAnon */
	bool ignores_child; /* SIGCHLD is ignored: its children vanish unseen */
	unsigned nlevels;   /* pid namespaces from ours inward */
	pid_t nspid[GW_NSPID_MAX];
};

int gw_task_read(pid_t pid, struct gw_task *out); /* -ESRCH: gone */
int gw_task_parse(const char *text, struct gw_task *out);

/* Page faults of children that have been waited for, from /proc/PID/stat:
 * any child that ran and was reaped has changed it. */
int gw_task_child_faults(pid_t pid, uint64_t *out);

/* A number for who of its children is a zombie that `known` does not hold:
 * the same as long as they are the same. Exact only while it is frozen. */
int gw_task_zombies(pid_t pid, const struct gw_pids *known, uint64_t *out);

/* The threads of a process, the first one first. -ESRCH: gone. */
int gw_threads_read(struct gw_pids *p, pid_t pid);
