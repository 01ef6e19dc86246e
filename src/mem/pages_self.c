#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/gw_log.h"
#include "base/io.h"
#include "base/scope.h"
#include "mem/pages_priv.h"

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

/* Out of godwitd's cgroups: a CPU quota there would hold page faults for up
 * to a period, and the end of godwitd's pod would kill keeper and page server
 * in one blow, which is the one thing that they cannot survive. */
static void leave_cgroups(void)
{
	gw_auto(mem) char *text = NULL;
	struct gw_err e;
	char path[PATH_MAX], pid[16], *save;
	if (gw_read_file("/proc/self/mountinfo", 4 << 20, &text, NULL, &e) < 0)
		return;
	(void)snprintf(pid, sizeof(pid), "%d", getpid());
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		const char *dir;
		if (!cgroup_mount(line, &dir) ||
		    (size_t)snprintf(path, sizeof(path), "%s/cgroup.procs", dir) >= sizeof(path))
			continue;
		int rc = gw_write_knob(path, pid);
		if (rc < 0)
			gw_debug("stays in its cgroup", kv_str("of", dir), kv_str("error", strerrordesc_np(-rc)));
	}
}

void self_prepare(void)
{
	struct rlimit r;
	if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
		r.rlim_cur = r.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &r);
	}
	leave_cgroups();
	/* The container's life hangs on us: the last to be chosen when memory is short. */
	int rc = gw_write_knob("/proc/self/oom_score_adj", "-1000");
	if (rc < 0)
		gw_debug("oom_score_adj stays", kv_str("error", strerrordesc_np(-rc)));
	(void)prctl(PR_SET_TIMERSLACK, 1UL);
	struct sched_param p = {.sched_priority = 1};
	if (sched_setscheduler(0, SCHED_RR, &p) < 0 && setpriority(PRIO_PROCESS, 0, -20) < 0)
		gw_debug("no priority", kv_str("error", strerrordesc_np(errno)));
}
