#include "mem/smaps.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/scope.h"
#include "mem/procs.h"

enum { SMAPS_MAX = 1 << 30, FLAGS_LINE_MAX = 256 };

struct gw_flag_entry {
	struct gw_vma v; /* its text offsets mean nothing here */
	uint64_t name_hash;
	uint32_t flags; /* in the pool */
};

static uint64_t hash(const char *s, size_t n)
{
	uint64_t h = 14695981039346656037u; /* FNV-1a */
	for (size_t i = 0; i < n; i++)
		h = (h ^ (unsigned char)s[i]) * 1099511628211u;
	return h;
}

void gw_flags_done(struct gw_flags *f)
{
	free(f->v);
	free(f->pool);
	*f = (struct gw_flags){0};
}

void gw_text_done(struct gw_text *t)
{
	free(t->s);
	*t = (struct gw_text){0};
}

static bool is_perm(const char *tok)
{
	return !memcmp(tok, "rd", 2) || !memcmp(tok, "wr", 2) || !memcmp(tok, "ex", 2);
}

/* "rd wr mr mw me ac " into the pool as "mr mw me ac"; -ENOMEM. */
static int intern(struct gw_flags *f, const char *s, size_t len, uint32_t *out)
{
	char norm[FLAGS_LINE_MAX];
	size_t n = 0;
	for (size_t i = 0; i + 2 <= len;) {
		if (s[i] == ' ') {
			i++;
			continue;
		}
		if (!is_perm(s + i) && n + 4 < sizeof(norm)) {
			if (n)
				norm[n++] = ' ';
			norm[n++] = s[i];
			norm[n++] = s[i + 1];
		}
		i += 2;
	}
	norm[n++] = 0;
	for (size_t at = 0; at < f->pool_len; at += strlen(f->pool + at) + 1)
		if (!strcmp(f->pool + at, norm)) {
			*out = (uint32_t)at;
			return 0;
		}
	if (f->pool_len + n > f->pool_cap) {
		size_t cap = (f->pool_len + n) * 2;
		char *more = realloc(f->pool, cap);
		if (!more)
			return -ENOMEM;
		f->pool = more;
		f->pool_cap = cap;
	}
	memcpy(f->pool + f->pool_len, norm, n);
	*out = (uint32_t)f->pool_len;
	f->pool_len += n;
	return 0;
}

static int push(struct gw_flags *f, const struct gw_flag_entry *en)
{
	if (f->n == f->cap) {
		size_t cap = f->cap ? f->cap * 2 : 64;
		struct gw_flag_entry *more = reallocarray(f->v, cap, sizeof(*more));
		if (!more)
			return -ENOMEM;
		f->v = more;
		f->cap = cap;
	}
	f->v[f->n++] = *en;
	return 0;
}

int gw_flags_parse(struct gw_flags *f, const char *text, size_t len)
{
	static const char key[] = "VmFlags:";
	struct gw_flag_entry en;
	bool open = false;
	f->n = f->pool_len = 0;
	f->known = false;
	for (size_t at = 0; at < len;) {
		const char *nl = memchr(text + at, '\n', len - at);
		size_t n = nl ? (size_t)(nl - text) - at : len - at;
		if (n >= sizeof(key) - 1 && !memcmp(text + at, key, sizeof(key) - 1)) {
			size_t skip = sizeof(key) - 1;
			int rc = open ? intern(f, text + at + skip, n - skip, &en.flags) : -EINVAL;
			/* Read while it ran, a mapping can come twice. */
			if (rc == 0 && (!f->n || f->v[f->n - 1].v.end <= en.v.start))
				rc = push(f, &en);
			if (rc < 0)
				return rc;
			open = false;
		} else if (n && ((text[at] >= '0' && text[at] <= '9') || (text[at] >= 'a' && text[at] <= 'f'))) {
			int rc = gw_maps_parse_line(text, at, n, &en.v);
			if (rc < 0)
				return rc;
			en.name_hash = hash(text + en.v.name, en.v.name_len);
			open = true;
		}
		at += n + 1;
	}
	f->known = true;
	return 0;
}

int gw_flags_learn(struct gw_flags *f, pid_t pid)
{
	char path[64];
	struct gw_task t;
	gw_auto(mem) char *text = NULL;
	size_t len;
	gw_path(path, sizeof(path), "/proc/%d/smaps", pid);
	int rc = gw_task_read(pid, &t);
	if (rc == 0)
		rc = gw_read_file(path, SMAPS_MAX, &text, &len, NULL);
	if (rc == 0)
		rc = gw_flags_parse(f, text, len);
	if (rc == 0)
		f->locked_kb = t.locked_kb;
	return rc == -ENOENT ? -ESRCH : rc;
}

static bool same_backing(const struct gw_flag_entry *en, const struct gw_vma *v, uint64_t name_hash)
{
	if (en->v.shared != v->shared || en->v.ino != v->ino || en->v.major != v->major || en->v.minor != v->minor ||
	    en->name_hash != name_hash)
		return false;
	return !v->ino || en->v.off - en->v.start == v->off - v->start;
}

