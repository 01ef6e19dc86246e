#include "ckpt/pidns.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "base/scope.h"

enum {
	FIRST = 300,            /* the kernel's own restart after the last number */
	ENOUGH = 2000,          /* numbers: CRIU's helpers take some dozens */
	PID_MAX_USUAL = 32768,  /* the destination may have no more than that */
	STACK_BYTES = 16 << 10, /* of a process that makes three system calls */
};

struct numbers {
	pid_t *v;
	size_t n, cap;
};

static int add(struct numbers *l, long v)
{
	if (l->n == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 64;
		pid_t *more = reallocarray(l->v, cap, sizeof(*more));
		if (!more)
			return -ENOMEM;
		l->v = more;
		l->cap = cap;
	}
	l->v[l->n++] = (pid_t)v;
	return 0;
}

/* One that has ended meanwhile is nobody's. */
static int add_threads(struct numbers *l, const char *proc_dir, const char *pid)
{
	char path[PATH_MAX];
	int rc = 0;
	gw_path(path, sizeof(path), "%s/%s/task", proc_dir, pid);
	gw_auto(dir) DIR *d = opendir(path);
	for (const struct dirent *de; rc == 0 && d && (de = readdir(d));)
		if (de->d_name[0] != '.')
			rc = add(l, strtol(de->d_name, NULL, 10));
	return rc;
}

static int by_number(const void *a, const void *b)
{
	const pid_t *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

static pid_t longest_gap(const struct numbers *l)
{
	pid_t last = l->n ? l->v[l->n - 1] : 0, from = FIRST, at = FIRST, best = 0;
	if (last < PID_MAX_USUAL - ENOUGH)
		return last + 1 > FIRST ? last + 1 : FIRST;
	for (size_t i = 0; i < l->n; i++) {
		if (l->v[i] >= at && l->v[i] - at > best) {
			best = l->v[i] - at;
			from = at;
		}
		if (l->v[i] >= at)
			at = l->v[i] + 1;
	}
	return from;
}

int gw_pidns_gap(const char *proc_dir, pid_t *out_from, struct gw_err *e)
{
	struct numbers l = {0};
	int rc = 0;
	gw_auto(dir) DIR *d = opendir(proc_dir);
	if (!d)
		return gw_fail(e, GW_SYS, errno, "open %s", proc_dir);
	for (const struct dirent *de; rc == 0 && (de = readdir(d));)
		if (de->d_name[0] >= '1' && de->d_name[0] <= '9')
			rc = add_threads(&l, proc_dir, de->d_name);
	if (rc == 0 && l.n == 0)
		rc = -ESRCH;
	if (rc == 0) {
		qsort(l.v, l.n, sizeof(*l.v), by_number);
		*out_from = longest_gap(&l);
	}
	free(l.v);
	return rc < 0 ? gw_fail(e, GW_SYS, -rc, "list the processes in %s", proc_dir) : 0;
}

/* ---- counting ---- */

struct job {
	int ns, knob;
	char text[16];
	size_t len;
	int err;
	alignas(16) char outer[STACK_BYTES], inner[STACK_BYTES];
};

/* Both share our memory while we wait: system calls only. The knob is that of the
 * namespace of whoever writes to it. */
static int write_knob(void *arg)
{
	struct job *j = arg;
	if (write(j->knob, j->text, j->len) != (ssize_t)j->len)
		j->err = errno;
	return 0;
}

static int enter(void *arg)
{
	struct job *j = arg;
	if (setns(j->ns, CLONE_NEWPID) < 0) {
		j->err = errno;
		return 0;
	}
	pid_t pid = clone(write_knob, j->inner + sizeof(j->inner), CLONE_VM | CLONE_VFORK | SIGCHLD, j);
	if (pid < 0)
		j->err = errno;
	else
		(void)waitpid(pid, NULL, 0);
	return 0;
}

int gw_pidns_count_from(const char *ns_path, pid_t from, struct gw_err *e)
{
	gw_auto(fd) int ns = open(ns_path, O_RDONLY | O_CLOEXEC);
	gw_auto(fd) int knob = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);
	if (ns < 0 || knob < 0)
		return gw_fail(e, GW_SYS, errno, "open %s", ns < 0 ? ns_path : "/proc/sys/kernel/ns_last_pid");
	gw_auto(mem) struct job *j = calloc(1, sizeof(*j));
	if (!j)
		return gw_fail(e, GW_SYS, ENOMEM, "count processes of %s", ns_path);
	j->ns = ns;
	j->knob = knob;
	j->len = (size_t)snprintf(j->text, sizeof(j->text), "%d", from - 1);
	pid_t pid = clone(enter, j->outer + sizeof(j->outer), CLONE_VM | CLONE_VFORK | SIGCHLD, j);
	if (pid < 0)
		return gw_fail(e, GW_SYS, errno, "start a process for %s", ns_path);
	(void)waitpid(pid, NULL, 0);
	return j->err ? gw_fail(e, GW_SYS, j->err, "set the next process number of %s to %d", ns_path, from) : 0;
}
