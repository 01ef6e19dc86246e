#include "test.h"

#include <stdlib.h>
#include <string.h>

#include "cni/config.h"
#include "cni/result.h"

static struct gw_err e;

static int parse(const char *text, enum gw_cni_command command, struct gw_cni_conf *c)
{
	e = (struct gw_err){0};
	return gw_cni_conf_parse(text, strlen(text), command, c, &e);
}

static void refused(const char *text, enum gw_cni_command command, int code, const char *words)
{
	struct gw_cni_conf c = {0};
	if (parse(text, command, &c) == 0)
		fail_msg("taken: %s", text);
	if (gw_cni_code(e.code) != code || !strstr(e.text, words))
		fail_msg("%s: %d \"%s\" instead of %d \"%s\"", text, gw_cni_code(e.code), e.text, code, words);
}

#define HEAD "{\"cniVersion\":\"1.0.0\",\"name\":\"n\","

static void a_whole_configuration_is_understood(void **state)
{
	(void)state;
	gw_auto(cni_conf) struct gw_cni_conf c = {0};
	assert_int_equal(parse(HEAD "\"ranges\":[\"10.1.2.0/24\",\"fd44:0:0:1::/64\"],\"mtu\":1400,\"uplink\":\"eth9\","
	                            "\"dataDir\":\"/x/y\",\"dns\":{\"nameservers\":[\"10.0.0.1\"]}}",
	                       GW_CNI_ADD, &c),
	                 0);
	assert_string_equal(c.version, "1.0.0");
	assert_string_equal(c.data_dir, "/x/y");
	assert_string_equal(c.uplink, "eth9");
	assert_int_equal(c.mtu, 1400);
	assert_int_equal(c.nranges, 2);
	assert_int_equal(c.ranges[1].prefix, 64);
	assert_non_null(c.dns);
	assert_null(c.migration);
}

static void what_is_not_json_says_so(void **state)
{
	(void)state;
	refused("", GW_CNI_ADD, 6, "JSON");
	refused("{", GW_CNI_ADD, 6, "at byte");
	refused("[]", GW_CNI_ADD, 6, "no JSON object");
	refused("null", GW_CNI_VERSION, 6, "no JSON object");
}

static void versions_that_are_not_known_are_refused(void **state)
{
	(void)state;
	refused("{\"name\":\"n\"}", GW_CNI_ADD, 1, "0.1.0");
	refused("{\"cniVersion\":\"2.0.0\",\"name\":\"n\"}", GW_CNI_DEL, 1, "2.0.0");
	refused("{\"cniVersion\":1,\"name\":\"n\"}", GW_CNI_DEL, 1, "is not known");
	refused(HEAD "\"cni.dev/valid-attachments\":[]}", GW_CNI_GC, 1, "1.1.0 has");
	refused(HEAD "\"ranges\":[\"10.0.0.0/24\"]}", GW_CNI_STATUS, 1, "no STATUS");
}

