#include "test.h"

#include "track_rig.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/scope.h"

enum { PAGE = 4096, BUCKETS = 1 << 16, ANSWER_MS = 20000 };

/* What the destination has of one space. */
struct rig_page {
	uint64_t page;
	unsigned round; /* that brought it last */
	struct rig_page *next;
	unsigned char data[PAGE];
};

struct rig_space {
	struct gw_space s;
	struct rig_page **bucket;
	uint64_t *recent; /* pages of the last round */
	size_t nrecent, recent_cap;
};

static char answer[256];

/* ---- cgroup ---- */

static void knob(const char *dir, const char *name, const char *value)
{
	char path[PATH_MAX];
	gw_path(path, sizeof(path), "%s/%s", dir, name);
	int rc = gw_write_knob(path, value);
	if (rc < 0)
		fail_msg("write %s to %s: %s", value, path, strerror(-rc));
}

static bool is_frozen(struct rig *r)
{
	char path[PATH_MAX];
	gw_auto(mem) char *text = NULL;
	gw_path(path, sizeof(path), "%s/%s", r->cgroup, r->v2 ? "cgroup.events" : "freezer.state");
	assert_int_equal(gw_read_file(path, 4096, &text, NULL, NULL), 0);
	return strstr(text, r->v2 ? "frozen 1" : "FROZEN") != NULL;
}

void rig_freeze(struct rig *r)
{
	for (int i = 0; i < 20000; i++) {
		if (i % 400 == 0)
			knob(r->cgroup, r->v2 ? "cgroup.freeze" : "freezer.state", r->v2 ? "1" : "FROZEN");
		if (is_frozen(r))
			return;
		gw_sleep_us(100);
	}
	fail_msg("the cgroup did not freeze");
}

void rig_thaw(struct rig *r)
{
	knob(r->cgroup, r->v2 ? "cgroup.freeze" : "freezer.state", r->v2 ? "0" : "THAWED");
}

static void kill_all_in(const char *dir)
{
	char path[PATH_MAX];
	gw_auto(mem) char *text = NULL;
	gw_path(path, sizeof(path), "%s/cgroup.procs", dir);
	if (gw_read_file(path, 1 << 20, &text, NULL, NULL) < 0)
		return;
	for (char *p = text; *p; p += strcspn(p, "\n"), p += *p == '\n')
		if (strtol(p, NULL, 10) > 1)
			(void)kill((pid_t)strtol(p, NULL, 10), SIGKILL);
}

/* Everybody out of dir and what is in it, and away with it. */
static void remove_cgroup(const char *dir)
{
	char path[PATH_MAX];
	for (int i = 0; i < 2000; i++) {
		gw_auto(dir) DIR *d = opendir(dir);
		const struct dirent *de;
		if (!d)
			return;
		gw_path(path, sizeof(path), "%s/freezer.state", dir);
		if (gw_write_knob(path, "THAWED") == -ENOENT) {
			gw_path(path, sizeof(path), "%s/cgroup.freeze", dir);
			(void)gw_write_knob(path, "0");
		}
		kill_all_in(dir);
		while ((de = readdir(d)))
			if (de->d_type == DT_DIR && de->d_name[0] != '.') {
				gw_path(path, sizeof(path), "%s/%s", dir, de->d_name);
				remove_cgroup(path);
			}
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		if (rmdir(dir) == 0 || errno == ENOENT)
			return;
		gw_sleep_us(1000);
	}
}

/* Of runs that were killed. */
static void remove_stale(const char *base)
{
	gw_auto(dir) DIR *d = opendir(base);
	const struct dirent *de;
	int pid;
	while (d && (de = readdir(d))) {
		char path[PATH_MAX];
		if (sscanf(de->d_name, "gw-track-%d", &pid) != 1 || kill(pid, 0) == 0 || errno != ESRCH)
			continue;
		gw_path(path, sizeof(path), "%s/%s", base, de->d_name);
		remove_cgroup(path);
	}
}

