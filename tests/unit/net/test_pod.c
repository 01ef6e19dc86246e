#include "test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lab.h"
#include "net/pod.h"

static void an_address_survives_text_and_back(void **state)
{
	(void)state;
	static const char *const texts[] = {"10.88.0.5/32", "0.0.0.0/0", "fd88::5/128", "::/0", "192.168.1.7/24"};
	for (size_t i = 0; i < gw_countof(texts); i++) {
		struct gw_addr a;
		char t[64];
		assert_int_equal(gw_addr_parse(texts[i], &a), 0);
		assert_string_equal(gw_addr_text(&a, t, sizeof(t)), texts[i]);
	}
}

static void an_address_without_a_prefix_is_a_whole_one(void **state)
{
	(void)state;
	struct gw_addr a;
	char t[64];
	assert_int_equal(gw_addr_parse("10.88.0.5", &a), 0);
	assert_string_equal(gw_addr_text(&a, t, sizeof(t)), "10.88.0.5/32");
	assert_int_equal(gw_addr_parse("fd88::5", &a), 0);
	assert_string_equal(gw_addr_text(&a, t, sizeof(t)), "fd88::5/128");
}

static void text_that_is_no_address_is_refused(void **state)
{
	(void)state;
	static const char *const texts[] = {"",
	                                    "10.88.0",
	                                    "10.88.0.5/33",
	                                    "10.88.0.5/",
	                                    "10.88.0.5/-1",
	                                    "/24",
	                                    "fd88::5/129",
	                                    "fd88::5/1x",
	                                    "::g",
	                                    "10.88.0.5 ",
	                                    "1.2.3.4/00000000008",
	                                    "fd88:0000:0000:0000:0000:0000:0000:0000:0000:0005"};
	for (size_t i = 0; i < gw_countof(texts); i++) {
		struct gw_addr a = {.family = 77};
		assert_int_equal(gw_addr_parse(texts[i], &a), -EINVAL);
		assert_int_equal(a.family, 77);
	}
}

static const char good[] =
        "{\"ifname\":\"eth0\",\"mac\":\"02:00:00:00:00:05\",\"hostIfname\":\"v-pA\",\"hostMac\":\"ee:ee:ee:ee:ee:ee\","
        "\"mtu\":1450,\"addrs\":[\"10.88.0.5/32\",\"fd88::5/128\"],\"routes\":[{\"dst\":\"0.0.0.0/0\",\"via\":"
        "\"169.254.1.1\"},{\"dst\":\"169.254.1.1/32\"},{\"dst\":\"::/0\",\"via\":\"fe80::1\",\"onlink\":true}],"
        "\"gateways\":[\"169.254.1.1/32\",\"fe80::1/128\"]}";

static int from_text(const char *text, struct gw_pod *out, struct gw_err *e)
{
	gw_auto(jdoc) yyjson_doc *d = NULL;
	assert_int_equal(gw_json_parse(text, strlen(text), "test", &d, NULL), 0);
	return gw_pod_from_json(yyjson_doc_get_root(d), out, e);
}

static char *to_text(const struct gw_pod *p)
{
	gw_auto(jmut) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *o = yyjson_mut_obj(d);
	yyjson_mut_doc_set_root(d, o);
	gw_pod_to_json(p, d, o);
	return gw_json_text(d, NULL);
}

static void a_pod_survives_json_and_back(void **state)
{
	(void)state;
	struct gw_pod p, q;
	struct gw_err e = {0};
	assert_int_equal(from_text(good, &p, &e), 0);
	assert_int_equal(p.naddrs, 2);
	assert_int_equal(p.nroutes, 3);
	assert_true(p.routes[2].onlink && p.routes[2].has_gateway && !p.routes[1].has_gateway);
	assert_int_equal(p.mac[5], 5);
	gw_auto(mem) char *text = to_text(&p);
	assert_int_equal(from_text(text, &q, &e), 0);
	assert_memory_equal(&p, &q, sizeof(p));
}

