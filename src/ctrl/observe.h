#pragma once
#include "ctrl/plan.h"

/* observe: what the API server has of one Migration's pods and node. */
struct ctrl_view {
	yyjson_doc *migration, *source, *target; /* NULL: none */
	struct ctrl_seen seen;                   /* seen.m is set by the caller */
};
void ctrl_view_done(struct ctrl_view *v);

/* Fills everything but the limits; the node only for what has not begun. 0
 * although pods are missing. */
int ctrl_observe(struct gw_kube *k, const struct gw_migration *m, struct ctrl_view *v, struct gw_err *e);
void ctrl_pod_path(const char *ns, const char *name, char *out, size_t size);
/* Does node NAME exist, does it have godwit, and where is its godwitd ("ADDR:PORT")? */
int ctrl_node(struct gw_kube *k, const char *name, uint16_t port, bool *exists, bool *has_godwit, char *address,
              size_t size, struct gw_err *e);
