#include "test.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/scope.h"
#include "pki/pki.h"

enum { YEAR = 365 * 86400 };

struct world {
	char *ca, *ca_key, *key, *request, *cert;
};

static int make(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct gw_err e;
	assert_int_equal(pki_authority_new("godwit test", YEAR, &w->ca, &w->ca_key, &e), 0);
	assert_int_equal(pki_key_new(&w->key, &e), 0);
	assert_int_equal(pki_request(w->key, "node-a", &w->request, &e), 0);
	assert_int_equal(pki_sign(w->ca, w->ca_key, w->request, 3600, &w->cert, &e), 0);
	*state = w;
	return 0;
}

static int drop(void **state)
{
	struct world *w = *state;
	char **all[] = {&w->ca, &w->ca_key, &w->key, &w->request, &w->cert};
	for (size_t i = 0; i < gw_countof(all); i++)
		pki_wipe(all[i]);
	free(w);
	return 0;
}

static void a_signed_certificate_is_the_hosts(void **state)
{
	struct world *w = *state;
	struct gw_err e;
	int64_t from, until;
	char name[PKI_NAME_MAX];
	assert_int_equal(pki_request_name(w->request, name, &e), 0);
	assert_string_equal(name, "node-a");
	assert_int_equal(pki_look(w->ca, w->cert, w->key, "node-a", &from, &until, &e), 0);
	assert_in_range(until - from, 3590, 3610);
	assert_int_equal(pki_look(w->ca, w->cert, w->key, "node-b", &from, &until, &e), -EINVAL);
}

static void another_key_or_authority_is_not_taken(void **state)
{
	struct world *w = *state;
	struct gw_err e;
	int64_t from, until;
	gw_auto(pem) char *key = NULL, *ca = NULL, *ca_key = NULL;
	assert_int_equal(pki_key_new(&key, &e), 0);
	assert_int_equal(pki_authority_new("godwit test", YEAR, &ca, &ca_key, &e), 0);
	assert_int_equal(pki_look(w->ca, w->cert, key, "node-a", &from, &until, &e), -EINVAL);
	assert_int_equal(pki_look(ca, w->cert, w->key, "node-a", &from, &until, &e), -EINVAL);
	char *none = NULL;
	assert_int_equal(pki_sign(ca, w->ca_key, w->request, 60, &none, &e), -EINVAL);
	assert_null(none);
}

static void an_expired_certificate_says_so(void **state)
{
	struct world *w = *state;
	struct gw_err e;
	int64_t from, until;
	gw_auto(pem) char *cert = NULL;
	assert_int_equal(pki_sign(w->ca, w->ca_key, w->request, -10, &cert, &e), 0);
	assert_int_equal(pki_look(w->ca, cert, w->key, "node-a", &from, &until, &e), -EKEYEXPIRED);
}

static void a_certificate_ends_with_its_authority(void **state)
{
	struct world *w = *state;
	struct gw_err e;
	int64_t from, until;
	gw_auto(pem) char *cert = NULL;
	assert_int_equal(pki_sign(w->ca, w->ca_key, w->request, 10L * YEAR, &cert, &e), 0);
	assert_int_equal(pki_look(w->ca, cert, w->key, "node-a", &from, &until, &e), 0);
	assert_in_range(until - time(NULL), YEAR - 60, YEAR + 1);
}

/* A certificate for a host must not be good for making more of them. */
static void a_hosts_certificate_signs_nothing(void **state)
{
	struct world *w = *state;
	struct gw_err e;
	int64_t from, until;
	gw_auto(pem) char *key = NULL, *request = NULL, *cert = NULL;
	assert_int_equal(pki_key_new(&key, &e), 0);
	assert_int_equal(pki_request(key, "node-b", &request, &e), 0);
	assert_int_equal(pki_sign(w->cert, w->key, request, 60, &cert, &e), 0);
	gw_auto(mem) char *both = NULL;
	assert_true(asprintf(&both, "%s%s", w->ca, w->cert) > 0);
	assert_int_equal(pki_look(both, cert, key, "node-b", &from, &until, &e), -EINVAL);
}

