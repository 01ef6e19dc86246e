/* source_pids: a container whose processes live in its pod's namespace
 * (shareProcessNamespace), looked at in the freeze. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/scope.h"
#include "ckpt/freezer.h"
#include "ckpt/pidns.h"
#include "move/source_priv.h"

enum { STATUS_MAX = 64 << 10 };

struct orphans {
	ino_t ns;
	const char *cgroup;
	pid_t first; /* 0: there is none */
};

static ino_t ns_of(pid_t pid)
{
	char path[64];
	struct stat st;
	gw_path(path, sizeof(path), "/proc/%d/ns/pid", pid);
	return stat(path, &st) < 0 ? 0 : st.st_ino;
}

static pid_t parent_of(pid_t pid)
{
	char path[64];
	gw_auto(mem) char *text = NULL;
	struct gw_err ignored;
	gw_path(path, sizeof(path), "/proc/%d/status", pid);
	if (gw_read_file(path, STATUS_MAX, &text, NULL, &ignored) < 0 || strstr(text, "\nState:\tZ"))
		return 0;
	const char *p = strstr(text, "\nPPid:");
	return p ? (pid_t)atoi(p + 6) : 0;
}

/* Whose parent is of the namespace but not of the container lost its own: the
 * tree that is saved does not have it (check_proc.c says so before). */
static int look_orphan(void *ctx, pid_t pid)
{
	struct orphans *o = ctx;
	char dir[PATH_MAX];
	pid_t up = parent_of(pid);
	if (up > 0 && ns_of(up) == o->ns && gw_freezer_of(up, dir, sizeof(dir), NULL) == 0 &&
	    strcmp(dir, o->cgroup) != 0)
		o->first = pid;
	return 0;
}

int gw_source_pids(struct gw_source *s, struct gw_err *e)
{
	const struct gw_container *c = s->container;
	char proc[64];
	struct orphans o = {.ns = ns_of(c->init_pid), .cgroup = c->freezer_dir};
	if (!c->pidns_path[0])
		return 0;
	int rc = gw_freezer_each(c->freezer_dir, look_orphan, &o);
	if (rc < 0)
		return gw_fail(e, GW_SYS, -rc, "list the processes of %s", c->id);
	if (o.first)
		return gw_fail_code(e, GW_RETRY, "OrphanProcess",
		                    "process %d of container %s has lost its parent: its new one is the pod's", o.first,
		                    c->id);
	gw_path(proc, sizeof(proc), "/proc/%d/root/proc", c->init_pid);
	return gw_pidns_gap(proc, &s->pids_from, e);
}
