/* godwit-runtime: an OCI runtime in front of runc.
 *
 * All commands are runc's own, by exec, at the cost of one small program's
 * start, except
 *   create   of a container that a migration fills (annotation
 *            godwit.dev/migration, not a sandbox): waits for godwitd
 *            (src/move/claim.h), then leaves a keeper in its place for the moment
 *            (keeper.h), whose child becomes `runc restore`;
 *            of any: its seccomp profile allows no io_uring (confine.h)
 *   start    of such a container: it runs already
 *   exec     of its postStart hook: it has run long ago; of anything in a source whose
 *            object goes first: refused (hooks.h)
 *   exec, update   of a container that is a keeper still: waits for the real one
 *   ps       of such a container: the keeper. A containerd that is started anew takes a
 *            container without processes for one that was left over
 *   kill     of a container that is a keeper still: ends it, unless it is committed
 *            (src/base/fate.h): then that is waited for, and runc's
 *   kill, delete   of a source that is being moved (src/move/held.h): kept back
 * A node without godwitd runs ordinary containers as ever. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fate.h"
#include "base/gw_err.h"
#include "base/io.h"
#include "base/scope.h"
#include "cmdline.h"
#include "confine.h"
#include "hooks.h"
#include "keeper.h"
#include "target.h"

enum { REAL_WITHIN_MS = 60000 };

static const char usage[] =
        "usage: godwit-runtime [runc's global options] COMMAND [ARGS]\n"
        "\n"
        "runc, for containers that can move: give it to containerd as BinaryName of a runtime handler\n"
        "(or of the default one), with pod_annotations = [\"godwit.dev/*\"].\n"
        "\n"
        "All commands and options are runc's (runc --help). Those of a container that moves in or out\n"
        "wait for godwitd at /run/godwit/godwit.sock. io_uring, which cannot move, is struck from\n"
        "what a seccomp profile allows, unless the pod has the annotation live.godwit.dev/io-uring: allow.\n"
        "\n"
        "environment: GODWIT_RUNC   the runc to use   [/opt/godwit/runc where godwit-install has made\n"
        "                           that link, else the first in PATH that is not this program]\n"
        "             GODWIT_STATE  godwitd's --state [/run/godwit]\n"
        "exit codes: runc's; 1 with words in --log and on stderr when a move fails\n";

static bool is_self(const char *path)
{
	struct stat a, b;
	return stat(path, &a) == 0 && stat("/proc/self/exe", &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static bool find_runc(char *out, size_t size)
{
	const char *given = getenv("GODWIT_RUNC"), *path = getenv("PATH");
	if (given && *given) {
		(void)snprintf(out, size, "%s", given);
		return true;
	}
	(void)snprintf(out, size, "/opt/godwit/runc");
	if (access(out, X_OK) == 0 && !is_self(out))
		return true;
	gw_auto(mem) char *dirs = NULL;
	if (asprintf(&dirs, "%s:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", path ? path : "") < 0)
		return false;
	char *save = NULL;
	for (char *d = strtok_r(dirs, ":", &save); d; d = strtok_r(NULL, ":", &save)) {
		(void)snprintf(out, size, "%s/runc", d);
		if (access(out, X_OK) == 0 && !is_self(out))
			return true;
	}
	return false;
}

/* What is to run in a container that a keeper stands for (a probe, postStart) finds it in a moment. */
static void wait_until_real(const char *id)
{
	for (uint64_t end = gw_now_ms() + REAL_WITHIN_MS; marked("kept", id) && gw_now_ms() < end;)
		gw_sleep_us(5000);
}

/* Its container is not there yet: runc knows nothing of it. false: it is, or is
 * committed and becomes real in a moment. */
static bool end_kept(const char *id)
{
	struct gw_err e;
	for (uint64_t end = gw_now_ms() + REAL_WITHIN_MS; marked("kept", id) && gw_now_ms() < end; gw_sleep_us(5000)) {
		if (gw_fate_decide(state_dir(), id, GW_FATE_END, &e) < 0)
			continue;
		keeper_end(id);
		unmark("restored", id);
		unmark(HOOKS_MARK, id);
		return true;
	}
	return false;
}

static int become(const char *runc, char **argv)
{
	argv[0] = (char *)(uintptr_t)runc;
	(void)execv(runc, argv);
	(void)fprintf(stderr, "godwit-runtime: cannot run %s: %s\n", runc, strerror(errno));
	return 127;
}

int main(int argc, char **argv)
{
	struct cmdline c;
	char runc[PATH_MAX];
	cmdline_parse(argc, argv, &c);
	if (c.command && !strcmp(c.command, "start") && marked("restored", c.id)) {
		unmark("restored", c.id);
		return 0;
	}
	if (c.command && !strcmp(c.command, "ps") && marked("kept", c.id) && keeper_ps(c.id))
		return 0;
	if (c.command && (!strcmp(c.command, "exec") || !strcmp(c.command, "update")))
		wait_until_real(c.id);
	if (c.command && !strcmp(c.command, "exec")) {
		struct gw_err e = {.class = GW_OK};
		int rc = hooks_exec(&c, &e);
		if (rc != 0)
			return rc < 0 ? cmdline_complain(&c, &e) : 0;
	}
	bool ends = c.command && (!strcmp(c.command, "kill") || !strcmp(c.command, "delete"));
	if (ends && marked("held", c.id))
		return 0;
	if (ends && marked("kept", c.id) && end_kept(c.id))
		return 0;
	if (ends)
		unmark("restored", c.id);
	if (c.command && !strcmp(c.command, "delete"))
		unmark(HOOKS_MARK, c.id);
	if (argc == 1 || (!c.command && argc == 2 && !strcmp(argv[1], "--help")))
		return fputs(usage, stdout) < 0;
	if (!find_runc(runc, sizeof(runc))) {
		(void)fprintf(stderr,
		              "godwit-runtime: there is no runc in PATH: install runc, or name it in GODWIT_RUNC\n");
		return 127;
	}
	if (c.command && !strcmp(c.command, "create")) {
		struct gw_err e = {.class = GW_OK};
		int rc = confine(&c, &e);
		/* Comes back only to make an ordinary container, or with an error. */
		if (rc == 0)
			rc = target_create(&c, runc, &e);
		if (rc < 0)
			return cmdline_complain(&c, &e);
	}
	return become(runc, argv);
}
