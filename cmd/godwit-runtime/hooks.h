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

/* Remember the hook of a container that a migration fills, if it has one. */
int hooks_expect(const char *id, yyjson_val *annotations, struct gw_err *e);
/* Is this exec that hook? Once; true: it is done, as far as whoever asked can tell. */
bool hooks_done(const struct cmdline *c);
void hooks_forget(const char *id);
/* Is nothing to be run in it? */
bool hooks_barred(const char *id);
