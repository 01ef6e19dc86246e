#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/gw_err.h"
#include "mem/space.h"

/* track: which pages of a running container changed since we last looked.
 *
 * Two backends behind one interface:
 *   uffd        userfaultfd write-protect, async mode, read by PAGEMAP_SCAN
 *               (Linux 6.7+). The userfaultfd is made inside each process by
 *               ptrace injection and taken with pidfd_getfd.
 *   soft-dirty  clear_refs and bit 55 of pagemap (CONFIG_MEM_SOFT_DIRTY).
 * A mapping that appeared, moved or was remapped since the last round fails
 * the backend's own check (PM_SCAN_CHECK_WPASYNC; VM_SOFTDIRTY) and is
 * reported whole: right by construction, never guessed from events.
 *
 * What no page table shows is missed: a device or another process that writes
 * through a long-lived pin (RDMA, AF_XDP, VFIO; CRIU refuses those anyway).
 * O_DIRECT and AIO are covered: their pages are reported twice (track.c).
 *
 * Owner: the migration's task. Threads: one at a time (the stops run in
 * threads of their own). Nobody in this program may wait for any child
 * (waitpid(-1)); see inject.h. Descriptors: three a process.
 * Limits: addresses below 2^48; 64-bit processes. */
struct gw_tracker;

enum gw_track_backend { GW_TRACK_AUTO, GW_TRACK_UFFD, GW_TRACK_SOFT_DIRTY };

/* What this kernel offers; *out_why names what is missing for the others. */
enum gw_track_backend gw_track_supported(char *out_why, size_t size);
const char *gw_track_backend_name(enum gw_track_backend b);

/* cgroup_dir: the container's freezer (v1) or unified (v2) cgroup; its
 * processes, those of its children too, are what is tracked. Every round
 * reads the list again. init_pid: the container's first process. */
int gw_tracker_new(enum gw_track_backend want, const char *cgroup_dir, pid_t init_pid, struct gw_tracker **out,
                   struct gw_err *e);

/* Also shared memory without a path: MAP_SHARED | MAP_ANONYMOUS, memfd, System
 * V (SHMEM spaces; off at first: then CRIU dumps it all). What is CRIU's in
 * any case, decided anew each time: a memfd of which a process has a
 * descriptor (write(2) shows in no page table), an object so large in so many
 * processes that its marks would need page tables of an eighth of its size
 * (and 64 MiB), huge pages. uffd only: with the soft-dirty backend this does
 * nothing. An object is reported whole when a process that mapped it has come
 * or gone. The sink reads from space->fd, which is good until
 * gw_tracker_free; a space whose object has another size comes again with the
 * same id. src/mem/track_shmem.c. */
enum { GW_SHMEM_MAX = 1024 }; /* objects; a descriptor each. The others are CRIU's. */
int gw_tracker_set_shmem(struct gw_tracker *t, struct gw_err *e);

/* Stop tracking: registrations go (no descriptor was left in a process).
 * Safe on processes that are running, frozen or dead. For a process that
 * lives on the kernel walks its pages once more (24 ms a GiB): not in the
 * freeze; free after the source is killed, or after the thaw. */
void gw_tracker_free(struct gw_tracker *t);
enum gw_track_backend gw_tracker_backend(const struct gw_tracker *t);

/* Where a round's findings go. A callback that returns < 0 ends the round
 * with that error. Spans are of at most 256 pages (1 MiB). */
struct gw_track_sink {
	void *ctx;
	/* Before its first span. Every process is announced, also one without pages. */
	int (*space)(void *ctx, const struct gw_space *s, struct gw_err *e);
	/* A page may be gone, or not readable by process_vm_readv (PROT_NONE),
	 * when the sink reads it: read /proc/PID/mem, and take EIO and EFAULT for
	 * "gone since" (the final round drops it, or reports it again). */
	int (*dirty)(void *ctx, uint32_t space, const struct gw_span *spans, size_t n, struct gw_err *e);
	/* Reported before, and not there any more (unmapped, MADV_DONTNEED): final round only. */
	int (*drop)(void *ctx, uint32_t space, const struct gw_span *spans, size_t n, struct gw_err *e);
};

struct gw_round {
	uint32_t processes;
	uint32_t threads;       /* of all of them; how long CRIU will take depends on it */
	uint64_t present_pages; /* of all spaces, after the round; a running one still counts what went away */
	uint64_t dirty_pages;
	uint64_t scan_us;    /* time in the kernel's scans */
	uint64_t stopped_us; /* longest time one process was stopped for injection */
};

/* One pass. Running (is_final false; nothing may be frozen): newly found
 * processes and mappings are set up and reported whole, written pages are
 * reported and protected again. Final (is_final true; everything must be
 * frozen): nothing is set up or protected; what is new is reported whole,
 * drops are reported.
 *
 * GW_RETRY: nothing is broken, let it run and try again: a thread could not be
 * stopped, a vfork is under way, memory is under another userfaultfd. After
 * any failed running round the next one is right again (and larger). After a
 * failed final round only gw_tracker_free() is left, unless it was GW_RETRY. */
int gw_tracker_round(struct gw_tracker *t, bool is_final, const struct gw_track_sink *sink, struct gw_round *out,
                     struct gw_err *e);

/* Read the VmFlags of every mapping (slow: the kernel walks all page tables,
 * 25-35 ms per GiB), to be remembered for gw_tracker_smaps. Not frozen. */
int gw_tracker_learn_flags(struct gw_tracker *t, struct gw_err *e);

/* For each process: fn(pid, smaps text, lazy ranges). The text is what
 * /proc/PID/smaps would say as far as CRIU reads it (the mapping line and
 * VmFlags), made from /proc/PID/maps of now and remembered flags; a mapping
 * whose flags cannot be derived makes us read the real file. `lazy` are the
 * ranges that the tracker owns (private anonymous, not locked, not huge: the
 * ones that CRIU's restore --lazy-pages fetches through userfaultfd); every
 * other page is CRIU's. Everything must be frozen. Call before the final
 * round, once after each freeze: the next round uses the same list, so that
 * what CRIU's parasite maps meanwhile is in neither. Borrowed until the next
 * call. */
struct gw_lazy_range {
	uint64_t start, end;
};
typedef int gw_smaps_fn(void *ctx, pid_t pid, const char *text, size_t len, const struct gw_lazy_range *lazy, size_t n,
                        struct gw_err *e);
int gw_tracker_smaps(struct gw_tracker *t, gw_smaps_fn *fn, void *ctx, struct gw_err *e);

/* The SHMEM spaces that are ours in this freeze; everything else is CRIU's.
 * After gw_tracker_smaps, before the final round. */
typedef int gw_shmem_fn(void *ctx, const struct gw_space *s, struct gw_err *e);
int gw_tracker_shmem(struct gw_tracker *t, gw_shmem_fn *fn, void *ctx, struct gw_err *e);
