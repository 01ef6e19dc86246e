#pragma once
#include <stdbool.h>

#include "base/json.h"
#include "cmdline.h"

/* hooks: a move is neither a start nor a stop.
 *
 * kubelet runs a postStart hook in each container that it has started, by `exec`, and a
 * preStop hook before it ends one. In a target that has started long ago the first must
 * not run: its words are in the annotation godwit.dev/post-start of the pod, an object
 * from container names to arrays, made by the controller. In a source whose object goes
 * before the commit the second must not (move/held.h). A hook that is an HTTP request
 * passes no runtime: such pods do not move (reason HttpHook). */

#define HOOKS_MARK "post-start" /* in the state folder: STATE/post-start/ID, the words of the hook */

/* Remember the hook of a container that a migration fills, if it has one. */
int hooks_expect(const char *id, yyjson_val *annotations, struct gw_err *e);
/* Of an exec: 1 it was that hook, and is done as far as whoever asked can tell (once); 0 it is
 * runc's; < 0 refused, since nothing is to be run there, or the hook can't be answered for. */
int hooks_exec(const struct cmdline *c, struct gw_err *e);
