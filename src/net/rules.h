#pragma once
#include <stdint.h>

#include "base/gw_err.h"
#include "net/pod.h"

/* rules: what sends a pod's packets through nfqueues.
 *
 * One nf_tables table a process and network namespace, "inet godwit-hold-N", made
 * with the first rules and kept: removing a chain that hooks into the packet
 * path makes the kernel drop what waits in *every* nfqueue of the namespace
 * (nf_queue_nf_hook_drop), so a migration that ends would cost another, just
 * frozen, its packets. Rules come and go without that. The table is owned by
 * our socket: `nft flush ruleset` passes it by, and when we die the kernel
 * removes it at once.
 *
 *   prerouting -90  from the host's end ........ queue out
 *                   to an address of the pod ... queue fresh (a TCP SYN) or in
 *   output     -90  to an address of the pod ... mark bit, queue fresh or in
 *   output     -89  mark bit: clear it; a changed mark makes a chain of type
 *                   route look the route up again
 *
 * -90 is behind the translation of destinations (-100), so a client that
 * speaks to a Service's address is held too. Neighbour discovery is let by.
 * Any thread; the calling thread's namespace is the host's. */
struct gw_rules;

enum { GW_RULES_HOOK_PRIORITY = -90 };

struct gw_rules_queues {
	uint16_t in, fresh, out; /* out 0: what the pod sends passes by */
};

int gw_rules_add(const char *id, const struct gw_pod *p, const struct gw_rules_queues *q, struct gw_rules **out,
                 struct gw_err *e);
/* Frees r too, also when the kernel refuses. */
int gw_rules_remove(struct gw_rules *r, struct gw_err *e);
int gw_rules_sweep(struct gw_err *e);
/* Makes the table and tries the queue statement. */
int gw_rules_supported(struct gw_err *e);
