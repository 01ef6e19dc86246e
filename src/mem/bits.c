#include "mem/bits.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/scope.h"

enum { BITS_FILE_PAGES = 4096 * 8 };
static const uint64_t BITS_BYTES = GW_BITS_PAGES / 8;

static int bits_map(int take_fd, struct gw_bits *out)
{
	gw_auto(fd) int fd = take_fd;
	void *m = mmap(NULL, BITS_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (m == MAP_FAILED)
		return -errno;
	/* 8 GiB of mostly nothing in a core dump helps nobody. */
	(void)madvise(m, BITS_BYTES, MADV_DONTDUMP);
	*out = (struct gw_bits){.fd = gw_take_fd(&fd), .words = m};
	return 0;
}

int gw_bits_new(struct gw_bits *out)
{
	gw_auto(fd) int fd = memfd_create("godwit-bits", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, (off_t)BITS_BYTES) < 0)
		return -errno;
	return bits_map(gw_take_fd(&fd), out);
}

int gw_bits_open(int take_fd, struct gw_bits *out)
{
	gw_auto(fd) int fd = take_fd;
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size != (off_t)BITS_BYTES)
		return -EINVAL;
	return bits_map(gw_take_fd(&fd), out);
}

void gw_bits_done(struct gw_bits *b)
{
	if (b->words)
		(void)munmap(b->words, BITS_BYTES);
	if (b->fd >= 0)
		(void)close(b->fd);
	*b = (struct gw_bits){.fd = -1};
}

/* The next stretch of the file that is stored, in pages (bits); false: none. */
static bool stored(const struct gw_bits *b, uint64_t page, uint64_t *out_from, uint64_t *out_to)
{
	off_t from = lseek(b->fd, (off_t)(page / 8), SEEK_DATA);
	if (from < 0)
		return false;
	off_t to = lseek(b->fd, from, SEEK_HOLE);
	if (to < 0)
		to = (off_t)BITS_BYTES;
	*out_from = (uint64_t)from * 8;
	*out_to = (uint64_t)to * 8;
	return true;
}

int gw_bits_copy(struct gw_bits *out, const struct gw_bits *from)
{
	struct gw_bits b;
	int rc = gw_bits_new(&b);
	if (rc < 0)
		return rc;
	uint64_t a = 0, z = 0;
	while (z < GW_BITS_PAGES && stored(from, z, &a, &z))
		memcpy(b.words + a / 64, from->words + a / 64, (z - a) / 8);
	*out = b;
	return 0;
}

static uint64_t word_mask(uint64_t page, uint64_t n)
{
	uint64_t in = 64 - (page & 63);
	uint64_t k = n < in ? n : in;
	return (k == 64 ? ~(uint64_t)0 : ((uint64_t)1 << k) - 1) << (page & 63);
}

uint64_t gw_bits_set(struct gw_bits *b, uint64_t page, uint64_t n)
{
	uint64_t changed = 0;
	while (n) {
		uint64_t m = word_mask(page, n), k = (uint64_t)__builtin_popcountll(m);
		uint64_t was = __atomic_fetch_or(&b->words[page >> 6], m, __ATOMIC_RELAXED);
		changed += (uint64_t)__builtin_popcountll(m & ~was);
		page += k;
		n -= k;
	}
	return changed;
}

/* Clearing must not store what is not there: a drop of 1 TiB of holes is cheap. */
static uint64_t clear_stored(struct gw_bits *b, uint64_t page, uint64_t n)
{
	uint64_t changed = 0;
	while (n) {
		uint64_t m = word_mask(page, n), k = (uint64_t)__builtin_popcountll(m);
		uint64_t was = __atomic_load_n(&b->words[page >> 6], __ATOMIC_RELAXED);
		if (was & m)
			was = __atomic_fetch_and(&b->words[page >> 6], ~m, __ATOMIC_RELAXED);
		changed += (uint64_t)__builtin_popcountll(m & was);
		page += k;
		n -= k;
	}
	return changed;
}

uint64_t gw_bits_clear(struct gw_bits *b, uint64_t page, uint64_t n)
{
	if (n <= BITS_FILE_PAGES)
		return clear_stored(b, page, n);
	uint64_t changed = 0, end = page + n, a, z;
	while (page < end && stored(b, page, &a, &z) && a < end) {
		a = a > page ? a : page;
		z = z < end ? z : end;
		changed += clear_stored(b, a, z - a);
		page = z;
	}
	return changed;
}

static uint64_t next_in(const struct gw_bits *b, uint64_t page, uint64_t end, bool value)
{
	while (page < end) {
		uint64_t w = __atomic_load_n(&b->words[page >> 6], __ATOMIC_RELAXED);
		w = (value ? w : ~w) >> (page & 63);
		if (w) {
			page += (uint64_t)__builtin_ctzll(w);
			return page < end ? page : end;
		}
		page = (page | 63) + 1;
	}
	return end;
}

uint64_t gw_bits_next(const struct gw_bits *b, uint64_t page, uint64_t end)
{
	/* Near by first, without a system call. */
	uint64_t near = (page | (BITS_FILE_PAGES - 1)) + 1;
	uint64_t a, z;
	if (page >= end)
		return end;
	if (__atomic_load_n(&b->words[page >> 6], __ATOMIC_RELAXED)) {
		near = near < end ? near : end;
		page = next_in(b, page, near, true);
		if (page < near)
			return page;
	}
	while (page < end && stored(b, page, &a, &z) && a < end) {
		a = a > page ? a : page;
		z = z < end ? z : end;
		page = next_in(b, a, z, true);
		if (page < z)
			return page;
	}
	return end;
}

uint64_t gw_bits_run(const struct gw_bits *b, uint64_t page, uint64_t max, bool value)
{
	return next_in(b, page, page + max, !value) - page;
}

uint64_t gw_bits_count(const struct gw_bits *b)
{
	uint64_t n = 0, a = 0, z = 0;
	while (z < GW_BITS_PAGES && stored(b, z, &a, &z))
		for (uint64_t i = a / 64; i < z / 64; i++)
			n += (uint64_t)__builtin_popcountll(__atomic_load_n(&b->words[i], __ATOMIC_RELAXED));
	return n;
}
