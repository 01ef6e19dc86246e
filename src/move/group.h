#pragma once
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/gw_err.h"
#include "move/links.h"

/* group: the containers of one pod move as one.
 *
 * Each has a migration of its own (thread, connections, dump), under an id derived
 * from the pod's; the first one is the leader: it alone holds the pod's packets,
 * turns its route and says commit, for all. They wait for each other where
 * somebody running would write to somebody saved:
 *
 *   PREPARED   the leader's session is there, the others may join it
 *   COPIED     written pages are few: from here on seconds count
 *   READY      the target's containers are being created
 *   ARMED      restore and dump of each wait
 *   SHUT       the pod's packets are held (leader)
 *   FROZEN     nobody runs
 *   SEEN       each has named its ends of unix connections (links.h)
 *   LISTED     each has named the shared memory that is its to move: now each is saved
 *   LINKED     those between containers are made on the destination (leader)
 *   RESTORED   every copy is rebuilt and held
 *   COMMITTING each has it in its journal: now the leader commits
 *   then its outcome is everybody's.
 *
 * One that fails fails all; after COMMITTING nobody fails any more. Shared by its
 * members, reference-counted; all calls from any thread. */
enum gw_group_stage {
	GW_GROUP_PREPARED,
	GW_GROUP_COPIED,
	GW_GROUP_READY,
	GW_GROUP_ARMED,
	GW_GROUP_SHUT,
	GW_GROUP_FROZEN,
	GW_GROUP_SEEN,
	GW_GROUP_LISTED,
	GW_GROUP_LINKED,
	GW_GROUP_RESTORED,
	GW_GROUP_COMMITTING,
	GW_GROUP_STAGES
};
enum { GW_GROUP_MAX = 16 };

/* A System V segment: they are the pod's, and each is moved by one container at most. */
struct gw_group_segment {
	uint64_t dev, ino;
};

/* One end of a unix connection. */
struct gw_group_socket {
	uint32_t ino, peer;
	int type;
	unsigned member; /* whose it is: only that one writes what follows, between SEEN and LISTED */
	pid_t pid;       /* of a process that has it, as fd; in our namespace */
	int fd;
	struct gw_queue at; /* what waits there, if the peer is another container's */
};

struct gw_group {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned refs, members, at[GW_GROUP_STAGES];
	bool failed, decided, committed;
	struct gw_err why;
	char leader[40]; /* its migration's id: the pod's */
	struct gw_group_segment *segments;
	size_t nsegments;
	struct gw_group_socket *sockets;
	size_t nsockets;
};

struct gw_group *gw_group_new(const char *leader, unsigned members);
struct gw_group *gw_group_ref(struct gw_group *g);
void gw_group_unref(struct gw_group *g); /* NULL is fine */

/* g NULL in all of these: a container that moves alone, nobody to wait for. */
void gw_group_arrive(struct gw_group *g, enum gw_group_stage s);
/* Have n arrived there? n 0: all. */
bool gw_group_all(struct gw_group *g, enum gw_group_stage s, unsigned n);
/* Wait until n (0: all) have arrived. Fails with what another one failed with. */
int gw_group_wait(struct gw_group *g, enum gw_group_stage s, unsigned n, struct gw_err *e);
int gw_group_meet(struct gw_group *g, enum gw_group_stage s, struct gw_err *e); /* arrive, and wait for all */
/* Between FROZEN and LISTED; read without the lock after it. < 0: -ENOMEM. */
int gw_group_add_segment(struct gw_group *g, const struct gw_group_segment *s);
/* Between FROZEN and SEEN, likewise. */
int gw_group_add_socket(struct gw_group *g, const struct gw_group_socket *s);
/* The first failure counts. */
void gw_group_fail(struct gw_group *g, const struct gw_err *why);
int gw_group_failed(struct gw_group *g, struct gw_err *e); /* 0: nobody has */
void gw_group_decide(struct gw_group *g, bool committed);
bool gw_group_outcome(struct gw_group *g); /* waits for it */

/* The id of member i > 0, from the pod's: its first byte differs. */
void gw_group_id(const char *leader, unsigned i, char out[40]);
bool gw_group_is_of(const char *id, const char *leader); /* of any member, the leader too */
