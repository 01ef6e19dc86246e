/* apply_steps: one function for each kind of record. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "base/io.h"
#include "base/scope.h"
#include "files/apply_priv.h"
#include "files/beneath.h"

enum { XATTR_NAMES_MAX = 64 << 10 };

static bool is_whiteout(const struct gw_rec *r)
{
	return S_ISCHR(r->mode) && r->rdev == 0;
}

/* ---- removal ---- */

static int empty_dir(int fd, struct gw_err *e);

static int remove_name(int dir, const char *name, struct gw_err *e)
{
	if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return gw_fail(e, GW_SYS, errno, "remove");
	if (unlinkat(dir, name, AT_REMOVEDIR) == 0)
		return 0;
	if (errno != ENOTEMPTY && errno != EEXIST)
		return gw_fail(e, GW_SYS, errno, "remove the directory");
	int fd = gw_beneath(dir, name, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return gw_fail(e, GW_SYS, errno, "open");
	int rc = empty_dir(fd, e);
	if (rc == 0 && unlinkat(dir, name, AT_REMOVEDIR) < 0)
		rc = gw_fail(e, GW_SYS, errno, "remove the directory");
	return rc;
}

/* Takes fd. */
static int empty_dir(int fd, struct gw_err *e)
{
	gw_auto(dir) DIR *d = fdopendir(fd);
	int rc = 0;
	if (!d)
		return gw_fail(e, GW_SYS, errno, "list");
	for (struct dirent *de; rc == 0 && (de = readdir(d));)
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
			rc = remove_name(fd, de->d_name, e);
	return rc;
}

/* ---- make ---- */

/* Takes fd: the next records are mostly about this file. */
static int keep_file(struct gw_apply *a, const struct gw_rec *r, int fd)
{
	gw_end_fd(&a->file_fd);
	a->file_fd = fd;
	a->file_tree = r->tree;
	memcpy(a->file, r->path, strlen(r->path) + 1);
	return fd;
}

static int make_regular(struct gw_apply *a, const struct gw_rec *r, int dir, const char *name, struct gw_err *e)
{
	int fd = openat(dir, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	if (fd < 0)
		return gw_fail(e, GW_SYS, errno, "create");
	(void)keep_file(a, r, fd);
	return ftruncate(fd, (off_t)r->size) < 0 ? gw_fail(e, GW_SYS, errno, "set the size") : 0;
}

/* Mostly nothing is there yet. false with fd -1: look what is in the way. */
static bool make_new(const struct gw_rec *r, int dir, const char *name, int *out_fd)
{
	*out_fd = -1;
	if (S_ISREG(r->mode) && strcmp(r->path, ".") != 0)
		*out_fd = openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	return *out_fd >= 0;
}

static int hide(struct gw_names *list, const struct gw_rec *r, struct gw_err *e)
{
	int rc = gw_names_add(list, r->tree, r->path);
	return rc < 0 ? gw_fail(e, GW_SYS, -rc, "remember what is hidden") : 0;
}

static int make_opaque(struct gw_apply *a, const struct gw_rec *r, int dir, const char *name, struct gw_err *e)
{
	if (a->trees[r->tree].kind == GW_APPLY_LAYER)
		return hide(&a->opaque, r, e);
	int fd = gw_beneath(dir, name, O_RDONLY | O_DIRECTORY);
	return fd < 0 ? gw_fail(e, GW_SYS, errno, "open") : empty_dir(fd, e);
}

static int make_dir(struct gw_apply *a, const struct gw_rec *r, int dir, const char *name, struct gw_err *e)
{
	if (mkdirat(dir, name, 0700) < 0 && errno != EEXIST)
		return gw_fail(e, GW_SYS, errno, "make the directory");
	return r->flags & GW_REC_OPAQUE ? make_opaque(a, r, dir, name, e) : 0;
}

static int make_other(const struct gw_rec *r, int dir, const char *name, struct gw_err *e)
{
	int rc;
	if (S_ISLNK(r->mode)) {
		char target[PATH_MAX];
		(void)snprintf(target, sizeof(target), "%.*s", (int)r->body_len, (const char *)r->body);
		rc = symlinkat(target, dir, name);
	} else {
		rc = mknodat(dir, name, (r->mode & S_IFMT) | 0600, (dev_t)r->rdev);
	}
	return rc < 0 ? gw_fail(e, GW_SYS, errno, "make") : 0;
}

static int make(struct gw_apply *a, const struct gw_rec *r, int dir, const char *name, struct gw_err *e)
{
	struct stat st;
	int rc = 0, fd;
	if (!strcmp(r->path, "."))
		return 0;
	if (make_new(r, dir, name, &fd)) {
		(void)keep_file(a, r, fd);
		return r->size && ftruncate(fd, (off_t)r->size) < 0 ? gw_fail(e, GW_SYS, errno, "set the size") : 0;
	}
	bool there = fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
	bool keeps = there && (st.st_mode & S_IFMT) == (r->mode & S_IFMT) && (S_ISREG(r->mode) || S_ISDIR(r->mode));
	if (there && !keeps) {
		gw_apply_forget(a); /* dir is the caller's until the next record */
		const char *again;
		dir = gw_apply_parent(a, r->tree, r->path, &again);
		rc = dir < 0 ? gw_fail(e, GW_SYS, errno, "open its directory") : remove_name(dir, name, e);
	}
	if (rc < 0)
		return rc;
	if (is_whiteout(r))
		return a->trees[r->tree].kind == GW_APPLY_LAYER ? hide(&a->whiteouts, r, e) : 0;
	if (S_ISREG(r->mode))
		return make_regular(a, r, dir, name, e);
	return S_ISDIR(r->mode) ? make_dir(a, r, dir, name, e) : make_other(r, dir, name, e);
}

/* ---- contents ---- */

static int file_of(struct gw_apply *a, const struct gw_rec *r, int dir, const char *name)
{
	struct stat st;
	if (a->file_fd >= 0 && a->file_tree == r->tree && !strcmp(a->file, r->path))
		return a->file_fd;
	int fd = openat(dir, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd >= 0 && fstat(fd, &st) == 0 && !S_ISREG(st.st_mode)) {
		gw_end_fd(&fd);
		fd = -1;
		errno = EINVAL;
	}
	return keep_file(a, r, fd);
}

static int write_data(struct gw_apply *a, const struct gw_rec *r, int dir, const char *name, struct gw_err *e)
{
	int fd = file_of(a, r, dir, name);
	if (fd < 0)
		return gw_fail(e, GW_SYS, errno, "open");
	for (size_t done = 0; done < r->body_len;) {
		ssize_t n = pwrite(fd, r->body + done, r->body_len - done, (off_t)(r->size + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return gw_fail(e, GW_SYS, n < 0 ? errno : EIO, "write");
		done += (size_t)n;
	}
	return 0;
}

static int punch(struct gw_apply *a, const struct gw_rec *r, int dir, const char *name, struct gw_err *e)
{
	int fd = file_of(a, r, dir, name);
	if (fd < 0)
		return gw_fail(e, GW_SYS, errno, "open");
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)r->size, (off_t)r->rdev) < 0)
		return gw_fail(e, GW_SYS, errno, "make a hole");
	return 0;
}

static int make_link(struct gw_apply *a, const struct gw_rec *r, int dir, const char *name, struct gw_err *e)
{
	char to[PATH_MAX], parent[PATH_MAX];
	(void)snprintf(to, sizeof(to), "%.*s", (int)r->body_len, (const char *)r->body);
	const char *slash = strrchr(to, '/');
	(void)snprintf(parent, sizeof(parent), "%.*s", slash ? (int)(slash - to) : 1, slash ? to : ".");
	gw_auto(fd) int from = gw_beneath(a->trees[r->tree].fd, parent, O_PATH | O_DIRECTORY);
	if (from < 0)
		return gw_fail(e, GW_SYS, errno, "open the directory of %s", to);
	int rc = remove_name(dir, name, e);
	if (rc == 0 && linkat(from, slash ? slash + 1 : to, dir, name, 0) < 0)
		rc = gw_fail(e, GW_SYS, errno, "link to %s", to);
	return rc;
}

/* ---- attributes ---- */

static bool in_body(const struct gw_rec *r, const char *name)
{
	struct gw_xattr x;
	size_t at = 0;
	struct gw_err ignored;
	while (gw_xattr_unpack(r->body, r->body_len, &at, &x, &ignored) == 0)
		if (!strcmp(x.name, name))
			return true;
	return false;
}

/* A file: the one that the last records were about, so that no name is looked up
 * again; or a name in a directory. */
struct target {
	int fd; /* -1: by name */
	int dir;
	const char *name;
	char link[NAME_MAX + 64]; /* the name for calls that take no directory */
};

static ssize_t list_xattrs(const struct target *t, char *out, size_t size)
{
	return t->fd >= 0 ? flistxattr(t->fd, out, size) : llistxattr(t->link, out, size);
}

static int remove_xattr(const struct target *t, const char *name)
{
	return t->fd >= 0 ? fremovexattr(t->fd, name) : lremovexattr(t->link, name);
}

static int set_xattr(const struct target *t, const struct gw_xattr *x)
{
	return t->fd >= 0 ? fsetxattr(t->fd, x->name, x->value, x->value_len, 0)
	                  : lsetxattr(t->link, x->name, x->value, x->value_len, 0);
}

static int set_xattrs(const struct gw_rec *r, const struct target *t, struct gw_err *e)
{
	ssize_t n = list_xattrs(t, NULL, 0);
	gw_auto(mem) char *names = n > 0 ? malloc(XATTR_NAMES_MAX) : NULL;
	if (names)
		n = list_xattrs(t, names, XATTR_NAMES_MAX);
	for (const char *p = names; names && n > 0 && p < names + n; p += strlen(p) + 1)
		if (strncmp(p, "trusted.overlay.", 16) != 0 && strncmp(p, "security.selinux", 16) != 0 &&
		    !in_body(r, p) && remove_xattr(t, p) < 0 && errno != ENODATA)
			return gw_fail(e, GW_SYS, errno, "remove attribute %s", p);
	struct gw_xattr x;
	size_t at = 0;
	for (;;) {
		int rc = gw_xattr_unpack(r->body, r->body_len, &at, &x, e);
		if (rc != 0)
			return rc < 0 ? rc : 0;
		if (set_xattr(t, &x) < 0)
			return gw_fail(e, GW_SYS, errno, "set attribute %s", x.name);
	}
}

static int set_owner(const struct target *t, const struct gw_rec *r)
{
	return t->fd >= 0 ? fchown(t->fd, r->uid, r->gid)
	                  : fchownat(t->dir, t->name, r->uid, r->gid, AT_SYMLINK_NOFOLLOW);
}

static int set_mode(const struct target *t, const struct gw_rec *r)
{
	return t->fd >= 0 ? fchmod(t->fd, r->mode & 07777) : fchmodat(t->dir, t->name, r->mode & 07777, 0);
}

/* What differs from st only: each is a transaction of the file system. A new owner
 * takes set-user-id bits and capabilities away, so it comes first. */
static int end(const struct gw_rec *r, const struct stat *st, const struct target *t, struct gw_err *e)
{
	bool chowned = st->st_uid != r->uid || st->st_gid != r->gid;
	if (chowned && set_owner(t, r) < 0)
		return gw_fail(e, GW_SYS, errno, "set the owner");
	if (!S_ISLNK(r->mode) && (chowned || ((st->st_mode ^ r->mode) & 07777)) && set_mode(t, r) < 0)
		return gw_fail(e, GW_SYS, errno, "set the permissions");
	int rc = set_xattrs(r, t, e);
	const struct timespec times[2] = {{.tv_sec = r->atime_s, .tv_nsec = r->atime_ns},
	                                  {.tv_sec = r->mtime_s, .tv_nsec = r->mtime_ns}};
	if (rc == 0 &&
	    (t->fd >= 0 ? futimens(t->fd, times) : utimensat(t->dir, t->name, times, AT_SYMLINK_NOFOLLOW)) < 0)
		rc = gw_fail(e, GW_SYS, errno, "set the times");
	return rc;
}

/* Not a symbolic link where another type was promised: fchmodat would follow it. */
static int checked_end(const struct gw_apply *a, const struct gw_rec *r, int dir, const char *name, struct gw_err *e)
{
	struct stat st;
	struct target t = {.fd = -1, .dir = dir, .name = name};
	if (a->file_fd >= 0 && a->file_tree == r->tree && !strcmp(a->file, r->path))
		t.fd = a->file_fd;
	else
		gw_path(t.link, sizeof(t.link), "/proc/self/fd/%d/%s", dir, name);
	if (t.fd >= 0 ? fstat(t.fd, &st) < 0 : fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return gw_fail(e, GW_SYS, errno, "look");
	if ((st.st_mode ^ r->mode) & S_IFMT)
		return gw_fail(e, GW_PEER, EPROTO, "the end of a file of another type");
	return end(r, &st, &t, e);
}

int gw_apply_step(struct gw_apply *a, const struct gw_rec *r, struct gw_err *e)
{
	const char *name;
	int dir = gw_apply_parent(a, r->tree, r->path, &name);
	if (dir < 0)
		return gw_fail(e, GW_SYS, errno, "open its directory");
	switch (r->op) {
	case GW_REC_MAKE: return make(a, r, dir, name, e);
	case GW_REC_DATA: return write_data(a, r, dir, name, e);
	case GW_REC_HOLE: return punch(a, r, dir, name, e);
	case GW_REC_END: return checked_end(a, r, dir, name, e);
	case GW_REC_LINK:
		gw_end_fd(&a->file_fd);
		a->file_fd = -1;
		return make_link(a, r, dir, name, e);
	case GW_REC_REMOVE: {
		/* Descriptors of what goes are of no use, and dir itself may be below a name that was removed before.
		 */
		gw_end_fd(&a->file_fd);
		a->file_fd = -1;
		int rc = remove_name(dir, name, e);
		gw_apply_forget(a);
		return rc;
	}
	default: return gw_fail(e, GW_PEER, EPROTO, "record %u", r->op);
	}
}
