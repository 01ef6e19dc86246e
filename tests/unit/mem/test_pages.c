#include "test.h"

#include "fake_criu.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/scope.h"

static int make(void **state)
{
	*state = scene_new();
	return *state ? 0 : -1;
}

static int unmake(void **state)
{
	scene_free(*state);
	return 0;
}

/* ---- contents ---- */

static void read_at_random_then_all(struct victim *v, void *arg)
{
	const struct area *a = arg;
	v_begin(v);
	char *p = v_map(v, 0, a->pages);
	v_hand_over(v);
	v_stage(v, 1);
	uint64_t rnd = a->space;
	for (int i = 0; i < 4000; i++) {
		uint64_t page = v_random(&rnd) % a->pages;
		v_expect(v, p + page * PAGE, a->space, page);
		if (i == 100)
			v_stage(v, 2);
	}
	for (uint64_t page = 0; page < a->pages; page++)
		v_expect(v, p + page * PAGE, a->space, page);
}

static void every_page_is_right_under_random_access_while_it_is_filled(void **state)
{
	struct scene *s = *state;
	static struct area a = {.space = 1, .pages = AREA_PAGES};
	struct victim *v = scene_victim(s, read_at_random_then_all, &a);
	scene_space(s, v, a.space);
	scene_area(s, a.space, AREA_PAGES);
	scene_run(s);
	scene_wait_stage(s, 2); /* pages are served before the restore is whole */
	scene_finish(s);
	assert_int_equal(victim_wait(v), 4000 + AREA_PAGES);
	scene_wait_done(s);
	assert_int_equal(gw_store_bytes(s->store), 0);
	wait_gone(gw_pages_pid(s->pages)); /* says that it is done, then puts its things away */
	assert_int_equal(access(s->socket, F_OK), -1);
}

/* ---- what the process does to its mappings while pages are missing ---- */

