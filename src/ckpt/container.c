#include "ckpt/container.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/json.h"
#include "ckpt/freezer.h"

enum { JSON_FILE_MAX = 4 << 20 };

static void free_strings(char **list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(list[i]);
	free(list);
}

void gw_container_free(struct gw_container *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < c->nmounts; i++) {
		free(c->mounts[i].dest);
		free(c->mounts[i].source);
		free(c->mounts[i].type);
	}
	free(c->mounts);
	free_strings(c->masked, c->nmasked);
	free_strings(c->devices, c->ndevices);
	free(c->config_json);
	free(c->descriptors_json);
	free(c);
}

static void gw_end_container(struct gw_container **c)
{
	gw_container_free(*c);
}

static void copy_path(char *out, size_t size, const char *s)
{
	(void)snprintf(out, size, "%s", s);
}

static char **strings_of(yyjson_val *arr, const char *key, size_t *out_n)
{
	size_t n = yyjson_arr_size(arr), at = 0;
	char **list = calloc(n + 1, sizeof(*list));
	yyjson_arr_iter it = yyjson_arr_iter_with(arr);
	for (yyjson_val *v; list && (v = yyjson_arr_iter_next(&it));) {
		const char *s = key ? gw_json_str(v, key, "") : yyjson_is_str(v) ? yyjson_get_str(v) : "";
		if (*s && (list[at] = strdup(s)))
			at++;
	}
	*out_n = list ? at : 0;
	return list;
}

static int read_mounts(struct gw_container *c, yyjson_val *arr)
{
	c->mounts = calloc(yyjson_arr_size(arr) + 1, sizeof(*c->mounts));
	if (!c->mounts)
		return -ENOMEM;
	yyjson_arr_iter it = yyjson_arr_iter_with(arr);
	for (yyjson_val *v; (v = yyjson_arr_iter_next(&it));) {
		struct gw_mount *m = &c->mounts[c->nmounts++];
		m->dest = strdup(gw_json_str(v, "destination", ""));
		m->source = strdup(gw_json_str(v, "source", ""));
		m->type = strdup(gw_json_str(v, "device", ""));
		if (!m->dest || !m->source || !m->type)
			return -ENOMEM;
	}
	return 0;
}

static void read_namespaces(struct gw_container *c, yyjson_val *arr)
{
	yyjson_arr_iter it = yyjson_arr_iter_with(arr);
	for (yyjson_val *v; (v = yyjson_arr_iter_next(&it));) {
		if (!strcmp(gw_json_str(v, "type", ""), "NEWPID"))
			copy_path(c->pidns_path, sizeof(c->pidns_path), gw_json_str(v, "path", ""));
		if (strcmp(gw_json_str(v, "type", ""), "NEWNET") != 0)
			continue;
		c->own_netns = true;
		copy_path(c->netns_path, sizeof(c->netns_path), gw_json_str(v, "path", ""));
	}
}

static void read_bundle(struct gw_container *c, yyjson_val *labels)
{
	yyjson_arr_iter it = yyjson_arr_iter_with(labels);
	for (yyjson_val *v; (v = yyjson_arr_iter_next(&it));) {
		const char *s = yyjson_is_str(v) ? yyjson_get_str(v) : "";
		if (!strncmp(s, "bundle=", 7))
			copy_path(c->bundle, sizeof(c->bundle), s + 7);
	}
}

static int read_config_json(struct gw_container *c, struct gw_err *e)
{
	char path[PATH_MAX + 16];
	if (!c->bundle[0])
		return gw_fail(e, GW_INPUT, EINVAL, "container %s has no bundle label in its state", c->id);
	gw_path(path, sizeof(path), "%s/config.json", c->bundle);
	size_t len = 0;
	int rc = gw_read_file(path, JSON_FILE_MAX, &c->config_json, &len, e);
	if (rc < 0)
		return gw_wrap(e, "container %s", c->id);
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	rc = gw_json_parse(c->config_json, len, path, &doc, e);
	if (rc < 0)
		return rc;
	yyjson_val *process = yyjson_obj_get(yyjson_doc_get_root(doc), "process");
	c->has_terminal = gw_json_bool(process, "terminal", false);
	return 0;
}

