#include "test.h"

#include <stdlib.h>
#include <string.h>

#include "base/scope.h"
#include "ctrl/certs.h"
#include "pki/pki.h"

static char *request, *other;

static int make(void **state)
{
	(void)state;
	struct gw_err e;
	gw_auto(pem) char *key = NULL;
	assert_int_equal(pki_key_new(&key, &e), 0);
	assert_int_equal(pki_request(key, "node-a", &request, &e), 0);
	assert_int_equal(pki_request(key, "node-b", &other, &e), 0);
	return 0;
}

static int drop(void **state)
{
	(void)state;
	free(request);
	free(other);
	return 0;
}

#define WHO   "\"username\":\"system:serviceaccount:godwit-system:godwitd\""
#define NODE  "\"authentication.kubernetes.io/node-name\":[\"node-a\"]"
#define POD   "\"authentication.kubernetes.io/pod-name\":[\"godwitd-x\"]"
#define USAGE "\"usages\":[\"digital signature\",\"client auth\",\"server auth\"]"

static bool judge(const char *spec, const char *text, const char *words)
{
	char why[500] = "", json[1000];
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	struct gw_err e;
	(void)snprintf(json, sizeof(json), "{\"spec\":{%s}}", spec);
	assert_int_equal(gw_json_parse(json, strlen(json), "csr", &doc, &e), 0);
	bool ok = ctrl_certs_judge(yyjson_doc_get_root(doc), text, "godwit-system", why, sizeof(why));
	if (!ok && !strstr(why, words))
		fail_msg("'%s' is not in '%s'", words, why);
	return ok;
}

static void godwitd_gets_a_certificate_for_the_node_that_it_is_on(void **state)
{
	(void)state;
	assert_true(judge(WHO "," USAGE ",\"extra\":{" NODE "," POD "}", request, ""));
}

static void it_gets_none_for_another_node(void **state)
{
	(void)state;
	assert_false(judge(WHO "," USAGE ",\"extra\":{" NODE "," POD "}", other,
	                   "for node-b, and asked for from node node-a"));
}

static void nobody_else_gets_one(void **state)
{
	(void)state;
	assert_false(
	        judge("\"username\":\"admin\"," USAGE ",\"extra\":{" NODE "," POD "}", request, "asked for by admin"));
	assert_false(judge("\"username\":\"system:serviceaccount:default:godwitd\"," USAGE ",\"extra\":{" NODE "," POD
	                   "}",
	                   request, "system:serviceaccount:default:godwitd"));
	assert_false(judge(USAGE ",\"extra\":{" NODE "," POD "}", request, "asked for by"));
}

static void a_token_that_is_not_bound_to_a_pod_on_a_node_is_not_enough(void **state)
{
	(void)state;
	static const char *const extras[] = {"", NODE, POD,
	                                     "\"authentication.kubernetes.io/node-name\":[\"node-a\",\"node-b\"]," POD,
	                                     "\"authentication.kubernetes.io/node-name\":\"node-a\"," POD};
	for (size_t i = 0; i < gw_countof(extras); i++) {
		char spec[700];
		(void)snprintf(spec, sizeof(spec), WHO "," USAGE ",\"extra\":{%s}", extras[i]);
		assert_false(judge(spec, request, "not bound to a pod"));
	}
}

static void other_uses_and_unreadable_requests_are_refused(void **state)
{
	(void)state;
	assert_false(judge(WHO ",\"usages\":[\"cert sign\"],\"extra\":{" NODE "," POD "}", request, "client auth"));
	assert_false(judge(WHO "," USAGE ",\"extra\":{" NODE "," POD "}", "", "no certificate signing request"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(godwitd_gets_a_certificate_for_the_node_that_it_is_on),
	        cmocka_unit_test(it_gets_none_for_another_node),
	        cmocka_unit_test(nobody_else_gets_one),
	        cmocka_unit_test(a_token_that_is_not_bound_to_a_pod_on_a_node_is_not_enough),
	        cmocka_unit_test(other_uses_and_unreadable_requests_are_refused),
	};
	return cmocka_run_group_tests_name("certs", tests, make, drop);
}
