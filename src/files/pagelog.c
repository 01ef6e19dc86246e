/* pagelog: marks of files; where they come from is pagelog_trace.c. */
#include "files/pagelog.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "files/pagelog_trace.h"

enum { PAGE = 4096, WAKE_MS = 50 };
/* As in the kernel's uapi; older headers have neither. */
enum { SYS_CACHESTAT = 451, XFS_MAGIC = 0x58465342 };
struct range {
	uint64_t off, len;
};
struct stats {
	uint64_t cached, dirty, writeback, evicted, recently_evicted;
};

enum state { FREE, ADDED, FOLLOWED, LOOKED_AT, KNOWN };

struct file {
	enum state state;
	uint64_t ino, npages;
	uint64_t *bits;
};

struct gw_pagelog {
	struct gw_trace *trace;
	int stop_fd;
	pthread_t thread;
	pthread_mutex_t lock; /* all below, and the trace */
	struct file files[GW_PAGELOG_FILES_MAX];
	bool is_new; /* the kernel is to be told */
};

static uint64_t words(uint64_t npages)
{
	return (npages + 63) / 64;
}

static void set_bits(struct file *f, uint64_t from, uint64_t n)
{
	for (uint64_t p = from; p < f->npages && p - from < n; p++)
		f->bits[p / 64] |= UINT64_C(1) << (p % 64);
}

/* Under lock; from drain. What lies beyond the known end is marked when it is known. */
static void on_page(void *ctx, uint64_t ino, uint64_t page, uint64_t n)
{
	struct gw_pagelog *l = ctx;
	for (size_t i = 0; i < GW_PAGELOG_FILES_MAX; i++)
		if (l->files[i].state >= LOOKED_AT && l->files[i].ino == ino)
			set_bits(&l->files[i], page, n);
}

static void drain(struct gw_pagelog *l, bool count)
{
	bool whole = gw_trace_read(l->trace, on_page, l);
	if (whole && (!count || gw_trace_is_whole(l->trace)))
		return;
	for (size_t i = 0; i < GW_PAGELOG_FILES_MAX; i++)
		if (l->files[i].state > FOLLOWED)
			l->files[i].state = FOLLOWED;
}

void gw_pagelog_drain(struct gw_pagelog *l)
{
	pthread_mutex_lock(&l->lock);
	drain(l, true);
	pthread_mutex_unlock(&l->lock);
}

/* Often enough that the trace's buffer does not run over. */
static void *main_loop(void *arg)
{
	struct gw_pagelog *l = arg;
	struct pollfd p = {.fd = l->stop_fd, .events = POLLIN};
	while (poll(&p, 1, WAKE_MS) <= 0) {
		pthread_mutex_lock(&l->lock);
		drain(l, false);
		pthread_mutex_unlock(&l->lock);
	}
	return NULL;
}

int gw_pagelog_new(struct gw_pagelog **out, struct gw_err *e)
{
	struct gw_pagelog *l = calloc(1, sizeof(*l));
	assert(l);
	int rc = gw_trace_new(&l->trace, e);
	if (rc < 0) {
		free(l);
		return rc;
	}
	l->stop_fd = eventfd(0, EFD_CLOEXEC);
	pthread_mutex_init(&l->lock, NULL);
	rc = l->stop_fd < 0 ? errno : pthread_create(&l->thread, NULL, main_loop, l);
	if (rc != 0) {
		gw_trace_free(l->trace);
		(void)close(l->stop_fd);
		free(l);
		return gw_fail(e, GW_SYS, rc, "start the thread that follows pages");
	}
	*out = l;
	return 0;
}

void gw_pagelog_free(struct gw_pagelog *l)
{
	uint64_t one = 1;
	if (!l)
		return;
	(void)!write(l->stop_fd, &one, sizeof(one));
	pthread_join(l->thread, NULL);
	(void)close(l->stop_fd);
	gw_trace_free(l->trace);
	for (size_t i = 0; i < GW_PAGELOG_FILES_MAX; i++)
		free(l->files[i].bits);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

bool gw_pagelog_suits(int fd)
{
	struct statfs fs;
	struct statx st;
	if (fstatfs(fd, &fs) < 0 || statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &st) < 0)
		return false;
	bool disk = fs.f_type == EXT4_SUPER_MAGIC || fs.f_type == XFS_MAGIC || fs.f_type == BTRFS_SUPER_MAGIC;
	return disk && !(st.stx_attributes & STATX_ATTR_DAX) && sysconf(_SC_PAGESIZE) == PAGE;
}

unsigned gw_pagelog_add(struct gw_pagelog *l, uint64_t ino)
{
	for (unsigned i = 0; i < GW_PAGELOG_FILES_MAX; i++) {
		struct file *f = &l->files[i];
		if (f->state != FREE)
			continue;
		pthread_mutex_lock(&l->lock);
		*f = (struct file){.state = ADDED, .ino = ino};
		l->is_new = true;
		pthread_mutex_unlock(&l->lock);
		return i + 1;
	}
	return 0;
}

