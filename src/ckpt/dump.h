#pragma once
#include <stdint.h>
#include <sys/types.h>

#include "base/gw_err.h"
#include "ckpt/container.h"
#include "ckpt/home.h"

/* dump: CRIU's dump of a container, without its memory, cut into steps.
 *
 *   start ──▶ ARMED ──(caller freezes)──▶ go ──▶ DUMPED ──▶ abandon: source runs on
 *                                                      └──▶ kill: source is gone
 *
 * ARMED: CRIU has done all it can do without stopping anything and waits at
 * its first look at the freezer. The caller freezes the cgroup, writes
 * PID.smaps and PID.lazy into shim_dir (preload/godwit-criu.c), and calls
 * gw_dump_go, which returns when every image is whole and CRIU waits in its
 * post-dump notification with all tasks stopped by ptrace and the cgroup
 * frozen again, so that they stay stopped whatever happens to CRIU or to us.
 *
 * The images can be restored by `runc restore`: the same external mounts,
 * namespaces and descriptors.json as `runc checkpoint` makes.
 * Owner: the migration; one thread. */
struct gw_dump;

struct gw_dump_opts {
	const struct gw_container *container; /* borrowed until close */
	const char *criu;                     /* NULL: in PATH */
	const char *preload;                  /* libgodwit-criu.so */
	const char *images_dir;               /* made if missing */
	const char *work_dir;                 /* dump.log goes here */
	const char *shim_dir;
	const char *home_path; /* socket to make */
	int cancel_fd;         /* -1: none */
	int log_level;         /* CRIU's, 0: 2 (warnings); 4 tells every step with its time */
};

int gw_dump_start(const struct gw_dump_opts *o, struct gw_dump **out, struct gw_err *e);
int gw_dump_go(struct gw_dump *d, struct gw_err *e);
/* Undo: CRIU puts the tasks back as they were (network, sockets), then the
 * cgroup is thawed. Works in every state; on a CRIU that died it thaws. */
int gw_dump_abandon(struct gw_dump *d, struct gw_err *e);
/* The container has moved: its tasks are dead but for the letting go, their memory
 * is freed (bury.h; blocks for that). Then kill. */
int gw_dump_doom(struct gw_dump *d, struct gw_err *e);
/* The container has moved: its tasks die without another instruction, their
 * sockets in repair mode, so without FIN or RST. */
int gw_dump_kill(struct gw_dump *d, struct gw_err *e);
void gw_dump_close(struct gw_dump *d); /* abandons what was neither abandoned nor killed; NULL is fine */
