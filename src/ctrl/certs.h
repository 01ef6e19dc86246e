#pragma once
#include <pthread.h>

#include "kube/client.h"

/* certs: the signer godwit.dev/node.
 *
 * godwitd asks for its certificate with a CertificateSigningRequest. It gets
 * one when who asks is godwitd's service account in our namespace, with a
 * token that is bound to a pod on a node (the API server vouches for that in
 * spec.extra), and the request is for just that node's name. Anything else is
 * denied, with the reason in the request's condition.
 *
 * The authority's key is in the Secret godwit-ca of our namespace, made when
 * there is none; its certificate for everybody in the ConfigMap godwit-ca.
 *
 * Every controller does this, not only the one that leads: the API server
 * takes the first of two answers, and a node that waits for its certificate
 * waits for nobody's lease. One thread of its own, until stop_fd is readable. */
struct ctrl_certs {
	const struct gw_kube_config *config;
	const char *namespace;
	int stop_fd;
	char *ca_cert, *ca_key; /* read once */
	pthread_t thread;
};

enum { CTRL_CERT_S = 30 * 86400, CTRL_AUTHORITY_S = 10 * 365 * 86400 };
#define CTRL_SIGNER "godwit.dev/node"

int ctrl_certs_start(struct ctrl_certs *c, struct gw_err *e);
void ctrl_certs_join(struct ctrl_certs *c); /* after stop_fd */

/* May this CertificateSigningRequest have a certificate? request: its text,
 * decoded. false: why, in words. Pure. */
bool ctrl_certs_judge(yyjson_val *csr, const char *request, const char *namespace, char *why, size_t size);