static void every_wrong_value_is_named(void **state)
{
	(void)state;
	refused("{\"cniVersion\":\"1.0.0\"}", GW_CNI_DEL, 7, "\"name\"");
	refused("{\"cniVersion\":\"1.0.0\",\"name\":\"../x\"}", GW_CNI_DEL, 7, "\"name\"");
	refused(HEAD "\"dataDir\":\"x\"}", GW_CNI_DEL, 7, "\"dataDir\"");
	refused(HEAD "\"dataDir\":7}", GW_CNI_DEL, 7, "\"dataDir\"");
	refused(HEAD "\"x\":1}", GW_CNI_ADD, 7, "\"ranges\" is missing");
	static const char *const ranges[] = {
	        "\"10.0.0.0/24\"",
	        "[7]",
	        "[\"10.0.0.0\"]",
	        "[\"10.0.0.1/24\"]",
	        "[\"10.0.0.0/33\"]",
	        "[\"127.0.0.0/24\"]",
	        "[\"0.0.0.0/0\"]",
	        "[\"224.0.0.0/24\"]",
	        "[\"fe80::/64\"]",
	        "[\"::/64\"]",
	        "[\"10.0.0.0/24\",\"10.0.0.0/16\"]",
	        "[\"1.0.0.0/9\",\"2.0.0.0/9\",\"3.0.0.0/9\",\"4.0.0.0/9\",\"5.0.0.0/9\","
	        "\"6.0.0.0/9\",\"7.0.0.0/9\",\"8.0.0.0/9\",\"9.0.0.0/9\"]",
	};
	for (size_t i = 0; i < gw_countof(ranges); i++) {
		char text[512];
		(void)snprintf(text, sizeof(text), HEAD "\"ranges\":%s}", ranges[i]);
		refused(text, GW_CNI_ADD, 7, "\"ranges\"");
	}
	refused(HEAD "\"ranges\":[\"10.0.0.0/24\"],\"mtu\":100}", GW_CNI_ADD, 7, "\"mtu\"");
	refused(HEAD "\"ranges\":[\"10.0.0.0/24\"],\"mtu\":\"x\"}", GW_CNI_ADD, 7, "\"mtu\"");
	refused(HEAD "\"ranges\":[\"fd00::/64\"],\"mtu\":1000}", GW_CNI_ADD, 7, "\"mtu\"");
	refused(HEAD "\"ranges\":[\"10.0.0.0/24\"],\"uplink\":\"a/b\"}", GW_CNI_ADD, 7, "\"uplink\"");
	refused(HEAD "\"ranges\":[\"10.0.0.0/24\"]}", GW_CNI_CHECK, 7, "\"prevResult\"");
	refused("{\"cniVersion\":\"1.1.0\",\"name\":\"n\"}", GW_CNI_GC, 7, "valid-attachments");
}

static void what_would_have_no_effect_is_refused(void **state)
{
	(void)state;
	refused(HEAD "\"ranges\":[\"10.0.0.0/24\"],\"ipam\":{\"type\":\"host-local\"}}", GW_CNI_ADD, 2, "\"ipam\"");
	refused(HEAD "\"ranges\":[\"10.0.0.0/24\"],\"ipMasq\":true}", GW_CNI_ADD, 2, "\"ipMasq\": true");
	refused(HEAD "\"ranges\":[\"10.0.0.0/24\"],\"prevResult\":{\"ips\":[]}}", GW_CNI_ADD, 2, "first plugin");
}

static void taking_away_asks_for_no_more_than_it_needs(void **state)
{
	(void)state;
	gw_auto(cni_conf) struct gw_cni_conf c = {0};
	assert_int_equal(parse(HEAD "\"ranges\":\"nonsense\",\"mtu\":\"x\",\"ipam\":{\"type\":\"y\"}}", GW_CNI_DEL, &c),
	                 0);
	assert_string_equal(c.data_dir, gw_cni_default_data_dir());
}

#define NOTES(migration, network)                                                                                      \
	HEAD "\"runtimeConfig\":{\"io.kubernetes.cri.pod-annotations\":{\"godwit.dev/migration\":" migration network   \
	     "}}}"
#define POD                                                                                                            \
	"{\\\"ifname\\\":\\\"eth0\\\",\\\"mac\\\":\\\"02:00:00:00:00:05\\\",\\\"hostIfname\\\":\\\"v\\\","             \
	"\\\"hostMac\\\":"                                                                                             \
	"\\\"ee:ee:ee:ee:ee:ee\\\",\\\"mtu\\\":1450,\\\"addrs\\\":[\\\"10.9.8.7/"                                      \
	"32\\\"],\\\"routes\\\":[],\\\"gateways\\\":[]}"

static void a_pod_that_moves_in_brings_its_network(void **state)
{
	(void)state;
	gw_auto(cni_conf) struct gw_cni_conf c = {0};
	int rc = parse(NOTES("\"m-1\"", ",\"godwit.dev/network\":\"" POD "\""), GW_CNI_ADD, &c);
	if (rc < 0)
		fail_msg("%s", e.text);
	assert_string_equal(c.migration, "m-1");
	assert_int_equal(c.arriving.addrs[0].bytes[3], 7);
	assert_int_equal(c.arriving.mtu, 1450);
}

