#include "base/cgroups.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/gw_log.h"
#include "base/io.h"
#include "base/scope.h"

/* "36 25 0:31 / /sys/fs/cgroup/freezer rw,... - cgroup cgroup rw,freezer" */
static bool cgroup_mount(char *line, const char **out_dir, const char **out_options)
{
	char *save, *word = strtok_r(line, " ", &save);
	const char *dir = NULL;
	for (int i = 0; word; i++, word = strtok_r(NULL, " ", &save)) {
		if (i == 4)
			dir = word;
		if (!strcmp(word, "-")) {
			word = strtok_r(NULL, " ", &save);
			*out_dir = dir;
			*out_options = strrchr(save, ' ');
			return dir && word && (!strcmp(word, "cgroup") || !strcmp(word, "cgroup2"));
		}
	}
	return false;
}

/* Every line of /proc/PID/cgroup ends with ":/" */
static bool at_root(pid_t pid)
{
	char path[40];
	gw_auto(mem) char *text = NULL;
	gw_path(path, sizeof(path), "/proc/%d/cgroup", pid);
	if (gw_read_file(path, 1 << 20, &text, NULL, NULL) < 0)
		return false;
	for (const char *l = text; *l;) {
		size_t n = strcspn(l, "\n");
		if (n < 2 || l[n - 1] != '/' || l[n - 2] != ':')
			return false;
		l += n + (l[n] == '\n');
	}
	return true;
}

void gw_cgroups_leave(pid_t pid)
{
	gw_auto(mem) char *text = NULL;
	char path[PATH_MAX], word[16], *save;
	if (at_root(pid) || gw_read_file("/proc/self/mountinfo", 4 << 20, &text, NULL, NULL) < 0)
		return;
	(void)snprintf(word, sizeof(word), "%d", pid);
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		const char *dir, *options;
		if (!cgroup_mount(line, &dir, &options) ||
		    (size_t)snprintf(path, sizeof(path), "%s/cgroup.procs", dir) >= sizeof(path))
			continue;
		int rc = gw_write_knob(path, word);
		if (rc < 0)
			gw_debug("stays in its cgroup", kv_str("of", dir), kv_str("error", strerrordesc_np(-rc)));
	}
}

/* " rw,cpu,cpuacct": the last word of a mountinfo line; of v2 it names no controller. */
static bool counts_usage(const char *options)
{
	static const char *const ours[] = {"memory", "cpu", "cpuacct", "pids", "blkio"};
	static const char *const others[] = {"cpuset",     "devices", "freezer", "hugetlb", "net_cls", "net_prio",
	                                     "perf_event", "rdma",    "misc",    "name=",   "debug"};
	char copy[256], *save;
	bool named = false;
	(void)snprintf(copy, sizeof(copy), "%s", options ? options + 1 : "");
	for (char *w = strtok_r(copy, ",", &save); w; w = strtok_r(NULL, ",", &save)) {
		for (size_t i = 0; i < gw_countof(ours); i++)
			if (!strcmp(w, ours[i]))
				return true;
		for (size_t i = 0; i < gw_countof(others); i++)
			named |= !strncmp(w, others[i], strlen(others[i]));
	}
	return !named;
}

void gw_cgroups_enter(pid_t pid, const char *cgroup)
{
	gw_auto(mem) char *text = NULL;
	char dir[PATH_MAX], path[PATH_MAX + 16], word[16], *save;
	struct gw_err e;
	if (gw_read_file("/proc/self/mountinfo", 4 << 20, &text, NULL, NULL) < 0)
		return;
	(void)snprintf(word, sizeof(word), "%d", pid);
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		const char *mount, *options;
		if (!cgroup_mount(line, &mount, &options) || !counts_usage(options) ||
		    (size_t)snprintf(dir, sizeof(dir), "%s%s", mount, cgroup) >= sizeof(dir))
			continue;
		int rc = gw_mkdirs(dir, &e);
		gw_path(path, sizeof(path), "%s/cgroup.procs", dir);
		if (rc == 0)
			rc = gw_write_knob(path, word);
		if (rc < 0)
			gw_debug("not in the container's cgroup", kv_str("of", mount),
			         kv_str("error", strerrordesc_np(-rc)));
	}
}
