#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "mem/bits.h"
#include "mem/maps.h"
#include "mem/pageset.h"
#include "mem/procs.h"
#include "mem/smaps.h"
#include "mem/track.h"

/* track_impl: what track.c, the two backends and track_shmem.c share. */

/* One process of the container. */
struct gw_proc {
	pid_t pid, vpid;
	uint32_t space;
	int pidfd;       /* who it is: a pid may come back as somebody else */
	int pagemap;     /* of the memory it had when it was set up: reads nothing once exec replaced that */
	int uffd;        /* uffd backend */
	bool known;      /* the sink has heard of its space */
	bool tracked;    /* set up: writes to its memory are seen */
	bool ended;      /* only here until what was reported of it is dropped */
	bool stale;      /* tracked on the memory it had before it called exec: to be set up again */
	unsigned stales; /* how often that was so */
	bool fresh;      /* report all that is there, whatever the backend says */
	bool seen;       /* in the list of this round */
	bool held;       /* this round has its maps */
	bool gap;        /* the final round dropped what was not ours any more */
	bool direct_io;
	struct gw_task task;
	struct gw_maps maps;
	struct gw_flags flags;
	struct gw_text text;
	struct gw_pageset reported;
	struct gw_pageset young, old; /* reported lately: see settle() in track.c */
	uint64_t young_since_ms;
	/* track_shmem.c */
	uint64_t child_faults, zombies, tables_left;
	bool asked, lost_child;
};

struct gw_shm;

struct gw_track_ops {
	enum gw_track_backend id;
	const char *name;
	/* Begin to track p's memory of now; sets pagemap (and uffd). */
	int (*setup)(struct gw_tracker *t, struct gw_proc *p, struct gw_err *e);
	/* A running pass over p->maps: gw_round_dirty() for what was written. */
	int (*run)(struct gw_tracker *t, struct gw_proc *p, struct gw_err *e);
	/* The final pass over all held processes: gw_round_dirty(), gw_round_absent(). */
	int (*last)(struct gw_tracker *t, struct gw_err *e);
	/* Let go of p's memory. */
	void (*forget)(struct gw_proc *p);
	/* Can tell which pages of shared memory a process has not written. */
	bool shmem;
};
extern const struct gw_track_ops gw_track_uffd, gw_track_softdirty;

enum { GW_SPANS_MAX = 256, GW_SPAN_PAGES_MAX = 256 };

struct gw_tracker {
	const struct gw_track_ops *ops;
	char *cgroup_dir;
	pid_t init_pid;
	unsigned level; /* of the container's pid namespace, as an index into NSpid */
	uint32_t next_space;
	bool shmem;
	bool shm_listed; /* of this freeze */
	uint32_t shm_minor;
	int own_pagemap;  /* 0: none */
	bool have_frozen; /* maps of all processes are those of this freeze */
	struct gw_pids pids;
	struct gw_proc **v;
	size_t n, cap;
	struct gw_shm **shm;
	size_t nshm, shm_cap;
	struct gw_lazy_range *lazy;
	size_t lazy_cap;
	bool broken;
	/* of the round that is going on */
	const struct gw_track_sink *sink;
	struct gw_round round;
	uint32_t out_space;
	bool out_drop;
	struct gw_span out[GW_SPANS_MAX];
	size_t nout;
	uint64_t sink_us; /* time spent in the sink */
	int sink_rc;      /* what it failed with */
};

/* For backends. `start` and `end` are addresses. Errors end the round. */
int gw_round_dirty(struct gw_tracker *t, struct gw_proc *p, uint64_t start, uint64_t end, struct gw_err *e);
/* What was reported of it is not there any more. */
int gw_round_absent(struct gw_tracker *t, struct gw_proc *p, uint64_t start, uint64_t end, struct gw_err *e);

/* The same for any space; pages, not addresses. */
int gw_emit(struct gw_tracker *t, uint32_t space, bool drop, uint64_t page, uint64_t n, struct gw_err *e);
int gw_emit_flush(struct gw_tracker *t, struct gw_err *e);
int gw_emit_drops(struct gw_tracker *t, uint32_t space, struct gw_pageset *reported, uint64_t from, uint64_t to,
                  struct gw_err *e);

enum { GW_STALES_MAX = 3 };
/* Is the memory that p->pagemap was opened on still the process's? */
bool gw_proc_memory_alive(const struct gw_proc *p);
int gw_proc_open(pid_t pid, const char *name, int flags); /* /proc/PID/name; -ESRCH */

/* track_shmem.c: shared memory, after the processes of a round. */
int gw_shm_start(struct gw_tracker *t); /* once; -errno */
int gw_shm_list(struct gw_tracker *t, bool is_final, struct gw_err *e);
struct gw_space gw_shm_space(const struct gw_shm *o);
int gw_shm_round(struct gw_tracker *t, bool is_final, struct gw_err *e);
void gw_shm_done(struct gw_tracker *t);
