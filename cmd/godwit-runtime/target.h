#pragma once
#include <stdbool.h>
#include <stddef.h>

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
