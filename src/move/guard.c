#include "move/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cgroups.h"
#include "base/io.h"

enum { DISMISSED = 2 };

/* Shared by both processes; everything the guard needs is in it. */
struct shared {
	_Atomic int phase;
	char freezer_file[PATH_MAX];
	char thaw_word[16];
	char quota_file[PATH_MAX];
	char quota[64];
};

struct gw_guard {
	pid_t pid;
	int pipe;
	struct shared *s;
};

/* After fork in a threaded process: system calls only. */
[[noreturn]]
static void watch(struct shared *s, int pipe)
{
	char c;
	ssize_t n;
	(void)syscall(SYS_close_range, 0, (unsigned)pipe - 1, 0);
	(void)syscall(SYS_close_range, (unsigned)pipe + 1, ~0u, 0);
	(void)prctl(PR_SET_NAME, "godwit-guard");
	(void)setsid();
	do
		n = read(pipe, &c, 1);
	while (n > 0 || (n < 0 && errno == EINTR));
	if (atomic_load(&s->phase) == GUARD_THAW) {
		if (s->quota_file[0])
			(void)gw_write_knob(s->quota_file, s->quota);
		(void)gw_write_knob(s->freezer_file, s->thaw_word);
	}
	_exit(0);
}

int gw_guard_new(const struct gw_guard_opts *o, struct gw_guard **out, struct gw_err *e)
{
	int p[2];
	struct gw_guard *g = calloc(1, sizeof(*g));
	struct shared *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!g || s == MAP_FAILED || pipe2(p, O_CLOEXEC) < 0) {
		int err = errno;
		if (s != MAP_FAILED)
			(void)munmap(s, sizeof(*s));
		free(g);
		return gw_fail(e, GW_SYS, err ?: ENOMEM, "start the guard");
	}
	atomic_store(&s->phase, GUARD_THAW);
	gw_path(s->freezer_file, sizeof(s->freezer_file), "%s", o->freezer_file);
	gw_path(s->thaw_word, sizeof(s->thaw_word), "%s", o->thaw_word);
	gw_path(s->quota_file, sizeof(s->quota_file), "%s", o->quota_file ?: "");
	gw_path(s->quota, sizeof(s->quota), "%s", o->quota ?: "");
	pid_t pid = fork();
	if (pid == 0)
		watch(s, p[0]);
	(void)close(p[0]);
	if (pid < 0) {
		int err = errno;
		(void)close(p[1]);
		(void)munmap(s, sizeof(*s));
		free(g);
		return gw_fail(e, GW_SYS, err, "fork the guard");
	}
	/* Whoever ends godwitd's whole cgroup, as the end of its pod does, spares the guard. */
	gw_cgroups_leave(pid);
	*g = (struct gw_guard){.pid = pid, .pipe = p[1], .s = s};
	*out = g;
	return 0;
}

void gw_guard_phase(struct gw_guard *g, enum gw_guard_phase p)
{
	atomic_store(&g->s->phase, (int)p);
}

void gw_guard_free(struct gw_guard *g)
{
	if (!g)
		return;
	atomic_store(&g->s->phase, DISMISSED);
	(void)close(g->pipe);
	(void)kill(g->pid, SIGKILL);
	while (waitpid(g->pid, NULL, 0) < 0 && errno == EINTR)
		;
	(void)munmap(g->s, sizeof(*g->s));
	free(g);
}
