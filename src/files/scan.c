/* scan: rounds, and one name at a time; contents are scan_file.c. */
#include "files/scan.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <time.h>

#include "base/gw_log.h"
#include "base/io.h"
#include "base/scope.h"
#include "files/beneath.h"
#include "files/scan_priv.h"

enum { FRAME_FULL = 256 << 10, RACY_NS = 20000000 };

/* ---- records ---- */

int gw_scan_flush(struct gw_scan *s, struct gw_err *e)
{
	size_t n = s->frame_len;
	s->frame_len = 0;
	s->stats.sent_bytes += n;
	return n ? s->sink(s->ctx, s->frame, n, e) : 0;
}

int gw_scan_put(struct gw_scan *s, struct gw_rec *r, const struct gw_at *at, struct gw_err *e)
{
	size_t n = strlen(at->path);
	if (n >= sizeof(r->path))
		return gw_fail(e, GW_SYS, ENAMETOOLONG, "copy %.200s", at->path);
	r->tree = at->tree;
	memcpy(r->path, at->path, n + 1);
	if (s->frame_len + gw_rec_bytes(r) > sizeof(s->frame)) {
		int rc = gw_scan_flush(s, e);
		if (rc < 0)
			return rc;
	}
	s->frame_len += gw_rec_pack(r, s->frame + s->frame_len);
	return s->frame_len >= FRAME_FULL ? gw_scan_flush(s, e) : 0;
}

/* Entries made or removed in a directory change its times: they are set again at the end. */
static void touch_parent(struct gw_scan *s, const struct gw_at *at)
{
	char dir[PATH_MAX];
	const char *slash = strrchr(at->path, '/');
	(void)snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - at->path) : 1, slash ? at->path : ".");
	gw_names_add(&s->touched, at->tree, dir);
}

static int put_remove(struct gw_scan *s, const struct gw_at *at, struct gw_err *e)
{
	struct gw_rec r = {.op = GW_REC_REMOVE};
	touch_parent(s, at);
	return gw_scan_put(s, &r, at, e);
}

static int put_link(struct gw_scan *s, const struct gw_at *at, const char *to, struct gw_err *e)
{
	struct gw_rec r = {.op = GW_REC_LINK, .body = (const uint8_t *)to, .body_len = (uint32_t)strlen(to)};
	touch_parent(s, at);
	return gw_scan_put(s, &r, at, e);
}

static bool is_opaque(const struct gw_at *at)
{
	char link[PATH_MAX], v[4];
	gw_path(link, sizeof(link), "/proc/self/fd/%d/%s", at->dir_fd, at->name);
	return lgetxattr(link, "trusted.overlay.opaque", v, sizeof(v)) > 0 && (v[0] == 'y' || v[0] == 'x');
}

static int put_make(struct gw_scan *s, const struct gw_at *at, const struct statx *st, struct gw_err *e)
{
	char target[PATH_MAX];
	struct gw_rec r = {.op = GW_REC_MAKE, .mode = st->stx_mode, .uid = st->stx_uid, .gid = st->stx_gid};
	touch_parent(s, at);
	if (S_ISREG(st->stx_mode))
		r.size = st->stx_size;
	if (S_ISCHR(st->stx_mode) || S_ISBLK(st->stx_mode))
		r.rdev = makedev(st->stx_rdev_major, st->stx_rdev_minor);
	if (S_ISDIR(st->stx_mode) && s->trees[at->tree].is_layer && is_opaque(at))
		r.flags = GW_REC_OPAQUE;
	if (S_ISLNK(st->stx_mode)) {
		ssize_t n = readlinkat(at->dir_fd, at->name, target, sizeof(target));
		if (n <= 0 || n == sizeof(target))
			return n < 0 && errno == ENOENT ? 0 : gw_fail(e, GW_SYS, errno, "read symlink %s", at->path);
		r.body = (const uint8_t *)target;
		r.body_len = (uint32_t)n;
	}
	return gw_scan_put(s, &r, at, e);
}

/* ---- one name ---- */

