#pragma once
#include <sys/types.h>

#include "base/gw_err.h"

/* keeper: stands for a container that is not there yet.
 *
 * A node agent creates a pod's second container only when the first one runs. But
 * all of a pod's containers are restored in one freeze: so a first one seems to
 * run, as this process, and becomes real a moment later.
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
 * its container's pid to pid_file; returns only on failure. mark is removed when
 * the container is real. */
pid_t keeper_start(int (*body)(void *ctx), void *ctx, const char *pid_file, const char *mark, struct gw_err *e);
