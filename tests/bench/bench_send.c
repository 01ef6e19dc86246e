/* bench_send: how fast memory travels over loopback, against a plain TCP copy.
 *
 *   bench_send [--mib N] [--rounds N] [--conns N] [--zstd] [--zero PERCENT] [--warm]
 *
 * The plain copy: one connection, 1 MiB write(2) from memory, 1 MiB read(2)
 * and pwrite(2) into a memfd. Ours: the memory of another process, sender,
 * mutual TLS, receiver, page store. Each receiver is a process of its own.
 * The two alternate; the table shows medians. --warm: the destination's pages
 * exist before the clock starts. Without it, both mostly measure how fast the
 * kernel (and below it, the hypervisor) hands out new pages. */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/scope.h"
#include "mem/store.h"
#include "move/recv.h"
#include "move/send.h"
#include "pki.h"

enum { CONNS_MAX = 8, ROUNDS_MAX = 50, CHUNK = 1 << 20 };

static struct {
	size_t bytes;
	unsigned rounds, conns, zero_percent;
	bool zstd, warm;
} opt = {.bytes = 1024u << 20, .rounds = 5, .conns = 4};

/* Written by the receiver: processor time before the clock starts. */
struct cpu {
	double user, sys;
};
static struct cpu *cpu_before;

[[noreturn]] static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void fill(uint8_t *p, size_t n)
{
	uint64_t x = 88172645463325252u;
	for (size_t i = 0; i < n; i += 8) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		if (i / 4096 % 100 < opt.zero_percent)
			continue;
		memcpy(p + i, &x, 8);
	}
}

static int dial_plain(uint16_t port)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in a = {
	        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		die("connect");
	return fd;
}

static struct cpu cpu_of(const struct rusage *r)
{
	return (struct cpu){(double)r->ru_utime.tv_sec + (double)r->ru_utime.tv_usec / 1e6,
	                    (double)r->ru_stime.tv_sec + (double)r->ru_stime.tv_usec / 1e6};
}

static struct cpu since(struct cpu now, struct cpu then)
{
	return (struct cpu){now.user - then.user, now.sys - then.sys};
}

static struct cpu cpu_self(void)
{
	struct rusage r;
	(void)getrusage(RUSAGE_SELF, &r);
	return cpu_of(&r);
}

static struct cpu reap(pid_t pid)
{
	int status;
	struct rusage r;
	if (wait4(pid, &status, 0, &r) < 0 || status != 0)
		die("receiver");
	return since(cpu_of(&r), *cpu_before);
}

struct result {
	double mib_s;
	struct cpu send, recv;
	double wire_ratio;
};

/* ---- the plain copy ---- */

[[noreturn]] static void plain_receiver(int listen_fd)
{
	int fd = accept(listen_fd, NULL, NULL);
	int mem = memfd_create("copy", MFD_CLOEXEC);
	uint8_t *buf = malloc(CHUNK);
	if (fd < 0 || mem < 0 || !buf)
		die("receive");
	size_t at = 0;
	for (size_t w = 0; opt.warm && w < opt.bytes; w += CHUNK)
		if (pwrite(mem, buf, CHUNK, (off_t)w) != CHUNK)
			die("warm");
	*cpu_before = cpu_self();
	if (write(fd, "r", 1) != 1)
		die("receive");
	while (at < opt.bytes) {
		ssize_t n = read(fd, buf, CHUNK);
		if (n <= 0 || pwrite(mem, buf, (size_t)n, (off_t)at) != n)
			die("receive");
		at += (size_t)n;
	}
	if (write(fd, "k", 1) != 1)
		die("receive");
	_exit(0);
}

static struct result run_plain(const uint8_t *mem)
{
	uint16_t port;
	int listen_fd = pki_listen(&port);
	pid_t child = fork();
	if (child == 0)
		plain_receiver(listen_fd);
	int fd = dial_plain(port);
	char k;
	if (read(fd, &k, 1) != 1)
		die("send");
	struct cpu cpu = cpu_self();
	uint64_t start = gw_now_us();
	for (size_t at = 0; at < opt.bytes; at += CHUNK)
		if (gw_write_full(fd, mem + at, CHUNK) < 0)
			die("send");
	if (read(fd, &k, 1) != 1)
		die("send");
	uint64_t us = gw_now_us() - start;
	cpu = since(cpu_self(), cpu);
	(void)close(fd);
	(void)close(listen_fd);
	return (struct result){(double)opt.bytes / 1048576 / ((double)us / 1e6), cpu, reap(child), 1};
}

