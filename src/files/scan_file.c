/* scan_file: contents and attributes of one name. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "base/io.h"
#include "base/scope.h"
#include "files/scan_priv.h"
#include "files/sum.h"

enum { XATTR_NAMES_MAX = 64 << 10, XATTR_VALUE_MAX = 64 << 10, XATTRS_MAX = 512 << 10 };

/* The part of a piece that is not zeros at its ends, in blocks. false: all zero. */
static bool trim(const uint8_t *p, size_t n, size_t *out_from, size_t *out_to)
{
	size_t from = 0, to = n;
	while (from < n && gw_is_zero(p + from, n - from < GW_SCAN_BLOCK ? n - from : GW_SCAN_BLOCK))
		from += GW_SCAN_BLOCK;
	if (from >= n)
		return false;
	for (;;) {
		size_t last = (to - 1) / GW_SCAN_BLOCK * GW_SCAN_BLOCK;
		if (!gw_is_zero(p + last, to - last))
			break;
		to = last;
	}
	*out_from = from;
	*out_to = to;
	return true;
}

static int put_hole(struct gw_scan *s, const struct gw_at *at, uint64_t from, uint64_t len, struct gw_err *e)
{
	struct gw_rec r = {.op = GW_REC_HOLE, .size = from, .rdev = len};
	return gw_scan_put(s, &r, at, e);
}

/* n bytes of s->piece at `from`; n 0: a hole. */
static int one_piece(struct gw_scan *s, const struct gw_at *at, struct gw_known_inode *i, size_t piece, size_t n,
                     struct gw_err *e)
{
	size_t a = 0, b = n;
	uint64_t old = i->pieces[piece], from = (uint64_t)piece * GW_SCAN_PIECE;
	bool zero = n == 0 || !trim(s->piece, n, &a, &b);
	uint64_t sum = zero ? 0 : gw_sum(s->piece, n);
	if (sum == old)
		return 0;
	i->pieces[piece] = sum;
	if (zero)
		return put_hole(s, at, from, GW_SCAN_PIECE, e);
	/* What was zeros there stays so where zeros are. */
	if (old)
		a = 0, b = n;
	struct gw_rec r = {.op = GW_REC_DATA, .size = from + a, .body = s->piece + a, .body_len = (uint32_t)(b - a)};
	return gw_scan_put(s, &r, at, e);
}

int gw_scan_read(struct gw_scan *s, int fd, uint64_t from, size_t want, size_t *out)
{
	size_t n = 0;
	while (n < want) {
		ssize_t got = pread(fd, s->piece + n, want - n, (off_t)(from + n));
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			break; /* shorter meanwhile: that is a change which is told */
		n += (size_t)got;
	}
	s->stats.read_bytes += n;
	*out = n;
	return 0;
}

