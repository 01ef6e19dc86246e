#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "plug.h"

static int setup(void **state)
{
	(void)state;
	lab_up();
	return gw_remove_tree(PLUG_DIR, NULL);
}

static struct plug call(const char *command, const char *container)
{
	return (struct plug){.host = "hA", .command = command, .container = container, .netns = container};
}

/* CHECK with what the last ADD answered. */
static struct plug check_of(const char *container)
{
	static char result[8192], more[9000], conf[16384];
	(void)snprintf(result, sizeof(result), "%s", plug_out);
	(void)snprintf(more, sizeof(more), ",\"prevResult\":%s", result);
	(void)snprintf(conf, sizeof(conf), "%s", plug_conf("1.0.0", plug_ranges, more));
	struct plug p = call("CHECK", container);
	p.conf = conf;
	return p;
}

static void a_pod_has_an_address_of_each_family_and_is_reached(void **state)
{
	(void)state;
	assert_string_equal(plug_add("c1"), "10.88.0.1");
	assert_string_equal(plug_ip(AF_INET6), "fd88::1");
	lab_sh("ip netns exec c1 ping -qc1 -W2 10.9.0.2 >/dev/null && ip netns exec c1 ping -qc1 -W2 fd09::2 "
	       ">/dev/null");
	lab_sh("ip -n hC route replace 10.88.0.0/24 via 10.9.0.2 && ip -n hC -6 route replace fd88::/64 via fd09::2");
	lab_sh("ip netns exec hC ping -qc1 -W2 10.88.0.1 >/dev/null && ip netns exec hC ping -qc1 -W2 fd88::1 "
	       ">/dev/null");
	lab_sh("ip netns exec c1 ping -qc1 -W2 10.9.0.1 >/dev/null && ip netns exec c1 ping -qc1 -W2 fd09::1 "
	       ">/dev/null");
	const char *n = lab_sh_text("ip -n c1 neigh; ip -n c1 addr; ip -n c1 route; ip -n c1 -6 route");
	assert_true(says(n, "169.254.1.1 dev eth0 lladdr ee:ee:ee:ee:ee:ee PERMANENT"));
	assert_true(says(n, "fe80::1 dev eth0 lladdr ee:ee:ee:ee:ee:ee PERMANENT"));
	assert_true(says(n, "inet 10.88.0.1/32") && says(n, "inet6 fd88::1/128"));
	assert_true(says(n, "default via 169.254.1.1 dev eth0") && says(n, "default via fe80::1 dev eth0"));
	assert_true(says(n, "mtu 1500"));
	const char *h = lab_sh_text("ip -n hA neigh; ip -n hA link");
	assert_true(says(h, "10.88.0.1 dev gw") && says(h, "fd88::1 dev gw") && says(h, "ee:ee:ee:ee:ee:ee"));
	assert_false(says(lab_sh_text("ip netns exec hA nft list ruleset"), "\"gw")); /* not dormant */
}

static void the_answer_is_what_the_next_plugin_needs(void **state)
{
	(void)state;
	lab_sh("ip netns add c1");
	struct plug p = call("ADD", "c1");
	p.conf = plug_conf("1.1.0", plug_ranges, ",\"mtu\":1400,\"dns\":{\"nameservers\":[\"10.0.0.53\"]}");
	plug_ok(&p);
	yyjson_val *r = yyjson_doc_get_root(plug_doc);
	yyjson_val *in = yyjson_arr_get(yyjson_obj_get(r, "interfaces"), 1),
	           *out = yyjson_arr_get(yyjson_obj_get(r, "interfaces"), 0);
	assert_string_equal(gw_json_str(r, "cniVersion", ""), "1.1.0");
	assert_string_equal(gw_json_str(in, "name", ""), "eth0");
	assert_string_equal(gw_json_str(in, "sandbox", ""), "/run/netns/c1");
	assert_int_equal(gw_json_u64(in, "mtu", 0), 1400);
	assert_null(yyjson_obj_get(out, "sandbox"));
	assert_string_equal(gw_json_str(out, "mac", ""), "ee:ee:ee:ee:ee:ee");
	yyjson_val *ip = yyjson_arr_get(yyjson_obj_get(r, "ips"), 0);
	assert_string_equal(gw_json_str(ip, "address", ""), "10.88.0.1/32");
	assert_string_equal(gw_json_str(ip, "gateway", ""), "169.254.1.1");
	assert_int_equal(gw_json_u64(ip, "interface", 9), 1);
	assert_null(yyjson_obj_get(ip, "version"));
	assert_int_equal(yyjson_arr_size(yyjson_obj_get(r, "routes")), 2);
	assert_true(says(plug_out, "{\"nameservers\":[\"10.0.0.53\"]}"));
	lab_sh("ip -n c1 link show eth0 | grep -q 'mtu 1400' && ip -n c1 link show eth0 | grep -q %s",
	       gw_json_str(in, "mac", "?"));
	plug_del("c1");
	assert_string_equal(plug_out, "");
	p.conf = plug_conf("0.4.0", plug_ranges, "");
	plug_ok(&p);
	ip = yyjson_arr_get(yyjson_obj_get(yyjson_doc_get_root(plug_doc), "ips"), 1);
	assert_string_equal(gw_json_str(ip, "version", ""), "6");
}

