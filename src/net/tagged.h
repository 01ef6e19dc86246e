#pragma once
#include <stddef.h>
#include <stdint.h>

#include "base/gw_err.h"
#include "net/nl.h"

/* tagged: rules found again by their comment, to be deleted by their handle.
 *
 * For tables that stay (a deleted base chain makes the kernel drop what waits
 * in every nfqueue of the namespace, net/rules.h). No table is no rule. */
enum { GW_TAGGED_MAX = 16 }; /* of one comment; more than one only after a race */

struct gw_tagged {
	const char *table, *chain, *comment;
	uint64_t handle[GW_TAGGED_MAX];
	size_t n;
};

int gw_tagged_find(struct gw_nl *n, struct gw_tagged *t, struct gw_err *e);
