#pragma once
#include "kube/client.h"

/* node_object: what godwit says about a node, where people look for it: the
 * condition GodwitReady of the Node, and Events on it. A condition that says
 * what it said already is not written again. */
#define GW_NODE_CONDITION "GodwitReady"

/* Reads the node first. reason: a word in CamelCase. */
int gw_node_condition(struct gw_kube *k, const char *node, bool is_ready, const char *reason, const char *message,
                      struct gw_err *e);
/* The condition goes (godwit was removed). Fine when there is none. */
int gw_node_condition_drop(struct gw_kube *k, const char *node, struct gw_err *e);
/* One Event on the node; component: who says it. */
int gw_node_event(struct gw_kube *k, const char *node, const char *component, bool is_warning, const char *reason,
                  const char *message, struct gw_err *e);
