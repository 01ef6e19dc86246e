#include "cni/record.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/io.h"

enum { RECORD_MAX = 1 << 16, DONE_DAYS = 30 };

static void path_of(const struct gw_ipam *s, const char *container, char out[PATH_MAX])
{
	gw_path(out, PATH_MAX, "%s/pod/%s", s->dir, container);
}

int gw_record_put(struct gw_ipam *s, const struct gw_record *r, struct gw_err *e)
{
	gw_auto(jmut) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *obj = yyjson_mut_obj(d);
	char path[PATH_MAX];
	yyjson_mut_doc_set_root(d, obj);
	(void)yyjson_mut_obj_add_strcpy(d, obj, "network", r->owner.network);
	(void)yyjson_mut_obj_add_strcpy(d, obj, "container", r->owner.container);
	(void)yyjson_mut_obj_add_strcpy(d, obj, "ifname", r->owner.ifname);
	(void)yyjson_mut_obj_add_strcpy(d, obj, "netns", r->netns);
	(void)yyjson_mut_obj_add_strcpy(d, obj, "migration", r->migration);
	(void)yyjson_mut_obj_add_bool(d, obj, "dormant", r->dormant);
	gw_pod_to_json(&r->pod, d, yyjson_mut_obj_add_obj(d, obj, "pod"));
	gw_auto(mem) char *text = gw_json_text_pretty(d);
	path_of(s, r->owner.container, path);
	return gw_write_file(path, text, strlen(text), e);
}

static void copy(char *out, size_t size, yyjson_val *obj, const char *key)
{
	(void)snprintf(out, size, "%s", gw_json_str(obj, key, ""));
}

static bool parse(const char *text, size_t len, struct gw_record *out)
{
	yyjson_doc *d = NULL;
	struct gw_record r = {0};
	if (gw_json_parse(text, len, "record", &d, NULL) < 0)
		return false;
	yyjson_val *obj = yyjson_doc_get_root(d);
	copy(r.owner.network, sizeof(r.owner.network), obj, "network");
	copy(r.owner.container, sizeof(r.owner.container), obj, "container");
	copy(r.owner.ifname, sizeof(r.owner.ifname), obj, "ifname");
	copy(r.netns, sizeof(r.netns), obj, "netns");
	copy(r.migration, sizeof(r.migration), obj, "migration");
	r.dormant = gw_json_bool(obj, "dormant", false);
	bool ok = gw_pod_from_json(yyjson_obj_get(obj, "pod"), &r.pod, NULL) == 0;
	yyjson_doc_free(d);
	if (ok)
		*out = r;
	return ok;
}

static int read_record(const char *path, struct gw_record *out, struct gw_err *e)
{
	gw_auto(mem) char *text = NULL;
	struct gw_err mine = {0};
	size_t len;
	int rc = gw_read_file(path, RECORD_MAX, &text, &len, &mine);
	if (rc == -ENOENT)
		return 0;
	if (rc < 0) {
		if (e)
			*e = mine;
		return rc;
	}
	return parse(text, len, out);
}

int gw_record_get(struct gw_ipam *s, const char *container, struct gw_record *out, struct gw_err *e)
{
	char path[PATH_MAX];
	struct gw_record r;
	path_of(s, container, path);
	int rc = read_record(path, &r, e);
	if (rc != 1 || strcmp(r.owner.container, container) != 0)
		return rc < 0 ? rc : 0;
	*out = r;
	return 1;
}

int gw_record_drop(struct gw_ipam *s, const char *container, struct gw_err *e)
{
	char path[PATH_MAX];
	path_of(s, container, path);
	if (unlink(path) < 0 && errno != ENOENT)
		return gw_fail(e, GW_SYS, errno, "remove %s", path);
	return 0;
}

int gw_record_each(struct gw_ipam *s, int (*fn)(void *arg, const struct gw_record *r, struct gw_err *e), void *arg,
                   struct gw_err *e)
{
	char path[PATH_MAX], right[PATH_MAX];
	gw_path(path, sizeof(path), "%s/pod", s->dir);
	gw_auto(dir) DIR *d = opendir(path);
	if (!d)
		return gw_fail(e, GW_SYS, errno, "list %s", path);
	for (struct dirent *de; (de = readdir(d));) {
		struct gw_record r;
		if (!strcmp(de->d_name, ".") || !strcmp(de->d_name, ".."))
			continue;
		gw_path(path, sizeof(path), "%s/pod/%s", s->dir, de->d_name);
		int rc = read_record(path, &r, e);
		if (rc == 1)
			path_of(s, r.owner.container, right);
		if (rc == 1 && !strcmp(path, right))
			rc = fn(arg, &r, e);
		else if (rc >= 0 && unlink(path) < 0 && errno != ENOENT) /* half written when the power went */
			rc = gw_fail(e, GW_SYS, errno, "remove %s", path);
		if (rc < 0)
			return rc;
	}
	return 0;
}

bool gw_record_is_done(const struct gw_ipam *s, const char *migration)
{
	char path[PATH_MAX];
	gw_path(path, sizeof(path), "%s/done/%s", s->dir, migration);
	return access(path, F_OK) == 0;
}

/* By then the annotations are gone from the pod, or the pod is. */
static int forget_old(struct gw_ipam *s, struct gw_err *e)
{
	char path[PATH_MAX];
	gw_path(path, sizeof(path), "%s/done", s->dir);
	gw_auto(dir) DIR *d = opendir(path);
	if (!d)
		return gw_fail(e, GW_SYS, errno, "list %s", path);
	time_t before = time(NULL) - (time_t)DONE_DAYS * 24 * 3600;
	for (struct dirent *de; (de = readdir(d));) {
		struct stat st;
		if (fstatat(dirfd(d), de->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
		    st.st_mtime < before && unlinkat(dirfd(d), de->d_name, 0) < 0)
			return gw_fail(e, GW_SYS, errno, "remove %s/%s", path, de->d_name);
	}
	return 0;
}

static int done(struct gw_ipam *s, const char *migration, struct gw_err *e)
{
	char path[PATH_MAX];
	gw_path(path, sizeof(path), "%s/done", s->dir);
	gw_auto(fd) int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	gw_auto(fd) int fd = dir < 0 ? -1 : openat(dir, migration, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	/* After a power cut is when it is needed. */
	if (fd < 0 || fsync(dir) < 0)
		return gw_fail(e, GW_SYS, errno, "create %s/%s", path, migration);
	return 0;
}

int gw_record_arrived(const char *data_dir, const char *container, struct gw_err *e)
{
	gw_auto(ipam) struct gw_ipam s = {.lock = -1};
	struct gw_record r;
	int rc = gw_ipam_open(data_dir, &s, e);
	if (rc == 0)
		rc = gw_record_get(&s, container, &r, e);
	if (rc == 0)
		return gw_fail(e, GW_INPUT, ENOENT, "container %.64s got no network from godwit-cni", container);
	if (rc < 0)
		return rc;
	r.dormant = false;
	rc = gw_record_put(&s, &r, e);
	if (rc == 0 && r.migration[0])
		rc = done(&s, r.migration, e);
	return rc < 0 ? rc : forget_old(&s, e);
}
