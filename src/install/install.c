#include "install/install.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/gw_log.h"
#include "base/io.h"
#include "base/proc.h"
#include "base/scope.h"
#include "install/files.h"
#include "install/host.h"
#include "install/places.h"
#include "install/record.h"
#include "install/settings.h"
#include "mem/track.h"

enum { SETTINGS_MAX = 4 << 20, CHECK_MS = 30000 };

/* ---- can this host serve? ---- */

static int check_host(struct gw_err *e)
{
	char why[300];
	if (gw_track_supported(why, sizeof(why)) == GW_TRACK_AUTO)
		return gw_fail_code(e, GW_INPUT, "OldKernel",
		                    "this kernel can't track written memory (%s): Linux 6.7 or later is needed", why);
	if (!gw_fs_exists("/sys/fs/cgroup/cgroup.controllers") && !gw_fs_exists("/sys/fs/cgroup/freezer"))
		return gw_fail_code(e, GW_INPUT, "NoCgroups", "there is no freezer below /sys/fs/cgroup");
	return 0;
}

static int check_criu(struct gw_err *e)
{
	const char *const criu[] = {GW_HOME "/bin/criu", "check", NULL};
	struct gw_err why;
	if (gw_proc_run(&(struct gw_spawn){.argv = criu, .stdio = {-1, -1, -1}}, CHECK_MS, NULL, &why) < 0)
		return gw_fail_code(e, GW_INPUT, "CriuFails", "CRIU can't work on this kernel: %.380s", why.text);
	return 0;
}

/* Another network's configuration would win, or lose its pods to ours. */
static int check_network(const struct gw_install *o, struct gw_err *e)
{
	if (o->no_network)
		return 0;
	if (!o->ranges[0][0])
		return gw_fail_code(e, GW_INPUT, "NoPodRanges",
		                    "the Node has no spec.podCIDRs: the network plugin gives addresses out of them "
		                    "(kube-controller-manager --allocate-node-cidrs)");
	gw_auto(dir) DIR *d = opendir(CNI_NET);
	for (struct dirent *f; d && (f = readdir(d));) {
		const char *dot = strrchr(f->d_name, '.');
		bool net = dot && f->d_name[0] != '.' &&
		           (!strcmp(dot, ".conflist") || !strcmp(dot, ".conf") || !strcmp(dot, ".json"));
		if (net && strcmp(f->d_name, CONFLIST_NAME) != 0)
			return gw_fail_code(e, GW_INPUT, "OtherNetwork",
			                    "this node has another network plugin (" CNI_NET
			                    "/%s): pods move with their "
			                    "addresses in godwit's own network only",
			                    f->d_name);
	}
	return 0;
}

/* ---- steps ---- */

/* Is path ours, or free? */
static int claim(struct gw_record *r, const char *kind, const char *path, struct gw_err *e)
{
	if (!gw_record_has(r, path) && gw_fs_exists(path))
		return gw_fail_code(e, GW_INPUT, "InTheWay",
		                    "%s is there and was not put there by godwit: take it away", path);
	return gw_record_add(r, kind, path, e);
}

static int need_dir(struct gw_record *r, const char *path, struct gw_err *e)
{
	if (gw_fs_exists(path))
		return 0;
	int rc = gw_record_add(r, "dir", path, e);
	if (rc == 0 && mkdir(path, 0755) < 0)
		rc = gw_fail(e, GW_SYS, errno, "make %s", path);
	return rc;
}

