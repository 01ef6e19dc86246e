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

#include "base/cgroups.h"
#include "base/gw_log.h"
#include "base/io.h"
#include "base/scope.h"
#include "mem/pages_priv.h"

void self_prepare(void)
{
	struct rlimit r;
	if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
		r.rlim_cur = r.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &r);
	}
	/* Out of godwitd's cgroups: a CPU quota there would hold page faults for up
	 * to a period, and the end of godwitd's pod would kill keeper and page server
	 * in one blow, which is the one thing that they cannot survive. */
	gw_cgroups_leave(getpid());
	/* The container's life hangs on us: the last to be chosen when memory is short. */
	int rc = gw_write_knob("/proc/self/oom_score_adj", "-1000");
	if (rc < 0)
		gw_debug("oom_score_adj stays", kv_str("error", strerrordesc_np(-rc)));
	(void)prctl(PR_SET_TIMERSLACK, 1UL);
	struct sched_param p = {.sched_priority = 1};
	if (sched_setscheduler(0, SCHED_RR, &p) < 0 && setpriority(PRIO_PROCESS, 0, -20) < 0)
		gw_debug("no priority", kv_str("error", strerrordesc_np(errno)));
}