static void remap_unmap_and_discard(struct victim *v, void *arg)
{
	uint32_t space = *(const uint32_t *)arg;
	v_begin(v);
	char *p = v_map(v, 0, 1024);
	v_hand_over(v);
	/* Pages 64..127 move to a new place, some of them read before, most not. */
	v_is(v, p + 70 * PAGE, space, 70);
	char *q = mremap(p + 64 * PAGE, 64 * PAGE, 64 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p + 4096 * PAGE);
	V_CHECK(v, q == p + 4096 * PAGE);
	v_is(v, q + 6 * PAGE, space, 70);
	v_is(v, q + 7 * PAGE, space, 71);
	/* On top of pages that nobody has read: those are gone. */
	char *r = mremap(p + 256 * PAGE, 32 * PAGE, 32 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p + 320 * PAGE);
	V_CHECK(v, r == p + 320 * PAGE);
	v_is(v, r + 5 * PAGE, space, 261);
	/* Discarded: zero, whether it had come or not. */
	v_is(v, p + 10 * PAGE, space, 10);
	V_CHECK(v, madvise(p + 8 * PAGE, 8 * PAGE, MADV_DONTNEED) == 0);
	v_is_zero(v, p + 10 * PAGE);
	v_is_zero(v, p + 12 * PAGE);
	v_is(v, p + 16 * PAGE, space, 16);
	/* Unmapped, and mapped anew at the same place. */
	V_CHECK(v, munmap(p + 512 * PAGE, 64 * PAGE) == 0);
	char *n =
	        mmap(p + 512 * PAGE, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	V_CHECK(v, n == p + 512 * PAGE);
	n[PAGE] = 1;
	/* The old place of a move that keeps its mapping reads as zero. */
	char *k = mremap(p + 640 * PAGE, 16 * PAGE, 16 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP | MREMAP_FIXED,
	                 p + 5120 * PAGE);
	V_CHECK(v, k == p + 5120 * PAGE);
	v_is_zero(v, p + 641 * PAGE);
	v_is(v, k + PAGE, space, 641);
	v_stage(v, 1);
	while (!atomic_load(&v->rep->stop))
		gw_sleep_us(200);
	/* Now that everything is filled. */
	for (uint64_t i = 0; i < 64; i++)
		v_is(v, q + i * PAGE, space, 64 + i);
	for (uint64_t i = 0; i < 32; i++)
		v_is(v, r + i * PAGE, space, 256 + i);
	for (uint64_t i = 8; i < 16; i++)
		v_is_zero(v, p + i * PAGE);
	for (uint64_t i = 0; i < 16; i++)
		v_is(v, k + i * PAGE, space, 640 + i);
	for (uint64_t i = 2; i < 64; i++)
		v_is_zero(v, n + i * PAGE);
	for (uint64_t i = 640; i < 656; i++)
		v_is_zero(v, p + i * PAGE);
	for (uint64_t i = 352; i < 512; i++)
		v_is(v, p + i * PAGE, space, i);
}

static void moved_unmapped_and_discarded_ranges_read_as_they_must(void **state)
{
	struct scene *s = *state;
	static uint32_t id = 7;
	struct victim *v = scene_victim(s, remap_unmap_and_discard, &id);
	scene_space(s, v, id);
	scene_pages(s, id, 0, 1024);
	scene_run(s);
	scene_wait_stage(s, 1);
	scene_finish(s);
	scene_wait_done(s);
	atomic_store(&v->rep->stop, 1);
	(void)victim_wait(v);
	assert_int_equal(gw_store_bytes(s->store), 0);
}

/* Random moves, discards and checks against a model, while it is filled. */
struct shuffle {
	char *base;
	int32_t at[256]; /* slot of 32 pages: which image slot is there; -1 zero, -2 not mapped */
};

static void shuffle_check(struct victim *v, const struct shuffle *m, uint32_t space, uint64_t slot, uint64_t page)
{
	const char *p = m->base + (slot * 32 + page) * PAGE;
	if (m->at[slot] >= 0)
		v_is(v, p, space, (uint64_t)m->at[slot] * 32 + page);
	else if (m->at[slot] == -1)
		v_is_zero(v, p);
}

static void shuffle(struct victim *v, void *arg)
{
	uint32_t space = *(const uint32_t *)arg;
	struct shuffle m;
	v_begin(v);
	m.base = v_map(v, 0, 256 * 32);
	for (int i = 0; i < 256; i++)
		m.at[i] = i;
	v_hand_over(v);
	v_stage(v, 1);
	uint64_t rnd = 1;
	for (int i = 0; i < 3000; i++) {
		uint64_t a = v_random(&rnd) % 256, b = v_random(&rnd) % 256, what = v_random(&rnd) % 8;
		char *pa = m.base + a * 32 * PAGE, *pb = m.base + b * 32 * PAGE;
		shuffle_check(v, &m, space, v_random(&rnd) % 256, v_random(&rnd) % 32);
		if (what < 5 && a != b && m.at[a] != -2) {
			V_CHECK(v, mremap(pa, 32 * PAGE, 32 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, pb) == pb);
			m.at[b] = m.at[a];
			m.at[a] = -2;
		} else if (what == 5 && i % 16 == 0 && m.at[a] != -2) {
			V_CHECK(v, madvise(pa, 32 * PAGE, MADV_DONTNEED) == 0);
			m.at[a] = -1;
		} else if (what == 6 && i % 16 == 0) {
			V_CHECK(v, munmap(pa, 32 * PAGE) == 0);
			m.at[a] = -2;
		}
		if (i == 50)
			v_stage(v, 2);
	}
	for (uint64_t i = 0; i < 256 * 32; i++)
		shuffle_check(v, &m, space, i / 32, i % 32);
}

static void memory_that_is_moved_about_while_it_is_filled_stays_right(void **state)
{
	struct scene *s = *state;
	static uint32_t id = 3;
	struct victim *v = scene_victim(s, shuffle, &id);
	scene_space(s, v, id);
	scene_pages(s, id, 0, 256 * 32);
	scene_run(s);
	scene_wait_stage(s, 2);
	scene_finish(s);
	(void)victim_wait(v);
	scene_wait_done(s);
	assert_int_equal(gw_store_bytes(s->store), 0);
}

/* ---- forks ---- */

static void await_child(struct victim *v, pid_t pid)
{
	int st = -1;
	V_CHECK(v, waitpid(pid, &st, 0) == pid);
	if (st != 0 && !v->rep->text[0])
		v_fail(v, "child ended with status 0x%x", (unsigned)st);
	if (st != 0)
		_exit(1);
}

static void fork_and_diverge(struct victim *v, void *arg)
{
	uint32_t space = *(const uint32_t *)arg;
	v_begin(v);
	char *p = v_map(v, 0, 2048);
	v_hand_over(v);
	v_is(v, p, space, 0);
	memset(p + PAGE, 'x', PAGE);
	pid_t kids[2];
	for (int k = 0; k < 2; k++) {
		kids[k] = fork();
		V_CHECK(v, kids[k] >= 0);
		if (kids[k])
			continue;
		/* The child gets what was missing, has what was there, and goes its own way. */
		v_is(v, p, space, 0);
		V_CHECK(v, p[PAGE] == 'x' && p[2 * PAGE - 1] == 'x');
		v_is(v, p + 100 * PAGE, space, 100);
		memset(p + 101 * PAGE, 'c', PAGE);
		V_CHECK(v, madvise(p + 102 * PAGE, PAGE, MADV_DONTNEED) == 0);
		v_is_zero(v, p + 102 * PAGE);
		char *q = mremap(p + 200 * PAGE, 16 * PAGE, 16 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p + 8192 * PAGE);
		V_CHECK(v, q != MAP_FAILED);
		pid_t grandchild = k ? -1 : fork();
		while (k && !atomic_load(&v->rep->stop))
			gw_sleep_us(200);
		for (uint64_t i = 103; i < 2048; i++)
			if (i < 200 || i >= 216)
				v_is(v, p + i * PAGE, space, i);
		for (uint64_t i = 0; i < 16; i++)
			v_is(v, q + i * PAGE, space, 200 + i);
		if (grandchild > 0)
			await_child(v, grandchild);
		_exit(0);
	}
	v_stage(v, 1);
	/* What the children did is not seen here. */
	for (uint64_t i = 2; i < 2048; i++)
		v_is(v, p + i * PAGE, space, i);
	for (int k = 0; k < 2; k++)
		await_child(v, kids[k]);
}

static void a_child_forked_during_the_fill_gets_everything_that_was_missing(void **state)
{
	struct scene *s = *state;
	static uint32_t id = 4;
	struct victim *v = scene_victim(s, fork_and_diverge, &id);
	scene_space(s, v, id);
	scene_pages(s, id, 0, 2048);
	scene_run(s);
	scene_wait_stage(s, 1);
	scene_finish(s);
	gw_sleep_us(20000);
	atomic_store(&v->rep->stop, 1);
	(void)victim_wait(v);
	scene_wait_done(s);
	assert_int_equal(gw_store_bytes(s->store), 0);
}

static void fork_all_the_time(struct victim *v, void *arg)
{
	uint32_t space = *(const uint32_t *)arg;
	v_begin(v);
	char *p = v_map(v, 0, AREA_PAGES);
	v_hand_over(v);
	v_stage(v, 1);
	uint64_t rnd = 5;
	for (int i = 0; i < 40; i++) {
		pid_t pid = fork();
		V_CHECK(v, pid >= 0);
		if (pid == 0) {
			for (uint64_t k = (uint64_t)i; k < AREA_PAGES; k += 7)
				v_expect(v, p + k * PAGE, space, k);
			_exit(0);
		}
		for (int k = 0; k < 20; k++) {
			uint64_t page = v_random(&rnd) % AREA_PAGES;
			v_expect(v, p + page * PAGE, space, page);
		}
		await_child(v, pid);
		if (i == 2)
			v_stage(v, 2);
	}
}

static void forty_forks_during_the_fill_read_no_wrong_page(void **state)
{
	struct scene *s = *state;
	static uint32_t id = 5;
	struct victim *v = scene_victim(s, fork_all_the_time, &id);
	scene_space(s, v, id);
	scene_area(s, id, AREA_PAGES);
	scene_run(s);
	scene_wait_stage(s, 2);
	scene_finish(s);
	(void)victim_wait(v);
	scene_wait_done(s);
	assert_int_equal(gw_store_bytes(s->store), 0);
}

/* One thread moves a buffer to and fro, another forks: their events come in
 * any order. The mover says in the buffer's own memory where it is, so that a
 * child can tell from what it inherited. */
struct race {
	struct victim *v;
	char *home, *away;
	uint32_t space;
	atomic_int stop;
};

static void *move_to_and_fro(void *arg)
{
	struct race *r = arg;
	char *at = r->home;
	while (!atomic_load(&r->stop)) {
		char *to = at == r->home ? r->away : r->home;
		if (mremap(at, 8 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to)
			v_fail(r->v, "mremap: errno %d", errno);
		at = to;
	}
	return NULL;
}

static void *take_the_cpu(void *arg)
{
	struct race *r = arg;
	while (!atomic_load(&r->stop))
		;
	return NULL;
}

static bool is_mapped(const char *p)
{
	unsigned char vec;
	/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
	return mincore((void *)(uintptr_t)p, PAGE, &vec) == 0;
}

static void fork_beside_a_mover(struct victim *v, void *arg)
{
	struct race r = {.v = v, .space = *(const uint32_t *)arg};
	v_begin(v);
	r.home = v_map(v, 0, 8);
	r.away = r.home + 4096 * PAGE;
	v_hand_over(v);
	/* Only where threads are preempted do events overtake each other. */
	pthread_t t[3];
	for (int i = 0; i < 3; i++)
		V_CHECK(v, pthread_create(&t[i], NULL, i ? take_the_cpu : move_to_and_fro, &r) == 0);
	for (int i = 0; i < 300; i++) {
		pid_t pid = fork();
		V_CHECK(v, pid >= 0);
		if (pid == 0) {
			const char *p = is_mapped(r.home) ? r.home : r.away;
			for (uint64_t k = 0; k < 8; k++)
				v_is(v, p + k * PAGE, r.space, k);
			_exit(0);
		}
		await_child(v, pid);
	}
	atomic_store(&r.stop, 1);
	for (int i = 0; i < 3; i++)
		V_CHECK(v, pthread_join(t[i], NULL) == 0);
	v_stage(v, 1);
}

static void a_child_forked_beside_a_moving_buffer_finds_it_where_it_is(void **state)
{
	struct scene *s = *state;
	static uint32_t id = 6;
	struct victim *v = scene_victim(s, fork_beside_a_mover, &id);
	scene_space(s, v, id);
	scene_pages(s, id, 0, 8);
	scene_run(s);
	(void)victim_wait(v); /* all of it before the fill: the buffer stays missing */
	scene_finish(s);
	scene_wait_done(s);
}

static void wipe_on_fork(struct victim *v, void *arg)
{
	uint32_t space = *(const uint32_t *)arg;
	v_begin(v);
	char *p = v_map(v, 0, 64);
	V_CHECK(v, madvise(p + 16 * PAGE, 16 * PAGE, MADV_WIPEONFORK) == 0);
	v_hand_over(v);
	v_is(v, p + 16 * PAGE, space, 16);
	pid_t pid = fork();
	V_CHECK(v, pid >= 0);
	if (pid == 0) {
		for (uint64_t i = 0; i < 64; i++)
			if (i >= 16 && i < 32)
				v_is_zero(v, p + i * PAGE);
			else
				v_is(v, p + i * PAGE, space, i);
		_exit(0);
	}
	await_child(v, pid);
	for (uint64_t i = 0; i < 64; i++)
		v_is(v, p + i * PAGE, space, i);
}

static void a_child_does_not_inherit_what_is_wiped_on_fork(void **state)
{
	struct scene *s = *state;
	static uint32_t id = 8;
	struct victim *v = scene_victim(s, wipe_on_fork, &id);
	scene_space(s, v, id);
	scene_pages(s, id, 0, 64);
	scene_run(s);
	(void)victim_wait(v);
	scene_finish(s);
	scene_wait_done(s);
}

/* ---- many ---- */

static void many_processes_are_served_each_from_its_own_space(void **state)
{
	struct scene *s = *state;
	static struct area a[40];
	for (uint32_t i = 0; i < 40; i++) {
		a[i] = (struct area){.space = i + 1, .pages = AREA_PAGES / 8};
		struct victim *v = scene_victim(s, read_at_random_then_all, &a[i]);
		scene_space(s, v, a[i].space);
		if (i < 20)
			scene_area(s, a[i].space, a[i].pages);
	}
	scene_start(s);
	for (uint32_t i = 20; i < 40; i++) /* the store is written on after the start */
		scene_area(s, a[i].space, a[i].pages);
	scene_give(s);
	scene_go(s);
	scene_wait_stage(s, 1);
	scene_finish(s);
	for (uint32_t i = 0; i < 40; i++)
		(void)victim_wait(&s->v[i]);
	scene_wait_done(s);
	assert_int_equal(gw_store_bytes(s->store), 0);
}

struct thread_job {
	struct victim *v;
	char *p;
	uint32_t space;
	uint64_t seed;
};

static void *read_all_from(void *arg)
{
	struct thread_job *j = arg;
	for (uint64_t i = 0; i < AREA_PAGES; i++) {
		uint64_t page = (i * 37 + j->seed) % AREA_PAGES;
		v_expect(j->v, j->p + page * PAGE, j->space, page);
	}
	return NULL;
}

static void eight_threads(struct victim *v, void *arg)
{
	struct thread_job j[8];
	pthread_t t[8];
	v_begin(v);
	char *p = v_map(v, 0, AREA_PAGES);
	v_hand_over(v);
	v_stage(v, 1);
	for (unsigned i = 0; i < 8; i++) {
		j[i] = (struct thread_job){.v = v, .p = p, .space = *(const uint32_t *)arg, .seed = i / 2 * 1000};
		V_CHECK(v, pthread_create(&t[i], NULL, read_all_from, &j[i]) == 0);
	}
	for (unsigned i = 0; i < 8; i++)
		V_CHECK(v, pthread_join(t[i], NULL) == 0);
}

static void threads_that_want_the_same_page_all_go_on(void **state)
{
	struct scene *s = *state;
	static uint32_t id = 9;
	struct victim *v = scene_victim(s, eight_threads, &id);
	scene_space(s, v, id);
	scene_area(s, id, AREA_PAGES);
	scene_run(s);
	scene_wait_stage(s, 1);
	scene_finish(s);
	assert_int_equal(victim_wait(v), 8 * AREA_PAGES);
	scene_wait_done(s);
}

/* ---- order and memory ---- */

static void hold_and_check(struct victim *v, void *arg)
{
	const struct area *a = arg;
	v_begin(v);
	char *p = v_map(v, 0, a->pages);
	v_hand_over(v);
	v_stage(v, 1);
	while (!atomic_load(&v->rep->stop))
		gw_sleep_us(200);
	for (uint64_t page = 0; page < a->pages; page++)
		v_is(v, p + page * PAGE, a->space, page);
}

static uint64_t resident(pid_t pid)
{
	char path[64], *text;
	struct gw_err e;
	unsigned long long size, rss, shared;
	gw_path(path, sizeof(path), "/proc/%d/statm", pid);
	if (gw_read_file(path, 4096, &text, NULL, &e) < 0)
		return 0;
	int n = sscanf(text, "%llu %llu %llu", &size, &rss, &shared);
	free(text);
	return n == 3 ? (rss - shared) * PAGE : 0;
}

/* A process of which every page came in one round; a new one has begun. */
static struct victim *scene_of_rounds(struct scene *s, void (*body)(struct victim *v, void *arg), struct area *a)
{
	struct victim *v = scene_victim(s, body, a);
	scene_space(s, v, a->space);
	scene_pages(s, a->space, 0, (uint32_t)a->pages);
	gw_store_new_round(s->store);
	return v;
}

/* The process that fills in is as large as what the store gives up. */
static void memory_is_never_held_twice(void **state)
{
	struct scene *s = *state;
	static struct area a = {.space = 1, .pages = 32768}; /* 128 MiB */
	struct victim *v = scene_of_rounds(s, hold_and_check, &a);
	for (uint64_t page = 7; page < a.pages; page += 13) /* every 13th page is recent */
		scene_pages(s, a.space, page, 1);
	scene_run(s);
	scene_wait_stage(s, 1);
	uint64_t before = resident(v->pid), peak = 0;
	scene_finish(s);
	struct gw_pages_status st = {0};
	struct gw_err e = {0};
	uint64_t size = a.pages * PAGE;
	while (!st.done) {
		uint64_t store = gw_store_bytes(s->store), rss = resident(v->pid) - before;
		/* Both at once, or this process was put aside in between and it says nothing. */
		bool tight = store - gw_store_bytes(s->store) <= size / 100;
		peak = tight && store + rss > peak ? store + rss : peak;
		assert_int_equal(gw_pages_status(s->pages, &st, &e), 0);
	}
	assert_int_equal(gw_store_bytes(s->store), 0);
	if (peak > size + size / 20)
		fail_msg("%llu MiB held at once for %llu", (unsigned long long)peak >> 20,
		         (unsigned long long)size >> 20);
	atomic_store(&v->rep->stop, 1);
	assert_int_equal(victim_wait(v), a.pages);
}

static int note_fd(void *ctx, const struct gw_space *space, int memfd, const struct gw_span *recent, size_t n)
{
	(void)space;
	(void)recent;
	(void)n;
	*(int *)ctx = memfd;
	return 0;
}

static int store_fd(struct scene *s)
{
	int fd = -1;
	assert_int_equal(gw_store_each(s->store, note_fd, &fd), 0);
	return fd;
}

static void what_was_written_last_comes_first(void **state)
{
	struct scene *s = *state;
	static struct area a = {.space = 1, .pages = 32768};
	struct victim *v = scene_of_rounds(s, hold_and_check, &a);
	scene_pages(s, a.space, 30000, 2048);
	scene_run(s);
	scene_wait_stage(s, 1);
	struct stat whole, now;
	assert_int_equal(fstat(store_fd(s), &whole), 0);
	scene_finish(s);
	/* The first 8 MiB that the store gives up are those. */
	do
		assert_int_equal(fstat(store_fd(s), &now), 0);
	while (whole.st_blocks - now.st_blocks < 2048 * 8);
	/* ENXIO: while we were not running, it gave up all the rest too. */
	off_t data = lseek(store_fd(s), (off_t)(AREA + 30000 * PAGE), SEEK_DATA);
	if (data >= 0 || errno != ENXIO)
		assert_in_range(data, AREA + 32000 * PAGE, AREA + a.pages * PAGE);
	scene_wait_done(s);
	atomic_store(&v->rep->stop, 1);
	(void)victim_wait(v);
}

/* How often a process has gone to sleep; 0 when it is gone. */
static unsigned long sleeps(pid_t pid)
{
	char path[64], *text;
	struct gw_err e;
	gw_path(path, sizeof(path), "/proc/%d/status", pid);
	if (gw_read_file(path, 8192, &text, NULL, &e) < 0)
		return 0;
	const char *at = strstr(text, "\nvoluntary_ctxt_switches:");
	unsigned long n = at ? strtoul(strchr(at, ':') + 1, NULL, 10) : 0;
	free(text);
	return n;
}

/* A core that is left for a few microseconds at a time is of no use to those who wait for the others. */
static void what_nobody_waits_for_is_filled_in_long_turns(void **state)
{
	struct scene *s = *state;
	static struct area a = {.space = 1, .pages = 32768};
	struct victim *v = scene_of_rounds(s, hold_and_check, &a);
	scene_run(s);
	scene_wait_stage(s, 1);
	pid_t pid = gw_pages_pid(s->pages);
	unsigned long before = sleeps(pid), last = before, now;
	scene_finish(s);
	struct gw_pages_status st = {0};
	struct gw_err e = {0};
	while (!st.done) {
		now = sleeps(pid);
		last = now > last ? now : last;
		gw_sleep_us(100);
		assert_int_equal(gw_pages_status(s->pages, &st, &e), 0);
	}
	assert_in_range(last - before, 1, a.pages / 16);
	atomic_store(&v->rep->stop, 1);
	(void)victim_wait(v);
}

static void read_in_order(struct victim *v, void *arg)
{
	const struct area *a = arg;
	v_begin(v);
	char *p = v_map(v, 0, a->pages);
	v_hand_over(v);
	v_stage(v, 1);
	while (!atomic_load(&v->rep->stop))
		gw_sleep_us(20);
	for (uint64_t page = 0; page < a->pages; page++)
		v_is(v, p + page * PAGE, a->space, page);
}

static void who_reads_in_order_waits_for_few_pages(void **state)
{
	struct scene *s = *state;
	static struct area a = {.space = 1, .pages = 2048};
	struct victim *v = scene_of_rounds(s, read_in_order, &a);
	scene_run(s);
	scene_wait_stage(s, 1);
	scene_finish(s);
	struct gw_pages_status st = {0};
	struct gw_err e = {0};
	while (!st.restored)
		assert_int_equal(gw_pages_status(s->pages, &st, &e), 0);
	atomic_store(&v->rep->stop, 1);
	assert_int_equal(victim_wait(v), a.pages);
	scene_wait_done(s);
	assert_int_equal(gw_pages_status(s->pages, &st, &e), 0);
	assert_in_range(st.faults, 0, a.pages / 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(every_page_is_right_under_random_access_while_it_is_filled, make,
	                                        unmake),
	        cmocka_unit_test_setup_teardown(moved_unmapped_and_discarded_ranges_read_as_they_must, make, unmake),
	        cmocka_unit_test_setup_teardown(memory_that_is_moved_about_while_it_is_filled_stays_right, make,
	                                        unmake),
	        cmocka_unit_test_setup_teardown(a_child_forked_during_the_fill_gets_everything_that_was_missing, make,
	                                        unmake),
	        cmocka_unit_test_setup_teardown(forty_forks_during_the_fill_read_no_wrong_page, make, unmake),
	        cmocka_unit_test_setup_teardown(a_child_forked_beside_a_moving_buffer_finds_it_where_it_is, make,
	                                        unmake),
	        cmocka_unit_test_setup_teardown(a_child_does_not_inherit_what_is_wiped_on_fork, make, unmake),
	        cmocka_unit_test_setup_teardown(many_processes_are_served_each_from_its_own_space, make, unmake),
	        cmocka_unit_test_setup_teardown(threads_that_want_the_same_page_all_go_on, make, unmake),
	        cmocka_unit_test_setup_teardown(memory_is_never_held_twice, make, unmake),
	        cmocka_unit_test_setup_teardown(what_was_written_last_comes_first, make, unmake),
	        cmocka_unit_test_setup_teardown(what_nobody_waits_for_is_filled_in_long_turns, make, unmake),
	        cmocka_unit_test_setup_teardown(who_reads_in_order_waits_for_few_pages, make, unmake),
	};
	return cmocka_run_group_tests_name("mem/pages", tests, NULL, NULL);
}
