#include "flow.h"

#include <errno.h>
#include <linux/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "lab.h"

static void *udp_send(void *arg)
{
	struct udp_flow *f = arg;
	int fd = socket(f->family, SOCK_DGRAM | SOCK_CLOEXEC, 0), big = 8 << 20;
	socklen_t len;
	struct sockaddr *sa = lab_address(f->family, f->ip ? f->ip : lab_pod_ip[f->family == AF_INET6], f->port, &len);
	char buf[9000] = {0};
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &big, sizeof(big)) < 0 || connect(fd, sa, len) < 0) {
		perror("udp client");
		_exit(99);
	}
	for (uint32_t i = 0; !atomic_load(&f->end) && (!f->count || i < f->count); i++) {
		memcpy(buf, &i, sizeof(i));
		if (send(fd, buf, f->size ? f->size : sizeof(i), 0) < 0) {
			atomic_fetch_add(&f->refused, 1);
			fprintf(stderr, "udp client: %s\n", strerror(errno));
		}
		atomic_store(&f->sent, i + 1);
		if (f->pace_us)
			gw_sleep_us(f->pace_us);
	}
	(void)close(fd);
	return NULL;
}

void udp_flow_start(struct udp_flow *f)
{
	f->thread = lab_thread(f->ns, udp_send, f);
}

void udp_flow_end(struct udp_flow *f)
{
	if (!f->count)
		atomic_store(&f->end, true);
	(void)pthread_join(f->thread, NULL);
}

void udp_collect(int fd, uint32_t *seen, uint32_t max, uint32_t *n, int wait_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char buf[9000];
	while (poll(&p, 1, wait_ms) > 0) {
		ssize_t got = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
		if (got < (ssize_t)sizeof(uint32_t))
			continue;
		if (*n < max)
			memcpy(&seen[*n], buf, sizeof(uint32_t));
		(*n)++;
	}
}

/* All of it or the errno. */
static int exchange(int fd, uint32_t i)
{
	uint32_t got = 0;
	if (send(fd, &i, sizeof(i), MSG_NOSIGNAL) != sizeof(i))
		return errno;
	ssize_t n = recv(fd, &got, sizeof(got), MSG_WAITALL);
	if (n != sizeof(got))
		return n < 0 ? errno : ECONNRESET;
	return got == i + 1 ? 0 : EBADMSG;
}

static void *tcp_talk(void *arg)
{
	struct tcp_flow *f = arg;
	int fd = socket(f->family, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
	socklen_t len;
	struct sockaddr *sa = lab_address(f->family, f->ip ? f->ip : lab_pod_ip[f->family == AF_INET6], f->port, &len);
	struct timeval patience = {.tv_sec = 10};
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (fd < 0 || connect(fd, sa, len) < 0)
		f->error = errno;
	for (uint32_t i = 0; !f->error && !atomic_load(&f->end); i++) {
		uint64_t t = gw_now_us();
		f->error = exchange(fd, i);
		t = gw_now_us() - t;
		if (t > f->longest_us)
			f->longest_us = t;
		if (!f->error)
			atomic_store(&f->rounds, i + 1);
		gw_sleep_us(500);
	}
	struct tcp_info info = {0};
	len = sizeof(info);
	(void)getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len);
	f->retransmits = info.tcpi_total_retrans;
	(void)close(fd);
	return NULL;
}

void tcp_flow_start(struct tcp_flow *f)
{
	f->thread = lab_thread(f->ns, tcp_talk, f);
}

void tcp_flow_end(struct tcp_flow *f)
{
	atomic_store(&f->end, true);
	(void)pthread_join(f->thread, NULL);
}

int tcp_serve(int fd, int ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	uint64_t end = gw_now_us() + (uint64_t)ms * 1000;
	while (gw_now_us() < end) {
		uint32_t i;
		if (poll(&p, 1, 1) <= 0)
			continue;
		if (recv(fd, &i, sizeof(i), MSG_WAITALL) != sizeof(i))
			return -1;
		i++;
		if (send(fd, &i, sizeof(i), MSG_NOSIGNAL) != sizeof(i))
			return -1;
	}
	return 0;
}

enum { PATIENCE_MS = 15000 };

int tcp_serve_until(int fd, const struct tcp_flow *f, unsigned rounds)
{
	uint64_t end = gw_now_ms() + PATIENCE_MS;
	while (atomic_load(&f->rounds) < rounds)
		if (gw_now_ms() > end || tcp_serve(fd, 1) < 0)
			return -1;
	return 0;
}

void udp_flow_wait(const struct udp_flow *f, unsigned sent)
{
	uint64_t end = gw_now_ms() + PATIENCE_MS;
	while (atomic_load(&f->sent) < sent) {
		if (gw_now_ms() > end) {
			fprintf(stderr, "a client sends nothing\n");
			_exit(99);
		}
		gw_sleep_us(500);
	}
}
