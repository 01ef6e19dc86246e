#include "confine.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "base/json.h"
#include "base/scope.h"

enum { CONFIG_MAX = 8 << 20 };

static const char *const STRUCK[] = {"io_uring_setup", "io_uring_enter", "io_uring_register"};

static bool is_str(yyjson_mut_val *obj, const char *key, const char *want)
{
	const char *s = yyjson_mut_get_str(yyjson_mut_obj_get(obj, key));
	return s && !strcmp(s, want);
}

static bool is_struck(yyjson_mut_val *name)
{
	const char *s = yyjson_mut_get_str(name);
	for (size_t i = 0; s && i < gw_countof(STRUCK); i++)
		if (!strcmp(s, STRUCK[i]))
			return true;
	return false;
}

/* What a rule allows only under conditions is struck as well. */
static bool strike(yyjson_mut_val *rule)
{
	yyjson_mut_val *name;
	yyjson_mut_arr_iter it;
	bool changed = false;
	if (!is_str(rule, "action", "SCMP_ACT_ALLOW") ||
	    !yyjson_mut_arr_iter_init(yyjson_mut_obj_get(rule, "names"), &it))
		return false;
	while ((name = yyjson_mut_arr_iter_next(&it)))
		if (is_struck(name))
			changed |= yyjson_mut_arr_iter_remove(&it) != NULL;
	return changed;
}

bool confine_config(yyjson_mut_doc *config)
{
	yyjson_mut_val *root = yyjson_mut_doc_get_root(config), *rule;
	yyjson_mut_val *seccomp = yyjson_mut_obj_get(yyjson_mut_obj_get(root, "linux"), "seccomp");
	yyjson_mut_arr_iter it;
	bool changed = false;
	if (!is_str(seccomp, "defaultAction", "SCMP_ACT_ERRNO") ||
	    is_str(yyjson_mut_obj_get(root, "annotations"), "live.godwit.dev/io-uring", "allow") ||
	    !yyjson_mut_arr_iter_init(yyjson_mut_obj_get(seccomp, "syscalls"), &it))
		return false;
	while ((rule = yyjson_mut_arr_iter_next(&it))) {
		changed |= strike(rule);
		/* runc refuses a rule without names. */
		if (yyjson_mut_arr_size(yyjson_mut_obj_get(rule, "names")) == 0)
			yyjson_mut_arr_iter_remove(&it);
	}
	return changed;
}

int confine(const struct cmdline *c, struct gw_err *e)
{
	char path[PATH_MAX];
	gw_auto(mem) char *text = NULL;
	gw_auto(jdoc) yyjson_doc *in = NULL;
	struct gw_err ignored;
	size_t len;
	int n = snprintf(path, sizeof(path), "%s/config.json", c->bundle);
	if (n < 0 || (size_t)n >= sizeof(path) || gw_read_file(path, CONFIG_MAX, &text, &len, &ignored) < 0 ||
	    !strstr(text, "\"io_uring_") || gw_json_parse(text, len, path, &in, &ignored) < 0)
		return 0;
	gw_auto(jmut) yyjson_mut_doc *doc = yyjson_doc_mut_copy(in, NULL);
	if (!confine_config(doc))
		return 0;
	gw_auto(mem) char *out = gw_json_text(doc, &len);
	int rc = gw_write_file(path, out, len, e);
	return rc < 0 ? gw_wrap(e, "forbid io_uring to the container") : 0;
}
