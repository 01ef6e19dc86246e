/* dest_files: the container's trees as they arrive.
 *
 * Until its container runtime has made the target there is nowhere to put them:
 * they are received under FILES/MIG. At arm they go into their places, and the
 * rest is written there; into the layer through the overlay, because from then on
 * somebody may have looked at it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "base/scope.h"
#include "move/dest_priv.h"
#include "move/trees.h"

enum { CONFIG_MAX = 16 << 20 };

static void files_dir(const struct gw_daemon *d, const char *mig, char *out, size_t size)
{
	gw_path(out, size, "%s/%s", d->cfg.files_dir, mig);
}

int gw_dest_files_prepare(struct gw_dest *s, yyjson_val *trees, struct gw_err *e)
{
	char dir[PATH_MAX], path[PATH_MAX + 16];
	if (yyjson_arr_size(trees) == 0)
		return 0;
	if (!s->claim_name[0] || yyjson_arr_size(trees) > GW_REC_TREES_MAX)
		return gw_fail(e, GW_PEER, EPROTO, "%zu trees of files", yyjson_arr_size(trees));
	s->files = gw_apply_new();
	s->trees = yyjson_val_mut_copy(s->trees_doc = yyjson_mut_doc_new(NULL), trees);
	files_dir(s->d, s->mig, dir, sizeof(dir));
	int rc = s->trees ? 0 : gw_fail(e, GW_SYS, ENOMEM, "prepare for files");
	for (uint32_t i = 0; rc == 0 && i < yyjson_arr_size(trees); i++) {
		bool layer = gw_json_bool(yyjson_arr_get(trees, i), "layer", false);
		gw_path(path, sizeof(path), "%s/%u", dir, i);
		rc = gw_mkdirs(path, e);
		if (rc == 0)
			rc = gw_apply_root(s->files, i, path, layer ? GW_APPLY_LAYER : GW_APPLY_PLAIN, e);
	}
	return rc;
}

int gw_dest_files_frame(struct gw_dest *s, const struct gw_frame *f, struct gw_err *e)
{
	if (!s->files)
		return gw_fail(e, GW_PEER, EPROTO, "files of no tree");
	int rc = gw_apply_frame(s->files, f->payload, f->len, e);
	if (rc == -ENOSPC || rc == -EDQUOT) {
		struct gw_err why = *e;
		return gw_fail_code(e, GW_INPUT, "NoDiskRoom", "no room on this host's disk: %s", why.text);
	}
	return rc;
}

static int place_one(struct gw_dest *s, uint32_t i, const struct gw_trees *here, struct gw_err *e)
{
	const char *name = yyjson_mut_get_str(yyjson_mut_obj_get(yyjson_mut_arr_get(s->trees, i), "name"));
	const struct gw_tree_of *t = name ? gw_trees_find(here, name) : NULL;
	if (!t)
		return gw_fail_code(
		        e, GW_INPUT, "VolumeMissing",
		        "the target's container has no volume at %s, the source's has: are they of the same pod?",
		        name ?: "?");
	int rc = gw_apply_place(s->files, i, t->root, e);
	return rc < 0 || !t->view[0] ? rc : gw_apply_root(s->files, i, t->view, GW_APPLY_PLAIN, e);
}

int gw_dest_files_place(struct gw_dest *s, struct gw_err *e)
{
	char path[PATH_MAX + 32], rootfs[PATH_MAX * 2];
	gw_auto(mem) char *config = NULL;
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	struct gw_trees here = {0};
	if (!s->files)
		return 0;
	gw_path(path, sizeof(path), "%s/config.json", s->claim.bundle);
	int rc = gw_read_file(path, CONFIG_MAX, &config, NULL, e);
	if (rc == 0)
		rc = gw_json_parse(config, strlen(config), path, &doc, e);
	if (rc < 0)
		return rc;
	const char *root = gw_json_str(yyjson_obj_get(yyjson_doc_get_root(doc), "root"), "path", "rootfs");
	gw_path(rootfs, sizeof(rootfs), "%s%s%s", root[0] == '/' ? "" : s->claim.bundle, root[0] == '/' ? "" : "/",
	        root);
	rc = gw_trees_list(config, rootfs, &here, e);
	for (uint32_t i = 0; rc == 0 && i < yyjson_mut_arr_size(s->trees); i++)
		rc = place_one(s, i, &here, e);
	gw_trees_done(&here);
	return rc;
}

void gw_dest_files_done(struct gw_dest *s)
{
	char dir[PATH_MAX];
	struct gw_err ignored;
	if (!s->files)
		return;
	gw_apply_free(gw_take(s->files));
	yyjson_mut_doc_free(gw_take(s->trees_doc));
	files_dir(s->d, s->mig, dir, sizeof(dir));
	(void)gw_remove_tree(dir, &ignored);
}
