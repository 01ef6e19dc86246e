#pragma once
#include "kube/client.h"
#include "move/daemon.h"

/* agent: godwitd's part in a cluster (docs/kube.md).
 *
 * Follows the Migration objects and does what they ask of this node: the check,
 * pre-copy, hand-over and release where it is the source; where it is the
 * destination, it lets only those migrations in that the API server knows.
 * Follows the Node objects: who the other godwitd are (--hosts is its file),
 * and the routes to their pods; the AddressLease objects: which addresses live elsewhere.
 *
 * Level-triggered: what a Migration's phase asks for and is not under way is
 * begun, also after a restart. Two threads of its own and one for each
 * migration; they end with the daemon's stop_fd. */
struct gw_agent_opts {
	const char *kubeconfig; /* JSON; NULL: as in a pod */
	const char *node;       /* this node's name, which is godwitd's --name */
	uint16_t port;          /* of every godwitd */
	const char *tls_dir; /* the certificate is the cluster's, kept there (agent_identity.h); "": it is a file's */
	const char *metrics; /* ADDR:PORT; NULL: none */
};

/* Called before godwitd listens. d must outlive the process. */
int gw_agent_start(struct gw_daemon *d, const struct gw_agent_opts *o, struct gw_err *e);
