#include "pki/pki.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/scope.h"

enum { SERIAL_BITS = 127, BACKDATE_S = 300 /* clocks of the nodes may differ */ };

#define END(kind, type, how)                                                                                           \
	static void gw_end_##kind(type **p)                                                                            \
	{                                                                                                              \
		how(*p);                                                                                               \
	}
END(bio, BIO, (void)BIO_free)
END(pkey, EVP_PKEY, EVP_PKEY_free)
END(x509, X509, X509_free)
END(req, X509_REQ, X509_REQ_free)
END(names, GENERAL_NAMES, GENERAL_NAMES_free)
END(store, X509_STORE, X509_STORE_free)
END(storectx, X509_STORE_CTX, X509_STORE_CTX_free)

static void end_exts(STACK_OF(X509_EXTENSION) * *p)
{
	sk_X509_EXTENSION_pop_free(*p, X509_EXTENSION_free);
}

void pki_wipe(char **text)
{
	if (*text)
		explicit_bzero(*text, strlen(*text));
	free(gw_take(*text));
}

static int ssl_fail(struct gw_err *e, const char *what)
{
	const char *words = ERR_reason_error_string(ERR_peek_error());
	ERR_clear_error();
	return gw_fail(e, GW_INPUT, EINVAL, "%s: %s", what, words ?: "no reason given");
}

/* ---- PEM ---- */

static int take_text(BIO *b, char **out, struct gw_err *e)
{
	char *data;
	long len = BIO_get_mem_data(b, &data);
	char *text = len > 0 ? strndup(data, (size_t)len) : NULL;
	if (!text)
		return gw_fail(e, GW_SYS, ENOMEM, "write PEM");
	*out = text;
	return 0;
}

static EVP_PKEY *read_key(const char *pem)
{
	gw_auto(bio) BIO *b = BIO_new_mem_buf(pem, -1);
	return b ? PEM_read_bio_PrivateKey(b, NULL, NULL, NULL) : NULL;
}

static X509 *read_cert(const char *pem)
{
	gw_auto(bio) BIO *b = BIO_new_mem_buf(pem, -1);
	return b ? PEM_read_bio_X509(b, NULL, NULL, NULL) : NULL;
}

static X509_REQ *read_request(const char *pem)
{
	gw_auto(bio) BIO *b = BIO_new_mem_buf(pem, -1);
	return b ? PEM_read_bio_X509_REQ(b, NULL, NULL, NULL) : NULL;
}

static int write_cert(X509 *c, char **out, struct gw_err *e)
{
	gw_auto(bio) BIO *b = BIO_new(BIO_s_mem());
	if (!b || PEM_write_bio_X509(b, c) != 1)
		return ssl_fail(e, "write a certificate");
	return take_text(b, out, e);
}

static int write_key(EVP_PKEY *k, char **out, struct gw_err *e)
{
	gw_auto(bio) BIO *b = BIO_new(BIO_s_secmem());
	if (!b || PEM_write_bio_PrivateKey(b, k, NULL, NULL, 0, NULL, NULL) != 1)
		return ssl_fail(e, "write a key");
	return take_text(b, out, e);
}

/* ---- names ---- */

static bool is_plain(const unsigned char *s, int len)
{
	if (len <= 0 || len >= PKI_NAME_MAX)
		return false;
	for (int i = 0; i < len; i++)
		if (!((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= '0' && s[i] <= '9') || s[i] == '-' || s[i] == '.'))
			return false;
	return true;
}

static GENERAL_NAMES *names_new(const char *name)
{
	GENERAL_NAMES *all = sk_GENERAL_NAME_new_null();
	GENERAL_NAME *one = GENERAL_NAME_new();
	ASN1_IA5STRING *s = ASN1_IA5STRING_new();
	if (!all || !one || !s || ASN1_STRING_set(s, name, -1) != 1 || !sk_GENERAL_NAME_push(all, one)) {
		ASN1_IA5STRING_free(s);
		GENERAL_NAME_free(one);
		sk_GENERAL_NAME_free(all);
		return NULL;
	}
	GENERAL_NAME_set0_value(one, GEN_DNS, s);
	return all;
}

static bool subject(X509_NAME *n, const char *common)
{
	return X509_NAME_add_entry_by_txt(n, "O", MBSTRING_ASC, (const unsigned char *)"godwit", -1, -1, 0) == 1 &&
	       (!common ||
	        X509_NAME_add_entry_by_txt(n, "CN", MBSTRING_ASC, (const unsigned char *)common, -1, -1, 0) == 1);
}

/* ---- making ---- */

