#pragma once
#include "ctrl/observe.h"

/* workload: the one running pod of a spec.target, KIND/NAME. */

/* 0 although there is none: then *pod is "" and reason and words say why. Kind in
 * any case, plural or short as kubectl takes it. */
int ctrl_find_pod(struct gw_kube *k, const struct gw_migration *m, char pod[GW_K8S_NAME], const char **reason,
                  char *words, size_t size, struct gw_err *e);
/* metadata.labels that a LabelSelector asks for, as a list's labelSelector, URL-encoded.
 * false: it asks for nothing, or for what is unknown here. */
bool ctrl_selector(yyjson_val *selector, char *out, size_t size);
