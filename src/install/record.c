#include "install/record.h"

#include <errno.h>
#include <string.h>

#include "base/io.h"
#include "base/scope.h"
#include "install/files.h"

enum { RECORD_MAX = 1 << 20, VERSION = 1 };

static yyjson_mut_val *root(const struct gw_record *r)
{
	return yyjson_mut_doc_get_root(r->doc);
}

static yyjson_mut_val *made(const struct gw_record *r)
{
	return yyjson_mut_obj_get(root(r), "made");
}

int gw_record_open(const char *path, struct gw_record *out, struct gw_err *e)
{
	struct gw_record r = {0};
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	gw_path(r.path, sizeof(r.path), "%s", path);
	int rc = gw_json_file(path, RECORD_MAX, &doc, e);
	if (rc == 0 && gw_json_i64(yyjson_doc_get_root(doc), "version", 0) != VERSION)
		rc = gw_fail(e, GW_INPUT, EPROTO,
		             "%s was written by another version: remove godwit with that one first", path);
	if (rc < 0 && rc != -ENOENT)
		return rc;
	r.doc = doc ? yyjson_doc_mut_copy(doc, NULL) : yyjson_mut_doc_new(NULL);
	if (!doc) {
		yyjson_mut_val *o = yyjson_mut_obj(r.doc);
		yyjson_mut_doc_set_root(r.doc, o);
		yyjson_mut_obj_add_int(r.doc, o, "version", VERSION);
		yyjson_mut_obj_add_val(r.doc, o, "made", yyjson_mut_arr(r.doc));
		yyjson_mut_obj_add_val(r.doc, o, "notes", yyjson_mut_obj(r.doc));
	}
	if (!yyjson_mut_is_arr(made(&r)) || !yyjson_mut_is_obj(yyjson_mut_obj_get(root(&r), "notes"))) {
		gw_record_done(&r);
		return gw_fail(e, GW_INPUT, EINVAL, "%s is damaged", path);
	}
	*out = r;
	return 0;
}

void gw_record_done(struct gw_record *r)
{
	yyjson_mut_doc_free(gw_take(r->doc));
}

static int save(struct gw_record *r, struct gw_err *e)
{
	gw_auto(mem) char *text = gw_json_text_pretty(r->doc);
	return gw_fs_put(r->path, text, strlen(text), 0644, e);
}

size_t gw_record_count(const struct gw_record *r)
{
	return yyjson_mut_arr_size(made(r));
}

bool gw_record_at(const struct gw_record *r, size_t i, const char **kind, const char **path)
{
	yyjson_mut_val *v = yyjson_mut_arr_get(made(r), i);
	*kind = yyjson_mut_get_str(yyjson_mut_obj_get(v, "kind")) ?: "";
	*path = yyjson_mut_get_str(yyjson_mut_obj_get(v, "path")) ?: "";
	return v != NULL;
}

static bool find(const struct gw_record *r, const char *path, size_t *at)
{
	const char *kind, *p;
	for (size_t i = 0; gw_record_at(r, i, &kind, &p); i++)
		if (!strcmp(p, path)) {
			*at = i;
			return true;
		}
	return false;
}

bool gw_record_has(const struct gw_record *r, const char *path)
{
	size_t at;
	return find(r, path, &at);
}

int gw_record_add(struct gw_record *r, const char *kind, const char *path, struct gw_err *e)
{
	if (gw_record_has(r, path))
		return 0;
	yyjson_mut_val *v = yyjson_mut_arr_add_obj(r->doc, made(r));
	yyjson_mut_obj_add_strcpy(r->doc, v, "kind", kind);
	yyjson_mut_obj_add_strcpy(r->doc, v, "path", path);
	return save(r, e);
}

int gw_record_drop(struct gw_record *r, const char *path, struct gw_err *e)
{
	size_t at;
	if (!find(r, path, &at))
		return 0;
	yyjson_mut_arr_remove(made(r), at);
	return save(r, e);
}

int gw_record_note(struct gw_record *r, const char *key, const char *value, struct gw_err *e)
{
	yyjson_mut_val *notes = yyjson_mut_obj_get(root(r), "notes");
	if (!strcmp(gw_record_noted(r, key), value))
		return 0;
	yyjson_mut_obj_remove_key(notes, key);
	if (*value)
		yyjson_mut_obj_add(notes, yyjson_mut_strcpy(r->doc, key), yyjson_mut_strcpy(r->doc, value));
	return save(r, e);
}

const char *gw_record_noted(const struct gw_record *r, const char *key)
{
	return yyjson_mut_get_str(yyjson_mut_obj_get(yyjson_mut_obj_get(root(r), "notes"), key)) ?: "";
}
