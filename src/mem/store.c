#include "mem/store.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/scope.h"
#include "mem/bits.h"
#include "mem/recharge.h"

enum {
	SPACES_MAX = 1 << 20, /* ids come from the peer: the table must not grow at its whim */
	RECENT_MAX = 1 << 17, /* 2 MiB a space; what is beyond is filled in address order */
};

struct entry {
	struct gw_space space; /* no name, no descriptor */
	char *name;            /* of a shared object */
	_Atomic uint64_t size; /* of a shared object */
	int memfd;
	struct gw_bits data; /* which pages were written */
	/* To write into memfd: the kernel's own lock on a file spins, and there
	 * are two connections. */
	pthread_mutex_t turn;
	pthread_mutex_t lock; /* of what follows */
	struct gw_span *recent;
	size_t n, cap;
};

struct gw_store {
	pthread_rwlock_t lock; /* of the table, not of the entries */
	struct entry **by_id;
	uint32_t size;
};

struct gw_store *gw_store_new(void)
{
	struct gw_store *s = calloc(1, sizeof(*s));
	if (s)
		(void)pthread_rwlock_init(&s->lock, NULL);
	return s;
}

static void entry_free(struct entry *en)
{
	if (!en)
		return;
	if (en->memfd >= 0)
		(void)close(en->memfd);
	gw_bits_done(&en->data);
	(void)pthread_mutex_destroy(&en->turn);
	(void)pthread_mutex_destroy(&en->lock);
	free(en->recent);
	free(en->name);
	free(en);
}

static void gw_end_entry(struct entry **en)
{
	entry_free(*en);
}

void gw_store_free(struct gw_store *s)
{
	if (!s)
		return;
	for (uint32_t i = 0; i < s->size; i++)
		entry_free(s->by_id[i]);
	(void)pthread_rwlock_destroy(&s->lock);
	free(s->by_id);
	free(s);
}

static int entry_new(const struct gw_space *space, struct entry **out, struct gw_err *e)
{
	gw_auto(entry) struct entry *en = calloc(1, sizeof(*en));
	if (!en)
		return gw_fail(e, GW_SYS, ENOMEM, "memory space %u", space->id);
	(void)pthread_mutex_init(&en->turn, NULL);
	(void)pthread_mutex_init(&en->lock, NULL);
	en->space = *space;
	en->space.name = NULL;
	en->space.fd = -1;
	en->data.fd = en->memfd = -1;
	en->size = space->size_bytes;
	/* The memfd of a shared object becomes the container's. */
	bool shared = space->kind == GW_SPACE_SHMEM;
	en->name = shared ? strdup(space->name ?: "") : NULL;
	if (shared && !en->name)
		return gw_fail(e, GW_SYS, ENOMEM, "memory space %u", space->id);
	en->memfd = shared ? memfd_create(en->name, MFD_CLOEXEC | MFD_ALLOW_SEALING)
	                   : memfd_create("godwit-memory", MFD_CLOEXEC);
	uint64_t size = shared ? space->size_bytes : GW_ADDR_END;
	if (en->memfd < 0 || ftruncate(en->memfd, (off_t)size) < 0)
		return gw_fail(e, GW_SYS, errno, "make the file for memory space %u", space->id);
	int rc = gw_bits_new(&en->data);
	if (rc < 0)
		return gw_fail(e, GW_SYS, -rc, "make the page map for memory space %u", space->id);
	*out = gw_take(en);
	return 0;
}

static int table_put(struct gw_store *s, struct entry *en, struct gw_err *e)
{
	uint32_t id = en->space.id;
	if (id >= s->size) {
		uint32_t size = s->size ? s->size : 64;
		while (size <= id)
			size *= 2;
		struct entry **more = realloc(s->by_id, size * sizeof(*more));
		if (!more)
			return gw_fail(e, GW_SYS, ENOMEM, "table of %u memory spaces", size);
		for (uint32_t i = s->size; i < size; i++)
			more[i] = NULL;
		s->by_id = more;
		s->size = size;
	}
	if (s->by_id[id])
		return gw_fail(e, GW_PEER, EEXIST, "memory space %u was announced before", id);
	s->by_id[id] = en;
	return 0;
}

/* Entries are never taken away before gw_store_free, so the pointer stays good. */
static struct entry *find(struct gw_store *s, uint32_t id)
{
	(void)pthread_rwlock_rdlock(&s->lock);
	struct entry *en = id < s->size ? s->by_id[id] : NULL;
	(void)pthread_rwlock_unlock(&s->lock);
	return en;
}

static int resize(struct entry *en, uint64_t size, struct gw_err *e)
{
	if (ftruncate(en->memfd, (off_t)size) < 0)
		return gw_fail(e, GW_SYS, errno, "resize memory space %u", en->space.id);
	en->size = size;
	return 0;
}

