#pragma once
#include <linux/netlink.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/gw_err.h"
#include "net/nl.h"
#include "net/pod.h"

/* rtnl: the few things of rtnetlink that moving a pod takes.
 *
 * Every call works in the namespace its gw_nl was opened in. Numbers and
 * layouts: linux/rtnetlink.h, linux/if_link.h, linux/neighbour.h.
 * Threads: one at a time per gw_nl. */

/* Routes of ours on a host carry this protocol number: `ip route show proto 71`. */
enum { GW_RT_PROTO = 71 };

struct gw_link {
	int index;
	char name[IFNAMSIZ];
	char kind[16]; /* "veth", "" for hardware */
	uint8_t mac[6];
	uint32_t mtu;
	unsigned flags; /* IFF_* */
	uint16_t type;  /* ARPHRD_* */
	int peer;       /* index of the other end of a veth, 0: none */
	int peer_nsid;  /* of the peer's namespace as this one names it, -1: this one */
	int master;     /* bridge or the like it is a port of, 0: none */
};

/* -ENODEV in *e->err when there is none. */
int gw_rt_link(struct gw_nl *n, const char *name, int index, struct gw_link *out, struct gw_err *e);
/* Fill at most max; *out_n is how many there are, which may be more. */
int gw_rt_links(struct gw_nl *n, struct gw_link *out, size_t max, size_t *out_n, struct gw_err *e);
/* The number this namespace gives to another; -1 when it has none yet. */
int gw_rt_nsid(struct gw_nl *n, int netns_fd, int *out_nsid, struct gw_err *e);
int gw_rt_link_up(struct gw_nl *n, const char *name, struct gw_err *e);
/* The kernel forgets the neighbours on a link whose address changes, permanent ones too. */
int gw_rt_link_mac(struct gw_nl *n, int index, const uint8_t mac[6], struct gw_err *e);
int gw_rt_link_delete(struct gw_nl *n, const char *name, struct gw_err *e);

struct gw_veth_end {
	const char *name;
	const uint8_t *mac; /* 6 bytes */
	int netns_fd;       /* -1: the socket's own */
};
int gw_rt_veth(struct gw_nl *n, const struct gw_veth_end *a, const struct gw_veth_end *b, uint32_t mtu,
               struct gw_err *e);

/* IPv6 without duplicate address detection: usable at once. No route comes with it. */
int gw_rt_addr_add(struct gw_nl *n, int index, const struct gw_addr *a, struct gw_err *e);
int gw_rt_neigh_permanent(struct gw_nl *n, int index, const struct gw_addr *a, const uint8_t mac[6], struct gw_err *e);
/* Make the kernel resolve a neighbour now, without waiting for the answer. */
int gw_rt_neigh_probe(struct gw_nl *n, int index, const struct gw_addr *a, struct gw_err *e);

struct gw_route {
	struct gw_addr dst;
	const uint8_t *gateway; /* NULL: directly on the link */
	int index;              /* 0: the kernel finds the link by the gateway */
	bool onlink;
	uint32_t priority; /* 0: the family's default */
};
/* Create, or replace in one step the one of the same destination and priority. */
int gw_rt_route_put(struct gw_nl *n, const struct gw_route *r, struct gw_err *e);

/* Takes a route of ours (GW_RT_PROTO) away; -ESRCH in *e->err when there is none. */
int gw_rt_route_delete(struct gw_nl *n, const struct gw_route *r, struct gw_err *e);

struct gw_route_found {
	uint8_t type; /* RTN_*, 0: no route */
	uint8_t prefix;
	uint8_t proto;
	bool has_gateway;
	int index;
};
/* Which entry of the tables a packet to `a` would take. No route is no error. */
int gw_rt_route_find(struct gw_nl *n, const struct gw_addr *a, struct gw_route_found *out, struct gw_err *e);

size_t gw_addr_len(int family); /* 4 or 16 */
