#include "wire/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/scope.h"
#include "wire/conn.h"

/* A socket BIO of our own: OpenSSL's uses write(2), which raises SIGPIPE. */
static BIO_METHOD *io_method;

static int io_write(BIO *b, const char *data, size_t len, size_t *out_written)
{
	struct gw_tls_io *io = BIO_get_data(b);
	BIO_clear_retry_flags(b);
	ssize_t n;
	do
		n = send(io->fd, data, len, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0) {
		if (errno == EAGAIN)
			BIO_set_retry_write(b);
		return 0;
	}
	*out_written = (size_t)n;
	return 1;
}

static int io_read(BIO *b, char *data, size_t len, size_t *out_read)
{
	struct gw_tls_io *io = BIO_get_data(b);
	BIO_clear_retry_flags(b);
	ssize_t n;
	do
		n = recv(io->fd, data, len, 0);
	while (n < 0 && errno == EINTR);
	if (n == 0)
		BIO_set_flags(b, BIO_FLAGS_IN_EOF);
	if (n < 0 && errno == EAGAIN)
		BIO_set_retry_read(b);
	if (n <= 0)
		return 0;
	*out_read = (size_t)n;
	return 1;
}

static long io_ctrl(BIO *b, int cmd, long num, void *ptr)
{
	(void)num;
	(void)ptr;
	switch (cmd) {
	case BIO_CTRL_FLUSH: return 1;
	case BIO_CTRL_EOF: return BIO_test_flags(b, BIO_FLAGS_IN_EOF) != 0;
	default: return 0;
	}
}

static void make_io_method(void)
{
	int index = BIO_get_new_index();
	if (index < 0)
		return;
	BIO_METHOD *m = BIO_meth_new(index | BIO_TYPE_SOURCE_SINK | BIO_TYPE_DESCRIPTOR, "godwit socket");
	if (m && BIO_meth_set_write_ex(m, io_write) && BIO_meth_set_read_ex(m, io_read) &&
	    BIO_meth_set_ctrl(m, io_ctrl))
		io_method = m;
	else
		BIO_meth_free(m);
}

static int hex(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
	                              : -1;
}

/* A line of NSS's key log format: LABEL CLIENT_RANDOM SECRET, in hex. It is
 * how OpenSSL tells the traffic secrets. */
static void keep_secret(const SSL *ssl, const char *line)
{
	struct gw_tls_io *io = BIO_get_data(SSL_get_rbio(ssl));
	bool of_client = !strncmp(line, "CLIENT_TRAFFIC_SECRET_0 ", 24);
	if (!of_client && strncmp(line, "SERVER_TRAFFIC_SECRET_0 ", 24) != 0)
		return;
	struct gw_secret *s = of_client == io->is_server ? &io->receiving : &io->sending;
	const char *p = strchr(line + 24, ' ');
	s->len = 0;
	for (p = p ? p + 1 : ""; s->len < GW_SECRET_MAX && hex(p[0]) >= 0 && hex(p[1]) >= 0; p += 2)
		s->bytes[s->len++] = (uint8_t)(hex(p[0]) << 4 | hex(p[1]));
}

int gw_tls_secrets(const SSL *ssl, struct gw_tls_io *io, struct gw_err *e)
{
	const SSL_CIPHER *c = SSL_get_current_cipher(ssl);
	const EVP_MD *md = c ? SSL_CIPHER_get_handshake_digest(c) : NULL;
	const char *cipher = c ? OBJ_nid2sn(SSL_CIPHER_get_cipher_nid(c)) : NULL;
	struct gw_secret *both[] = {&io->sending, &io->receiving};
	for (unsigned i = 0; i < gw_countof(both); i++) {
		if (!md || !cipher || both[i]->len != (size_t)EVP_MD_get_size(md))
			return gw_fail(e, GW_SYS, EPROTO, "OpenSSL has not told the keys of a TLS 1.3 session");
		both[i]->cipher = cipher;
		both[i]->digest = EVP_MD_get0_name(md);
	}
	if (SSL_has_pending(ssl))
		return gw_fail(e, GW_SYS, EPROTO, "OpenSSL has read past the end of a TLS handshake");
	return 0;
}

SSL *gw_tls_session(struct gw_tls *t, struct gw_tls_io *io, const char *want_name)
{
	pthread_mutex_lock(&t->lock);
	SSL *ssl = SSL_new(t->ctx);
	pthread_mutex_unlock(&t->lock);
	BIO *b = ssl ? BIO_new(io_method) : NULL;
	if (!b) {
		SSL_free(ssl);
		return NULL;
	}
	io->is_server = !want_name;
	BIO_set_data(b, io);
	BIO_set_init(b, 1);
	SSL_set_bio(ssl, b, b);
	if (!want_name) {
		SSL_set_accept_state(ssl);
		return ssl;
	}
	SSL_set_connect_state(ssl);
	SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_WILDCARDS);
	if (SSL_set1_host(ssl, want_name) != 1) {
		SSL_free(ssl);
		return NULL;
	}
	return ssl;
}