/* Each: what to replace in the good one, by what. */
static const struct {
	const char *old, *new, *words;
} bad[] = {
        {"\"eth0\"", "\"\"", "ifname"},
        {"\"eth0\"", "7", "ifname"},
        {"\"eth0\"", "\"..\"", "ifname"},
        {"\"eth0\"", "\"a/b\"", "ifname"},
        {"\"eth0\"", "\"a b\"", "ifname"},
        {"\"eth0\"", "\"lo\"", "loopback"},
        {"\"eth0\"", "\"sixteen-letters-\"", "ifname"},
        {"\"v-pA\"", "\"x:1\"", "hostIfname"},
        {"\"02:00:00:00:00:05\"", "\"02:00:00:00:00\"", "mac"},
        {"\"02:00:00:00:00:05\"", "\"03:00:00:00:00:05\"", "mac"},
        {"\"02:00:00:00:00:05\"", "\"02:00:00:00:00: 5\"", "mac"},
        {"\"02:00:00:00:00:05\"", "\"00:00:00:00:00:00\"", "mac"},
        {"\"ee:ee:ee:ee:ee:ee\"", "null", "hostMac"},
        {"1450", "1279", "mtu"}, /* too small for IPv6 */
        {"1450", "65536", "mtu"},
        {"1450", "-1", "mtu"},
        {"[\"10.88.0.5/32\",\"fd88::5/128\"]", "[]", "empty"},
        {"[\"10.88.0.5/32\",\"fd88::5/128\"]", "\"10.88.0.5\"", "addrs"},
        {"\"10.88.0.5/32\"", "\"127.0.0.1/8\"", "no pod can have"},
        {"\"10.88.0.5/32\"", "\"0.0.0.0/0\"", "no pod can have"},
        {"\"10.88.0.5/32\"", "\"224.0.0.1/32\"", "no pod can have"},
        {"\"10.88.0.5/32\"", "\"169.254.3.3/32\"", "no pod can have"},
        {"\"fd88::5/128\"", "\"::1/128\"", "no pod can have"},
        {"\"fd88::5/128\"", "\"::ffff:10.0.0.1/128\"", "no pod can have"},
        {"\"fd88::5/128\"", "\"fe80::7/128\"", "no pod can have"},
        {"\"fd88::5/128\"", "\"ff02::1/128\"", "no pod can have"},
        {"\"fd88::5/128\"", "\"10.88.0.5/24\"", "twice"},
        {"\"fd88::5/128\"", "5", "no address"},
        {"\"10.88.0.5/32\"",
         "\"1.0.0.1\",\"1.0.0.2\",\"1.0.0.3\",\"1.0.0.4\",\"1.0.0.5\",\"1.0.0.6\",\"1.0.0.7\",\"1.0.0.8\"", "too many"},
        {"\"0.0.0.0/0\"", "\"0.0.0.1/0\"", "no range"},
        {"\"0.0.0.0/0\"", "\"x\"", "no range"},
        {"\"via\":\"169.254.1.1\"", "\"via\":7", "gateway"},
        {"\"via\":\"169.254.1.1\"", "\"via\":\"fe80::1\"", "gateway"},
        {"\"via\":\"169.254.1.1\"", "\"via\":\"169.254.1.1/24\"", "gateway"},
        {"{\"dst\":\"169.254.1.1/32\"}", "7", "no range"},
        {"\"169.254.1.1/32\",\"fe80", "\"169.254.1.0/24\",\"fe80", "range instead"},
        {"\"gateways\"", "\"gatewayz\"", "gateways"},
        {"\"routes\"", "\"routez\"", "routes"},
};

static void json_of_a_peer_is_refused_with_the_key_that_is_wrong(void **state)
{
	(void)state;
	for (size_t i = 0; i < gw_countof(bad); i++) {
		char text[2048];
		const char *at = strstr(good, bad[i].old);
		assert_non_null(at);
		(void)snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - good), good, bad[i].new,
		               at + strlen(bad[i].old));
		struct gw_pod p = {.mtu = 12345};
		struct gw_err e = {0};
		if (from_text(text, &p, &e) >= 0)
			fail_msg("accepted: %s", text);
		assert_int_equal(e.class, GW_PEER);
		if (!strstr(e.text, bad[i].words))
			fail_msg("\"%s\" does not say \"%s\"", e.text, bad[i].words);
		assert_int_equal(p.mtu, 12345);
	}
}

