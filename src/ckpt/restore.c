#include "ckpt/restore.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/gw_log.h"
#include "base/io.h"
#include "base/proc.h"
#include "base/scope.h"
#include "ckpt/breaks.h"
#include "ckpt/criu.h"
#include "ckpt/freezer.h"
#include "ckpt/home.h"

enum { KILL_TIMEOUT_MS = 10000, RUNC_END_MS = 5000, DELETE_TIMEOUT_MS = 20000 };

struct gw_restore {
	char id[256];
	char runc[PATH_MAX];
	char runc_root[PATH_MAX];
	char log[PATH_MAX];
	char runc_log[PATH_MAX];
	char cgroup[PATH_MAX], memory_cgroup[PATH_MAX];
	struct gw_home *home;
	pid_t runc_pid; /* 0: ended */
	bool foreign;   /* runc is not our child */
	int cancel_fd, breaks;
	enum { STARTED, READY, STOPPED, RUNNING, OVER } state;
};

int gw_restore_write_config(const char *path, struct gw_err *e)
{
	/* Cgroups are runc's business; its own option for that is lost on the
	 * way to CRIU in runc 1.1 (the value 0 is taken for "not given"). The
	 * network lock is the one that the dump's inventory names (skip); said
	 * here, CRIU 4.1 dies of it. What is restored of the images is there
	 * twice: auto-dedup frees it in the image. */
	static const char text[] = "manage-cgroups=ignore\nauto-dedup\n";
	return gw_write_file(path, text, sizeof(text) - 1, e);
}

static int start_runc(struct gw_restore *r, const struct gw_restore_opts *o, struct gw_err *e)
{
	char preload[PATH_MAX + 16], home[PATH_MAX + 32], commit[PATH_MAX + 32];
	gw_path(preload, sizeof(preload), "LD_PRELOAD=%s", o->preload);
	gw_path(home, sizeof(home), "GODWIT_CRIU_HOME=%s", o->home_path);
	gw_path(commit, sizeof(commit), "GODWIT_CRIU_COMMIT=%s", o->commit_path ?: "");
	const char *const env[] = {preload, home, "GODWIT_CRIU_MODE=restore", o->commit_path ? commit : NULL, NULL};
	const char *const argv[] = {r->runc,
	                            "--root",
	                            o->runc_root,
	                            "--log",
	                            r->runc_log,
	                            "restore",
	                            "--detach",
	                            "--lazy-pages",
	                            "--tcp-established",
	                            "--file-locks",
	                            "--manage-cgroups-mode",
	                            "ignore",
	                            "--bundle",
	                            o->bundle,
	                            "--image-path",
	                            o->images_dir,
	                            "--work-path",
	                            o->work_dir,
	                            "--pid-file",
	                            o->pid_file,
	                            o->id,
	                            NULL};
	struct gw_spawn s = {.argv = argv,
	                     .env = env,
	                     .cwd = o->work_dir,
	                     .stdio = {o->stdio[0], o->stdio[1], o->stdio[2]},
	                     .new_session = true,
	                     .nice = GW_FREEZE_NICE};
	return gw_proc_start(&s, &r->runc_pid, e);
}

int gw_restore_start(const struct gw_restore_opts *o, struct gw_restore **out, struct gw_err *e)
{
	struct gw_restore *r = calloc(1, sizeof(*r));
	if (!r)
		return gw_fail(e, GW_SYS, ENOMEM, "restore %s", o->id);
	gw_path(r->id, sizeof(r->id), "%s", o->id);
	gw_path(r->runc, sizeof(r->runc), "%s", o->runc ?: "runc");
	gw_path(r->runc_root, sizeof(r->runc_root), "%s", o->runc_root);
	gw_path(r->log, sizeof(r->log), "%s/restore.log", o->work_dir);
	gw_path(r->runc_log, sizeof(r->runc_log), "%s/runc.log", o->work_dir);
	r->cancel_fd = o->cancel_fd;
	r->breaks = gw_breaks_prepare();
	r->foreign = o->runc_pid > 0;
	r->runc_pid = o->runc_pid;
	int rc = gw_home_plugin(o->home_path, o->preload, e);
	if (rc == 0)
		rc = gw_home_open(o->home_path, &r->home, e);
	if (rc == 0)
		gw_home_serve(r->home, o->answer, o->answer_ctx);
	if (rc == 0 && !r->foreign)
		rc = start_runc(r, o, e);
	if (rc < 0) {
		gw_home_close(r->home);
		gw_end_fd(&r->breaks);
		free(r);
		return rc;
	}
	*out = r;
	return 0;
}

/* Why runc or CRIU gave up, in their words. */
static int explain(struct gw_restore *r, struct gw_err *e)
{
	char why[200], line[600] = "";
	gw_criu_log_reason(r->log, "", why, sizeof(why));
	if (!why[0]) {
		gw_auto(file) FILE *f = fopen(r->runc_log, "re");
		while (f && fgets(line, sizeof(line), f))
			;
		line[strcspn(line, "\n")] = 0;
		char *msg = strstr(line, "msg=");
		(void)snprintf(why, sizeof(why), "%s", msg ? msg + 4 : line[0] ? line : "no reason given");
	}
	return gw_fail(e, GW_INPUT, EIO, "runc restore of %s failed: %s", r->id, why);
}

static int wait_point(struct gw_restore *r, const char *point, int timeout_ms, pid_t *criu, pid_t *task,
                      struct gw_err *e)
{
	int rc = gw_home_wait(r->home, point, timeout_ms, r->runc_pid, r->cancel_fd, criu, task, e);
	return rc == -ECHILD ? explain(r, e) : rc;
}

