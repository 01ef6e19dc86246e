/* check_pod: files of a container that a Kubernetes node agent made.
 *
 * Its root file system is an overlay whose lower layers every node can have,
 * and its mounts are made anew for the target pod by that node's kubelet. What
 * exists here only is what was written: into the upper layer, into an emptyDir,
 * into /dev/shm. */
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>

#include "base/scope.h"
#include "move/check_look.h"

/* Made from the API's objects (pkg/volume of Kubernetes: the plugins' names, "/" written as "~"). */
static const char *const FROM_API[] = {"/volumes/kubernetes.io~configmap/",
                                       "/volumes/kubernetes.io~secret/",
                                       "/volumes/kubernetes.io~projected/",
                                       "/volumes/kubernetes.io~downward-api/",
                                       "/etc-hosts",
                                       "/containers/"};
enum { DESCRIPTORS = 16 };

bool gw_look_is_pods(const struct gw_look *l)
{
	yyjson_val *notes = yyjson_obj_get(yyjson_doc_get_root(l->config), "annotations");
	return !strcmp(gw_json_str(notes, "io.kubernetes.cri.container-type", ""), "container");
}

static _Thread_local char found[PATH_MAX];

/* Empty files and folders are what mounts were put on: the other runtime makes them too. */
static int visit(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	(void)at;
	if (kind == FTW_D || (kind == FTW_F && S_ISREG(st->st_mode) && st->st_size == 0))
		return 0;
	(void)snprintf(found, sizeof(found), "%s", path);
	return 1;
}

/* Something that was written below dir, or NULL. Borrowed till the next call of this thread. */
static const char *content_of(const char *dir)
{
	return nftw(dir, visit, DESCRIPTORS, FTW_PHYS | FTW_MOUNT) == 1 ? found : NULL;
}

/* The option of an overlay's line in mountinfo: "upperdir=PATH". */
static bool upper_of(const char *rootfs, char *out, size_t size)
{
	gw_auto(mem) char *text = gw_look_text("/proc/self/mountinfo");
	char *save = NULL;
	for (char *line = text ? strtok_r(text, "\n", &save) : NULL; line; line = strtok_r(NULL, "\n", &save)) {
		char point[PATH_MAX];
		const char *dash = strstr(line, " - overlay "), *at = dash ? strstr(dash, "upperdir=") : NULL;
		if (!at || sscanf(line, "%*d %*d %*s %*s %4095s", point) != 1 || strcmp(point, rootfs) != 0)
			continue;
		at += strlen("upperdir=");
		(void)snprintf(out, size, "%.*s", (int)strcspn(at, ", "), at);
		return true;
	}
	return false;
}

void gw_look_pod_layer(struct gw_look *l)
{
	char upper[PATH_MAX];
	const char *what = upper_of(l->c->rootfs, upper, sizeof(upper)) ? content_of(upper) : l->c->rootfs;
	if (what)
		gw_reasons_add(l->out, "WritableLayer", "container %s has written %s", l->c->id,
		               strncmp(what, upper, strlen(upper)) ? what : what + strlen(upper));
}

bool gw_look_pod_bind(struct gw_look *l, const char *dest, const char *source)
{
	const char *pods = strstr(source, "/pods/");
	for (size_t i = 0; pods && i < gw_countof(FROM_API); i++)
		if (strstr(pods, FROM_API[i]))
			return true;
	bool shm = !strcmp(dest, "/dev/shm") && strstr(source, "/sandboxes/");
	bool empty_dir = pods && strstr(pods, "/volumes/kubernetes.io~empty-dir/");
	if (!shm && !empty_dir)
		return strstr(source, "/sandboxes/") != NULL; /* hostname, resolv.conf */
	const char *what = content_of(source);
	if (what)
		gw_reasons_add(l->out, "LocalVolume", "%s has files on this host: %s%s", dest, dest,
		               what + strlen(source));
	return true;
}
