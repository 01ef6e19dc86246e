#include "keeper.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fate.h"
#include "base/io.h"
#include "base/scope.h"
#include "target.h"

enum { PID_TEXT_MAX = 64 };
static const char NAME[] = "godwit-keeper";

/* Nobody ends a container by a signal to us: that is the runtime's, for its real process. */
static void ignore_signals(void)
{
	static const int all[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGUSR1, SIGUSR2};
	for (size_t i = 0; i < gw_countof(all); i++)
		(void)signal(all[i], SIG_IGN);
}

static void restore_signals(void)
{
	static const int all[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGUSR1, SIGUSR2};
	for (size_t i = 0; i < gw_countof(all); i++)
		(void)signal(all[i], SIG_DFL);
}

static pid_t read_pid(const char *path)
{
	gw_auto(mem) char *text = NULL;
	struct gw_err ignored;
	return gw_read_file(path, PID_TEXT_MAX, &text, NULL, &ignored) < 0 ? -1 : (pid_t)atoi(text);
}

static int wait_for(pid_t pid)
{
	int status = 0;
	for (;;) {
		pid_t got = waitpid(-1, &status, 0);
		if (got == pid)
			return status;
		if (got < 0 && errno != EINTR)
			return W_EXITCODE(1, 0);
	}
}

[[noreturn]] static void end_like(int status)
{
	if (WIFSIGNALED(status)) {
		const struct rlimit no_core = {0};
		(void)setrlimit(RLIMIT_CORE, &no_core);
		(void)signal(WTERMSIG(status), SIG_DFL);
		(void)kill(getpid(), WTERMSIG(status));
	}
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

[[noreturn]] static void keep(const struct keeper_does *k, const char *id, const char *pid_file)
{
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1);
	(void)prctl(PR_SET_NAME, NAME);
	(void)setsid();
	ignore_signals();
	pid_t me = getpid(), runc = fork();
	if (runc == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != me)
			_exit(1); /* killed before that */
		restore_signals();
		_exit(k->body(k->ctx) < 0 ? 1 : 0);
	}
	int status = runc < 0 ? W_EXITCODE(1, 0) : wait_for(runc);
	pid_t init = status == 0 ? read_pid(pid_file) : -1;
	if (init <= 0)
		k->failed(k->ctx);
	gw_fate_over(state_dir(), id);
	/* The log is the container's to write; its reader waits for the last writer. */
	for (int fd = 0; fd < 3; fd++)
		(void)close(fd);
	end_like(init > 0 ? wait_for(init) : W_EXITCODE(1, 0));
}

pid_t keeper_start(const struct keeper_does *k, const char *id, const char *pid_file, struct gw_err *e)
{
	char mark[PATH_MAX];
	if (!state_path(mark, sizeof(mark), "kept", id))
		return gw_fail(e, GW_INPUT, EINVAL, "\"%s\" is no container's id", id);
	pid_t keeper = fork();
	if (keeper < 0)
		return gw_fail(e, GW_SYS, errno, "start a keeper");
	if (keeper == 0)
		keep(k, id, pid_file);
	int rc = write_pid(mark, keeper, e);
	if (rc < 0) {
		(void)kill(keeper, SIGKILL);
		return rc;
	}
	return keeper;
}

/* Its pid may be somebody else's by now. */
static bool is_keeper(pid_t pid)
{
	char path[PID_TEXT_MAX];
	gw_auto(mem) char *name = NULL;
	struct gw_err ignored;
	gw_path(path, sizeof(path), "/proc/%d/comm", pid);
	return pid > 0 && gw_read_file(path, PID_TEXT_MAX, &name, NULL, &ignored) == 0 &&
	       !strncmp(name, NAME, sizeof(NAME) - 1);
}

static pid_t keeper_of(const char *id)
{
	char mark[PATH_MAX];
	pid_t pid = state_path(mark, sizeof(mark), "kept", id) ? read_pid(mark) : -1;
	return is_keeper(pid) ? pid : -1;
}

bool keeper_ps(const char *id)
{
	pid_t pid = keeper_of(id);
	return pid > 0 && printf("[%d]", pid) > 0;
}

void keeper_end(const char *id)
{
	pid_t pid = keeper_of(id);
	if (pid > 0)
		(void)kill(pid, SIGKILL);
	gw_fate_over(state_dir(), id);
}
