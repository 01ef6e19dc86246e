#pragma once
#include "base/gw_err.h"

/* guard: a process that thaws the source when godwitd dies before the commit.
 *
 * A frozen container must not wait for godwitd's restart. The guard is forked
 * before the freeze and does nothing but wait for godwitd's end. If that
 * comes while the phase is GUARD_THAW it puts the cpu quota back and thaws;
 * if it is GUARD_STAY (in doubt, or moved) it leaves everything frozen, for
 * the restarted godwitd to ask the destination.
 * Owner: the migration. gw_guard_phase is one store, any thread. */
struct gw_guard;

enum gw_guard_phase { GUARD_THAW, GUARD_STAY };

struct gw_guard_opts {
	const char *freezer_file; /* the file to write, e.g. DIR/freezer.state */
	const char *thaw_word;    /* "THAWED" or "0" */
	const char *quota_file;   /* NULL or "": none */
	const char *quota;
};

int gw_guard_new(const struct gw_guard_opts *o, struct gw_guard **out, struct gw_err *e);
void gw_guard_phase(struct gw_guard *g, enum gw_guard_phase p);
void gw_guard_free(struct gw_guard *g); /* dismissed: it ends and does nothing */
