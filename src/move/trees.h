#pragma once
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/gw_err.h"

/* trees: where a pod's container can have written something that is on its node only.
 *
 * Its root file system's upper layer, its emptyDirs (on disk and in memory) and
 * the pod's /dev/shm. The same container has the same trees on both nodes; what
 * names them is where they are in the container. Pure reading; any thread. */
struct gw_tree_of {
	char name[PATH_MAX]; /* in the container; "/" the layer */
	char root[PATH_MAX]; /* on this host */
	char view[PATH_MAX]; /* of the layer: where it is mounted; else "" */
};

struct gw_trees {
	struct gw_tree_of *v;
	size_t n;
};

/* config_json and rootfs: of the container. A read-only root has no layer.
 * Freed with gw_trees_done. */
int gw_trees_list(const char *config_json, const char *rootfs, struct gw_trees *out, struct gw_err *e);
void gw_trees_done(struct gw_trees *t);
/* The tree of that name, NULL: none. */
const struct gw_tree_of *gw_trees_find(const struct gw_trees *t, const char *name);
/* The tree that a path of the container lies in, and the rest of the path ("."
 * for its root). -1: in none. Longest name first. */
int gw_trees_of_path(const struct gw_trees *t, const char *path, const char **out_rest);

/* What a bind mount of a pod's container is. */
enum gw_volume {
	GW_VOLUME_MADE, /* from the API's objects, or by the container runtime: made anew anywhere */
	GW_VOLUME_TREE, /* an emptyDir, the pod's /dev/shm: copied */
	GW_VOLUME_HERE, /* something that cannot be copied and is on this host only */
	GW_VOLUME_OTHER /* neither kubelet's nor the runtime's, or a persistent volume */
};
enum gw_volume gw_volume_kind(const char *dest, const char *source);

/* The upper layer of the overlay mounted at rootfs. false: it is no overlay. */
bool gw_upper_of(const char *rootfs, char *out, size_t size);
