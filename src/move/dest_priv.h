#pragma once
#include "ckpt/restore.h"
#include "files/apply.h"
#include "files/record.h"
#include "mem/pages.h"
#include "mem/store.h"
#include "move/claim.h"
#include "move/daemon.h"
#include "move/group.h"
#include "move/handover.h"
#include "move/journal.h"
#include "move/recv.h"
#include "net/hold.h"
#include "net/mover.h"
#include "net/room.h"

/* dest_priv: one incoming migration; shared by dest*.c and resolve.c only.
 *
 * Owned by the thread of its control connection. Under `lock`: state, wake,
 * data_active, hold; a decision (commit, abort) may come from a query connection. */
/* One pod's containers (group.h). The leader's session knows the others', under
 * its lock; they know it by its id. */
struct gw_dest_pod {
	unsigned members, member; /* 0 of 0: alone */
	char leader[40];
	struct gw_dest *others[GW_GROUP_MAX];
	unsigned nothers;
	struct gw_dest_link *links; /* leader, under its lock: dest_socks.c */
	size_t nlinks;
	bool ipc_made; /* leader, under its lock: what the IPC namespace has is there */
	bool counted;  /* leader, under the daemon's lock: gw_dest_pod_pids was here */
};

struct gw_dest {
	struct gw_dest *next;
	struct gw_daemon *d;
	char mig[40];
	char peer[128];            /* the source's certificate name */
	char peer_instance[40];    /* its STATE/instance when it began (resolve.c) */
	char container[256];       /* of a claimed one the new id, from arm on */
	char claim_name[128];      /* "": godwitd makes the container */
	char claim_mig[40];        /* whose claims are ours: the pod's migration */
	struct gw_dest_pod pod_of; /* the containers that are committed with it */
	struct gw_claim claim;
	char dir[PATH_MAX];    /* STATE/mig/MIG: images, work, sockets */
	char bundle[PATH_MAX]; /* STATE/bundles/CONTAINER */
	char netns[PATH_MAX];
	char commit_file[PATH_MAX];
	struct gw_progress *progress;
	pthread_mutex_t lock;
	pthread_cond_t data_idle;
	unsigned data_active;
	struct gw_conn *data[16];
	struct gw_conn *ctl; /* borrowed while the conversation lasts */
	int wake_fd;         /* eventfd: a decision was made elsewhere */
	enum gw_dest_state state;
	struct gw_journal journal;
	struct gw_store *store;
	struct gw_recv_counters counters;
	struct gw_pod pod;
	bool net_ready;
	struct gw_room *room; /* of its datagram sockets, from restored to filled */
	struct gw_hold *hold; /* what this host's own clients send; under lock; NULL: none, or a member */
	char *descriptors;    /* JSON */
	int stdio[3];
	struct gw_restore *restore;
	struct gw_pages *pages;
	struct gw_dest_object *shmem; /* what CRIU's images do not hold */
	size_t nshmem;
	struct gw_apply *files; /* NULL: none come */
	yyjson_mut_doc *trees_doc;
	yyjson_mut_val *trees; /* as the source named them */
	uint64_t resume_us;
};

/* dest_shmem.c */
int gw_dest_shmem(struct gw_dest *s, yyjson_val *msg, struct gw_err *e);    /* the source's list */
int gw_dest_answer(void *dest, const char *what, uint64_t id, int *out_fd); /* a gw_home_answer_fn */
int gw_dest_shmem_taken(const struct gw_dest *s, struct gw_err *e);         /* after the restore: all of it? */

/* dest_pod.c */
int gw_dest_pod_join(struct gw_dest *s, yyjson_val *msg, struct gw_err *e); /* at prepare */
void gw_dest_pod_leave(struct gw_dest *s);
/* Leader, locked, before the commit point: are all prepared, and their runtimes bound to
 * them (gw_claim_bind)? Bound is all or none; also for a container that moves alone. */
int gw_dest_pod_bind(struct gw_dest *s, struct gw_err *e);
void gw_dest_pod_unbind(struct gw_dest *s);
void gw_dest_pod_commit(struct gw_dest *s); /* leader, locked, after the commit point */
/* A copy whose sockets are there before those of the container it is connected with
 * must hear no RST for that (leader, claimed): until gw_dest_pod_talk. */
int gw_dest_pod_quiet(struct gw_dest *s, struct gw_err *e);
void gw_dest_pod_talk(const char *netns_path, const char *mig);
/* A claimed copy was thrown away; its sandbox, and with it its network, may be asked for the next try. */
void gw_dest_forget_connections(struct gw_dest *s);
bool gw_dest_pod_led(struct gw_dest *s); /* is its leader's session still there? */

/* The container's processes live in the pod's namespace, in which new ones get numbers from `from` on. */
int gw_dest_pod_pids(struct gw_dest *s, pid_t from, struct gw_err *e);

/* The pod's IPC namespace is one, and in every container's images: the leader's CRIU makes what is in it. */
int gw_dest_pod_ipc(struct gw_dest *s); /* its answer to CRIU (ckpt/home.h); a container that follows waits here */
void gw_dest_pod_ipc_made(struct gw_dest *s);

/* dest_socks.c: unix connections between the pod's containers */
int gw_dest_links(struct gw_dest *s, struct gw_err *e);      /* leader: their file has come */
int gw_dest_link_end(struct gw_dest_pod *pod, uint32_t ino); /* leader, locked: borrowed, or -ENOENT */
bool gw_dest_links_given(const struct gw_dest_pod *pod);
void gw_dest_links_drop(struct gw_dest_pod *pod); /* ours are closed: else no end would see the other one's end */
int gw_dest_pod_socket(struct gw_dest *s, uint32_t ino, int *out_fd); /* any container: a gw_home_answer */

/* dest_files.c */
int gw_dest_files_prepare(struct gw_dest *s, yyjson_val *trees, struct gw_err *e);
int gw_dest_files_frame(struct gw_dest *s, const struct gw_frame *f, struct gw_err *e);
int gw_dest_files_place(struct gw_dest *s, struct gw_err *e); /* the claim is taken */
void gw_dest_files_done(struct gw_dest *s);

/* What its network is named after: the sandbox's id of a claimed one. */
static inline const char *gw_dest_net_id(const struct gw_dest *s)
{
	return s->claim_name[0] ? s->claim.sandbox : s->container;
}
int gw_dest_prepare(struct gw_dest *s, yyjson_val *msg, struct gw_err *e); /* dest_prepare.c */
int gw_dest_arm(struct gw_dest *s, struct gw_err *e);
void gw_dest_end_hold(struct gw_dest *s); /* what is kept goes where the route leads */
int gw_dest_image(struct gw_dest *s, const struct gw_frame *f, struct gw_err *e);
void gw_dest_discard(struct gw_dest *s);                 /* everything that was made for it goes */
int gw_dest_commit(struct gw_dest *s, struct gw_err *e); /* the commit point; caller holds no lock */
void gw_dest_abort(struct gw_dest *s);
void gw_resolve_dest(struct gw_dest *s); /* resolve.c: prepared without a word: ask until decided */
