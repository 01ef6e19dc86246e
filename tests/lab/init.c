/* lab-init OLDROOT STATE [DAEMON ARG...]: PID 1 of a lab host.
 *
 * Reaps at once whatever loses its parent (detached containers end here), and
 * keeps the daemon running. The lab talks to it by files in STATE and SIGUSR1
 * ("look again"):
 *   daemon.off    do not run the daemon; a running one is left alone
 *   daemon.once   do not start it again when it dies by itself
 * STATE/daemon.pid holds the daemon's pid while it runs, STATE/ready appears
 * when the host is up. One thread; every wait has a time limit. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { RESTART_DELAY_MS = 200 };

static char **daemon_argv;
static const char *state_dir;
static pid_t daemon_pid;
static bool died_once;

static void state_path(char out[512], const char *name)
{
	(void)snprintf(out, 512, "%s/%s", state_dir, name);
}

static bool flag(const char *name)
{
	char p[512];
	state_path(p, name);
	return access(p, F_OK) == 0;
}

static void put(const char *name, const char *text)
{
	char p[512];
	char tmp[520];
	state_path(p, name);
	(void)snprintf(tmp, sizeof tmp, "%s.new", p);
	FILE *f = fopen(tmp, "we");
	if (!f) {
		fprintf(stderr, "lab-init: write %s: %s\n", tmp, strerror(errno));
		return;
	}
	(void)fputs(text, f);
	if (fclose(f) != 0 || rename(tmp, p) != 0)
		fprintf(stderr, "lab-init: write %s: %s\n", p, strerror(errno));
}

[[noreturn]]
static void become_daemon(void)
{
	char log[512];
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	state_path(log, "godwitd.log");
	int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0644);
	int null = open("/dev/null", O_RDONLY);
	if (fd < 0 || null < 0 || dup2(null, 0) < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0) {
		fprintf(stderr, "lab-init: open %s: %s\n", log, strerror(errno));
		_exit(127);
	}
	(void)close(fd);
	(void)close(null);
	(void)setsid();
	execv(daemon_argv[0], daemon_argv);
	fprintf(stderr, "lab-init: start %s: %s\n", daemon_argv[0], strerror(errno));
	_exit(127);
}

static void start_daemon(void)
{
	char text[32];
	if (daemon_pid > 0 || !daemon_argv[0] || flag("daemon.off"))
		return;
	pid_t p = fork();
	if (p < 0) {
		fprintf(stderr, "lab-init: fork: %s\n", strerror(errno));
		return;
	}
	if (p == 0)
		become_daemon();
	daemon_pid = p;
	died_once = false;
	(void)snprintf(text, sizeof text, "%d\n", (int)p);
	put("daemon.pid", text);
}

static void daemon_ended(int status)
{
	char p[512];
	daemon_pid = 0;
	died_once = true;
	state_path(p, "daemon.pid");
	(void)unlink(p);
	if (WIFSIGNALED(status))
		fprintf(stderr, "lab-init: the daemon was ended by signal %d\n", WTERMSIG(status));
	else
		fprintf(stderr, "lab-init: the daemon ended with exit code %d\n", WEXITSTATUS(status));
}

static void reap(void)
{
	int status;
	pid_t p;
	while ((p = waitpid(-1, &status, WNOHANG)) > 0)
		if (p == daemon_pid)
			daemon_ended(status);
}

int main(int argc, char **argv)
{
	if (argc < 3) {
		fprintf(stderr, "usage: lab-init OLDROOT STATE [DAEMON ARG...]\n");
		return 2;
	}
	state_dir = argv[2];
	daemon_argv = argv + 3;
	if (umount2(argv[1], MNT_DETACH) != 0) {
		fprintf(stderr, "lab-init: unmount %s: %s\n", argv[1], strerror(errno));
		return 1;
	}
	(void)rmdir(argv[1]);
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	put("ready", "ready\n");
	for (;;) {
		/* The network is plugged in from outside; the lab says go. */
		const struct timespec wait = {.tv_nsec = RESTART_DELAY_MS * 1000000L};
		bool restart = died_once && !flag("daemon.once");
		int sig = restart ? sigtimedwait(&set, NULL, &wait) : sigwaitinfo(&set, NULL);
		bool late = sig < 0 && errno == EAGAIN; /* before reap() changes errno */
		reap();
		if (sig == SIGUSR1 || (late && restart))
			start_daemon();
	}
}
