/* tcpcopy: files over one plain TCP connection, as fast as read and write go.
 *
 *   tcpcopy recv PORT DIR        take files into DIR until the sender ends
 *   tcpcopy send HOST PORT FILE...
 *
 * The bench's measure of the link, and how its baseline carries images. The
 * format is the lab's own: per file a line "SIZE NAME", then the bytes. The
 * receiver prints the bytes when all are in the files, and tells the sender,
 * who waits for that: the time of `send` is the time of the whole copy. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/scope.h"

enum { CHUNK = 1 << 20, LINE_MAX_BYTES = 300 };

static int complain(const char *what)
{
	fprintf(stderr, "tcpcopy: %s: %s\n", what, strerror(errno));
	return 1;
}

static int copy(int from, int to, uint64_t len)
{
	static char buf[CHUNK];
	while (len) {
		ssize_t n = read(from, buf, len < CHUNK ? (size_t)len : CHUNK);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			if (n == 0)
				errno = ECONNRESET;
			return -1;
		}
		if (gw_write_full(to, buf, (size_t)n) < 0)
			return -1;
		len -= (uint64_t)n;
	}
	return 0;
}

/* One "SIZE NAME" line; 0 at the end of the files. */
static int header(int sock, uint64_t *size, char name[LINE_MAX_BYTES])
{
	char line[LINE_MAX_BYTES];
	size_t n = 0;
	for (;;) {
		if (n == sizeof line - 1 || gw_read_full(sock, line + n, 1) < 0)
			return -1;
		if (line[n] == '\n')
			break;
		n++;
	}
	line[n] = 0;
	if (n == 0)
		return 0;
	char *end;
	*size = strtoull(line, &end, 10);
	if (*end != ' ' || strchr(end, '/') || end[1] == '.') {
		errno = EPROTO;
		return -1;
	}
	(void)strcpy(name, end + 1);
	return 1;
}

static int receive(const char *port, const char *dir)
{
	gw_auto(fd) int ls = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int one = 1;
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)atoi(port))};
	if (ls < 0 || setsockopt(ls, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
	    bind(ls, (struct sockaddr *)&a, sizeof a) < 0 || listen(ls, 1) < 0)
		return complain("listen");
	gw_auto(fd) int s = accept4(ls, NULL, NULL, SOCK_CLOEXEC);
	if (s < 0)
		return complain("accept");
	uint64_t total = 0;
	uint64_t size;
	char name[LINE_MAX_BYTES];
	int rc;
	while ((rc = header(s, &size, name)) == 1) {
		char path[LINE_MAX_BYTES * 2];
		(void)snprintf(path, sizeof path, "%s/%s", dir, name);
		gw_auto(fd) int f = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		if (f < 0 || copy(s, f, size) < 0)
			return complain(path);
		total += size;
	}
	if (rc < 0 || gw_write_full(s, "k", 1) < 0)
		return complain("receive");
	printf("%" PRIu64 "\n", total);
	return 0;
}

static int dial(const char *host, const char *port)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
	struct addrinfo *a;
	if (getaddrinfo(host, port, &hints, &a) != 0) {
		errno = EINVAL;
		return -1;
	}
	int fd = -1;
	/* The receiver may still be on its way to listen(). */
	for (int i = 0; i < 100; i++) {
		fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd < 0 || connect(fd, a->ai_addr, a->ai_addrlen) == 0 || errno != ECONNREFUSED)
			break;
		(void)close(fd);
		fd = -1;
		(void)usleep(2000);
	}
	freeaddrinfo(a);
	return fd;
}

static int send_files(const char *host, const char *port, char **files)
{
	gw_auto(fd) int s = dial(host, port);
	if (s < 0)
		return complain(host);
	for (; *files; files++) {
		char line[LINE_MAX_BYTES];
		struct stat st;
		const char *base = strrchr(*files, '/');
		gw_auto(fd) int f = open(*files, O_RDONLY | O_CLOEXEC);
		if (f < 0 || fstat(f, &st) < 0)
			return complain(*files);
		if (!S_ISREG(st.st_mode))
			continue;
		int n = snprintf(line, sizeof line, "%lld %s\n", (long long)st.st_size, base ? base + 1 : *files);
		if (n >= (int)sizeof line || gw_write_full(s, line, (size_t)n) < 0 ||
		    copy(f, s, (uint64_t)st.st_size) < 0)
			return complain(*files);
	}
	char ack;
	if (gw_write_full(s, "\n", 1) < 0 || gw_read_full(s, &ack, 1) < 0)
		return complain("wait for the receiver");
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "recv") == 0)
		return receive(argv[2], argv[3]);
	if (argc >= 5 && strcmp(argv[1], "send") == 0)
		return send_files(argv[2], argv[3], argv + 4);
	fprintf(stderr, "usage: tcpcopy recv PORT DIR | tcpcopy send HOST PORT FILE...\n");
	return 2;
}
