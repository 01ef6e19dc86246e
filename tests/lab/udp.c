/* lab-udp HOST PORT RATE SECONDS: datagrams to an echo, each one accounted for.
 *
 * One socket, RATE datagrams a second with a number and a pattern in them; the
 * echo must send each back. Prints one JSON object: sent, received, lost,
 * wrong, twice, reordered, longest wait. Exit code 1 when one is lost or wrong. */
#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/scope.h"

enum { BYTES = 512, COUNT_MAX = 10000000, LINGER_MS = 3000 };

struct run {
	int fd;
	uint64_t *sent_us; /* by number; 0: answered */
	uint64_t sent, received, wrong, twice, reordered, newest, wait_us_max, wait_sent_us;
};

static void fill(uint64_t *d, uint64_t n)
{
	for (size_t i = 0; i < BYTES / 8; i++)
		d[i] = n * 0x9e3779b97f4a7c15u + i;
	d[0] = n;
}

static void take(struct run *r)
{
	uint64_t got[BYTES / 8 + 1];
	uint64_t want[BYTES / 8];
	ssize_t n;
	while ((n = recv(r->fd, got, sizeof got, MSG_DONTWAIT)) > 0) {
		uint64_t now = gw_now_us();
		uint64_t no = got[0];
		fill(want, no);
		if (n != BYTES || no >= r->sent || memcmp(got, want, BYTES) != 0) {
			r->wrong++;
			continue;
		}
		if (!r->sent_us[no]) {
			r->twice++;
			continue;
		}
		if (now - r->sent_us[no] > r->wait_us_max) {
			r->wait_us_max = now - r->sent_us[no];
			r->wait_sent_us = r->sent_us[no];
		}
		r->reordered += no < r->newest;
		r->newest = no > r->newest ? no : r->newest;
		r->sent_us[no] = 0;
		r->received++;
	}
}

static void wait_until(struct run *r, uint64_t when_ns)
{
	for (uint64_t now = gw_now_ns(); now < when_ns; now = gw_now_ns()) {
		struct pollfd p = {.fd = r->fd, .events = POLLIN};
		uint64_t left = when_ns - now;
		struct timespec t = {.tv_sec = (time_t)(left / 1000000000u), .tv_nsec = (long)(left % 1000000000u)};
		if (ppoll(&p, 1, &t, NULL) > 0)
			take(r);
	}
}

static int dial(const char *host, const char *port)
{
	struct addrinfo hints = {.ai_socktype = SOCK_DGRAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
	struct addrinfo *a;
	if (getaddrinfo(host, port, &hints, &a) != 0) {
		errno = EINVAL;
		return -1;
	}
	gw_auto(fd) int fd = socket(a->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int rc = fd < 0 ? -1 : connect(fd, a->ai_addr, a->ai_addrlen);
	freeaddrinfo(a);
	return rc < 0 ? -1 : gw_take_fd(&fd);
}

int main(int argc, char **argv)
{
	struct run r = {0};
	uint64_t rate = argc == 5 ? strtoull(argv[3], NULL, 10) : 0;
	uint64_t count = argc == 5 ? rate * strtoull(argv[4], NULL, 10) : 0;
	if (!rate || rate > 1000000 || !count || count > COUNT_MAX) {
		fprintf(stderr, "usage: lab-udp HOST PORT RATE SECONDS\n");
		return 2;
	}
	(void)prctl(PR_SET_TIMERSLACK, 1);
	r.fd = dial(argv[1], argv[2]);
	r.sent_us = calloc(count, sizeof *r.sent_us);
	if (r.fd < 0 || !r.sent_us) {
		fprintf(stderr, "lab-udp: %s port %s: %s\n", argv[1], argv[2], strerror(errno));
		return 1;
	}
	uint64_t start = gw_now_ns();
	for (uint64_t n = 0; n < count; n++) {
		uint64_t d[BYTES / 8];
		wait_until(&r, start + n * 1000000000u / rate);
		fill(d, n);
		r.sent_us[n] = gw_now_us();
		r.sent = n + 1;
		if (send(r.fd, d, sizeof d, 0) < 0 && errno != ECONNREFUSED)
			fprintf(stderr, "lab-udp: send: %s\n", strerror(errno));
	}
	for (int i = 0; i < LINGER_MS / 100 && r.received < r.sent; i++)
		wait_until(&r, gw_now_ns() + 100000000u);
	printf("{\"event\":\"end\",\"sent\":%" PRIu64 ",\"received\":%" PRIu64 ",\"lost\":%" PRIu64
	       ",\"wrong\":%" PRIu64 ",\"twice\":%" PRIu64 ",\"reordered\":%" PRIu64 ",\"wait_max_us\":%" PRIu64
	       ",\"wait_sent_us\":%" PRIu64 "}\n",
	       r.sent, r.received, r.sent - r.received, r.wrong, r.twice, r.reordered, r.wait_us_max, r.wait_sent_us);
	return r.sent == r.received && !r.wrong ? 0 : 1;
}