static char *request_with(const char *names)
{
	EVP_PKEY *k = EVP_EC_gen("P-256");
	X509_REQ *r = X509_REQ_new();
	BIO *b = BIO_new(BIO_s_mem());
	STACK_OF(X509_EXTENSION) *exts = sk_X509_EXTENSION_new_null();
	if (names)
		sk_X509_EXTENSION_push(exts, X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, names));
	X509_REQ_add_extensions(r, exts);
	X509_REQ_set_pubkey(r, k);
	X509_REQ_sign(r, k, EVP_sha256());
	PEM_write_bio_X509_REQ(b, r);
	char *data, *text = strndup((BIO_get_mem_data(b, &data), data), (size_t)BIO_get_mem_data(b, &data));
	sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
	BIO_free(b);
	X509_REQ_free(r);
	EVP_PKEY_free(k);
	return text;
}

static void a_request_for_anything_but_one_name_is_refused(void **state)
{
	(void)state;
	static const char *const bad[] = {
	        NULL, "DNS:node-a,DNS:node-b", "IP:10.0.0.1", "DNS:*.example", "DNS:node a", "email:a@b", "DNS:Node-A"};
	for (size_t i = 0; i < gw_countof(bad); i++) {
		struct gw_err e;
		char name[PKI_NAME_MAX];
		gw_auto(mem) char *text = request_with(bad[i]);
		assert_int_equal(pki_request_name(text, name, &e), -EBADMSG);
	}
}

static void a_request_that_was_changed_is_refused(void **state)
{
	struct world *w = *state;
	struct gw_err e;
	char name[PKI_NAME_MAX];
	gw_auto(mem) char *text = strdup(w->request);
	char *at = strstr(text, "\n-----END") - 8; /* in its signature */
	*at = *at == 'A' ? 'B' : 'A';
	assert_int_equal(pki_request_name(text, name, &e), -EBADMSG);
	assert_int_equal(pki_request_name("", name, &e), -EBADMSG);
	assert_int_equal(pki_request_name(w->cert, name, &e), -EBADMSG);
}

static void a_long_nodes_name_is_fine(void **state)
{
	struct world *w = *state;
	struct gw_err e;
	int64_t from, until;
	gw_auto(pem) char *request = NULL, *cert = NULL;
	char name[PKI_NAME_MAX];
	memset(name, 'n', sizeof(name) - 1);
	for (size_t i = 50; i < sizeof(name) - 1; i += 50)
		name[i] = '.';
	name[sizeof(name) - 1] = 0;
	assert_int_equal(pki_request(w->key, name, &request, &e), 0);
	assert_int_equal(pki_sign(w->ca, w->ca_key, request, 60, &cert, &e), 0);
	assert_int_equal(pki_look(w->ca, cert, w->key, name, &from, &until, &e), 0);
	assert_int_equal(pki_request(w->key, "not a name", &request, &e), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(a_signed_certificate_is_the_hosts, make, drop),
	        cmocka_unit_test_setup_teardown(another_key_or_authority_is_not_taken, make, drop),
	        cmocka_unit_test_setup_teardown(an_expired_certificate_says_so, make, drop),
	        cmocka_unit_test_setup_teardown(a_certificate_ends_with_its_authority, make, drop),
	        cmocka_unit_test_setup_teardown(a_hosts_certificate_signs_nothing, make, drop),
	        cmocka_unit_test(a_request_for_anything_but_one_name_is_refused),
	        cmocka_unit_test_setup_teardown(a_request_that_was_changed_is_refused, make, drop),
	        cmocka_unit_test_setup_teardown(a_long_nodes_name_is_fine, make, drop),
	};
	return cmocka_run_group_tests_name("pki", tests, NULL, NULL);
}
