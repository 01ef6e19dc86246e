/* What moving an address costs on this machine: `meson test --benchmark net`.
 * No test: it asserts nothing and prints medians and maxima. */
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/scope.h"
#include "flow.h"
#include "lab.h"
#include "net/hold.h"
#include "net/mover.h"

enum { RUNS = 20, ROUNDS = 5000, HELD_COUNT = 1000, BULK_BYTES = 512 << 20 };

static const struct gw_mover *const m = &gw_mover_routed;
static char made[300];
static struct gw_pod pod;
static struct gw_err e;

#define OK(call)                                                                                                       \
	do {                                                                                                           \
		if ((call) < 0) {                                                                                      \
			fprintf(stderr, "%s: %s\n", #call, e.text);                                                    \
			_exit(99);                                                                                     \
		}                                                                                                      \
	} while (0)

struct series {
	const char *name;
	uint32_t us10[ROUNDS]; /* tenths of a microsecond */
	size_t n;
};

static int by_value(const void *a, const void *b)
{
	uint32_t x, y;
	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return x < y ? -1 : x > y;
}

static void add(struct series *s, uint64_t ns)
{
	if (s->n < ROUNDS)
		s->us10[s->n++] = (uint32_t)(ns / 100);
}

static void print(struct series *s)
{
	if (!s->n)
		return;
	qsort(s->us10, s->n, sizeof(s->us10[0]), by_value);
	printf("%-58s %10.1f %10.1f %10.1f us  (%zu)\n", s->name, s->us10[s->n / 2] / 10.0,
	       s->us10[s->n * 99 / 100] / 10.0, s->us10[s->n - 1] / 10.0, s->n);
	s->n = 0;
}

#define TIMED(series, call)                                                                                            \
	do {                                                                                                           \
		uint64_t t_ = gw_now_ns();                                                                             \
		call;                                                                                                  \
		add(series, gw_now_ns() - t_);                                                                         \
	} while (0)

static void *echo(void *arg)
{
	int fd = *(int *)arg;
	char buf[64];
	struct sockaddr_storage from;
	for (;;) {
		socklen_t len = sizeof(from);
		ssize_t n = recvfrom(fd, buf, sizeof(buf), 0, (struct sockaddr *)&from, &len);
		if (n <= 0 || buf[0] == 'q')
			return NULL;
		(void)sendto(fd, buf, (size_t)n, 0, (struct sockaddr *)&from, len);
	}
}

static void round_trips(const char *name, const char *client)
{
	static struct series s;
	int server = lab_listen("pA", AF_INET, 9100, SOCK_DGRAM);
	gw_auto(fd) int fd = lab_socket(client, AF_INET, SOCK_DGRAM, 0);
	pthread_t t;
	socklen_t len;
	char buf[8] = "x";
	struct sockaddr *sa = lab_address(AF_INET, lab_pod_ip[0], 9100, &len);
	(void)pthread_create(&t, NULL, echo, &server);
	OK(connect(fd, sa, len));
	for (int i = 0; i < ROUNDS; i++)
		TIMED(&s, {
			(void)send(fd, buf, 1, 0);
			(void)recv(fd, buf, sizeof(buf), 0);
		});
	(void)send(fd, "q", 1, 0);
	(void)pthread_join(t, NULL);
	(void)close(server);
	s.name = name;
	print(&s);
}

static void *pour(void *arg)
{
	static char buf[1 << 17];
	int fd = *(int *)arg;
	for (size_t left = BULK_BYTES; left;) {
		ssize_t n = send(fd, buf, left < sizeof(buf) ? left : sizeof(buf), MSG_NOSIGNAL);
		if (n <= 0)
			break;
		left -= (size_t)n;
	}
	(void)shutdown(fd, SHUT_WR);
	return NULL;
}

static void bulk(const char *name)
{
	static char buf[1 << 17];
	gw_auto(fd) int a = lab_listen("pA", AF_INET, 7100, SOCK_STREAM);
	gw_auto(fd) int fd = lab_socket("hC", AF_INET, SOCK_STREAM, 0);
	socklen_t len;
	struct sockaddr *sa = lab_address(AF_INET, lab_pod_ip[0], 7100, &len);
	pthread_t t;
	OK(connect(fd, sa, len));
	gw_auto(fd) int conn = accept(a, NULL, NULL);
	uint64_t start = gw_now_us();
	(void)pthread_create(&t, NULL, pour, &fd);
	while (recv(conn, buf, sizeof(buf), 0) > 0)
		;
	start = gw_now_us() - start;
	(void)pthread_join(t, NULL);
	printf("%-58s %10.0f MiB/s\n", name, (double)(BULK_BYTES >> 20) * 1e6 / (double)start);
}

static atomic_bool burn_end;

static void *burn(void *arg)
{
	volatile unsigned n = 0;
	(void)arg;
	while (!atomic_load(&burn_end))
		n++;
	return NULL;
}

static void cost_of_a_hold(void)
{
	static struct series made_in = {.name = "gw_hold_new"}, freed = {.name = "gw_hold_free"};
	struct gw_hold *h;
	lab_enter("hA");
	for (int i = 0; i < RUNS; i++) {
		TIMED(&made_in, OK(gw_hold_new("c1", &pod, &h, &e)));
		TIMED(&freed, gw_hold_free(h));
	}
	printf("  (the first one also makes the table: %.1f us)\n", made_in.us10[0] / 10.0);
	print(&made_in);
	print(&freed);
	round_trips("round trip third host - pod, no hold", "hC");
	OK(gw_hold_new("c1", &pod, &h, &e));
	round_trips("round trip third host - pod, open hold (both ways)", "hC");
	gw_hold_free(h);
	round_trips("round trip source host - pod, no hold", "hA");
	OK(gw_hold_new("c1", &pod, &h, &e));
	round_trips("round trip source host - pod, open hold (both ways)", "hA");
	pthread_t t[2];
	for (int i = 0; i < 2; i++)
		(void)pthread_create(&t[i], NULL, burn, NULL);
	round_trips("  the same, two threads burn both cores", "hA");
	atomic_store(&burn_end, true);
	for (int i = 0; i < 2; i++)
		(void)pthread_join(t[i], NULL);
	bulk("one TCP connection through an open hold");
	gw_hold_free(h);
	bulk("one TCP connection, no hold");
}

static void cost_of_a_move(void)
{
	static struct series in = {.name = "gw_pod_inspect"}, prep = {.name = "prepare"}, ready = {.name = "ready"},
	                     shut = {.name = "gw_hold_shut, under traffic"}, act = {.name = "activate (IPv4 and IPv6)"},
	                     turn = {.name = "turn (IPv4 and IPv6)"},
	                     rel = {.name = "gw_hold_release_moved, 1,000 packets held"},
	                     back = {.name = "turn_back (IPv4 and IPv6)"},
	                     away = {.name = "discard of the destination"},
	                     all = {.name = "activate + turn + release of 1,000"};
	gw_auto(fd) int a = lab_listen("pA", AF_INET, 9001, SOCK_DGRAM);
	uint32_t seen, lost = 0;
	for (int i = 0; i < RUNS; i++) {
		struct gw_hold *h;
		lab_enter("hA");
		TIMED(&in, OK(gw_pod_inspect("/run/netns/pA", &pod, &e)));
		lab_enter("hB");
		TIMED(&prep, OK(m->prepare("c1", &pod, made, sizeof(made), &e)));
		gw_auto(fd) int b = lab_listen(made, AF_INET, 9001, SOCK_DGRAM);
		lab_enter("hA");
		TIMED(&ready, OK(m->ready("c1", &pod, LAB_VIA_B, &e)));
		OK(gw_hold_new("c1", &pod, &h, &e));
		struct udp_flow f = {.family = AF_INET, .ns = "hC", .port = 9001, .count = HELD_COUNT};
		TIMED(&shut, gw_hold_shut(h));
		udp_flow_start(&f);
		udp_flow_end(&f);
		struct gw_hold_stats st = {0};
		while (st.held < HELD_COUNT)
			gw_hold_stats(h, &st);
		gw_sleep_us(10000);
		uint64_t t = gw_now_ns();
		lab_enter("hB");
		TIMED(&act, OK(m->activate("c1", &pod, &e)));
		lab_enter("hA");
		TIMED(&turn, OK(m->turn("c1", &pod, LAB_VIA_B, &e)));
		TIMED(&rel, gw_hold_release_moved(h));
		add(&all, gw_now_ns() - t);
		uint32_t n = 0;
		udp_collect(b, &seen, 1, &n, 50);
		lost += HELD_COUNT - n;
		TIMED(&back, OK(m->turn_back("c1", &pod, &e)));
		gw_hold_free(h);
		lab_enter("hB");
		TIMED(&away, OK(m->discard("c1", &pod, NULL, &e)));
		lab_sh("ip -n hB route replace 10.88.0.5 via 10.9.0.2 && ip -n hB -6 route replace fd88::5 via "
		       "fd09::2");
	}
	struct series *const s[] = {&in, &prep, &ready, &shut, &act, &turn, &rel, &all, &back, &away};
	for (size_t i = 0; i < gw_countof(s); i++)
		print(s[i]);
	printf("%u of %d held packets lost\n", lost, RUNS * HELD_COUNT);
}

static int measure(void)
{
	lab_up();
	lab_pod("hA", "pA");
	lab_enter("hA");
	OK(gw_pod_inspect("/run/netns/pA", &pod, &e));
	printf("%-58s %10s %10s %10s\n", "", "p50", "p99", "max");
	cost_of_a_move();
	cost_of_a_hold();
	lab_down();
	return 0;
}

int main(void)
{
	return lab_run(measure);
}
