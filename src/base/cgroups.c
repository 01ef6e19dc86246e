#include "base/cgroups.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/gw_log.h"
#include "base/io.h"
#include "base/scope.h"

/* "36 25 0:31 / /sys/fs/cgroup/freezer rw,... - cgroup cgroup rw,freezer" */
static bool cgroup_mount(char *line, const char **out_dir)
{
	char *save, *word = strtok_r(line, " ", &save);
	const char *dir = NULL;
	for (int i = 0; word; i++, word = strtok_r(NULL, " ", &save)) {
		if (i == 4)
			dir = word;
		if (!strcmp(word, "-")) {
			word = strtok_r(NULL, " ", &save);
			*out_dir = dir;
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
		const char *dir;
		if (!cgroup_mount(line, &dir) ||
		    (size_t)snprintf(path, sizeof(path), "%s/cgroup.procs", dir) >= sizeof(path))
			continue;
		int rc = gw_write_knob(path, word);
		if (rc < 0)
			gw_debug("stays in its cgroup", kv_str("of", dir), kv_str("error", strerrordesc_np(-rc)));
	}
}
