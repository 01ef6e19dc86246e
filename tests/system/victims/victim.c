#include "victim.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { TICK_MS = 10, ASK_TIMEOUT_S = 2 };

const char *victim_bad(const char *fmt, ...)
{
	static char text[400];
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	return text;
}

static int listen_socket(void)
{
	int one = 1;
	int off = 0;
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons(VICTIM_PORT)};
	int s = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s < 0 || setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
	    setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) < 0 ||
	    bind(s, (struct sockaddr *)&a, sizeof a) < 0 || listen(s, 8) < 0)
		exit(99);
	return s;
}

static void answer(int c, victim_check check, const char *broken)
{
	char ask[32] = "";
	char text[500];
	struct timeval limit = {.tv_sec = ASK_TIMEOUT_S};
	(void)setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	ssize_t n = recv(c, ask, sizeof ask - 1, 0);
	if (n <= 0)
		return;
	const char *bad = broken ? broken : strncmp(ask, "check", 5) == 0 ? check() : NULL;
	if (bad)
		(void)snprintf(text, sizeof text, "bad: %s\n", bad);
	else
		(void)snprintf(text, sizeof text, "%s\n", strncmp(ask, "check", 5) == 0 ? "ok" : "ready");
	(void)send(c, text, strlen(text), MSG_NOSIGNAL);
}

[[noreturn]]
static void serve(victim_check check, victim_tick tick, const char *broken)
{
	struct pollfd p = {.fd = listen_socket(), .events = POLLIN};
	for (;;) {
		if (poll(&p, 1, tick ? TICK_MS : -1) > 0) {
			int c = accept4(p.fd, NULL, NULL, SOCK_CLOEXEC);
			if (c >= 0) {
				answer(c, check, broken);
				(void)close(c);
			}
		}
		if (tick)
			tick();
	}
}

void victim_serve(victim_check check, victim_tick tick)
{
	serve(check, tick, NULL);
}

void victim_broken(const char *what, const char *file, int line)
{
	serve(NULL, NULL, victim_bad("set-up failed at %s:%d: %s: %s", file, line, what, strerror(errno)));
}

uint64_t victim_random(uint64_t *s)
{
	uint64_t z = (*s += 0x9e3779b97f4a7c15u);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

void victim_fill(void *page, size_t len, uint64_t seed)
{
	uint64_t *p = page;
	for (size_t i = 0; i < len / 8; i++)
		p[i] = victim_random(&seed);
}

bool victim_filled(const void *page, size_t len, uint64_t seed)
{
	const uint64_t *p = page;
	for (size_t i = 0; i < len / 8; i++)
		if (p[i] != victim_random(&seed))
			return false;
	return true;
}

void victim_sleep_ms(unsigned ms)
{
	struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
	while (nanosleep(&t, &t) < 0 && errno == EINTR)
		;
}

uint64_t victim_now_ms(void)
{
	struct timespec t;
	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}