/* A certificate's name goes into logs, routes and error texts. */
static bool is_plain_name(const unsigned char *s, int len)
{
	if (len <= 0 || len >= GW_TLS_NAME_MAX)
		return false;
	for (int i = 0; i < len; i++)
		if (s[i] <= ' ' || s[i] >= 0x7f || s[i] == '*' || s[i] == '/' || s[i] == '"')
			return false;
	return true;
}

static void end_names(GENERAL_NAMES **n)
{
	GENERAL_NAMES_free(*n);
}

static const ASN1_STRING *name_in(X509 *cert, GENERAL_NAMES *sans)
{
	for (int i = 0; i < sk_GENERAL_NAME_num(sans); i++) {
		const GENERAL_NAME *n = sk_GENERAL_NAME_value(sans, i);
		if (n->type == GEN_DNS)
			return n->d.dNSName;
	}
	X509_NAME *subject = X509_get_subject_name(cert);
	int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
	X509_NAME_ENTRY *cn = at < 0 ? NULL : X509_NAME_get_entry(subject, at);
	return cn ? X509_NAME_ENTRY_get_data(cn) : NULL;
}

int gw_tls_peer_name(const SSL *ssl, char out[GW_TLS_NAME_MAX], struct gw_err *e)
{
	/* On the dialling side: the name that was checked. */
	const char *checked = SSL_get0_peername((SSL *)(uintptr_t)ssl);
	X509 *cert = SSL_get0_peer_certificate(ssl);
	if (!cert)
		return gw_fail(e, GW_PEER, EPROTO, "peer showed no certificate");
	__attribute__((cleanup(end_names))) GENERAL_NAMES *sans =
	        X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	const ASN1_STRING *s = name_in(cert, sans);
	const unsigned char *name = checked ? (const unsigned char *)checked : s ? ASN1_STRING_get0_data(s) : NULL;
	int len = checked ? (int)strlen(checked) : s ? ASN1_STRING_length(s) : 0;
	if (!name || !is_plain_name(name, len))
		return gw_fail(
		        e, GW_PEER, EPROTO,
		        "peer's certificate has no usable name: put the host's name into it as a DNS subjectAltName");
	memcpy(out, name, (size_t)len);
	out[len] = 0;
	return 0;
}

/* The peer's alert about our certificate, in words that say what to do. */
static const char *alert_advice(int reason)
{
	switch (reason) {
	case SSL_R_TLSV1_ALERT_UNKNOWN_CA: return "our certificate is signed by a CA the peer does not know";
	case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED: return "the peer wants a certificate and we showed none";
	case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED: return "our certificate has expired: renew it";
	case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
	case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
	case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
		return "the peer does not accept our certificate: check its name and purpose";
	case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION: return "the peer does not speak TLS 1.3";
	default: return NULL;
	}
}

int gw_tls_alert(uint8_t description, struct gw_err *e, const char *what)
{
	int reason = SSL_AD_REASON_OFFSET + description;
	const char *advice = alert_advice(reason);
	const char *words = ERR_reason_error_string(ERR_PACK(ERR_LIB_SSL, 0, reason));
	if (description == SSL_AD_CLOSE_NOTIFY)
		return gw_fail(e, GW_PEER, ECONNRESET, "%s: the peer closed the connection", what);
	if (advice)
		return gw_fail(e, GW_PEER, EACCES, "%s: %s (%s)", what, advice, words ?: "alert");
	return gw_fail(e, GW_PEER, EPROTO, "%s: TLS failed: the peer says %s (alert %u)", what, words ?: "no more",
	               description);
}

static int fail_in_ssl(const SSL *ssl, struct gw_err *e, const char *what)
{
	unsigned long code = ERR_peek_error();
	int reason = ERR_GET_REASON(code);
	if (ERR_GET_LIB(code) == ERR_LIB_SSL && reason == SSL_R_UNEXPECTED_EOF_WHILE_READING)
		return gw_fail(e, GW_PEER, ECONNRESET, "%s: the peer closed the connection", what);
	if (ERR_GET_LIB(code) == ERR_LIB_SSL && reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
		long v = SSL_get_verify_result(ssl);
		const char *hint = v == X509_V_ERR_HOSTNAME_MISMATCH  ? "another host answered"
		                   : v == X509_V_ERR_CERT_HAS_EXPIRED ? "renew it"
		                                                      : "both hosts need certificates of the same CA";
		return gw_fail(e, GW_PEER, EACCES, "%s: peer's certificate is not accepted: %s (%s)", what,
		               X509_verify_cert_error_string(v), hint);
	}
	if (ERR_GET_LIB(code) == ERR_LIB_SSL && reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE)
		return gw_fail(e, GW_PEER, EACCES, "%s: the peer showed no certificate", what);
	const char *advice = ERR_GET_LIB(code) == ERR_LIB_SSL ? alert_advice(reason) : NULL;
	const char *words = ERR_reason_error_string(code);
	if (advice)
		return gw_fail(e, GW_PEER, EACCES, "%s: %s (%s)", what, advice, words ?: "alert");
	return gw_fail(e, GW_PEER, EPROTO, "%s: TLS failed: %s", what, words ?: "no reason given");
}

