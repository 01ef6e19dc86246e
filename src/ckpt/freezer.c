#include "ckpt/freezer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/scope.h"

enum { LOOK_EVERY_US = 50, ASK_AGAIN_LOOKS = 400 };

bool gw_freezer_is_v2(const char *dir)
{
	char path[PATH_MAX];
	gw_path(path, sizeof(path), "%s/cgroup.freeze", dir);
	return access(path, F_OK) == 0;
}

static int ask(const char *dir, bool v2, bool freeze)
{
	char path[PATH_MAX];
	gw_path(path, sizeof(path), "%s/%s", dir, v2 ? "cgroup.freeze" : "freezer.state");
	return gw_write_knob(path, v2 ? (freeze ? "1" : "0") : (freeze ? "FROZEN" : "THAWED"));
}

/* 1 frozen, 0 not yet, -errno. */
static int look(const char *dir, bool v2)
{
	char path[PATH_MAX], text[256];
	gw_path(path, sizeof(path), "%s/%s", dir, v2 ? "cgroup.events" : "freezer.state");
	gw_auto(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t n = read(fd, text, sizeof(text) - 1);
	if (n < 0)
		return -errno;
	text[n] = 0;
	return strstr(text, v2 ? "frozen 1" : "FROZEN") != NULL;
}

int gw_freezer_freeze(const char *dir, int timeout_ms, struct gw_err *e)
{
	bool v2 = gw_freezer_is_v2(dir);
	int rc = ask(dir, v2, true);
	if (rc < 0)
		return gw_fail(e, GW_SYS, -rc, "freeze %s", dir);
	uint64_t end = gw_now_us() + (uint64_t)timeout_ms * 1000;
	for (unsigned looks = 1;; looks++) {
		rc = look(dir, v2);
		if (rc == 1)
			return 0;
		if (rc < 0 || gw_now_us() > end)
			break;
		/* The v1 freezer can miss a task that was changing state. */
		if (looks % ASK_AGAIN_LOOKS == 0)
			(void)ask(dir, v2, true);
		gw_sleep_us(LOOK_EVERY_US);
	}
	(void)ask(dir, v2, false);
	if (rc < 0)
		return gw_fail(e, GW_SYS, -rc, "look at the freezer of %s", dir);
	return gw_fail(e, GW_RETRY, ETIMEDOUT,
	               "%s did not freeze within %d ms: a task of it does not leave the kernel (blocked disk or "
	               "network file system?)",
	               dir, timeout_ms);
}

int gw_freezer_freeze_soon(const char *dir, struct gw_err *e)
{
	int rc = ask(dir, gw_freezer_is_v2(dir), true);
	return rc < 0 ? gw_fail(e, GW_SYS, -rc, "freeze %s", dir) : 0;
}

int gw_freezer_thaw(const char *dir, struct gw_err *e)
{
	int rc = ask(dir, gw_freezer_is_v2(dir), false);
	return rc < 0 ? gw_fail(e, GW_SYS, -rc, "thaw %s", dir) : 0;
}

static int each_of(const char *dir, gw_pid_fn *fn, void *ctx)
{
	char path[PATH_MAX];
	gw_path(path, sizeof(path), "%s/cgroup.procs", dir);
	gw_auto(file) FILE *f = fopen(path, "re");
	if (!f)
		return errno == ENOENT || errno == ENODEV ? 0 : -errno;
	for (int pid; fscanf(f, "%d", &pid) == 1;) {
		int rc = fn(ctx, pid);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int gw_freezer_each(const char *dir, gw_pid_fn *fn, void *ctx)
{
	int rc = each_of(dir, fn, ctx);
	gw_auto(dir) DIR *d = opendir(dir);
	for (struct dirent *de; rc == 0 && d && (de = readdir(d));) {
		char sub[PATH_MAX];
		struct stat st;
		if (de->d_name[0] == '.' || fstatat(dirfd(d), de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    !S_ISDIR(st.st_mode))
			continue;
		gw_path(sub, sizeof(sub), "%s/%s", dir, de->d_name);
		rc = gw_freezer_each(sub, fn, ctx);
	}
	return rc;
}

int gw_kill_pid(void *ctx, pid_t pid)
{
	unsigned *alive = ctx;
	if (kill(pid, SIGKILL) == 0 && alive)
		++*alive;
	return 0;
}

int gw_freezer_kill(const char *dir, int timeout_ms, struct gw_err *e)
{
	uint64_t end = gw_now_ms() + (uint64_t)timeout_ms;
	for (;;) {
		unsigned alive = 0;
		int rc = gw_freezer_each(dir, gw_kill_pid, &alive);
		if (rc < 0)
			return gw_fail(e, GW_SYS, -rc, "list the processes of %s", dir);
		if (!alive)
			return 0;
		(void)ask(dir, gw_freezer_is_v2(dir), false);
		if (gw_now_ms() > end)
			return gw_fail(e, GW_SYS, ETIMEDOUT, "%u processes of %s outlive SIGKILL by %d ms", alive, dir,
			               timeout_ms);
		gw_sleep_us(500);
	}
}

/* Where the hierarchy is mounted: with `controller` in its options (v1), or
 * of type cgroup2 (NULL). *out_root: which part of it is mounted there. */
static int find_mount(const char *controller, char *out, size_t size, char *out_root, size_t root_size)
{
	gw_auto(file) FILE *f = fopen("/proc/self/mountinfo", "re");
	char line[4096];
	while (f && fgets(line, sizeof(line), f)) {
		char root[1024], point[1024], type[64], opts[1024];
		const char *dash = strstr(line, " - ");
		if (!dash || sscanf(line, "%*d %*d %*s %1023s %1023s", root, point) != 2 ||
		    sscanf(dash, " - %63s %*s %1023s", type, opts) != 2)
			continue;
		bool hit = !controller ? !strcmp(type, "cgroup2") : false;
		if (controller && !strcmp(type, "cgroup"))
			for (char *save = NULL, *o = strtok_r(opts, ",\n", &save); o; o = strtok_r(NULL, ",\n", &save))
				hit |= !strcmp(o, controller);
		if (hit && strlen(point) < size && strlen(root) < root_size) {
			gw_path(out, size, "%s", point);
			gw_path(out_root, root_size, "%s", root);
			return 0;
		}
	}
	return -ENOENT;
}

/* The path of a process in the hierarchy of controller (NULL: unified). */
static int path_in(pid_t pid, const char *controller, char *out, size_t size)
{
	char file[64], line[2048];
	gw_path(file, sizeof(file), "/proc/%d/cgroup", pid);
	gw_auto(file) FILE *f = fopen(file, "re");
	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = 0;
		char *list = strchr(line, ':');
		char *path = list ? strchr(list + 1, ':') : NULL;
		if (!path)
			continue;
		*path++ = 0;
		list++;
		bool hit = !controller && !*list;
		for (char *save = NULL, *c = strtok_r(list, ",", &save); c && controller;
		     c = strtok_r(NULL, ",", &save))
			hit |= !strcmp(c, controller);
		if (hit && strlen(path) < size) {
			gw_path(out, size, "%s", path);
			return 0;
		}
	}
	return -ENOENT;
}

static int cgroup_of(pid_t pid, const char *controller, char *out, size_t size, struct gw_err *e)
{
	char point[1024], root[1024], path[2048];
	const char *what = controller;
	if (find_mount(controller, point, sizeof(point), root, sizeof(root)) < 0) {
		controller = NULL;
		if (find_mount(NULL, point, sizeof(point), root, sizeof(root)) < 0)
			return gw_fail(e, GW_INPUT, ENOENT,
			               "no %s: neither cgroup v2 nor the %s hierarchy of cgroup v1 is mounted", what,
			               what);
	}
	int rc = path_in(pid, controller, path, sizeof(path));
	if (rc < 0)
		return gw_fail(e, GW_SYS, -rc, "find the cgroup of process %d", pid);
	size_t skip = strlen(root);
	const char *rel = path;
	if (skip > 1 && !strncmp(path, root, skip))
		rel = path + skip;
	if (strlen(point) + strlen(rel) + 1 > size)
		return gw_fail(e, GW_SYS, ENAMETOOLONG, "cgroup of process %d", pid);
	gw_path(out, size, "%s%s", point, !strcmp(rel, "/") ? "" : rel);
	return 0;
}

int gw_freezer_of(pid_t pid, char *out, size_t size, struct gw_err *e)
{
	return cgroup_of(pid, "freezer", out, size, e);
}

int gw_memory_of(pid_t pid, char *out, size_t size, struct gw_err *e)
{
	return cgroup_of(pid, "memory", out, size, e);
}
