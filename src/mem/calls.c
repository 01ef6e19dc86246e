#include "mem/calls.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"
#include "base/scope.h"
#include "mem/procs.h"

#ifdef __x86_64__

enum { TEXT_MAX = 16 << 10, CLOCKS = 32 };

static bool has(const char *stack, const char *name)
{
	return strstr(stack, name);
}

/* The functions that restart_syscall calls (restart_block.fn in Linux 6.18), or what they
 * call last: futex_wait_restart's waiters look again whatever it says, so it is left out.
 * Of hrtimer_nanosleep_restart, which ends in a function of the scheduler, /proc/TID/stack
 * may show nothing but who called it. */
static bool goes_on_with(const char *stack, const unsigned long long arg[6], uint64_t *out_nr)
{
	const char *first = strchr(stack, ' '); /* "[<0>] name+0x1/0x2" */
	if (has(stack, "do_restart_poll") || has(stack, "do_sys_poll"))
		*out_nr = SYS_poll;
	else if (has(stack, "nsleep"))
		*out_nr = SYS_clock_nanosleep;
	else if (has(stack, "hrtimer_nanosleep_restart") ||
	         (first && (!strncmp(first, " do_syscall_64+", 15) || !strncmp(first, " x64_sys_call+", 14) ||
	                    !strncmp(first, " __x64_sys_restart_syscall+", 27))))
		*out_nr = arg[0] < CLOCKS ? SYS_clock_nanosleep : SYS_nanosleep; /* a clock or an address */
	else
		return false;
	return true;
}

bool gw_call_parse(const char *syscall, const char *stack, struct gw_call *out)
{
	long nr;
	unsigned long long a[6], sp, pc;
	/* proc_pid_syscall(5); "running" and -1 (not in a call) have fewer words */
	if (sscanf(syscall, "%ld %llx %llx %llx %llx %llx %llx %llx %llx", &nr, &a[0], &a[1], &a[2], &a[3], &a[4],
	           &a[5], &sp, &pc) != 9)
		return false;
	*out = (struct gw_call){.nr = (uint64_t)nr, .sp = sp, .pc = pc};
	if (nr == SYS_restart_syscall)
		return stack && goes_on_with(stack, a, &out->nr);
	return nr == SYS_poll || nr == SYS_nanosleep || nr == SYS_clock_nanosleep;
}

static bool call_of(pid_t tid, struct gw_call *out)
{
	char path[64];
	gw_auto(mem) char *call = NULL;
	gw_auto(mem) char *stack = NULL;
	struct gw_err ignored;
	gw_path(path, sizeof(path), "/proc/%d/syscall", tid);
	if (gw_read_file(path, TEXT_MAX, &call, NULL, &ignored) < 0)
		return false;
	if (strtol(call, NULL, 10) == SYS_restart_syscall) {
		gw_path(path, sizeof(path), "/proc/%d/stack", tid);
		(void)gw_read_file(path, TEXT_MAX, &stack, NULL, &ignored);
	}
	bool waits = gw_call_parse(call, stack, out);
	out->tid = (uint64_t)tid;
	return waits;
}

static int write_calls(const struct gw_pids *pids, struct gw_pids *threads, FILE *f)
{
	for (size_t i = 0; i < pids->n; i++) {
		if (gw_threads_read(threads, pids->v[i]) < 0)
			continue; /* gone */
		for (size_t k = 0; k < threads->n; k++) {
			struct gw_call c;
			if (call_of(threads->v[k], &c) && fwrite(&c, sizeof(c), 1, f) != 1)
				return -errno;
		}
	}
	return fflush(f) ? -errno : 0;
}

int gw_calls_write(const char *cgroup_dir, const char *path, struct gw_err *e)
{
	struct gw_pids pids = {0}, threads = {0};
	int rc = gw_pids_read(&pids, cgroup_dir, e);
	if (rc == 0) {
		gw_auto(file) FILE *f = fopen(path, "we");
		rc = f ? write_calls(&pids, &threads, f) : -errno;
		if (rc < 0)
			(void)gw_fail(e, GW_SYS, -rc, "write %s", path);
	}
	gw_pids_done(&threads);
	gw_pids_done(&pids);
	return rc;
}

#else
/* Elsewhere the library has no use for it (preload/godwit-criu.c, wait_again). */
bool gw_call_parse(const char *syscall, const char *stack, struct gw_call *out)
{
	(void)syscall, (void)stack, (void)out;
	return false;
}

int gw_calls_write(const char *cgroup_dir, const char *path, struct gw_err *e)
{
	(void)cgroup_dir, (void)path, (void)e;
	return 0;
}
#endif
