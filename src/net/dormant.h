#pragma once
#include "base/gw_err.h"

/* dormant: a stopped copy must not end its connections.
 *
 * When a copy is discarded before the commit its sockets have left repair
 * mode, and the kernel says FIN or RST for them to clients that the source
 * still serves. So until the turn, TCP segments with either flag that come in
 * by the copy's link are dropped. Everything else passes: what the copy's
 * kernel side sends before the commit (CRIU lets it send the part of a send
 * queue that was not sent yet, and window probes) is what the source would
 * send, and dropped it would come again only after a first retransmission
 * timeout, a whole second.
 * (A host with strict reverse path filtering drops it all the same until the
 * turn: net.ipv4.conf.all.rp_filter 0 or 2 avoids that second.)
 * The rule is the kernel's: it holds when godwitd is dead. Any thread. */
int gw_dormant_begin(const char *link, struct gw_err *e);
int gw_dormant_end(const char *link, struct gw_err *e); /* none is fine; some 100 us */
