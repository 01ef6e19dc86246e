#pragma once
#include "kube/client.h"
#include "node/agent.h"

/* agent_identity: this node's certificate, from the cluster.
 *
 * Kept in one folder on tmpfs: ca.pem (of the ConfigMap godwit-ca) and node.pem
 * (key and certificate, replaced together). Asked for by a
 * CertificateSigningRequest with the signer godwit.dev/node (ctrl/certs.h), with
 * a key that never leaves the host; renewed at two thirds of its life, or as
 * soon as node.pem is gone. Connections under way keep the certificate that
 * they began with. */

/* There is a valid one when this returns 0; waits for the controller to sign,
 * as long as that takes. Called before the daemon runs. */
int gw_identity_begin(const struct gw_agent_opts *o, struct gw_err *e);

/* The thread that renews it and says on the Node that this godwitd is ready. */
int gw_identity_keep(struct gw_daemon *d, const struct gw_kube_config *config, const struct gw_agent_opts *o,
                     struct gw_err *e);