enum gw_track_backend rig_backend(void)
{
	const char *want = getenv("GW_TRACK_BACKEND");
	if (want && !strcmp(want, "uffd"))
		return GW_TRACK_UFFD;
	if (want && !strcmp(want, "soft-dirty"))
		return GW_TRACK_SOFT_DIRTY;
	return GW_TRACK_AUTO;
}

void rig_need_backend(void)
{
	char why[400];
	enum gw_track_backend works = gw_track_supported(why, sizeof(why)), want = rig_backend();
	if (geteuid() != 0) {
		printf("1..0 # SKIP needs root\n");
		exit(77);
	}
	if (works != GW_TRACK_AUTO && (want == GW_TRACK_AUTO || want == works))
		return;
	struct gw_tracker *t;
	struct gw_err e = {0};
	if (want != GW_TRACK_AUTO && gw_tracker_new(want, "/", getpid(), &t, &e) == 0) {
		gw_tracker_free(t);
		return;
	}
	printf("1..0 # SKIP %s\n", want == GW_TRACK_AUTO ? why : e.text);
	exit(77);
}

static void forget_spaces(struct rig *r)
{
	for (unsigned i = 0; i < r->nspaces; i++) {
		for (size_t b = 0; b < BUCKETS; b++)
			for (struct rig_page *p = r->spaces[i].bucket[b], *next; p; p = next) {
				next = p->next;
				free(p);
			}
		free(r->spaces[i].bucket);
		free(r->spaces[i].recent);
	}
	free(r->spaces);
	r->spaces = NULL;
	r->nspaces = r->spaces_cap = 0;
}

int rig_open(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	assert_non_null(r);
	r->verbose = getenv("GW_TRACK_VERBOSE") != NULL;
	r->v2 = access("/sys/fs/cgroup/freezer", F_OK) != 0;
	const char *base = r->v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/freezer";
	remove_stale(base);
	gw_path(r->cgroup, sizeof(r->cgroup), "%s/gw-track-%d", base, getpid());
	(void)signal(SIGPIPE, SIG_IGN);
	if (mkdir(r->cgroup, 0755) < 0 && errno != EEXIST)
		fail_msg("make cgroup %s: %s", r->cgroup, strerror(errno));
	*state = r;
	return 0;
}

int rig_close(void **state)
{
	struct rig *r = *state;
	gw_tracker_free(r->t);
	for (unsigned i = 0; i < r->nv; i++) {
		if (r->v[i].pid > 0)
			(void)kill(r->v[i].pid, SIGKILL);
		(void)close(r->v[i].to);
		(void)close(r->v[i].from);
	}
	remove_cgroup(r->cgroup);
	forget_spaces(r);
	bool left = access(r->cgroup, F_OK) == 0;
	free(r);
	return left ? -1 : 0;
}

/* ---- victims ---- */

static void become_victim(const char *dir, const char *what, int in, int out)
{
	char path[PATH_MAX], pid[16];
	const char *program = getenv("GW_TRACK_VICTIM");
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	gw_path(path, sizeof(path), "%s/cgroup.procs", dir);
	gw_path(pid, sizeof(pid), "%d", getpid());
	if (gw_write_knob(path, pid) < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0)
		_exit(120);
	(void)signal(SIGPIPE, SIG_DFL);
	execl(program ? program : "./track_victim", "track_victim", what, NULL);
	_exit(121);
}

struct rig_victim *rig_start_in(struct rig *r, const char *child_cgroup, const char *what)
{
	char dir[PATH_MAX];
	int in[2], out[2];
	assert_true(r->nv < gw_countof(r->v));
	gw_path(dir, sizeof(dir), "%s%s%s", r->cgroup, child_cgroup ? "/" : "", child_cgroup ? child_cgroup : "");
	if (child_cgroup && mkdir(dir, 0755) < 0 && errno != EEXIST)
		fail_msg("make cgroup %s: %s", dir, strerror(errno));
	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		become_victim(dir, what, in[0], out[1]);
	(void)close(in[0]);
	(void)close(out[1]);
	struct rig_victim *v = &r->v[r->nv++];
	*v = (struct rig_victim){.pid = pid, .to = in[1], .from = out[0]};
	const char *a = rig_answer(v);
	if (!strcmp(a, "skip")) {
		print_message("victim %s: not possible here\n", what);
		skip();
	}
	if (strcmp(a, "ready") != 0)
		fail_msg("victim %s says \"%s\"", what, a);
	return v;
}