static void two_pods_reach_each_other(void **state)
{
	(void)state;
	char first[64];
	(void)snprintf(first, sizeof(first), "%s", plug_add("c1"));
	assert_string_not_equal(plug_add("c2"), first);
	lab_sh("ip netns exec c2 ping -qc1 -W2 %s >/dev/null && ip netns exec c1 ping -qc1 -W2 fd88::2 >/dev/null",
	       first);
}

static void deleting_leaves_nothing_and_may_be_repeated(void **state)
{
	(void)state;
	const char *before = lab_sh_text("ip -n hA -br link | wc -l");
	char lines[32];
	(void)snprintf(lines, sizeof(lines), "%s", before);
	(void)plug_add("c1");
	plug_del("c1");
	plug_del("c1");
	assert_string_equal(lab_sh_text("ip -n hA -br link | wc -l"), lines);
	assert_string_equal(lab_sh_text("find " PLUG_DIR "/addr " PLUG_DIR
	                                "/pod -type f; ip -n hA route | grep 10.88; ip -n hA -6 route | grep fd88; "
	                                "ip -n c1 -br link | grep eth0"),
	                    "");
	(void)plug_add("c2");
	lab_sh("ip netns del c2");
	struct plug p = call("DEL", "c2");
	p.netns = NULL;
	plug_ok(&p);
	p.container = "never-seen";
	plug_ok(&p);
	assert_string_equal(lab_sh_text("find " PLUG_DIR "/addr " PLUG_DIR "/pod -type f"), "");
}

static void an_address_that_was_freed_is_used_again_last(void **state)
{
	(void)state;
	assert_string_equal(plug_add("c1"), "10.88.0.1");
	plug_del("c1");
	assert_string_equal(plug_add("c2"), "10.88.0.2");
}

static void adding_twice_is_refused_and_harms_nothing(void **state)
{
	(void)state;
	(void)plug_add("c1");
	struct plug p = call("ADD", "c1");
	plug_fails(&p, 106, "DEL first");
	lab_sh("ip netns exec c1 ping -qc1 -W2 10.9.0.2 >/dev/null");
}

static void an_add_that_fails_leaves_nothing(void **state)
{
	(void)state;
	lab_sh("ip netns add c1 && ip -n c1 link add eth0 type bridge");
	struct plug p = call("ADD", "c1");
	plug_fails(&p, 100, "File exists");
	assert_string_equal(
	        lab_sh_text("find " PLUG_DIR "/addr " PLUG_DIR "/pod -type f; ip -n hA -br link | grep ^gw"), "");
	assert_false(says(lab_sh_text("ip netns exec hA nft list ruleset"), "\"gw"));
	lab_sh("ip -n c1 link show eth0 >/dev/null"); /* theirs */
}

static void a_second_interface_of_a_container_is_refused(void **state)
{
	(void)state;
	(void)plug_add("c1");
	struct plug p = call("ADD", "c1");
	p.ifname = "net1";
	plug_fails(&p, 106, "one is what can move");
	p.command = "DEL"; /* which a runtime sends after a failed ADD */
	plug_ok(&p);
	lab_sh("ip netns exec c1 ping -qc1 -W2 10.9.0.2 >/dev/null");
}

static void a_namespace_that_is_none_is_refused(void **state)
{
	(void)state;
	struct plug p = call("ADD", "c1");
	plug_fails(&p, 3, "no such file");
	lab_sh("touch /run/netns/c1");
	plug_fails(&p, 4, "not a network namespace");
	lab_sh("rm /run/netns/c1");
	p.netns = "hA";
	plug_fails(&p, 4, "host's own");
	assert_string_equal(lab_sh_text("find " PLUG_DIR "/addr " PLUG_DIR "/pod -type f"), "");
}

