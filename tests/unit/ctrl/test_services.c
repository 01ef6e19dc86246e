#include "test.h"

#include <stdio.h>
#include <string.h>

#include "base/scope.h"
#include "ctrl/leases.h"
#include "ctrl/services.h"

static yyjson_doc *parsed(const char *json)
{
	yyjson_doc *doc = yyjson_read(json, strlen(json), 0);
	assert_non_null(doc);
	return doc;
}

static const char *selected(const char *selector, const char *labels)
{
	static char key[64];
	gw_auto(jdoc) yyjson_doc *s = parsed(selector);
	gw_auto(jdoc) yyjson_doc *l = parsed(labels);
	const char *k = ctrl_selected_by(yyjson_doc_get_root(s), yyjson_doc_get_root(l));
	(void)snprintf(key, sizeof(key), "%s", k ?: "");
	return key;
}

static void a_selector_selects_when_all_of_it_is_there(void **state)
{
	(void)state;
	assert_string_equal(selected("{\"app\":\"web\"}", "{\"app\":\"web\",\"x\":\"1\"}"), "app");
	assert_string_equal(selected("{\"tier\":\"f\",\"app\":\"web\"}", "{\"app\":\"web\",\"tier\":\"f\"}"), "tier");
	assert_string_equal(selected("{\"tier\":\"f\",\"app\":\"web\"}", "{\"app\":\"web\"}"), "");
	assert_string_equal(selected("{\"app\":\"web\"}", "{\"app\":\"db\"}"), "");
	/* A Service without a selector has endpoints that others make. */
	assert_string_equal(selected("{}", "{\"app\":\"web\"}"), "");
	assert_string_equal(selected("null", "{\"app\":\"web\"}"), "");
}

#define SLICE(conditions, uid)                                                                                         \
	"{\"metadata\":{\"name\":\"db-abc\",\"labels\":{\"kubernetes.io/service-name\":\"db\","                        \
	"\"endpointslice.kubernetes.io/managed-by\":\"endpointslice-controller.k8s.io\"}},\"addressType\":\"IPv4\","   \
	"\"ports\":[{\"name\":\"\",\"port\":6379}],\"endpoints\":[{\"addresses\":[\"10.0.0.9\"],\"targetRef\":{"       \
	"\"uid\":\"other\"}},{\"addresses\":[\"10.0.0.1\"],\"conditions\":" conditions                                 \
	",\"targetRef\":{\"uid\":\"" uid "\",\"name\":\"db-0\"}}]}"

static char *mirror(const char *slice)
{
	const struct gw_migration m = {
	        .namespace = "ns", .name = "mig", .uid = "12345678-9", .source_uid = "s", .pod = "db-0"};
	gw_auto(jdoc) yyjson_doc *doc = parsed(slice);
	gw_auto(jmut) yyjson_mut_doc *made = ctrl_mirror_of(&m, yyjson_doc_get_root(doc));
	return made ? gw_json_text(made, NULL) : NULL;
}

static void a_mirror_has_the_sources_endpoint_and_no_other(void **state)
{
	(void)state;
	gw_auto(mem) char *t = mirror(SLICE("{\"ready\":true}", "s"));
	assert_non_null(t);
	assert_non_null(strstr(t, "\"name\":\"db-abc-12345\""));
	assert_non_null(strstr(t, "\"kubernetes.io/service-name\":\"db\""));
	assert_non_null(strstr(t, "\"endpointslice.kubernetes.io/managed-by\":\"godwit.dev\""));
	assert_null(strstr(t, "endpointslice-controller"));
	assert_non_null(strstr(t, "10.0.0.1"));
	assert_null(strstr(t, "10.0.0.9"));
	assert_non_null(strstr(t, "\"port\":6379"));
	assert_non_null(strstr(t, "\"kind\":\"Migration\""));
}

static void what_is_not_ready_is_not_made_so(void **state)
{
	(void)state;
	assert_null(mirror(SLICE("{\"ready\":false}", "s")));
	assert_null(mirror(SLICE("{\"ready\":true}", "t")));
	assert_null(mirror("{\"metadata\":{},\"endpoints\":[{\"targetRef\":{\"uid\":\"s\"}}]}"));
}

static void an_address_is_at_home_in_its_nodes_range_only(void **state)
{
	(void)state;
	assert_true(ctrl_in_range("10.244.1.5", "10.244.1.0/24"));
	assert_false(ctrl_in_range("10.244.2.5", "10.244.1.0/24"));
	assert_true(ctrl_in_range("10.244.1.130", "10.244.1.128/25"));
	assert_false(ctrl_in_range("10.244.1.127", "10.244.1.128/25"));
	assert_true(ctrl_in_range("10.244.1.5", "10.244.1.5/32"));
	assert_true(ctrl_in_range("fd44:0:0:1::5", "fd44:0:0:1::/64"));
	assert_false(ctrl_in_range("fd44:0:0:2::5", "fd44:0:0:1::/64"));
	static const char *const bad[] = {"", "10.244.1.0", "10.244.1.0/33", "10.244.1.0/x", "fd44::/64", "/24"};
	for (size_t i = 0; i < gw_countof(bad); i++)
		assert_false(ctrl_in_range("10.244.1.5", bad[i]));
}

static void a_lease_is_written_as_it_is_read(void **state)
{
	(void)state;
	struct gw_address_lease l = {.address = "fd44::1:5",
	                             .node = "node-b",
	                             .node_addresses = "10.9.0.3,fd09::3",
	                             .namespace = "ns",
	                             .pod = "p",
	                             .pod_uid = "u"},
	                        back;
	gw_address_lease_name(l.address, l.name);
	assert_string_equal(l.name, "fd44--1-5");
	gw_auto(jmut) yyjson_mut_doc *doc = gw_address_lease_doc(&l);
	gw_auto(mem) char *text = gw_json_text(doc, NULL);
	gw_auto(jdoc) yyjson_doc *parsed_doc = parsed(text);
	assert_int_equal(gw_address_lease_parse(yyjson_doc_get_root(parsed_doc), &back), 0);
	assert_memory_equal(&l, &back, sizeof(l));
	gw_auto(jdoc) yyjson_doc *empty = parsed("{\"spec\":{\"address\":\"10.0.0.1\"}}");
	assert_true(gw_address_lease_parse(yyjson_doc_get_root(empty), &back) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(a_selector_selects_when_all_of_it_is_there),
	        cmocka_unit_test(a_mirror_has_the_sources_endpoint_and_no_other),
	        cmocka_unit_test(what_is_not_ready_is_not_made_so),
	        cmocka_unit_test(an_address_is_at_home_in_its_nodes_range_only),
	        cmocka_unit_test(a_lease_is_written_as_it_is_read),
	};
	return cmocka_run_group_tests_name("ctrl/services", tests, NULL, NULL);
}