struct rig_victim *rig_start(struct rig *r, const char *what)
{
	return rig_start_in(r, NULL, what);
}

void rig_send(struct rig_victim *v, char step)
{
	if (write(v->to, &step, 1) != 1)
		fail_msg("the victim does not listen: %s", strerror(errno));
}

const char *rig_answer(struct rig_victim *v)
{
	size_t n = 0;
	uint64_t end = gw_now_ms() + ANSWER_MS;
	while (n < sizeof(answer) - 1) {
		struct pollfd p = {.fd = v->from, .events = POLLIN};
		int64_t left = (int64_t)(end - gw_now_ms());
		if (left <= 0 || poll(&p, 1, (int)left) <= 0)
			fail_msg("the victim does not answer");
		if (read(v->from, answer + n, 1) != 1)
			fail_msg("the victim has ended");
		if (answer[n] == '\n')
			break;
		n++;
	}
	answer[n] = 0;
	return answer;
}

const char *rig_step(struct rig_victim *v, char step)
{
	rig_send(v, step);
	return rig_answer(v);
}

void rig_end(struct rig *r, struct rig_victim *v)
{
	(void)r;
	(void)kill(v->pid, SIGKILL);
	(void)waitpid(v->pid, NULL, 0);
	v->pid = -1;
}

uint64_t rig_status_kb(pid_t pid, const char *key)
{
	char path[64];
	gw_auto(mem) char *text = NULL;
	gw_path(path, sizeof(path), "/proc/%d/status", pid);
	assert_int_equal(gw_read_file(path, 1 << 20, &text, NULL, NULL), 0);
	char *at = strstr(text, key);
	return at ? strtoull(at + strlen(key) + 1, NULL, 10) : 0;
}

/* ---- the destination ---- */

static struct rig_space *space_by_id(struct rig *r, uint32_t id)
{
	for (unsigned i = 0; i < r->nspaces; i++)
		if (r->spaces[i].s.id == id)
			return &r->spaces[i];
	fail_msg("space %u was not announced", id);
	return NULL;
}

static struct rig_space *space_by_pid(struct rig *r, pid_t pid)
{
	for (unsigned i = r->nspaces; i-- > 0;)
		if (r->spaces[i].s.kind == GW_SPACE_PROC && r->spaces[i].s.pid == pid)
			return &r->spaces[i];
	return NULL;
}

uint64_t rig_spaces_of(struct rig *r, pid_t pid)
{
	uint64_t n = 0;
	for (unsigned i = 0; i < r->nspaces; i++)
		n += r->spaces[i].s.kind == GW_SPACE_PROC && r->spaces[i].s.pid == pid;
	return n;
}

static struct rig_page **slot(struct rig_space *s, uint64_t page)
{
	struct rig_page **p = &s->bucket[(page * 0x9E3779B97F4A7C15u) >> 48];
	while (*p && (*p)->page != page)
		p = &(*p)->next;
	return p;
}

static int failing(struct rig *r, struct gw_err *e)
{
	if (r->fail_after && --r->fail_after == 0)
		return gw_fail(e, GW_PEER, ECONNRESET, "the destination went away");
	return 0;
}

