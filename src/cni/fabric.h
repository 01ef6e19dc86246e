#pragma once
#include <net/if.h>

#include "base/gw_err.h"
#include "net/pod.h"

/* fabric: how this host reaches the pods of another.
 *
 * godwit-cni sets only what is this host's own. What leads to the other hosts
 * is set here, by whoever knows them: godwitd, from the Node objects. All
 * state is in the kernel, every call may be repeated; a /32 or /128 of a pod
 * that moved is more specific than a range and wins. Calling thread's
 * namespace: the host's. Any thread.
 *
 * Routes: the other host is on a link of ours. */
int gw_fabric_put(const struct gw_addr *range, const struct gw_addr *node, struct gw_err *e); /* "NoSharedLink" */
int gw_fabric_remove(const struct gw_addr *range, struct gw_err *e);                          /* none is fine */

/* One pod's address that lives on another host. A pod of this host keeps its route. */
int gw_fabric_pod_put(const struct gw_addr *a, const struct gw_addr *node, struct gw_err *e);
int gw_fabric_pod_remove(const struct gw_addr *a, struct gw_err *e); /* only one that leads to another host */

/* VXLAN: a router is between the hosts. A device without learning (RFC 7348;
 * UDP port 4789), one forwarding entry a host. Nothing is exchanged: the
 * Ethernet address of a host's end follows from its node address. IPv4
 * between the hosts; pods of both families. Pods that live behind it can't
 * be moved yet: gw_mover_routed wants hosts on one link. */
enum { GW_FABRIC_OVERHEAD = 50 }; /* what pods' MTU must leave: Ethernet 14, VXLAN 8, UDP 8, IPv4 20 */

struct gw_fabric_vxlan {
	char name[IFNAMSIZ];  /* "godwit-vx" */
	uint32_t vni;         /* 1 to 16777215 */
	struct gw_addr local; /* this node's address */
	uint32_t mtu;
};
/* One that is there is kept when it fits, made anew when not. */
int gw_fabric_vxlan_up(const struct gw_fabric_vxlan *v, struct gw_err *e);
int gw_fabric_vxlan_put(const char *name, const struct gw_addr *range, const struct gw_addr *node, struct gw_err *e);
/* The host is gone; its ranges by gw_fabric_remove. */
int gw_fabric_vxlan_forget(const char *name, const struct gw_addr *node, struct gw_err *e);
int gw_fabric_vxlan_down(const char *name, struct gw_err *e); /* with its routes; none is fine */
