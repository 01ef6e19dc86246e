#include "ckpt/home.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/gw_log.h"
#include "base/io.h"
#include "base/scope.h"

struct gw_home {
	int listener;
	int waiting; /* connection of the one that waits, -1 */
	gw_home_answer_fn *answer;
	void *answer_ctx;
	char path[256];
};

int gw_home_open(const char *path, struct gw_home **out, struct gw_err *e)
{
	struct gw_home *h = calloc(1, sizeof(*h));
	if (!h)
		return gw_fail(e, GW_SYS, ENOMEM, "open %s", path);
	h->waiting = -1;
	(void)snprintf(h->path, sizeof(h->path), "%s", path);
	int rc = gw_unix_listen(path, &h->listener, e);
	if (rc < 0) {
		free(h);
		return rc;
	}
	*out = h;
	return 0;
}

int gw_home_plugin(const char *home_path, const char *preload, struct gw_err *e)
{
	char dir[PATH_MAX], link[PATH_MAX + 16];
	const char *slash = strrchr(home_path, '/');
	gw_path(dir, sizeof(dir), "%.*s/plugins", slash ? (int)(slash - home_path) : 0, home_path);
	gw_path(link, sizeof(link), "%s/godwit.so", dir);
	int rc = gw_mkdirs(dir, e);
	if (rc == 0 && symlink(preload, link) < 0 && errno != EEXIST)
		rc = gw_fail(e, GW_SYS, errno, "make %s", link);
	return rc;
}

void gw_home_close(struct gw_home *h)
{
	if (!h)
		return;
	if (h->waiting >= 0)
		(void)close(h->waiting);
	(void)close(h->listener);
	(void)unlink(h->path);
	free(h);
}

void gw_home_serve(struct gw_home *h, gw_home_answer_fn *fn, void *ctx)
{
	h->answer = fn;
	h->answer_ctx = ctx;
}

static bool is_question(const char *name)
{
	static const char *const all[] = {"shmem", "ipc", "ipc-made", "unix"};
	for (size_t i = 0; i < gw_countof(all); i++)
		if (!strcmp(name, all[i]))
			return true;
	return false;
}

/* Whoever is not answered gives up, and that is told at the end of CRIU. */
static void answer_question(struct gw_home *h, int fd, const char *what, uint64_t id)
{
	static const char word[] = {[GW_HOME_NOT_OURS] = 'n', [GW_HOME_GIVEN] = 'g', [GW_HOME_SEGMENT] = 's'};
	int object = -1;
	int rc = h->answer ? h->answer(h->answer_ctx, what, id, &object) : GW_HOME_NOT_OURS;
	if (rc >= 0)
		rc = gw_send_fds(fd, &word[rc], 1, &object, rc == GW_HOME_NOT_OURS || object < 0 ? 0 : 1);
	if (rc < 0)
		gw_warn("a question of CRIU has no answer", kv_str("what", what), kv_u64("id", id),
		        kv_i64("errno", -rc));
}

/* 1: it was a question, and is answered. */
static int accept_caller(struct gw_home *h, const char *point, pid_t *out_pid, pid_t *out_task, struct gw_err *e)
{
	gw_auto(fd) int fd = accept4(h->listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		return gw_fail(e, GW_SYS, errno, "accept on %s", h->path);
	char line[80] = "", name[33];
	struct timeval limit = {.tv_sec = 5};
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	ssize_t n = read(fd, line, sizeof(line) - 1);
	int pid = 0;
	unsigned long task = 0;
	if (n <= 0 || sscanf(line, "%32s %d %lu", name, &pid, &task) != 3)
		return gw_fail(e, GW_PEER, EPROTO, "unreadable call on %s", h->path);
	if (is_question(name)) {
		answer_question(h, fd, name, task);
		return 1;
	}
	if (strcmp(name, point) != 0)
		return gw_fail(e, GW_PEER, EPROTO, "CRIU is at \"%s\" where \"%s\" was expected", name, point);
	if (out_pid)
		*out_pid = pid;
	if (out_task)
		*out_task = (pid_t)task;
	h->waiting = gw_take_fd(&fd);
	return 0;
}

int gw_home_wait(struct gw_home *h, const char *point, int timeout_ms, pid_t watch_pid, int cancel_fd, pid_t *out_pid,
                 pid_t *out_task, struct gw_err *e)
{
	gw_auto(fd) int pfd = watch_pid > 0 ? (int)syscall(SYS_pidfd_open, watch_pid, 0) : -1;
	struct pollfd p[3] = {{.fd = h->listener, .events = POLLIN},
	                      {.fd = pfd, .events = POLLIN},
	                      {.fd = cancel_fd, .events = POLLIN}};
	uint64_t end = gw_now_ms() + (uint64_t)timeout_ms;
	for (;;) {
		int64_t left = (int64_t)(end - gw_now_ms());
		int n = poll(p, 3, left > 0 ? (int)left : 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return gw_fail(e, GW_SYS, errno, "wait for CRIU at \"%s\"", point);
		if (p[0].revents) {
			int rc = accept_caller(h, point, out_pid, out_task, e);
			if (rc <= 0)
				return rc;
			continue;
		}
		if (p[2].revents)
			return gw_fail_code(e, GW_RETRY, "Cancelled", "cancelled while waiting for CRIU at \"%s\"",
			                    point);
		if (p[1].revents || (watch_pid > 0 && pfd < 0))
			return gw_fail(e, GW_SYS, ECHILD, "CRIU ended before it reached \"%s\"", point);
		if (n == 0)
			return gw_fail(e, GW_SYS, ETIMEDOUT, "CRIU did not reach \"%s\" within %d ms", point,
			               timeout_ms);
	}
}

void gw_home_go(struct gw_home *h)
{
	if (h->waiting < 0)
		return;
	(void)send(h->waiting, "g", 1, MSG_NOSIGNAL);
	(void)close(h->waiting);
	h->waiting = -1;
}
