#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "mem/maps.h"

/* smaps: /proc/PID/smaps without the walk of the page tables.
 *
 * CRIU reads smaps for two things, the mapping line and VmFlags. The line is
 * the one of /proc/PID/maps; the flags are remembered from an earlier look at
 * the real file, while the process ran, and derived for what changed since:
 *   the same mapping                       its flags
 *   it grew, shrank, merged, or changed    the flags of what it overlaps; unless
 *   protection                             it was split in two that differ in nothing
 *                                          we see: then madvise or mlock took a part
 *   new, touching one with the same        that one's flags, when they are plain
 *   backing                                (nothing that CRIU acts on)
 *   anything else                          not derivable: read the real file
 * What this cannot see: madvise on a whole, unchanged mapping since the last
 * look, and on a new one that touches a plain one. Restored, such a mapping
 * has its old advice; its contents and who carries them are right in any
 * case, because both sides go by this text.
 *
 * Owner: whoever holds the struct (all zero: nothing is known). Threads: one
 * at a time. Source: fs/proc/task_mmu.c (show_smap_vma_flags); what counts is
 * what criu/proc_parse.c (parse_smaps) reads. */
struct gw_flags {
	struct gw_flag_entry *v;
	size_t n, cap;
	char *pool; /* distinct flag texts, NUL after each */
	size_t pool_len, pool_cap;
	uint64_t locked_kb; /* VmLck when we looked */
	bool known;
};

/* Read the real file (25-35 ms a GiB). -ESRCH: gone. */
int gw_flags_learn(struct gw_flags *f, pid_t pid);
int gw_flags_parse(struct gw_flags *f, const char *text, size_t len);
void gw_flags_done(struct gw_flags *f);

/* The flags of mapping i of m without rd, wr, ex; NULL: not derivable. */
const char *gw_flags_of(const struct gw_flags *f, const struct gw_maps *m, size_t i);

/* Can CRIU's restore fetch such a mapping page by page (vma_entry_can_be_lazy
 * in criu/include/vma.h), that is, do we own its pages? `flags` as above;
 * NULL: not known, then what the map says decides. */
bool gw_flags_are_ours(const struct gw_maps *m, const struct gw_vma *v, const char *flags);

/* Set v->ours of every mapping from what is known. */
void gw_smaps_mark(const struct gw_flags *f, struct gw_maps *m);

struct gw_text {
	char *s;
	size_t len, cap;
};
void gw_text_done(struct gw_text *t);

/* The text, and v->ours of every mapping. -ENODATA: a mapping's flags are
 * not derivable (learn, read the maps again, and call again). */
int gw_smaps_text(const struct gw_flags *f, struct gw_maps *m, struct gw_text *out);
