#pragma once
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/gw_err.h"
#include "move/claim.h"
#include "move/progress.h"
#include "wire/conn.h"

/* daemon: what one godwitd is made of, and who may touch it.
 *
 * Threads: the main one accepts; each local client, each peer connection and
 * each outgoing migration has its own. The registries are under `lock`; a
 * thread never holds it over I/O. Everything else is fixed after start. */
struct gw_config {
	char name[128];
	char listen[160]; /* ADDR:PORT */
	char hosts_path[PATH_MAX];
	char ca[PATH_MAX], cert[PATH_MAX], key[PATH_MAX];
	char socket[PATH_MAX];
	char state_dir[PATH_MAX];
	char runc[PATH_MAX], criu[PATH_MAX], runc_root[PATH_MAX];
	char preload[PATH_MAX];   /* libgodwit-criu.so */
	char pages[PATH_MAX];     /* godwit-pages */
	char cni_dir[PATH_MAX];   /* godwit-cni's dataDir */
	char files_dir[PATH_MAX]; /* where files wait for their place; on a disk */
	unsigned data_conns;
};

/* A line of the hosts file: "NAME ADDR[,ADDR6] PORT". */
struct gw_host {
	char name[128];
	char addrs[128]; /* comma list, as the mover takes it */
	char dial[64];   /* the first of them */
	uint16_t port;
};

struct gw_source;
struct gw_dest;
struct gw_claiming;
struct gw_held;

struct gw_daemon {
	struct gw_config cfg;
	struct gw_tls *tls;
	pthread_mutex_t lock;
	struct gw_source *sources; /* outgoing; list under lock */
	struct gw_dest *dests;     /* incoming; list under lock */
	struct gw_progress *history[64];
	unsigned nhistory;          /* ring: the newest at (nhistory - 1) % 64 */
	char instance[40];          /* STATE/instance: this life of this host */
	struct gw_claiming *claims; /* claim.c */
	struct gw_held *held;       /* held.c */
	struct gw_denied *denied;   /* dest.c: never committed here any more */
	struct gw_word *words;      /* decisions made by hand, for resolve.c */
	uint64_t fixed_us;          /* of the last migration's freeze, what was not memory */
	/* May this peer bring this migration? NULL: whoever has a certificate may. */
	bool (*may_come)(void *ctx, const char *mig, const char *peer);
	void *may_come_ctx;
	/* Has this migration ended, so that no container need wait for it? NULL: nobody knows. */
	enum gw_claim_life (*claim_life)(void *ctx, const char *mig);
	int stop_fd; /* eventfd: readable when godwitd is to end */
};

/* Run until SIGTERM. Returns an exit code. begin (NULL: none) is called when all
 * is ready but the doors: what it sets up is there for the first peer. */
int gw_daemon_run(const struct gw_config *cfg, int (*begin)(struct gw_daemon *d, void *ctx, struct gw_err *e),
                  void *ctx);

int gw_host_find(const struct gw_daemon *d, const char *name, struct gw_host *out, struct gw_err *e);
int gw_host_dial(struct gw_daemon *d, const struct gw_host *h, const char *role, const char *mig, int timeout_ms,
                 struct gw_conn **out, struct gw_err *e);
void gw_daemon_remember(struct gw_daemon *d, struct gw_progress *p); /* into the history; takes a reference */
void gw_mig_dir(const struct gw_daemon *d, const char *mig, char *out, size_t size); /* STATE/mig/MIG */

/* ---- source.c: outgoing ---- */
struct gw_move_opts {
	char container[256];
	char to[128];
	char runc_root[PATH_MAX];
	uint64_t want_freeze_us, max_freeze_us;
	uint64_t bandwidth; /* bytes per second, 0: no limit */
	uint32_t rounds_max;
	uint64_t timeout_ms; /* of the whole before the commit, 0: none */
	bool throttle, zstd;
	char backend[16]; /* "", "uffd", "soft-dirty" */
	/* A pod's container, whose target a container runtime makes (claim.h): its
	 * name in the pod, "" for a container that godwitd makes itself. After the
	 * commit it stays, frozen, until gw_held_release. */
	char claim[128];
	char mig[40];   /* the migration's id, "": a new one */
	bool same_name; /* its pod's object goes before the freeze: kept from its runtime's kill from then on */
};
void gw_move_defaults(struct gw_move_opts *o);
/* The containers of one pod, which move as one (group.h), in the order in which
 * they are started; o->container and o->claim are theirs. *out: the first one's. */
