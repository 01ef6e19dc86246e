#pragma once
#include "kube/client.h"

/* lease: who of several acts (coordination.k8s.io/v1 Lease), as client-go's
 * leader election does it: a lease is another's as long as it has been seen to
 * change within its duration, by our own clock, never by the times written in
 * it. The holder stops acting when it has not renewed for RENEW_DEADLINE, which
 * is shorter. One thread. */
struct gw_lease {
	char namespace[64], name[64], identity[128];
	bool held;
	char version[64];    /* resourceVersion last seen */
	uint64_t seen_ms;    /* when it last changed, our clock */
	uint64_t renewed_ms; /* when we last renewed */
	uint64_t next_ms;    /* not earlier than this again */
};
enum { GW_LEASE_S = 15, GW_LEASE_DEADLINE_MS = 10000, GW_LEASE_EVERY_MS = 2000 };

void gw_lease_init(struct gw_lease *l, const char *ns, const char *name, const char *identity);
/* Take or renew it if it is time. Returns how long it may be left alone, ms. */
int gw_lease_hold(struct gw_lease *l, struct gw_kube *k);
bool gw_lease_is_held(const struct gw_lease *l);
void gw_lease_release(struct gw_lease *l, struct gw_kube *k);
