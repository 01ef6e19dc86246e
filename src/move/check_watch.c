/* check_watch: inotify and fanotify. CRIU finds what is watched by the file
 * handle that fdinfo shows, opened on a mount of the same device; overlayfs
 * gives out handles that can't be opened. Lines (Documentation/filesystems/proc.rst):
 *   inotify wd:1 ino:9 sdev:2b mask:fff ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:9e7e...
 *   fanotify ino:9 sdev:2b mflags:0 mask:20 ignored_mask:0 fhandle-bytes:8 ...
 *   fanotify mnt_id:12 ... | fanotify sdev:2b ...  (a mount; a whole file system) */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/scope.h"
#include "move/check_look.h"

enum { HANDLE_MAX = 128, DEV_MINOR_BITS = 20, MARKS_TRIED_MAX = 4096 };

struct handle {
	struct file_handle h;
	unsigned char room[HANDLE_MAX];
};

static bool number(const char *line, const char *key, int base, unsigned long *out)
{
	const char *p = strstr(line, key);
	if (!p)
		return false;
	*out = strtoul(p + strlen(key), NULL, base);
	return true;
}

static bool parse_handle(const char *line, struct handle *h, unsigned long *sdev)
{
	unsigned long bytes, type;
	const char *hex = strstr(line, "f_handle:");
	if (!hex || !number(line, " sdev:", 16, sdev) || !number(line, "fhandle-bytes:", 16, &bytes) ||
	    !number(line, "fhandle-type:", 16, &type) || bytes > HANDLE_MAX)
		return false;
	hex += strlen("f_handle:");
	h->h.handle_bytes = (unsigned)bytes;
	h->h.handle_type = (int)type;
	for (unsigned long i = 0; i < bytes; i++, hex += 2) {
		unsigned v;
		if (!isxdigit((unsigned char)hex[0]) || !isxdigit((unsigned char)hex[1]) || sscanf(hex, "%2x", &v) != 1)
			return false;
		((unsigned char *)h->h.f_handle)[i] = (unsigned char)v;
	}
	return true;
}

static bool opens(const struct gw_look *l, struct handle *h, unsigned long sdev)
{
	for (size_t i = 0; i < l->nmnts; i++) {
		const struct gw_look_mnt *m = &l->mnts[i];
		if (((unsigned long)m->major << DEV_MINOR_BITS | m->minor) != sdev)
			continue;
		gw_auto(fd) int at = gw_look_open(l, m->point, false);
		char self[40];
		(void)snprintf(self, sizeof(self), "/proc/self/fd/%d", at);
		/* A handle is opened relative to a real descriptor, not an O_PATH one. */
		gw_auto(fd) int dir = at < 0 ? -1 : open(self, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		gw_auto(fd) int fd = dir < 0 ? -1 : open_by_handle_at(dir, &h->h, O_PATH | O_CLOEXEC);
		if (fd >= 0)
			return true;
	}
	return false;
}

static void look_mark(struct gw_look *l, const char *who, int fd, const char *line)
{
	struct handle h = {0};
	unsigned long sdev = 0, ino = 0, mnt;
	if (number(line, "fanotify mnt_id:", 16, &mnt) || strstr(line, "fanotify flags:"))
		return;
	if (!parse_handle(line, &h, &sdev))
		gw_reasons_add(l->out, "FileWatch", "%s watches a whole file system (fd %d)", who, fd);
	else if (!opens(l, &h, sdev))
		gw_reasons_add(l->out, "FileWatch",
		               "%s watches inode %lu of device %lx (fd %d), which has no handle to find it by", who,
		               number(line, " ino:", 16, &ino) ? ino : 0, sdev, fd);
}

void gw_look_watch(struct gw_look *l, size_t proc, int fd, const char *fdinfo)
{
	const char *who = l->procs[proc].who;
	unsigned tried = 0;
	if (gw_look_field(fdinfo, "fanotify flags:"))
		gw_reasons_add(l->out, "FileWatchEvents", "%s uses fanotify (fd %d)", who, fd);
	for (const char *p = fdinfo; *p; p += strcspn(p, "\n"), p += *p == '\n') {
		char line[1024];
		(void)snprintf(line, sizeof(line), "%.*s", (int)(strcspn(p, "\n") % sizeof(line)), p);
		bool is_mark = !strncmp(line, "inotify ", 8) || !strncmp(line, "fanotify ", 9);
		if (is_mark && tried++ < MARKS_TRIED_MAX)
			look_mark(l, who, fd, line);
	}
}
