/* check_proc: the container's processes: which belong to its tree, and what
 * state, tracer or namespace of one is in the way. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/scope.h"
#include "ckpt/freezer.h"
#include "move/check_look.h"

enum { LOOKS_AGAIN = 4, LOOK_AGAIN_US = 5000, EXIT_TAKES_US = 5000 };

static struct gw_look_proc *proc_of(const struct gw_look *l, pid_t pid)
{
	for (size_t i = 0; i < l->nprocs; i++)
		if (l->procs[i].pid == pid)
			return &l->procs[i];
	return NULL;
}

static int add_proc(struct gw_look *l, pid_t pid, bool in_cgroup)
{
	void *array = l->procs;
	if (gw_look_grow(&array, &l->procs_cap, l->nprocs, sizeof(*l->procs)) < 0)
		return -ENOMEM;
	l->procs = array;
	l->procs[l->nprocs++] = (struct gw_look_proc){.pid = pid, .in_cgroup = in_cgroup};
	return 0;
}

static int on_cgroup_pid(void *ctx, pid_t pid)
{
	return add_proc(ctx, pid, true);
}

static int by_pid(const void *a, const void *b)
{
	const struct gw_look_proc *x = a, *y = b;
	return (x->pid > y->pid) - (x->pid < y->pid);
}

static bool known(const struct gw_look *l, size_t sorted, pid_t pid)
{
	const struct gw_look_proc key = {.pid = pid};
	if (bsearch(&key, l->procs, sorted, sizeof(key), by_pid))
		return true;
	for (size_t i = sorted; i < l->nprocs; i++)
		if (l->procs[i].pid == pid)
			return true;
	return false;
}

static int add_children_of(struct gw_look *l, size_t sorted, pid_t pid)
{
	char path[64];
	gw_path(path, sizeof(path), "/proc/%d/task", pid);
	gw_auto(dir) DIR *d = opendir(path);
	for (struct dirent *de; d && (de = readdir(d));) {
		if (de->d_name[0] == '.')
			continue;
		gw_auto(mem) char *text = gw_look_text("/proc/%d/task/%s/children", pid, de->d_name);
		for (char *p = text, *end; p && *p; p = end) {
			pid_t child = (pid_t)strtol(p, &end, 10);
			if (end == p)
				break;
			if (!known(l, sorted, child) && add_proc(l, child, false) < 0)
				return -ENOMEM;
		}
	}
	return 0;
}

/* Which processes descend from the first one, as CRIU walks them. */
static int mark_tree(struct gw_look *l)
{
	struct gw_look_proc *init = proc_of(l, l->c->init_pid);
	if (!init)
		return -ESRCH;
	init->in_tree = true;
	for (bool more = true; more;) {
		more = false;
		for (size_t i = 0; i < l->nprocs; i++) {
			struct gw_look_proc *p = &l->procs[i];
			const struct gw_look_proc key = {.pid = p->ppid};
			const struct gw_look_proc *up = bsearch(&key, l->procs, l->nprocs, sizeof(key), by_pid);
			if (!p->in_tree && up && up->in_tree)
				more = p->in_tree = true;
		}
	}
	return 0;
}

/* "NSpid: 4711 7": how many levels, and the innermost number. */
static unsigned levels(const char *text, const char *key, long *out_inner)
{
	const char *p = gw_look_field(text, key);
	unsigned n = 0;
	for (char *end; p; p = end) {
		long v = strtol(p, &end, 10);
		if (end == p)
			break;
		n++;
		*out_inner = v;
		if (*end == '\n')
			break;
	}
	return n;
}

static void name_proc(struct gw_look_proc *p, const char *status)
{
	long inner = p->pid;
	const char *name = gw_look_field(status, "Name:") ?: "?";
	levels(status, "NSpid:", &inner);
	(void)snprintf(p->who, sizeof(p->who), "process %ld (%.*s)", inner, (int)strcspn(name, "\n"), name);
}

static uint64_t kib(const char *status, const char *key)
{
	const char *v = gw_look_field(status, key);
	return v ? strtoull(v, NULL, 10) << 10 : 0;
}

static void count_memory(struct gw_look *l, const char *status)
{
	l->locked += kib(status, "VmLck:") + kib(status, "VmPin:");
	l->huge += kib(status, "HugetlbPages:");
}

static char state_of(const char *status)
{
	const char *s = gw_look_field(status, "State:");
	return s ? *s : '?';
}

