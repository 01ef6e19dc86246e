#pragma once
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "base/gw_err.h"

/* tls: what conn.c needs of OpenSSL, and only that. Private to src/wire.
 *
 * gw_tls: any number of threads; its context changes with gw_tls_reload, and
 * a session keeps the one that it began with. A gw_tls_io belongs
 * to one connection and must outlive its SSL object; all of it belongs to the
 * connection's SSL lock. A send(2) a record would be 65,536 a GiB, and wake
 * the receiver as often. */
struct gw_tls {
	pthread_mutex_t lock; /* of ctx */
	SSL_CTX *ctx;
};

enum { GW_TLS_RECORD = 16384, GW_TLS_NAME_MAX = 256, GW_TLS_READ_AHEAD = 64 * 1024, GW_TLS_WRITE_BEHIND = 128 * 1024 };

struct gw_tls_io {
	int fd;
	bool more;    /* another record of the same frame follows: this one may wait for it */
	uint8_t *out; /* records that wait, [out_from, out_to) of GW_TLS_WRITE_BEHIND bytes; NULL: none yet */
	size_t out_from, out_to;
	_Atomic uint64_t sent_bytes;
};

/* Send what waits. false: the socket takes no more now, or has failed (errno). */
bool gw_tls_flush(struct gw_tls_io *io);

/* An SSL object over io->fd. want_name NULL: accept, any name the CA signed.
 * NULL: no memory. The caller frees it with SSL_free. */
SSL *gw_tls_session(struct gw_tls *t, struct gw_tls_io *io, const char *want_name);

/* Say why an SSL_* call failed. what: "handshake with 10.0.0.1:9460". sys:
 * errno right after the call. Returns -errno as gw_fail. */
int gw_tls_fail(const SSL *ssl, int ssl_error, int sys, struct gw_err *e, const char *what);

/* Whom the certificate names: first DNS name, else CN. -EPROTO when there is
 * none or it is no plain name. */
int gw_tls_peer_name(const SSL *ssl, char out[GW_TLS_NAME_MAX], struct gw_err *e);
