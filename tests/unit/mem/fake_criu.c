#include "fake_criu.h"

#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "mem/pages_link.h"

enum { WAIT_MS = 60000 };

/* ---- contents ---- */

static uint64_t mix(uint64_t x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdu;
	x ^= x >> 33;
	return x;
}

void page_fill(void *p, uint32_t space, uint64_t page)
{
	uint64_t *w = p, seed = mix(((uint64_t)space << 40) + page + 1);
	for (uint64_t i = 0; i < PAGE / 8; i++)
		w[i] = seed + i;
}

bool page_is(const void *p, uint32_t space, uint64_t page)
{
	const uint64_t *w = p;
	uint64_t seed = mix(((uint64_t)space << 40) + page + 1);
	for (uint64_t i = 0; i < PAGE / 8; i++)
		if (w[i] != seed + i)
			return false;
	return true;
}

bool page_is_zero(const void *p)
{
	const uint64_t *w = p;
	for (uint64_t i = 0; i < PAGE / 8; i++)
		if (w[i])
			return false;
	return true;
}

static bool has_data(uint64_t page)
{
	return page / 64 % 4 != 3;
}

uint64_t v_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return mix(*state);
}

/* ---- the victim's side ---- */

void v_fail(struct victim *v, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(v->rep->text, sizeof(v->rep->text), fmt, ap);
	va_end(ap);
	_exit(1);
}

void v_is(struct victim *v, const void *p, uint32_t space, uint64_t page)
{
	if (page_is(p, space, page)) {
		(void)atomic_fetch_add(&v->rep->checked, 1);
		return;
	}
	(void)atomic_fetch_add(&v->rep->wrong, 1);
	v_fail(v, "%p should be page %llu of space %u; it %s", p, (unsigned long long)page, space,
	       page_is_zero(p) ? "is zero" : "is something else");
}

void v_is_zero(struct victim *v, const void *p)
{
	if (page_is_zero(p)) {
		(void)atomic_fetch_add(&v->rep->checked, 1);
		return;
	}
	(void)atomic_fetch_add(&v->rep->wrong, 1);
	v_fail(v, "%p should be zero", p);
}

void v_expect(struct victim *v, const void *p, uint32_t space, uint64_t page)
{
	if (has_data(page))
		v_is(v, p, space, page);
	else
		v_is_zero(v, p);
}

void v_begin(struct victim *v)
{
	char c;
	unsigned n = 1;
	V_CHECK(v, gw_recv_fds(v->ctl, &c, 1, &v->sock, &n) == 1 && n == 1);
	v->uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	V_CHECK(v, v->uffd >= 0);
	struct uffdio_api api = {.api = UFFD_API,
	                         .features = UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP |
	                                     UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_EVENT_REMOVE};
	V_CHECK(v, ioctl(v->uffd, UFFDIO_API, &api) == 0);
}

char *v_map(struct victim *v, uint64_t page, uint64_t n)
{
	/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
	char *want = (char *)(uintptr_t)(AREA + page * PAGE);
	char *p = mmap(want, n * PAGE, PROT_READ | PROT_WRITE,
	               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE, -1, 0);
	V_CHECK(v, p == want);
	struct uffdio_register r = {.range = {.start = (uintptr_t)p, .len = n * PAGE},
	                            .mode = UFFDIO_REGISTER_MODE_MISSING};
	V_CHECK(v, ioctl(v->uffd, UFFDIO_REGISTER, &r) == 0);
	return p;
}

void v_hand_over(struct victim *v)
{
	int pid = getpid();
	char dummy = 0;
	/* CRIU's tasks take turns too (lazy_sock_mutex). */
	while (atomic_exchange(v->turn, 1))
		gw_sleep_us(10);
	V_CHECK(v, send(v->sock, &pid, sizeof(pid), 0) == sizeof(pid));
	V_CHECK(v, gw_send_fds(v->sock, &dummy, 1, &v->uffd, 1) == 0);
	atomic_store(v->turn, 0);
	(void)close(v->uffd);
}

void v_stage(struct victim *v, unsigned stage)
{
	atomic_store(&v->rep->stage, stage);
}

/* ---- the test's side ---- */