static void remember_times(struct gw_known_inode *i, const struct statx *st, const struct timespec *now)
{
	i->mode = st->stx_mode;
	i->size = st->stx_size;
	i->ctime_s = st->stx_ctime.tv_sec;
	i->ctime_ns = st->stx_ctime.tv_nsec;
	i->mtime_s = st->stx_mtime.tv_sec;
	i->mtime_ns = st->stx_mtime.tv_nsec;
	/* A change later in the same tick of the file system's clock would leave the same time. */
	int64_t age = (now->tv_sec - i->ctime_s) * 1000000000 + now->tv_nsec - (int64_t)i->ctime_ns;
	i->is_racy = age < RACY_NS;
}

static bool has_changed(const struct gw_known_inode *i, const struct statx *st)
{
	return i->is_racy || i->is_mapped || i->ctime_s != st->stx_ctime.tv_sec ||
	       i->ctime_ns != st->stx_ctime.tv_nsec || i->size != st->stx_size || i->mtime_s != st->stx_mtime.tv_sec ||
	       i->mtime_ns != st->stx_mtime.tv_nsec;
}

static int gone(struct gw_scan *s, const struct gw_at *at)
{
	if (gw_known_path(s->known, at->tree, at->path))
		gw_names_add(&s->removed, at->tree, at->path);
	return 0;
}

static bool is_other(const struct gw_known_inode *i, const struct statx *st)
{
	return i->ino != st->stx_ino || ((i->mode ^ st->stx_mode) & S_IFMT);
}

/* The path as the other side has it; NULL when it has to be made. A name that
 * another file has now goes there first. */
static int settle_name(struct gw_scan *s, const struct gw_at *at, const struct statx *st, struct gw_known_path **out,
                       struct gw_err *e)
{
	struct gw_known_path *p = gw_known_path(s->known, at->tree, at->path);
	*out = p;
	if (p && is_other(p->inode, st)) {
		int rc = put_remove(s, at, e);
		if (rc < 0)
			return rc;
		gw_known_drop(s->known, p);
		*out = p = NULL;
	}
	struct gw_known_inode *i = p || S_ISDIR(st->stx_mode) ? NULL : gw_known_inode(s->known, at->tree, st->stx_ino);
	if (!i || is_other(i, st))
		return 0;
	*out = gw_known_add(s->known, at->tree, at->path, st->stx_ino, i);
	for (struct gw_known_path *q = i->paths; q; q = q->next_name)
		if (q != *out)
			return put_link(s, at, q->path, e);
	return 0;
}

static int look_again(struct gw_scan *s, const struct gw_at *at, struct gw_known_path *p, const struct statx *st,
                      bool force, bool is_new, struct gw_err *e)
{
	struct gw_known_inode *i = p->inode;
	struct timespec now;
	/* A change after the first look of a round is told again. */
	if (i->round == s->round && !S_ISDIR(st->stx_mode))
		return 0;
	if (!force && !is_new && !has_changed(i, st))
		return 0;
	i->round = s->round;
	/* The number of an inode that went may be another one's now: a link's target is not compared, it is sent. */
	bool remake = S_ISREG(st->stx_mode) ? i->size != st->stx_size : !S_ISDIR(st->stx_mode);
	clock_gettime(CLOCK_REALTIME, &now);
	remember_times(i, st, &now);
	if (i->is_racy)
		gw_names_add(&s->again, at->tree, at->path);
	int rc = remake && !is_new ? put_make(s, at, st, e) : 0;
	if (rc == 0 && S_ISREG(st->stx_mode))
		rc = gw_scan_contents(s, at, i, st, e);
	if (rc < 0 || S_ISDIR(st->stx_mode)) {
		gw_names_add(&s->touched, at->tree, at->path);
		return rc;
	}
	return gw_scan_end(s, at, st, e);
}

static int make_new(struct gw_scan *s, const struct gw_at *at, const struct statx *st, struct gw_known_path **out,
                    struct gw_err *e)
{
	if (s->trees[at->tree].is_layer && S_ISDIR(st->stx_mode)) {
		int rc = gw_scan_refuse_redirect(at, e);
		if (rc < 0)
			return rc;
	}
	*out = gw_known_add(s->known, at->tree, at->path, st->stx_ino, NULL);
	(*out)->inode->mode = st->stx_mode;
	(*out)->inode->size = st->stx_size;
	return put_make(s, at, st, e);
}