int gw_restore_wait_ready(struct gw_restore *r, int timeout_ms, struct gw_err *e)
{
	pid_t criu;
	int rc = wait_point(r, "images", timeout_ms, &criu, NULL, e);
	if (rc == 0)
		rc = gw_freezer_of(criu, r->cgroup, sizeof(r->cgroup), e);
	if (rc == 0)
		rc = gw_memory_of(criu, r->memory_cgroup, sizeof(r->memory_cgroup), e);
	if (rc == 0)
		r->state = READY;
	return rc;
}

const char *gw_restore_cgroup(const struct gw_restore *r)
{
	return r->cgroup;
}

const char *gw_restore_memory_cgroup(const struct gw_restore *r)
{
	return r->memory_cgroup;
}

int gw_restore_go(struct gw_restore *r, int timeout_ms, struct gw_err *e)
{
	gw_home_go(r->home);
	int rc = wait_point(r, "resume", timeout_ms, NULL, NULL, e);
	if (rc < 0)
		return rc;
	r->state = STOPPED;
	return 0;
}

void gw_restore_resume(struct gw_restore *r)
{
	r->state = RUNNING;
	gw_home_go(r->home);
}

/* Waits for the end of a process that is not our child. */
static int wait_foreign(pid_t pid, int timeout_ms)
{
	gw_auto(fd) int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd p = {.fd = fd, .events = POLLIN};
	return fd < 0 || poll(&p, 1, timeout_ms) > 0 ? 0 : -ETIMEDOUT;
}

/* Has the container any process? */
static bool lives(const struct gw_restore *r)
{
	char path[PATH_MAX + 16];
	gw_path(path, sizeof(path), "%s/cgroup.procs", r->cgroup);
	gw_auto(file) FILE *f = fopen(path, "re");
	return f && fgetc(f) != EOF;
}

int gw_restore_finish(struct gw_restore *r, int timeout_ms, struct gw_err *e)
{
	if (!r->runc_pid)
		return 0;
	int st = 0;
	if (r->foreign) {
		if (wait_foreign(r->runc_pid, timeout_ms) < 0)
			return gw_fail(e, GW_SYS, ETIMEDOUT, "runc restore of %s does not end", r->id);
		r->runc_pid = 0;
		return lives(r) ? 0 : explain(r, e);
	}
	int rc = gw_proc_wait(r->runc_pid, timeout_ms, &st, e);
	if (rc < 0)
		return gw_wrap(e, "runc restore of %s", r->id);
	r->runc_pid = 0;
	if (!WIFEXITED(st) || WEXITSTATUS(st) != 0)
		return explain(r, e);
	return 0;
}

/* runc keeps ROOT/ID until it deletes the container; killed in between, it
 * leaves the folder, with a bind mount in it, and the name is taken. */
static void forget_leftovers(struct gw_restore *r)
{
	char dir[PATH_MAX * 2], mount[PATH_MAX * 2 + 16];
	struct gw_err e;
	gw_path(dir, sizeof(dir), "%s/%s", r->runc_root, r->id);
	gw_path(mount, sizeof(mount), "%s/criu-root", dir);
	while (umount2(mount, MNT_DETACH) == 0)
		;
	if (gw_remove_tree(dir, &e) < 0)
		gw_warn("state of a discarded container not removed", kv_str("container", r->id),
		        kv_str("reason", e.text));
	if (r->cgroup[0])
		(void)rmdir(r->cgroup);
}

/* With CRIU gone runc cleans up by itself, better than anyone else could. */
static void end_runc(struct gw_restore *r)
{
	struct gw_err e;
	int st;
	if (!r->runc_pid)
		return;
	if (r->foreign) {
		if (wait_foreign(r->runc_pid, RUNC_END_MS) < 0)
			(void)kill(r->runc_pid, SIGKILL);
		r->runc_pid = 0;
		return;
	}
	if (gw_proc_wait(r->runc_pid, RUNC_END_MS, &st, &e) < 0) {
		(void)kill(r->runc_pid, SIGKILL);
		(void)waitpid(r->runc_pid, NULL, 0);
	}
	r->runc_pid = 0;
}

void gw_restore_abort(struct gw_restore *r)
{
	struct gw_err e;
	if (r->state == OVER)
		return;
	r->state = OVER;
	/* Whoever waits at home is refused: CRIU kills what it made. */
	gw_home_close(gw_take(r->home));
	if (r->cgroup[0])
		(void)gw_freezer_kill(r->cgroup, KILL_TIMEOUT_MS, &e);
	end_runc(r);
	if (r->cgroup[0])
		(void)gw_freezer_kill(r->cgroup, KILL_TIMEOUT_MS, &e);
	if (r->foreign)
		return;
	const char *const argv[] = {r->runc, "--root", r->runc_root, "delete", "--force", r->id, NULL};
	struct gw_spawn s = {.argv = argv, .stdio = {-1, -1, -1}};
	if (gw_proc_run(&s, DELETE_TIMEOUT_MS, NULL, &e) < 0)
		gw_debug("discarded container was not known to runc", kv_str("container", r->id),
		         kv_str("reason", e.text));
	forget_leftovers(r);
}

void gw_restore_close(struct gw_restore *r)
{
	if (!r)
		return;
	if (r->state != RUNNING)
		gw_restore_abort(r);
	if (r->runc_pid && !r->foreign)
		(void)waitpid(r->runc_pid, NULL, WNOHANG);
	gw_home_close(r->home);
	gw_end_fd(&r->breaks);
	free(r);
}