static int on_space(void *ctx, const struct gw_space *s, struct gw_err *e)
{
	struct rig *r = ctx;
	if (failing(r, e) < 0)
		return -ECONNRESET;
	for (unsigned i = 0; i < r->nspaces; i++)
		if (r->spaces[i].s.id == s->id) {
			assert_int_equal(s->kind, GW_SPACE_SHMEM);
			r->spaces[i].s = *s;
			return 0;
		}
	if (r->nspaces == r->spaces_cap) {
		r->spaces_cap = r->spaces_cap ? r->spaces_cap * 2 : 64;
		r->spaces = reallocarray(r->spaces, r->spaces_cap, sizeof(*r->spaces));
		assert_non_null(r->spaces);
	}
	r->spaces[r->nspaces++] = (struct rig_space){.s = *s, .bucket = calloc(BUCKETS, sizeof(struct rig_page *))};
	return 0;
}

static int open_space(const struct gw_space *s)
{
	char path[64];
	if (s->kind == GW_SPACE_SHMEM)
		return fcntl(s->fd, F_DUPFD_CLOEXEC, 3);
	gw_path(path, sizeof(path), "/proc/%d/mem", s->pid);
	return open(path, O_RDONLY | O_CLOEXEC);
}

static void take_page(struct rig *r, struct rig_space *s, int mem, uint64_t page)
{
	unsigned char data[PAGE];
	if (s->nrecent == s->recent_cap) {
		s->recent_cap = s->recent_cap ? s->recent_cap * 2 : 1024;
		s->recent = reallocarray(s->recent, s->recent_cap, sizeof(*s->recent));
		assert_non_null(s->recent);
	}
	s->recent[s->nrecent++] = page;
	r->dirty_pages++;
	if (pread(mem, data, PAGE, (off_t)(page * PAGE)) != PAGE) {
		r->unreadable++;
		return;
	}
	struct rig_page **p = slot(s, page);
	if (!*p) {
		*p = calloc(1, sizeof(**p));
		assert_non_null(*p);
		(*p)->page = page;
	}
	memcpy((*p)->data, data, PAGE);
}

static int on_dirty(void *ctx, uint32_t id, const struct gw_span *spans, size_t n, struct gw_err *e)
{
	struct rig *r = ctx;
	if (failing(r, e) < 0)
		return -ECONNRESET;
	struct rig_space *s = space_by_id(r, id);
	gw_auto(fd) int mem = open_space(&s->s);
	for (size_t i = 0; i < n; i++) {
		assert_in_range(spans[i].npages, 1, 256);
		assert_int_equal(spans[i].addr % PAGE, 0);
		for (uint32_t k = 0; k < spans[i].npages; k++)
			take_page(r, s, mem, spans[i].addr / PAGE + k);
	}
	return 0;
}

static int on_drop(void *ctx, uint32_t id, const struct gw_span *spans, size_t n, struct gw_err *e)
{
	struct rig *r = ctx;
	if (failing(r, e) < 0)
		return -ECONNRESET;
	struct rig_space *s = space_by_id(r, id);
	for (size_t i = 0; i < n; i++)
		for (uint32_t k = 0; k < spans[i].npages; k++) {
			struct rig_page **p = slot(s, spans[i].addr / PAGE + k);
			r->dropped_pages++;
			if (*p) {
				struct rig_page *gone = *p;
				*p = gone->next;
				free(gone);
			}
		}
	return 0;
}

static int by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

int rig_try(struct rig *r, bool is_final, struct gw_err *e)
{
	const struct gw_track_sink sink = {.ctx = r, .space = on_space, .dirty = on_dirty, .drop = on_drop};
	for (unsigned i = 0; i < r->nspaces; i++)
		r->spaces[i].nrecent = 0;
	r->dirty_pages = r->dropped_pages = 0;
	int rc = gw_tracker_round(r->t, is_final, &sink, &r->last, e);
	for (unsigned i = 0; i < r->nspaces; i++)
		if (r->spaces[i].nrecent)
			qsort(r->spaces[i].recent, r->spaces[i].nrecent, sizeof(uint64_t), by_number);
	if (rc == 0) {
		assert_int_equal(r->dirty_pages, r->last.dirty_pages);
		assert_true(is_final || r->dropped_pages == 0);
	}
	if (r->verbose && rc == 0)
		print_message("%s: %" PRIu64 " dirty, %" PRIu64 " dropped, %" PRIu64
		              " present, %u processes, scan %" PRIu64 " us, stopped %" PRIu64 " us\n",
		              is_final ? "final" : "round", r->dirty_pages, r->dropped_pages, r->last.present_pages,
		              r->last.processes, r->last.scan_us, r->last.stopped_us);
	return rc;
}