int gw_scan_name(struct gw_scan *s, const struct gw_at *at, bool force, struct gw_err *e)
{
	struct statx st;
	struct gw_known_path *p;
	if (statx(at->dir_fd, at->name, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &st) < 0)
		return errno == ENOENT ? gone(s, at) : gw_fail(e, GW_SYS, errno, "look at %s", at->path);
	s->stats.changed++;
	int rc = settle_name(s, at, &st, &p, e);
	if (rc < 0)
		return rc;
	bool is_new = !p;
	if (is_new)
		rc = make_new(s, at, &st, &p, e);
	if (rc < 0)
		return rc;
	p->seen = s->walk;
	rc = look_again(s, at, p, &st, force, is_new, e);
	if (rc == 0 && S_ISDIR(st.stx_mode) && (is_new || s->walking))
		rc = gw_scan_walk(s, at->tree, at->path, e);
	return rc;
}

/* ---- directories ---- */

static void watch_one(struct gw_scan *s, uint32_t tree, const char *path, int fd, bool contents_only)
{
	int rc = s->watch ? gw_watch_dir(s->watch, tree, path, fd, contents_only) : 0;
	if (rc == 0)
		return;
	gw_warn("files are not watched: every round looks at all of them", kv_str("path", path),
	        kv_str("reason", strerror(-rc)), kv_str("way_out", "raise fs.inotify.max_user_watches"));
	gw_watch_free(gw_take(s->watch));
}

/* Before it is listed, so that nothing is missed in between. */
static void watch(struct gw_scan *s, uint32_t tree, const char *path, int fd)
{
	const struct gw_tree *t = &s->trees[tree];
	if (t->is_still)
		return;
	watch_one(s, tree, path, fd, false);
	if (t->view_fd < 0)
		return;
	gw_auto(fd) int view = gw_beneath(t->view_fd, path, O_PATH | O_DIRECTORY);
	if (view >= 0)
		watch_one(s, tree, path, view, true);
}

