#include "mem/recharge.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/proc.h"
#include "base/scope.h"

enum { OLD = 3, NEW = 4, PIECE = 1 << 20, TIMEOUT_MS = 600000 };

int gw_recharge(const char *program, const char *dir, int old_fd, int new_fd, struct gw_err *e)
{
	const char *const argv[] = {program, "recharge", dir, NULL};
	const int fds[] = {old_fd, new_fd};
	const struct gw_spawn s = {.argv = argv, .stdio = {-1, -1, -1}, .extra_fds = fds, .nextra = gw_countof(fds)};
	int rc = gw_proc_run(&s, TIMEOUT_MS, NULL, e);
	return rc < 0 ? gw_wrap(e, "charge shared memory to the container's cgroup") : 0;
}

/* One piece at `at`, and its memory given back. */
static int move_piece(char *buf, off_t at, size_t want)
{
	ssize_t n = pread(OLD, buf, want, at);
	if (n <= 0)
		return n < 0 ? -errno : -EIO;
	for (ssize_t done = 0; done < n;) {
		ssize_t k = pwrite(NEW, buf + done, (size_t)(n - done), at + done);
		if (k < 0 && errno != EINTR)
			return -errno;
		done += k > 0 ? k : 0;
	}
	if (fallocate(OLD, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, n) < 0)
		return -errno;
	return (int)n;
}

static int move_all(char *buf)
{
	off_t at = 0;
	while ((at = lseek(OLD, at, SEEK_DATA)) >= 0) {
		off_t end = lseek(OLD, at, SEEK_HOLE);
		if (end < 0)
			return -errno;
		while (at < end) {
			int n = move_piece(buf, at, end - at < PIECE ? (size_t)(end - at) : PIECE);
			if (n < 0)
				return n;
			at += n;
		}
	}
	return errno == ENXIO ? 0 : -errno;
}

int gw_recharge_main(const char *dir)
{
	char path[PATH_MAX], pid[16];
	gw_auto(mem) char *buf = malloc(PIECE);
	(void)snprintf(pid, sizeof(pid), "%d", getpid());
	if ((size_t)snprintf(path, sizeof(path), "%s/cgroup.procs", dir) >= sizeof(path) || !buf)
		return 1;
	int rc = gw_write_knob(path, pid);
	if (rc == 0)
		rc = move_all(buf);
	if (rc < 0)
		(void)fprintf(stderr, "%s: %s\n", dir, strerrordesc_np(-rc));
	return rc < 0;
}
