#include "move/trees.h"

#include <errno.h>
#include <glob.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/io.h"
#include "base/json.h"
#include "base/scope.h"
#include "files/record.h"

enum { MOUNTINFO_MAX = 16 << 20 };

/* Made from the API's objects (pkg/volume of Kubernetes: the plugins' names, "/" written as "~"). */
static const char *const FROM_API[] = {"/volumes/kubernetes.io~configmap/",
                                       "/volumes/kubernetes.io~secret/",
                                       "/volumes/kubernetes.io~projected/",
                                       "/volumes/kubernetes.io~downward-api/",
                                       "/etc-hosts",
                                       "/containers/"};
static const char EMPTY_DIR[] = "/volumes/kubernetes.io~empty-dir/";

static bool is_from_api(const char *pods)
{
	for (size_t i = 0; i < gw_countof(FROM_API); i++)
		if (strstr(pods, FROM_API[i]))
			return true;
	return false;
}

/* PODS/UID/volume-subpaths/VOLUME/CONTAINER/N is a part of PODS/UID/volumes/PLUGIN/VOLUME. */
static enum gw_volume subpath_kind(const char *source, const char *sub)
{
	const char *name = sub + strlen("/volume-subpaths/");
	char pattern[PATH_MAX];
	glob_t g;
	enum gw_volume kind = GW_VOLUME_OTHER;
	struct stat st;
	if (snprintf(pattern, sizeof(pattern), "%.*s/volumes/*/%.*s", (int)(sub - source), source,
	             (int)strcspn(name, "/"), name) >= (int)sizeof(pattern) ||
	    glob(pattern, GLOB_NOSORT, NULL, &g) != 0)
		return kind;
	const char *found = g.gl_pathc ? g.gl_pathv[0] : "";
	if (strstr(found, EMPTY_DIR))
		kind = stat(source, &st) == 0 && S_ISDIR(st.st_mode) ? GW_VOLUME_TREE : GW_VOLUME_HERE;
	else if (is_from_api(found))
		kind = GW_VOLUME_MADE;
	globfree(&g);
	return kind;
}

enum gw_volume gw_volume_kind(const char *dest, const char *source)
{
	const char *pods = strstr(source, "/pods/"), *sub = pods ? strstr(pods, "/volume-subpaths/") : NULL;
	if (sub)
		return subpath_kind(source, sub);
	if (pods && is_from_api(pods))
		return GW_VOLUME_MADE;
	if (pods && strstr(pods, EMPTY_DIR)) {
		struct statfs fs;
		return statfs(source, &fs) == 0 && fs.f_type == HUGETLBFS_MAGIC ? GW_VOLUME_HERE : GW_VOLUME_TREE;
	}
	if (!strstr(source, "/sandboxes/"))
		return GW_VOLUME_OTHER;
	return strcmp(dest, "/dev/shm") ? GW_VOLUME_MADE : GW_VOLUME_TREE; /* else hostname, resolv.conf */
}

/* The option of an overlay's line in mountinfo: "upperdir=PATH". */
bool gw_upper_of(const char *rootfs, char *out, size_t size)
{
	gw_auto(mem) char *text = NULL;
	struct gw_err ignored;
	char *save = NULL;
	bool found = false;
	if (gw_read_file("/proc/self/mountinfo", MOUNTINFO_MAX, &text, NULL, &ignored) < 0)
		return false;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char point[PATH_MAX];
		const char *dash = strstr(line, " - overlay "), *at = dash ? strstr(dash, "upperdir=") : NULL;
		if (!at || sscanf(line, "%*d %*d %*s %*s %4095s", point) != 1 || strcmp(point, rootfs) != 0)
			continue;
		at += strlen("upperdir=");
		(void)snprintf(out, size, "%.*s", (int)strcspn(at, ", "), at);
		found = true; /* the last one is on top */
	}
	return found;
}

static int add(struct gw_trees *t, const char *name, const char *root, const char *view, struct gw_err *e)
{
	if (gw_trees_find(t, name))
		return 0;
	struct gw_tree_of *more = t->n < GW_REC_TREES_MAX ? realloc(t->v, (t->n + 1) * sizeof(*more)) : NULL;
	if (!more)
		return gw_fail(e, GW_SYS, ENOMEM, "list the volumes");
	t->v = more;
	struct gw_tree_of *n = &more[t->n++];
	(void)snprintf(n->name, sizeof(n->name), "%s", name);
	(void)snprintf(n->root, sizeof(n->root), "%s", root);
	(void)snprintf(n->view, sizeof(n->view), "%s", view);
	return 0;
}

static int add_mounts(yyjson_val *mounts, struct gw_trees *out, struct gw_err *e)
{
	int rc = 0;
	yyjson_arr_iter it = yyjson_arr_iter_with(mounts);
	for (yyjson_val *m; rc == 0 && (m = yyjson_arr_iter_next(&it));) {
		const char *dest = gw_json_str(m, "destination", ""), *source = gw_json_str(m, "source", "");
		if (gw_volume_kind(dest, source) == GW_VOLUME_TREE)
			rc = add(out, dest, source, "", e);
	}
	return rc;
}

int gw_trees_list(const char *config_json, const char *rootfs, struct gw_trees *out, struct gw_err *e)
{
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	char upper[PATH_MAX];
	int rc = gw_json_parse(config_json, strlen(config_json), "config.json of the container", &doc, e);
	if (rc < 0)
		return rc;
	yyjson_val *o = yyjson_doc_get_root(doc);
	*out = (struct gw_trees){0};
	if (!gw_json_bool(yyjson_obj_get(o, "root"), "readonly", false)) {
		if (!gw_upper_of(rootfs, upper, sizeof(upper)))
			return gw_fail_code(
			        e, GW_INPUT, "WritableLayer",
			        "the root file system %s is no overlay: what was written to it cannot be told", rootfs);
		rc = add(out, "/", upper, rootfs, e);
	}
	if (rc == 0)
		rc = add_mounts(yyjson_obj_get(o, "mounts"), out, e);
	if (rc < 0)
		gw_trees_done(out);
	return rc;
}

void gw_trees_done(struct gw_trees *t)
{
	free(t->v);
	*t = (struct gw_trees){0};
}

const struct gw_tree_of *gw_trees_find(const struct gw_trees *t, const char *name)
{
	for (size_t i = 0; i < t->n; i++)
		if (!strcmp(t->v[i].name, name))
			return &t->v[i];
	return NULL;
}

int gw_trees_of_path(const struct gw_trees *t, const char *path, const char **out_rest)
{
	int best = -1;
	size_t best_len = 0;
	for (size_t i = 0; i < t->n; i++) {
		const char *name = t->v[i].name;
		size_t n = strcmp(name, "/") ? strlen(name) : 0;
		bool in = !strncmp(path, name, n) && (path[n] == '/' || path[n] == 0);
		if (!in || (best >= 0 && n < best_len))
			continue;
		best = (int)i;
		best_len = n;
		*out_rest = path[n] && path[n + 1] ? path + n + 1 : ".";
	}
	return best;
}