int gw_store_add(struct gw_store *s, const struct gw_space *space, struct gw_err *e)
{
	if (space->id == 0 || space->id >= SPACES_MAX)
		return gw_fail(e, GW_PEER, ERANGE, "memory space id %u is not within 1 and %d", space->id,
		               SPACES_MAX - 1);
	if (space->kind != GW_SPACE_PROC && space->kind != GW_SPACE_SHMEM)
		return gw_fail(e, GW_PEER, EINVAL, "memory space %u is of an unknown kind (%d)", space->id,
		               (int)space->kind);
	if (space->kind == GW_SPACE_SHMEM && space->size_bytes > GW_ADDR_END)
		return gw_fail(e, GW_PEER, EFBIG, "shared memory space %u is larger than 2^%d bytes", space->id,
		               GW_ADDR_BITS);
	gw_auto(entry) struct entry *en = NULL;
	struct entry *old = find(s, space->id);
	if (old && old->space.kind == GW_SPACE_SHMEM && space->kind == GW_SPACE_SHMEM &&
	    old->space.shmid == space->shmid)
		return resize(old, space->size_bytes, e);
	int rc = entry_new(space, &en, e);
	if (rc < 0)
		return rc;
	(void)pthread_rwlock_wrlock(&s->lock);
	rc = table_put(s, en, e);
	(void)pthread_rwlock_unlock(&s->lock);
	if (rc == 0)
		en = NULL;
	return rc;
}

static int checked(struct gw_store *s, uint32_t space, uint64_t addr, uint32_t npages, struct entry **out,
                   struct gw_err *e)
{
	struct entry *en = find(s, space);
	if (!en)
		return gw_fail(e, GW_PEER, ENOENT, "pages for memory space %u, which was never announced", space);
	uint64_t end = GW_ADDR_END, len = (uint64_t)npages << GW_PAGE_SHIFT;
	if (en->space.kind == GW_SPACE_SHMEM)
		end = (en->size + GW_PAGE_BYTES - 1) & ~(GW_PAGE_BYTES - 1);
	if (addr % GW_PAGE_BYTES || addr > end || len > end - addr)
		return gw_fail(e, GW_PEER, EINVAL, "memory space %u: %u pages at 0x%llx are outside of it", space,
		               npages, (unsigned long long)addr);
	*out = en;
	return 0;
}

static int remember(struct entry *en, uint64_t addr, uint32_t npages)
{
	struct gw_span *last = en->n ? &en->recent[en->n - 1] : NULL;
	if (last && last->addr + ((uint64_t)last->npages << GW_PAGE_SHIFT) == addr &&
	    npages <= UINT32_MAX - last->npages) {
		last->npages += npages;
		return 0;
	}
	if (en->n >= RECENT_MAX)
		return 0;
	if (en->n == en->cap) {
		size_t cap = en->cap ? en->cap * 2 : 256;
		struct gw_span *more = realloc(en->recent, cap * sizeof(*more));
		if (!more)
			return -ENOMEM;
		en->recent = more;
		en->cap = cap;
	}
	en->recent[en->n++] = (struct gw_span){.addr = addr, .npages = npages};
	return 0;
}

int gw_store_write(struct gw_store *s, uint32_t space, uint64_t addr, uint32_t npages, const void *data,
                   struct gw_err *e)
{
	struct entry *en;
	int rc = checked(s, space, addr, npages, &en, e);
	if (rc < 0 || npages == 0)
		return rc;
	const char *p = data;
	size_t left = (size_t)npages << GW_PAGE_SHIFT;
	uint64_t at = addr;
	while (left) {
		(void)pthread_mutex_lock(&en->turn);
		ssize_t n = pwrite(en->memfd, p, left, (off_t)at);
		int err = errno;
		(void)pthread_mutex_unlock(&en->turn);
		errno = err;
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return gw_fail(e, GW_SYS, n < 0 ? errno : EIO,
			               "keep %u pages of memory space %u (is there enough free memory?)", npages,
			               space);
		p += n;
		at += (uint64_t)n;
		left -= (size_t)n;
	}
	(void)gw_bits_set(&en->data, addr >> GW_PAGE_SHIFT, npages);
	(void)pthread_mutex_lock(&en->lock);
	rc = remember(en, addr, npages);
	(void)pthread_mutex_unlock(&en->lock);
	return rc < 0 ? gw_fail(e, GW_SYS, -rc, "note recent pages of memory space %u", space) : 0;
}

int gw_store_drop(struct gw_store *s, uint32_t space, uint64_t addr, uint32_t npages, struct gw_err *e)
{
	struct entry *en;
	int rc = checked(s, space, addr, npages, &en, e);
	if (rc < 0 || npages == 0)
		return rc;
	uint64_t page = addr >> GW_PAGE_SHIFT;
	/* Most zero pages of the first round were never anything else. */
	if (gw_bits_clear(&en->data, page, npages) == 0)
		return 0;
	(void)pthread_mutex_lock(&en->turn);
	rc = fallocate(en->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)addr,
	               (off_t)npages << GW_PAGE_SHIFT);
	int err = errno;
	(void)pthread_mutex_unlock(&en->turn);
	if (rc < 0) {
		(void)gw_bits_set(&en->data, page, npages);
		return gw_fail(e, GW_SYS, err, "free %u pages of memory space %u", npages, space);
	}
	return 0;
}

