/* check_arrival: what a destination must have of what a config.json names. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/scope.h"
#include "move/check_look.h"

enum { PROFILES_MAX = 4 << 20 };

static void look_name(const char *runc_root, const char *id, struct gw_reasons *out)
{
	char path[PATH_MAX];
	(void)snprintf(path, sizeof(path), "%.3800s/%.255s", runc_root, id);
	if (access(path, F_OK) == 0)
		gw_reasons_add(out, "NameTaken", "there is a container \"%s\" under %s", id, runc_root);
}

static void look_rootfs(yyjson_val *root, struct gw_reasons *out)
{
	const char *path = gw_json_str(root, "path", "");
	struct stat st;
	if (path[0] == '/' && (stat(path, &st) < 0 || !S_ISDIR(st.st_mode)))
		gw_reasons_add(out, "RootfsMissing", "%s is not there", path);
}

static void look_binds(yyjson_val *mounts, struct gw_reasons *out)
{
	yyjson_arr_iter it = yyjson_arr_iter_with(mounts);
	for (yyjson_val *m; (m = yyjson_arr_iter_next(&it));) {
		const char *source = gw_json_str(m, "source", ""), *dest = gw_json_str(m, "destination", "");
		if (gw_look_is_bind(m) && source[0] == '/' && access(source, F_OK) < 0)
			gw_reasons_add(out, "BindSourceMissing", "%s for %s is not there", source, dest);
	}
}

static void look_devices(yyjson_val *devices, struct gw_reasons *out)
{
	yyjson_arr_iter it = yyjson_arr_iter_with(devices);
	for (yyjson_val *d; (d = yyjson_arr_iter_next(&it));) {
		const char *path = gw_json_str(d, "path", "");
		if (path[0] == '/' && access(path, F_OK) < 0)
			gw_reasons_add(out, "DeviceMissing", "%s is not there", path);
	}
}

static void look_hooks(yyjson_val *hooks, struct gw_reasons *out)
{
	yyjson_obj_iter kinds = yyjson_obj_iter_with(hooks);
	for (yyjson_val *k; (k = yyjson_obj_iter_next(&kinds));) {
		yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_iter_get_val(k));
		for (yyjson_val *h; (h = yyjson_arr_iter_next(&it));) {
			const char *path = gw_json_str(h, "path", "");
			if (path[0] && access(path, X_OK) < 0)
				gw_reasons_add(out, "HookMissing", "the hook %s is not there", path);
		}
	}
}

/* A line of the profiles file is "NAME (mode)". */
static bool profile_is_loaded(const char *name)
{
	gw_auto(mem) char *text = NULL;
	struct gw_err why;
	size_t n = strlen(name);
	if (gw_read_file("/sys/kernel/security/apparmor/profiles", PROFILES_MAX, &text, NULL, &why) < 0)
		return false;
	for (const char *p = text; p; p = strchr(p, '\n')) {
		p += *p == '\n';
		if (!strncmp(p, name, n) && !strncmp(p + n, " (", 2))
			return true;
	}
	return false;
}

static void look_lsm(yyjson_val *process, struct gw_reasons *out)
{
	const char *profile = gw_json_str(process, "apparmorProfile", ""),
	           *label = gw_json_str(process, "selinuxLabel", "");
	if (profile[0] && strcmp(profile, "unconfined") != 0 && !profile_is_loaded(profile))
		gw_reasons_add(out, "LsmProfile", "the AppArmor profile %s is not loaded", profile);
	if (label[0] && access("/sys/fs/selinux/enforce", F_OK) < 0)
		gw_reasons_add(out, "LsmProfile", "SELinux is off, and the container has the label %s", label);
}

static int look_free_memory(uint64_t need, struct gw_reasons *out, struct gw_err *e)
{
	gw_auto(mem) char *text = gw_look_text("/proc/meminfo");
	const char *v = text ? gw_look_field(text, "MemAvailable:") : NULL;
	if (!v)
		return gw_fail(e, GW_SYS, ENOENT, "read MemAvailable");
	gw_look_room(need, strtoull(v, NULL, 10) << 10, out);
	return 0;
}

int gw_check_arrival(const char *id, const char *runc_root, const char *config_json, uint64_t rss_bytes,
                     struct gw_reasons *out, struct gw_err *e)
{
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	gw_auto(mem) struct gw_reasons *rs = calloc(1, sizeof(*rs));
	int rc = gw_json_parse(config_json, strlen(config_json), "config.json of the container", &doc, e);
	if (rc < 0)
		return rc;
	if (!rs)
		return gw_fail(e, GW_SYS, ENOMEM, "check the arrival of %s", id ?: "a claimed container");
	yyjson_val *o = yyjson_doc_get_root(doc);
	if (id) {
		look_name(runc_root, id, rs);
		look_rootfs(yyjson_obj_get(o, "root"), rs);
		look_binds(yyjson_obj_get(o, "mounts"), rs);
	}
	look_devices(yyjson_obj_get(yyjson_obj_get(o, "linux"), "devices"), rs);
	look_hooks(yyjson_obj_get(o, "hooks"), rs);
	look_lsm(yyjson_obj_get(o, "process"), rs);
	rc = look_free_memory(rss_bytes, rs, e);
	if (rc == 0)
		*out = *rs;
	return rc;
}
