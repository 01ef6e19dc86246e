#include "wire/dial.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/scope.h"

/* A cut link is noticed within half a minute in every state: idle (keep
 * alive probes), unacknowledged data, or a reader that stopped reading. */
enum { KEEP_IDLE_S = 10, KEEP_STEP_S = 5, KEEP_TRIES = 4, STUCK_MS = 30000, HASTY_MS = 5000, HASTY_STEP_S = 1 };

static void end_addrinfo(struct addrinfo **a)
{
	if (*a)
		freeaddrinfo(*a);
}

int gw_wait_fd(int fd, short events, int wake_fd, uint64_t deadline_ns)
{
	struct pollfd p[2] = {{.fd = fd, .events = events}, {.fd = wake_fd, .events = POLLIN}};
	for (;;) {
		int timeout_ms = -1;
		if (deadline_ns != UINT64_MAX) {
			uint64_t now = gw_now_ns();
			uint64_t left_ms = now >= deadline_ns ? 0 : (deadline_ns - now + 999999u) / 1000000u;
			timeout_ms = left_ms > 3600000u ? 3600000 : (int)left_ms;
		}
		int n = poll(p, wake_fd >= 0 ? 2 : 1, timeout_ms);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0 && wake_fd >= 0 && p[1].revents)
			return -ECANCELED;
		if (n > 0)
			return 0;
		if (n == 0 && gw_now_ns() >= deadline_ns)
			return -ETIMEDOUT;
	}
}

int gw_tcp_tune(int fd)
{
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	const struct {
		int level, name, value;
	} set[] = {
	        {IPPROTO_TCP, TCP_NODELAY, 1},
	        {SOL_SOCKET, SO_KEEPALIVE, 1},
	        {IPPROTO_TCP, TCP_KEEPIDLE, KEEP_IDLE_S},
	        {IPPROTO_TCP, TCP_KEEPINTVL, KEEP_STEP_S},
	        {IPPROTO_TCP, TCP_KEEPCNT, KEEP_TRIES},
	        {IPPROTO_TCP, TCP_USER_TIMEOUT, STUCK_MS},
	};
	int proto = 0;
	socklen_t len = sizeof(proto);
	if (getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &proto, &len) < 0)
		return -errno;
	if (proto != IPPROTO_TCP)
		return 0;
	for (size_t i = 0; i < gw_countof(set); i++)
		if (setsockopt(fd, set[i].level, set[i].name, &set[i].value, sizeof(int)) < 0)
			return -errno;
	return 0;
}

void gw_tcp_hasten(int fd)
{
	/* With a user timeout, that one ends the keepalive probes. */
	const struct {
		int name, value;
	} set[] = {{TCP_USER_TIMEOUT, HASTY_MS}, {TCP_KEEPIDLE, HASTY_STEP_S}, {TCP_KEEPINTVL, HASTY_STEP_S}};
	for (size_t i = 0; i < gw_countof(set); i++)
		(void)setsockopt(fd, IPPROTO_TCP, set[i].name, &set[i].value, sizeof(int));
}

static int connect_one(const struct addrinfo *a, uint64_t deadline_ns, int *out_fd)
{
	gw_auto(fd) int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
	if (fd < 0)
		return -errno;
	if (connect(fd, a->ai_addr, a->ai_addrlen) < 0) {
		if (errno != EINPROGRESS)
			return -errno;
		int rc = gw_wait_fd(fd, POLLOUT, -1, deadline_ns);
		if (rc < 0)
			return rc;
		int err = 0;
		socklen_t len = sizeof(err);
		if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
			return -errno;
		if (err)
			return -err;
	}
	*out_fd = gw_take_fd(&fd);
	return 0;
}

int gw_tcp_connect(const char *host, uint16_t port, uint64_t deadline_ns, int *out_fd, struct gw_err *e)
{
	char service[8];
	(void)snprintf(service, sizeof(service), "%u", port);
	__attribute__((cleanup(end_addrinfo))) struct addrinfo *list = NULL;
	const struct addrinfo want = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | AI_ADDRCONFIG};
	const struct addrinfo literal = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | AI_NUMERICHOST};
	/* A literal address first: no resolver, and no AI_ADDRCONFIG, which
	 * hides ::1 on a host that has no other IPv6 address. */
	int rc = getaddrinfo(host, service, &literal, &list);
	if (rc)
		rc = getaddrinfo(host, service, &want, &list);
	if (rc)
		return gw_fail(e, GW_INPUT, EHOSTUNREACH, "host %s cannot be resolved: %s", host, gai_strerror(rc));
	rc = -EHOSTUNREACH;
	for (const struct addrinfo *a = list; a; a = a->ai_next) {
		rc = connect_one(a, deadline_ns, out_fd);
		if (rc == 0)
			return 0;
	}
	return gw_fail(e, GW_PEER, -rc, "connect to %s port %u: %s%s", host, port, strerrordesc_np(-rc) ?: "failed",
	               rc == -ECONNREFUSED ? " (is godwitd running there?)" : "");
}

void gw_tcp_where(int fd, char *out, size_t size)
{
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} a = {0};
	socklen_t len = sizeof(a);
	char ip[INET6_ADDRSTRLEN];
	(void)snprintf(out, size, "local");
	if (getpeername(fd, &a.any, &len) < 0)
		return;
	if (a.any.sa_family == AF_INET && inet_ntop(AF_INET, &a.v4.sin_addr, ip, sizeof(ip)))
		(void)snprintf(out, size, "%s:%u", ip, ntohs(a.v4.sin_port));
	else if (a.any.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&a.v6.sin6_addr) &&
	         inet_ntop(AF_INET, &a.v6.sin6_addr.s6_addr[12], ip, sizeof(ip)))
		(void)snprintf(out, size, "%s:%u", ip, ntohs(a.v6.sin6_port));
	else if (a.any.sa_family == AF_INET6 && inet_ntop(AF_INET6, &a.v6.sin6_addr, ip, sizeof(ip)))
		(void)snprintf(out, size, "[%s]:%u", ip, ntohs(a.v6.sin6_port));
}
