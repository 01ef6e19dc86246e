#pragma once
#include <stdint.h>

#include "base/gw_err.h"
#include "net/pod.h"

/* mover: how a pod's address goes from one host to another.
 *
 * One table per kind of network; `routed` (a /32 or /128 per pod behind a
 * veth, plain routes between the hosts) is the first. All state is in the
 * kernel; `id` (the container's id) names what was made, so that a restarted
 * godwitd can undo it. Any thread; one call per id at a time. Calling
 * thread's namespace: the host's.
 *
 * The order that loses nothing:
 *   destination  prepare                                   before the freeze
 *   source       ready, gw_hold_new                        before the freeze
 *   source       gw_hold_shut, freeze, seal
 *   destination  activate                                  at the commit
 *   source       turn, gw_hold_release_moved, kill, discard
 * activate before turn: between them the two hosts would otherwise send a
 * packet back and forth. release before discard: the kernel drops what waits
 * to go out through an interface that is deleted.
 *
 * Left on a host, on purpose (what would take them back can't know who else
 * relies on them): all and the uplink's net.ipv4 send_redirects=0 on a source,
 * the uplink's accept_local=1 and, where it was 1 (strict), rp_filter=2 on a
 * destination. accept_local because a client on the destination host itself
 * sent to the source what was held there, and gets it back over the wire.
 *
 * Not carried along: a connection that the source host masquerades toward the
 * pod (the kernel ends it when its way out changes; `snat to` is no problem). */
struct gw_mover {
	const char *name;
	/* Destination, before the freeze: namespace /run/netns/gw-ID, veth,
	 * address, routes, permanent neighbour entries on both sides, no route
	 * on the host: dormant. out_netns: path for config.json. Idempotent: an
	 * old one of this id is removed first, unless its address is in use
	 * (GW_INPUT, code "AddressInUse"). A host that does not forward is
	 * refused with "NoForwarding". Some 20 ms, most of it the kernel's. */
	int (*prepare)(const char *id, const struct gw_pod *p, char *out_netns, size_t size, struct gw_err *e);
	/* Source, before the freeze: shows that `turn` will work (forwarding
	 * on, via_host on a link of ours), asks for via_host's neighbour entry
	 * so that the first packet need not wait for it, stops ICMP redirects
	 * from telling clients a way that will not last, and keeps connection
	 * tracking off what will be forwarded (net/forward.h). Changes no route;
	 * may be repeated. "NoForwarding", "NoSharedLink". */
	int (*ready)(const char *id, const struct gw_pod *p, const char *via_host, struct gw_err *e);
	/* Source, frozen and held, before the commit is sent: nothing reaches the
	 * pod's kernel side and nothing it sends is taken in, even when godwitd
	 * dies and the hold with it. Otherwise a packet would be acknowledged by
	 * the frozen copy and be lost with it. A few netlink messages. */
	int (*seal)(const char *id, const struct gw_pod *p, struct gw_err *e);
	/* Undo it; also when it was not sealed. */
	int (*unseal)(const char *id, const struct gw_pod *p, struct gw_err *e);
	/* Destination, at the commit: the host's route to the pod points at the
	 * veth. A few netlink messages, no program is started. */
	int (*activate)(const char *id, const struct gw_pod *p, struct gw_err *e);
	/* Destination, when the container runs: it may end its connections again
	 * (net/dormant.h). Not in the freeze: a change of nf_tables waits for an
	 * RCU grace period, 10 ms. */
	int (*settle)(const char *id, const struct gw_pod *p, struct gw_err *e);
	/* Source, at the commit: the host's route to the pod points at the
	 * destination host. Replaces in one step. via_host: its addresses on a
	 * link it shares with us, one per family the pod has, "10.9.0.3" or
	 * "10.9.0.3,fd09::3". Works as well on a third host that follows. */
	int (*turn)(const char *id, const struct gw_pod *p, const char *via_host, struct gw_err *e);
	/* Source, rollback of a turn: the route points at the veth again. */
	int (*turn_back)(const char *id, const struct gw_pod *p, struct gw_err *e);
	/* Destination before the commit, or source after it: take away veth and
	 * namespace that belong to id (a source's own netns that we did not
	 * make keeps its path but loses the interface). netns_path NULL: the
	 * one prepare makes. What is gone already is fine. */
	int (*discard)(const char *id, const struct gw_pod *p, const char *netns_path, struct gw_err *e);
	/* Source, once no host sends here for this pod any more: the route to
	 * the destination and the rules of `ready`. A route that leads
	 * elsewhere by now (the pod is back) stays. None is fine. */
	int (*forget)(const char *id, const struct gw_pod *p, struct gw_err *e);
};
extern const struct gw_mover gw_mover_routed;