int gw_tls_fail(const SSL *ssl, int ssl_error, int sys, struct gw_err *e, const char *what)
{
	switch (ssl_error) {
	case SSL_ERROR_ZERO_RETURN: return gw_fail(e, GW_PEER, ECONNRESET, "%s: the peer closed the connection", what);
	case SSL_ERROR_SYSCALL:
		if (sys == 0 || sys == ECONNRESET || sys == EPIPE)
			return gw_fail(e, GW_PEER, ECONNRESET, "%s: the peer closed the connection", what);
		return gw_fail(e, GW_PEER, sys, "%s: %s", what, strerrordesc_np(sys) ?: "unknown error");
	default: return fail_in_ssl(ssl, e, what);
	}
}

static int use_files(SSL_CTX *ctx, const char *ca, const char *cert, const char *key, struct gw_err *e)
{
	ERR_clear_error();
	const char *bad = NULL, *what = NULL;
	if (SSL_CTX_load_verify_file(ctx, ca) != 1)
		bad = ca, what = "CA certificate";
	else if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1)
		bad = cert, what = "certificate";
	else if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)
		bad = key, what = "private key";
	else if (SSL_CTX_check_private_key(ctx) != 1)
		bad = key, what = "private key";
	if (!bad)
		return 0;
	/* The first error is the cause, later ones only say who called. */
	unsigned long code = ERR_peek_error();
	int sys = ERR_SYSTEM_ERROR(code) ? ERR_GET_REASON(code) : 0;
	const char *words = sys ? strerrordesc_np(sys) : ERR_reason_error_string(code);
	return gw_fail(e, GW_INPUT, sys ?: EINVAL, "%s %s cannot be used: %s", what, bad, words ?: "no reason given");
}

static bool set_rules(SSL_CTX *ctx)
{
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	/* No tickets: a resumed session would skip the certificates, and the
	 * server would speak right after the handshake. */
	SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
	/* What comes behind the handshake is not OpenSSL's to read. */
	SSL_CTX_set_read_ahead(ctx, 0);
	SSL_CTX_set_keylog_callback(ctx, keep_secret);
	return SSL_CTX_set_num_tickets(ctx, 0) == 1 && SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) == 1 &&
	       SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) == 1 &&
	       SSL_CTX_set_ciphersuites(
	               ctx, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256") == 1;
}

static int make_ctx(const char *ca, const char *cert, const char *key, SSL_CTX **out, struct gw_err *e)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());
	if (!ctx || !set_rules(ctx)) {
		SSL_CTX_free(ctx);
		return gw_fail(e, GW_SYS, ENOMEM, "set up TLS 1.3");
	}
	int rc = use_files(ctx, ca, cert, key, e);
	if (rc < 0) {
		SSL_CTX_free(ctx);
		return rc;
	}
	*out = ctx;
	return 0;
}

int gw_tls_new(const char *ca_path, const char *cert_path, const char *key_path, struct gw_tls **out, struct gw_err *e)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	(void)pthread_once(&once, make_io_method);
	struct gw_tls *t = calloc(1, sizeof(*t));
	if (!io_method || !t) {
		free(t);
		return gw_fail(e, GW_SYS, ENOMEM, "set up TLS 1.3");
	}
	int rc = make_ctx(ca_path, cert_path, key_path, &t->ctx, e);
	if (rc < 0) {
		free(t);
		return rc;
	}
	pthread_mutex_init(&t->lock, NULL);
	*out = t;
	return 0;
}

int gw_tls_reload(struct gw_tls *t, const char *ca_path, const char *cert_path, const char *key_path, struct gw_err *e)
{
	SSL_CTX *ctx;
	int rc = make_ctx(ca_path, cert_path, key_path, &ctx, e);
	if (rc < 0)
		return rc;
	pthread_mutex_lock(&t->lock);
	SSL_CTX *old = t->ctx;
	t->ctx = ctx;
	pthread_mutex_unlock(&t->lock);
	SSL_CTX_free(old); /* sessions hold references of their own */
	return 0;
}

void gw_tls_free(struct gw_tls *t)
{
	if (!t)
		return;
	SSL_CTX_free(t->ctx);
	pthread_mutex_destroy(&t->lock);
	free(t);
}
