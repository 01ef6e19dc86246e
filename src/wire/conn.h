#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/gw_err.h"
#include "wire/frame.h"

/* conn: frames over mutual TLS 1.3, blocking, with a way to wake it up.
 *
 * gw_tls holds our certificate and the CA that peers must be signed by; it is
 * shared by all connections and may be freed after the last. A peer is who
 * its certificate says (DNS name in subjectAltName, else CN), never where it
 * calls from.
 *
 * Threads: one reader and any number of writers at a time per connection;
 * gw_conn_shutdown from anywhere, also from a signal handler's helper. */
struct gw_tls;
struct gw_conn;
struct gw_rate;

int gw_tls_new(const char *ca_path, const char *cert_path, const char *key_path, struct gw_tls **out, struct gw_err *e);
/* Other files for connections made from now on; on failure everything stays as it is. */
int gw_tls_reload(struct gw_tls *t, const char *ca_path, const char *cert_path, const char *key_path, struct gw_err *e);
void gw_tls_free(struct gw_tls *t);

/* Connect and handshake within timeout_ms. peer_name: who must answer. TLS 1.3
 * ends on this side before the peer has judged our certificate: a refusal
 * comes as the failure of the first gw_conn_recv, in words. */
int gw_conn_dial(struct gw_tls *t, const char *host, uint16_t port, const char *peer_name, int timeout_ms,
                 struct gw_conn **out, struct gw_err *e);
/* Handshake on an accepted socket; take_fd is closed also on failure. */
int gw_conn_accept(struct gw_tls *t, int take_fd, int timeout_ms, struct gw_conn **out, struct gw_err *e);
void gw_conn_free(struct gw_conn *c);

const char *gw_conn_peer(const struct gw_conn *c);  /* the certificate's name; borrowed */
const char *gw_conn_where(const struct gw_conn *c); /* "10.9.0.3:9460", for logs and for routes; borrowed */

/* One frame; the payload is the concatenation of iov. Blocks while the
 * socket's buffer is full. -ECANCELED after gw_conn_shutdown. */
int gw_conn_send(struct gw_conn *c, enum gw_frame_type type, const struct iovec *iov, unsigned niov, struct gw_err *e);

/* One frame. The payload lives in c until the next gw_conn_recv. timeout_ms
 * -1: for ever. -ETIMEDOUT leaves the connection usable only when no byte of
 * a frame had arrived. End of stream before a header: GW_PEER, -ECONNRESET;
 * inside a frame: GW_PEER, -EPROTO. */
struct gw_frame {
	enum gw_frame_type type;
	const uint8_t *payload;
	size_t len;
};
int gw_conn_recv(struct gw_conn *c, int timeout_ms, struct gw_frame *out, struct gw_err *e);

/* Wake every blocked call of this connection; they return -ECANCELED. */
void gw_conn_shutdown(struct gw_conn *c);
/* The last frame's payload goes, and with it the memory for the largest so far. */
void gw_conn_drop_room(struct gw_conn *c);
/* From now on a dead link is found in 5 s: something stands still for it. */
void gw_conn_hasten(struct gw_conn *c);
uint64_t gw_conn_sent_bytes(const struct gw_conn *c); /* on the wire, TLS included */
/* Change our sending key each time so many bytes went under it. The default
 * (64 GiB) keeps far from RFC 8446's limit for AES-GCM; for tests. */
void gw_conn_rekey_after(struct gw_conn *c, uint64_t bytes);

/* A bandwidth limit shared by connections; bytes_per_s 0 means none.
 * gw_rate_take sleeps until n bytes may be sent; r NULL: no limit. Takers
 * are served in order; unused time is saved up for 10 ms. */
struct gw_rate *gw_rate_new(uint64_t bytes_per_s);
void gw_rate_free(struct gw_rate *r);
void gw_rate_take(struct gw_rate *r, size_t n);
