#pragma once
/* world: two hosts with certificates, and a peer that need not keep the
 * rules. For the tests of wire; each includes it once. One thread. */
#include "test.h"

#include <errno.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/scope.h"
#include "pki.h"
#include "wire/conn.h"

[[maybe_unused]] static struct pki pki;
[[maybe_unused]] static struct gw_tls *a, *b; /* host-a and host-b, same CA */

[[maybe_unused]] static int make_world(void **state)
{
	(void)state;
	pki_make(&pki);
	pki_ca(&pki, "ca");
	pki_ca(&pki, "other-ca");
	pki_cert(&pki, "ca", "a", "host-a", 0);
	pki_cert(&pki, "ca", "b", "host-b", 0);
	a = pki_tls(&pki, "ca", "a");
	b = pki_tls(&pki, "ca", "b");
	return 0;
}

[[maybe_unused]] static int end_world(void **state)
{
	(void)state;
	gw_tls_free(a);
	gw_tls_free(b);
	pki_remove(&pki);
	return 0;
}

[[maybe_unused]] static void open_pair(struct pki_pair *p)
{
	pki_connect(a, b, "host-b", p);
	if (!p->dialled || !p->accepted)
		fail_msg("no connection: %s / %s", p->dial_err.text, p->accept_err.text);
}

[[maybe_unused]] static void close_pair(struct pki_pair *p)
{
	gw_conn_free(p->dialled);
	gw_conn_free(p->accepted);
	*p = (struct pki_pair){0};
}

[[maybe_unused]] static void has_words(const struct gw_err *e, const char *words)
{
	if (!strstr(e->text, words))
		fail_msg("'%s' is not in '%s'", words, e->text);
}

/* ---- a peer that need not keep the rules: OpenSSL by hand ---- */

struct raw {
	SSL_CTX *ctx;
	SSL *ssl;
	int fd;
};

[[maybe_unused]] static void raw_close(struct raw *r)
{
	SSL_free(r->ssl);
	SSL_CTX_free(r->ctx);
	if (r->fd >= 0)
		(void)close(r->fd);
}

[[maybe_unused]] static const char *raw_cipher; /* of raw_start; NULL: OpenSSL's choice */

/* file NULL: no certificate. Returns what the handshake returned. */
[[maybe_unused]] static int raw_start(struct raw *r, int fd, const char *file, int max_version)
{
	char cert[256], key[256];
	*r = (struct raw){.ctx = SSL_CTX_new(TLS_method()), .fd = fd};
	assert_non_null(r->ctx);
	SSL_CTX_set_max_proto_version(r->ctx, max_version);
	if (file) {
		(void)snprintf(cert, sizeof(cert), "%s/%s.pem", pki.dir, file);
		(void)snprintf(key, sizeof(key), "%s/%s.key", pki.dir, file);
		assert_int_equal(SSL_CTX_use_certificate_file(r->ctx, cert, SSL_FILETYPE_PEM), 1);
		assert_int_equal(SSL_CTX_use_PrivateKey_file(r->ctx, key, SSL_FILETYPE_PEM), 1);
	}
	if (raw_cipher)
		assert_int_equal(SSL_CTX_set_ciphersuites(r->ctx, raw_cipher), 1);
	r->ssl = SSL_new(r->ctx);
	assert_non_null(r->ssl);
	assert_int_equal(SSL_set_fd(r->ssl, fd), 1);
	return SSL_connect(r->ssl);
}

struct accepting {
	int fd;
	int timeout_ms;
	struct gw_conn *conn;
	struct gw_err err;
	int rc;
};

[[maybe_unused]] static void *accept_main(void *arg)
{
	struct accepting *s = arg;
	s->rc = gw_conn_accept(b, s->fd, s->timeout_ms, &s->conn, &s->err);
	return NULL;
}

[[maybe_unused]] static void raw_pair(struct raw *r, struct accepting *s, const char *file, int max_version)
{
	int sv[2];
	pthread_t t;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	*s = (struct accepting){.fd = sv[1], .timeout_ms = 10000};
	assert_int_equal(pthread_create(&t, NULL, accept_main, s), 0);
	(void)raw_start(r, sv[0], file, max_version);
	(void)pthread_join(t, NULL);
}

[[maybe_unused]] static void raw_send(struct raw *r, const void *p, int n)
{
	assert_int_equal(SSL_write(r->ssl, p, n), n);
}

[[maybe_unused]] static void raw_header(struct raw *r, uint8_t type, uint32_t length, uint32_t serial)
{
	uint8_t h[GW_FRAME_HDR_BYTES];
	gw_frame_pack(&(struct gw_frame_hdr){.type = type, .length = length, .serial = serial}, h);
	raw_send(r, h, sizeof(h));
}