void rig_track(struct rig *r)
{
	struct gw_err e = {0};
	forget_spaces(r);
	if (gw_tracker_new(rig_backend(), r->cgroup, r->v[0].pid, &r->t, &e) < 0)
		fail_msg("%s", e.text);
}

void rig_round(struct rig *r)
{
	struct gw_err e = {0};
	if (rig_try(r, false, &e) < 0)
		fail_msg("round: %s", e.text);
}

uint64_t rig_reported(struct rig *r, pid_t pid, uint64_t start, uint64_t len)
{
	struct rig_space *s = space_by_pid(r, pid);
	uint64_t n = 0;
	assert_non_null(s);
	for (size_t i = 0; i < s->nrecent; i++)
		n += s->recent[i] >= start / PAGE && s->recent[i] < (start + len) / PAGE &&
		     (i == 0 || s->recent[i] != s->recent[i - 1]);
	return n;
}

/* ---- the truth ---- */

/* Written anew on purpose: the real smaps, read the slow way. */
struct truth {
	uint64_t start, end;
	char line[512];
	char flags[160];
	bool lazy;
};

static bool has(const char *flags, const char *f)
{
	for (const char *p = flags; (p = strstr(p, f)); p++)
		if ((p == flags || p[-1] == ' ') && (p[2] == ' ' || !p[2]))
			return true;
	return false;
}

static bool lazy(const struct truth *t)
{
	char perms[8], name[256] = "";
	unsigned long long off, ino;
	unsigned maj, min;
	if (sscanf(t->line, "%*x-%*x %4s %llx %x:%x %llu %255s", perms, &off, &maj, &min, &ino, name) < 5)
		fail_msg("odd line: %s", t->line);
	if (perms[3] != 'p' || ino || !strcmp(name, "[vdso]") || !strncmp(name, "[vvar", 5) ||
	    !strcmp(name, "[vsyscall]") || !strcmp(name, "[uprobes]"))
		return false;
	const char *const not_lazy[] = {"lo", "ht", "ss", "dp", "io", "pf"};
	for (size_t i = 0; i < gw_countof(not_lazy); i++)
		if (has(t->flags, not_lazy[i]))
			return false;
	return true;
}

static struct truth *truth_of(pid_t pid, size_t *n)
{
	char path[64], line[4096];
	struct truth *v = NULL;
	size_t cap = 0;
	*n = 0;
	gw_path(path, sizeof(path), "/proc/%d/smaps", pid);
	gw_auto(file) FILE *f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		unsigned long long start, end;
		line[strcspn(line, "\n")] = 0;
		if (sscanf(line, "%llx-%llx %*[rwxp-]", &start, &end) == 2 && strchr("0123456789abcdef", line[0])) {
			if (*n == cap) {
				cap = cap ? cap * 2 : 64;
				v = reallocarray(v, cap, sizeof(*v));
				assert_non_null(v);
			}
			v[*n] = (struct truth){.start = start, .end = end};
			(void)snprintf(v[*n].line, sizeof(v[*n].line), "%.500s", line);
			++*n;
		} else if (!strncmp(line, "VmFlags: ", 9)) {
			(void)snprintf(v[*n - 1].flags, sizeof(v[*n - 1].flags), "%.150s", line + 9);
			v[*n - 1].lazy = lazy(&v[*n - 1]);
		}
	}
	return v;
}

/* What CRIU takes from VmFlags. */
static void relevant(const char *flags, char *out)
{
	static const char *const list[] = {"gd", "lo", "nr", "ht", "dp", "sr", "rr", "dc",
	                                   "dd", "mg", "hg", "nh", "wf", "io", "pf", "ss"};
	*out = 0;
	for (size_t i = 0; i < gw_countof(list); i++)
		if (has(flags, list[i]))
			(void)strcat(strcat(out, list[i]), " ");
}

