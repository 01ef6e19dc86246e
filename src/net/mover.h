#pragma once
#include <stdint.h>

#include "base/gw_err.h"
#include "net/pod.h"

/* mover: how a pod's address goes from one host to another.
 *
 * One table per kind of network; `routed` (a /32 or /128 per pod behind a
 * veth, plain routes between the hosts) is the first. All state is in the
 * kernel; `id` (the container's id) names what was made, so that a restarted
 * godwitd can undo it. Any thread; one call per id at a time. */
struct gw_mover {
	const char *name;
	/* Destination, before the freeze: namespace /run/netns/gw-ID, veth,
	 * address, routes, permanent neighbour entries on both sides, no route
	 * on the host: dormant. Loads and opens everything the turn will need.
	 * out_netns: path for config.json. Idempotent: an old one of this id is
	 * removed first, unless its address is in use (GW_INPUT). */
	int (*prepare)(const char *id, const struct gw_pod *p, char *out_netns, size_t size, struct gw_err *e);
	/* Destination, at the commit: the host's route to the pod points at the
	 * veth. At most a few netlink messages, no program is started. */
	int (*activate)(const char *id, const struct gw_pod *p, struct gw_err *e);
	/* Source, at the commit: the host's route to the pod points at the
	 * destination host (via_host: its address). Replaces atomically. */
	int (*turn)(const char *id, const struct gw_pod *p, const char *via_host, struct gw_err *e);
	/* Source, rollback of a turn: the route points at the veth again. */
	int (*turn_back)(const char *id, const struct gw_pod *p, struct gw_err *e);
	/* Destination before the commit, or source after it: take away veth and
	 * namespace that belong to id (a source's own netns that we did not
	 * make keeps its path but loses the interface). */
	int (*discard)(const char *id, const struct gw_pod *p, const char *netns_path, struct gw_err *e);
};
extern const struct gw_mover gw_mover_routed;
