#pragma once
/* link: a process with memory on one end, a page store on the other, real TLS
 * connections over loopback between them. For the tests of send and recv. */
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/scope.h"
#include "mem/store.h"
#include "move/recv.h"
#include "move/send.h"
#include "pki.h"

/* ---- the process whose memory travels: it does what it is told ---- */

enum { VICTIM_PAGES = 4096, SPACE = 1 };
static const uint64_t victim_at = UINT64_C(0x7e9000000000);

struct order {
	enum { FILL_RANDOM, FILL_TEXT, FILL_ZERO, UNMAP, PROT_OFF, SHARE_WITH_CHILD } what;
	uint32_t page, npages, seed;
};

struct victim {
	pid_t pid;
	int order_fd, answer_fd;
};

/* The byte at offset i of a page filled with seed. */
[[maybe_unused]] static void make_page(uint8_t out[4096], uint32_t page, uint32_t seed, bool text)
{
	uint64_t x = (uint64_t)(page + 1) * 0x9e3779b97f4a7c15u ^ seed;
	for (size_t i = 0; i < 4096; i += 8) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		uint64_t v = text ? 0x6162636461626364u + (x & 3) : x;
		memcpy(out + i, &v, 8);
	}
}

[[maybe_unused]] static void obey(const struct order *o)
{
	uint8_t *p = (uint8_t *)(uintptr_t)(victim_at + (uint64_t)o->page * 4096);
	size_t len = (size_t)o->npages * 4096;
	switch (o->what) {
	case FILL_RANDOM:
	case FILL_TEXT:
		for (uint32_t i = 0; i < o->npages; i++)
			make_page(p + (size_t)i * 4096, o->page + i, o->seed, o->what == FILL_TEXT);
		break;
	case FILL_ZERO: memset(p, 0, len); break;
	case UNMAP: (void)munmap(p, len); break;
	case PROT_OFF: (void)mprotect(p, len, PROT_NONE); break;
	case SHARE_WITH_CHILD:
		if (fork() == 0) {
			(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (;;)
				(void)pause();
		}
		break;
	}
}

[[noreturn]] static void victim_main(int order_fd, int answer_fd, int map_flags)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	void *p = mmap((void *)(uintptr_t)victim_at, (size_t)VICTIM_PAGES * 4096, PROT_READ | PROT_WRITE,
	               map_flags | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	struct order o;
	while (p != MAP_FAILED && gw_read_full(order_fd, &o, sizeof(o)) == 0) {
		obey(&o);
		if (gw_write_full(answer_fd, "k", 1) < 0)
			break;
	}
	_exit(0);
}

[[maybe_unused]] static void victim_start(struct victim *v, int map_flags)
{
	int orders[2], answers[2];
	assert_int_equal(pipe(orders), 0);
	assert_int_equal(pipe(answers), 0);
	v->pid = fork();
	assert_true(v->pid >= 0);
	if (v->pid == 0) {
		(void)close(orders[1]);
		(void)close(answers[0]);
		victim_main(orders[0], answers[1], map_flags);
	}
	(void)close(orders[0]);
	(void)close(answers[1]);
	v->order_fd = orders[1];
	v->answer_fd = answers[0];
}

[[maybe_unused]] static void tell(struct victim *v, struct order o)
{
	char k;
	assert_int_equal(gw_write_full(v->order_fd, &o, sizeof(o)), 0);
	assert_int_equal(gw_read_full(v->answer_fd, &k, 1), 0);
}

[[maybe_unused]] static void victim_end(struct victim *v)
{
	if (v->pid > 0) {
		(void)kill(v->pid, SIGKILL);
		(void)waitpid(v->pid, NULL, 0);
		(void)close(v->order_fd);
		(void)close(v->answer_fd);
	}
	v->pid = 0;
}

/* ---- the connections and the store ---- */

enum { LINK_CONNS = 3 };

struct receiving {
	struct link *link;
	pthread_t thread;
	bool started;
	int rc;
	struct gw_err err;
	struct gw_conn *conn;
};

struct link {
	struct pki pki;
	struct gw_tls *tls;
	struct gw_store *store;
	struct gw_recv_counters counters;
	struct gw_conn *src[LINK_CONNS];
	struct receiving dst[LINK_CONNS];
	struct victim victim;
	struct gw_sender *sender;
};

static void *link_receive(void *arg)
{
	struct receiving *r = arg;
	r->rc = gw_recv_data(r->conn, r->link->store, &r->link->counters, &r->err);
	return NULL;
}

[[maybe_unused]] static void link_receive_all(struct link *l)
{
	for (unsigned i = 0; i < LINK_CONNS; i++) {
		l->dst[i].link = l;
		assert_int_equal(pthread_create(&l->dst[i].thread, NULL, link_receive, &l->dst[i]), 0);
		l->dst[i].started = true;
	}
}

[[maybe_unused]] static void link_sender(struct link *l, struct gw_sender_opts opts)
{
	struct gw_err e = {0};
	if (gw_sender_new(l->src, LINK_CONNS, &opts, &l->sender, &e) < 0)
		fail_msg("%s", e.text);
}

/* A fresh link for each test, without a sender and nobody receiving yet. */
[[maybe_unused]] static int link_setup(void **state)
{
	struct link *l = calloc(1, sizeof(*l));
	if (!l)
		return -1;
	*state = l;
	/* Before any thread of ours exists. */
	victim_start(&l->victim, MAP_PRIVATE);
	pki_make(&l->pki);
	pki_ca(&l->pki, "ca");
	pki_cert(&l->pki, "ca", "h", "host-b", 0);
	l->tls = pki_tls(&l->pki, "ca", "h");
	l->store = gw_store_new();
	const struct gw_space sp = {.id = SPACE, .kind = GW_SPACE_PROC, .pid = l->victim.pid, .vpid = 1};
	struct gw_err e = {0};
	if (!l->store || gw_store_add(l->store, &sp, &e) < 0)
		return -1;
	for (unsigned i = 0; i < LINK_CONNS; i++) {
		struct pki_pair p;
		pki_connect(l->tls, l->tls, "host-b", &p);
		l->src[i] = p.dialled;
		l->dst[i].conn = p.accepted;
		if (!p.dialled || !p.accepted)
			return -1;
	}
	return 0;
}

[[maybe_unused]] static int link_teardown(void **state)
{
	struct link *l = *state;
	victim_end(&l->victim);
	gw_sender_free(l->sender);
	for (unsigned i = 0; i < LINK_CONNS; i++)
		gw_conn_free(l->src[i]);
	for (unsigned i = 0; i < LINK_CONNS; i++) {
		if (l->dst[i].conn)
			gw_conn_shutdown(l->dst[i].conn);
		if (l->dst[i].started)
			(void)pthread_join(l->dst[i].thread, NULL);
		gw_conn_free(l->dst[i].conn);
	}
	gw_store_free(l->store);
	gw_tls_free(l->tls);
	pki_remove(&l->pki);
	free(l);
	return 0;
}

[[maybe_unused]] static uint64_t page_addr(uint32_t page)
{
	return victim_at + (uint64_t)page * 4096;
}

[[maybe_unused]] static void push(struct link *l, uint32_t page, uint32_t npages)
{
	const struct gw_span span = {.addr = page_addr(page), .npages = npages};
	struct gw_err e = {0};
	if (gw_sender_push(l->sender, SPACE, l->victim.pid, -1, &span, 1, &e) < 0)
		fail_msg("%s", e.text);
}

[[maybe_unused]] static void drop(struct link *l, uint32_t page, uint32_t npages)
{
	const struct gw_span span = {.addr = page_addr(page), .npages = npages};
	struct gw_err e = {0};
	if (gw_sender_drop(l->sender, SPACE, &span, 1, &e) < 0)
		fail_msg("%s", e.text);
}

[[maybe_unused]] static struct gw_send_stats barrier(struct link *l)
{
	struct gw_send_stats st = {0};
	struct gw_err e = {0};
	if (gw_sender_barrier(l->sender, &st, &e) < 0)
		fail_msg("%s", e.text);
	return st;
}

/* ---- what the store holds ---- */

struct want {
	uint32_t space;
	uint64_t addr;
	uint8_t page[4096];
	bool found, same;
};

static int compare_page(void *ctx, const struct gw_space *sp, int memfd, const struct gw_span *recent, size_t n)
{
	struct want *w = ctx;
	uint8_t got[4096];
	(void)recent;
	(void)n;
	if (sp->id != w->space)
		return 0;
	w->found = true;
	w->same = pread(memfd, got, sizeof(got), (off_t)w->addr) == (ssize_t)sizeof(got) &&
	          memcmp(got, w->page, sizeof(got)) == 0;
	return 0;
}

static void stored_is(struct link *l, struct want *w, uint32_t page)
{
	(void)gw_store_each(l->store, compare_page, w);
	assert_true(w->found);
	if (!w->same)
		fail_msg("page %u is not what it should be", page);
}

[[maybe_unused]] static void stored_as(struct link *l, uint32_t page, uint32_t npages, uint32_t seed, bool text)
{
	for (uint32_t i = page; i < page + npages; i++) {
		struct want w = {.space = SPACE, .addr = page_addr(i)};
		make_page(w.page, i, seed, text);
		stored_is(l, &w, i);
	}
}

[[maybe_unused]] static void stored_zero(struct link *l, uint32_t page, uint32_t npages)
{
	for (uint32_t i = page; i < page + npages; i++) {
		struct want w = {.space = SPACE, .addr = page_addr(i)};
		stored_is(l, &w, i);
	}
}
