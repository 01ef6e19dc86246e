/* check_config: what the container's config.json alone says against moving. */
#include <errno.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/vfs.h>

#include "base/scope.h"
#include "move/check_look.h"

/* Contents that come from the host's setup and are made alike on the other. */
static const char *const HOST_FILES[] = {
        "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/termination-log", "/run/.containerenv", "/.dockerenv",
        NULL};
/* File systems that more than one host can have mounted: statfs(2). */
static const long SHARED_FS[] = {NFS_SUPER_MAGIC,       SMB_SUPER_MAGIC,         CIFS_SUPER_MAGIC, SMB2_SUPER_MAGIC,
                                 CEPH_SUPER_MAGIC,      AFS_SUPER_MAGIC,         CODA_SUPER_MAGIC, OCFS2_SUPER_MAGIC,
                                 0x01161970 /* GFS2 */, 0x0bd00bd0 /* Lustre */, 0x47504653 /* GPFS */};
/* The kernel's own, alike on every host. */
static const long KERNEL_FS[] = {PROC_SUPER_MAGIC,        SYSFS_MAGIC,        CGROUP_SUPER_MAGIC,
                                 CGROUP2_SUPER_MAGIC,     DEVPTS_SUPER_MAGIC, SECURITYFS_MAGIC,
                                 DEBUGFS_MAGIC,           TRACEFS_MAGIC,      BPF_FS_MAGIC,
                                 0x19800202 /* mqueue */, 0x65735543 /* fusectl */};

static bool one_of(const long *list, size_t n, long magic)
{
	for (size_t i = 0; i < n; i++)
		if (list[i] == magic)
			return true;
	return false;
}

static bool in_words(const char *const *list, const char *s)
{
	for (; *list; list++)
		if (!strcmp(*list, s))
			return true;
	return false;
}

static bool has_option(yyjson_val *mount, const char *word)
{
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(mount, "options"));
	for (yyjson_val *v; (v = yyjson_arr_iter_next(&it));)
		if (yyjson_equals_str(v, word))
			return true;
	return false;
}

bool gw_look_is_bind(yyjson_val *mount)
{
	return !strcmp(gw_json_str(mount, "type", ""), "bind") || has_option(mount, "bind") ||
	       has_option(mount, "rbind");
}

/* One entry of the annotation, without blanks and trailing slashes. */
static bool entry_matches(const char *entry, size_t n, const char *dest, const char *source)
{
	while (n && strchr(" \t\n", entry[n - 1]))
		n--;
	while (n > 1 && entry[n - 1] == '/')
		n--;
	if (n == 0)
		return false;
	if (strlen(dest) == n && !strncmp(dest, entry, n))
		return true;
	/* "/" is the container's root file system, not every path of the host. */
	return n > 1 && source && !strncmp(source, entry, n) && (source[n] == 0 || source[n] == '/');
}

bool gw_look_listed(const struct gw_look *l, const char *dest, const char *source)
{
	yyjson_val *notes = yyjson_obj_get(yyjson_doc_get_root(l->config), "annotations");
	const char *p = gw_json_str(notes, "live.godwit.dev/shared-paths", "");
	while (*p) {
		p += strspn(p, ", \t\n");
		size_t n = strcspn(p, ",");
		if (entry_matches(p, n, dest, source))
			return true;
		p += n;
	}
	return false;
}

static void look_bind(struct gw_look *l, yyjson_val *m)
{
	const char *dest = gw_json_str(m, "destination", ""), *source = gw_json_str(m, "source", "");
	bool ro = has_option(m, "ro");
	if (gw_look_is_pods(l) && gw_look_pod_bind(l, dest, source))
		return;
	struct statfs fs;
	struct stat st;
	if (stat(source, &st) < 0 || statfs(source, &fs) < 0 || gw_look_listed(l, dest, source))
		return;
	if (one_of(SHARED_FS, gw_countof(SHARED_FS), fs.f_type) || one_of(KERNEL_FS, gw_countof(KERNEL_FS), fs.f_type))
		return;
	if (S_ISDIR(st.st_mode) && ro)
		gw_reasons_add(l->out, "ReadOnlyVolume", "%s is %s of this host, read-only", dest, source);
	else if (S_ISDIR(st.st_mode) || (S_ISREG(st.st_mode) && !ro && !in_words(HOST_FILES, dest)))
		gw_reasons_add(l->out, "LocalVolume", "%s is %s of this host, writable", dest, source);
}

static void look_namespace(struct gw_look *l, yyjson_val *ns, unsigned *have)
{
	static const char *const types[] = {"pid", "ipc", "mount"};
	const char *type = gw_json_str(ns, "type", ""), *path = gw_json_str(ns, "path", "");
	for (unsigned i = 0; i < gw_countof(types); i++)
		if (!strcmp(type, types[i]))
			*have |= 1u << i;
	/* A pod's containers share its sandbox's, which the target pod has as well. */
	if (!strcmp(type, "pid") && *path && !gw_look_is_pods(l))
		gw_reasons_add(l->out, "SharedPidNamespace", "container %s joined the pid namespace %s", l->c->id,
		               path);
	if (!strcmp(type, "user"))
		gw_reasons_add(l->out, "UserNamespace", "container %s has a user namespace", l->c->id);
	if (!strcmp(type, "cgroup"))
		gw_reasons_add(l->out, "CgroupNamespace", "container %s has a cgroup namespace", l->c->id);
}

static void look_namespaces(struct gw_look *l, yyjson_val *arr)
{
	static const char *const words[] = {"pid", "IPC", "mount"};
	unsigned have = 0;
	yyjson_arr_iter it = yyjson_arr_iter_with(arr);
	for (yyjson_val *v; (v = yyjson_arr_iter_next(&it));)
		look_namespace(l, v, &have);
	for (unsigned i = 0; i < gw_countof(words); i++)
		if (!(have & 1u << i))
			gw_reasons_add(l->out, "HostNamespace", "container %s shares the host's %s namespace", l->c->id,
			               words[i]);
}

int gw_look_config(struct gw_look *l, struct gw_err *e)
{
	const char *text = l->c->config_json ?: "";
	int rc = gw_json_parse(text, strlen(text), "config.json", &l->config, e);
	if (rc < 0)
		return rc;
	yyjson_val *o = yyjson_doc_get_root(l->config);
	if (l->c->has_terminal)
		gw_reasons_add(l->out, "Terminal", "container %s was made with a terminal", l->c->id);
	look_namespaces(l, yyjson_obj_get(yyjson_obj_get(o, "linux"), "namespaces"));
	if (gw_json_bool(yyjson_obj_get(o, "root"), "readonly", false) || gw_look_listed(l, "/", NULL))
		;
	else if (gw_look_is_pods(l))
		gw_look_pod_layer(l);
	else
		gw_reasons_add(l->out, "WritableLayer", "the root file system of container %s is writable", l->c->id);
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(o, "mounts"));
	for (yyjson_val *m; (m = yyjson_arr_iter_next(&it));)
		if (gw_look_is_bind(m))
			look_bind(l, m);
	return 0;
}