/* ---- ours ---- */

struct receiving {
	struct gw_conn *c;
	struct gw_store *st;
	struct gw_recv_counters n;
};

static void *recv_main(void *arg)
{
	struct receiving *r = arg;
	struct gw_err e = {0};
	(void)pthread_setname_np(pthread_self(), "gw-recv");
	if (gw_recv_data(r->c, r->st, &r->n, &e) < 0) {
		(void)fprintf(stderr, "%s\n", e.text);
		exit(1);
	}
	return NULL;
}

[[noreturn]] static void our_receiver(int listen_fd, struct gw_tls *tls, unsigned conns, const uint8_t *mem)
{
	struct gw_store *st = gw_store_new();
	struct gw_err e = {0};
	if (!st || gw_store_add(st, &(struct gw_space){.id = 1, .kind = GW_SPACE_PROC, .pid = 1, .vpid = 1}, &e) < 0)
		die(e.text);
	for (size_t w = 0; opt.warm && w < opt.bytes; w += CHUNK)
		if (gw_store_write(st, 1, (uint64_t)(uintptr_t)mem + w, CHUNK / 4096, mem, &e) < 0)
			die(e.text);
	*cpu_before = cpu_self();
	static struct receiving r[CONNS_MAX];
	pthread_t t[CONNS_MAX];
	for (unsigned i = 0; i < conns; i++) {
		int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
		r[i].st = st;
		if (fd < 0 || gw_conn_accept(tls, fd, 5000, &r[i].c, &e) < 0)
			die(e.text);
		(void)pthread_create(&t[i], NULL, recv_main, &r[i]);
	}
	for (unsigned i = 0; i < conns; i++)
		(void)pthread_join(t[i], NULL);
	_exit(0);
}

static void send_all(struct gw_sender *s, pid_t victim, uint64_t mem)
{
	struct gw_span spans[64];
	struct gw_err e = {0};
	size_t n = 0;
	for (size_t at = 0; at < opt.bytes; at += CHUNK) {
		spans[n++] = (struct gw_span){.addr = mem + at, .npages = CHUNK / 4096};
		if (n < 64 && at + CHUNK < opt.bytes)
			continue;
		if (gw_sender_push(s, 1, victim, -1, spans, n, &e) < 0)
			die(e.text);
		n = 0;
	}
}

static struct result run_ours(struct gw_tls *tls, pid_t victim, const uint8_t *mem, unsigned conns)
{
	uint16_t port;
	int listen_fd = pki_listen(&port);
	pid_t child = fork();
	if (child == 0)
		our_receiver(listen_fd, tls, conns, mem);
	struct gw_conn *c[CONNS_MAX];
	struct gw_err e = {0};
	for (unsigned i = 0; i < conns; i++)
		if (gw_conn_dial(tls, "127.0.0.1", port, "host-b", 5000, &c[i], &e) < 0)
			die(e.text);
	struct gw_sender *s;
	struct gw_send_stats st;
	struct cpu cpu = cpu_self();
	uint64_t start = gw_now_us();
	if (gw_sender_new(c, conns, &(struct gw_sender_opts){.zstd = opt.zstd}, &s, &e) < 0)
		die(e.text);
	send_all(s, victim, (uint64_t)(uintptr_t)mem);
	if (gw_sender_barrier(s, &st, &e) < 0)
		die(e.text);
	uint64_t us = gw_now_us() - start;
	cpu = since(cpu_self(), cpu);
	gw_sender_free(s);
	for (unsigned i = 0; i < conns; i++)
		gw_conn_free(c[i]);
	(void)close(listen_fd);
	if (st.raw_bytes != opt.bytes)
		die("not everything was sent");
	return (struct result){(double)opt.bytes / 1048576 / ((double)us / 1e6), cpu, reap(child),
	                       (double)st.wire_bytes / (double)st.raw_bytes};
}