int gw_scan_walk(struct gw_scan *s, uint32_t tree, const char *path, struct gw_err *e)
{
	int fd = gw_beneath(s->trees[tree].fd, path, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : gw_fail(e, GW_SYS, errno, "open %s", path);
	watch(s, tree, path, fd);
	gw_auto(dir) DIR *d = fdopendir(fd);
	if (!d)
		return gw_fail(e, GW_SYS, errno, "list %s", path);
	int rc = 0;
	for (struct dirent *de; rc == 0 && (de = readdir(d));) {
		char full[PATH_MAX];
		if (!strcmp(de->d_name, ".") || !strcmp(de->d_name, ".."))
			continue;
		bool top = !strcmp(path, ".");
		if (snprintf(full, sizeof(full), "%s%s%s", top ? "" : path, top ? "" : "/", de->d_name) >=
		    (int)sizeof(full))
			return gw_fail(e, GW_SYS, ENAMETOOLONG, "copy %.200s/%s", path, de->d_name);
		struct gw_at at = {.tree = tree, .dir_fd = fd, .path = full, .name = de->d_name};
		rc = gw_scan_name(s, &at, false, e);
	}
	return rc;
}

/* With fn(s, at) where the directory of a name is still there. */
static int with_parent(struct gw_scan *s, uint32_t tree, const char *path, bool force,
                       int (*fn)(struct gw_scan *s, const struct gw_at *at, bool force, struct gw_err *e),
                       struct gw_err *e)
{
	char dir[PATH_MAX];
	const char *slash = strrchr(path, '/');
	(void)snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
	if (!s->cache_dir[0] || s->cache_tree != tree || strcmp(s->cache_dir, dir) != 0) {
		gw_end_fd(&s->cache_fd);
		s->cache_fd = gw_beneath(s->trees[tree].fd, dir, O_PATH | O_DIRECTORY);
		s->cache_tree = tree;
		(void)snprintf(s->cache_dir, sizeof(s->cache_dir), "%s", dir);
	}
	struct gw_at at = {.tree = tree, .dir_fd = s->cache_fd, .path = path, .name = slash ? slash + 1 : path};
	return s->cache_fd < 0 ? gone(s, &at) : fn(s, &at, force, e);
}

static void forget_cache(struct gw_scan *s)
{
	gw_end_fd(&s->cache_fd);
	s->cache_fd = -1;
	s->cache_dir[0] = 0;
}

/* ---- rounds ---- */

/* A file that has moved is linked before its old name goes. */
static int link_first(struct gw_scan *s, const struct gw_at *at, bool force, struct gw_err *e)
{
	struct statx st;
	struct gw_known_path *p;
	(void)force;
	if (statx(at->dir_fd, at->name, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &st) < 0 || S_ISDIR(st.stx_mode))
		return 0;
	struct gw_known_inode *i = gw_known_inode(s->known, at->tree, st.stx_ino);
	p = gw_known_path(s->known, at->tree, at->path);
	if (!i || is_other(i, &st) || (p && p->inode == i))
		return 0;
	return settle_name(s, at, &st, &p, e);
}

static int root_of(struct gw_scan *s, uint32_t tree, struct gw_err *e)
{
	struct gw_at at = {.tree = tree, .dir_fd = s->trees[tree].fd, .path = ".", .name = "."};
	return gw_scan_name(s, &at, false, e);
}

static int on_names(struct gw_scan *s, const struct gw_change *list, bool force,
                    int (*fn)(struct gw_scan *s, const struct gw_at *at, bool force, struct gw_err *e),
                    struct gw_err *e)
{
	int rc = 0;
	for (const struct gw_change *c = list; rc == 0 && c; c = c->next)
		rc = with_parent(s, c->tree, c->path, force, fn, e);
	forget_cache(s);
	return rc;
}

static int changed_names(struct gw_scan *s, const struct gw_change *list, struct gw_err *e)
{
	/* Also of a name that came and went unseen. */
	for (const struct gw_change *c = list; c; c = c->next) {
		struct gw_at at = {.tree = c->tree, .path = c->path};
		touch_parent(s, &at);
	}
	int rc = on_names(s, list, false, link_first, e);
	return rc < 0 ? rc : on_names(s, list, true, gw_scan_name, e);
}

static void find_unseen(void *ctx, struct gw_known_path *p)
{
	struct gw_scan *s = ctx;
	if (p->seen != s->walk)
		gw_names_add(&s->removed, p->tree, p->path);
}

static int walk_all(struct gw_scan *s, struct gw_err *e)
{
	int rc = 0;
	s->walking = true;
	s->walk++;
	for (uint32_t t = 0; rc == 0 && t < s->ntrees; t++)
		rc = root_of(s, t, e);
	s->walking = false;
	if (rc == 0 && s->walk > 1)
		gw_known_each(s->known, find_unseen, s);
	return rc;
}

static int remove_gone(struct gw_scan *s, struct gw_err *e)
{
	int rc = 0;
	struct gw_change *list = gw_names_take(&s->removed);
	for (const struct gw_change *c = list; rc == 0 && c; c = c->next) {
		struct gw_known_path *p = gw_known_path(s->known, c->tree, c->path);
		struct gw_at at = {.tree = c->tree, .dir_fd = -1, .path = c->path};
		/* It may have come again while the round went on: then it is new. */
		if (!p)
			continue;
		rc = put_remove(s, &at, e);
		gw_known_drop(s->known, p);
	}
	gw_changes_free(list);
	return rc;
}

static int end_dir(struct gw_scan *s, const struct gw_at *at, bool force, struct gw_err *e)
{
	struct statx st;
	(void)force;
	if (statx(at->dir_fd, at->name, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &st) < 0 || !S_ISDIR(st.stx_mode) ||
	    !gw_known_path(s->known, at->tree, at->path))
		return 0;
	return gw_scan_end(s, at, &st, e);
}

int gw_scan_round(struct gw_scan *s, struct gw_scan_stats *out, struct gw_err *e)
{
	bool lost = true;
	s->stats = (struct gw_scan_stats){0};
	s->round++;
	gw_scan_pages_begin(s);
	struct gw_change *list = s->watch ? gw_watch_take(s->watch, &lost) : NULL;
	struct gw_change *again = gw_names_take(&s->again);
	bool all = lost || s->walk == 0;
	int rc = all ? walk_all(s, e) : changed_names(s, list, e);
	if (rc == 0 && !all)
		rc = on_names(s, again, true, gw_scan_name, e);
	/* Mapped, closed, written and unmapped since the last look: only its times tell. */
	if (rc == 0 && !all)
		rc = on_names(s, s->written.first, false, gw_scan_name, e);
	for (const struct gw_change *c = list; rc == 0 && c; c = c->next)
		if (s->trees[c->tree].is_layer)
			gw_names_add(&s->written, c->tree, c->path);
	if (rc == 0)
		rc = on_names(s, s->mapped.first, true, gw_scan_name, e);
	if (rc == 0)
		rc = on_names(s, s->base.first, true, gw_scan_name, e);
	gw_changes_free(list);
	gw_changes_free(again);
	gw_changes_free(gw_names_take(&s->base));
	if (rc == 0)
		rc = remove_gone(s, e);
	struct gw_change *dirs = gw_names_take(&s->touched);
	if (rc == 0)
		rc = on_names(s, dirs, true, end_dir, e);
	gw_changes_free(dirs);
	if (rc == 0)
		rc = gw_scan_flush(s, e);
	gw_scan_pages_end(s);
	s->stats.files = gw_known_count(s->known);
	s->stats.watched = s->watch != NULL;
	*out = s->stats;
	return rc;
}

void gw_scan_last(struct gw_scan *s)
{
	s->is_last = true;
}

void gw_scan_mapped(struct gw_scan *s, uint32_t tree, const char *path)
{
	struct gw_known_path *p = tree < s->ntrees ? gw_known_path(s->known, tree, path) : NULL;
	if (!p || p->inode->is_mapped)
		return;
	p->inode->is_mapped = true;
	gw_names_add(&s->mapped, tree, path);
}

int gw_scan_new(const struct gw_scan_tree *trees, size_t n, gw_scan_fn *sink, void *ctx, struct gw_scan **out,
                struct gw_err *e)
{
	struct gw_scan *s = calloc(1, sizeof(*s));
	assert(s && n <= GW_REC_TREES_MAX);
	s->sink = sink;
	s->ctx = ctx;
	s->cache_fd = -1;
	s->known = gw_known_new();
	int rc = 0;
	if (gw_watch_new(&s->watch, e) < 0)
		gw_warn("files are not watched: every round looks at all of them", kv_str("reason", e->text),
		        kv_str("way_out", "raise fs.inotify.max_user_instances"));
	for (; rc == 0 && s->ntrees < n; s->ntrees++) {
		const struct gw_scan_tree *from = &trees[s->ntrees];
		struct gw_tree *t = &s->trees[s->ntrees];
		t->is_layer = from->is_layer;
		t->is_still = from->is_still;
		t->fd = open(from->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
		t->view_fd = from->view ? open(from->view, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
		if (t->fd < 0 || (from->view && t->view_fd < 0))
			rc = gw_fail(e, GW_SYS, errno, "open %s", t->fd < 0 ? from->root : from->view);
	}
	if (rc < 0) {
		gw_scan_free(s);
		return rc;
	}
	*out = s;
	return 0;
}

void gw_scan_free(struct gw_scan *s)
{
	if (!s)
		return;
	gw_watch_free(s->watch);
	gw_pagelog_free(s->log);
	for (size_t i = 0; i < s->ntrees; i++) {
		gw_end_fd(&s->trees[i].fd);
		gw_end_fd(&s->trees[i].view_fd);
	}
	struct gw_names *sets[] = {&s->touched, &s->removed, &s->again, &s->mapped, &s->written, &s->base};
	for (size_t i = 0; i < gw_countof(sets); i++)
		gw_changes_free(gw_names_take(sets[i]));
	gw_end_fd(&s->cache_fd);
	gw_known_free(s->known);
	free(s);
}
