#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "cmdline.h"

/* target: `create` of a container that a migration fills.
 *
 * Returns 0 when the container is an ordinary one (no migration, a sandbox, or
 * a migration that is over: the container was restarted) and the caller goes on
 * as runc; < 0 with words when the move failed; otherwise not at all, since the
 * process has left a keeper and ended. */
int target_create(const struct cmdline *c, const char *runc, struct gw_err *e);

const char *state_dir(void);
/* STATE/KIND/ID; false: no usable id. */
bool state_path(char *out, size_t size, const char *kind, const char *id);
/* Marks of a container: files of that name (docs/state.md). */
bool marked(const char *kind, const char *id);
int mark(const char *kind, const char *id, const char *text, struct gw_err *e);
void unmark(const char *kind, const char *id);
/* Where a container runtime looks for the process that it has asked for. */
int write_pid(const char *path, pid_t pid, struct gw_err *e);
