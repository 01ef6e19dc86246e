#pragma once
#include <stdint.h>
#include <sys/types.h>

#include "base/gw_err.h"

/* home: where the preloaded library in CRIU calls and waits for us.
 *
 * The library connects to the socket, says "POINT PID TASK\n" and waits for
 * one byte (preload/godwit-criu.c). Points: "freeze", "images", "resume".
 * Owner: the migration; one thread. */
struct gw_home;

int gw_home_open(const char *path, struct gw_home **out, struct gw_err *e);
void gw_home_close(struct gw_home *h); /* whoever waits is told to give up; the socket file goes */

/* While it is waited for, CRIU asks ("WHAT PID ID\n"), and is answered with what fn says:
 *
 *   shmem     a shared memory object   a memfd with it; one to fill a segment from; not ours
 *   ipc       the IPC namespace        make what is in it; do, and say when; somebody else does
 *   ipc-made  it has been made         heard
 *   unix      a unix socket, by its inode on the source: connected with another container's
 *
 * fn may take its time; others that call wait. */
/* CRIU also finds a folder "plugins" beside the socket (preload/unix.c): made by this. */
int gw_home_plugin(const char *home_path, const char *preload, struct gw_err *e);
enum gw_home_answer { GW_HOME_NOT_OURS, GW_HOME_GIVEN, GW_HOME_SEGMENT };
/* *out_fd is borrowed, -1: none goes along. < 0: CRIU is told to give up. */
typedef int gw_home_answer_fn(void *ctx, const char *what, uint64_t id, int *out_fd);
void gw_home_serve(struct gw_home *h, gw_home_answer_fn *fn, void *ctx);

/* Wait until CRIU is at `point`. watch_pid > 0: fails as soon as that process
 * ends. Fails on another point, at the time-out, or when cancel_fd (-1: none)
 * becomes readable. *out_pid: CRIU's; *out_task: the restored init ("resume"). */
int gw_home_wait(struct gw_home *h, const char *point, int timeout_ms, pid_t watch_pid, int cancel_fd, pid_t *out_pid,
                 pid_t *out_task, struct gw_err *e);
/* Answer the one that waits. */
void gw_home_go(struct gw_home *h);
