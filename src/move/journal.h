#pragma once
#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/gw_err.h"
#include "move/handover.h"

/* journal: what a restarted godwitd must know of each migration.
 *
 * One small JSON file a migration in STATE/journal, replaced by rename.
 * STATE is on tmpfs (/run), without fsync: it must survive godwitd, not the
 * host. When the host dies its processes die too, so a host without journal
 * has no frozen source and no stopped copy ("unknown", handover.h rule 5).
 * Format: docs/state.md. Owner: the migration; one thread. */
struct gw_journal {
	char mig[64];
	bool is_source;
	enum gw_source_state source; /* when is_source */
	enum gw_dest_state dest;     /* otherwise */
	char container[256];
	char peer[128];
	char runc_root[PATH_MAX];
	char freezer_dir[PATH_MAX];
	char cpu_quota_path[PATH_MAX]; /* throttled: put cpu_quota back */
	char cpu_quota[64];
	char netns_path[PATH_MAX];
	bool is_claimed; /* a container runtime's: see move/claim.h */
	char sandbox[256];
	char leader[64]; /* whose commit is ours (group.h); "": our own */
	char *pod_json;  /* owned; NULL until known */
};

int gw_journal_write(const char *state_dir, const struct gw_journal *j, struct gw_err *e);
int gw_journal_read(const char *path, struct gw_journal *out, struct gw_err *e);
void gw_journal_done(struct gw_journal *j);
void gw_journal_remove(const char *state_dir, const char *mig);
/* fn for each entry; an unreadable one is logged, kept and skipped. */
typedef void gw_journal_fn(void *ctx, struct gw_journal *j);
void gw_journal_each(const char *state_dir, gw_journal_fn *fn, void *ctx);

/* The commit point's file: STATE/mig/MIG.commit (handover.h). */
void gw_commit_path(const char *state_dir, const char *mig, char *out, size_t size);
