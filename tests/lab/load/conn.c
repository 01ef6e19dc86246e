#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/io.h"
#include "base/scope.h"
#include "load.h"

int load_connect(struct load *l, struct gw_err *e)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
	struct addrinfo *a;
	int rc = getaddrinfo(l->o.host, l->o.port, &hints, &a);
	if (rc != 0)
		return gw_fail(e, GW_INPUT, EINVAL, "%s port %s is no address: %s", l->o.host, l->o.port,
		               gai_strerror(rc));
	gw_auto(fd) int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	rc = fd < 0 ? -1 : connect(fd, a->ai_addr, a->ai_addrlen);
	int err = errno;
	freeaddrinfo(a);
	if (rc < 0)
		return gw_fail(e, GW_SYS, err, "connect to %s port %s", l->o.host, l->o.port);
	int one = 1;
	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) < 0)
		return gw_fail(e, GW_SYS, errno, "set TCP_NODELAY");
	l->fd = gw_take_fd(&fd);
	l->port = load_local_port(l);
	return 0;
}

uint16_t load_local_port(const struct load *l)
{
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} a;
	socklen_t len = sizeof a;
	if (getsockname(l->fd, &a.sa, &len) < 0)
		return 0;
	return ntohs(a.sa.sa_family == AF_INET6 ? a.in6.sin6_port : a.in.sin_port);
}

/* NAME's value out of /proc/net/netstat, where a line of names precedes one of values. */
static uint64_t netstat(const char *text, const char *name)
{
	const char *names = strstr(text, "TcpExt: ");
	const char *values = names ? strstr(names + 1, "TcpExt: ") : NULL;
	size_t len = strlen(name);
	while (names && values) {
		names = strpbrk(names, " \n");
		values = strpbrk(values, " \n");
		if (!names || !values || *names == '\n')
			return 0;
		names++;
		values++;
		if (strncmp(names, name, len) == 0 && (names[len] == ' ' || names[len] == '\n'))
			return strtoull(values, NULL, 10);
	}
	return 0;
}

struct load_tcp load_tcp_now(const struct load *l)
{
	struct tcp_info i = {0};
	socklen_t len = sizeof i;
	struct load_tcp t = {0};
	gw_auto(mem) char *text = NULL;
	if (getsockopt(l->fd, IPPROTO_TCP, TCP_INFO, &i, &len) == 0)
		t.retransmits = i.tcpi_total_retrans;
	if (gw_read_file("/proc/net/netstat", 1 << 20, &text, NULL, NULL) == 0) {
		t.probes = netstat(text, "TCPLossProbes");
		t.timeouts = netstat(text, "TCPTimeouts");
	}
	return t;
}

/* Room for `more` bytes at the end. */
static void grow(struct load_bytes *b, size_t more)
{
	if (b->from == b->to)
		b->from = b->to = 0;
	if (b->to + more <= b->size)
		return;
	memmove(b->at, b->at + b->from, b->to - b->from);
	b->to -= b->from;
	b->from = 0;
	if (b->to + more <= b->size)
		return;
	b->size = (b->to + more) * 2;
	b->at = realloc(b->at, b->size);
	if (!b->at)
		abort();
}

void load_put(struct load *l, const void *data, size_t len)
{
	grow(&l->out, len);
	memcpy(l->out.at + l->out.to, data, len);
	l->out.to += len;
}

void load_put_request(struct load *l, const struct load_request *r)
{
	char head[192];
	char key[80];
	static uint8_t value[LOAD_VALUE_MAX + 2];
	int n;
	int k = snprintf(key, sizeof key, "%s:%u", l->o.prefix, r->key);
	switch (r->kind) {
	case LOAD_PING: load_put(l, "*1\r\n$4\r\nPING\r\n", 14); return;
	case LOAD_GET:
		n = snprintf(head, sizeof head, "*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n", k, key);
		load_put(l, head, (size_t)n);
		return;
	case LOAD_SET:
		n = snprintf(head, sizeof head, "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%u\r\n", k, key, l->o.value);
		load_put(l, head, (size_t)n);
		load_value_fill(value, l->o.value, r->key, r->version);
		memcpy(value + l->o.value, "\r\n", 2);
		load_put(l, value, l->o.value + 2);
		return;
	}
}

int load_flush(struct load *l, struct gw_err *e)
{
	while (l->out.from < l->out.to) {
		ssize_t n = send(l->fd, l->out.at + l->out.from, l->out.to - l->out.from, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return gw_fail(e, GW_PEER, errno, "the connection is lost: send");
		l->out.from += (size_t)n;
	}
	return 0;
}

int load_receive(struct load *l, struct gw_err *e)
{
	for (;;) {
		grow(&l->in, 65536);
		ssize_t n = recv(l->fd, l->in.at + l->in.to, l->in.size - l->in.to, MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return gw_fail(e, GW_PEER, errno, "the connection is lost: receive");
		if (n == 0)
			return gw_fail(e, GW_PEER, ECONNRESET, "the connection is lost: the server closed it");
		l->in.to += (size_t)n;
	}
}

int load_next_answer(struct load *l, char *out_type, const uint8_t **out_text, size_t *out_len, struct gw_err *e)
{
	const uint8_t *p = l->in.at + l->in.from;
	size_t have = l->in.to - l->in.from;
	const uint8_t *eol = have ? memmem(p, have, "\r\n", 2) : NULL;
	if (!eol)
		return 0;
	size_t line = (size_t)(eol - p);
	size_t whole = line + 2;
	if (p[0] == '-')
		return gw_fail(e, GW_PEER, EPROTO, "redis answers %.*s", (int)(line < 100 ? line : 100),
		               (const char *)p);
	*out_text = p + 1;
	*out_len = line - 1;
	if (p[0] == '$' && p[1] != '-') {
		size_t len = strtoul((const char *)p + 1, NULL, 10);
		if (len > LOAD_VALUE_MAX)
			return gw_fail(e, GW_PEER, EPROTO, "redis sends a value of %zu bytes, none is that long", len);
		if (have < whole + len + 2)
			return 0;
		*out_text = p + whole;
		*out_len = len;
		whole += len + 2;
	} else if (p[0] == '$') {
		*out_len = 0;
	} else if (p[0] != '+' && p[0] != '*') {
		return gw_fail(e, GW_PEER, EPROTO, "redis sends a byte 0x%02x where an answer begins", p[0]);
	}
	*out_type = (char)p[0];
	l->in.from += whole;
	return 1;
}
