#include "net/room.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sock_diag.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/gw_log.h"
#include "base/io.h"
#include "base/scope.h"

enum { TABLE_MAX = 4 << 20, SOCKETS_MAX = 256, FILES_MAX = 4096, ROOM_BYTES = 4 << 20 /* the kernel doubles it */ };
enum { NARROW_TRIES = 20, NARROW_AGAIN_US = 100000 };

struct gw_room {
	char procs[PATH_MAX]; /* the container's processes */
	unsigned n, nsockets;
	bool is_full; /* one has not been read yet */
	struct {
		unsigned long inode;
		int bytes; /* as getsockopt gave them: doubled. 0: not found */
	} of[SOCKETS_MAX];
};

typedef bool on_socket(struct gw_room *r, unsigned i, int fd);

/* "  sl  local rem st tx:rx tr:when retrnsmt uid timeout inode ..." (Linux,
 * Documentation/networking/proc_net_tcp.rst). */
static void note_sockets(struct gw_room *r, const char *text)
{
	const char *line = strchr(text, '\n');
	while (line && *++line && r->nsockets < SOCKETS_MAX) {
		unsigned long inode = 0;
		if (sscanf(line, " %*[^:]: %*s %*s %*s %*s %*s %*s %*s %*s %lu", &inode) == 1 && inode) {
			r->of[r->nsockets++].inode = inode;
		}
		line = strchr(line, '\n');
	}
}

static bool widen(struct gw_room *r, unsigned i, int fd)
{
	const int bytes = ROOM_BYTES;
	int old;
	socklen_t len = sizeof(old);
	if (r->of[i].bytes || getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &old, &len) < 0 || old >= 2 * bytes ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) < 0)
		return false;
	r->of[i].bytes = old;
	return true;
}

static bool narrow(struct gw_room *r, unsigned i, int fd)
{
	const int bytes = r->of[i].bytes / 2;
	uint32_t mem[SK_MEMINFO_VARS] = {0};
	socklen_t len = sizeof(mem);
	/* Fuller than it could be before, it would take nothing new. */
	if (!bytes || getsockopt(fd, SOL_SOCKET, SO_MEMINFO, mem, &len) < 0)
		return false;
	if (mem[SK_MEMINFO_RMEM_ALLOC] > (uint32_t)bytes / 2) {
		r->is_full = true;
		return false;
	}
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) < 0)
		return false;
	r->of[i].bytes = 0;
	return true;
}

/* fn for each of r's sockets that the process has open; how many it did. */
static unsigned look_at(struct gw_room *r, pid_t pid, unsigned *inout_files, on_socket *fn)
{
	unsigned n = 0;
	char path[64], name[300], target[64];
	gw_path(path, sizeof(path), "/proc/%d/fd", pid);
	gw_auto(dir) DIR *d = opendir(path);
	gw_auto(fd) int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	for (struct dirent *de; d && pidfd >= 0 && n < r->nsockets && (de = readdir(d));) {
		unsigned long inode;
		gw_path(name, sizeof(name), "%s", de->d_name);
		ssize_t len = readlinkat(dirfd(d), name, target, sizeof(target) - 1);
		if (len <= 0)
			continue;
		target[len] = 0;
		if (++*inout_files > FILES_MAX)
			break;
		if (sscanf(target, "socket:[%lu]", &inode) != 1)
			continue;
		for (unsigned i = 0; i < r->nsockets; i++)
			if (r->of[i].inode == inode) {
				gw_auto(fd) int mine = (int)syscall(SYS_pidfd_getfd, pidfd, atoi(name), 0);
				n += mine >= 0 && fn(r, i, mine);
				break;
			}
	}
	return n;
}

/* How many of `want` were found. */
static unsigned in_all(struct gw_room *r, unsigned want, on_socket *fn)
{
	gw_auto(file) FILE *f = want ? fopen(r->procs, "re") : NULL;
	unsigned n = 0, files = 0;
	for (int p; f && n < want && files <= FILES_MAX && fscanf(f, "%d", &p) == 1;)
		n += look_at(r, p, &files, fn);
	return n;
}

/* CRIU is among them, in our own namespace. 0: nobody is elsewhere. */
static pid_t someone_elsewhere(const struct gw_room *r)
{
	struct stat ours, its;
	char path[64];
	gw_auto(file) FILE *f = fopen(r->procs, "re");
	if (!f || stat("/proc/self/ns/net", &ours) < 0)
		return 0;
	for (int p; fscanf(f, "%d", &p) == 1;) {
		gw_path(path, sizeof(path), "/proc/%d/ns/net", p);
		if (stat(path, &its) == 0 && its.st_ino != ours.st_ino)
			return p;
	}
	return 0;
}

struct gw_room *gw_room_make(const char *cgroup_dir)
{
	static const char *const tables[] = {"udp", "udp6", "udplite", "udplite6"};
	char path[64];
	struct gw_room *r = calloc(1, sizeof(*r));
	if (!r)
		return NULL;
	gw_path(r->procs, sizeof(r->procs), "%s/cgroup.procs", cgroup_dir);
	pid_t pid = someone_elsewhere(r);
	for (size_t i = 0; pid && i < gw_countof(tables); i++) {
		gw_auto(mem) char *text = NULL;
		gw_path(path, sizeof(path), "/proc/%d/net/%s", pid, tables[i]);
		if (gw_read_file(path, TABLE_MAX, &text, NULL, NULL) == 0)
			note_sockets(r, text);
	}
	r->n = in_all(r, r->nsockets, widen);
	gw_debug("room for datagrams", kv_u64("sockets", r->nsockets), kv_u64("widened", r->n));
	if (r->n)
		return r;
	free(r);
	return NULL;
}

void gw_room_end(struct gw_room *r)
{
	for (unsigned i = 0; r && r->n && i < NARROW_TRIES; i++) {
		if (i)
			gw_sleep_us(NARROW_AGAIN_US);
		r->is_full = false;
		r->n -= in_all(r, r->n, narrow);
		if (!r->is_full)
			break; /* what is left is closed */
	}
	free(r);
}

void gw_room_free(struct gw_room *r)
{
	free(r);
}
