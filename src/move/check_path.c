/* check_path: can CRIU find this open or mapped file again by its path?
 *
 * It looks for the mount by its id, and for the file below the container's
 * root by the path that /proc shows; a deleted file's contents go into the
 * image up to the limit that godwit gives (ckpt/dump.c). */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "base/scope.h"
#include "move/check_look.h"

static const uint64_t GHOST_LIMIT_BYTES = 64u << 20;
enum { STAT_BLOCK = 512, MQUEUE_MAGIC = 0x19800202, FS_NAME_MAX = 4096 };
/* Documentation/admin-guide/devices.txt */
enum { MAJOR_MEM = 1, MAJOR_NVIDIA = 195, MAJOR_DRM = 226 };

static bool starts(const char *s, const char *with)
{
	return !strncmp(s, with, strlen(with));
}

bool gw_look_device(struct gw_look *l, const struct gw_look_file *f)
{
	static const unsigned plain[] = {3 /* null */,   5 /* zero */,    7 /* full */,
	                                 8 /* random */, 9 /* urandom */, 11 /* kmsg */};
	unsigned maj = major(f->st.st_rdev), min = minor(f->st.st_rdev);
	if (!S_ISCHR(f->st.st_mode) && !S_ISBLK(f->st.st_mode))
		return false;
	for (size_t i = 0; S_ISCHR(f->st.st_mode) && maj == MAJOR_MEM && i < gw_countof(plain); i++)
		if (min == plain[i])
			return false;
	bool gpu = S_ISCHR(f->st.st_mode) &&
	           (maj == MAJOR_NVIDIA || maj == MAJOR_DRM || starts(f->path, "/dev/nvidia") ||
	            starts(f->path, "/dev/dri/") || starts(f->path, "/dev/kfd") || starts(f->path, "/dev/dxg"));
	gw_reasons_add(l->out, gpu ? "Gpu" : "Device", "%s has %s open (%s, device %u:%u)", l->procs[f->proc].who,
	               f->path, f->how, maj, min);
	return true;
}

static const struct gw_look_mnt *mnt_of(const struct gw_look *l, int id)
{
	for (size_t i = 0; i < l->nmnts; i++)
		if (l->mnts[i].id == id)
			return &l->mnts[i];
	return NULL;
}

static bool is_deleted(const char *path)
{
	static const char mark[] = " (deleted)";
	size_t n = strlen(path);
	return n >= sizeof(mark) && !strcmp(path + n - (sizeof(mark) - 1), mark);
}

static void outside(struct gw_look *l, const struct gw_look_file *f)
{
	struct statfs fs;
	const char *who = l->procs[f->proc].who;
	if (statfs(f->link, &fs) == 0 && fs.f_type == MQUEUE_MAGIC)
		gw_reasons_add(l->out, "MessageQueue", "%s has the message queue %s open (%s)", who, f->path, f->how);
	else
		gw_reasons_add(l->out, "FileOutside", "%s has %s of the host open (%s)", who, f->path, f->how);
}

/* Does its path lead to it? Asked only of files that have a name. */
static bool is_found(const struct gw_look *l, const struct gw_look_file *f)
{
	struct stat st;
	gw_auto(fd) int fd = gw_look_open(l, f->path, false);
	return fd >= 0 && fstat(fd, &st) == 0 && st.st_ino == f->st.st_ino && st.st_dev == f->st.st_dev;
}

/* A file renamed while we looked has another path now. */
static bool path_changed(const struct gw_look_file *f)
{
	char now[FS_NAME_MAX];
	ssize_t n = readlink(f->link, now, sizeof(now) - 1);
	now[n < 0 ? 0 : n] = 0;
	return strcmp(now, f->path) != 0;
}

void gw_look_file(struct gw_look *l, const struct gw_look_file *f)
{
	const char *who = l->procs[f->proc].who;
	const struct gw_look_mnt *m = mnt_of(l, f->mnt_id);
	uint64_t bytes = (uint64_t)f->st.st_blocks * STAT_BLOCK;
	if (l->procs[f->proc].own_mounts || f->mnt_id < 0)
		return;
	if (!m) {
		outside(l, f);
		return;
	}
	if (!strcmp(m->type, "proc") || !strcmp(m->type, "devpts"))
		return;
	if (f->st.st_nlink == 0) {
		if (S_ISREG(f->st.st_mode) && bytes > GHOST_LIMIT_BYTES)
			gw_reasons_add(l->out, "DeletedFileTooBig", "%s has %s of %lu MiB open (%s)", who, f->path,
			               bytes >> 20, f->how);
		return;
	}
	if (is_deleted(f->path)) {
		/* On the container's own tmpfs the name CRIU gives it travels along. */
		if (strcmp(m->type, "tmpfs") != 0 || m->external)
			gw_reasons_add(l->out, "UnlinkedFile", "%s has %s open (%s), which has another name now", who,
			               f->path, f->how);
		return;
	}
	/* What a mapping of an overlayfs file shows is the file below. */
	if (f->is_map && !strcmp(m->type, "overlay"))
		return;
	if (!is_found(l, f) && !path_changed(f))
		gw_reasons_add(l->out, "FileHidden", "%s has %s open (%s), and the path leads elsewhere", who, f->path,
		               f->how);
}
