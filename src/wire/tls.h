#pragma once
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdint.h>

#include "base/gw_err.h"
#include "wire/record.h"

/* tls: what conn.c needs of OpenSSL for the handshake, and only that. Private
 * to src/wire. What follows a handshake is record.h's.
 *
 * gw_tls: any number of threads; its context changes with gw_tls_reload, and
 * a session keeps the one that it began with. A gw_tls_io belongs to one
 * handshake and must outlive its SSL object. */
struct gw_tls {
	pthread_mutex_t lock; /* of ctx */
	SSL_CTX *ctx;
};

enum { GW_TLS_NAME_MAX = 256 };

struct gw_tls_io {
	int fd;
	bool is_server;
	struct gw_secret sending, receiving; /* known at the handshake's end; len 0: not yet */
};

/* An SSL object over io->fd. want_name NULL: accept, any name the CA signed.
 * NULL: no memory. The caller frees it with SSL_free. */
SSL *gw_tls_session(struct gw_tls *t, struct gw_tls_io *io, const char *want_name);

/* Say why an SSL_* call failed. what: "handshake with 10.0.0.1:9460". sys:
 * errno right after the call. ssl may be NULL with SSL_ERROR_SYSCALL. Returns
 * -errno as gw_fail. */
int gw_tls_fail(const SSL *ssl, int ssl_error, int sys, struct gw_err *e, const char *what);

/* Whom the certificate names: first DNS name, else CN. -EPROTO when there is
 * none or it is no plain name. */
int gw_tls_peer_name(const SSL *ssl, char out[GW_TLS_NAME_MAX], struct gw_err *e);

/* After a handshake: io's secrets whole, with names of cipher and digest.
 * -EPROTO: OpenSSL has read past the handshake, or has told no secrets. */
int gw_tls_secrets(const SSL *ssl, struct gw_tls_io *io, struct gw_err *e);

/* The peer's alert, its number as RFC 8446 has it, in words. Returns -errno as gw_fail. */
int gw_tls_alert(uint8_t description, struct gw_err *e, const char *what);