int pki_key_new(char **out_key, struct gw_err *e)
{
	gw_auto(pkey) EVP_PKEY *k = EVP_EC_gen("P-256");
	return k ? write_key(k, out_key, e) : ssl_fail(e, "make a key");
}

int pki_request(const char *key, const char *name, char **out_request, struct gw_err *e)
{
	if (!is_plain((const unsigned char *)name, (int)strlen(name)))
		return gw_fail(e, GW_INPUT, EINVAL, "\"%s\" can't be a host's name in a certificate", name);
	gw_auto(pkey) EVP_PKEY *k = read_key(key);
	gw_auto(req) X509_REQ *r = X509_REQ_new();
	gw_auto(names) GENERAL_NAMES *names = names_new(name);
	gw_auto(bio) BIO *b = BIO_new(BIO_s_mem());
	__attribute__((cleanup(end_exts))) STACK_OF(X509_EXTENSION) *exts = NULL;
	if (!k || !r || !names || !b ||
	    X509V3_add1_i2d(&exts, NID_subject_alt_name, names, 0, X509V3_ADD_DEFAULT) != 1 ||
	    X509_REQ_add_extensions(r, exts) != 1 || !subject(X509_REQ_get_subject_name(r), NULL) ||
	    X509_REQ_set_pubkey(r, k) != 1 || X509_REQ_sign(r, k, EVP_sha256()) <= 0 ||
	    PEM_write_bio_X509_REQ(b, r) != 1)
		return ssl_fail(e, "make a certificate signing request");
	return take_text(b, out_request, e);
}

static bool extend(X509 *c, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509V3_set_ctx(&ctx, issuer, c, NULL, NULL, 0);
	X509_EXTENSION *x = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	bool ok = x && X509_add_ext(c, x, -1) == 1;
	X509_EXTENSION_free(x);
	return ok;
}

