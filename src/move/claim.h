#pragma once
#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/gw_err.h"
#include "base/json.h"

/* claim: a container that a container runtime is creating here, and that a
 * migration will fill.
 *
 * Not this godwitd but containerd makes the target of a pod's migration: its
 * sandbox, its root file system, its bundle. `create` of such a container comes
 * as a claim from godwit-runtime, which waits for our word. When memory is nearly
 * whole here that is "keep": it leaves a keeper (cmd/godwit-runtime/keeper.h), its
 * caller starts that, and then the keeper's child claims again, to become `runc
 * restore` under the standard streams its caller gave it.
 *
 *   the runtime's connection ── gw_claim_serve ──▶ WAITING ──take──▶ TAKEN ──go──▶ answered
 *   the session (dest.c)        gw_claim_here, _take, _go, _refuse
 *
 * A claim may come before its migration's session or after it. It is owned by
 * the thread of its connection and listed in the daemon under its lock; all
 * others see copies. When the runtime goes away (its caller gave up), the claim
 * goes; one that was answered is watched by its process id from then on. */
struct gw_daemon;

enum {
	GW_CLAIM_TAKES_MS = 105000, /* kubelet gives up after 120 s */
	GW_CLAIM_UNKNOWN_MS = 30000 /* the API server's word may come after kubelet's */
};

/* What the cluster knows of a claim's migration (daemon.h). Nobody waits for one that
 * is over, nor for longer than GW_CLAIM_UNKNOWN_MS for one that is unknown. */
enum gw_claim_life { GW_CLAIM_GOES_ON, GW_CLAIM_OVER, GW_CLAIM_UNKNOWN };

struct gw_claim {
	char mig[40];
	char name[128];      /* of the container in its pod */
	char id[256];        /* the new container's */
	char sandbox[256];   /* the sandbox's id: whose network it is */
	char root[PATH_MAX]; /* runc's --root */
	char bundle[PATH_MAX];
	pid_t pid; /* becomes runc restore */
	bool kept; /* its runtime believes that it runs: a keeper stands for it */
};

struct gw_claim_folders {
	const char *images, *work, *preload, *home, *commit, *criu_conf;
};

/* The request of a local connection `fd`; returns when there is an answer for
 * it, in *doc (freed by the caller). Errors: "NoSuchMigration" after
 * GW_CLAIM_TAKES_MS, "MigrationOver", whatever the session failed with, -EPIPE
 * when the runtime has gone away. */
int gw_claim_serve(struct gw_daemon *d, int fd, yyjson_val *req, yyjson_mut_doc **doc, struct gw_err *e);

/* Its runtime is told to go away and leave a keeper, which claims it once more when
 * its caller has started it: what is merely being created is taken back when kubelet
 * or containerd ends, or gives up, without a word to us. None there: nothing. */
void gw_claim_keep(struct gw_daemon *d, const char *mig, const char *name);
/* Is there one for which a keeper stands? */
bool gw_claim_here(struct gw_daemon *d, const char *mig, const char *name);
/* That one. -ENOENT: it is not there (any more). */
int gw_claim_take(struct gw_daemon *d, const char *mig, const char *name, struct gw_claim *out, struct gw_err *e);
/* Does its container runtime still want it? */
int gw_claim_wanted(const struct gw_claim *c, struct gw_err *e); /* "TargetGone": no */
/* Before the commit: from here on its container runtime cannot end it but as a
 * container that runs (base/fate.h). "TargetGone": it has been. */
int gw_claim_bind(struct gw_daemon *d, const struct gw_claim *c, struct gw_err *e);
/* It will not be filled: in words for whoever looks at the container when it ends. */
void gw_claim_say_why(struct gw_daemon *d, const struct gw_claim *c, const struct gw_err *why);
void gw_claim_unbind(struct gw_daemon *d, const struct gw_claim *c); /* there was no commit after all */
void gw_claim_go(struct gw_daemon *d, const struct gw_claim *c, const struct gw_claim_folders *f);
/* Every claim of this migration that has no answer yet gets this one. */
void gw_claim_refuse(struct gw_daemon *d, const char *mig, const struct gw_err *why);
