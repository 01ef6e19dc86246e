#include "install/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/scope.h"

static int sync_folder_of(const char *path)
{
	char dir[PATH_MAX];
	gw_path(dir, sizeof(dir), "%s", path);
	char *slash = strrchr(dir, '/');
	slash[slash == dir] = 0;
	gw_auto(fd) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd >= 0 && fsync(fd) == 0 ? 0 : -errno;
}

int gw_fs_put(const char *path, const void *data, size_t len, mode_t mode, struct gw_err *e)
{
	char tmp[PATH_MAX];
	struct stat st;
	gw_path(tmp, sizeof(tmp), "%s.godwit-new", path);
	bool was = stat(path, &st) == 0;
	gw_auto(fd) int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return gw_fail(e, GW_SYS, errno, "create %s", tmp);
	int rc = gw_write_full(fd, data, len);
	if (rc == 0 && was && fchown(fd, st.st_uid, st.st_gid) < 0)
		rc = -errno;
	if (rc == 0 && (fchmod(fd, was ? st.st_mode & 07777 : mode) < 0 || fsync(fd) < 0 || rename(tmp, path) < 0))
		rc = -errno;
	if (rc == 0)
		rc = sync_folder_of(path);
	if (rc < 0) {
		(void)unlink(tmp);
		return gw_fail(e, GW_SYS, -rc, "write %s", path);
	}
	return 0;
}

bool gw_fs_leads_to(const char *path, const char *target)
{
	char now[PATH_MAX];
	ssize_t n = readlink(path, now, sizeof(now) - 1);
	if (n < 0)
		return false;
	now[n] = 0;
	return !strcmp(now, target);
}

int gw_fs_link(const char *target, const char *path, struct gw_err *e)
{
	char tmp[PATH_MAX];
	if (gw_fs_leads_to(path, target))
		return 0;
	gw_path(tmp, sizeof(tmp), "%s.godwit-new", path);
	(void)unlink(tmp);
	if (symlink(target, tmp) < 0 || rename(tmp, path) < 0)
		return gw_fail(e, GW_SYS, errno, "make the link %s", path);
	(void)sync_folder_of(path);
	return 0;
}

bool gw_fs_exists(const char *path)
{
	struct stat st;
	return lstat(path, &st) == 0;
}

size_t gw_fs_count(const char *dir)
{
	gw_auto(dir) DIR *d = opendir(dir);
	size_t n = 0;
	for (struct dirent *f; d && (f = readdir(d));)
		n += f->d_name[0] != '.';
	return n;
}

/* ---- a tree ---- */

static int copy_file(int from, int to, const char *name, const struct stat *st)
{
	gw_auto(fd) int in = openat(from, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	gw_auto(fd) int out = openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (in < 0 || out < 0)
		return -errno;
	for (off_t left = st->st_size; left > 0;) {
		ssize_t n = sendfile(out, in, NULL, (size_t)left);
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		left -= n;
	}
	return fchmod(out, st->st_mode & 07777) < 0 || fsync(out) < 0 ? -errno : 0;
}

static int copy_link(int from, int to, const char *name)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(from, name, target, sizeof(target) - 1);
	if (n < 0)
		return -errno;
	target[n] = 0;
	return symlinkat(target, to, name) < 0 ? -errno : 0;
}

static int copy_into(int from, int to, struct gw_err *e);

static int copy_one(int from, int to, const char *name, struct gw_err *e)
{
	struct stat st;
	int rc = fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
	if (rc == 0 && S_ISDIR(st.st_mode)) {
		if (mkdirat(to, name, 0755) < 0)
			return gw_fail(e, GW_SYS, errno, "make the folder %s", name);
		gw_auto(fd) int sub_from = openat(from, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		gw_auto(fd) int sub_to = openat(to, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (sub_from < 0 || sub_to < 0)
			return gw_fail(e, GW_SYS, errno, "open the folder %s", name);
		return copy_into(sub_from, sub_to, e);
	}
	if (rc == 0)
		rc = S_ISLNK(st.st_mode)   ? copy_link(from, to, name)
		     : S_ISREG(st.st_mode) ? copy_file(from, to, name, &st)
		                           : -EINVAL;
	return rc < 0 ? gw_fail(e, GW_SYS, -rc, "copy %s", name) : 0;
}

static int copy_into(int from, int to, struct gw_err *e)
{
	int again = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	gw_auto(dir) DIR *d = again >= 0 ? fdopendir(again) : NULL;
	if (!d)
		return gw_fail(e, GW_SYS, errno, "list a folder");
	int rc = 0;
	for (struct dirent *f; rc == 0 && (f = readdir(d));)
		if (strcmp(f->d_name, ".") != 0 && strcmp(f->d_name, "..") != 0)
			rc = copy_one(from, to, f->d_name, e);
	return rc;
}

int gw_fs_copy_tree(int from, const char *to, struct gw_err *e)
{
	char tmp[PATH_MAX];
	gw_path(tmp, sizeof(tmp), "%s.godwit-new", to);
	int rc = gw_remove_tree(tmp, e);
	if (rc < 0)
		return rc;
	if (mkdir(tmp, 0755) < 0)
		return gw_fail(e, GW_SYS, errno, "make the folder %s", tmp);
	gw_auto(fd) int fd = open(tmp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fchmod(fd, 0755) < 0)
		return gw_fail(e, GW_SYS, errno, "open %s", tmp);
	rc = copy_into(from, fd, e);
	if (rc == 0 && (syncfs(fd) < 0 || rename(tmp, to) < 0))
		rc = gw_fail(e, GW_SYS, errno, "put %s in place", to);
	if (rc < 0)
		(void)gw_remove_tree(tmp, NULL);
	return rc < 0 ? gw_wrap(e, "fill %s", to) : 0;
}
