#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/gw_log.h"
#include "base/io.h"
#include "base/scope.h"
#include "mem/pages_priv.h"

enum { DEPTH_MAX = 16, PROCS_MAX_BYTES = 1 << 20, COMPLAIN_AFTER_MS = 5000 };

static int each_in(const char *dir, cgroup_fn *fn, void *ctx, int depth)
{
	char path[PATH_MAX];
	gw_auto(mem) char *text = NULL;
	struct gw_err e;
	if ((size_t)snprintf(path, sizeof(path), "%s/cgroup.procs", dir) >= sizeof(path))
		return -ENAMETOOLONG;
	int rc = gw_read_file(path, PROCS_MAX_BYTES, &text, NULL, &e);
	if (rc < 0)
		return rc;
	for (char *p = text; *p; p += strcspn(p, "\n"), p += *p == '\n') {
		pid_t pid = (pid_t)strtol(p, NULL, 10);
		rc = pid > 0 ? fn(ctx, pid) : 0;
		if (rc < 0)
			return rc;
	}
	gw_auto(dir) DIR *d = depth < DEPTH_MAX ? opendir(dir) : NULL;
	for (struct dirent *de; d && (de = readdir(d));) {
		if (de->d_type != DT_DIR || de->d_name[0] == '.')
			continue;
		if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, de->d_name) >= sizeof(path))
			return -ENAMETOOLONG;
		rc = each_in(path, fn, ctx, depth + 1);
		if (rc < 0 && rc != -ENOENT && rc != -ENODEV) /* a child that was removed meanwhile */
			return rc;
	}
	return 0;
}

int cgroup_each(const char *dir, cgroup_fn *fn, void *ctx)
{
	return each_in(dir, fn, ctx, 0);
}

static int kill_one(void *ctx, pid_t pid)
{
	unsigned *n = ctx;
	if (kill(pid, SIGKILL) == 0)
		(*n)++;
	return 0;
}

/* One round of killing; how many were still there. */
static unsigned kill_round(const char *dir)
{
	char path[PATH_MAX];
	unsigned n = 0;
	if ((size_t)snprintf(path, sizeof(path), "%s/cgroup.kill", dir) < sizeof(path))
		(void)gw_write_knob(path, "1"); /* v2; where it is missing the loop does it */
	int rc = cgroup_each(dir, kill_one, &n);
	/* v1: a frozen process dies only when it is thawed, and then at once: the
	 * signal is pending, it runs nothing of its own any more. */
	if ((size_t)snprintf(path, sizeof(path), "%s/freezer.state", dir) < sizeof(path))
		(void)gw_write_knob(path, "THAWED");
	return rc < 0 && rc != -ENOENT && rc != -ENODEV ? n + 1 : n;
}

static void kill_container(struct server *s)
{
	uint64_t t0 = gw_now_ms();
	bool complained = false;
	/* The descriptors stay open until nobody is left who could read a page that is not there. */
	for (unsigned n; (n = kill_round(s->cgroup_dir)) > 0;) {
		uint64_t ms = gw_now_ms() - t0;
		if (ms > COMPLAIN_AFTER_MS && !complained) {
			gw_error("container does not die", kv_str("mig", s->label), kv_u64("processes", n));
			complained = true;
		}
		gw_sleep_us(ms < 1000 ? 500 : 100000);
	}
}

[[noreturn]]
static void keeper_main(struct server *s, pid_t server)
{
	(void)prctl(PR_SET_NAME, "godwit-keeper");
	struct pollfd p = {.fd = s->self_pidfd, .events = POLLIN};
	while (poll(&p, 1, -1) < 0 && errno == EINTR)
		;
	unsigned out = atomic_load(&s->shared->outcome);
	if ((out != OUT_RUNNING && out != OUT_FAILED) || !atomic_load(&s->shared->holds))
		_exit(0);
	char text[LINK_TEXT + 300];
	int n = snprintf(
	        text, sizeof(text),
	        "migration %s: the page server (process %d) ended with %llu MiB of the container's memory missing: %s; "
	        "the container was killed, because a missing page would have read as zero\n",
	        s->label, server, (unsigned long long)atomic_load(&s->shared->left_bytes) >> 20,
	        out == OUT_FAILED ? s->shared->reason : "it was killed or crashed");
	struct gw_err e;
	if (gw_write_file(s->reason_path, text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1, &e) < 0)
		gw_error("reason not written", kv_str("mig", s->label), kv_str("error", e.text));
	kill_container(s);
	gw_error("container killed", kv_str("mig", s->label), kv_str("reason", text));
	(void)unlink(s->socket_path);
	_exit(0);
}

int keeper_start(struct server *s)
{
	pid_t me = getpid();
	/* CLONE_FILES without CLONE_VM: a fork whose descriptor table is ours. */
	long pid = syscall(SYS_clone, (unsigned long)(CLONE_FILES | SIGCHLD), NULL, NULL, NULL, NULL);
	if (pid < 0)
		return -errno;
	if (pid == 0)
		keeper_main(s, me);
	int fd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
	if (fd < 0) {
		int err = errno;
		(void)kill((pid_t)pid, SIGKILL);
		(void)waitpid((pid_t)pid, NULL, 0);
		return -err;
	}
	s->keeper = (pid_t)pid;
	s->keeper_pidfd = fd;
	atomic_store(&s->shared->keeper, (int)pid);
	return 0;
}
