/* check_pod: files of a container that a Kubernetes node agent made.
 *
 * Its root file system is an overlay whose lower layers every node can have,
 * and its mounts are made anew for the target pod by that node's kubelet. What
 * was written is copied (trees.h), where it can be told. */
#include <string.h>

#include "base/io.h"
#include "base/scope.h"
#include "move/check_look.h"
#include "move/trees.h"

enum { OPTIONS_MAX = 65536 };

bool gw_look_is_pods(const struct gw_look *l)
{
	yyjson_val *notes = yyjson_obj_get(yyjson_doc_get_root(l->config), "annotations");
	return !strcmp(gw_json_str(notes, "io.kubernetes.cri.container-type", ""), "container");
}

void gw_look_pod_layer(struct gw_look *l)
{
	char upper[PATH_MAX];
	if (!gw_upper_of(l->c->rootfs, upper, sizeof(upper)))
		gw_reasons_add(l->out, "WritableLayer", "the root file system of container %s is no overlay", l->c->id);
}

bool gw_look_pod_bind(struct gw_look *l, const char *dest, const char *source)
{
	switch (gw_volume_kind(dest, source)) {
	case GW_VOLUME_MADE:
	case GW_VOLUME_TREE: return true;
	case GW_VOLUME_HERE:
		gw_reasons_add(l->out, "LocalVolume",
		               "%s is on this host only (an emptyDir of huge pages, or one file of one)", dest);
		return true;
	case GW_VOLUME_OTHER:
	default: return false;
	}
}

/* containerd's shim notes the options it was started with beside the bundle, BinaryName among them. */
void gw_check_runtime(const struct gw_container *c, struct gw_reasons *out)
{
	char path[PATH_MAX + 16];
	gw_auto(mem) char *text = NULL;
	gw_path(path, sizeof(path), "%s/options.json", c->bundle);
	if (gw_read_file(path, OPTIONS_MAX, &text, NULL, NULL) < 0 || !strstr(text, "godwit-runtime"))
		gw_reasons_add(out, "RuntimeNotGodwit",
		               "the name of its pod has to stay, and container %.12s runs "
		               "under another runtime than godwit's",
		               c->id);
}
