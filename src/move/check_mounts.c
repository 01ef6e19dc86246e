/* check_mounts: the container's mount table, and what in it CRIU can't mount
 * again. The rules are those of CRIU's own validation: a mount is fine when
 * runc made it from outside (external), when it is part of a file system that
 * the root or an external mount shows, or when it is the whole of a file
 * system that CRIU knows how to make. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

#include "base/io.h"
#include "base/scope.h"
#include "move/check_look.h"

static const uint64_t TMPFS_SLOW_BYTES = 16u << 20;
static const char *const KNOWN_FS[] = {"proc",    "sysfs",   "devtmpfs", "binfmt_misc", "tmpfs",
                                       "devpts",  "mqueue",  "pstore",   "securityfs",  "fusectl",
                                       "debugfs", "tracefs", "cgroup",   "cgroup2"};

int gw_look_open(const struct gw_look *l, const char *path, bool follow)
{
	struct open_how how = {.flags = (uint64_t)(O_PATH | O_CLOEXEC | (follow ? 0 : O_NOFOLLOW)),
	                       .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
	long fd = syscall(SYS_openat2, l->root_fd, path, &how, sizeof(how));
	return fd < 0 ? -errno : (int)fd;
}

int gw_look_mnt_id(int fd)
{
	gw_auto(mem) char *text = gw_look_text("/proc/self/fdinfo/%d", fd);
	const char *v = text ? gw_look_field(text, "mnt_id:") : NULL;
	return v ? atoi(v) : -1;
}

/* mountinfo writes blanks, newlines and backslashes as \ooo. */
static void unescape(char *s)
{
	char *to = s;
	for (; *s; to++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' && s[3] >= '0' &&
		    s[3] <= '7') {
			*to = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 4;
		} else {
			*to = *s++;
		}
	}
	*to = 0;
}

/* "36 35 98:0 /root /point options [optional...] - type source options" */
static bool parse_line(char *line, struct gw_look_mnt *m)
{
	char *dash = strstr(line, " - "), *save = NULL;
	if (!dash)
		return false;
	*dash = 0;
	m->type = strtok_r(dash + 3, " ", &save);
	char *id = strtok_r(line, " ", &save), *parent = strtok_r(NULL, " ", &save), *dev = strtok_r(NULL, " ", &save);
	char *root = strtok_r(NULL, " ", &save), *point = strtok_r(NULL, " ", &save);
	if (!m->type || !id || !parent || !dev || !root || !point || sscanf(dev, "%u:%u", &m->major, &m->minor) != 2)
		return false;
	unescape(root);
	unescape(point);
	m->id = atoi(id);
	m->root = root;
	m->point = point;
	m->external = false;
	return true;
}

static int parse_table(struct gw_look *l)
{
	char *save = NULL;
	for (char *line = strtok_r(l->mountinfo, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		void *array = l->mnts;
		if (gw_look_grow(&array, &l->mnts_cap, l->nmnts, sizeof(*l->mnts)) < 0)
			return -ENOMEM;
		l->mnts = array;
		if (parse_line(line, &l->mnts[l->nmnts]))
			l->nmnts++;
	}
	return 0;
}

/* The mount that a path of the config leads to, through whatever symlinks. */
static void mark_external(struct gw_look *l, const char *path)
{
	gw_auto(fd) int fd = gw_look_open(l, path, true);
	int id = fd < 0 ? -1 : gw_look_mnt_id(fd);
	for (size_t i = 0; i < l->nmnts; i++)
		if (l->mnts[i].id == id)
			l->mnts[i].external = true;
}

static void mark_all(struct gw_look *l)
{
	const struct gw_container *c = l->c;
	for (size_t i = 0; i < c->nmounts; i++)
		if (!strcmp(c->mounts[i].type, "bind"))
			mark_external(l, c->mounts[i].dest);
	for (size_t i = 0; i < c->nmasked; i++)
		mark_external(l, c->masked[i]);
	for (size_t i = 0; i < c->ndevices; i++)
		mark_external(l, c->devices[i]);
	for (size_t i = 0; i < l->nmnts; i++)
		l->mnts[i].external |= !strcmp(l->mnts[i].type, "cgroup");
}

static bool is_below(const char *path, const char *dir)
{
	size_t n = strlen(dir);
	if (n == 1)
		return true;
	return !strncmp(path, dir, n) && (path[n] == 0 || path[n] == '/');
}

static bool is_fine(const struct gw_look *l, const struct gw_look_mnt *m)
{
	bool whole = !strcmp(m->root, "/");
	if (m->external)
		return true;
	for (size_t i = 0; whole && i < gw_countof(KNOWN_FS); i++)
		if (!strcmp(m->type, KNOWN_FS[i]))
			return true;
	for (size_t i = 0; i < l->nmnts; i++) {
		const struct gw_look_mnt *t = &l->mnts[i];
		bool anchor = t->external || !strcmp(t->point, "/") || (!whole && !strcmp(t->root, "/"));
		if (anchor && t->major == m->major && t->minor == m->minor && is_below(m->root, t->root))
			return true;
	}
	return false;
}

static void look_tmpfs(struct gw_look *l)
{
	uint64_t used = 0;
	for (size_t i = 0; i < l->nmnts; i++) {
		const struct gw_look_mnt *m = &l->mnts[i];
		struct statvfs st;
		if (strcmp(m->type, "tmpfs") != 0 || m->external || strcmp(m->root, "/") != 0)
			continue;
		gw_auto(fd) int fd = gw_look_open(l, m->point, false);
		if (fd >= 0 && fstatvfs(fd, &st) == 0)
			used += (uint64_t)(st.f_blocks - st.f_bfree) * st.f_frsize;
	}
	if (used > TMPFS_SLOW_BYTES)
		gw_reasons_add(l->out, "TmpfsContents", "%lu MiB are in tmpfs mounts of container %s", used >> 20,
		               l->c->id);
}

int gw_look_mounts(struct gw_look *l, struct gw_err *e)
{
	char path[64], root[8] = "";
	gw_path(path, sizeof(path), "/proc/%d/root", l->c->init_pid);
	l->root_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	l->mountinfo = l->root_fd < 0 ? NULL : gw_look_text("/proc/%d/mountinfo", l->c->init_pid);
	if (!l->mountinfo)
		return gw_fail(e, GW_SYS, errno, "look at the root of %s (process %d)", l->c->id, l->c->init_pid);
	if (readlink(path, root, sizeof(root) - 1) < 0 || strcmp(root, "/") != 0)
		gw_reasons_add(l->out, "Chroot", "the first process of container %s called chroot", l->c->id);
	if (parse_table(l) < 0)
		return gw_fail(e, GW_SYS, ENOMEM, "read the mounts of %s", l->c->id);
	mark_all(l);
	for (size_t i = 0; i < l->nmnts; i++)
		if (!is_fine(l, &l->mnts[i]))
			gw_reasons_add(l->out, "MountInside", "%s, of type %s, is mounted in the container",
			               l->mnts[i].point, l->mnts[i].type);
	look_tmpfs(l);
	return 0;
}
