#pragma once
#include "base/gw_err.h"
#include "net/pod.h"

/* forward: a source passes on what hosts still send to it for a pod that left.
 *
 * Such packets come in and leave by the same link, and the answers don't come
 * back this way. Connection tracking that sees one direction only calls the
 * packets invalid, and firewalls (kube-proxy's among them) drop those. So in
 * the table "inet godwit-forward" stands, for each address of a pod,
 *
 *   from LINK, to the address, and the route leads back to LINK: not tracked
 *
 * which may be there before the turn: until then the route does not lead back.
 * The table is nobody's and stays until gw_forward_forget, as the route does.
 * Any thread, the calling thread's namespace is the host's. */
int gw_forward_allow(const struct gw_addr *a, const char *link, struct gw_err *e); /* replaces an earlier one */
int gw_forward_forget(const struct gw_addr *a, struct gw_err *e);                  /* none is fine */
