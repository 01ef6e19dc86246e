#pragma once
#include "ctrl/observe.h"
#include "kube/address_lease.h"

/* leases: AddressLeases of the pods that have moved (kube/address_lease.h). */

/* After the commit: one for each address that is away from home now, none for one
 * that has come home. May be repeated. */
int ctrl_leases_put(struct gw_kube *k, const struct gw_migration *m, const struct ctrl_view *v, struct gw_err *e);

/* Those whose pod has been gone for GONE_FOR_MS, with no migration of it under way. One thread. */
struct ctrl_lease_sweep {
	struct {
		char uid[GW_K8S_UID];
		uint64_t since_ms; /* seen without its pod */
	} gone[256];
	uint64_t next_ms;
};
void ctrl_leases_sweep(struct ctrl_lease_sweep *s, struct gw_kube *k,
                       bool (*moving)(void *ctx, const char *ns, const char *pod), void *ctx);

/* Is the address one of the range ("10.244.1.0/24")? */
bool ctrl_in_range(const char *address, const char *range);
