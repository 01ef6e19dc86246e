#include "test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/scope.h"
#include "kube/migration.h"

static int parse(const char *text, struct gw_kube_config *c, struct gw_err *e)
{
	*e = (struct gw_err){0};
	return gw_kube_config_parse(text, strlen(text), c, e);
}

#define KUBECONFIG(server)                                                                                             \
	"{\"current-context\":\"x\",\"contexts\":[{\"name\":\"w\",\"context\":{}},{\"name\":\"x\",\"context\":{"       \
	"\"cluster\":\"k\","                                                                                           \
	"\"user\":\"u\",\"namespace\":\"n\"}}],\"clusters\":[{\"name\":\"k\",\"cluster\":{\"server\":\"" server        \
	"\",\"certificate-authority-data\":\"Q0E=\"}}],\"users\":[{\"name\":\"u\",\"user\":{\"client-certificate-"     \
	"data\":"                                                                                                      \
	"\"Q0VSVA==\",\"client-key-data\":\"S0VZ\",\"token\":\"t\"}}]}"

static void a_kubeconfig_gives_its_current_context(void **state)
{
	(void)state;
	struct gw_kube_config c;
	struct gw_err e;
	assert_int_equal(parse(KUBECONFIG("https://10.0.0.1:6443"), &c, &e), 0);
	assert_string_equal(c.server, "https://10.0.0.1:6443");
	assert_string_equal(c.namespace, "n");
	assert_string_equal(c.ca, "CA");
	assert_string_equal(c.cert, "CERT");
	assert_string_equal(c.key, "KEY");
	assert_string_equal(c.token, "t");
	gw_kube_config_done(&c);
}

static void a_server_without_tls_is_refused(void **state)
{
	(void)state;
	struct gw_kube_config c;
	struct gw_err e;
	assert_true(parse(KUBECONFIG("http://10.0.0.1:8080"), &c, &e) < 0);
	assert_non_null(strstr(e.text, "https://"));
}

static void broken_kubeconfigs_are_refused_with_words(void **state)
{
	(void)state;
	static const char *const bad[] = {"", "{", "[]", "{\"current-context\":\"y\"}", "{\"current-context\":3}"};
	struct gw_kube_config c;
	struct gw_err e;
	for (size_t i = 0; i < gw_countof(bad); i++) {
		assert_true(parse(bad[i], &c, &e) < 0);
		assert_true(e.text[0] != 0);
	}
}

static void take(const char *text, struct gw_migration *m)
{
	gw_auto(jdoc) yyjson_doc *doc = yyjson_read(text, strlen(text), 0);
	assert_non_null(doc);
	gw_migration_parse(yyjson_doc_get_root(doc), m);
}

static void a_migration_is_read_as_it_is_written(void **state)
{
	(void)state;
	struct gw_migration m;
	take("{\"metadata\":{\"namespace\":\"ns\",\"name\":\"m\",\"uid\":\"u\",\"finalizers\":[\"x\",\"godwit.dev/"
	     "migration\"]},"
	     "\"spec\":{\"podName\":\"p\",\"to\":\"b\",\"cancel\":true,\"fallback\":\"Evict\",\"options\":{"
	     "\"maxFreezeMs\":50,\"zstd\":true}},"
	     "\"status\":{\"phase\":\"Committed\",\"network\":\"{}\",\"method\":\"Clone\",\"source\":{\"node\":\"a\","
	     "\"gone\":true,"
	     "\"containers\":[{\"name\":\"n\",\"id\":\"c1\"},{\"name\":\"o\",\"id\":\"c2\"}]},\"target\":{\"node\":"
	     "\"b\",\"podUID\":\"t\"}}}",
	     &m);
	assert_string_equal(m.pod, "p");
	assert_string_equal(m.to, "b");
	assert_true(m.cancel && m.fallback_evict && m.finalized && !m.deleting && m.source_gone && m.checked && m.zstd);
	assert_int_equal(m.max_freeze_ms, 50);
	assert_int_equal(m.ncontainers, 2);
	assert_string_equal(m.containers[0].id, "c1");
	assert_string_equal(m.containers[1].name, "o");
	assert_string_equal(m.target_uid, "t");
	assert_true(gw_migration_committed(&m));
	assert_false(gw_migration_over(&m));
}

static void wrong_types_are_as_good_as_missing(void **state)
{
	(void)state;
	struct gw_migration m;
	take("{\"metadata\":[],\"spec\":{\"podName\":7,\"cancel\":\"yes\",\"options\":[]},\"status\":\"x\"}", &m);
	assert_string_equal(m.pod, "");
	assert_false(m.cancel);
	assert_string_equal(m.phase, "");
	take("null", &m);
	assert_string_equal(m.name, "");
}

static void the_servers_words_and_codes_arrive(void **state)
{
	(void)state;
	static const struct {
		long http;
		const char *status, *code;
		int err;
	} t[] = {{404, "{\"message\":\"no such\"}", "NotFound", ENOENT},
	         {409, "{\"reason\":\"AlreadyExists\"}", "AlreadyExists", EEXIST},
	         {409, "{\"reason\":\"Conflict\"}", "Conflict", ESTALE},
	         {410, "{}", "Gone", EKEYEXPIRED},
	         {429, "{}", "TooManyRequests", EBUSY},
	         {0, "{\"code\":403,\"message\":\"not you\"}", "Forbidden", EACCES},
	         {503, "{}", "ApiError", EIO}};
	for (size_t i = 0; i < gw_countof(t); i++) {
		struct gw_err e = {0};
		gw_auto(jdoc) yyjson_doc *doc = yyjson_read(t[i].status, strlen(t[i].status), 0);
		assert_int_equal(gw_kube_fail(&e, t[i].http, yyjson_doc_get_root(doc), "GET /x"), -t[i].err);
		assert_string_equal(e.code, t[i].code);
		assert_int_equal(e.err, t[i].err);
	}
}

static void times_are_read(void **state)
{
	(void)state;
	char now[32];
	assert_int_equal(gw_k8s_time("1970-01-02T00:00:01Z"), 86401);
	assert_int_equal(gw_k8s_time("yesterday"), 0);
	gw_k8s_now(now);
	assert_true(gw_k8s_time(now) > 1700000000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(a_kubeconfig_gives_its_current_context),
	        cmocka_unit_test(a_server_without_tls_is_refused),
	        cmocka_unit_test(broken_kubeconfigs_are_refused_with_words),
	        cmocka_unit_test(a_migration_is_read_as_it_is_written),
	        cmocka_unit_test(wrong_types_are_as_good_as_missing),
	        cmocka_unit_test(the_servers_words_and_codes_arrive),
	        cmocka_unit_test(times_are_read),
	};
	return cmocka_run_group_tests_name("kube", tests, NULL, NULL);
}