static int smaps_one(void *ctx, pid_t pid, const char *text, size_t len, const struct gw_lazy_range *ranges,
                     size_t nranges, struct gw_err *e)
{
	size_t n, at = 0, range = 0;
	(void)ctx;
	(void)e;
	gw_auto(mem) struct truth *v = truth_of(pid, &n);
	gw_auto(mem) char *copy = strndup(text, len);
	char *save = NULL, *line = strtok_r(copy, "\n", &save);
	for (size_t i = 0; i < n; i++) {
		char want[64], got[64];
		if (!line || strcmp(line, v[i].line) != 0)
			fail_msg("pid %d: mapping line\n%s\nis\n%s", pid, v[i].line, line ? line : "(none)");
		line = strtok_r(NULL, "\n", &save);
		assert_non_null(line);
		assert_memory_equal(line, "VmFlags: ", 9);
		relevant(v[i].flags, want);
		relevant(line + 9, got);
		/* "nr" and "nh" say nothing about contents and cannot be seen on what is new. */
		if (strcmp(want, got) != 0 && (strcmp(want, "nr ") || *got) && (strcmp(want, "nh ") || *got))
			fail_msg("pid %d: %s\nflags are \"%s\", we say \"%s\"", pid, v[i].line, want, got);
		line = strtok_r(NULL, "\n", &save);
		if (!v[i].lazy)
			continue;
		if (at != v[i].start)
			assert_true(range < nranges && ranges[range].start == v[i].start);
		assert_true(range < nranges && v[i].end <= ranges[range].end);
		at = v[i].end;
		range += at == ranges[range].end;
	}
	assert_null(line);
	assert_int_equal(range, nranges);
	return 0;
}

static int note_ours(void *ctx, const struct gw_space *s, struct gw_err *e)
{
	struct rig *r = ctx;
	(void)e;
	assert_true(r->nours < sizeof(r->ours) / sizeof(r->ours[0]));
	r->ours[r->nours++] = s->id;
	return 0;
}

void rig_check_smaps(struct rig *r)
{
	struct gw_err e = {0};
	if (gw_tracker_smaps(r->t, smaps_one, NULL, &e) < 0)
		fail_msg("smaps: %s", e.text);
	r->nours = 0;
	assert_int_equal(gw_tracker_shmem(r->t, note_ours, r, &e), 0);
}

/* Which of the pages may hold something: only asked for very large mappings. */
static bool maybe_there(int pagemap, uint64_t page)
{
	static uint64_t entries[1 << 16], base = UINT64_MAX;
	static int of = -1;
	static ssize_t got;
	if (of != pagemap || page < base || page >= base + (uint64_t)got) {
		got = pread(pagemap, entries, sizeof(entries), (off_t)(page * 8)) / 8;
		base = page;
		of = pagemap;
		assert_true(got > 0);
	}
	return entries[page - base] >> 62;
}

static void compare_vma(struct rig_space *s, pid_t pid, const struct truth *t, int mem, int pagemap, uint64_t *seen)
{
	static const unsigned char zero[PAGE];
	unsigned char data[PAGE];
	bool large = t->end - t->start > (uint64_t)256 << 20;
	for (uint64_t a = t->start; a < t->end; a += PAGE) {
		struct rig_page *p = s ? *slot(s, a / PAGE) : NULL;
		*seen += p != NULL;
		if (!p && large && !maybe_there(pagemap, a / PAGE))
			continue;
		if (pread(mem, data, PAGE, (off_t)a) != PAGE) {
			if (p)
				fail_msg("pid %d %s: page %" PRIx64 " cannot be read, but the destination has it", pid,
				         t->line, a);
			continue;
		}
		if (memcmp(data, p ? p->data : zero, PAGE) != 0) {
			size_t i = 0;
			while (data[i] == (p ? p->data : zero)[i])
				i++;
			fail_msg("pid %d %s: page %" PRIx64 " differs at %zu: is %02x, the destination has %02x%s", pid,
			         t->line, a, i, data[i], (p ? p->data : zero)[i], p ? "" : " (nothing)");
		}
	}
}

