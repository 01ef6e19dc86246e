#pragma once
#include "kube/migration.h"

/* target: the pod that a migration fills, made from the one that moves.
 *
 * A clone has a name of its own, the source's labels but pod-template-hash (so
 * that Services match and the ReplicaSet does not), and no owner until the
 * commit. A pod of the same name has its owner from the beginning. Both: godwit's
 * runtime, pinned to the node through the scheduler (affinity by name, so that
 * requests, taints and quota count), without init containers, which have run,
 * and without the service account's volume, which the API server puts in anew. */
yyjson_mut_doc *ctrl_target(const struct gw_migration *m, yyjson_val *source, const char *network, bool same_name);
/* One that only keeps the room: the same requests, a container that sleeps. */
yyjson_mut_doc *ctrl_placeholder(const struct gw_migration *m, yyjson_val *source);
/* The pod as it was made, for a start from nothing. */
yyjson_mut_doc *ctrl_plain(const struct gw_migration *m, yyjson_val *pod);
/* metadata.labels and ownerReferences of the source, as a merge patch. */
yyjson_mut_doc *ctrl_adoption(yyjson_val *source);
void ctrl_target_name(const struct gw_migration *m, const char *suffix, char out[GW_K8S_NAME]);
/* An init container of a pod's spec that runs beside the others. */
bool ctrl_is_sidecar(yyjson_val *container);
