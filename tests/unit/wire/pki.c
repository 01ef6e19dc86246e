#include "pki.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/io.h"
#include "base/scope.h"

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	(void)fprintf(stderr, "test certificates: %s failed\n", what);
	abort();
}

void pki_make(struct pki *p)
{
	(void)snprintf(p->dir, sizeof(p->dir), "/tmp/godwit-test-pki-XXXXXX");
	must(mkdtemp(p->dir) != NULL, "mkdtemp");
}

void pki_remove(struct pki *p)
{
	must(gw_remove_tree(p->dir, NULL) == 0, "remove");
}

static void path_of(const struct pki *p, const char *file, const char *end, char out[256])
{
	gw_path(out, 256, "%s/%s.%s", p->dir, file, end);
}

static void save(const struct pki *p, const char *file, X509 *x, EVP_PKEY *key)
{
	char path[256];
	path_of(p, file, "pem", path);
	FILE *f = fopen(path, "we");
	must(f && PEM_write_X509(f, x) == 1 && fclose(f) == 0, "write certificate");
	path_of(p, file, "key", path);
	f = fopen(path, "we");
	must(f && PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) == 1 && fclose(f) == 0, "write key");
}

static void extend(X509 *x, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
	X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	must(ext && X509_add_ext(x, ext, -1) == 1, "extension");
	X509_EXTENSION_free(ext);
}

static X509 *blank(const char *cn, EVP_PKEY *key, bool expired)
{
	static long serial;
	X509 *x = X509_new();
	must(x && X509_set_version(x, X509_VERSION_3) == 1 && ASN1_INTEGER_set(X509_get_serialNumber(x), ++serial) == 1,
	     "certificate");
	must(X509_gmtime_adj(X509_getm_notBefore(x), -10 * 86400L) &&
	             X509_gmtime_adj(X509_getm_notAfter(x), expired ? -86400L : 86400L),
	     "validity");
	must(X509_set_pubkey(x, key) == 1, "public key");
	must(X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1,
	                                0) == 1,
	     "name");
	return x;
}

void pki_ca(const struct pki *p, const char *ca)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	must(key != NULL, "key");
	X509 *x = blank(ca, key, false);
	must(X509_set_issuer_name(x, X509_get_subject_name(x)) == 1, "issuer");
	extend(x, x, NID_basic_constraints, "critical,CA:TRUE");
	extend(x, x, NID_key_usage, "critical,keyCertSign");
	must(X509_sign(x, key, EVP_sha256()) > 0, "sign");
	save(p, ca, x, key);
	X509_free(x);
	EVP_PKEY_free(key);
}

static void load_ca(const struct pki *p, const char *ca, X509 **x, EVP_PKEY **key)
{
	char path[256];
	path_of(p, ca, "pem", path);
	FILE *f = fopen(path, "re");
	*x = f ? PEM_read_X509(f, NULL, NULL, NULL) : NULL;
	must(*x && fclose(f) == 0, "read CA");
	path_of(p, ca, "key", path);
	f = fopen(path, "re");
	*key = f ? PEM_read_PrivateKey(f, NULL, NULL, NULL) : NULL;
	must(*key && fclose(f) == 0, "read CA key");
}

void pki_cert(const struct pki *p, const char *ca, const char *file, const char *name, int flags)
{
	X509 *ca_x;
	EVP_PKEY *ca_key, *key = EVP_EC_gen("P-256");
	must(key != NULL, "key");
	load_ca(p, ca, &ca_x, &ca_key);
	X509 *x = blank(flags & PKI_CN_ONLY ? name : "unused-cn", key, flags & PKI_EXPIRED);
	must(X509_set_issuer_name(x, X509_get_subject_name(ca_x)) == 1, "issuer");
	char san[256];
	(void)snprintf(san, sizeof(san), "DNS:%s%s%s%s", flags & PKI_BAD_NAME ? "*." : "", name,
	               flags & PKI_TWO_NAMES ? ",DNS:second." : "", flags & PKI_TWO_NAMES ? name : "");
	if (!(flags & PKI_CN_ONLY))
		extend(x, ca_x, NID_subject_alt_name, san);
	extend(x, ca_x, NID_ext_key_usage, flags & PKI_SERVER_ONLY ? "serverAuth" : "serverAuth,clientAuth");
	must(X509_sign(x, ca_key, EVP_sha256()) > 0, "sign");
	save(p, file, x, key);
	X509_free(x);
	X509_free(ca_x);
	EVP_PKEY_free(key);
	EVP_PKEY_free(ca_key);
}

struct gw_tls *pki_tls(const struct pki *p, const char *ca, const char *file)
{
	char ca_path[256], cert[256], key[256];
	path_of(p, ca, "pem", ca_path);
	path_of(p, file, "pem", cert);
	path_of(p, file, "key", key);
	struct gw_tls *t = NULL;
	struct gw_err e = {0};
	must(gw_tls_new(ca_path, cert, key, &t, &e) == 0, e.text);
	return t;
}

int pki_listen(uint16_t *out_port)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	must(fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0 && listen(fd, 16) == 0, "listen");
	must(getsockname(fd, (struct sockaddr *)&a, &len) == 0, "getsockname");
	*out_port = ntohs(a.sin_port);
	return fd;
}

struct acceptor {
	int listen_fd;
	struct gw_tls *tls;
	struct pki_pair *pair;
};

static void *accept_one(void *arg)
{
	struct acceptor *a = arg;
	int fd = accept4(a->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	must(fd >= 0, "accept");
	(void)gw_conn_accept(a->tls, fd, 10000, &a->pair->accepted, &a->pair->accept_err);
	return NULL;
}

void pki_connect(struct gw_tls *from, struct gw_tls *to, const char *want_name, struct pki_pair *out)
{
	*out = (struct pki_pair){0};
	uint16_t port;
	gw_auto(fd) int listen_fd = pki_listen(&port);
	struct acceptor a = {listen_fd, to, out};
	pthread_t thread;
	must(pthread_create(&thread, NULL, accept_one, &a) == 0, "thread");
	(void)gw_conn_dial(from, "127.0.0.1", port, want_name, 10000, &out->dialled, &out->dial_err);
	(void)pthread_join(thread, NULL);
}