static int look_task(struct gw_look *l, const struct gw_look_proc *p, pid_t tid, const char *status)
{
	const char *tracer = gw_look_field(status, "TracerPid:");
	if (tracer && atoi(tracer) != 0)
		gw_reasons_add(l->out, "ProcessTraced", "%s is traced by process %d of this host", p->who,
		               atoi(tracer));
	char state = state_of(status);
	if (state == 'T')
		gw_reasons_add(l->out, "ProcessStopped", "%s (on this host %d) is stopped by a signal", p->who, p->pid);
	if (state != 'D')
		return 0;
	void *array = l->stuck;
	if (gw_look_grow(&array, &l->stuck_cap, l->nstuck, sizeof(*l->stuck)) < 0)
		return -ENOMEM;
	l->stuck = array;
	struct gw_look_stuck *s = &l->stuck[l->nstuck++];
	*s = (struct gw_look_stuck){.pid = p->pid, .tid = tid};
	memcpy(s->who, p->who, sizeof(s->who));
	return 0;
}

static int look_threads(struct gw_look *l, const struct gw_look_proc *p)
{
	char path[64];
	unsigned alive = 0;
	gw_path(path, sizeof(path), "/proc/%d/task", p->pid);
	gw_auto(dir) DIR *d = opendir(path);
	for (struct dirent *de; d && (de = readdir(d));) {
		if (de->d_name[0] == '.' || atoi(de->d_name) == p->pid)
			continue;
		gw_auto(mem) char *status = gw_look_text("/proc/%d/task/%s/status", p->pid, de->d_name);
		if (!status)
			continue;
		alive += !strchr("ZX", state_of(status));
		if (look_task(l, p, atoi(de->d_name), status) < 0)
			return -ENOMEM;
	}
	if (p->is_zombie && alive)
		gw_reasons_add(l->out, "ZombieThreads", "%s ended, but %u of its threads run on", p->who, alive);
	return 0;
}

/* The number in "pid:[4026531836]", 0: not there (any more). */
static uint64_t ns_of(pid_t pid, const char *type)
{
	char path[64], text[64];
	gw_path(path, sizeof(path), "/proc/%d/ns/%s", pid, type);
	ssize_t n = readlink(path, text, sizeof(text) - 1);
	if (n < 0)
		return 0;
	text[n] = 0;
	const char *p = strchr(text, '[');
	return p ? strtoull(p + 1, NULL, 10) : 0;
}

static void look_ns(struct gw_look *l, struct gw_look_proc *p)
{
	static const char *const types[] = {"user", "mnt", "net", "ipc", "uts", "cgroup", "time", "time_for_children"};
	static const char *const same[] = {"user", "mnt", "net", "ipc", "uts", "cgroup", "time", "time"};
	pid_t init = l->c->init_pid;
	uint64_t pid_ns = ns_of(init, "pid"), own = ns_of(p->pid, "pid"), next = ns_of(p->pid, "pid_for_children");
	if (own && own != pid_ns)
		gw_reasons_add(l->out, "NestedPidNamespace", "%s is in a pid namespace inside the container's", p->who);
	else if (next && next != pid_ns)
		gw_reasons_add(l->out, "NestedPidNamespace", "%s made a pid namespace for its children", p->who);
	for (size_t i = 0; i < gw_countof(types); i++) {
		uint64_t theirs = ns_of(p->pid, types[i]), ours = ns_of(init, same[i]);
		if (!theirs || !ours || theirs == ours)
			continue;
		gw_reasons_add(l->out, "NestedNamespace", "%s is in a %s namespace of its own", p->who, same[i]);
		p->own_mounts |= !strcmp(types[i], "mnt");
	}
}

/* A process that exits is moved to the root cgroup before it is a zombie: one
 * of those is gone, or shows as one, a moment later. */
static bool is_outside_still(const struct gw_look *l, const struct gw_look_proc *p)
{
	char dir[PATH_MAX];
	if (p->is_zombie)
		return false;
	gw_sleep_us(EXIT_TAKES_US);
	gw_auto(mem) char *stat = gw_look_text("/proc/%d/stat", p->pid);
	const char *state = stat ? strrchr(stat, ')') : NULL;
	if (!state || state[1] == 0 || state[2] == 'Z' || state[2] == 'X')
		return false;
	return gw_freezer_of(p->pid, dir, sizeof(dir), NULL) == 0 && strcmp(dir, l->c->freezer_dir) != 0;
}

