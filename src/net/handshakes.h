#pragma once
#include <stdint.h>
#include <sys/types.h>

#include "base/gw_err.h"

/* handshakes: TCP connections to a pod that no program of it has taken yet.
 *
 * A SYN that was answered and whose third packet is still to come, or a whole
 * connection in the queue of a listening socket: neither has a descriptor, so
 * neither is dumped, and the copy would end it with RST. When no new SYN comes
 * in (gw_hold_shut_new) they are over within a round trip to the client and the
 * time a server takes to accept. */

/* Waits until the network namespace of process `pid` has none, at most max_us;
 * *out_left: how many there are still. Costs one look at the kernel's table of
 * connections, a few tenths of a millisecond, for each try. Any thread. */
int gw_handshakes_wait(pid_t pid, uint64_t max_us, unsigned *out_left, struct gw_err *e);
