#pragma once
#include "wire/conn.h"

/* pki: certificates and connected pairs for tests and benchmarks.
 *
 * Everything lives in one directory below /tmp that pki_remove deletes.
 * Failure ends the program with a word on stderr. One thread. */
struct pki {
	char dir[64];
};

void pki_make(struct pki *p);
void pki_remove(struct pki *p);

/* DIR/CA.pem and DIR/CA.key. */
void pki_ca(const struct pki *p, const char *ca);

enum pki_flags {
	PKI_EXPIRED = 1,     /* ended yesterday */
	PKI_CN_ONLY = 2,     /* no subjectAltName */
	PKI_TWO_NAMES = 4,   /* a second DNS name: "second." + name */
	PKI_SERVER_ONLY = 8, /* extendedKeyUsage serverAuth */
	PKI_BAD_NAME = 16,   /* the DNS name is "*." + name */
};
/* DIR/FILE.pem and DIR/FILE.key, signed by ca. */
void pki_cert(const struct pki *p, const char *ca, const char *file, const char *name, int flags);

/* A context that trusts ca and shows FILE.pem. */
struct gw_tls *pki_tls(const struct pki *p, const char *ca, const char *file);

/* A listening socket on 127.0.0.1. */
int pki_listen(uint16_t *out_port);
/* Dial and accept at once. The names of the results are from each one's point
 * of view; either may be NULL with its error filled in. */
struct pki_pair {
	struct gw_conn *dialled, *accepted;
	struct gw_err dial_err, accept_err;
};
void pki_connect(struct gw_tls *from, struct gw_tls *to, const char *want_name, struct pki_pair *out);