static void more_routes_than_fit_are_refused(void **state)
{
	(void)state;
	char text[4096] = "{\"ifname\":\"eth0\",\"mac\":\"02:00:00:00:00:05\",\"hostIfname\":\"v\",\"hostMac\":"
	                  "\"ee:ee:ee:ee:ee:ee\",\"mtu\":1450,\"addrs\":[\"10.88.0.5\"],\"gateways\":[],\"routes\":[";
	for (int i = 0; i <= GW_POD_ROUTES_MAX; i++)
		(void)strcat(text, i ? ",{\"dst\":\"10.0.0.0/8\"}" : "{\"dst\":\"10.0.0.0/8\"}");
	(void)strcat(text, "]}");
	struct gw_pod p;
	struct gw_err e = {0};
	assert_true(from_text(text, &p, &e) < 0);
	assert_non_null(strstr(e.text, "too many"));
}

static void inspecting_a_routed_pod_finds_all_of_it(void **state)
{
	(void)state;
	struct gw_pod p, q;
	struct gw_err e = {0};
	if (gw_pod_inspect("/run/netns/pA", &p, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(from_text(good, &q, &e), 0);
	assert_string_equal(p.ifname, "eth0");
	assert_string_equal(p.host_ifname, "v-pA");
	assert_int_equal(p.mtu, 1450);
	assert_memory_equal(p.mac, q.mac, 6);
	assert_memory_equal(p.host_mac, q.host_mac, 6);
	assert_int_equal(p.naddrs, 2);
	assert_memory_equal(p.addrs, q.addrs, sizeof(p.addrs));
	assert_int_equal(p.nroutes, 3);
	assert_int_equal(p.ngateways, 2);
	assert_memory_equal(p.gateways, q.gateways, sizeof(p.gateways));
	/* What a source says, a destination must take. */
	gw_auto(mem) char *text = to_text(&p);
	if (from_text(text, &q, &e) < 0)
		fail_msg("%s: %s", e.text, text);
	assert_memory_equal(&p, &q, sizeof(p));
}

static void expect_code(const char *path, const char *code)
{
	struct gw_pod p = {.mtu = 12345};
	struct gw_err e = {0};
	assert_true(gw_pod_inspect(path, &p, &e) < 0);
	assert_int_equal(e.class, GW_INPUT);
	if (strcmp(e.code, code) != 0)
		fail_msg("code \"%s\" (%s) instead of \"%s\"", e.code, e.text, code);
	assert_int_equal(p.mtu, 12345);
}

static void the_hosts_own_network_is_refused(void **state)
{
	(void)state;
	expect_code("/proc/thread-self/ns/net", "HostNetwork");
	expect_code("/run/netns/hA", "HostNetwork");
}

static void a_pod_without_an_address_is_refused(void **state)
{
	(void)state;
	lab_sh("ip -n pA addr flush dev eth0 scope global");
	expect_code("/run/netns/pA", "NoAddress");
	lab_sh("ip -n pA link set eth0 down");
	expect_code("/run/netns/pA", "NoAddress");
}

static void a_pod_of_two_interfaces_is_refused_but_not_for_one_that_is_down(void **state)
{
	(void)state;
	struct gw_pod p;
	lab_sh("ip -n pA link add other type veth peer name x netns hA");
	assert_int_equal(gw_pod_inspect("/run/netns/pA", &p, NULL), 0);
	lab_sh("ip -n pA link set other up");
	expect_code("/run/netns/pA", "ManyInterfaces");
}

static void a_macvlan_is_refused(void **state)
{
	(void)state;
	lab_sh("ip -n pA link del eth0 && ip -n hA link add m0 link eth0 type macvlan && "
	       "ip -n hA link set m0 netns pA name eth0 && ip -n pA addr add 10.88.0.5/32 dev eth0 && "
	       "ip -n pA link set eth0 up");
	expect_code("/run/netns/pA", "NotVeth");
}

static void a_bridged_pod_is_refused(void **state)
{
	(void)state;
	lab_sh("ip -n hA link add br7 type bridge && ip -n hA link set v-pA master br7");
	expect_code("/run/netns/pA", "NotRouted");
}

static void a_pod_behind_another_host_is_refused(void **state)
{
	(void)state;
	lab_enter("hB");
	expect_code("/run/netns/pA", "NotRouted");
}

static void a_route_of_several_next_hops_is_refused(void **state)
{
	(void)state;
	lab_sh("ip -n pA route add 10.7.0.0/16 nexthop via 169.254.1.1 dev eth0 nexthop via 169.254.1.1 dev eth0 "
	       "weight 2");
	expect_code("/run/netns/pA", "OddRoute");
}

static void more_addresses_or_routes_than_fit_are_refused(void **state)
{
	(void)state;
	lab_sh("for i in $(seq 20); do ip -n pA route add 10.7.$i.0/24 via 169.254.1.1; done");
	expect_code("/run/netns/pA", "ManyRoutes");
	lab_sh("for i in $(seq 8); do ip -n pA addr add 10.88.1.$i/32 dev eth0; done");
	expect_code("/run/netns/pA", "ManyAddresses");
}

static void a_path_that_is_no_network_namespace_is_refused(void **state)
{
	(void)state;
	struct gw_pod p;
	struct gw_err e = {0};
	assert_int_equal(gw_pod_inspect("/run/netns/nothing", &p, &e), -ENOENT);
	assert_int_equal(gw_pod_inspect("/proc/self/ns/uts", &p, &e), -EINVAL);
	assert_int_equal(gw_pod_inspect("/etc/passwd", &p, &e), -EINVAL);
	assert_non_null(strstr(e.text, "is not a network namespace"));
}

static void inspecting_leaves_the_caller_where_it_is(void **state)
{
	(void)state;
	struct gw_pod p;
	char before[64] = {0}, after[64] = {0};
	assert_true(readlink("/proc/thread-self/ns/net", before, sizeof(before) - 1) > 0);
	assert_int_equal(gw_pod_inspect("/run/netns/pA", &p, NULL), 0);
	assert_true(readlink("/proc/thread-self/ns/net", after, sizeof(after) - 1) > 0);
	assert_string_equal(before, after);
}

#define WITH_LAB(f) cmocka_unit_test_setup_teardown(f, lab_with_pod, lab_end)

static int tests(void)
{
	const struct CMUnitTest list[] = {
	        cmocka_unit_test(an_address_survives_text_and_back),
	        cmocka_unit_test(an_address_without_a_prefix_is_a_whole_one),
	        cmocka_unit_test(text_that_is_no_address_is_refused),
	        cmocka_unit_test(a_pod_survives_json_and_back),
	        cmocka_unit_test(json_of_a_peer_is_refused_with_the_key_that_is_wrong),
	        cmocka_unit_test(more_routes_than_fit_are_refused),
	        WITH_LAB(inspecting_a_routed_pod_finds_all_of_it),
	        WITH_LAB(the_hosts_own_network_is_refused),
	        WITH_LAB(a_pod_without_an_address_is_refused),
	        WITH_LAB(a_pod_of_two_interfaces_is_refused_but_not_for_one_that_is_down),
	        WITH_LAB(a_macvlan_is_refused),
	        WITH_LAB(a_bridged_pod_is_refused),
	        WITH_LAB(a_pod_behind_another_host_is_refused),
	        WITH_LAB(a_route_of_several_next_hops_is_refused),
	        WITH_LAB(more_addresses_or_routes_than_fit_are_refused),
	        WITH_LAB(a_path_that_is_no_network_namespace_is_refused),
	        WITH_LAB(inspecting_leaves_the_caller_where_it_is),
	};
	return cmocka_run_group_tests_name("net/pod", list, NULL, NULL);
}

int main(void)
{
	_exit(lab_run(tests)); /* its children's pid namespace is dead: no leak check can start */
}