static uint64_t pages_held(const struct rig_space *s)
{
	uint64_t n = 0;
	for (size_t b = 0; s && b < BUCKETS; b++)
		for (const struct rig_page *p = s->bucket[b]; p; p = p->next)
			n++;
	return n;
}

static void compare_process(struct rig *r, pid_t pid)
{
	size_t n;
	uint64_t seen = 0;
	char path[64];
	struct rig_space *s = space_by_pid(r, pid);
	gw_path(path, sizeof(path), "/proc/%d/mem", pid);
	gw_auto(fd) int mem = open(path, O_RDONLY | O_CLOEXEC);
	gw_path(path, sizeof(path), "/proc/%d/pagemap", pid);
	gw_auto(fd) int pagemap = open(path, O_RDONLY | O_CLOEXEC);
	gw_auto(mem) struct truth *v = truth_of(pid, &n);
	if (!n)
		return;
	for (size_t i = 0; i < n; i++)
		if (v[i].lazy)
			compare_vma(s, pid, &v[i], mem, pagemap, &seen);
	assert_non_null(s);
	if (seen != pages_held(s))
		fail_msg("pid %d: the destination has %" PRIu64 " pages outside of lazy memory", pid,
		         pages_held(s) - seen);
}

static void compare_dir(struct rig *r, const char *dir, unsigned *alive)
{
	char path[PATH_MAX];
	gw_auto(mem) char *text = NULL;
	gw_path(path, sizeof(path), "%s/cgroup.procs", dir);
	assert_int_equal(gw_read_file(path, 1 << 20, &text, NULL, NULL), 0);
	for (char *p = text; *p; p += strcspn(p, "\n"), p += *p == '\n') {
		compare_process(r, (pid_t)strtol(p, NULL, 10));
		++*alive;
	}
	gw_auto(dir) DIR *d = opendir(dir);
	const struct dirent *de;
	while (d && (de = readdir(d)))
		if (de->d_type == DT_DIR && de->d_name[0] != '.') {
			gw_path(path, sizeof(path), "%s/%s", dir, de->d_name);
			compare_dir(r, path, alive);
		}
}

static bool is_ours(const struct rig *r, uint32_t space)
{
	for (unsigned i = 0; i < r->nours; i++)
		if (r->ours[i] == space)
			return true;
	return false;
}

static void compare_object(const struct rig *r, struct rig_space *s)
{
	unsigned char data[PAGE];
	static const unsigned char zero[PAGE];
	bool ours = is_ours(r, s->s.id);
	for (uint64_t p = 0; ours && p < s->s.size_bytes / PAGE; p++) {
		const struct rig_page *have = *slot(s, p);
		assert_int_equal(pread(s->s.fd, data, PAGE, (off_t)(p * PAGE)), PAGE);
		if (memcmp(data, have ? have->data : zero, PAGE) != 0)
			fail_msg("shared object %" PRIu64 ": page %" PRIu64 " differs", s->s.shmid, p);
	}
	if (!ours)
		assert_int_equal(pages_held(s), 0);
}

void rig_compare(struct rig *r)
{
	unsigned alive = 0;
	compare_dir(r, r->cgroup, &alive);
	assert_true(alive > 0);
	for (unsigned i = 0; i < r->nspaces; i++)
		if (r->spaces[i].s.kind == GW_SPACE_SHMEM)
			compare_object(r, &r->spaces[i]);
		else if (kill(r->spaces[i].s.pid, 0) < 0)
			assert_int_equal(pages_held(&r->spaces[i]), 0);
}

void rig_final(struct rig *r)
{
	struct gw_err e = {0};
	rig_freeze(r);
	rig_check_smaps(r);
	if (rig_try(r, true, &e) < 0)
		fail_msg("final round: %s", e.text);
	rig_compare(r);
}