static struct file *file_of(struct gw_pagelog *l, unsigned file)
{
	assert(file > 0 && file <= GW_PAGELOG_FILES_MAX && l->files[file - 1].state != FREE);
	return &l->files[file - 1];
}

void gw_pagelog_drop(struct gw_pagelog *l, unsigned file)
{
	struct file *f = file_of(l, file);
	pthread_mutex_lock(&l->lock);
	free(f->bits);
	*f = (struct file){.state = FREE};
	pthread_mutex_unlock(&l->lock);
}

int gw_pagelog_follow(struct gw_pagelog *l, struct gw_err *e)
{
	uint64_t inos[GW_PAGELOG_FILES_MAX];
	size_t n = 0;
	if (!l->is_new)
		return 0;
	for (size_t i = 0; i < GW_PAGELOG_FILES_MAX; i++)
		if (l->files[i].state != FREE)
			inos[n++] = l->files[i].ino;
	int rc = gw_trace_follow(l->trace, inos, n, e);
	if (rc < 0)
		return rc;
	pthread_mutex_lock(&l->lock);
	for (size_t i = 0; i < GW_PAGELOG_FILES_MAX; i++)
		if (l->files[i].state == ADDED)
			l->files[i].state = FOLLOWED;
	l->is_new = false;
	pthread_mutex_unlock(&l->lock);
	return 0;
}

/* Under lock. The last page of before may have been a part of one. */
static int resize(struct file *f, uint64_t npages)
{
	uint64_t old = f->npages, had = words(old), want = words(npages);
	uint64_t *bits = realloc(f->bits, (want ?: 1) * sizeof(*bits));
	if (!bits)
		return -ENOMEM;
	if (want > had)
		memset(bits + had, 0, (want - had) * sizeof(*bits));
	f->bits = bits;
	f->npages = npages;
	set_bits(f, old ? old - 1 : 0, UINT64_MAX);
	if (npages)
		set_bits(f, npages - 1, 1);
	return 0;
}

uint64_t *gw_pagelog_take(struct gw_pagelog *l, unsigned file, uint64_t npages)
{
	struct file *f = file_of(l, file);
	uint64_t *out = NULL;
	pthread_mutex_lock(&l->lock);
	bool known = f->state == KNOWN;
	if (f->state >= FOLLOWED && resize(f, npages) == 0) {
		out = known ? f->bits : NULL;
		uint64_t *clear = known ? calloc(words(npages) ?: 1, sizeof(*clear)) : f->bits;
		if (!known)
			memset(f->bits, 0, words(npages) * sizeof(*clear));
		f->bits = clear;
		f->state = known ? KNOWN : LOOKED_AT;
		if (!clear) { /* no memory: nothing can be marked */
			f->npages = 0;
			f->state = FOLLOWED;
		}
	} else if (known) {
		f->state = FOLLOWED;
	}
	pthread_mutex_unlock(&l->lock);
	return out;
}

void gw_pagelog_begin(struct gw_pagelog *l, unsigned file)
{
	struct file *f = file_of(l, file);
	pthread_mutex_lock(&l->lock);
	if (f->state == LOOKED_AT)
		f->state = KNOWN;
	pthread_mutex_unlock(&l->lock);
}

static bool is_in(struct gw_pagelog *l, unsigned file, enum state state)
{
	struct file *f = file_of(l, file);
	pthread_mutex_lock(&l->lock);
	bool is = f->state == state;
	pthread_mutex_unlock(&l->lock);
	return is;
}

bool gw_pagelog_looked_at(struct gw_pagelog *l, unsigned file)
{
	return is_in(l, file, LOOKED_AT);
}

bool gw_pagelog_knows(struct gw_pagelog *l, unsigned file)
{
	return is_in(l, file, KNOWN);
}

void gw_pagelog_mark(struct gw_pagelog *l, unsigned file, uint64_t page, uint64_t n)
{
	struct file *f = file_of(l, file);
	pthread_mutex_lock(&l->lock);
	set_bits(f, page, n);
	pthread_mutex_unlock(&l->lock);
}

void gw_cache_clean(int fd)
{
	/* All three together wait for what is on its way and for what was dirty. A
	 * failure leaves pages dirty, which are then not settled. */
	(void)sync_file_range(fd, 0, 0,
	                      SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
}

bool gw_cache_settled(int fd, uint64_t offset, uint64_t len)
{
	struct range r = {.off = offset, .len = len};
	struct stats st;
	if (syscall(SYS_CACHESTAT, fd, &r, &st, 0) < 0)
		return false;
	return st.cached == (offset + len + PAGE - 1) / PAGE - offset / PAGE && st.dirty == 0 && st.writeback == 0;
}
