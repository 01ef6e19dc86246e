#include "move/handover.h"

#include <stddef.h>
#include <string.h>

static const char *const source_names[] = {"copying", "frozen", "committing", "moved", "aborted"};
static const char *const dest_names[] = {"unknown", "receiving", "prepared", "committed", "aborted"};

bool gw_source_next(enum gw_source_state *s, enum gw_source_event e)
{
	switch (*s) {
	case S_COPYING:
		if (e == SE_FREEZE)
			return *s = S_FROZEN, true;
		if (e == SE_FAIL || e == SE_HEAR_ABORTED)
			return *s = S_ABORTED, true;
		return false;
	case S_FROZEN:
		if (e == SE_SEND_COMMIT)
			return *s = S_COMMITTING, true;
		if (e == SE_FAIL || e == SE_HEAR_ABORTED)
			return *s = S_ABORTED, true;
		return false;
	case S_COMMITTING:
		if (e == SE_HEAR_COMMITTED)
			return *s = S_MOVED, true;
		if (e == SE_HEAR_ABORTED || e == SE_HEAR_UNKNOWN)
			return *s = S_ABORTED, true;
		/* In doubt: a failure decides nothing, "prepared" means try again. */
		return e == SE_FAIL || e == SE_HEAR_PREPARED;
	case S_MOVED: return e == SE_HEAR_COMMITTED;
	case S_ABORTED: return e == SE_HEAR_ABORTED || e == SE_HEAR_UNKNOWN || e == SE_FAIL;
	}
	return false;
}

bool gw_dest_next(enum gw_dest_state *s, enum gw_dest_event e)
{
	switch (*s) {
	case D_RECEIVING:
		if (e == DE_RESTORED)
			return *s = D_PREPARED, true;
		if (e == DE_FAIL || e == DE_ABORT || e == DE_LINK_LOST)
			return *s = D_ABORTED, true;
		return false;
	case D_PREPARED:
		if (e == DE_COMMIT)
			return *s = D_COMMITTED, true;
		if (e == DE_ABORT || e == DE_FAIL)
			return *s = D_ABORTED, true;
		return e == DE_LINK_LOST;
	case D_COMMITTED: return e == DE_COMMIT || e == DE_LINK_LOST;
	case D_ABORTED: return e != DE_COMMIT && e != DE_RESTORED;
	case D_UNKNOWN: return false;
	}
	return false;
}

bool gw_source_may_run(enum gw_source_state s)
{
	return s == S_COPYING || s == S_ABORTED;
}

bool gw_copy_may_run(enum gw_dest_state s)
{
	return s == D_COMMITTED;
}

bool gw_handover_invariant(enum gw_source_state s, enum gw_dest_state d)
{
	return !(gw_source_may_run(s) && gw_copy_may_run(d));
}

const char *gw_source_state_name(enum gw_source_state s)
{
	return source_names[s];
}

const char *gw_dest_state_name(enum gw_dest_state s)
{
	return dest_names[s];
}

static bool parse(const char *const *names, size_t n, const char *name, unsigned *out)
{
	for (unsigned i = 0; i < n; i++)
		if (!strcmp(names[i], name))
			return *out = i, true;
	return false;
}

bool gw_source_state_parse(const char *name, enum gw_source_state *out)
{
	unsigned i;
	if (!parse(source_names, sizeof(source_names) / sizeof(*source_names), name, &i))
		return false;
	*out = (enum gw_source_state)i;
	return true;
}

bool gw_dest_state_parse(const char *name, enum gw_dest_state *out)
{
	unsigned i;
	if (!parse(dest_names, sizeof(dest_names) / sizeof(*dest_names), name, &i))
		return false;
	*out = (enum gw_dest_state)i;
	return true;
}
