#pragma once
#include <stdint.h>
#include <sys/types.h>

#include "mem/track.h"

/* track_rig: real processes in a cgroup of their own, a destination that
 * believes every report of the tracker, and the comparison of the two, byte
 * for byte. Everything is ended and removed by rig_close(), also after a
 * failed assertion (it is the teardown). */
struct rig_victim {
	pid_t pid;
	int to, from; /* its stdin and stdout */
};

struct rig {
	char cgroup[256];
	bool v2;
	struct gw_tracker *t;
	struct rig_victim v[16];
	unsigned nv;
	struct rig_space *spaces;
	unsigned nspaces, spaces_cap;
	struct gw_round last;
	uint64_t dirty_pages, dropped_pages; /* of the last round, as the sink saw them */
	uint64_t unreadable;
	unsigned fail_after; /* the sink fails at its n-th call from now; 0: never */
	uint32_t ours[16];   /* shared memory spaces that are the tracker's in this freeze */
	unsigned nours;
	bool verbose;
};

int rig_open(void **state); /* group fixtures of cmocka: state is a struct rig */
int rig_close(void **state);
/* The backend that GW_TRACK_BACKEND names (uffd, soft-dirty; else any). */
enum gw_track_backend rig_backend(void);
/* Exits with 77 and the reason when that does not work here. */
void rig_need_backend(void);

/* Start `track_victim what` in the cgroup (or in a child cgroup of it) and
 * wait for its "ready". */
struct rig_victim *rig_start(struct rig *r, const char *what);
struct rig_victim *rig_start_in(struct rig *r, const char *child_cgroup, const char *what);
/* Tell it to do a step (one letter) and wait until it has; its answer. */
const char *rig_step(struct rig_victim *v, char step);
void rig_send(struct rig_victim *v, char step);
const char *rig_answer(struct rig_victim *v);
void rig_end(struct rig *r, struct rig_victim *v); /* kill and reap */

void rig_track(struct rig *r); /* a tracker on it; init is the first victim */
void rig_freeze(struct rig *r);
void rig_thaw(struct rig *r);

/* Rounds that must work. */
void rig_round(struct rig *r);
/* Freeze, smaps (checked against the real ones), final round, compare; the
 * container stays frozen. */
void rig_final(struct rig *r);
/* A round that may fail. */
int rig_try(struct rig *r, bool is_final, struct gw_err *e);
void rig_compare(struct rig *r);
void rig_check_smaps(struct rig *r);

/* How many pages of [start, start + len) the last round reported for pid. */
uint64_t rig_reported(struct rig *r, pid_t pid, uint64_t start, uint64_t len);
uint64_t rig_spaces_of(struct rig *r, pid_t pid);
uint64_t rig_status_kb(pid_t pid, const char *key);
