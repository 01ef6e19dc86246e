#include "base/io.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/scope.h"

int gw_read_full(int fd, void *buf, size_t len)
{
	char *p = buf;
	while (len) {
		ssize_t n = read(fd, p, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ECONNRESET;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int gw_write_full(int fd, const void *buf, size_t len)
{
	const char *p = buf;
	bool sock = true;
	while (len) {
		ssize_t n = sock ? send(fd, p, len, MSG_NOSIGNAL) : write(fd, p, len);
		if (n < 0 && errno == ENOTSOCK && sock) {
			sock = false;
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int gw_read_file(const char *path, size_t max_bytes, char **out_text, size_t *out_len, struct gw_err *e)
{
	gw_auto(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return gw_fail(e, GW_SYS, errno, "open %s", path);
	size_t cap = 4096, len = 0;
	gw_auto(mem) char *text = malloc(cap);
	while (text) {
		ssize_t n = read(fd, text + len, cap - len - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return gw_fail(e, GW_SYS, errno, "read %s", path);
		if (n == 0)
			break;
		len += (size_t)n;
		if (len > max_bytes)
			return gw_fail(e, GW_INPUT, EFBIG, "%s is larger than %zu bytes", path, max_bytes);
		if (len + 1 == cap) {
			char *more = realloc(text, cap *= 2);
			if (!more)
				return gw_fail(e, GW_SYS, ENOMEM, "read %s", path);
			text = more;
		}
	}
	if (!text)
		return gw_fail(e, GW_SYS, ENOMEM, "read %s", path);
	text[len] = 0;
	*out_text = gw_take(text);
	if (out_len)
		*out_len = len;
	return 0;
}

int gw_write_file(const char *path, const void *data, size_t len, struct gw_err *e)
{
	char tmp[PATH_MAX];
	gw_path(tmp, sizeof(tmp), "%s.new", path);
	gw_auto(fd) int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return gw_fail(e, GW_SYS, errno, "create %s", tmp);
	int rc = gw_write_full(fd, data, len);
	if (rc == 0 && rename(tmp, path) < 0)
		rc = -errno;
	if (rc < 0) {
		(void)unlink(tmp);
		return gw_fail(e, GW_SYS, -rc, "write %s", path);
	}
	return 0;
}

int gw_write_knob(const char *path, const char *value)
{
	gw_auto(fd) int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	size_t len = strlen(value);
	ssize_t n = write(fd, value, len);
	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EIO;
}

int gw_mkdirs(const char *path, struct gw_err *e)
{
	char tmp[PATH_MAX];
	gw_path(tmp, sizeof(tmp), "%s", path);
	for (char *p = tmp + 1;; p++) {
		if (*p && *p != '/')
			continue;
		char c = *p;
		*p = 0;
		if (mkdir(tmp, 0700) < 0 && errno != EEXIST)
			return gw_fail(e, GW_SYS, errno, "make directory %s", tmp);
		*p = c;
		if (!c)
			return 0;
	}
}

static int remove_at(int parent, const char *name, dev_t dev)
{
	if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	int fd = openat(parent, name, O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	gw_auto(dir) DIR *d = fdopendir(fd);
	if (!d) {
		(void)close(fd);
		return -errno;
	}
	struct stat st;
	if (fstat(fd, &st) < 0 || (dev && st.st_dev != dev))
		return -EXDEV;
	for (struct dirent *de; (de = readdir(d));) {
		if (!strcmp(de->d_name, ".") || !strcmp(de->d_name, ".."))
			continue;
		int rc = remove_at(fd, de->d_name, st.st_dev);
		if (rc < 0)
			return rc;
	}
	return unlinkat(parent, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

int gw_remove_tree(const char *path, struct gw_err *e)
{
	int rc = remove_at(AT_FDCWD, path, 0);
	return rc < 0 ? gw_fail(e, GW_SYS, -rc, "remove %s", path) : 0;
}

enum { FDS_MAX = 8 };

int gw_send_fds(int sock, const void *buf, size_t len, const int *fds, unsigned nfds)
{
	assert(nfds <= FDS_MAX);
	union {
		char buf[CMSG_SPACE(sizeof(int) * FDS_MAX)];
		struct cmsghdr align;
	} c = {0};
	struct iovec io = {.iov_base = (void *)(uintptr_t)buf, .iov_len = len};
	struct msghdr mh = {.msg_iov = &io, .msg_iovlen = 1};
	if (nfds) {
		mh.msg_control = c.buf;
		mh.msg_controllen = CMSG_SPACE(sizeof(int) * nfds);
		struct cmsghdr *h = CMSG_FIRSTHDR(&mh);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(sizeof(int) * nfds);
		memcpy(CMSG_DATA(h), fds, sizeof(int) * nfds);
	}
	ssize_t n;
	do
		n = sendmsg(sock, &mh, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EIO;
}

ssize_t gw_recv_fds(int sock, void *buf, size_t len, int *out_fds, unsigned *inout_nfds)
{
	assert(*inout_nfds <= FDS_MAX);
	union {
		char buf[CMSG_SPACE(sizeof(int) * FDS_MAX)];
		struct cmsghdr align;
	} c;
	struct iovec io = {.iov_base = buf, .iov_len = len};
	struct msghdr mh = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = c.buf, .msg_controllen = sizeof(c.buf)};
	ssize_t n;
	do
		n = recvmsg(sock, &mh, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	unsigned got = 0, room = *inout_nfds;
	for (struct cmsghdr *h = CMSG_FIRSTHDR(&mh); h; h = CMSG_NXTHDR(&mh, h)) {
		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		unsigned k = (unsigned)((h->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		for (unsigned i = 0; i < k; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(h) + i * sizeof(int), sizeof(int));
			if (got < room)
				out_fds[got++] = fd;
			else
				(void)close(fd);
		}
	}
	*inout_nfds = got;
	return n;
}

static int unix_socket(const char *path, struct sockaddr_un *su, int *out_fd, struct gw_err *e)
{
	*su = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(su->sun_path))
		return gw_fail(e, GW_INPUT, ENAMETOOLONG, "socket path %s is longer than %zu bytes", path,
		               sizeof(su->sun_path) - 1);
	(void)snprintf(su->sun_path, sizeof(su->sun_path), "%s", path);
	*out_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return *out_fd < 0 ? gw_fail(e, GW_SYS, errno, "socket") : 0;
}

int gw_unix_listen(const char *path, int *out_fd, struct gw_err *e)
{
	struct sockaddr_un su;
	gw_auto(fd) int fd = -1;
	int rc = unix_socket(path, &su, &fd, e);
	if (rc < 0)
		return rc;
	(void)unlink(path);
	if (bind(fd, (struct sockaddr *)&su, sizeof(su)) < 0 || chmod(path, 0600) < 0 || listen(fd, 64) < 0)
		return gw_fail(e, GW_SYS, errno, "listen on %s", path);
	*out_fd = gw_take_fd(&fd);
	return 0;
}

int gw_unix_connect(const char *path, int *out_fd, struct gw_err *e)
{
	struct sockaddr_un su;
	gw_auto(fd) int fd = -1;
	int rc = unix_socket(path, &su, &fd, e);
	if (rc < 0)
		return rc;
	if (connect(fd, (struct sockaddr *)&su, sizeof(su)) < 0)
		return gw_fail(e, GW_SYS, errno, "connect to %s", path);
	*out_fd = gw_take_fd(&fd);
	return 0;
}

void gw_path(char *out, size_t size, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(out, size, fmt, ap);
	va_end(ap);
	assert(n >= 0 && (size_t)n < size);
}