static int put_programs(struct gw_record *r, int image, struct gw_err *e)
{
	char release[200], path[PATH_MAX];
	static const char *const links[] = {"bin", "lib", "libexec"};
	ssize_t n = readlinkat(image, "now", release, sizeof(release) - 1);
	release[n > 0 ? n : 0] = 0;
	gw_auto(fd) int from = openat(image, release, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (n <= 0 || from < 0)
		return gw_fail(e, GW_INPUT, EINVAL, "this is not godwit's image: " GW_HOME "/now leads nowhere");
	int rc = claim(r, "tree", GW_HOME "/releases", e);
	if (rc == 0)
		rc = gw_mkdirs(GW_HOME "/releases", e);
	if (rc == 0 && chmod(GW_HOME "/releases", 0755) < 0)
		rc = gw_fail(e, GW_SYS, errno, "make " GW_HOME "/releases");
	gw_path(path, sizeof(path), GW_HOME "/%s", release);
	if (rc == 0 && !gw_fs_exists(path))
		rc = gw_fs_copy_tree(from, path, e);
	if (rc == 0)
		rc = claim(r, "link", GW_HOME "/now", e);
	if (rc == 0)
		rc = gw_fs_link(release, GW_HOME "/now", e);
	for (size_t i = 0; rc == 0 && i < gw_countof(links); i++) {
		char to[64];
		gw_path(path, sizeof(path), GW_HOME "/%s", links[i]);
		gw_path(to, sizeof(to), "now/%s", links[i]);
		rc = claim(r, "link", path, e);
		if (rc == 0)
			rc = gw_fs_link(to, path, e);
	}
	return rc;
}

/* Those that are no longer current; what still runs of them has its files open. */
static void drop_old_releases(void)
{
	char now[PATH_MAX], path[PATH_MAX];
	ssize_t n = readlink(GW_HOME "/now", now, sizeof(now) - 1);
	gw_auto(dir) DIR *d = n > 0 ? opendir(GW_HOME "/releases") : NULL;
	now[n > 0 ? n : 0] = 0;
	for (struct dirent *f; d && (f = readdir(d));) {
		gw_path(path, sizeof(path), "releases/%s", f->d_name);
		if (f->d_name[0] == '.' || !strcmp(path, now))
			continue;
		gw_path(path, sizeof(path), GW_HOME "/releases/%s", f->d_name);
		(void)gw_remove_tree(path, NULL);
	}
}

static int put_link(struct gw_record *r, const char *target, const char *path, struct gw_err *e)
{
	int rc = claim(r, "link", path, e);
	return rc < 0 ? rc : gw_fs_link(target, path, e);
}

static int put_conflist(struct gw_record *r, const struct gw_install *o, struct gw_err *e)
{
	char text[600];
	gw_auto(mem) char *old = NULL;
	bool two = o->ranges[1][0];
	(void)snprintf(text, sizeof(text),
	               "{\"cniVersion\": \"1.0.0\", \"name\": \"godwit\", \"plugins\": [\n"
	               " {\"type\": \"godwit-cni\", \"ranges\": [\"%s\"%s%s%s], \"capabilities\": "
	               "{\"io.kubernetes.cri.pod-annotations\": true}},\n"
	               " {\"type\": \"portmap\", \"capabilities\": {\"portMappings\": true}, \"snat\": true}]}\n",
	               o->ranges[0], two ? ", \"" : "", o->ranges[1], two ? "\"" : "");
	int rc = claim(r, "file", CONFLIST, e);
	if (rc < 0 || (gw_read_file(CONFLIST, sizeof(text), &old, NULL, NULL) == 0 && !strcmp(old, text)))
		return rc;
	return gw_fs_put(CONFLIST, text, strlen(text), 0644, e);
}

static int put_network(struct gw_record *r, const struct gw_install *o, struct gw_err *e)
{
	static const char *const dirs[] = {"/opt/cni", CNI_BIN, "/etc/cni", CNI_NET};
	int rc = 0;
	if (o->no_network)
		return 0;
	for (size_t i = 0; rc == 0 && i < gw_countof(dirs); i++)
		rc = need_dir(r, dirs[i], e);
	if (rc == 0)
		rc = put_link(r, GW_HOME "/libexec/godwit/godwit-cni", CNI_BIN "/godwit-cni", e);
	if (rc == 0 && (!gw_fs_exists(CNI_BIN "/portmap") || gw_record_has(r, CNI_BIN "/portmap")))
		rc = put_link(r, GW_HOME "/now/cni/portmap", CNI_BIN "/portmap", e);
	if (rc == 0)
		rc = gw_record_add(r, "tree", STATE_CNI, e);
	return rc < 0 ? rc : put_conflist(r, o, e);
}

/* ---- containerd ---- */

static int bad_settings(struct gw_err *e, const char *words)
{
	const struct gw_err was = *e;
	return gw_fail_code(e, GW_INPUT, "BadSettings", "%s: %.380s", words, was.text);
}

/* Written beside the file first: containerd itself says whether it takes it. */
static int try_settings(const struct gw_containerd *c, const char *text, struct gw_err *e)
{
	char path[PATH_MAX];
	gw_auto(mem) char *dump = NULL;
	gw_path(path, sizeof(path), "%s.godwit-try", c->config);
	int rc = gw_fs_put(path, text, strlen(text), 0600, e);
	if (rc == 0 && gw_containerd_dump(c, path, &dump, e) < 0)
		rc = bad_settings(e, "containerd does not accept its settings with ours");
	if (rc == 0 && !gw_settings_taken(dump, GW_HOME "/bin/godwit-runtime"))
		rc = gw_fail_code(
		        e, GW_INPUT, "BadSettings",
		        "the runtime handler in %s has no effect: a file that it imports replaces it. Put the "
		        "handler there (docs/install.md)",
		        c->config);
	(void)unlink(path);
	return rc;
}

static int put_settings(struct gw_record *r, struct gw_containerd *c, const char *text, bool is_new, struct gw_err *e)
{
	int rc = try_settings(c, text, e);
	if (rc == 0)
		rc = gw_record_add(r, is_new ? "block-file" : "block", c->config, e);
	if (rc == 0)
		rc = gw_record_note(r, "restart", "needed", e);
	return rc < 0 ? rc : gw_fs_put(c->config, text, strlen(text), 0644, e);
}

/* The runc of the default runtime, where the settings name one: ours is called
 * in its place, and calls it. Else the one in PATH. */
static int put_runc(struct gw_record *r, const char *dump, struct gw_err *e)
{
	char named[PATH_MAX];
	struct gw_err why;
	gw_settings_value(dump, "options/BinaryName", named, sizeof(named));
	const char *const argv[] = {*named ? named : "runc", "--version", NULL};
	if (gw_proc_run(&(struct gw_spawn){.argv = argv, .stdio = {-1, -1, -1}}, CHECK_MS, NULL, &why) < 0)
		return gw_fail_code(e, GW_INPUT, "NoRunc", "there is no %s that runs: %.300s", argv[0], why.text);
	if (*named == '/')
		return put_link(r, named, GW_HOME "/runc", e);
	if (gw_record_has(r, GW_HOME "/runc"))
		(void)unlink(GW_HOME "/runc");
	return gw_record_drop(r, GW_HOME "/runc", e);
}

static int put_runtime(struct gw_record *r, struct gw_containerd *c, char *runc_root, size_t size, struct gw_err *e)
{
	gw_auto(mem) char *text = NULL, *dump = NULL, *with = NULL;
	char dir[PATH_MAX], root[PATH_MAX];
	struct gw_err ignored;
	gw_path(dir, sizeof(dir), "%s", c->config);
	*strrchr(dir, '/') = 0;
	int rc = *dir ? need_dir(r, dir, e) : 0;
	bool is_new = gw_read_file(c->config, SETTINGS_MAX, &text, NULL, &ignored) == -ENOENT;
	if (rc < 0 || (!text && !is_new))
		return rc < 0 ? rc : (*e = ignored, -e->err);
	rc = gw_containerd_dump(c, c->config, &dump, e);
	if (rc == 0 && (rc = put_runc(r, dump, e)) < 0)
		return rc;
	if (rc == 0)
		rc = gw_settings_with(text ?: "", dump, GW_HOME "/bin/godwit-runtime", &with, e);
	if (rc < 0)
		return bad_settings(e, c->config);
	gw_settings_value(dump, "options/Root", root, sizeof(root));
	(void)snprintf(runc_root, size, "%s/k8s.io", *root ? root : "/run/containerd/runc");
	if (is_new || strcmp(text, with) != 0)
		rc = put_settings(r, c, with, is_new, e);
	if (rc < 0 || strcmp(gw_record_noted(r, "restart"), "needed") != 0)
		return rc;
	rc = gw_containerd_restart(c, e);
	return rc < 0 ? rc : gw_record_note(r, "restart", "", e);
}

/* ---- all of it ---- */

static int steps(struct gw_record *r, const struct gw_install *o, struct gw_containerd *c, char *runc_root, size_t size,
                 struct gw_err *e)
{
	int rc = put_programs(r, o->image, e);
	if (rc == 0)
		rc = check_criu(e);
	if (rc == 0)
		rc = gw_record_add(r, "tree", STATE_RUN, e);
	if (rc == 0)
		rc = put_network(r, o, e);
	if (rc == 0)
		rc = put_runtime(r, c, runc_root, size, e);
	if (rc == 0)
		drop_old_releases();
	return rc;
}

int gw_install(const struct gw_install *o, char *out_runc_root, size_t size, struct gw_err *e)
{
	struct gw_containerd c;
	struct gw_record r;
	gw_auto(fd) int lock = -1;
	int rc = gw_host_lock(&lock, e);
	if (rc == 0)
		rc = check_host(e);
	if (rc == 0)
		rc = gw_containerd_find(&c, e);
	if (rc == 0)
		rc = check_network(o, e);
	if (rc < 0)
		return rc;
	if (mkdir(GW_HOME, 0755) < 0 && errno != EEXIST)
		return gw_fail(e, GW_SYS, errno, "make " GW_HOME);
	rc = gw_record_open(RECORD, &r, e);
	if (rc < 0)
		return rc;
	rc = steps(&r, o, &c, out_runc_root, size, e);
	gw_record_done(&r);
	return rc;
}

bool gw_is_installed(void)
{
	return gw_fs_exists(RECORD);
}