static int read_state(struct gw_container *c, yyjson_val *root, struct gw_err *e)
{
	yyjson_val *config = yyjson_obj_get(root, "config");
	c->init_pid = (pid_t)gw_json_u64(root, "init_process_pid", 0);
	copy_path(c->rootfs, sizeof(c->rootfs), gw_json_str(config, "rootfs", ""));
	read_namespaces(c, yyjson_obj_get(config, "namespaces"));
	read_bundle(c, yyjson_obj_get(config, "labels"));
	if (read_mounts(c, yyjson_obj_get(config, "mounts")) < 0)
		return gw_fail(e, GW_SYS, ENOMEM, "read the state of %s", c->id);
	c->masked = strings_of(yyjson_obj_get(config, "mask_paths"), NULL, &c->nmasked);
	c->devices = strings_of(yyjson_obj_get(config, "devices"), "path", &c->ndevices);
	yyjson_val *fds = yyjson_obj_get(root, "external_descriptors");
	c->descriptors_json = fds ? yyjson_val_write(fds, 0, NULL) : strdup("[]");
	if (!c->masked || !c->devices || !c->descriptors_json)
		return gw_fail(e, GW_SYS, ENOMEM, "read the state of %s", c->id);
	yyjson_val *cg = yyjson_obj_get(root, "cgroup_paths");
	const char *unified = gw_json_str(cg, "", "");
	copy_path(c->cpu_dir, sizeof(c->cpu_dir), gw_json_str(cg, "cpu", unified));
	copy_path(c->memory_dir, sizeof(c->memory_dir), gw_json_str(cg, "memory", unified));
	copy_path(c->freezer_dir, sizeof(c->freezer_dir), gw_json_str(cg, "freezer", unified));
	return 0;
}

/* runc's own test: the process exists and started when the state says. */
static bool is_alive(const struct gw_container *c, uint64_t started)
{
	char path[64], text[1024];
	gw_path(path, sizeof(path), "/proc/%d/stat", c->init_pid);
	gw_auto(file) FILE *f = fopen(path, "re");
	if (!f || !fgets(text, sizeof(text), f))
		return false;
	const char *p = strrchr(text, ')');
	if (!p || p[1] != ' ' || p[2] == 'Z' || p[2] == 'X')
		return false;
	unsigned field = 2;
	for (p++; *p && field < 22; p++)
		field += *p == ' ';
	return field < 22 || started == 0 || strtoull(p, NULL, 10) == started;
}

int gw_container_load(const char *runc_root, const char *id, struct gw_container **out, struct gw_err *e)
{
	if (!*id || strchr(id, '/') || strlen(id) >= sizeof((*out)->id) || id[0] == '.')
		return gw_fail_code(e, GW_INPUT, "NoSuchContainer", "\"%s\" is not a container id", id);
	__attribute__((cleanup(gw_end_container))) struct gw_container *c = calloc(1, sizeof(*c));
	if (!c)
		return gw_fail(e, GW_SYS, ENOMEM, "load container %s", id);
	copy_path(c->id, sizeof(c->id), id);
	copy_path(c->runc_root, sizeof(c->runc_root), runc_root);
	char path[PATH_MAX + 300];
	gw_path(path, sizeof(path), "%s/%s/state.json", runc_root, id);
	if (access(path, F_OK) < 0 && errno == ENOENT)
		return gw_fail_code(e, GW_INPUT, "NoSuchContainer",
		                    "no container \"%s\" under %s (see: runc --root %s list)", id, runc_root,
		                    runc_root);
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	int rc = gw_json_file(path, JSON_FILE_MAX, &doc, e);
	if (rc < 0)
		return rc;
	yyjson_val *root = yyjson_doc_get_root(doc);
	rc = read_state(c, root, e);
	if (rc < 0)
		return rc;
	if (c->init_pid <= 0 || !is_alive(c, gw_json_u64(root, "init_process_start", 0)))
		return gw_fail_code(e, GW_INPUT, "NotRunning",
		                    "container \"%s\" is not running (its process %d is gone)", id, c->init_pid);
	if (!c->freezer_dir[0]) {
		rc = gw_freezer_of(c->init_pid, c->freezer_dir, sizeof(c->freezer_dir), e);
		if (rc < 0)
			return rc;
	}
	rc = read_config_json(c, e);
	if (rc < 0)
		return rc;
	*out = gw_take(c);
	return 0;
}

int gw_container_list(const char *runc_root, char ***out, struct gw_err *e)
{
	size_t n = 0, cap = 16;
	char **list = calloc(cap, sizeof(*list));
	gw_auto(dir) DIR *d = opendir(runc_root);
	if (!d && errno != ENOENT) {
		free(list);
		return gw_fail(e, GW_SYS, errno, "open %s", runc_root);
	}
	for (struct dirent *de; list && d && (de = readdir(d));) {
		if (de->d_name[0] == '.')
			continue;
		if (n + 2 > cap) {
			char **more = realloc(list, (cap *= 2) * sizeof(*list));
			if (!more)
				break;
			list = more;
		}
		list[n] = strdup(de->d_name);
		list[n + 1] = NULL;
		n += list[n] != NULL;
	}
	if (!list)
		return gw_fail(e, GW_SYS, ENOMEM, "list %s", runc_root);
	*out = list;
	return 0;
}