static bool begin(X509 *c, int64_t seconds)
{
	BIGNUM *n = BN_new();
	bool ok = n && BN_rand(n, SERIAL_BITS, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
	          BN_to_ASN1_INTEGER(n, X509_get_serialNumber(c)) != NULL && X509_set_version(c, X509_VERSION_3) == 1 &&
	          X509_gmtime_adj(X509_getm_notBefore(c), -BACKDATE_S) &&
	          X509_gmtime_adj(X509_getm_notAfter(c), seconds);
	BN_free(n);
	return ok;
}

int pki_authority_new(const char *name, int64_t seconds, char **out_cert, char **out_key, struct gw_err *e)
{
	gw_auto(pkey) EVP_PKEY *k = EVP_EC_gen("P-256");
	gw_auto(x509) X509 *c = X509_new();
	gw_auto(pem) char *cert = NULL;
	if (!k || !c || !begin(c, seconds) || !subject(X509_get_subject_name(c), name) ||
	    X509_set_issuer_name(c, X509_get_subject_name(c)) != 1 || X509_set_pubkey(c, k) != 1 ||
	    !extend(c, c, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") ||
	    !extend(c, c, NID_key_usage, "critical,keyCertSign,cRLSign") ||
	    !extend(c, c, NID_subject_key_identifier, "hash") || X509_sign(c, k, EVP_sha256()) <= 0)
		return ssl_fail(e, "make a certificate authority");
	int rc = write_cert(c, &cert, e);
	if (rc == 0)
		rc = write_key(k, out_key, e);
	if (rc == 0)
		*out_cert = gw_take(cert);
	return rc;
}

/* ---- reading and signing ---- */

static int name_of(X509_REQ *r, char out[PKI_NAME_MAX], struct gw_err *e)
{
	EVP_PKEY *k = X509_REQ_get0_pubkey(r);
	if (!k || X509_REQ_verify(r, k) != 1) {
		ERR_clear_error();
		return gw_fail(e, GW_INPUT, EBADMSG, "the request is not signed by its own key");
	}
	__attribute__((cleanup(end_exts))) STACK_OF(X509_EXTENSION) *exts = X509_REQ_get_extensions(r);
	gw_auto(names) GENERAL_NAMES *names = X509V3_get_d2i(exts, NID_subject_alt_name, NULL, NULL);
	const GENERAL_NAME *one = sk_GENERAL_NAME_num(names) == 1 ? sk_GENERAL_NAME_value(names, 0) : NULL;
	if (!one || one->type != GEN_DNS ||
	    !is_plain(ASN1_STRING_get0_data(one->d.dNSName), ASN1_STRING_length(one->d.dNSName)))
		return gw_fail(e, GW_INPUT, EBADMSG, "the request must be for one host's DNS name and nothing else");
	(void)snprintf(out, PKI_NAME_MAX, "%.*s", ASN1_STRING_length(one->d.dNSName),
	               (const char *)ASN1_STRING_get0_data(one->d.dNSName));
	return 0;
}

int pki_request_name(const char *request, char out[PKI_NAME_MAX], struct gw_err *e)
{
	gw_auto(req) X509_REQ *r = read_request(request);
	if (!r) {
		ERR_clear_error();
		return gw_fail(e, GW_INPUT, EBADMSG, "this is no certificate signing request");
	}
	return name_of(r, out, e);
}

static int64_t seconds_of(const ASN1_TIME *t)
{
	struct tm tm;
	return ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

int pki_sign(const char *ca_cert, const char *ca_key, const char *request, int64_t seconds, char **out_cert,
             struct gw_err *e)
{
	char name[PKI_NAME_MAX];
	int rc = pki_request_name(request, name, e);
	if (rc < 0)
		return rc;
	gw_auto(x509) X509 *ca = read_cert(ca_cert);
	gw_auto(pkey) EVP_PKEY *k = read_key(ca_key);
	gw_auto(req) X509_REQ *r = read_request(request);
	gw_auto(x509) X509 *c = X509_new();
	gw_auto(names) GENERAL_NAMES *names = names_new(name);
	if (!ca || !k || !r || !c || !names || X509_check_private_key(ca, k) != 1)
		return ssl_fail(e, "the certificate authority can't be used");
	int64_t left = seconds_of(X509_get0_notAfter(ca)) - (int64_t)time(NULL);
	if (left <= 0)
		return gw_fail(e, GW_INPUT, EKEYEXPIRED, "the certificate authority has expired");
	if (!begin(c, seconds < left ? seconds : left) || !subject(X509_get_subject_name(c), NULL) ||
	    X509_set_issuer_name(c, X509_get_subject_name(ca)) != 1 ||
	    X509_set_pubkey(c, X509_REQ_get0_pubkey(r)) != 1 ||
	    !extend(c, ca, NID_basic_constraints, "critical,CA:FALSE") ||
	    !extend(c, ca, NID_key_usage, "critical,digitalSignature") ||
	    !extend(c, ca, NID_ext_key_usage, "serverAuth,clientAuth") ||
	    !extend(c, ca, NID_authority_key_identifier, "keyid") ||
	    X509_add1_ext_i2d(c, NID_subject_alt_name, names, 0, X509V3_ADD_DEFAULT) != 1 ||
	    X509_sign(c, k, EVP_sha256()) <= 0)
		return ssl_fail(e, "sign a certificate");
	return write_cert(c, out_cert, e);
}

static int check_chain(const char *ca_pem, X509 *c, struct gw_err *e)
{
	gw_auto(bio) BIO *b = BIO_new_mem_buf(ca_pem, -1);
	gw_auto(store) X509_STORE *store = X509_STORE_new();
	gw_auto(storectx) X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	if (!b || !store || !ctx)
		return gw_fail(e, GW_SYS, ENOMEM, "check a certificate");
	for (X509 *ca; (ca = PEM_read_bio_X509(b, NULL, NULL, NULL)); X509_free(ca))
		(void)X509_STORE_add_cert(store, ca);
	ERR_clear_error();
	if (X509_STORE_CTX_init(ctx, store, c, NULL) != 1)
		return ssl_fail(e, "check a certificate");
	if (X509_verify_cert(ctx) == 1)
		return 0;
	int why = X509_STORE_CTX_get_error(ctx);
	ERR_clear_error();
	return gw_fail(e, GW_INPUT, why == X509_V_ERR_CERT_HAS_EXPIRED ? EKEYEXPIRED : EINVAL,
	               "the certificate is not valid: %s", X509_verify_cert_error_string(why));
}

int pki_look(const char *ca, const char *cert, const char *key, const char *name, int64_t *out_from_s,
             int64_t *out_until_s, struct gw_err *e)
{
	gw_auto(x509) X509 *c = read_cert(cert);
	gw_auto(pkey) EVP_PKEY *k = read_key(key);
	if (!c || !k || X509_check_private_key(c, k) != 1)
		return ssl_fail(e, "certificate and key do not belong together");
	if (X509_check_host(c, name, 0, X509_CHECK_FLAG_NO_WILDCARDS, NULL) != 1)
		return gw_fail(e, GW_INPUT, EINVAL, "the certificate is not for %s", name);
	int rc = check_chain(ca, c, e);
	if (rc < 0)
		return rc;
	*out_from_s = seconds_of(X509_get0_notBefore(c)) + BACKDATE_S;
	*out_until_s = seconds_of(X509_get0_notAfter(c));
	return 0;
}
