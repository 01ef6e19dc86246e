#include "mem/procs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/scope.h"

/* A process may be in 65,536 groups, and status names them all. */
enum { LEVELS_MAX = 64, STATUS_MAX = 4 << 20 };

void gw_pids_done(struct gw_pids *p)
{
	free(p->v);
	*p = (struct gw_pids){0};
}

static int push(struct gw_pids *p, pid_t pid)
{
	if (p->n == p->cap) {
		size_t cap = p->cap ? p->cap * 2 : 64;
		pid_t *more = reallocarray(p->v, cap, sizeof(*more));
		if (!more)
			return -ENOMEM;
		p->v = more;
		p->cap = cap;
	}
	p->v[p->n++] = pid;
	return 0;
}

static int read_procs(struct gw_pids *p, int dir)
{
	gw_auto(fd) int fd = openat(dir, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT || errno == ENODEV ? 0 : -errno;
	gw_auto(file) FILE *f = fdopen(fd, "r");
	if (!f)
		return -errno;
	(void)gw_take_fd(&fd);
	char line[32];
	errno = 0;
	while (fgets(line, sizeof(line), f)) {
		long pid = strtol(line, NULL, 10);
		if (pid <= 0)
			return -EXDEV;
		int rc = push(p, (pid_t)pid);
		if (rc < 0)
			return rc;
		errno = 0;
	}
	/* A threaded cgroup (v2) refuses; its processes are listed at its root. */
	if (ferror(f) && errno != EOPNOTSUPP && errno != ENODEV)
		return -errno;
	return 0;
}

static int read_tree(struct gw_pids *p, int parent, const char *name, unsigned level)
{
	if (level == LEVELS_MAX)
		return -ELOOP;
	gw_auto(fd) int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return level && (errno == ENOENT || errno == ENODEV) ? 0 : -errno;
	int rc = read_procs(p, fd);
	if (rc < 0)
		return rc;
	gw_auto(dir) DIR *d = fdopendir(fd);
	if (!d)
		return -errno;
	(void)gw_take_fd(&fd);
	const struct dirent *de;
	while ((de = readdir(d))) {
		if (de->d_type != DT_DIR || de->d_name[0] == '.')
			continue;
		rc = read_tree(p, dirfd(d), de->d_name, level + 1);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int by_number(const void *a, const void *b)
{
	pid_t x = *(const pid_t *)a, y = *(const pid_t *)b;
	return (x > y) - (x < y);
}

int gw_pids_read(struct gw_pids *p, const char *cgroup_dir, struct gw_err *e)
{
	p->n = 0;
	int rc = read_tree(p, AT_FDCWD, cgroup_dir, 0);
	if (rc == -EXDEV)
		return gw_fail(e, GW_INPUT, EXDEV,
		               "%s holds processes that are not visible from here: run in the host's pid namespace",
		               cgroup_dir);
	if (rc < 0)
		return gw_fail(e, GW_SYS, -rc, "list the processes of cgroup %s", cgroup_dir);
	if (!p->n)
		return 0;
	qsort(p->v, p->n, sizeof(*p->v), by_number);
	size_t k = 1;
	for (size_t i = 1; i < p->n; i++)
		if (p->v[i] != p->v[k - 1])
			p->v[k++] = p->v[i];
	p->n = k;
	return 0;
}

bool gw_pids_has(const struct gw_pids *p, pid_t pid)
{
	return p->n && bsearch(&pid, p->v, p->n, sizeof(*p->v), by_number);
}

/* The value of "Key:" in a status text, or NULL. A process can put any text
 * into its name, but not a newline: the kernel escapes it. */
static const char *field(const char *text, const char *key)
{
	size_t n = strlen(key);
	for (const char *p = text; p; p = strchr(p, '\n')) {
		if (*p == '\n')
			p++;
		if (!strncmp(p, key, n) && p[n] == ':') {
			p += n + 1;
			return p + strspn(p, " \t");
		}
	}
	return NULL;
}

static uint64_t field_u64(const char *text, const char *key, int base)
{
	const char *p = field(text, key);
	return p ? strtoull(p, NULL, base) : 0;
}

int gw_task_parse(const char *text, struct gw_task *out)
{
	const char *state = field(text, "State"), *ns = field(text, "NSpid");
	if (!state || !*state)
		return -EINVAL;
	struct gw_task t = {.state = *state,
	                    .threads = (uint32_t)field_u64(text, "Threads", 10),
	                    .tgid = (pid_t)field_u64(text, "Tgid", 10),
	                    .tracer = (pid_t)field_u64(text, "TracerPid", 10),
	                    .locked_kb = field_u64(text, "VmLck", 10),
	                    .tables_kb = field_u64(text, "VmPTE", 10),
	                    .anon_kb = field_u64(text, "RssAnon", 10)};
	t.ignores_child = field_u64(text, "SigIgn", 16) >> (SIGCHLD - 1) & 1;
	while (ns && *ns >= '0' && *ns <= '9' && t.nlevels < GW_NSPID_MAX) {
		char *next;
		t.nspid[t.nlevels++] = (pid_t)strtol(ns, &next, 10);
		ns = next + strspn(next, " \t");
	}
	*out = t;
	return 0;
}

static int read_proc_file(pid_t pid, const char *name, char **out)
{
	char path[64];
	gw_path(path, sizeof(path), "/proc/%d/%s", pid, name);
	int rc = gw_read_file(path, STATUS_MAX, out, NULL, NULL);
	return rc == -ENOENT ? -ESRCH : rc;
}

int gw_task_read(pid_t pid, struct gw_task *out)
{
	gw_auto(mem) char *text = NULL;
	int rc = read_proc_file(pid, "status", &text);
	return rc < 0 ? rc : gw_task_parse(text, out);
}

int gw_task_child_faults(pid_t pid, uint64_t *out)
{
	gw_auto(mem) char *text = NULL;
	int rc = read_proc_file(pid, "stat", &text);
	if (rc < 0)
		return rc;
	char *p = strrchr(text, ')');
	unsigned long minor = 0, major = 0;
	/* state ppid pgrp session tty tpgid flags minflt cminflt majflt cmajflt */
	if (!p || sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %lu %*u %lu", &minor, &major) != 2)
		return -EINVAL;
	*out = (uint64_t)minor + major;
	return 0;
}

/* State and start of a process out of /proc/PID/stat. */
static uint64_t zombie_number(pid_t pid)
{
	gw_auto(mem) char *text = NULL;
	char state = 0;
	unsigned long long start = 0;
	if (read_proc_file(pid, "stat", &text) < 0)
		return 0;
	const char *p = strrchr(text, ')');
	/* state, 18 others, starttime */
	if (!p || sscanf(p + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
	                 &state, &start) != 2)
		return 0;
	return state == 'Z' || state == 'X' ? (start << 22 | (unsigned)pid) * 0x9e3779b97f4a7c15u : 0;
}

int gw_task_zombies(pid_t pid, const struct gw_pids *known, uint64_t *out)
{
	struct gw_pids threads = {0};
	uint64_t sum = 0;
	int rc = gw_threads_read(&threads, pid);
	for (size_t i = 0; rc == 0 && i < threads.n; i++) {
		char name[64];
		gw_auto(mem) char *text = NULL;
		gw_path(name, sizeof(name), "task/%d/children", threads.v[i]);
		int got = read_proc_file(pid, name, &text);
		if (got < 0 && got != -ESRCH)
			rc = got;
		char *next;
		for (char *p = text; p && *p; p = next) {
			pid_t child = (pid_t)strtol(p, &next, 10);
			if (next == p)
				break;
			if (!gw_pids_has(known, child))
				sum += zombie_number(child);
		}
	}
	gw_pids_done(&threads);
	*out = sum;
	return rc;
}

int gw_threads_read(struct gw_pids *p, pid_t pid)
{
	char path[64];
	p->n = 0;
	gw_path(path, sizeof(path), "/proc/%d/task", pid);
	gw_auto(dir) DIR *d = opendir(path);
	if (!d)
		return errno == ENOENT ? -ESRCH : -errno;
	const struct dirent *de;
	while ((de = readdir(d))) {
		long tid = strtol(de->d_name, NULL, 10);
		int rc = tid > 0 ? push(p, (pid_t)tid) : 0;
		if (rc < 0)
			return rc;
	}
	for (size_t i = 1; i < p->n; i++)
		if (p->v[i] == pid) {
			p->v[i] = p->v[0];
			p->v[0] = pid;
		}
	return p->n ? 0 : -ESRCH;
}
