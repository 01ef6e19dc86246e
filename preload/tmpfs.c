/* SPDX-License-Identifier: MIT
 *
 * tmpfs: the contents of a container's small tmpfs mounts, without tar.
 *
 * CRIU runs `tar --create --gzip` for every tmpfs of a container in the
 * freeze, and `tar --extract --gzip` for each in the restore: about 4 ms a
 * piece for the fork, two execs and gzip, for a /dev with six nodes in it.
 * Here the forked child does the work itself. The image stays what CRIU and
 * tar expect: ustar records in one gzip member of stored (uncompressed)
 * deflate blocks (RFC 1952, RFC 1951 3.2.4; POSIX pax/ustar header). */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/types.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "godwit-criu.h"

enum { BLOCK = 512, OUT_MAX = 8 << 20, DEPTH_MAX = 32, STORED_MAX = 65535 };

struct ustar {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], sum[8], type, link[100];
	char magic[6], version[2], uname[32], gname[32], major[8], minor[8], prefix[155], pad[12];
};
_Static_assert(sizeof(struct ustar) == BLOCK, "ustar header is one block");

struct out {
	uint8_t *p;
	size_t len, cap;
};

static void *put(struct out *o, size_t n)
{
	if (o->len + n > OUT_MAX)
		return NULL;
	if (o->len + n > o->cap) {
		size_t cap = (o->len + n) * 2;
		uint8_t *more = realloc(o->p, cap);
		if (!more)
			return NULL;
		o->p = more;
		o->cap = cap;
	}
	void *at = o->p + o->len;
	memset(at, 0, n);
	o->len += n;
	return at;
}

static void octal(char *field, size_t size, uint64_t v)
{
	field[--size] = 0;
	while (size--) {
		field[size] = (char)('0' + (v & 7));
		v >>= 3;
	}
}

static unsigned checksum(const struct ustar *h)
{
	const uint8_t *p = (const uint8_t *)h;
	unsigned sum = 0;
	for (size_t i = 0; i < BLOCK; i++)
		sum += i >= offsetof(struct ustar, sum) && i < offsetof(struct ustar, sum) + 8 ? ' ' : p[i];
	return sum;
}

static char type_of(mode_t m)
{
	switch (m & S_IFMT) {
	case S_IFREG: return '0';
	case S_IFLNK: return '2';
	case S_IFCHR: return '3';
	case S_IFBLK: return '4';
	case S_IFDIR: return '5';
	case S_IFIFO: return '6';
	default: return 0;
	}
}

/* ustar's octal fields: 7 digits for ids, 11 for size and time. */
static bool fits(const struct stat *st)
{
	return st->st_uid < 07777777 && st->st_gid < 07777777 && st->st_size < (4 << 20) && st->st_mtime >= 0 &&
	       (S_ISDIR(st->st_mode) || st->st_nlink == 1);
}

static int add(struct out *o, int dirfd, const char *name, const char *path, const struct stat *st)
{
	char type = type_of(st->st_mode);
	char xattrs[8];
	char proc[300];
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d/%s", dirfd, name);
	if (!type || !fits(st) || strlen(path) + 3 >= sizeof(((struct ustar *)0)->name) ||
	    llistxattr(proc, xattrs, sizeof(xattrs)) != 0)
		return -1;
	struct ustar *h = put(o, BLOCK);
	if (!h)
		return -1;
	snprintf(h->name, sizeof(h->name), "./%s%s", path, type == '5' && *path ? "/" : "");
	octal(h->mode, sizeof(h->mode), st->st_mode & 07777);
	octal(h->uid, sizeof(h->uid), st->st_uid);
	octal(h->gid, sizeof(h->gid), st->st_gid);
	octal(h->size, sizeof(h->size), type == '0' ? (uint64_t)st->st_size : 0);
	octal(h->mtime, sizeof(h->mtime), (uint64_t)st->st_mtime);
	h->type = type;
	memcpy(h->magic, "ustar", 6);
	memcpy(h->version, "00", 2);
	if (type == '3' || type == '4') {
		octal(h->major, sizeof(h->major), major(st->st_rdev));
		octal(h->minor, sizeof(h->minor), minor(st->st_rdev));
	}
	if (type == '2') {
		ssize_t n = readlinkat(dirfd, name, h->link, sizeof(h->link));
		if (n < 0 || (size_t)n >= sizeof(h->link))
			return -1;
	}
	octal(h->sum, 7, checksum(h));
	h->sum[7] = ' ';
	if (type == '0' && st->st_size) {
		size_t size = (size_t)st->st_size;
		uint8_t *data = put(o, (size + BLOCK - 1) / BLOCK * BLOCK);
		int fd = data ? openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
		bool ok = fd >= 0 && read(fd, data, size) == (ssize_t)size;
		if (fd >= 0)
			close(fd);
		if (!ok)
			return -1;
	}
	return 0;
}

