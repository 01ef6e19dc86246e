#pragma once
#include <stdbool.h>

#include "base/gw_err.h"

/* fate: of a container that a keeper stands for (cmd/godwit-runtime/keeper.h).
 *
 * Its container runtime may end it, and a migration may commit it: one of the two,
 * whoever is first. Without that a kill that comes with the commit would end what
 * its caller knows, and leave the committed copy to nobody.
 *
 *   STATE/kept/ID        a keeper stands for it: the keeper's pid
 *   STATE/kept/ID.fate   decided; made exclusively, by whoever decides
 *   STATE/kept/ID.why    why it could not be filled, in words (godwitd's)
 *
 * The mark goes before the fate, so that what is not kept any more cannot be
 * decided. Any thread, any process. */
enum gw_fate { GW_FATE_COMMIT, GW_FATE_END };

/* 0: decided so, now. -EBUSY: the other was first. -ENOENT: nobody stands for it (any more). */
int gw_fate_decide(const char *state_dir, const char *id, enum gw_fate f, struct gw_err *e);
/* Back to undecided: only by who has decided. */
void gw_fate_reopen(const char *state_dir, const char *id);
bool gw_fate_stands(const char *state_dir, const char *id); /* does a keeper stand for it? */
/* Nobody stands for it from here on: mark, fate and words go. */
void gw_fate_over(const char *state_dir, const char *id);
/* For whoever looks at the container that ends then. Nothing when nobody stands for it. */
void gw_fate_say_why(const char *state_dir, const char *id, const char *words);
/* NULL: nothing was said. The caller frees. */
char *gw_fate_why(const char *state_dir, const char *id);