/* In a process namespace that containers share, whoever loses its parent gets the
 * namespace's first process, which is the pod's and not the container's. */
static bool is_orphan(const struct gw_look *l, const struct gw_look_proc *p)
{
	uint64_t ours = ns_of(l->c->init_pid, "pid");
	return !p->is_zombie && ours && !proc_of(l, p->ppid) && ns_of(p->ppid, "pid") == ours;
}

static int look_proc(struct gw_look *l, struct gw_look_proc *p, const char *status)
{
	long session = -1;
	if (look_task(l, p, p->pid, status) < 0 || look_threads(l, p) < 0)
		return -ENOMEM;
	if (!p->in_tree && is_orphan(l, p)) {
		gw_reasons_add(l->out, "OrphanProcess", "%s has lost its parent: its new one is the pod's", p->who);
		return 0;
	}
	if (!p->in_tree) {
		gw_reasons_add(l->out, "ExecSession", "%s was started from outside and stays behind", p->who);
		return 0;
	}
	if (!p->in_cgroup && is_outside_still(l, p))
		gw_reasons_add(l->out, "ProcessOutsideCgroup", "%s (on this host %d) is not in %s", p->who, p->pid,
		               l->c->freezer_dir);
	if (levels(status, "NSsid:", &session) > 1 && session == 0)
		gw_reasons_add(l->out, "SessionOutside", "%s belongs to a session of the host", p->who);
	if (p->is_zombie)
		return 0;
	look_ns(l, p);
	count_memory(l, status);
	return 0;
}

/* First parents and names of all, then the tree, then each. */
static int read_procs(struct gw_look *l)
{
	char **status = calloc(l->nprocs + 1, sizeof(*status));
	int rc = status ? 0 : -ENOMEM;
	for (size_t i = 0; rc == 0 && i < l->nprocs; i++) {
		struct gw_look_proc *p = &l->procs[i];
		status[i] = gw_look_text("/proc/%d/status", p->pid);
		const char *parent = status[i] ? gw_look_field(status[i], "PPid:") : NULL;
		if (!parent)
			continue;
		p->ppid = atoi(parent);
		p->is_zombie = strchr("ZX", state_of(status[i])) != NULL;
		name_proc(p, status[i]);
	}
	if (rc == 0)
		rc = mark_tree(l);
	for (size_t i = 0; rc == 0 && i < l->nprocs; i++) {
		if (status[i])
			rc = look_proc(l, &l->procs[i], status[i]);
		else
			l->procs[i].in_tree = false; /* it ended meanwhile */
	}
	for (size_t i = 0; status && i < l->nprocs; i++)
		free(status[i]);
	free(status);
	return rc;
}

int gw_look_procs(struct gw_look *l, struct gw_err *e)
{
	int rc = gw_freezer_each(l->c->freezer_dir, on_cgroup_pid, l);
	if (rc == 0 && !proc_of(l, l->c->init_pid))
		rc = add_proc(l, l->c->init_pid, false);
	if (l->nprocs)
		qsort(l->procs, l->nprocs, sizeof(*l->procs), by_pid);
	size_t sorted = l->nprocs;
	/* Found ones go to the end of the list, and so are walked too; the
	 * children of what runc exec started are not the container's tree. */
	for (size_t i = 0; rc == 0 && i < l->nprocs; i++)
		rc = add_children_of(l, sorted, l->procs[i].pid);
	if (l->nprocs)
		qsort(l->procs, l->nprocs, sizeof(*l->procs), by_pid);
	if (rc == 0)
		rc = read_procs(l);
	return rc < 0 ? gw_fail(e, GW_SYS, -rc, "look at the processes of %s", l->c->id) : 0;
}

void gw_look_stuck_again(struct gw_look *l)
{
	for (unsigned k = 0; l->nstuck && k < LOOKS_AGAIN; k++) {
		size_t n = 0;
		gw_sleep_us(LOOK_AGAIN_US);
		for (size_t i = 0; i < l->nstuck; i++) {
			gw_auto(mem) char *status =
			        gw_look_text("/proc/%d/task/%d/status", l->stuck[i].pid, l->stuck[i].tid);
			if (status && state_of(status) == 'D')
				l->stuck[n++] = l->stuck[i];
		}
		l->nstuck = n;
	}
	for (size_t i = 0; i < l->nstuck; i++)
		gw_reasons_add(l->out, "Uninterruptible", "a thread of %s (on this host %d) does not leave the kernel",
		               l->stuck[i].who, l->stuck[i].tid);
}
