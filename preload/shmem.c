/* SPDX-License-Identifier: MIT
 *
 * Shared memory that godwit has moved already (MAP_SHARED | MAP_ANONYMOUS,
 * memfd, System V).
 *
 *   dump     CRIU asks for the data of an object with SEEK_DATA: the ones in
 *            DIR/shmem (struct shmem_own) have none. Their images are made, and
 *            hold no page.
 *   restore  CRIU makes an empty memfd, maps it, and opens
 *            pagemap-shmem-ID.img for its content (criu/shmem.c,
 *            restore_memfd_shmem_content). There we ask godwit for the object:
 *            "shmem PID ID\n", answered 'g' with the memfd that holds it (put in
 *            the place of CRIU's: nothing is copied), 's' with a memfd whose
 *            content goes into the segment that CRIU has just attached, 'n'
 *            (CRIU's own). Anything else fails the call, and so the restore.
 *
 * The task is in the container's namespaces by then: godwit's socket is found
 * through the images' folder, beside which it lies. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "godwit-criu.h"

enum { PIECE = 1 << 20 };

/* What CRIU made last in this process, to be filled next. */
static int made_fd = -1;
static unsigned made_flags;
static char *attached;

/* ---- dump ---- */

struct shmem_own {
	uint64_t dev, ino, kind;
};
enum { MEMFD, SEGMENT, EVERY_SEGMENT }; /* the last: whatever its number */

static struct {
	bool read;
	struct shmem_own *v;
	size_t n;
} own;

static void own_load(void)
{
	const char *dir = getenv("GODWIT_CRIU_DIR");
	char path[512];
	struct stat st;
	own.read = true;
	if (!dir)
		return;
	snprintf(path, sizeof(path), "%s/shmem", dir);
	int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (fstat(fd, &st) == 0 && st.st_size > 0) {
		own.v = malloc((size_t)st.st_size);
		if (own.v && read(fd, own.v, (size_t)st.st_size) == st.st_size)
			own.n = (size_t)st.st_size / sizeof(*own.v);
	}
	close(fd);
}

/* A segment and a memfd can have the same number: the name tells them apart. */
static bool is_segment(int fd)
{
	char link[64], to[6];
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	return readlink(link, to, sizeof(to)) == (ssize_t)sizeof(to) && !memcmp(to, "/SYSV", 5);
}

static bool is_own(int fd)
{
	struct stat st;
	if (!own.read)
		own_load();
	if (!own.n || fstat(fd, &st) < 0)
		return false;
	bool segment = is_segment(fd);
	for (size_t i = 0; i < own.n; i++)
		if (own.v[i].kind == EVERY_SEGMENT ? segment
		                                   : own.v[i].dev == st.st_dev && own.v[i].ino == st.st_ino &&
		                                             (own.v[i].kind == SEGMENT) == segment)
			return true;
	return false;
}

off64_t lseek64(int fd, off64_t off, int whence)
{
	static typeof(&lseek64) real;
	if (!real)
		real = (typeof(&lseek64))dlsym(RTLD_NEXT, "lseek64");
	if (whence == SEEK_DATA && gwc_mode_is("dump") && is_own(fd)) {
		errno = ENXIO;
		return -1;
	}
	return real(fd, off, whence);
}

/* ---- restore ---- */

void gwc_shmem_made(int fd, unsigned flags)
{
	made_fd = fd;
	made_flags = flags;
}

int memfd_create(const char *name, unsigned flags)
{
	static typeof(&memfd_create) real;
	if (!real)
		real = (typeof(&memfd_create))dlsym(RTLD_NEXT, "memfd_create");
	int fd = real(name, flags);
	gwc_shmem_made(fd, flags);
	return fd;
}

void *shmat(int id, const void *addr, int flags)
{
	static typeof(&shmat) real;
	if (!real)
		real = (typeof(&shmat))dlsym(RTLD_NEXT, "shmat");
	attached = real(id, addr, flags);
	return attached;
}