static bool has_any(const char *flags, const char *const *list, size_t n)
{
	for (const char *p = flags; *p; p += p[2] ? 3 : 2)
		for (size_t i = 0; i < n; i++)
			if (!memcmp(p, list[i], 2))
				return true;
	return false;
}

/* Nothing that CRIU acts on (its __parse_vmflags). */
static bool is_plain(const char *flags)
{
	static const char *const acts[] = {"gd", "lo", "nr", "ht", "dp", "sr", "rr", "dc",
	                                   "dd", "mg", "hg", "nh", "wf", "io", "pf", "ss"};
	return !has_any(flags, acts, gw_countof(acts));
}

/* First remembered mapping that ends behind addr. */
static size_t first_behind(const struct gw_flags *f, uint64_t addr)
{
	size_t lo = 0, hi = f->n;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (f->v[mid].v.end <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* Is the neighbour of mapping i, in the map of now, its twin: touching, alike
 * in all we see, and also a piece of what `en` was? */
static bool has_twin(const struct gw_maps *m, size_t i, const struct gw_flag_entry *en)
{
	const struct gw_vma *v = &m->v[i];
	for (int side = -1; side <= 1; side += 2) {
		if ((side < 0 && i == 0) || (side > 0 && i + 1 == m->n))
			continue;
		const struct gw_vma *o = &m->v[(ptrdiff_t)i + side];
		if ((side < 0 ? o->end == v->start : o->start == v->end) && o->prot == v->prot &&
		    same_backing(en, o, hash(gw_vma_name(m, o), o->name_len)) && o->start < en->v.end &&
		    o->end > en->v.start)
			return true;
	}
	return false;
}

const char *gw_flags_of(const struct gw_flags *f, const struct gw_maps *m, size_t i)
{
	const struct gw_vma *v = &m->v[i];
	uint64_t h = hash(gw_vma_name(m, v), v->name_len);
	const char *found = NULL;
	size_t k = first_behind(f, v->start);
	for (size_t j = k; j < f->n && f->v[j].v.start < v->end; j++) {
		const struct gw_flag_entry *en = &f->v[j];
		const char *flags = f->pool + en->flags;
		if (!same_backing(en, v, h))
			continue;
		bool same_prot = en->v.prot == v->prot;
		if (same_prot && en->v.start == v->start && en->v.end == v->end)
			return flags;
		if ((found && strcmp(found, flags)) || (!same_prot && !is_plain(flags)) || has_twin(m, i, en))
			return NULL;
		found = flags;
	}
	if (found)
		return found;
	/* Before it, and behind it. */
	for (size_t j = k ? k - 1 : 0; j < f->n && f->v[j].v.start <= v->end; j++) {
		const struct gw_flag_entry *en = &f->v[j];
		bool touches = en->v.end == v->start || en->v.start == v->end;
		if (touches && same_backing(en, v, h) && is_plain(f->pool + en->flags))
			return f->pool + en->flags;
	}
	return NULL;
}

bool gw_flags_are_ours(const struct gw_maps *m, const struct gw_vma *v, const char *flags)
{
	static const char *const not_ours[] = {"lo", "ht", "ss", "dp", "io", "pf"};
	return gw_vma_is_private_anon(m, v) && !(flags && has_any(flags, not_ours, gw_countof(not_ours)));
}

void gw_smaps_mark(const struct gw_flags *f, struct gw_maps *m)
{
	for (size_t i = 0; i < m->n; i++) {
		struct gw_vma *v = &m->v[i];
		v->ours =
		        gw_vma_is_private_anon(m, v) && gw_flags_are_ours(m, v, f->known ? gw_flags_of(f, m, i) : NULL);
	}
}

static int room(struct gw_text *t, size_t more)
{
	if (t->len + more <= t->cap)
		return 0;
	size_t cap = (t->len + more) * 2;
	char *s = realloc(t->s, cap);
	if (!s)
		return -ENOMEM;
	t->s = s;
	t->cap = cap;
	return 0;
}

static void put(struct gw_text *t, const char *s, size_t n)
{
	memcpy(t->s + t->len, s, n);
	t->len += n;
}

int gw_smaps_text(const struct gw_flags *f, struct gw_maps *m, struct gw_text *out)
{
	out->len = 0;
	for (size_t i = 0; i < m->n; i++) {
		struct gw_vma *v = &m->v[i];
		const char *flags = f->known ? gw_flags_of(f, m, i) : NULL;
		if (!flags)
			return -ENODATA;
		v->ours = gw_flags_are_ours(m, v, flags);
		size_t n = strlen(flags);
		int rc = room(out, v->line_len + n + 32);
		if (rc < 0)
			return rc;
		put(out, m->text + v->line, v->line_len);
		put(out, "\nVmFlags: ", 10);
		if (v->prot & GW_PROT_R)
			put(out, "rd ", 3);
		if (v->prot & GW_PROT_W)
			put(out, "wr ", 3);
		if (v->prot & GW_PROT_X)
			put(out, "ex ", 3);
		put(out, flags, n);
		put(out, " \n", 2);
	}
	return room(out, 1);
}
