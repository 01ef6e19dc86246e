#pragma once
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/gw_err.h"
#include "base/json.h"

/* record: what the installer has done to this host, and so what is to be undone.
 *
 * A JSON file. An entry is on disk before the thing is done, so after a kill at
 * any point everything that may have been done is known; undoing what was not
 * done is fine. Entries keep their order: it is undone from the end. One thread. */
struct gw_record {
	char path[PATH_MAX];
	yyjson_mut_doc *doc;
};

/* Kinds: "file", "link", "dir" (if empty), "tree" (with all that is in it),
 * "block" (lines of ours in a file), "block-file" (that file was made by us). */
int gw_record_open(const char *path, struct gw_record *out, struct gw_err *e); /* none yet: empty */
void gw_record_done(struct gw_record *r);
int gw_record_add(struct gw_record *r, const char *kind, const char *path, struct gw_err *e); /* known: nothing to do */
int gw_record_drop(struct gw_record *r, const char *path, struct gw_err *e);
bool gw_record_has(const struct gw_record *r, const char *path);
/* The i-th; false: there are not so many. Borrowed until the next change. */
bool gw_record_at(const struct gw_record *r, size_t i, const char **kind, const char **path);
size_t gw_record_count(const struct gw_record *r);
/* A word to remember: "restart" while containerd does not have its new settings yet. "" when unset. */
int gw_record_note(struct gw_record *r, const char *key, const char *value, struct gw_err *e);
const char *gw_record_noted(const struct gw_record *r, const char *key);
