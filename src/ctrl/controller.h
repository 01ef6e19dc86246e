#pragma once
#include "kube/client.h"

/* controller: carries out what ctrl_plan says, for every Migration.
 *
 * Three threads follow Migrations (known.h), pods and nodes (cluster.h); one
 * observes and acts when they have news, and asks the API server only for what
 * they cannot know. More than one controller in a cluster: the one that holds
 * the Lease acts (lease.h). */
struct ctrl_opts {
	const char *kubeconfig; /* JSON; NULL: as in a pod */
	const char *identity;   /* of this controller, for the Lease */
	const char *lease_namespace;
	unsigned max_active, max_per_node;
	uint16_t port;       /* of godwitd */
	const char *metrics; /* ADDR:PORT; NULL: none */
};

/* Until SIGTERM. Returns an exit code. */
int ctrl_run(const struct ctrl_opts *o);
