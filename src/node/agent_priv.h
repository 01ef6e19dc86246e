#pragma once
#include <pthread.h>

#include "kube/follow.h"
#include "kube/metrics.h"
#include "kube/migration.h"
#include "node/agent.h"
#include "node/heard.h"

/* The agent's inside: agent.c (what Migrations ask for), agent_run.c (one
 * outgoing migration), agent_nodes.c (Node objects), agent_leases.c (AddressLease objects). */
enum { AGENT_BUSY_MAX = HEARD_MAX };

struct agent {
	struct gw_daemon *d;
	struct gw_kube_config config;
	char node[GW_K8S_NAME];
	uint16_t port;
	struct gw_metrics *metrics;
	struct heard heard;
	pthread_mutex_t lock;                  /* of what follows */
	char busy[AGENT_BUSY_MAX][GW_K8S_UID]; /* migrations that a thread is at */
	bool knows_nodes, knows_leases;        /* has seen all there are */
};

/* agent_run.c: threads of one migration; each frees its copy. */
void agent_check(struct agent *a, const struct gw_migration *m);
void agent_move(struct agent *a, const struct gw_migration *m);
void agent_answer(struct agent *a, const struct gw_migration *m); /* of the destination: was there a commit? */
/* What godwitd has of it: nothing, something under way, or a dead copy that waits. */
enum agent_engine { ENGINE_NONE, ENGINE_BUSY, ENGINE_MOVED };
enum agent_engine agent_engine(struct agent *a, const char *uid);

void agent_knows(struct agent *a, bool *what);      /* one of the two above, for /healthz */
bool agent_begin(struct agent *a, const char *uid); /* false: a thread is at it */
void agent_end(struct agent *a, const char *uid);
bool agent_is_moving(const struct gw_migration *m); /* its phase is the source's to act on */

void *agent_nodes(void *agent);  /* agent_nodes.c: a thread */
void *agent_leases(void *agent); /* agent_leases.c: a thread */
