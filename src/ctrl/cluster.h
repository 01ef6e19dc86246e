#pragma once
#include "kube/migration.h"

/* cluster: the pods and nodes that migrations are about, as the API server tells them.
 *
 * Nodes are listed and watched. Of pods there is one watch and no list: a pod is
 * asked for when a migration first looks at it, from then on the watch keeps it,
 * and the answers to what we write ourselves (ctrl_cluster_heard) do so at once.
 * When the watch may have missed something, or after ctrl_cluster_doubt, it is
 * asked for again. What is not watched (a Job) is known until it is doubted.
 *
 * Two threads of its own, until stop_fd is readable. All calls from any thread. */
struct ctrl_cluster;

struct ctrl_cluster_opts {
	const struct gw_kube_config *config;
	int stop_fd;
	/* A pod that the migration uid has looked at, or (NULL) a node, is another now. Called under a
	 * lock of the cluster: nothing here may be called from it. */
	void (*changed)(void *ctx, const char *uid);
	void *ctx;
};

int ctrl_cluster_start(const struct ctrl_cluster_opts *o, struct ctrl_cluster **out, struct gw_err *e);
void ctrl_cluster_join(struct ctrl_cluster *c);      /* after stop_fd; frees it */
bool ctrl_cluster_is_synced(struct ctrl_cluster *c); /* the watches have begun */

/* The object at an API path (a Pod, a Job), for the migration uid. 0 with *out NULL:
 * there is none. k asks if that is needed. The caller frees *out. */
int ctrl_cluster_get(struct ctrl_cluster *c, struct gw_kube *k, const char *uid, const char *path, yyjson_doc **out,
                     struct gw_err *e);
/* An object that an answer brought (gw_kube_hear). */
void ctrl_cluster_heard(struct ctrl_cluster *c, yyjson_val *object);
void ctrl_cluster_doubt(struct ctrl_cluster *c, const char *uid);  /* what it looks at is asked for again */
void ctrl_cluster_forget(struct ctrl_cluster *c, const char *uid); /* it is over */
/* What the watch of pods tells, for it and for tests; it has begun anew. */
void ctrl_cluster_told(struct ctrl_cluster *c, yyjson_val *pod, bool deleted);
void ctrl_cluster_missed(struct ctrl_cluster *c);

struct ctrl_node {
	char name[GW_K8S_NAME];
	bool exists, has_godwit;
	bool ready, out_of_service; /* the condition; somebody has said (by the taint) that it is off */
	int64_t ready_since_s;      /* ready, or not, since 1970; 0: unknown */
	char addresses[128];        /* InternalIP, one a family, comma between */
	char ranges[2][64];         /* of its pods */
};
/* live: the API server is asked. Never fails otherwise. */
int ctrl_cluster_node(struct ctrl_cluster *c, struct gw_kube *k, const char *name, bool live, struct ctrl_node *out,
                      struct gw_err *e);
/* Pure, for tests. */
void ctrl_node_parse(yyjson_val *object, struct ctrl_node *out);
/* Without threads, for tests: only what ctrl_cluster_heard and _told say. */
struct ctrl_cluster *ctrl_cluster_new(const struct ctrl_cluster_opts *o);
void ctrl_cluster_free(struct ctrl_cluster *c);
