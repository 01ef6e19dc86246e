/* apply: roots, frames, and a tree's way into its place. */
#include "files/apply.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/scope.h"
#include "files/apply_priv.h"
#include "files/beneath.h"
#include "files/scan.h"

struct gw_apply *gw_apply_new(void)
{
	struct gw_apply *a = calloc(1, sizeof(*a));
	assert(a);
	a->dir_fd = a->file_fd = -1;
	for (size_t i = 0; i < gw_countof(a->trees); i++)
		a->trees[i].fd = -1;
	return a;
}

void gw_apply_free(struct gw_apply *a)
{
	if (!a)
		return;
	gw_apply_forget(a);
	for (size_t i = 0; i < gw_countof(a->trees); i++)
		gw_end_fd(&a->trees[i].fd);
	gw_changes_free(gw_names_take(&a->whiteouts));
	gw_changes_free(gw_names_take(&a->opaque));
	free(a);
}

void gw_apply_forget(struct gw_apply *a)
{
	gw_end_fd(&a->dir_fd);
	gw_end_fd(&a->file_fd);
	a->dir_fd = a->file_fd = -1;
}

int gw_apply_root(struct gw_apply *a, uint32_t tree, const char *dir, enum gw_apply_kind kind, struct gw_err *e)
{
	if (tree >= GW_REC_TREES_MAX)
		return gw_fail(e, GW_PEER, EPROTO, "tree %u", tree);
	struct gw_apply_tree *t = &a->trees[tree];
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return gw_fail(e, GW_SYS, errno, "open %s", dir);
	gw_apply_forget(a);
	gw_end_fd(&t->fd);
	t->fd = fd;
	t->kind = kind;
	(void)snprintf(t->dir, sizeof(t->dir), "%s", dir);
	return 0;
}

int gw_apply_parent(struct gw_apply *a, uint32_t tree, const char *path, const char **out_name)
{
	char dir[PATH_MAX];
	const char *slash = strrchr(path, '/');
	*out_name = slash ? slash + 1 : path;
	(void)snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
	if (a->dir_fd >= 0 && a->dir_tree == tree && !strcmp(a->dir, dir))
		return a->dir_fd;
	gw_end_fd(&a->dir_fd);
	a->dir_fd = gw_beneath(a->trees[tree].fd, dir, O_RDONLY | O_DIRECTORY);
	a->dir_tree = tree;
	memcpy(a->dir, dir, strlen(dir) + 1);
	return a->dir_fd;
}

int gw_apply_frame(struct gw_apply *a, const uint8_t *payload, size_t len, struct gw_err *e)
{
	size_t at = 0;
	for (;;) {
		int rc = gw_rec_unpack(payload, len, &at, &a->rec, e);
		if (rc != 0)
			return rc < 0 ? rc : 0;
		if (a->trees[a->rec.tree].fd < 0)
			return gw_fail(e, GW_PEER, EPROTO, "tree %u was never announced", a->rec.tree);
		rc = gw_apply_step(a, &a->rec, e);
		if (rc < 0)
			return gw_wrap(e, "%s/%s", a->trees[a->rec.tree].dir, a->rec.path);
	}
}

/* ---- into its place ---- */

static bool is_empty(int dir)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	gw_auto(dir) DIR *d = fd < 0 ? NULL : fdopendir(fd);
	for (struct dirent *de; d && (de = readdir(d));)
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
			return false;
	return d != NULL;
}

/* -EXDEV when nothing was moved because it is another file system. */
static int move_entries(int from, int to)
{
	int fd = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	gw_auto(dir) DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (!d)
		return -errno;
	for (struct dirent *de; (de = readdir(d));) {
		if (!strcmp(de->d_name, ".") || !strcmp(de->d_name, ".."))
			continue;
		if (renameat2(from, de->d_name, to, de->d_name, RENAME_NOREPLACE) < 0)
			return -errno;
	}
	return 0;
}

static int set_owner(int to, const struct stat *st)
{
	const struct timespec t[2] = {st->st_atim, st->st_mtim};
	bool ok =
	        fchown(to, st->st_uid, st->st_gid) == 0 && fchmod(to, st->st_mode & 07777) == 0 && futimens(to, t) == 0;
	return ok ? 0 : -errno;
}

struct copy {
	struct gw_apply *to;
	uint32_t tree;
};

/* The scan calls its one tree 0. */
static int on_records(void *ctx, const uint8_t *records, size_t len, struct gw_err *e)
{
	const struct copy *c = ctx;
	size_t at = 0;
	struct gw_rec *r = &c->to->rec;
	for (;;) {
		int rc = gw_rec_unpack(records, len, &at, r, e);
		if (rc != 0)
			return rc < 0 ? rc : 0;
		r->tree = c->tree;
		rc = gw_apply_step(c->to, r, e);
		if (rc < 0)
			return gw_wrap(e, "%s/%s", c->to->trees[c->tree].dir, r->path);
	}
}

static int copy_tree(struct gw_apply *a, uint32_t tree, const char *from, struct gw_err *e)
{
	struct gw_scan_tree t = {.root = from, .is_still = true};
	struct copy c = {.to = a, .tree = tree};
	struct gw_scan_stats st;
	struct gw_scan *scan;
	int rc = gw_scan_new(&t, 1, on_records, &c, &scan, e);
	if (rc < 0)
		return rc;
	rc = gw_scan_round(scan, &st, e);
	gw_scan_free(scan);
	return rc;
}

/* Now that it is where an overlay takes it as its layer. */
static int hide_lower(struct gw_apply *a, uint32_t tree, struct gw_err *e)
{
	const char *name;
	for (const struct gw_change *c = a->whiteouts.first; c; c = c->next) {
		int dir = c->tree == tree ? gw_apply_parent(a, tree, c->path, &name) : -1;
		/* Where something was made since, it hides what is below by itself. */
		if (dir >= 0 && mknodat(dir, name, S_IFCHR | 0600, 0) < 0 && errno != EEXIST)
			return gw_fail(e, GW_SYS, errno, "hide %s", c->path);
	}
	for (const struct gw_change *c = a->opaque.first; c; c = c->next) {
		gw_auto(fd) int fd =
		        c->tree == tree ? gw_beneath(a->trees[tree].fd, c->path, O_RDONLY | O_DIRECTORY) : -1;
		if (fd >= 0 && fsetxattr(fd, "trusted.overlay.opaque", "y", 1, 0) < 0)
			return gw_fail(e, GW_SYS, errno, "hide what is below %s", c->path);
	}
	gw_apply_forget(a);
	return 0;
}

int gw_apply_place(struct gw_apply *a, uint32_t tree, const char *dir, struct gw_err *e)
{
	struct gw_apply_tree from = a->trees[tree];
	gw_auto(fd) int from_fd = from.fd;
	a->trees[tree].fd = -1;
	int rc = gw_apply_root(a, tree, dir, from.kind, e);
	if (rc < 0)
		return rc;
	int to = a->trees[tree].fd;
	struct stat st;
	if (fstat(from_fd, &st) < 0)
		return gw_fail(e, GW_SYS, errno, "look at %s", from.dir);
	rc = is_empty(to) ? move_entries(from_fd, to) : -EXDEV;
	if (rc == 0)
		rc = set_owner(to, &st);
	if (rc == -EXDEV)
		rc = copy_tree(a, tree, from.dir, e);
	else if (rc < 0)
		rc = gw_fail(e, GW_SYS, -rc, "put the files of %s into %s", from.dir, dir);
	return rc == 0 && from.kind == GW_APPLY_LAYER ? hide_lower(a, tree, e) : rc;
}
