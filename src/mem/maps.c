#include "mem/maps.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/scope.h"

enum { TEXT_FIRST = 64 << 10, TEXT_MAX = 512 << 20 };

void gw_maps_done(struct gw_maps *m)
{
	free(m->text);
	free(m->v);
	*m = (struct gw_maps){0};
}

/* A number in base 10 or 16 at *p; false when there is no digit or it is too long. */
static bool number(const char **p, const char *end, unsigned base, uint64_t *out)
{
	uint64_t n = 0;
	const char *s = *p;
	for (; s < end; s++) {
		unsigned d;
		if (*s >= '0' && *s <= '9')
			d = (unsigned)(*s - '0');
		else if (base == 16 && *s >= 'a' && *s <= 'f')
			d = (unsigned)(*s - 'a') + 10;
		else
			break;
		if (n > (UINT64_MAX - d) / base)
			return false;
		n = n * base + d;
	}
	bool any = s > *p;
	*p = s;
	*out = n;
	return any;
}

static bool sign(const char **p, const char *end, char c)
{
	if (*p == end || **p != c)
		return false;
	++*p;
	return true;
}

static bool perms(const char **p, const char *end, struct gw_vma *v)
{
	const char *s = *p;
	if (end - s < 4)
		return false;
	v->prot = (uint8_t)((s[0] == 'r' ? GW_PROT_R : 0) | (s[1] == 'w' ? GW_PROT_W : 0) |
	                    (s[2] == 'x' ? GW_PROT_X : 0));
	v->shared = s[3] == 's';
	*p += 4;
	return s[3] == 's' || s[3] == 'p';
}

int gw_maps_parse_line(const char *text, size_t at, size_t len, struct gw_vma *out)
{
	const char *p = text + at, *end = p + len;
	struct gw_vma v = {.line = (uint32_t)at, .line_len = (uint32_t)len};
	uint64_t major, minor;
	if (!number(&p, end, 16, &v.start) || !sign(&p, end, '-') || !number(&p, end, 16, &v.end) ||
	    !sign(&p, end, ' ') || !perms(&p, end, &v) || !sign(&p, end, ' ') || !number(&p, end, 16, &v.off) ||
	    !sign(&p, end, ' ') || !number(&p, end, 16, &major) || !sign(&p, end, ':') ||
	    !number(&p, end, 16, &minor) || !sign(&p, end, ' ') || !number(&p, end, 10, &v.ino))
		return -EINVAL;
	if (v.start >= v.end || major > UINT32_MAX || minor > UINT32_MAX)
		return -EINVAL;
	v.major = (uint32_t)major;
	v.minor = (uint32_t)minor;
	while (p < end && *p == ' ')
		p++;
	v.name = (uint32_t)(p - text);
	v.name_len = (uint32_t)(end - p);
	*out = v;
	return 0;
}

static int push(struct gw_maps *m, const struct gw_vma *v)
{
	if (m->n == m->cap) {
		size_t cap = m->cap ? m->cap * 2 : 64;
		struct gw_vma *more = reallocarray(m->v, cap, sizeof(*more));
		if (!more)
			return -ENOMEM;
		m->v = more;
		m->cap = cap;
	}
	m->v[m->n++] = *v;
	return 0;
}

static int parse(struct gw_maps *m)
{
	m->n = 0;
	for (size_t at = 0; at < m->len;) {
		const char *nl = memchr(m->text + at, '\n', m->len - at);
		size_t len = nl ? (size_t)(nl - m->text) - at : m->len - at;
		struct gw_vma v;
		int rc = gw_maps_parse_line(m->text, at, len, &v);
		if (rc < 0)
			return rc;
		/* A mapping that grew between two reads of the file can come twice. */
		uint64_t floor = m->n ? m->v[m->n - 1].end : 0;
		if (v.end > floor) {
			v.start = v.start < floor ? floor : v.start;
			rc = push(m, &v);
			if (rc < 0)
				return rc;
		}
		at += len + 1;
	}
	return 0;
}

static int room(struct gw_maps *m, size_t need)
{
	if (need <= m->text_cap)
		return 0;
	size_t cap = m->text_cap ? m->text_cap : TEXT_FIRST;
	while (cap < need)
		cap *= 2;
	if (cap > TEXT_MAX)
		return -EFBIG;
	char *more = realloc(m->text, cap);
	if (!more)
		return -ENOMEM;
	m->text = more;
	m->text_cap = cap;
	return 0;
}

int gw_maps_parse(struct gw_maps *m, const char *text, size_t len)
{
	int rc = room(m, len ? len : 1);
	if (rc < 0)
		return rc;
	memcpy(m->text, text, len);
	m->len = len;
	return parse(m);
}

int gw_maps_read(struct gw_maps *m, pid_t pid)
{
	char path[64];
	gw_path(path, sizeof(path), "/proc/%d/maps", pid);
	m->len = m->n = 0;
	gw_auto(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	for (;;) {
		int rc = room(m, m->len + 8192);
		if (rc < 0)
			return rc;
		ssize_t n = read(fd, m->text + m->len, m->text_cap - m->len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return parse(m);
		m->len += (size_t)n;
	}
}

bool gw_vma_named(const struct gw_maps *m, const struct gw_vma *v, const char *name)
{
	return v->name_len == strlen(name) && !memcmp(m->text + v->name, name, v->name_len);
}

bool gw_vma_is_private_anon(const struct gw_maps *m, const struct gw_vma *v)
{
	static const char *const kernels_own[] = {"[vdso]",     "[vvar]",    "[vvar_vclock]",
	                                          "[vsyscall]", "[vectors]", "[uprobes]"};
	if (v->shared || v->ino || v->major || v->minor)
		return false;
	if (v->name_len == 0)
		return true;
	for (size_t i = 0; i < gw_countof(kernels_own); i++)
		if (gw_vma_named(m, v, kernels_own[i]))
			return false;
	return true;
}

static bool begins(const struct gw_maps *m, const struct gw_vma *v, const char *with)
{
	size_t n = strlen(with);
	return v->name_len >= n && !memcmp(m->text + v->name, with, n);
}

enum gw_shm_kind gw_vma_shm_kind(const struct gw_maps *m, const struct gw_vma *v, uint32_t minor)
{
	if (!v->shared || v->major || v->minor != minor)
		return GW_SHM_NONE;
	if (gw_vma_named(m, v, "/dev/zero (deleted)") || begins(m, v, "[anon_shmem:"))
		return GW_SHM_ANON;
	return begins(m, v, "/memfd:") ? GW_SHM_MEMFD : begins(m, v, "/SYSV") ? GW_SHM_SYSV : GW_SHM_NONE;
}

const struct gw_vma *gw_maps_find(const struct gw_maps *m, uint64_t addr)
{
	size_t lo = 0, hi = m->n;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (m->v[mid].end <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < m->n && m->v[lo].start <= addr ? &m->v[lo] : NULL;
}
