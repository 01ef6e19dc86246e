#pragma once
#include "ctrl/observe.h"

/* act: one action of ctrl_plan, done at the API server. Each may be repeated.
 * 1: something has to be waited for. */
int ctrl_act(struct gw_kube *k, const struct gw_migration *m, struct ctrl_view *v, const struct ctrl_plan *p,
             uint16_t port, struct gw_err *e);
