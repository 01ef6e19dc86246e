#include "files/pagelog_trace.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"
#include "base/scope.h"
#include "files/pagelog.h"

/* A page of the ring buffer: when (u64), how much follows and flags (u64), events. */
enum { RING_DATA = 16, RING_PAGE_MAX = 64 << 10, CPUS_MAX = 4096, TEXT_MAX = 64 << 10 };
static const uint64_t RING_LEN = 0xfffff, RING_MISSED = UINT64_C(1) << 31;
/* An event: u32 with its type or its length in words, and the time since the last. */
enum { EV_LONG = 0, EV_PADDING = 29, EV_EXTEND = 30, EV_STAMP = 31 };

static const char PREFIX[] = "godwit.";
static const struct {
	const char *dir, *ino;
} EVENTS[] = {{"writeback/writeback_dirty_folio", "ino"}, {"filemap/mm_filemap_delete_from_page_cache", "i_ino"}};
enum { NEVENTS = 2 };

struct field {
	unsigned at, size; /* size 0: there is none */
};
struct event {
	unsigned id;
	struct field ino, index, order;
};

struct gw_trace {
	int root, dir; /* tracefs, and our instance in it */
	char name[40];
	struct event events[NEVENTS];
	int *cpus; /* trace_pipe_raw of each */
	unsigned ncpus;
	uint64_t lost;      /* as the kernel counts it, of all */
	uint64_t folio_max; /* pages */
	uint8_t page[RING_PAGE_MAX];
};

static int read_at(int dir, const char *path, char *out, size_t size)
{
	gw_auto(fd) int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
	size_t n = 0;
	if (fd < 0)
		return -errno;
	for (ssize_t got = 1; got > 0 && n + 1 < size; n += (size_t)got)
		if ((got = read(fd, out + n, size - 1 - n)) < 0)
			return -errno;
	out[n] = 0;
	return 0;
}

static int write_at(int dir, const char *path, const char *text)
{
	gw_auto(fd) int fd = openat(dir, path, O_WRONLY | O_CLOEXEC);
	size_t n = strlen(text);
	return fd >= 0 && write(fd, text, n) == (ssize_t)n ? 0 : -errno;
}

