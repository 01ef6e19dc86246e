#include "test.h"

#include <stdio.h>
#include <string.h>

#include "cni/fabric.h"
#include "plug.h"

static struct gw_err e;

/* Pods of 10.1.0.0/24 and fd01::/64 on hA, of 10.2.0.0/24 and fd02::/64 on hB. */
static int setup(void **state)
{
	(void)state;
	lab_up();
	for (const char *h = "AB"; *h; h++) {
		char conf[400], name[8], host[4];
		(void)snprintf(conf, sizeof(conf),
		               "{\"cniVersion\":\"1.0.0\",\"name\":\"net\",\"dataDir\":\"/run/cni%c\",\"mtu\":1400,"
		               "\"ranges\":[\"10.%d.0.0/24\",\"fd0%d::/64\"]}",
		               *h, *h - 'A' + 1, *h - 'A' + 1);
		(void)snprintf(name, sizeof(name), "p%c", *h);
		(void)snprintf(host, sizeof(host), "h%c", *h);
		lab_sh("rm -rf /run/cni%c && ip netns add %s", *h, name);
		plug_ok(&(struct plug){.host = host, .command = "ADD", .container = name, .netns = name, .conf = conf});
	}
	return 0;
}

static const char *const range[2][2] = {{"10.1.0.0/24", "fd01::/64"}, {"10.2.0.0/24", "fd02::/64"}};

static void pods_of_two_hosts_meet(void)
{
	lab_sh("ip netns exec pA ping -qc1 -W2 10.2.0.1 >/dev/null && ip netns exec pB ping -qc1 -W2 10.1.0.1 "
	       ">/dev/null");
	lab_sh("ip netns exec pA ping -qc1 -W2 fd02::1 >/dev/null && ip netns exec pB ping -qc1 -W2 fd01::1 "
	       ">/dev/null");
}

static void a_route_to_a_host_reaches_its_pods(void **state)
{
	(void)state;
	for (int again = 0; again < 2; again++)
		for (int h = 0; h < 2; h++)
			for (int f = 0; f < 2; f++) {
				struct gw_addr r = plug_addr(range[!h][f]),
				               node = plug_addr(lab_host_ip[h ? LAB_A : LAB_B][f]);
				lab_enter(h ? "hB" : "hA");
				OK(gw_fabric_put(&r, &node, &e));
			}
	pods_of_two_hosts_meet();
	assert_non_null(strstr(lab_sh_text("ip -n hA route"), "10.2.0.0/24 via 10.9.0.3 dev eth0 proto 71"));
	lab_enter("hA");
	struct gw_addr r = plug_addr("10.2.0.0/24");
	OK(gw_fabric_remove(&r, &e));
	OK(gw_fabric_remove(&r, &e));
	assert_null(strstr(lab_sh_text("ip -n hA route"), "10.2.0.0"));
}

static void a_host_behind_a_router_needs_vxlan_and_says_so(void **state)
{
	(void)state;
	struct gw_addr r = plug_addr("10.2.0.0/24"), far = plug_addr("10.77.0.1"), six = plug_addr("fd09::3");
	lab_enter("hA");
	assert_true(gw_fabric_put(&r, &far, &e) < 0);
	assert_string_equal(e.code, "NoSharedLink");
	assert_true(gw_fabric_put(&r, &six, &e) < 0);
	assert_non_null(strstr(e.text, "two families"));
}

static void pods_meet_through_vxlan(void **state)
{
	(void)state;
	struct gw_addr node[2] = {plug_addr("10.9.0.2"), plug_addr("10.9.0.3")};
	for (int again = 0; again < 2; again++)
		for (int h = 0; h < 2; h++) {
			lab_enter(h ? "hB" : "hA");
			struct gw_fabric_vxlan v = {.name = "godwit-vx", .vni = 71, .local = node[h], .mtu = 1450};
			OK(gw_fabric_vxlan_up(&v, &e));
			for (int f = 0; f < 2; f++) {
				struct gw_addr r = plug_addr(range[!h][f]);
				OK(gw_fabric_vxlan_put(v.name, &r, &node[!h], &e));
			}
		}
	pods_of_two_hosts_meet();
	const char *d = lab_sh_text(
	        "ip -n hA -d link show godwit-vx; ip -n hA route; ip netns exec hA bridge fdb show dev godwit-vx");
	assert_non_null(strstr(d, "vxlan id 71 local 10.9.0.2"));
	assert_non_null(strstr(d, "nolearning"));
	assert_non_null(strstr(d, "10.2.0.0/24 via 10.9.0.3 dev godwit-vx proto 71 onlink"));
	assert_non_null(strstr(d, "02:67:0a:09:00:03 dst 10.9.0.3"));
	/* Whole packets of the pods' size, not to be split. */
	lab_sh("ip netns exec pA ping -qc1 -W2 -M do -s 1372 10.2.0.1 >/dev/null");
	lab_enter("hA");
	OK(gw_fabric_vxlan_forget("godwit-vx", &node[1], &e));
	OK(gw_fabric_vxlan_forget("godwit-vx", &node[1], &e));
	assert_int_equal(lab_sh_status("ip netns exec pA ping -qc1 -W1 10.2.0.1 >/dev/null"), 1);
	OK(gw_fabric_vxlan_down("godwit-vx", &e));
	OK(gw_fabric_vxlan_down("godwit-vx", &e));
	assert_null(strstr(lab_sh_text("ip -n hA route; ip -n hA -6 route"), "godwit-vx"));
}

static void a_vxlan_device_of_other_settings_is_made_anew(void **state)
{
	(void)state;
	lab_enter("hA");
	struct gw_fabric_vxlan v = {.name = "godwit-vx", .vni = 71, .local = plug_addr("10.9.0.2"), .mtu = 1450};
	OK(gw_fabric_vxlan_up(&v, &e));
	v.vni = 72;
	OK(gw_fabric_vxlan_up(&v, &e));
	assert_non_null(strstr(lab_sh_text("ip -n hA -d link show godwit-vx"), "vxlan id 72"));
	v.vni = 0;
	assert_true(gw_fabric_vxlan_up(&v, &e) < 0);
	v = (struct gw_fabric_vxlan){.name = "godwit-vx", .vni = 1, .local = plug_addr("fd09::2"), .mtu = 1450};
	assert_true(gw_fabric_vxlan_up(&v, &e) < 0);
	assert_non_null(strstr(e.text, "not IPv4"));
}

#define WITH_LAB(t) cmocka_unit_test_setup_teardown(t, setup, plug_teardown)
static int tests(void)
{
	const struct CMUnitTest list[] = {
	        WITH_LAB(a_route_to_a_host_reaches_its_pods),
	        WITH_LAB(a_host_behind_a_router_needs_vxlan_and_says_so),
	        WITH_LAB(pods_meet_through_vxlan),
	        WITH_LAB(a_vxlan_device_of_other_settings_is_made_anew),
	};
	return cmocka_run_group_tests_name("cni/fabric", list, NULL, NULL);
}

int main(void)
{
	_exit(lab_run(tests)); /* its children's pid namespace is dead: no leak check can start */
}
