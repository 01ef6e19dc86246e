#include "base/json.h"

#include <assert.h>
#include <errno.h>

#include "base/io.h"

int gw_json_parse(const char *text, size_t len, const char *what, yyjson_doc **out, struct gw_err *e)
{
	yyjson_read_err re;
	/* yyjson only writes into the text with YYJSON_READ_INSITU, which is not set. */
	yyjson_doc *d = yyjson_read_opts((char *)(uintptr_t)text, len, 0, NULL, &re);
	if (!d)
		return gw_fail(e, GW_INPUT, EINVAL, "%s is not JSON: %s at byte %zu", what, re.msg, re.pos);
	*out = d;
	return 0;
}

int gw_json_file(const char *path, size_t max_bytes, yyjson_doc **out, struct gw_err *e)
{
	gw_auto(mem) char *text = NULL;
	size_t len;
	int rc = gw_read_file(path, max_bytes, &text, &len, e);
	return rc < 0 ? rc : gw_json_parse(text, len, path, out, e);
}

const char *gw_json_str(yyjson_val *obj, const char *key, const char *fallback)
{
	yyjson_val *v = yyjson_obj_get(obj, key);
	return yyjson_is_str(v) ? yyjson_get_str(v) : fallback;
}

uint64_t gw_json_u64(yyjson_val *obj, const char *key, uint64_t fallback)
{
	yyjson_val *v = yyjson_obj_get(obj, key);
	return yyjson_is_uint(v) ? yyjson_get_uint(v) : fallback;
}

int64_t gw_json_i64(yyjson_val *obj, const char *key, int64_t fallback)
{
	yyjson_val *v = yyjson_obj_get(obj, key);
	return yyjson_is_int(v) ? yyjson_get_sint(v) : fallback;
}

double gw_json_f64(yyjson_val *obj, const char *key, double fallback)
{
	yyjson_val *v = yyjson_obj_get(obj, key);
	return yyjson_is_num(v) ? yyjson_get_num(v) : fallback;
}

bool gw_json_bool(yyjson_val *obj, const char *key, bool fallback)
{
	yyjson_val *v = yyjson_obj_get(obj, key);
	return yyjson_is_bool(v) ? yyjson_get_bool(v) : fallback;
}

int gw_json_need_str(yyjson_val *obj, const char *key, const char **out, struct gw_err *e)
{
	const char *s = gw_json_str(obj, key, NULL);
	if (!s)
		return gw_fail(e, GW_INPUT, EINVAL, "\"%s\" is missing or not a string", key);
	*out = s;
	return 0;
}

char *gw_json_text(yyjson_mut_doc *doc, size_t *out_len)
{
	char *s = yyjson_mut_write(doc, 0, out_len);
	assert(s);
	return s;
}

char *gw_json_text_pretty(yyjson_mut_doc *doc)
{
	char *s = yyjson_mut_write(doc, YYJSON_WRITE_PRETTY_TWO_SPACES, NULL);
	assert(s);
	return s;
}
