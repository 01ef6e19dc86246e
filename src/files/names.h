#pragma once
#include <stddef.h>
#include <stdint.h>

/* names: a set of names in trees, for a moment. Each is in it once.
 *
 * gw_names_take hands the list out, to be freed with gw_changes_free. Owner and
 * thread: the caller's. */
enum { GW_NAMES_SLOTS = 4096, GW_NAMES_MAX = 1 << 20 };

struct gw_change {
	struct gw_change *next, *next_same; /* the list; private */
	uint32_t tree;
	char path[]; /* below the tree's root; "." the root itself */
};

struct gw_names {
	struct gw_change *slots[GW_NAMES_SLOTS], *first;
	size_t n;
};

/* -ENOSPC when GW_NAMES_MAX are in it, -ENOMEM. */
int gw_names_add(struct gw_names *s, uint32_t tree, const char *path);
struct gw_change *gw_names_take(struct gw_names *s);
void gw_changes_free(struct gw_change *c);