/* A stream to godwit, found beside the images; -1. */
static int call_home(int images)
{
	const char *home = getenv("GODWIT_CRIU_HOME");
	const char *name = home ? strrchr(home, '/') : NULL;
	struct sockaddr_un su = {.sun_family = AF_UNIX};
	if (!name || strlen(name) + 3 > sizeof(su.sun_path))
		return -1;
	snprintf(su.sun_path, sizeof(su.sun_path), "..%s", name);
	int here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int fd = here < 0 ? -1 : socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0) {
		bool ok = fchdir(images) == 0 && connect(fd, (struct sockaddr *)&su, sizeof(su)) == 0;
		if (fchdir(here) < 0)
			ok = false;
		if (!ok) {
			close(fd);
			fd = -1;
		}
	}
	if (here >= 0)
		close(here);
	return fd;
}

/* The answer: 'g', 's', 'n', or 0; the descriptor that came with it, or -1. */
char gwc_ask(int images, const char *what, unsigned long id, int *out_fd)
{
	char line[80], answer = 0;
	union {
		struct cmsghdr h;
		char room[CMSG_SPACE(sizeof(int))];
	} ctl;
	struct iovec io = {&answer, 1};
	struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = &ctl, .msg_controllen = sizeof(ctl)};
	*out_fd = -1;
	int fd = call_home(images);
	if (fd < 0)
		return 0;
	int n = snprintf(line, sizeof(line), "%s %d %lu\n", what, (int)getpid(), id);
	ssize_t got = -1;
	if (send(fd, line, (size_t)n, MSG_NOSIGNAL) == n)
		do
			got = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
		while (got < 0 && errno == EINTR);
	close(fd);
	if (got != 1)
		return 0;
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(out_fd, CMSG_DATA(c), sizeof(int));
	return answer;
}

static bool same_size(int a, int b)
{
	struct stat x, y;
	return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_size == y.st_size;
}

/* CRIU's memfd becomes ours: same number, same size, same right to be sealed. */
static bool put_in_place(int fd)
{
	int cloexec = made_fd < 0 ? -1 : fcntl(made_fd, F_GETFD);
	if (cloexec < 0 || !same_size(fd, made_fd))
		return false;
	if (!(made_flags & MFD_ALLOW_SEALING) && fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL) < 0)
		return false;
	return dup3(fd, made_fd, cloexec & FD_CLOEXEC ? O_CLOEXEC : 0) == made_fd;
}

/* Given back piece by piece, so that the memory is there once. */
static bool fill_segment(int fd)
{
	struct stat st;
	if (!attached || attached == (void *)-1 || fstat(fd, &st) < 0)
		return false;
	off_t at = 0;
	while ((at = lseek(fd, at, SEEK_DATA)) >= 0) {
		off_t end = lseek(fd, at, SEEK_HOLE);
		if (end < 0)
			return false;
		while (at < end) {
			size_t want = end - at < PIECE ? (size_t)(end - at) : PIECE;
			ssize_t n = pread(fd, attached + at, want, at);
			if (n < 0 && errno == EINTR)
				continue;
			if (n <= 0 || fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, (off_t)n) < 0)
				return false;
			at += n;
		}
	}
	return errno == ENXIO;
}

bool gwc_shmem_open(int images, const char *path)
{
	static const char head[] = "pagemap-shmem-";
	char *tail;
	if (strncmp(path, head, sizeof(head) - 1) != 0)
		return true;
	unsigned long id = strtoul(path + sizeof(head) - 1, &tail, 10);
	if (strcmp(tail, ".img") != 0)
		return true;
	int fd;
	char answer = gwc_ask(images, "shmem", id, &fd);
	bool ok = answer == 'n' ||
	          (fd >= 0 && ((answer == 'g' && put_in_place(fd)) || (answer == 's' && fill_segment(fd))));
	if (fd >= 0)
		close(fd);
	made_fd = -1;
	attached = NULL;
	return ok;
}
