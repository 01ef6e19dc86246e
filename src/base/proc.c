#include "base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/scope.h"

enum { PROC_FDS_MAX = 16, PROC_OUT_MAX = 1 << 20 };

/* What the child needs, made before the fork: after it only system calls. */
struct child {
	const char *file;
	char *const *argv;
	char **env;
	const char *cwd;
	int fds[PROC_FDS_MAX];
	unsigned nfds;
	int netns;
	bool new_session;
	int nice;
	int report; /* errno goes here when exec fails */
};

static void child_run(struct child *c)
{
	int err = 0;
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	if (c->new_session)
		(void)setsid();
	(void)setpriority(PRIO_PROCESS, 0, c->nice);
	if (c->netns >= 0 && setns(c->netns, CLONE_NEWNET) < 0)
		goto fail;
	/* First out of the way of the targets, then into place. */
	for (unsigned i = 0; i < c->nfds; i++) {
		c->fds[i] = fcntl(c->fds[i], F_DUPFD_CLOEXEC, 64);
		if (c->fds[i] < 0)
			goto fail;
	}
	int report = fcntl(c->report, F_DUPFD_CLOEXEC, 64);
	if (report < 0)
		goto fail;
	c->report = report;
	for (unsigned i = 0; i < c->nfds; i++)
		if (dup2(c->fds[i], (int)i) < 0)
			goto fail;
	if (c->cwd && chdir(c->cwd) < 0)
		goto fail;
	execve(c->file, c->argv, c->env);
fail:
	err = errno;
	(void)!write(c->report, &err, sizeof(err));
	_exit(127);
}

static char **merged_env(const char *const *extra)
{
	size_t n = 0, k = 0;
	while (extra && extra[n])
		n++;
	while (environ[k])
		k++;
	char **env = calloc(n + k + 1, sizeof(*env));
	if (!env)
		return NULL;
	size_t at = 0;
	for (size_t i = 0; i < n; i++)
		env[at++] = (char *)(uintptr_t)extra[i];
	for (size_t i = 0; i < k; i++) {
		size_t key = strcspn(environ[i], "=") + 1;
		bool hidden = false;
		for (size_t j = 0; j < n && !hidden; j++)
			hidden = !strncmp(extra[j], environ[i], key);
		if (!hidden)
			env[at++] = environ[i];
	}
	return env;
}

/* execvpe() searches PATH of our environment; the child's may differ. */
static int find_program(const char *name, char *const *env, char *out, size_t size)
{
	if (strchr(name, '/')) {
		gw_path(out, size, "%s", name);
		return 0;
	}
	const char *path = "/usr/sbin:/usr/bin:/sbin:/bin";
	for (size_t i = 0; env[i]; i++)
		if (!strncmp(env[i], "PATH=", 5)) {
			path = env[i] + 5;
			break;
		}
	while (*path) {
		size_t n = strcspn(path, ":");
		if (n && n + strlen(name) + 2 < size) {
			gw_path(out, size, "%.*s/%s", (int)n, path, name);
			if (access(out, X_OK) == 0)
				return 0;
		}
		path += n + (path[n] == ':');
	}
	return -ENOENT;
}

int gw_proc_start(const struct gw_spawn *s, pid_t *out_pid, struct gw_err *e)
{
	char file[4096];
	gw_auto(mem) char **env = merged_env(s->env);
	if (!env)
		return gw_fail(e, GW_SYS, ENOMEM, "start %s", s->argv[0]);
	if (find_program(s->argv[0], env, file, sizeof(file)) < 0)
		return gw_fail(e, GW_SYS, ENOENT, "%s is not installed (not in PATH)", s->argv[0]);
	gw_auto(fd) int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	gw_auto(fd) int netns = s->netns ? open(s->netns, O_RDONLY | O_CLOEXEC) : -1;
	if (s->netns && netns < 0)
		return gw_fail(e, GW_SYS, errno, "open network namespace %s", s->netns);
	int report[2];
	if (null < 0 || pipe2(report, O_CLOEXEC) < 0)
		return gw_fail(e, GW_SYS, errno, "start %s", s->argv[0]);
	gw_auto(fd) int report_rd = report[0];
	gw_auto(fd) int report_wr = report[1];
	struct child c = {.file = file,
	                  .argv = (char *const *)(uintptr_t)s->argv,
	                  .env = env,
	                  .cwd = s->cwd,
	                  .netns = netns,
	                  .new_session = s->new_session,
	                  .nice = s->nice,
	                  .report = report_wr};
	for (unsigned i = 0; i < 3; i++)
		c.fds[c.nfds++] = s->stdio[i] >= 0 ? s->stdio[i] : null;
	for (unsigned i = 0; i < s->nextra && c.nfds < PROC_FDS_MAX; i++)
		c.fds[c.nfds++] = s->extra_fds[i];
	pid_t pid = fork();
	if (pid < 0)
		return gw_fail(e, GW_SYS, errno, "fork for %s", s->argv[0]);
	if (pid == 0)
		child_run(&c);
	(void)close(gw_take_fd(&report_wr));
	int err = 0;
	if (read(report_rd, &err, sizeof(err)) == sizeof(err)) {
		(void)waitpid(pid, NULL, 0);
		return gw_fail(e, GW_SYS, err, "start %s", file);
	}
	*out_pid = pid;
	return 0;
}

