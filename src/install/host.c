#include "install/host.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/gw_log.h"
#include "base/io.h"
#include "base/proc.h"
#include "base/scope.h"

enum { CMDLINE_MAX = 65536, DUMP_MS = 20000, SYSTEMCTL_MS = 90000, BACK_MS = 60000, LOOK_US = 100000 };

int gw_host_enter(struct gw_err *e)
{
	static const char *const names[] = {"cgroup", "ipc", "uts", "net", "mnt"};
	int fds[gw_countof(names)], rc = 0;
	if (getpid() == 1)
		return gw_fail(e, GW_INPUT, EINVAL, "process 1 is this container's: it needs hostPID: true");
	gw_auto(fd) int root = open("/proc/1/root", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return gw_fail(e, GW_SYS, errno, "reach the host's root (privileged: true is needed)");
	for (size_t i = 0; i < gw_countof(names); i++) {
		char path[40];
		gw_path(path, sizeof(path), "/proc/1/ns/%s", names[i]);
		fds[i] = open(path, O_RDONLY | O_CLOEXEC);
	}
	for (size_t i = 0; i < gw_countof(names); i++) {
		if (rc == 0 && (fds[i] < 0 || setns(fds[i], 0) < 0))
			rc = gw_fail(e, GW_SYS, errno, "enter the host's %s namespace (privileged: true is needed)",
			             names[i]);
		if (fds[i] >= 0)
			(void)close(fds[i]);
	}
	if (rc == 0 && (fchdir(root) < 0 || chroot(".") < 0 || chdir("/") < 0))
		rc = gw_fail(e, GW_SYS, errno, "enter the host's root");
	return rc;
}

int gw_host_lock(int *out_fd, struct gw_err *e)
{
	static const char name[] = "godwit-install";
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	memcpy(a.sun_path + 1, name, sizeof(name) - 1); /* abstract: gone with its holder */
	socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + sizeof(name));
	gw_auto(fd) int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return gw_fail(e, GW_SYS, errno, "make a socket");
	for (uint64_t end = gw_now_ms() + BACK_MS * 2; bind(fd, (struct sockaddr *)&a, len) < 0; gw_sleep_us(LOOK_US)) {
		if (errno != EADDRINUSE)
			return gw_fail(e, GW_SYS, errno, "lock this host");
		if (gw_now_ms() > end)
			return gw_fail_code(e, GW_RETRY, "Busy", "another godwit-install is at work on this node");
	}
	*out_fd = gw_take_fd(&fd);
	return 0;
}

/* ---- containerd ---- */

static pid_t listener(void)
{
	gw_auto(fd) int fd = -1;
	struct ucred who;
	socklen_t len = sizeof(who);
	if (gw_unix_connect(GW_CONTAINERD_SOCKET, &fd, NULL) < 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0)
		return 0;
	return who.pid;
}

/* --config FILE, --config=FILE, -c FILE */
static void config_of(const char *words, size_t len, char *out, size_t size)
{
	gw_path(out, size, "/etc/containerd/config.toml");
	bool next = false;
	for (const char *w = words; w < words + len; w += strlen(w) + 1) {
		if (next || !strncmp(w, "--config=", 9)) {
			gw_path(out, size, "%s", next ? w : w + 9);
			return;
		}
		next = !strcmp(w, "--config") || !strcmp(w, "-c") || !strcmp(w, "-config");
	}
}

int gw_containerd_find(struct gw_containerd *out, struct gw_err *e)
{
	struct gw_containerd c = {.pid = listener()};
	char path[64];
	gw_auto(mem) char *words = NULL;
	size_t len;
	if (c.pid <= 0)
		return gw_fail_code(
		        e, GW_INPUT, "NoContainerd",
		        "nobody answers at %s: godwit needs containerd (k3s and the like are not supported)",
		        GW_CONTAINERD_SOCKET);
	gw_path(path, sizeof(path), "/proc/%d/cmdline", c.pid);
	int rc = gw_read_file(path, CMDLINE_MAX, &words, &len, e);
	if (rc < 0)
		return gw_wrap(e, "look at containerd");
	config_of(words, len, c.config, sizeof(c.config));
	gw_path(path, sizeof(path), "/proc/%d/exe", c.pid);
	ssize_t n = readlink(path, c.program, sizeof(c.program) - 1);
	c.program[n > 0 ? n : 0] = 0;
	if (access(c.program, X_OK) < 0) /* replaced meanwhile */
		gw_path(c.program, sizeof(c.program), "containerd");
	if (c.config[0] != '/')
		return gw_fail_code(e, GW_INPUT, "NoContainerd", "containerd's settings have no absolute path (%s)",
		                    c.config);
	*out = c;
	return 0;
}

int gw_containerd_dump(const struct gw_containerd *c, const char *config, char **out, struct gw_err *e)
{
	const char *const argv[] = {c->program, "--config", config, "config", "dump", NULL};
	/* Without the file it takes its defaults only when none is named. */
	const char *const bare[] = {c->program, "config", "default", NULL};
	struct gw_spawn s = {.argv = access(config, F_OK) == 0 ? argv : bare, .stdio = {-1, -1, -1}};
	int rc = gw_proc_run(&s, DUMP_MS, out, e);
	return rc < 0 ? gw_wrap(e, "containerd can't read its settings") : 0;
}

/* "0::/system.slice/containerd.service" */
static bool unit_of(pid_t pid, char *out, size_t size)
{
	char path[64];
	gw_auto(mem) char *text = NULL;
	struct stat st;
	gw_path(path, sizeof(path), "/proc/%d/cgroup", pid);
	if (stat("/run/systemd/system", &st) < 0 || gw_read_file(path, CMDLINE_MAX, &text, NULL, NULL) < 0)
		return false;
	char *save = NULL;
	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		const char *last = strrchr(l, '/');
		size_t n = last ? strlen(last) : 0;
		if (n > 9 && !strcmp(last + n - 8, ".service")) {
			gw_path(out, size, "%s", last + 1);
			return true;
		}
	}
	return false;
}

int gw_containerd_restart(struct gw_containerd *c, struct gw_err *e)
{
	char unit[200];
	pid_t old = c->pid;
	if (unit_of(old, unit, sizeof(unit))) {
		const char *const argv[] = {"systemctl", "restart", unit, NULL};
		int rc = gw_proc_run(&(struct gw_spawn){.argv = argv, .stdio = {-1, -1, -1}}, SYSTEMCTL_MS, NULL, e);
		if (rc < 0)
			return gw_fail_code(e, GW_SYS, "NoRestart", "%s could not be restarted", unit);
	} else if (kill(old, SIGTERM) < 0) {
		return gw_fail_code(e, GW_SYS, "NoRestart", "containerd could not be ended");
	}
	gw_info("containerd is restarted", kv_i64("pid", old));
	for (uint64_t end = gw_now_ms() + BACK_MS; gw_now_ms() < end; gw_sleep_us(LOOK_US)) {
		pid_t now = listener();
		if (now > 0 && now != old) {
			c->pid = now;
			return 0;
		}
	}
	return gw_fail_code(
	        e, GW_SYS, "NoRestart",
	        "containerd was ended for its new settings and nobody has started it again within %d s: start it",
	        BACK_MS / 1000);
}
