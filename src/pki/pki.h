#pragma once
#include <stdint.h>

#include "base/gw_err.h"

/* pki: keys, requests and certificates of godwitd, all of it PEM text.
 *
 * P-256 throughout. A host is named by the one DNS name of its certificate, as
 * src/wire/conn.h wants it; the subject says nothing more (a common name ends
 * at 64 letters, a node's name at 253). Texts that are given out are the
 * caller's to free; those with a private key are better wiped first (pki_wipe).
 * Pure: no files, no network. Any thread. */
enum { PKI_NAME_MAX = 254 };

int pki_key_new(char **out_key, struct gw_err *e);
/* A certificate signing request for the DNS name. */
int pki_request(const char *key, const char *name, char **out_request, struct gw_err *e);
/* A self-signed authority that may sign nothing but end entities. */
int pki_authority_new(const char *name, int64_t seconds, char **out_cert, char **out_key, struct gw_err *e);

/* Whom a request is for. -EBADMSG when it isn't signed by its own key, names
 * more than one, or anything but a plain DNS name. */
int pki_request_name(const char *request, char out[PKI_NAME_MAX], struct gw_err *e);
/* For client and server, and never longer than the authority itself. */
int pki_sign(const char *ca_cert, const char *ca_key, const char *request, int64_t seconds, char **out_cert,
             struct gw_err *e);

/* Is cert valid now, the key's, the name's and signed by ca? Then its lifetime,
 * in seconds since 1970. -EKEYEXPIRED, -EINVAL (with why). */
int pki_look(const char *ca, const char *cert, const char *key, const char *name, int64_t *out_from_s,
             int64_t *out_until_s, struct gw_err *e);

void pki_wipe(char **text); /* overwrites and frees; NULL is fine */
static inline void gw_end_pem(char **text)
{
	pki_wipe(text);
}
