/* Echoes UDP and TCP on port 7200, IPv4 and IPv6: for clients outside. */
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "victim.h"

enum { PORT = 7200, CONNS = 64 };
static struct pollfd p[2 + CONNS];

static const char *check(void)
{
	return NULL;
}

static void udp(int fd)
{
	char buf[2048];
	struct sockaddr_in6 from;
	socklen_t len = sizeof from;
	ssize_t n = recvfrom(fd, buf, sizeof buf, MSG_DONTWAIT, (struct sockaddr *)&from, &len);
	if (n >= 0)
		(void)sendto(fd, buf, (size_t)n, MSG_DONTWAIT, (struct sockaddr *)&from, len);
}

static void tcp(struct pollfd *c)
{
	char buf[65536];
	ssize_t n = recv(c->fd, buf, sizeof buf, MSG_DONTWAIT);
	if (n > 0 && send(c->fd, buf, (size_t)n, MSG_NOSIGNAL) == n)
		return;
	(void)close(c->fd);
	c->fd = -1;
}

static void welcome(int fd)
{
	int s = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	for (int i = 2; s >= 0 && i < 2 + CONNS; i++) {
		if (p[i].fd < 0) {
			p[i] = (struct pollfd){.fd = s, .events = POLLIN};
			return;
		}
	}
	if (s >= 0)
		(void)close(s);
}

static void *work(void *arg)
{
	for (;;) {
		(void)poll(p, 2 + CONNS, -1);
		if (p[0].revents)
			udp(p[0].fd);
		if (p[1].revents)
			welcome(p[1].fd);
		for (int i = 2; i < 2 + CONNS; i++)
			if (p[i].fd >= 0 && p[i].revents)
				tcp(&p[i]);
	}
	return arg;
}

int main(void)
{
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons(PORT)};
	pthread_t t;
	for (int i = 0; i < 2 + CONNS; i++)
		p[i].fd = -1;
	for (int i = 0; i < 2; i++) {
		int off = 0;
		int s = socket(AF_INET6, i ? SOCK_STREAM : SOCK_DGRAM, 0);
		VICTIM_MUST(s >= 0 && setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) == 0);
		VICTIM_MUST(bind(s, (struct sockaddr *)&a, sizeof a) == 0 && (!i || listen(s, 16) == 0));
		p[i] = (struct pollfd){.fd = s, .events = POLLIN};
	}
	VICTIM_MUST(pthread_create(&t, NULL, work, NULL) == 0);
	victim_serve(check, NULL);
}
