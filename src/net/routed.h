#pragma once
#include <net/if.h>

#include "base/gw_err.h"
#include "net/pod.h"

/* routed: what the two files of the routed mover share. See net/mover.h. */
enum { GW_ROUTED_ID_MAX = 200 };

struct gw_routed_names {
	char link[IFNAMSIZ]; /* the host's end: "gw" and a hash of the id */
	char netns[GW_ROUTED_ID_MAX + 32];
};

/* Of a link whose traffic is to be ignored: locally administered, never on a wire. */
extern const uint8_t gw_routed_dormant_mac[6];

/* The id comes from a user or a peer: checked here, before any path is made of it. */
int gw_routed_names(const char *id, struct gw_routed_names *out, struct gw_err *e);

int gw_routed_prepare(const char *id, const struct gw_pod *p, char *out_netns, size_t size, struct gw_err *e);
int gw_routed_discard(const char *id, const struct gw_pod *p, const char *netns_path, struct gw_err *e);

/* May this pod's addresses be set up dormant here? "NoForwarding", "AddressInUse".
 * Lets the uplink take in what comes back from the source (see mover.h). */
int gw_routed_may_come(const struct gw_pod *p, struct gw_err *e);
/* The network that prepare makes, in a namespace that somebody else made;
 * dormant: it may not end connections (net/dormant.h). On failure nothing of
 * it is left. p->ifname must not be there yet. */
int gw_routed_fill(const char *id, const struct gw_pod *p, const char *netns, bool dormant, struct gw_err *e);

/* 0, or "NoForwarding" with the sysctl to set. */
int gw_routed_forwards(int family, struct gw_err *e);

/* Write below /proc/sys: ("0", e, "net/ipv4/conf/%s/send_redirects", link). */
[[gnu::format(printf, 3, 4)]]
int gw_routed_sysctl(const char *value, struct gw_err *e, const char *key, ...);
