#pragma once
#include <stdbool.h>
#include <sys/types.h>

#include "base/gw_err.h"

/* keeper: stands for a container that is not there yet.
 *
 * What a container runtime has begun to create it may take back at any time, when who
 * asked for it (kubelet) or it itself ends; so a restore inside `create` could be
 * committed and then ended. And a node agent creates a pod's second container only
 * when the first one runs, but all of a pod's containers are restored in one freeze.
 * So the container seems to run, as this process, and becomes real a moment later.
 *
 *   godwit-runtime create ─fork─▶ keeper ─fork─▶ body: claims again, becomes runc restore
 *          │ its pid is the container's            │
 *          ▼ ends                                  ▼ the container's first process,
 *   whom the caller asked                     then the keeper's child: it ends as that ends
 *
 * The keeper is a subreaper, so the restored process becomes its child when runc
 * has ended. It mirrors its end: exit code, or signal. */

/* In the keeper and the body this returns never or with what body returned; in the
 * caller the keeper's pid. body: runs in the process that becomes runc, which writes
 * its container's pid to pid_file; returns only on failure. failed: runs in the keeper
 * when there will be no container. While it stands its mark is there (base/fate.h). */
struct keeper_does {
	int (*body)(void *ctx);
	void (*failed)(void *ctx);
	void *ctx;
};
pid_t keeper_start(const struct keeper_does *k, const char *id, const char *pid_file, struct gw_err *e);
/* Its pid on stdout, as runc's `ps --format json` says it; false: it stands no more. */
bool keeper_ps(const char *id);
/* Kills it, and what its child has become; the caller has decided so. */
void keeper_end(const char *id);