static void bad_input_is_answered_with_the_code_of_the_specification(void **state)
{
	(void)state;
	struct plug p = call("ADD", "c1");
	p.conf = "{";
	plug_fails(&p, 6, "JSON");
	p.conf = "{\"cniVersion\":\"9.9.9\"}";
	plug_fails(&p, 1, "9.9.9");
	p.conf = "{\"cniVersion\":\"1.0.0\",\"name\":\"n\",\"ranges\":\"x\"}";
	plug_fails(&p, 7, "ranges");
	p.conf = NULL;
	p.container = NULL;
	plug_fails(&p, 4, "CNI_CONTAINERID");
	p.command = "BOGUS";
	plug_fails(&p, 4, "CNI_COMMAND");
}

static void it_says_which_versions_it_speaks(void **state)
{
	(void)state;
	struct plug p = {.host = "hA", .command = "VERSION", .conf = "{\"cniVersion\":\"1.0.0\"}"};
	plug_ok(&p);
	assert_true(says(plug_out, "\"cniVersion\":\"1.0.0\""));
	assert_true(says(plug_out, "[\"0.4.0\",\"1.0.0\",\"1.1.0\"]"));
}

static void a_check_passes_until_something_is_damaged(void **state)
{
	(void)state;
	static const struct {
		const char *damage, *words, *repair;
	} all[] = {
	        {"ip -n c1 addr del 10.88.0.1/32 dev eth0", "address 10.88.0.1/32 is missing",
	         /* The kernel forgets more than that with the last address of a family. */
	         "ip -n c1 addr add 10.88.0.1/32 dev eth0; ip -n c1 route replace 169.254.1.1 dev eth0; "
	         "ip -n c1 route replace default via 169.254.1.1; "
	         "ip -n c1 neigh replace 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent"},
	        {"ip -n c1 route del default", "route to 0.0.0.0/0 is missing",
	         "ip -n c1 route add default via 169.254.1.1"},
	        {"ip -n c1 neigh del fe80::1 dev eth0", "neighbour entry of fe80::1",
	         "ip -n c1 neigh add fe80::1 lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent"},
	        {"ip -n hA route del 10.88.0.1", "no route to 10.88.0.1/32",
	         "ip -n hA route add 10.88.0.1 dev $(ip -n hA -br link | grep -o '^gw[0-9a-f]*')"},
	        {"mv " PLUG_DIR "/addr/10.88.0.1 /run/kept", "not given to this container",
	         "mv /run/kept " PLUG_DIR "/addr/10.88.0.1"},
	        {"ip -n hA link set $(ip -n hA -br link | grep -o '^gw[0-9a-f]*') address 02:00:00:00:00:99",
	         "another Ethernet address", NULL},
	};
	(void)plug_add("c1");
	struct plug p = check_of("c1");
	plug_ok(&p);
	for (size_t i = 0; i < gw_countof(all); i++) {
		lab_sh("%s", all[i].damage);
		plug_fails(&p, 104, all[i].words);
		if (!all[i].repair)
			break;
		lab_sh("%s", all[i].repair);
		plug_ok(&p);
	}
	lab_sh("ip -n c1 link del eth0");
	plug_fails(&p, 104, "no network interface");
	lab_sh("ip netns del c1");
	plug_fails(&p, 3, "no such file");
	plug_del("c1");
	plug_fails(&p, 3, "was given no interface");
}

static void a_check_against_another_result_is_refused(void **state)
{
	(void)state;
	(void)plug_add("c1");
	struct plug p = call("CHECK", "c1");
	p.conf = plug_conf("1.0.0", plug_ranges, ",\"prevResult\":{\"ips\":[{\"address\":\"10.88.0.1/32\"}]}");
	plug_fails(&p, 7, "does not list fd88::1/128");
}

