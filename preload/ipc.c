/* SPDX-License-Identifier: MIT
 *
 * ipc: the IPC namespace of a pod, which several containers share.
 *
 * Its System V objects are in the images of each of them, and CRIU makes them in
 * the namespace that it joins: for the second container they are there already,
 * and it would fail. So godwit is asked before the first of these images is read
 * ("ipc PID 0\n"):
 *
 *   'g'  make them: nobody else does
 *   's'  make them, and say so ("ipc-made PID 0\n"): somebody waits for that
 *   'n'  they are made: queues and semaphores are not looked at (their images read
 *        as empty), segments are found instead of made, so that CRIU knows them for
 *        its mappings and fills those that are this container's to move. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "godwit-criu.h"

enum { IMAGE_HEAD = 8 /* bytes: which image it is */ };

static bool made, must_tell, last_opened;
static int next_id = -1, home_from = -1;

static bool starts(const char *path, const char *head)
{
	return !strncmp(path, head, strlen(head));
}

/* The image without its entries. */
static int empty_image(int images, const char *path)
{
	char head[IMAGE_HEAD];
	int from = (int)syscall(SYS_openat, images, path, O_RDONLY | O_CLOEXEC);
	int fd = from < 0 ? -1 : (int)syscall(SYS_memfd_create, "ipc", MFD_CLOEXEC);
	if (fd >= 0 &&
	    (pread(from, head, sizeof(head), 0) != sizeof(head) || pwrite(fd, head, sizeof(head), 0) != sizeof(head))) {
		close(fd);
		fd = -1;
	}
	int err = errno;
	if (from >= 0)
		close(from);
	errno = err;
	return fd;
}

static bool ask_first(int images)
{
	int none;
	char answer = gwc_ask(images, "ipc", 0, &none);
	if (none >= 0)
		close(none);
	home_from = images; /* what is opened next may be in another folder */
	made = answer == 'n';
	must_tell = answer == 's';
	return made || must_tell || answer == 'g';
}

static bool tell(void)
{
	int none;
	char answer = gwc_ask(home_from, "ipc-made", 0, &none);
	if (none >= 0)
		close(none);
	must_tell = last_opened = false;
	return answer == 'g';
}

bool gwc_ipc_open(int images, const char *path, int *out_fd)
{
	*out_fd = -1;
	if (must_tell && last_opened)
		return tell() && gwc_ipc_open(images, path, out_fd);
	if (!starts(path, "ipcns-"))
		return true;
	if (starts(path, "ipcns-var-"))
		return ask_first(images);
	last_opened = starts(path, "ipcns-sem-"); /* semaphores are the last */
	if (!made || (!last_opened && !starts(path, "ipcns-msg-")))
		return true;
	*out_fd = empty_image(images, path);
	return *out_fd >= 0 || errno == ENOENT; /* CRIU keeps no image that has no entries */
}

bool gwc_ipc_made(void)
{
	return made;
}

/* The id that a segment is to get. Written where nothing is made of it, the next
 * one that the container makes would have it. */
bool gwc_ipc_write(int fd, const void *buf, size_t len)
{
	static const char knob[] = "/shm_next_id";
	char link[64], to[256], text[16];
	if (!made || len == 0 || len >= sizeof(text))
		return false;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, to, sizeof(to));
	if (n < (ssize_t)sizeof(knob) || memcmp(to + n - (sizeof(knob) - 1), knob, sizeof(knob) - 1) != 0)
		return false;
	memcpy(text, buf, len);
	text[len] = 0;
	next_id = atoi(text);
	return true;
}

int shmget(key_t key, size_t size, int flags)
{
	static typeof(&shmget) real;
	struct shmid_ds ds;
	if (!real)
		real = (typeof(&shmget))dlsym(RTLD_NEXT, "shmget");
	if (!made || !(flags & IPC_CREAT) || next_id < 0)
		return real(key, size, flags);
	int id = next_id;
	next_id = -1;
	if (shmctl(id, IPC_STAT, &ds) < 0)
		return -1;
	if (ds.shm_perm.__key != key || ds.shm_segsz != size) {
		errno = EEXIST;
		return -1;
	}
	return id;
}
