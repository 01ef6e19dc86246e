#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* maps: the mappings of a process, from /proc/PID/maps.
 *
 * Parsed by hand in one pass, no allocation a line: a process may have tens
 * of thousands of mappings and this is read inside the freeze. Names stay in
 * the text.
 *
 * Owner: whoever holds the struct (all zero is empty); reading again reuses
 * its memory. Threads: one at a time. Format: proc_pid_maps(5). While the
 * process runs the list is stitched together by the kernel, page by page, and
 * may be older at its head than at its tail; it is in order in any case. */
enum { GW_PROT_R = 1, GW_PROT_W = 2, GW_PROT_X = 4 };

struct gw_vma {
	uint64_t start, end, off, ino;
	uint32_t major, minor;
	uint32_t line, line_len; /* in the text, without the newline */
	uint32_t name, name_len;
	uint8_t prot;
	bool shared;
	bool ours; /* set by smaps.h: the tracker owns its pages */
};

struct gw_maps {
	char *text;
	size_t len, text_cap;
	struct gw_vma *v;
	size_t n, cap;
};

/* -ESRCH: the process is gone (or a zombie: it has none, *out is empty and 0
 * is returned). -EINVAL: the kernel said something that is not a map. */
int gw_maps_read(struct gw_maps *m, pid_t pid);
int gw_maps_parse(struct gw_maps *m, const char *text, size_t len);
void gw_maps_done(struct gw_maps *m);

/* One line (no newline), names relative to `text`. -EINVAL. For smaps.h. */
int gw_maps_parse_line(const char *text, size_t at, size_t len, struct gw_vma *out);

static inline const char *gw_vma_name(const struct gw_maps *m, const struct gw_vma *v)
{
	return m->text + v->name;
}
bool gw_vma_named(const struct gw_maps *m, const struct gw_vma *v, const char *name);

/* Private, no file, and not one of the kernel's own ([vdso] and such). What
 * VmFlags may still take away is in smaps.h. */
bool gw_vma_is_private_anon(const struct gw_maps *m, const struct gw_vma *v);
/* What a shared mapping without a path is of: MAP_SHARED | MAP_ANONYMOUS, a
 * memfd (as which CRIU brings the first kind back, too), System V. Not
 * /dev/shm, which has a path, and nothing of huge pages. `minor`: of the
 * kernel's own tmpfs, where memfds live. */
enum gw_shm_kind { GW_SHM_NONE, GW_SHM_ANON, GW_SHM_MEMFD, GW_SHM_SYSV };
enum gw_shm_kind gw_vma_shm_kind(const struct gw_maps *m, const struct gw_vma *v, uint32_t minor);

/* The mapping that holds addr, or NULL. */
const struct gw_vma *gw_maps_find(const struct gw_maps *m, uint64_t addr);
