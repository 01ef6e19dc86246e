#pragma once
#include "ctrl/cluster.h"
#include "ctrl/plan.h"

/* observe: what is known of one Migration's pods and nodes. */
struct ctrl_view {
	struct ctrl_cluster *cluster; /* borrowed */
	yyjson_doc *migration;        /* set by the caller, as is seen.m */
	yyjson_doc *source, *target;  /* NULL: none */
	struct ctrl_seen seen;
};
void ctrl_view_done(struct ctrl_view *v);

/* Fills everything but the limits. 0 although pods are missing. live: nodes that
 * seem to be missing are asked for. */
int ctrl_observe(struct gw_kube *k, const struct gw_migration *m, struct ctrl_view *v, bool live, struct gw_err *e);
void ctrl_pod_path(const char *ns, const char *name, char *out, size_t size);
