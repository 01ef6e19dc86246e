#pragma once
#include "ctrl/observe.h"

/* services: a Service whose only endpoint moves never has none.
 *
 * Source and target have the same address, and a kube-proxy that finds an address
 * twice takes one of the two, ready or not. So only one of them may be an endpoint:
 *
 *  - the target is veiled until it is Ready after the commit: it lacks one label of
 *    the selector of every Service that selects the source. A clone loses them when
 *    it has its node (the scheduler sees all of them) and before it has an address;
 *    a pod of the same name is made without them, and without its owner, which could
 *    not find it;
 *  - the source of a clone loses all its labels before its process ends;
 *  - while the name stays and its object is made anew, EndpointSlices of godwit's own
 *    say what those of the source said (mirrors), until those of the target say it.
 *
 * Packets of new connections wait with all others while the pod is frozen. */
#define CTRL_MIRROR_BY    "godwit.dev"
#define CTRL_MIRROR_LABEL "godwit.dev/migration"

/* Labels to leave out, an array of keys: *out may be empty. */
int ctrl_veil(struct gw_kube *k, const struct gw_migration *m, yyjson_val *source, yyjson_mut_doc *doc,
              yyjson_mut_val **out, struct gw_err *e);
/* Takes them off a pod that is there. */
int ctrl_veil_pod(struct gw_kube *k, const struct gw_migration *m, yyjson_val *source, const char *pod,
                  struct gw_err *e);
/* All labels of the source's object go. */
int ctrl_strip_source(struct gw_kube *k, const struct gw_migration *m, yyjson_val *source, struct gw_err *e);
int ctrl_mirror(struct gw_kube *k, const struct gw_migration *m, struct gw_err *e);
/* The mirrors go; without force only when others say the same: else *left. */
int ctrl_unmirror(struct gw_kube *k, const struct gw_migration *m, bool force, bool *left, struct gw_err *e);

/* Pure, for tests: what of labels `selector` asks for; NULL when it does not select them (or nothing). */
const char *ctrl_selected_by(yyjson_val *selector, yyjson_val *labels);
/* A mirror of slice for the pod uid; NULL when it has no ready endpoint of it. */
yyjson_mut_doc *ctrl_mirror_of(const struct gw_migration *m, yyjson_val *slice);