int gw_scan_pieces(struct gw_scan *s, const struct gw_at *at, int fd, struct gw_known_inode *i, uint64_t size,
                   bool with_pages, bool *out_whole, struct gw_err *e)
{
	uint64_t data = 0; /* nothing but holes before it */
	*out_whole = true;
	for (size_t k = 0; k < i->npieces; k++) {
		uint64_t from = (uint64_t)k * GW_SCAN_PIECE;
		size_t want = size - from < GW_SCAN_PIECE ? (size_t)(size - from) : GW_SCAN_PIECE, n = 0;
		if (data < from + want && data <= from) {
			off_t at_data = lseek(fd, (off_t)from, SEEK_DATA);
			data = at_data >= 0 ? (uint64_t)at_data : errno == ENXIO ? UINT64_MAX : from;
		}
		bool hole = data >= from + want;
		int rc = hole ? 0 : gw_scan_read(s, fd, from, want, &n);
		if (rc < 0)
			return gw_fail(e, GW_SYS, -rc, "read %s", at->path);
		if (!hole && n < want)
			*out_whole = false;
		if (with_pages && hole)
			memset(i->sums + from / GW_SCAN_BLOCK, 0,
			       (want + GW_SCAN_BLOCK - 1) / GW_SCAN_BLOCK * sizeof(*i->sums));
		else if (with_pages)
			gw_scan_page_sums(s, i, k, n);
		rc = one_piece(s, at, i, k, n, e);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int gw_scan_contents(struct gw_scan *s, const struct gw_at *at, struct gw_known_inode *i, const struct statx *st,
                     struct gw_err *e)
{
	struct stat now;
	gw_auto(fd) int fd = openat(at->dir_fd, at->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOATIME | O_CLOEXEC);
	if (fd < 0 && (errno == ENOENT || errno == ELOOP || errno == ENXIO))
		return 0; /* another name by now: a change which is told */
	if (fd < 0 || fstat(fd, &now) < 0)
		return gw_fail(e, GW_SYS, errno, "open %s", at->path);
	if (!S_ISREG(now.st_mode) || now.st_ino != st->stx_ino)
		return 0;
	return gw_scan_pages(s, at, fd, i, st->stx_size, e);
}

/* ---- attributes ---- */

/* Of the overlay itself, and about its layers on this host. */
static bool is_private(const char *name)
{
	return !strncmp(name, "trusted.overlay.", strlen("trusted.overlay."));
}

static int add_xattr(const char *link, const char *name, uint8_t *body, size_t *inout_len, struct gw_err *e)
{
	/* Not thread-local: that would be part of every thread's stack. */
	gw_auto(mem) uint8_t *value = malloc(XATTR_VALUE_MAX);
	ssize_t n = value ? lgetxattr(link, name, value, XATTR_VALUE_MAX) : -1;
	if (n < 0)
		return errno == ENODATA || errno == ENOENT ? 0 : gw_fail(e, GW_SYS, errno, "read attribute %s", name);
	if (*inout_len + 6 + strlen(name) + (size_t)n > XATTRS_MAX)
		return gw_fail(e, GW_SYS, E2BIG, "more than %d bytes of extended attributes", XATTRS_MAX);
	*inout_len += gw_xattr_pack(name, value, (uint32_t)n, body + *inout_len);
	return 0;
}

static int read_xattrs(const struct gw_at *at, uint8_t **out, size_t *out_len, struct gw_err *e)
{
	char link[PATH_MAX];
	gw_path(link, sizeof(link), "/proc/self/fd/%d/%s", at->dir_fd, at->name);
	ssize_t n = llistxattr(link, NULL, 0);
	gw_auto(mem) char *names = n > 0 ? malloc(XATTR_NAMES_MAX) : NULL;
	if (names)
		n = llistxattr(link, names, XATTR_NAMES_MAX);
	if (n < 0 && (errno == ENOENT || errno == EOPNOTSUPP))
		return 0;
	if (n < 0)
		return gw_fail(e, GW_SYS, errno, "list attributes of %s", at->path);
	for (const char *p = names; names && p < names + n; p += strlen(p) + 1) {
		if (is_private(p))
			continue;
		if (!*out)
			*out = malloc(XATTRS_MAX);
		if (!*out)
			return gw_fail(e, GW_SYS, ENOMEM, "read attributes of %s", at->path);
		int rc = add_xattr(link, p, *out, out_len, e);
		if (rc < 0)
			return gw_wrap(e, "%s", at->path);
	}
	return 0;
}

int gw_scan_end(struct gw_scan *s, const struct gw_at *at, const struct statx *st, struct gw_err *e)
{
	gw_auto(mem) uint8_t *body = NULL;
	size_t len = 0;
	/* A whiteout is nothing but a missing name. */
	if (s->trees[at->tree].is_layer && S_ISCHR(st->stx_mode) && !st->stx_rdev_major && !st->stx_rdev_minor)
		return 0;
	int rc = read_xattrs(at, &body, &len, e);
	if (rc < 0)
		return rc;
	struct gw_rec r = {.op = GW_REC_END,
	                   .mode = st->stx_mode,
	                   .uid = st->stx_uid,
	                   .gid = st->stx_gid,
	                   .mtime_s = st->stx_mtime.tv_sec,
	                   .mtime_ns = st->stx_mtime.tv_nsec,
	                   .atime_s = st->stx_atime.tv_sec,
	                   .atime_ns = st->stx_atime.tv_nsec,
	                   .body = body,
	                   .body_len = (uint32_t)len};
	return gw_scan_put(s, &r, at, e);
}

int gw_scan_refuse_redirect(const struct gw_at *at, struct gw_err *e)
{
	char link[PATH_MAX], v[8];
	gw_path(link, sizeof(link), "/proc/self/fd/%d/%s", at->dir_fd, at->name);
	if (lgetxattr(link, "trusted.overlay.redirect", v, 0) < 0)
		return 0;
	return gw_fail_code(e, GW_INPUT, "WritableLayer",
	                    "/%s is a directory of the image that was renamed (overlay redirect): it cannot be copied",
	                    at->path);
}
