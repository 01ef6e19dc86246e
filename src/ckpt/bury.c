#include "ckpt/bury.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cgroups.h"
#include "base/gw_log.h"
#include "base/proc.h"
#include "base/scope.h"
#include "ckpt/freezer.h"

enum { DEAD_MAX = 4096, PATIENCE_MS = 1000, GIVE_UP_MS = 10000 };

struct dead {
	pid_t pids[DEAD_MAX];
	unsigned n;
};

static int note(void *ctx, pid_t pid)
{
	struct dead *d = ctx;
	if (d->n < DEAD_MAX)
		d->pids[d->n++] = pid;
	return 0;
}

/* After fork in a threaded process: system calls only. Its exit code is the first errno. */
[[noreturn]]
static void dig(const struct dead *d, int go)
{
	int first = 0;
	char c;
	(void)syscall(SYS_close_range, 0, (unsigned)go - 1, 0);
	(void)syscall(SYS_close_range, (unsigned)go + 1, ~0u, 0);
	(void)prctl(PR_SET_NAME, "godwit-bury");
	while (read(go, &c, 1) < 0 && errno == EINTR)
		;
	for (unsigned i = 0; i < d->n; i++) {
		/* One that has ended meanwhile and whose number is another's: the kernel takes nothing from the living.
		 */
		int fd = (int)syscall(SYS_pidfd_open, d->pids[i], 0);
		if (fd >= 0 && syscall(SYS_process_mrelease, fd, 0) < 0 && errno != ESRCH && !first)
			first = errno;
		if (fd >= 0)
			(void)close(fd);
	}
	_exit(first);
}

static void set_policy(pid_t pid, int policy)
{
	struct sched_param p = {.sched_priority = 0};
	if (sched_setscheduler(pid, policy, &p) < 0)
		gw_debug("priority of the burial stays", kv_i64("errno", errno));
}

static void await(pid_t pid)
{
	struct gw_err e;
	int status = 0, rc = gw_proc_wait(pid, PATIENCE_MS, &status, &e);
	if (rc == -ETIMEDOUT) {
		set_policy(pid, SCHED_OTHER);
		rc = gw_proc_wait(pid, GIVE_UP_MS, &status, &e);
	}
	if (rc == -ETIMEDOUT) {
		(void)kill(pid, SIGKILL);
		rc = gw_proc_wait(pid, -1, &status, &e);
	}
	if (rc < 0 || status != 0)
		gw_debug("memory of dead processes left to themselves", kv_i64("status", rc < 0 ? rc : status));
}

void gw_bury(const char *freezer_dir)
{
	gw_auto(mem) struct dead *d = calloc(1, sizeof(*d));
	int go[2];
	if (!d || pipe2(go, O_CLOEXEC) < 0)
		return;
	(void)gw_freezer_each(freezer_dir, note, d);
	pid_t pid = d->n ? fork() : -1;
	if (pid == 0)
		dig(d, go[0]);
	(void)close(go[0]);
	if (pid > 0) {
		/* Within a cgroup it would compete with that cgroup's weight. */
		gw_cgroups_leave(pid);
		set_policy(pid, SCHED_IDLE);
	}
	(void)close(go[1]);
	if (pid > 0)
		await(pid);
}