int gw_proc_wait(pid_t pid, int timeout_ms, int *out_status, struct gw_err *e)
{
	gw_auto(fd) int pfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pfd < 0)
		return gw_fail(e, GW_SYS, errno, "open a handle on process %d", pid);
	struct pollfd p = {.fd = pfd, .events = POLLIN};
	int n;
	do
		n = poll(&p, 1, timeout_ms);
	while (n < 0 && errno == EINTR);
	if (n == 0)
		return gw_fail(e, GW_SYS, ETIMEDOUT, "process %d did not end within %d ms", pid, timeout_ms);
	int st = 0;
	pid_t got;
	do
		got = waitpid(pid, &st, 0);
	while (got < 0 && errno == EINTR);
	if (got != pid)
		return gw_fail(e, GW_SYS, errno, "wait for process %d", pid);
	*out_status = st;
	return 0;
}

struct capture {
	char *text;
	size_t len;
};

static bool capture_some(int fd, struct capture *c)
{
	char buf[4096];
	ssize_t n = read(fd, buf, sizeof(buf));
	if (n < 0 && errno == EINTR)
		return true;
	if (n <= 0)
		return false;
	size_t take = c->len + (size_t)n < PROC_OUT_MAX ? (size_t)n : PROC_OUT_MAX - c->len;
	char *more = realloc(c->text, c->len + take + 1);
	if (more) {
		memcpy(more + c->len, buf, take);
		c->text = more;
		c->len += take;
		more[c->len] = 0;
	}
	return true;
}

static const char *last_line(struct capture *c)
{
	if (!c->text)
		return "(it printed no reason)";
	while (c->len && c->text[c->len - 1] == '\n')
		c->text[--c->len] = 0;
	const char *nl = strrchr(c->text, '\n');
	return nl ? nl + 1 : c->text;
}

int gw_proc_run(const struct gw_spawn *s, int timeout_ms, char **out_text, struct gw_err *e)
{
	int out[2], err[2];
	if (pipe2(out, O_CLOEXEC) < 0)
		return gw_fail(e, GW_SYS, errno, "pipe");
	gw_auto(fd) int out_rd = out[0];
	gw_auto(fd) int out_wr = out[1];
	if (pipe2(err, O_CLOEXEC) < 0)
		return gw_fail(e, GW_SYS, errno, "pipe");
	gw_auto(fd) int err_rd = err[0];
	gw_auto(fd) int err_wr = err[1];
	struct gw_spawn mine = *s;
	mine.stdio[1] = out_wr;
	mine.stdio[2] = err_wr;
	pid_t pid;
	int rc = gw_proc_start(&mine, &pid, e);
	if (rc < 0)
		return rc;
	(void)close(gw_take_fd(&out_wr));
	(void)close(gw_take_fd(&err_wr));
	struct capture co = {0}, ce = {0};
	struct pollfd p[2] = {{.fd = out_rd, .events = POLLIN}, {.fd = err_rd, .events = POLLIN}};
	uint64_t end = gw_now_ms() + (uint64_t)timeout_ms;
	bool late = false;
	while (p[0].fd >= 0 || p[1].fd >= 0) {
		int64_t left = (int64_t)(end - gw_now_ms());
		int n = poll(p, 2, left > 0 ? (int)left : 0);
		if (n == 0) {
			late = true;
			(void)kill(pid, SIGKILL);
			break;
		}
		if (p[0].revents && !capture_some(out_rd, &co))
			p[0].fd = -1;
		if (p[1].revents && !capture_some(err_rd, &ce))
			p[1].fd = -1;
	}
	int st = 0;
	rc = gw_proc_wait(pid, -1, &st, e);
	gw_auto(mem) char *text = co.text;
	gw_auto(mem) char *reason = ce.text;
	if (rc < 0)
		return rc;
	if (late)
		return gw_fail(e, GW_SYS, ETIMEDOUT, "%s did not end within %d ms and was killed", s->argv[0],
		               timeout_ms);
	if (!WIFEXITED(st) || WEXITSTATUS(st) != 0)
		return gw_fail(e, GW_INPUT, EIO, "%s failed (%s %d): %s", s->argv[0],
		               WIFEXITED(st) ? "exit code" : "signal", WIFEXITED(st) ? WEXITSTATUS(st) : WTERMSIG(st),
		               last_line(&ce));
	if (out_text) {
		*out_text = text ? gw_take(text) : strdup("");
	}
	return 0;
}
