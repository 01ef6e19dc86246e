#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/gw_err.h"

/* proc: start programs and wait for them, without a shell.
 *
 * Safe from threads (vfork semantics, no code of ours runs in the child
 * beyond descriptor moves). The caller owns the child: wait for it once. */
struct gw_spawn {
	const char *const *argv; /* NULL-terminated; argv[0] looked up in PATH of env */
	const char *const *env;  /* NULL: ours. Otherwise "K=V" entries put before ours */
	const char *cwd;         /* NULL: ours */
	int stdio[3];            /* -1: /dev/null */
	const int *extra_fds;    /* become 3, 4, ... in the child */
	unsigned nextra;
	const char *netns; /* path of a network namespace to enter first, NULL: ours */
	bool new_session;
	int nice; /* the child's, -20 to 19, whatever ours is; where we may not set it, it inherits */
};

int gw_proc_start(const struct gw_spawn *s, pid_t *out_pid, struct gw_err *e);

/* Wait for pid up to timeout_ms (-1: for ever). *out_status as waitpid(2).
 * -ETIMEDOUT leaves the child running. */
int gw_proc_wait(pid_t pid, int timeout_ms, int *out_status, struct gw_err *e);

/* Run to the end, at most timeout_ms (then killed). Fails when the exit code
 * is not 0, with the last line of its stderr as the reason. out_text (stdout,
 * at most 1 MiB, caller frees) may be NULL. */
int gw_proc_run(const struct gw_spawn *s, int timeout_ms, char **out_text, struct gw_err *e);