static void gc_takes_what_is_not_listed_of_its_own_network(void **state)
{
	(void)state;
	for (const char *const *c = (const char *const[]){"c1", "c2", "c3", NULL}; *c; c++)
		(void)plug_add(*c);
	lab_sh("ip netns add c4");
	struct plug other = call("ADD", "c4");
	other.conf = "{\"cniVersion\":\"1.0.0\",\"name\":\"other\",\"dataDir\":\"" PLUG_DIR
	             "\",\"ranges\":[\"10.99.0.0/24\"]}";
	plug_ok(&other);
	lab_sh("ip netns del c2; echo net gone eth0 >" PLUG_DIR "/addr/10.88.0.77; : >" PLUG_DIR "/addr/10.88.0.78");
	struct plug gc = {.host = "hA", .command = "GC"};
	gc.conf = plug_conf("1.1.0", plug_ranges,
	                    ",\"cni.dev/valid-attachments\":[{\"containerID\":\"c1\",\"ifname\":\"eth0\"},"
	                    "{\"containerID\":\"c3\",\"ifname\":\"net7\"}]");
	plug_ok(&gc);
	assert_string_equal(lab_sh_text("cd " PLUG_DIR " && ls addr pod"),
	                    "addr:\n10.88.0.1\n10.99.0.1\nfd88::1\n\npod:\nc1\nc4\n");
	lab_sh("ip netns exec c1 ping -qc1 -W2 10.9.0.2 >/dev/null && ! ip -n c3 link show eth0 2>/dev/null");
}

static void status_says_whether_pods_can_be_added(void **state)
{
	(void)state;
	struct plug p = {.host = "hA", .command = "STATUS", .conf = plug_conf("1.1.0", plug_ranges, "")};
	plug_ok(&p);
	p.conf = plug_conf("1.1.0", plug_ranges, ",\"uplink\":\"eth7\"");
	plug_fails(&p, 50, "eth7");
	p.conf = "{\"cniVersion\":\"1.1.0\",\"name\":\"n\",\"ranges\":[\"10.88.0.0/24\"],\"dataDir\":\"/proc/x\"}";
	plug_fails(&p, 50, "/proc/x");
}

static void twenty_at_once_get_twenty_addresses(void **state)
{
	(void)state;
	const char *conf = plug_conf("1.0.0", plug_ranges, "");
	lab_sh("cat >/run/many.json <<'X'\n%s\nX", conf);
	lab_sh("for i in $(seq 20); do ip netns add m$i; done; pids=; for i in $(seq 20); do CNI_COMMAND=ADD "
	       "CNI_CONTAINERID=m$i "
	       "CNI_NETNS=/run/netns/m$i CNI_IFNAME=eth0 ip netns exec hA %s </run/many.json >/run/m$i.out & "
	       "pids=\"$pids $!\"; done; "
	       "for p in $pids; do wait $p || exit 1; done",
	       getenv("GODWIT_CNI"));
	assert_string_equal(lab_sh_text("for i in $(seq 20); do ip -n m$i -o addr show dev eth0 | grep -oE "
	                                "'(10\\.88|fd88)[^ ]*'; done | sort -u | wc -l"),
	                    "40\n");
	assert_string_equal(lab_sh_text("ls " PLUG_DIR "/addr | wc -l; ls " PLUG_DIR "/pod | wc -l"), "40\n20\n");
	lab_sh("for i in $(seq 20); do ip netns exec m$i ping -qc1 -W2 10.9.0.2 >/dev/null || exit 1; done");
}

static void an_address_that_the_host_knows_is_passed_by(void **state)
{
	(void)state;
	lab_sh("ip -n hA addr add 10.88.0.1/32 dev lo && ip -n hA route add 10.88.0.2/32 via 10.9.0.3 && "
	       "ip -n hA link add d0 type bridge && ip -n hA link set d0 up && ip -n hA route add 10.88.0.3/32 dev d0");
	assert_string_equal(plug_add("c1"), "10.88.0.4");
}

static void a_full_range_is_told_and_takes_back_what_a_reboot_lost(void **state)
{
	(void)state;
	lab_sh("ip netns add c1 && ip netns add c2 && ip netns add c3");
	struct plug p = {.host = "hA", .command = "ADD", .conf = plug_conf("1.0.0", "[\"10.88.0.0/30\"]", "")};
	for (const char *const *c = (const char *const[]){"c1", "c2", NULL}; *c; c++) {
		p.container = p.netns = *c;
		plug_ok(&p);
	}
	p.container = p.netns = "c3";
	plug_fails(&p, 101, "10.88.0.0/30");
	/* What a power cut does to a pod whose runtime then forgets it. */
	lab_sh("ip -n c1 link del eth0 && ip netns del c1");
	plug_ok(&p);
	assert_string_equal(plug_ip(AF_INET), "10.88.0.1");
	assert_string_equal(lab_sh_text("ls " PLUG_DIR "/pod"), "c2\nc3\n");
	struct plug late = call("DEL", "c1");
	plug_ok(&late);
	lab_sh("ip netns exec c3 ping -qc1 -W2 10.9.0.2 >/dev/null && grep -q c3 " PLUG_DIR "/addr/10.88.0.1");
}

