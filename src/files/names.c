#include "files/names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static size_t slot_of(uint32_t tree, const char *path)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325) + tree;
	for (; *path; path++)
		h = (h ^ (uint8_t)*path) * UINT64_C(0x100000001b3);
	return (h >> 32 ^ h) & (GW_NAMES_SLOTS - 1);
}

int gw_names_add(struct gw_names *s, uint32_t tree, const char *path)
{
	struct gw_change **slot = &s->slots[slot_of(tree, path)];
	for (struct gw_change *c = *slot; c; c = c->next_same)
		if (c->tree == tree && !strcmp(c->path, path))
			return 0;
	if (s->n == GW_NAMES_MAX)
		return -ENOSPC;
	size_t len = strlen(path) + 1;
	struct gw_change *c = malloc(sizeof(*c) + len);
	if (!c)
		return -ENOMEM;
	*c = (struct gw_change){.next = s->first, .next_same = *slot, .tree = tree};
	memcpy(c->path, path, len);
	*slot = s->first = c;
	s->n++;
	return 0;
}

struct gw_change *gw_names_take(struct gw_names *s)
{
	struct gw_change *first = s->first;
	if (first)
		memset(s, 0, sizeof(*s));
	return first;
}

void gw_changes_free(struct gw_change *c)
{
	for (struct gw_change *next; c; c = next) {
		next = c->next;
		free(c);
	}
}