static void annotations_that_make_no_sense_are_refused_with_their_key(void **state)
{
	(void)state;
	refused(NOTES("\"m-1\"", ""), GW_CNI_ADD, 105, "godwit.dev/network of migration m-1 is missing");
	refused(NOTES("\"../m\"", ""), GW_CNI_ADD, 105, "no migration's id");
	refused(NOTES("\"m-1\"", ",\"godwit.dev/network\":\"{\""), GW_CNI_ADD, 105, "not JSON");
	refused(NOTES("\"m-1\"", ",\"godwit.dev/network\":\"{}\""), GW_CNI_ADD, 105, "\"ifname\"");
}

static void environment(const char *command, const char *id, const char *netns, const char *ifname)
{
	(void)setenv("CNI_COMMAND", command, 1);
	(void)setenv("CNI_CONTAINERID", id, 1);
	(void)setenv("CNI_NETNS", netns, 1);
	(void)setenv("CNI_IFNAME", ifname, 1);
}

static void a_wrong_environment_is_named(void **state)
{
	(void)state;
	static const struct {
		const char *command, *id, *netns, *ifname, *words;
	} all[] = {
	        {"", "c", "/n", "eth0", "CNI_COMMAND="},
	        {"add", "c", "/n", "eth0", "CNI_COMMAND=add"},
	        {"ADD", "", "/n", "eth0", "CNI_CONTAINERID="},
	        {"ADD", "a/b", "/n", "eth0", "CNI_CONTAINERID=a/b"},
	        {"DEL", "-c", "/n", "eth0", "CNI_CONTAINERID=-c"},
	        {"ADD", "c", "", "eth0", "CNI_NETNS="},
	        {"CHECK", "c", "", "eth0", "CNI_NETNS="},
	        {"ADD", "c", "/n", "", "CNI_IFNAME="},
	        {"ADD", "c", "/n", "lo", "CNI_IFNAME=lo"},
	        {"ADD", "c", "/n", "a:b", "CNI_IFNAME=a:b"},
	        {"ADD", "c", "/n", "0123456789abcdef", "CNI_IFNAME="},
	};
	for (size_t i = 0; i < gw_countof(all); i++) {
		struct gw_cni_env v;
		environment(all[i].command, all[i].id, all[i].netns, all[i].ifname);
		e = (struct gw_err){0};
		assert_true(gw_cni_env_read(&v, &e) < 0);
		assert_int_equal(gw_cni_code(e.code), 4);
		assert_non_null(strstr(e.text, all[i].words));
	}
	struct gw_cni_env v;
	environment("DEL", "c", "", "eth0");
	assert_int_equal(gw_cni_env_read(&v, &e), 0);
	environment("GC", "", "", "");
	assert_int_equal(gw_cni_env_read(&v, &e), 0);
}

static void an_error_that_nobody_numbered_is_a_hundred(void **state)
{
	(void)state;
	struct gw_err why = {0};
	(void)gw_fail(&why, GW_SYS, 12, "caf\xc3\xa9");
	gw_auto(mem) char *text = gw_cni_error_text(NULL, &why);
	assert_non_null(strstr(text, "\"code\":100"));
	assert_non_null(strstr(text, "caf??: Cannot allocate memory"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(a_whole_configuration_is_understood),
	        cmocka_unit_test(what_is_not_json_says_so),
	        cmocka_unit_test(versions_that_are_not_known_are_refused),
	        cmocka_unit_test(every_wrong_value_is_named),
	        cmocka_unit_test(what_would_have_no_effect_is_refused),
	        cmocka_unit_test(taking_away_asks_for_no_more_than_it_needs),
	        cmocka_unit_test(a_pod_that_moves_in_brings_its_network),
	        cmocka_unit_test(annotations_that_make_no_sense_are_refused_with_their_key),
	        cmocka_unit_test(a_wrong_environment_is_named),
	        cmocka_unit_test(an_error_that_nobody_numbered_is_a_hundred),
	};
	return cmocka_run_group_tests_name("cni/config", tests, NULL, NULL);
}
