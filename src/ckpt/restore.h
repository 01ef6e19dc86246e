#pragma once
#include <sys/types.h>

#include "base/gw_err.h"
#include "ckpt/home.h"

/* restore: `runc restore --lazy-pages`, started early and held twice.
 *
 *   start ─▶ READY (CRIU waits at its first image) ─go─▶ STOPPED (every task
 *   is rebuilt, held by CRIU's ptrace one step before its first instruction)
 *   ─resume─▶ RUNNING
 *   abort from every state before RUNNING: nothing of it is left.
 *
 * STOPPED is held by CRIU waiting for our word; if CRIU dies there, the tasks
 * die with it (PTRACE_O_EXITKILL, set by the preloaded library); if we die,
 * it kills them. Why not the cgroup freezer: CRIU itself sits in the
 * container's cgroup, and moving it out takes an RCU grace period (20 ms).
 *
 * runc does it all, so what comes out is an ordinary runc container. What
 * runc has no option for goes through the file that the annotation
 * org.criu.config of the bundle names (gw_restore_write_config).
 * Owner: the migration; one thread. */
struct gw_restore;

struct gw_restore_opts {
	const char *id;
	/* > 0: runc is not ours to start: this process becomes `runc restore` as soon
	 * as its caller has been told the folders (godwit-runtime); what it made is
	 * its container runtime's to delete. 0: started here. */
	pid_t runc_pid;
	const char *runc; /* NULL: in PATH */
	const char *runc_root;
	const char *bundle;     /* its config.json is ready */
	const char *images_dir; /* exists; descriptors.json is in it by now */
	const char *work_dir;   /* the page server listens at WORK/lazy-pages.socket */
	const char *preload;
	const char *home_path;
	const char *commit_path; /* its existence is what lets the tasks run (move/handover.h); NULL: our word alone */
	const char *pid_file;
	int stdio[3]; /* for the container, -1: /dev/null */
	/* What CRIU asks for (home.h); the socket at home_path lies in the folder
	 * above images_dir. NULL: all is in its images. */
	gw_home_answer_fn *answer;
	void *answer_ctx;
	int cancel_fd;
};

/* Options for CRIU that runc does not pass on, for org.criu.config. */
int gw_restore_write_config(const char *path, struct gw_err *e);

int gw_restore_start(const struct gw_restore_opts *o, struct gw_restore **out, struct gw_err *e);
int gw_restore_wait_ready(struct gw_restore *r, int timeout_ms, struct gw_err *e);
/* The cgroup runc made for it; known when READY. Borrowed. */
const char *gw_restore_cgroup(const struct gw_restore *r);
const char *gw_restore_memory_cgroup(const struct gw_restore *r);
/* Images are whole: rebuild the tasks. Returns when they are STOPPED. */
int gw_restore_go(struct gw_restore *r, int timeout_ms, struct gw_err *e);
/* Let them run: one byte to CRIU, which detaches from them. */
void gw_restore_resume(struct gw_restore *r);
/* After resume: runc's own end. Fails when runc says the restore failed; of a
 * runc that is not our child only that its container lives. */
int gw_restore_finish(struct gw_restore *r, int timeout_ms, struct gw_err *e);
void gw_restore_abort(struct gw_restore *r); /* kills tasks, CRIU, runc; deletes the container */
void gw_restore_close(struct gw_restore *r); /* aborts what does not run; NULL is fine */