void gw_store_new_round(struct gw_store *s)
{
	(void)pthread_rwlock_rdlock(&s->lock);
	for (uint32_t i = 0; i < s->size; i++) {
		struct entry *en = s->by_id[i];
		if (!en)
			continue;
		(void)pthread_mutex_lock(&en->lock);
		en->n = 0;
		(void)pthread_mutex_unlock(&en->lock);
	}
	(void)pthread_rwlock_unlock(&s->lock);
}

/* The lock changes nothing that a reader could see. */
static struct gw_store *unconst(const struct gw_store *s)
{
	return (struct gw_store *)(uintptr_t)s;
}

uint64_t gw_store_bytes(const struct gw_store *s)
{
	uint64_t bytes = 0;
	struct stat st;
	(void)pthread_rwlock_rdlock(&unconst(s)->lock);
	for (uint32_t i = 0; i < s->size; i++)
		if (s->by_id[i] && fstat(s->by_id[i]->memfd, &st) == 0)
			bytes += (uint64_t)st.st_blocks * 512;
	(void)pthread_rwlock_unlock(&unconst(s)->lock);
	return bytes;
}

int gw_store_each(struct gw_store *s, gw_store_fn *fn, void *ctx)
{
	int rc = 0;
	(void)pthread_rwlock_rdlock(&s->lock);
	for (uint32_t i = 0; rc == 0 && i < s->size; i++) {
		struct entry *en = s->by_id[i];
		if (!en)
			continue;
		(void)pthread_mutex_lock(&en->lock);
		rc = fn(ctx, &en->space, en->memfd, en->recent, en->n);
		(void)pthread_mutex_unlock(&en->lock);
	}
	(void)pthread_rwlock_unlock(&s->lock);
	return rc;
}

/* A mapping shows the whole last page, also what is beyond the end of the
 * object, and a file that is cut has zeros there: put back through a mapping. */
static int cut_within_page(struct entry *en, uint64_t size)
{
	uint64_t last = size & ~(GW_PAGE_BYTES - 1);
	size_t kept = (size_t)(size - last);
	char tail[GW_PAGE_BYTES] = {0};
	if (pread(en->memfd, tail, sizeof(tail), (off_t)last) < 0 || ftruncate(en->memfd, (off_t)size) < 0)
		return -errno;
	static const char nothing[GW_PAGE_BYTES];
	if (!memcmp(tail + kept, nothing, sizeof(tail) - kept))
		return 0;
	char *p = mmap(NULL, sizeof(tail), PROT_READ | PROT_WRITE, MAP_SHARED, en->memfd, (off_t)last);
	if (p == MAP_FAILED)
		return -errno;
	memcpy(p + kept, tail + kept, sizeof(tail) - kept);
	(void)munmap(p, sizeof(tail));
	return 0;
}

int gw_store_object(struct gw_store *s, uint32_t space, uint64_t size_bytes, int *out_fd, struct gw_err *e)
{
	struct entry *en = find(s, space);
	if (!en || en->space.kind != GW_SPACE_SHMEM || size_bytes > GW_ADDR_END)
		return gw_fail(e, GW_PEER, ENOENT, "memory space %u is no shared object of %llu bytes", space,
		               (unsigned long long)size_bytes);
	*out_fd = en->memfd;
	/* What is copied out of is as long as its pages. */
	if (en->space.sysv)
		return resize(en, (size_bytes + GW_PAGE_BYTES - 1) & ~(GW_PAGE_BYTES - 1), e);
	if (size_bytes % GW_PAGE_BYTES == 0)
		return resize(en, size_bytes, e);
	int rc = cut_within_page(en, size_bytes);
	return rc < 0 ? gw_fail(e, GW_SYS, -rc, "cut memory space %u", space) : 0;
}

static int recharge(struct entry *en, const char *program, const char *dir, struct gw_err *e)
{
	struct stat st;
	gw_auto(fd) int fd = memfd_create(en->name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || fstat(en->memfd, &st) < 0 || ftruncate(fd, st.st_size) < 0)
		return gw_fail(e, GW_SYS, errno, "make the file for memory space %u", en->space.id);
	int rc = st.st_blocks ? gw_recharge(program, dir, en->memfd, fd, e) : 0;
	if (rc < 0)
		return rc;
	(void)close(en->memfd);
	en->memfd = gw_take_fd(&fd);
	return 0;
}

int gw_store_recharge(struct gw_store *s, const char *program, const char *dir, struct gw_err *e)
{
	int rc = 0;
	(void)pthread_rwlock_rdlock(&s->lock);
	for (uint32_t i = 0; rc == 0 && i < s->size; i++) {
		struct entry *en = s->by_id[i];
		if (!en || en->space.kind != GW_SPACE_SHMEM || en->space.sysv)
			continue;
		(void)pthread_mutex_lock(&en->turn);
		rc = recharge(en, program, dir, e);
		(void)pthread_mutex_unlock(&en->turn);
	}
	(void)pthread_rwlock_unlock(&s->lock);
	return rc;
}

int gw_store_bits_fd(struct gw_store *s, uint32_t space)
{
	struct entry *en = find(s, space);
	return en ? en->data.fd : -1;
}