/* ---- table ---- */

static int by_rate(const void *a, const void *b)
{
	double x = ((const struct result *)a)->mib_s, y = ((const struct result *)b)->mib_s;
	return (x > y) - (x < y);
}

static double median(const struct result *r, unsigned n)
{
	struct result copy[ROUNDS_MAX];
	memcpy(copy, r, n * sizeof(*r));
	qsort(copy, n, sizeof(*copy), by_rate);
	return copy[n / 2].mib_s;
}

static void print_row(const char *name, struct result *r, unsigned n, double base)
{
	qsort(r, n, sizeof(*r), by_rate);
	const struct result *m = &r[n / 2];
	printf("%-12s %8.0f %8.0f %8.0f   %5.2f   %5.3f %5.3f   %5.3f %5.3f   %5.2f\n", name, r[0].mib_s, m->mib_s,
	       r[n - 1].mib_s, m->mib_s / base, m->send.user, m->send.sys, m->recv.user, m->recv.sys, m->wire_ratio);
}

static void read_options(int argc, char **argv)
{
	static const struct option o[] = {{"mib", 1, NULL, 'm'},  {"rounds", 1, NULL, 'r'}, {"conns", 1, NULL, 'c'},
	                                  {"zstd", 0, NULL, 'z'}, {"zero", 1, NULL, '0'},   {"warm", 0, NULL, 'w'},
	                                  {NULL, 0, NULL, 0}};
	for (int k; (k = getopt_long(argc, argv, "", o, NULL)) != -1;) {
		unsigned v = optarg ? (unsigned)strtoul(optarg, NULL, 10) : 0;
		if (k == 'm')
			opt.bytes = (size_t)v << 20;
		else if (k == 'r')
			opt.rounds = v;
		else if (k == 'c')
			opt.conns = v;
		else if (k == 'z')
			opt.zstd = true;
		else if (k == 'w')
			opt.warm = true;
		else if (k == '0')
			opt.zero_percent = v;
		else
			exit(100);
	}
	if (!opt.bytes || !opt.rounds || opt.rounds > ROUNDS_MAX || opt.conns > CONNS_MAX)
		exit(100);
}

int main(int argc, char **argv)
{
	static struct result plain[ROUNDS_MAX], ours[CONNS_MAX][ROUNDS_MAX];
	read_options(argc, argv);
	struct pki pki;
	pki_make(&pki);
	pki_ca(&pki, "ca");
	pki_cert(&pki, "ca", "b", "host-b", 0);
	struct gw_tls *tls = pki_tls(&pki, "ca", "b");
	pki_remove(&pki);
	cpu_before = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint8_t *mem = mmap(NULL, opt.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED || cpu_before == MAP_FAILED)
		die("mmap");
	fill(mem, opt.bytes);
	pid_t victim = fork();
	if (victim == 0) {
		/* Its own pages, not shared with us by fork. */
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		fill(mem, opt.bytes);
		(void)raise(SIGSTOP);
		for (;;)
			pause();
	}
	(void)waitpid(victim, NULL, WUNTRACED);
	(void)kill(victim, SIGCONT);
	for (unsigned r = 0; r < opt.rounds; r++) {
		plain[r] = run_plain(mem);
		for (unsigned c = 0; c < opt.conns; c++)
			ours[c][r] = run_ours(tls, victim, mem, c + 1);
	}
	(void)kill(victim, SIGKILL);
	(void)waitpid(victim, NULL, 0);
	gw_tls_free(tls);
	printf("%-12s %8s %8s %8s   %5s   %11s   %11s   %5s\n", "MiB/s", "min", "median", "max", "ratio", "sender u, s",
	       "receiv. u, s", "wire");
	double base = median(plain, opt.rounds);
	print_row("plain TCP", plain, opt.rounds, base);
	for (unsigned c = 0; c < opt.conns; c++) {
		char name[32];
		(void)snprintf(name, sizeof(name), "godwit x%u", c + 1);
		print_row(name, ours[c], opt.rounds, base);
	}
	return 0;
}
