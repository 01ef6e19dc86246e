#pragma once
#include <stdint.h>

#include "base/gw_err.h"
#include "net/pod.h"

/* hold: packets to a frozen pod wait instead of being lost.
 *
 *   OPEN ──shut_new──▶ NEW ──shut──▶ HELD ──release──────▶ OPEN
 *     └──────────shut─────────────────▲└────release_moved──▶ MOVED (until free)
 *
 * gw_hold_new puts the rules in place (net/rules.h): what goes to the pod
 * (prerouting, and output for this host's own processes; what opens a TCP
 * connection apart) and what the pod sends (prerouting, by its veth) passes
 * through three nfqueues that a thread of ours reads. release accepts the kept packets and the kernel looks for
 * their way again, so after the route was turned they go to the destination.
 *
 *            to the pod          from the pod
 *   OPEN     pass                pass
 *   NEW      SYNs kept           pass
 *   HELD     kept, in order      pass; after gw_hold_mute dropped
 *   MOVED    pass (routed on)    dropped
 *
 * Why what the pod sends passes until gw_hold_mute: between shut and the
 * freezer's end it still runs and answers. Dropped, an answer over UDP would
 * be lost, and one over TCP would be in the dump as sent, so that the copy
 * sends it again only after its first retransmission timeout, a whole second.
 *
 * Why NEW: a handshake that is half done when the tasks stop, or whole and not
 * yet accepted, is in no socket that is dumped; the copy would answer RST. So
 * new ones are kept first, and what has begun may end (net/handshakes.h).
 *
 * A destination host has a hold too (gw_hold_new_there), shut a moment before
 * the source's. What its own processes send to the pod, or what comes in by a
 * port that it translates (a Service's), would wait on the source otherwise and
 * come back by the wire as what it is by then: a packet with the destination's
 * own address, of a connection that this host's tracking knows by another
 * tuple. It takes that for a clash and gives the packet another port, so the
 * first answer finds no socket and the client asks again a second later.
 *
 * IPv4 and IPv6, every protocol; segments stay unsegmented; bypass, so that a
 * dead godwitd does not cut the pod off. Neighbour discovery is never held.
 * Limits: HOLD_PACKETS_MAX kept (nfqueue's own length is set to it); more are
 * dropped and counted. What a flowtable forwards (nft `flow add`) passes no
 * rule and so is not held. Another program that removes netfilter chains
 * while packets are kept makes the kernel drop them (they are sent again, a
 * retransmission timeout later), and so does deleting the interface a kept
 * packet of this host's own would leave by.
 * Threads: calls from the owner, one at a time; the reader thread is inside. */
struct gw_hold;

enum { HOLD_PACKETS_MAX = 16384 };

struct gw_hold_stats {
	uint64_t passed;
	uint64_t held;
	uint64_t dropped_out; /* of the frozen pod's own */
	uint64_t overflow;
	uint64_t held_us_max; /* longest time one packet was kept */
};

/* Under a millisecond, no program is started; still: before the freeze. */
int gw_hold_new(const char *id, const struct gw_pod *p, struct gw_hold **out, struct gw_err *e);
/* On the destination host: only what goes to the pod; what the copy sends takes no detour. */
int gw_hold_new_there(const char *id, const struct gw_pod *p, struct gw_hold **out, struct gw_err *e);
/* OPEN -> NEW, microseconds, cannot fail. */
void gw_hold_shut_new(struct gw_hold *h);
/* OPEN or NEW -> HELD, microseconds, cannot fail. When it returns, nothing more gets to the pod. */
void gw_hold_shut(struct gw_hold *h);
/* HELD, and the pod's tasks are stopped: what they sent before has passed when
 * this returns (microseconds); what their sockets still send by themselves is
 * dropped from now on. Needed before the sockets are dumped: a delayed
 * acknowledgment that the kernel sends for the frozen copy 40 ms later has a
 * newer TCP timestamp than the copy that goes on, whose first answer the client
 * then takes for an old one (RFC 7323, PAWS): a second's stall. */
void gw_hold_mute(struct gw_hold *h);
void gw_hold_release(struct gw_hold *h); /* HELD -> OPEN, in order; out of the pod passes again */
/* The pod has left: kept packets go (to where the route points now), what the
 * dead copy might still send is dropped from now on until gw_hold_free. */
void gw_hold_release_moved(struct gw_hold *h);
void gw_hold_stats(struct gw_hold *h, struct gw_hold_stats *out);
/* Rules go; kept packets are accepted, none is lost; the first that takes no
 * detour any more may overtake the last that does. NULL is fine. */
void gw_hold_free(struct gw_hold *h);
/* Rules left by a godwitd that died: remove all that carry our mark. (The
 * kernel does it too, at its death; this is for what an older one left.) */
int gw_hold_sweep(struct gw_err *e);
/* Can this kernel hold? Names what is missing (for `godwit check`). */
int gw_hold_supported(struct gw_err *e);