struct gw_member {
	char container[256], claim[128];
};
int gw_source_start_pod(struct gw_daemon *d, const struct gw_move_opts *o, const struct gw_member *m, unsigned n,
                        struct gw_progress **out, struct gw_err *e);
/* Start it in a thread of its own. *out: a reference for the caller. */
int gw_source_start(struct gw_daemon *d, const struct gw_move_opts *o, struct gw_progress **out, struct gw_err *e);
int gw_source_cancel(struct gw_daemon *d, const char *mig, struct gw_err *e); /* by its id or its container */
void gw_source_cancel_all(struct gw_daemon *d);                               /* all that is before its commit */
/* Check without moving: reasons into an array, "ok" into obj. */
int gw_source_check(struct gw_daemon *d, const struct gw_move_opts *o, yyjson_mut_doc *doc, yyjson_mut_val *obj,
                    struct gw_err *e);

/* ---- dest.c: incoming ---- */
/* A peer's connection with role "control" or "data"; runs to its end. */
void gw_dest_control(struct gw_daemon *d, struct gw_conn *c, const char *mig);
void gw_dest_data(struct gw_daemon *d, struct gw_conn *c, const char *mig);
/* Is this container still taking in the memory of its last migration? */
bool gw_dest_filling(struct gw_daemon *d, const char *container);
/* claim.h: a container of that name is created here for the second time. */
void gw_dest_claimed_again(struct gw_daemon *d, const char *mig, const char *name, const char *id);
/* A word on a running session that came another way than its control
 * connection: "commit", "abort", anything else only asks. peer NULL: a person.
 * Answers with the session's state, NULL when there is none. */
const char *gw_dest_decide(struct gw_daemon *d, const char *mig, const char *word, const char *peer);

/* Its source is lost: what is not committed here is thrown away, and never can be
 * any more while this godwitd lives (after it may_come has to say no). Of a pod: all
 * of it. Answers with the session's state, NULL when there is none. */
const char *gw_dest_deny(struct gw_daemon *d, const char *mig);

/* ---- resolve.c: in doubt, and after a restart ---- */
/* The source has sent commit and heard nothing: ask until the destination
 * answers. *out_committed; *why is filled when it aborted. */
void gw_resolve_source(struct gw_daemon *d, const char *mig, const char *peer, struct gw_err *why, bool *out_committed);
/* What the other host says of mig: "committed", "aborted", "unknown", ... <0: no
 * answer within seconds. Decides nothing. */
int gw_resolve_ask(struct gw_daemon *d, const char *mig, const char *peer, char *out_state, size_t size,
                   struct gw_err *e);
/* Tell the destination that the source is gone, by a connection of its own. */
void gw_resolve_gone(struct gw_daemon *d, const char *mig, const char *peer);
/* gw_dest_deny, with the journal's word when no session is there. true: it is committed here. */
bool gw_resolve_deny(struct gw_daemon *d, const char *mig);
/* A peer's connection with role "query". */
void gw_resolve_query(struct gw_daemon *d, struct gw_conn *c, const char *mig);
void gw_resolve_recover(struct gw_daemon *d); /* at start: every journal entry is finished or undone */
/* A person knows that the other host is dead and decides for it. */
int gw_resolve_by_hand(struct gw_daemon *d, const char *mig, bool commit, struct gw_err *e);

/* ---- check_wire.c: both hosts' views of one container ---- */
struct gw_container;
struct gw_reasons;
int gw_check_both(struct gw_daemon *d, struct gw_conn *ctl, const struct gw_container *c, uint64_t memory_bytes,
                  bool claimed, struct gw_reasons *out, struct gw_err *e);
int gw_check_answer(struct gw_daemon *d, struct gw_conn *c, yyjson_val *msg, struct gw_err *e);

/* ---- ctl.c: the local socket ---- */
void gw_ctl_client(struct gw_daemon *d, int take_fd);
