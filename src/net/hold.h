#pragma once
#include <stdint.h>

#include "base/gw_err.h"
#include "net/pod.h"

/* hold: packets to a frozen pod wait instead of being lost.
 *
 *   OPEN ──shut──▶ HELD ──release──▶ OPEN
 *
 * gw_hold_new puts the rules in place: what goes to the pod (prerouting, and
 * output for this host's own processes) and what the pod sends (prerouting,
 * by its veth) passes through two nfqueues that a thread of ours reads. OPEN:
 * every packet is accepted at once. HELD: packets to the pod are kept, in
 * order; packets from it are dropped, so that nothing of the frozen copy
 * gets out. release accepts the kept ones: the kernel routes them again, so
 * after the route was turned they go to the destination (nfqueue's reinject
 * of a packet accepted at prerouting goes through routing; at output it is
 * re-routed when its mark or addresses changed, so the rule for output must
 * take care of that).
 * Rules are nftables `queue` where the kernel has it, else iptables/ip6tables
 * NFQUEUE in the raw table; with bypass, so that a dead godwitd does not cut
 * the pod off. IPv4 and IPv6, every protocol.
 * Limits: HOLD_PACKETS_MAX kept (nfqueue's own length is set to it); more are
 * dropped and counted.
 * Threads: calls from the owner; the reader thread is inside. */
struct gw_hold;

struct gw_hold_stats {
	uint64_t passed;
	uint64_t held;
	uint64_t dropped_out; /* of the frozen pod's own */
	uint64_t overflow;
	uint64_t held_us_max; /* longest time one packet was kept */
};

/* Takes a few ms (may start nft or iptables): before the freeze. */
int gw_hold_new(const char *id, const struct gw_pod *p, struct gw_hold **out, struct gw_err *e);
void gw_hold_shut(struct gw_hold *h);    /* OPEN -> HELD, microseconds, cannot fail */
void gw_hold_release(struct gw_hold *h); /* HELD -> OPEN, in order; out of the pod passes again */
/* The pod has left: kept packets go (to where the route points now), what the
 * dead copy might still send is dropped from now on until gw_hold_free. */
void gw_hold_release_moved(struct gw_hold *h);
void gw_hold_stats(struct gw_hold *h, struct gw_hold_stats *out);
void gw_hold_free(struct gw_hold *h); /* rules go; kept packets are accepted */
/* Rules left by a godwitd that died: remove all that carry our mark. */
int gw_hold_sweep(struct gw_err *e);
/* Can this kernel hold? Names what is missing (for `godwit check`). */
int gw_hold_supported(struct gw_err *e);
