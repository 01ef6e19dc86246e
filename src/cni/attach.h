#pragma once
#include "base/gw_err.h"
#include "cni/config.h"
#include "net/pod.h"

/* attach: the commands of the CNI plugin.
 *
 * A pod's network: a /32 and/or /128 on a veth, no bridge. Its gateways are
 * 169.254.1.1 and fe80::1 with permanent neighbour entries, the host's end has
 * the address ee:ee:ee:ee:ee:ee, a host route leads to it. Only this host's
 * own state is touched; routes between the hosts are cni/fabric.h's.
 *
 * A pod that moves in (c->migration) gets the network of its source, dormant
 * as gw_mover_routed.prepare leaves it; gw_mover_routed.activate with the
 * container's id wakes it.
 *
 * Calling thread's namespace: the host's. Each call holds the lock of
 * cni/ipam.h from its beginning to its end, for 6 ms (ADD) to 40 ms (DEL); the kernel
 * serialises the same work anyway. Reasons: cni/result.h. */

/* out: as it stands now, host_ifname is this host's end. On failure nothing is left. */
int gw_cni_add(const struct gw_cni_conf *c, const struct gw_cni_env *env, struct gw_pod *out, struct gw_err *e);
/* What is gone already is fine. A route that leads to another host stays, and
 * an address marked away is not given out again. */
int gw_cni_del(const struct gw_cni_conf *c, const struct gw_cni_env *env, struct gw_err *e);
int gw_cni_check(const struct gw_cni_conf *c, const struct gw_cni_env *env, struct gw_err *e);
/* DEL for whatever this network has and c->valid does not list. */
int gw_cni_gc(const struct gw_cni_conf *c, struct gw_err *e);
/* Could an ADD be served? A range that is given out whole is no reason to
 * call the node not ready: its pods are fine. */
int gw_cni_status(const struct gw_cni_conf *c, struct gw_err *e);
