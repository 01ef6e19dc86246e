#pragma once
#include "kube/migration.h"

/* address_lease: the AddressLease object: a pod's address that lives away from the
 * range it was given out from.
 *
 * Its name is the address (":" as "-"), so there is one for an address. As long as
 * it is there nobody gives the address out, whoever has the range by now, and every
 * node sends packets for it to `node`. godwit-controller makes it after the commit,
 * changes it with every move, and takes it away when the pod is home or gone. */
#define GW_ADDRESS_LEASES "/apis/godwit.dev/v1alpha1/addressleases"

struct gw_address_lease {
	char name[64], uid[GW_K8S_UID];
	char address[64];         /* "10.244.1.5" */
	char node[GW_K8S_NAME];   /* where it lives */
	char node_addresses[160]; /* of that node, comma between */
	char namespace[GW_K8S_NS], pod[GW_K8S_NAME], pod_uid[GW_K8S_UID];
};

/* 0, or -EINVAL: it says no address or no node. */
int gw_address_lease_parse(yyjson_val *object, struct gw_address_lease *out);
/* The object that says this. */
yyjson_mut_doc *gw_address_lease_doc(const struct gw_address_lease *l);
void gw_address_lease_name(const char *address, char out[64]);