static void forwarding_is_switched_on_where_it_was_off(void **state)
{
	(void)state;
	lab_sh("ip netns exec hA sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0");
	(void)plug_add("c1");
	assert_string_equal(lab_sh_text("ip netns exec hA sysctl -n net.ipv4.ip_forward net.ipv6.conf.all.forwarding"),
	                    "1\n1\n");
}

/* The standard plugin, where it is installed. */
static void host_ports_are_mapped_by_the_standard_plugin_behind_it(void **state)
{
	(void)state;
	const char *portmap = getenv("PORTMAP") ?: "/usr/lib/cni/portmap";
	if (access(portmap, X_OK) < 0 || lab_sh_status("command -v iptables >/dev/null") != 0) {
		print_message("no portmap plugin at %s, or no iptables\n", portmap);
		skip();
	}
	(void)plug_add("c1");
	lab_sh("cat >/run/portmap.json "
	       "<<'X'\n{\"cniVersion\":\"1.0.0\",\"name\":\"net\",\"type\":\"portmap\",\"snat\":true,"
	       "\"runtimeConfig\":{\"portMappings\":[{\"hostPort\":8080,\"containerPort\":80,\"protocol\":\"tcp\"}]},"
	       "\"prevResult\":%s}\nX",
	       plug_out);
	lab_sh("CNI_COMMAND=ADD CNI_CONTAINERID=c1 CNI_NETNS=/run/netns/c1 CNI_IFNAME=eth0 CNI_PATH=/ ip netns exec hA "
	       "%s "
	       "</run/portmap.json >/run/portmap.out || { cat /run/portmap.out >&2; exit 1; }",
	       portmap);
	lab_sh("grep -q 10.88.0.1/32 /run/portmap.out");
	lab_sh("ip -n hC route replace 10.88.0.0/24 via 10.9.0.2; ip netns exec c1 socat -u TCP-LISTEN:80,reuseaddr "
	       "OPEN:/run/got,creat & "
	       "for i in 1 2 3 4 5 6 7 8 9; do echo hello | ip netns exec hC socat -u - TCP:10.9.0.2:8080 2>/dev/null "
	       "&& break; sleep 0.2; done; wait; "
	       "grep -q hello /run/got");
}

#define WITH_LAB(t) cmocka_unit_test_setup_teardown(t, setup, plug_teardown)
static int tests(void)
{
	const struct CMUnitTest list[] = {
	        WITH_LAB(a_pod_has_an_address_of_each_family_and_is_reached),
	        WITH_LAB(the_answer_is_what_the_next_plugin_needs),
	        WITH_LAB(two_pods_reach_each_other),
	        WITH_LAB(deleting_leaves_nothing_and_may_be_repeated),
	        WITH_LAB(an_address_that_was_freed_is_used_again_last),
	        WITH_LAB(adding_twice_is_refused_and_harms_nothing),
	        WITH_LAB(an_add_that_fails_leaves_nothing),
	        WITH_LAB(a_second_interface_of_a_container_is_refused),
	        WITH_LAB(a_namespace_that_is_none_is_refused),
	        WITH_LAB(bad_input_is_answered_with_the_code_of_the_specification),
	        WITH_LAB(it_says_which_versions_it_speaks),
	        WITH_LAB(a_check_passes_until_something_is_damaged),
	        WITH_LAB(a_check_against_another_result_is_refused),
	        WITH_LAB(gc_takes_what_is_not_listed_of_its_own_network),
	        WITH_LAB(status_says_whether_pods_can_be_added),
	        WITH_LAB(twenty_at_once_get_twenty_addresses),
	        WITH_LAB(an_address_that_the_host_knows_is_passed_by),
	        WITH_LAB(a_full_range_is_told_and_takes_back_what_a_reboot_lost),
	        WITH_LAB(forwarding_is_switched_on_where_it_was_off),
	        WITH_LAB(host_ports_are_mapped_by_the_standard_plugin_behind_it),
	};
	return cmocka_run_group_tests_name("cni/plugin", list, NULL, NULL);
}

int main(void)
{
	_exit(lab_run(tests)); /* its children's pid namespace is dead: no leak check can start */
}