struct scene *scene_new(void)
{
	struct scene *s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->sock = -1;
	s->turn = mmap(NULL, sizeof(*s->turn), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	gw_path(s->dir, sizeof(s->dir), "/tmp/godwit-pages-XXXXXX");
	s->store = gw_store_new();
	if (s->turn == MAP_FAILED || !mkdtemp(s->dir) || !s->store) {
		(void)fprintf(stderr, "scene: %s\n", strerror(errno));
		scene_free(s);
		return NULL;
	}
	const char *name = strrchr(s->dir, '/') + 1;
	gw_path(s->socket, sizeof(s->socket), "%s/lazy-pages.socket", s->dir);
	gw_path(s->reason, sizeof(s->reason), "%s/reason", s->dir);
	gw_path(s->cgroup, sizeof(s->cgroup), "/sys/fs/cgroup/freezer/%s", name);
	if (mkdir(s->cgroup, 0755) < 0) {
		gw_path(s->cgroup, sizeof(s->cgroup), "/sys/fs/cgroup/%s", name);
		if (mkdir(s->cgroup, 0755) < 0) {
			(void)fprintf(stderr, "scene: no cgroup: %s\n", strerror(errno));
			scene_free(s);
			return NULL;
		}
	}
	return s;
}

static void thaw(struct scene *s)
{
	char path[256];
	gw_path(path, sizeof(path), "%s/freezer.state", s->cgroup);
	(void)gw_write_knob(path, "THAWED");
}

/* What a victim forked is not ours to wait for, but it is in the cgroup. */
static void kill_cgroup(struct scene *s)
{
	char path[256], *text;
	gw_path(path, sizeof(path), "%s/cgroup.procs", s->cgroup);
	for (int i = 0; i < 5000 && s->cgroup[0]; i++) {
		struct gw_err e;
		unsigned n = 0;
		if (gw_read_file(path, 1 << 20, &text, NULL, &e) < 0)
			return;
		for (char *p = text; *p; p += strcspn(p, "\n"), p += *p == '\n', n++)
			(void)kill((pid_t)strtol(p, NULL, 10), SIGKILL);
		free(text);
		if (n == 0)
			return;
		thaw(s);
		gw_sleep_us(1000);
	}
}

void scene_free(struct scene *s)
{
	struct gw_err e;
	if (!s)
		return;
	kill_cgroup(s);
	for (unsigned i = 0; i < s->nv; i++) {
		if (s->v[i].pid > 0) {
			(void)kill(s->v[i].pid, SIGKILL);
			(void)waitpid(s->v[i].pid, NULL, 0);
		}
		(void)close(s->v[i].ctl);
		(void)munmap(s->v[i].rep, sizeof(*s->v[i].rep));
	}
	if (s->sock >= 0)
		(void)close(s->sock);
	gw_pages_free(s->pages, true);
	gw_store_free(s->store);
	for (int i = 0; i < 1000 && rmdir(s->cgroup) < 0 && errno == EBUSY; i++)
		gw_sleep_us(1000);
	(void)gw_remove_tree(s->dir, &e);
	(void)munmap(s->turn, sizeof(*s->turn));
	free(s);
}

struct victim *scene_victim(struct scene *s, victim_fn *body, void *arg)
{
	int pair[2];
	char path[256], pid[16];
	assert_true(s->nv < VICTIMS_MAX);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	struct victim *v = &s->v[s->nv];
	*v = (struct victim){.ctl = pair[0], .uffd = -1, .sock = -1, .turn = s->turn};
	v->rep = mmap(NULL, sizeof(*v->rep), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(v->rep != MAP_FAILED);
	pid_t me = getpid();
	v->pid = fork();
	assert_true(v->pid >= 0);
	if (v->pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != me)
			_exit(2);
		(void)close(pair[0]);
		v->ctl = pair[1];
		body(v, arg);
		_exit(0);
	}
	s->nv++;
	(void)close(pair[1]);
	gw_path(path, sizeof(path), "%s/cgroup.procs", s->cgroup);
	gw_path(pid, sizeof(pid), "%d", v->pid);
	assert_int_equal(gw_write_knob(path, pid), 0);
	return v;
}

void scene_space(struct scene *s, const struct victim *v, uint32_t id)
{
	struct gw_err e = {0};
	struct gw_space sp = {.id = id, .kind = GW_SPACE_PROC, .pid = 1, .vpid = v->pid};
	if (gw_store_add(s->store, &sp, &e) < 0)
		fail_msg("%s", e.text);
}

void scene_pages(struct scene *s, uint32_t id, uint64_t page, uint32_t n)
{
	static char buf[64 * PAGE];
	struct gw_err e = {0};
	while (n) {
		uint32_t k = n < 64 ? n : 64;
		for (uint32_t i = 0; i < k; i++)
			page_fill(buf + (size_t)i * PAGE, id, page + i);
		if (gw_store_write(s->store, id, AREA + page * PAGE, k, buf, &e) < 0)
			fail_msg("%s", e.text);
		page += k;
		n -= k;
	}
}

void scene_area(struct scene *s, uint32_t id, uint64_t pages)
{
	for (uint64_t page = 0; page < pages; page += 64)
		if (has_data(page))
			scene_pages(s, id, page, 64);
}

void scene_start(struct scene *s)
{
	struct gw_err e = {0};
	struct gw_pages_opts o = {.program = GODWIT_PAGES,
	                          .socket_path = s->socket,
	                          .cgroup_dir = s->cgroup,
	                          .reason_path = s->reason,
	                          .label = "test"};
	if (gw_pages_start(&o, s->store, &s->pages, &e) < 0 || gw_unix_connect(s->socket, &s->sock, &e) < 0)
		fail_msg("%s", e.text);
}

void scene_give(struct scene *s)
{
	struct gw_err e = {0};
	if (gw_pages_give(s->pages, s->store, &e) < 0)
		fail_msg("%s", e.text);
}

void scene_go(struct scene *s)
{
	char c = 0;
	for (unsigned i = 0; i < s->nv; i++)
		assert_int_equal(gw_send_fds(s->v[i].ctl, &c, 1, &s->sock, 1), 0);
}

void scene_finish(struct scene *s)
{
	uint32_t word = 0x52535446;
	assert_int_equal(gw_write_full(s->sock, &word, sizeof(word)), 0);
	(void)close(s->sock);
	s->sock = -1;
}

void scene_wait_done(struct scene *s)
{
	struct gw_err e = {0};
	struct gw_pages_status st = {0};
	uint64_t end = gw_now_ms() + WAIT_MS;
	while (gw_pages_status(s->pages, &st, &e) == 0 && !st.done && gw_now_ms() < end)
		gw_sleep_us(1000);
	if (!st.done)
		fail_msg("not done: %s; %llu bytes left", e.text, (unsigned long long)st.left_bytes);
	assert_int_equal(st.left_bytes, 0);
}

void scene_wait_stage(struct scene *s, unsigned stage)
{
	uint64_t end = gw_now_ms() + WAIT_MS;
	for (unsigned i = 0; i < s->nv; i++)
		while (atomic_load(&s->v[i].rep->stage) < stage) {
			if (gw_now_ms() > end || s->v[i].rep->text[0])
				fail_msg("victim %u is at stage %u, not %u: %s", i, atomic_load(&s->v[i].rep->stage),
				         stage, s->v[i].rep->text);
			gw_sleep_us(200);
		}
}

int victim_wait_status(struct victim *v)
{
	int st = -1;
	int pfd = (int)syscall(SYS_pidfd_open, v->pid, 0);
	assert_true(pfd >= 0);
	struct pollfd p = {.fd = pfd, .events = POLLIN};
	int n = poll(&p, 1, WAIT_MS);
	(void)close(pfd);
	if (n != 1)
		fail_msg("victim %d did not end: stage %u, %u pages checked", v->pid, atomic_load(&v->rep->stage),
		         atomic_load(&v->rep->checked));
	assert_int_equal(waitpid(v->pid, &st, 0), v->pid);
	v->pid = -1;
	return st;
}

unsigned victim_wait(struct victim *v)
{
	int st = victim_wait_status(v);
	if (st != 0 || v->rep->text[0] || atomic_load(&v->rep->wrong))
		fail_msg("victim: %s (status 0x%x, %u pages wrong)", v->rep->text, (unsigned)st,
		         atomic_load(&v->rep->wrong));
	return atomic_load(&v->rep->checked);
}

bool is_gone(pid_t pid)
{
	char path[64], *text;
	struct gw_err e;
	gw_path(path, sizeof(path), "/proc/%d/stat", pid);
	if (gw_read_file(path, 4096, &text, NULL, &e) < 0)
		return true;
	const char *state = strrchr(text, ')');
	bool gone = state && state[1] && (state[2] == 'Z' || state[2] == 'X');
	free(text);
	return gone;
}

void wait_gone(pid_t pid)
{
	uint64_t end = gw_now_ms() + 20000;
	while (!is_gone(pid))
		if (gw_now_ms() > end)
			fail_msg("process %d is still there", pid);
		else
			gw_sleep_us(500);
}

/* The keeper is the page server's only child. */
pid_t keeper_of(const struct scene *s)
{
	char path[96], *text;
	struct gw_err e = {0};
	pid_t pid = gw_pages_pid(s->pages);
	gw_path(path, sizeof(path), "/proc/%d/task/%d/children", pid, pid);
	if (gw_read_file(path, 4096, &text, NULL, &e) < 0)
		return -1;
	pid_t keeper = (pid_t)strtol(text, NULL, 10);
	free(text);
	return keeper > 0 ? keeper : -1;
}

void scene_run(struct scene *s)
{
	scene_start(s);
	scene_give(s);
	scene_go(s);
}