static int add_dir(struct out *o, int dirfd, const char *path, dev_t dev, int depth)
{
	struct stat st;
	if (depth > DEPTH_MAX || fstat(dirfd, &st) < 0 || add(o, dirfd, ".", path, &st) < 0)
		return -1;
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	int rc = d ? 0 : -1;
	for (struct dirent *de; rc == 0 && (de = readdir(d));) {
		if (!strcmp(de->d_name, ".") || !strcmp(de->d_name, ".."))
			continue;
		char sub[256];
		if ((size_t)snprintf(sub, sizeof(sub), "%s%s%s", path, *path ? "/" : "", de->d_name) >= sizeof(sub) ||
		    fstatat(dirfd, de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
			rc = -1;
		} else if (!S_ISDIR(st.st_mode)) {
			/* --one-file-system: what is mounted on a node stays out, its
			 * mount point (an empty file of ours) is seen through it. */
			rc = st.st_dev == dev ? add(o, dirfd, de->d_name, sub, &st) : -1;
		} else {
			int sfd = openat(dirfd, de->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
			if (sfd < 0)
				rc = -1;
			else if (st.st_dev != dev)
				rc = add(o, sfd, ".", sub, &st);
			else
				rc = add_dir(o, sfd, sub, dev, depth + 1);
			if (sfd >= 0)
				close(sfd);
		}
	}
	if (d)
		closedir(d);
	return rc;
}

static uint32_t crc32_of(const uint8_t *p, size_t n)
{
	static uint32_t table[256];
	if (!table[1])
		for (uint32_t i = 0; i < 256; i++) {
			uint32_t c = i;
			for (int k = 0; k < 8; k++)
				c = c & 1 ? 0xedb88320u ^ (c >> 1) : c >> 1;
			table[i] = c;
		}
	uint32_t c = ~0u;
	while (n--)
		c = table[(c ^ *p++) & 0xff] ^ (c >> 8);
	return ~c;
}

static void le32(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

static bool write_all(int fd, const void *buf, size_t len)
{
	const char *p = buf;
	while (len) {
		ssize_t n = write(fd, p, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		p += n;
		len -= (size_t)n;
	}
	return true;
}

/* "GWTF" as the gzip header's extra field marks an image of ours. */
static const uint8_t gz_head[] = {0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255, 4 + 4, 0, 'G', 'W', 4, 0, 'T', 'F', '0', '1'};

int gwc_pack(int dirfd, int out)
{
	struct out tar = {0}, gz = {0};
	struct stat st;
	int rc = -1;
	if (fstat(dirfd, &st) == 0 && add_dir(&tar, dirfd, "", st.st_dev, 0) == 0 && put(&tar, 2 * BLOCK)) {
		uint8_t *head = put(&gz, sizeof(gz_head));
		bool ok = head != NULL;
		if (ok)
			memcpy(head, gz_head, sizeof(gz_head));
		for (size_t at = 0; ok && at < tar.len;) {
			size_t n = tar.len - at < STORED_MAX ? tar.len - at : STORED_MAX;
			uint8_t *b = put(&gz, 5 + n);
			ok = b != NULL;
			if (!ok)
				break;
			b[0] = at + n == tar.len;
			b[1] = (uint8_t)n;
			b[2] = (uint8_t)(n >> 8);
			b[3] = (uint8_t)~b[1];
			b[4] = (uint8_t)~b[2];
			memcpy(b + 5, tar.p + at, n);
			at += n;
		}
		uint8_t *tail = ok ? put(&gz, 8) : NULL;
		if (tail) {
			le32(tail, crc32_of(tar.p, tar.len));
			le32(tail + 4, (uint32_t)tar.len);
			rc = write_all(out, gz.p, gz.len) ? 0 : -1;
		}
	}
	free(tar.p);
	free(gz.p);
	return rc;
}

static uint64_t octal_of(const char *field, size_t size)
{
	uint64_t v = 0;
	for (size_t i = 0; i < size && field[i] >= '0' && field[i] <= '7'; i++)
		v = v * 8 + (uint64_t)(field[i] - '0');
	return v;
}

static int make_one(int dirfd, const struct ustar *h, const uint8_t *data, uint64_t size)
{
	char path[101];
	snprintf(path, sizeof(path), "%.100s", h->name);
	mode_t mode = (mode_t)octal_of(h->mode, sizeof(h->mode));
	uid_t uid = (uid_t)octal_of(h->uid, sizeof(h->uid));
	gid_t gid = (gid_t)octal_of(h->gid, sizeof(h->gid));
	dev_t dev =
	        makedev((unsigned)octal_of(h->major, sizeof(h->major)), (unsigned)octal_of(h->minor, sizeof(h->minor)));
	struct timespec t[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = (time_t)octal_of(h->mtime, sizeof(h->mtime))}};
	int rc = 0;
	switch (h->type) {
	case '5': rc = mkdirat(dirfd, path, mode); break;
	case '2': {
		char target[101];
		snprintf(target, sizeof(target), "%.100s", h->link);
		rc = symlinkat(target, dirfd, path);
		break;
	}
	case '3': rc = mknodat(dirfd, path, S_IFCHR | mode, dev); break;
	case '4': rc = mknodat(dirfd, path, S_IFBLK | mode, dev); break;
	case '6': rc = mknodat(dirfd, path, S_IFIFO | mode, 0); break;
	case '0': {
		int fd = openat(dirfd, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
		rc = fd < 0 ? -1 : write_all(fd, data, size) ? 0 : -1;
		if (fd >= 0)
			close(fd);
		break;
	}
	default: return -1;
	}
	if (rc < 0 && errno == EEXIST && h->type == '5')
		rc = 0;
	if (rc == 0)
		rc = fchownat(dirfd, path, uid, gid, AT_SYMLINK_NOFOLLOW);
	if (rc == 0 && h->type != '2')
		rc = fchmodat(dirfd, path, mode, 0);
	if (rc == 0)
		rc = utimensat(dirfd, path, t, AT_SYMLINK_NOFOLLOW);
	return rc;
}

int gwc_unpack(int in, int dirfd)
{
	struct stat st;
	if (fstat(in, &st) < 0 || st.st_size < (off_t)sizeof(gz_head) + 13 || st.st_size > OUT_MAX * 2)
		return -1;
	size_t len = (size_t)st.st_size;
	uint8_t *gz = malloc(len);
	struct out tar = {0};
	int rc = -1;
	/* Unread on failure: the real tar starts at the same place. */
	if (gz && pread(in, gz, len, lseek(in, 0, SEEK_CUR)) == (ssize_t)len && !memcmp(gz, gz_head, sizeof(gz_head))) {
		size_t at = sizeof(gz_head);
		bool last = false;
		rc = 0;
		while (rc == 0 && !last) {
			size_t n = at + 5 <= len ? (size_t)gz[at + 1] | (size_t)gz[at + 2] << 8 : 0;
			if (n == 0 || at + 5 + n + 8 > len || gz[at] > 1) {
				rc = -1;
				break;
			}
			last = gz[at];
			void *p = put(&tar, n);
			if (p)
				memcpy(p, gz + at + 5, n);
			rc = p ? 0 : -1;
			at += 5 + n;
		}
	}
	for (size_t at = 0; rc == 0 && at + BLOCK <= tar.len;) {
		const struct ustar *h = (const struct ustar *)(tar.p + at);
		if (!h->name[0])
			break;
		uint64_t size = octal_of(h->size, sizeof(h->size));
		if (size > tar.len || at + BLOCK + size > tar.len)
			rc = -1;
		else
			rc = make_one(dirfd, h, tar.p + at + BLOCK, size);
		at += BLOCK + (size + BLOCK - 1) / BLOCK * BLOCK;
	}
	free(gz);
	free(tar.p);
	return rc;
}

void gwc_tar(char *const argv[])
{
	bool create = false, extract = false;
	const char *dir = NULL;
	for (size_t i = 1; argv[i]; i++) {
		create |= !strcmp(argv[i], "--create");
		extract |= !strcmp(argv[i], "--extract");
		if (!strcmp(argv[i], "--directory"))
			dir = argv[i + 1];
	}
	int fd = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	if (fd < 0)
		return;
	if ((create && gwc_pack(fd, STDOUT_FILENO) == 0) || (extract && gwc_unpack(STDIN_FILENO, fd) == 0))
		_exit(0);
	close(fd);
}