static int open_tracefs(void)
{
	gw_auto(fd) int fs = (int)syscall(SYS_fsopen, "tracefs", FSOPEN_CLOEXEC);
	if (fs < 0 || syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -1;
	return (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, 0);
}

/* "field:TYPE NAME;\toffset:N;\tsize:N;" of a format file. */
static struct field find_field(const char *format, const char *name)
{
	char want[40];
	struct field f = {0};
	(void)snprintf(want, sizeof(want), " %s;", name);
	const char *at = strstr(format, want);
	if (!at || sscanf(at + strlen(want), " offset:%u; size:%u;", &f.at, &f.size) != 2)
		return (struct field){0};
	return f;
}

static int read_formats(struct gw_trace *t, struct gw_err *e)
{
	char path[128];
	gw_auto(mem) char *text = malloc(TEXT_MAX);
	if (!text)
		return gw_fail(e, GW_SYS, ENOMEM, "follow pages");
	int rc = read_at(t->root, "events/header_page", text, TEXT_MAX);
	if (rc < 0 || find_field(text, "data").at != RING_DATA)
		return gw_fail(e, GW_SYS, rc < 0 ? -rc : ENOTSUP, "the trace's pages have another layout");
	for (size_t i = 0; i < NEVENTS; i++) {
		struct event *ev = &t->events[i];
		const char *id;
		gw_path(path, sizeof(path), "events/%s/format", EVENTS[i].dir);
		rc = read_at(t->root, path, text, TEXT_MAX);
		id = rc < 0 ? NULL : strstr(text, "\nID: ");
		if (!id)
			return gw_fail(e, GW_SYS, rc < 0 ? -rc : ENOTSUP, "no tracepoint %s", EVENTS[i].dir);
		ev->id = (unsigned)strtoul(id + 5, NULL, 10);
		ev->ino = find_field(text, EVENTS[i].ino);
		ev->index = find_field(text, "index");
		ev->order = find_field(text, "order");
		if (ev->ino.size != 8 || ev->index.size != 8 || ev->order.size > 1)
			return gw_fail(e, GW_SYS, ENOTSUP, "tracepoint %s has another layout", EVENTS[i].dir);
	}
	return 0;
}

/* Of processes that were killed: one in use refuses to go. */
static void remove_left(int root)
{
	int fd = openat(root, "instances", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	gw_auto(dir) DIR *d = fd < 0 ? NULL : fdopendir(fd);
	for (struct dirent *de; d && (de = readdir(d));)
		if (!strncmp(de->d_name, PREFIX, strlen(PREFIX)))
			(void)unlinkat(fd, de->d_name, AT_REMOVEDIR);
}

static int open_cpus(struct gw_trace *t, struct gw_err *e)
{
	char path[64];
	t->cpus = calloc(CPUS_MAX, sizeof(*t->cpus));
	if (!t->cpus)
		return gw_fail(e, GW_SYS, ENOMEM, "follow pages");
	for (; t->ncpus < CPUS_MAX; t->ncpus++) {
		gw_path(path, sizeof(path), "per_cpu/cpu%u/trace_pipe_raw", t->ncpus);
		int fd = openat(t->dir, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		if (fd < 0 && errno != ENOENT)
			return gw_fail(e, GW_SYS, errno, "open %s of the trace", path);
		if (fd < 0)
			break;
		t->cpus[t->ncpus] = fd;
	}
	return t->ncpus ? 0 : gw_fail(e, GW_SYS, ENOENT, "a trace without CPUs");
}

/* How many pages one folio of a page cache has at most. */
static uint64_t folio_max(void)
{
	gw_auto(mem) char *text = NULL;
	struct gw_err ignored;
	uint64_t bytes = 1 << 20;
	if (gw_read_file("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", 64, &text, NULL, &ignored) == 0 &&
	    strtoull(text, NULL, 10) > bytes)
		bytes = strtoull(text, NULL, 10);
	return bytes / 4096;
}

int gw_trace_new(struct gw_trace **out, struct gw_err *e)
{
	static atomic_uint number;
	char path[64];
	struct gw_trace *t = calloc(1, sizeof(*t));
	assert(t);
	t->dir = -1;
	t->folio_max = folio_max();
	t->root = open_tracefs();
	int rc = t->root < 0 ? gw_fail(e, GW_SYS, errno, "open tracefs") : read_formats(t, e);
	if (rc == 0) {
		remove_left(t->root);
		gw_path(t->name, sizeof(t->name), "%s%d.%u", PREFIX, (int)getpid(), ++number);
		gw_path(path, sizeof(path), "instances/%s", t->name);
		if (mkdirat(t->root, path, 0700) < 0)
			rc = gw_fail(e, GW_SYS, errno, "make an instance of the trace");
		else
			t->dir = openat(t->root, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	if (rc == 0)
		rc = t->dir < 0 ? gw_fail(e, GW_SYS, errno, "open our instance of the trace") : open_cpus(t, e);
	if (rc < 0) {
		gw_trace_free(t);
		return rc;
	}
	*out = t;
	return 0;
}

void gw_trace_free(struct gw_trace *t)
{
	char path[64];
	if (!t)
		return;
	for (unsigned i = 0; i < t->ncpus; i++)
		(void)close(t->cpus[i]);
	free(t->cpus);
	gw_end_fd(&t->dir);
	if (t->name[0]) {
		gw_path(path, sizeof(path), "instances/%s", t->name);
		(void)unlinkat(t->root, path, AT_REMOVEDIR);
	}
	gw_end_fd(&t->root);
	free(t);
}

int gw_trace_follow(struct gw_trace *t, const uint64_t *inos, size_t n, struct gw_err *e)
{
	char filter[4000], path[128];
	for (size_t i = 0; i < NEVENTS; i++) {
		int len = snprintf(filter, sizeof(filter), "%s==0", EVENTS[i].ino);
		for (size_t k = 0; k < n && len < (int)sizeof(filter); k++)
			len += snprintf(filter + len, sizeof(filter) - (size_t)len, "||%s==%lu", EVENTS[i].ino,
			                (unsigned long)inos[k]);
		assert(len < (int)sizeof(filter));
		/* The new one takes the old one's place at once: nothing is missed. */
		gw_path(path, sizeof(path), "events/%s/filter", EVENTS[i].dir);
		int rc = write_at(t->dir, path, filter);
		gw_path(path, sizeof(path), "events/%s/enable", EVENTS[i].dir);
		if (rc == 0)
			rc = write_at(t->dir, path, "1");
		if (rc < 0)
			return gw_fail(e, GW_SYS, -rc, "follow %s", EVENTS[i].dir);
	}
	return 0;
}

/* ---- reading ---- */

static uint64_t load(const uint8_t *p, unsigned n)
{
	uint64_t v = 0;
	memcpy(&v, p, n); /* little-endian, as is all of godwit */
	return v;
}

static bool one_event(const struct gw_trace *t, const uint8_t *p, size_t len, gw_trace_fn *fn, void *ctx)
{
	for (size_t i = 0; i < NEVENTS; i++) {
		const struct event *ev = &t->events[i];
		if (len < 2 || load(p, 2) != ev->id)
			continue;
		if (ev->ino.at + 8 > len || ev->index.at + 8 > len || ev->order.at + ev->order.size > len)
			return false;
		/* Without its order: a folio lies at a multiple of its size. */
		uint64_t index = load(p + ev->index.at, 8), low = index & -index, n = t->folio_max;
		if (ev->order.size)
			n = UINT64_C(1) << (p[ev->order.at] & 31);
		else if (low && low < n)
			n = low;
		fn(ctx, load(p + ev->ino.at, 8), index, n);
	}
	return true;
}

/* The events of a page. false: it makes no sense. */
static bool one_page(const struct gw_trace *t, size_t got, gw_trace_fn *fn, void *ctx)
{
	uint64_t commit = got >= RING_DATA ? load(t->page + 8, 8) : 0;
	size_t end = RING_DATA + (commit & RING_LEN);
	if (got < RING_DATA || end > got || commit & RING_MISSED)
		return false;
	for (size_t at = RING_DATA; at + 4 <= end;) {
		uint64_t head = load(t->page + at, 4), type = head & 31;
		size_t len = type * 4, skip = 4;
		if (type == EV_EXTEND || type == EV_STAMP) {
			at += 8;
			continue;
		}
		if (type == EV_PADDING && head >> 5 == 0)
			break; /* the rest of the page is empty */
		if (type == EV_PADDING || type == EV_LONG) {
			if (at + 8 > end)
				return false;
			len = load(t->page + at + 4, 4);
			skip = type == EV_LONG ? 8 : 4;
			if (len < 4)
				return false;
			len -= skip - 4;
		}
		if (at + skip + len > end)
			return false;
		if (type != EV_PADDING && !one_event(t, t->page + at + skip, len, fn, ctx))
			return false;
		at += skip + len;
	}
	return true;
}

/* What the kernel says it could not write down. */
static uint64_t count_lost(struct gw_trace *t)
{
	static const char *const NAMES[] = {"\ncommit overrun: ", "\noverrun: ", "\ndropped events: "};
	char path[64], text[1024];
	uint64_t sum = 0;
	for (unsigned i = 0; i < t->ncpus; i++) {
		gw_path(path, sizeof(path), "per_cpu/cpu%u/stats", i);
		if (read_at(t->dir, path, text, sizeof(text)) < 0)
			return t->lost + 1;
		for (size_t k = 0; k < gw_countof(NAMES); k++) {
			const char *at = strstr(text, NAMES[k]);
			sum += at ? strtoull(at + strlen(NAMES[k]), NULL, 10) : 0;
		}
	}
	return sum;
}

bool gw_trace_read(struct gw_trace *t, gw_trace_fn *fn, void *ctx)
{
	bool whole = true;
	for (unsigned i = 0; i < t->ncpus; i++)
		for (;;) {
			ssize_t n = read(t->cpus[i], t->page, sizeof(t->page));
			if (n < 0 && errno == EINTR)
				continue;
			if (n < 0 && errno != EAGAIN)
				whole = false;
			if (n <= 0)
				break;
			whole = one_page(t, (size_t)n, fn, ctx) && whole;
		}
	return whole;
}

bool gw_trace_is_whole(struct gw_trace *t)
{
	uint64_t lost = count_lost(t);
	bool whole = lost == t->lost;
	t->lost = lost;
	return whole;
}
