#pragma once
#include "ckpt/container.h"
#include "ckpt/dump.h"
#include "ckpt/throttle.h"
#include "files/scan.h"
#include "mem/track.h"
#include "move/converge.h"
#include "move/daemon.h"
#include "move/group.h"
#include "move/guard.h"
#include "move/handover.h"
#include "move/journal.h"
#include "move/send.h"
#include "move/trees.h"
#include "net/hold.h"
#include "net/mover.h"

/* source_priv: one outgoing migration; shared by source*.c only.
 *
 * Owned by its thread. `lock` guards what gw_source_cancel touches from
 * another thread: state, cancelled, ctl and sender as pointers. */
enum { GW_DATA_CONNS_MAX = 8 };

struct gw_source {
	struct gw_source *next;
	struct gw_daemon *d;
	struct gw_move_opts o;
	char mig[40];
	char dir[PATH_MAX]; /* STATE/mig/MIG */
	struct gw_progress *progress;
	pthread_mutex_t lock;
	bool cancelled;
	int cancel_fd;
	enum gw_source_state state;
	struct gw_host peer;
	struct gw_conn *ctl;
	struct gw_conn *data[GW_DATA_CONNS_MAX];
	unsigned ndata;
	struct gw_sender *sender;
	struct gw_rate *rate;
	struct gw_space *spaces; /* announced to the destination */
	size_t nspaces, spaces_cap;
	struct gw_container *container;
	struct gw_pod pod;
	struct gw_tracker *tracker;
	struct gw_group *group; /* NULL: it moves alone */
	unsigned member;        /* 0: the leader, or alone */
	struct gw_trees trees;  /* of files */
	struct gw_scan *scan;
	struct gw_throttle throttle;
	bool can_throttle;
	struct gw_converge converge;
	struct gw_journal journal;
	struct gw_dump *dump;
	struct gw_hold *hold;
	struct gw_guard *guard;
	uint64_t deadline_ms; /* 0: none */
	uint64_t last_scan_us;
	uint64_t precopy_from_us;
	bool sealed;        /* its network was shut for the commit */
	bool was_in_doubt;  /* the control connection is not to be trusted any more */
	uint64_t frozen_us; /* when the freeze began */
	uint64_t *early;    /* bytes that have gone, of images that go while the dump writes them */
	size_t nearly;
	pid_t pids_from; /* a shared process namespace counts on from here, 0: it has one of its own */
};

struct gw_reasons;
/* Load the container, reach the destination, collect what both say of it. */
int gw_source_look(struct gw_source *s, struct gw_reasons *out, struct gw_err *e);
int gw_source_prepare(struct gw_source *s, struct gw_err *e); /* source_copy.c: container, peer, destination ready */
int gw_source_precopy(struct gw_source *s, struct gw_err *e); /* until converge says freeze */
int gw_source_round(struct gw_source *s, bool is_final, uint64_t *out_dirty_bytes, struct gw_err *e);
/* After the final round: the pages of [addr, addr + len) once more, to be followed by a barrier. */
int gw_source_again(struct gw_source *s, pid_t pid, uint64_t addr, size_t len, struct gw_err *e);
int gw_source_shmem(struct gw_source *s, int dirfd, struct gw_err *e); /* source_shmem.c: frozen, before the dump */
/* source_socks.c: frozen, before gw_source_shmem; and by the leader, after it */
int gw_source_socks(struct gw_source *s, int shim_dirfd, struct gw_err *e);
int gw_source_links(struct gw_source *s, struct gw_err *e);
int gw_source_pids(struct gw_source *s, struct gw_err *e); /* source_pids.c: frozen */
/* source_dump.c: frozen. CRIU's dump, the last pages and files; then the images' rest */
int gw_source_dump(struct gw_source *s, struct gw_err *e);
int gw_source_images(struct gw_source *s, struct gw_err *e);
/* source_files.c */
int gw_source_files_list(struct gw_source *s, struct gw_err *e);
int gw_source_files(struct gw_source *s, bool is_final, struct gw_err *e);      /* a round */
void gw_source_files_mapped(struct gw_source *s, const char *maps, size_t len); /* text as of /proc/PID/maps or smaps */
int gw_source_handover(struct gw_source *s, struct gw_err *e);                  /* source_final.c: freeze to moved */
void gw_source_undo(struct gw_source *s);  /* before the commit: as if nothing had been */
void gw_source_moved(struct gw_source *s); /* after it: route, packets, the dead copy */
int gw_source_journal(struct gw_source *s, struct gw_err *e);
bool gw_source_step(struct gw_source *s, enum gw_source_event ev);
void gw_source_step_time(struct gw_source *s, enum gw_step step, uint64_t since_us); /* for the progress */
