#include "test.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/io.h"
#include "cni/record.h"
#include "net/mover.h"
#include "plug.h"

/* A pod goes from hA to hB, both with the plugin. It has lab's address, so
 * that lab's sockets find it. */
static const struct gw_mover *const m = &gw_mover_routed;
static struct gw_pod pod;
static struct gw_err e;
static char conf_b[16384];

/* The annotations as containerd hands them on. */
static void make_conf_b(const char *migration, const struct gw_pod *p)
{
	gw_auto(jmut) yyjson_mut_doc *net = yyjson_mut_doc_new(NULL), *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *o = yyjson_mut_obj(net), *c = yyjson_mut_obj(doc);
	yyjson_mut_doc_set_root(net, o);
	gw_pod_to_json(p, net, o);
	gw_auto(mem) char *text = gw_json_text(net, NULL);
	yyjson_mut_doc_set_root(doc, c);
	yyjson_mut_obj_add_str(doc, c, "cniVersion", "1.0.0");
	yyjson_mut_obj_add_str(doc, c, "name", "net");
	yyjson_mut_obj_add_str(doc, c, "dataDir", "/run/cniB");
	yyjson_mut_arr_add_str(doc, yyjson_mut_obj_add_arr(doc, c, "ranges"), "10.89.0.0/24");
	yyjson_mut_val *notes = yyjson_mut_obj_add_obj(doc, yyjson_mut_obj_add_obj(doc, c, "runtimeConfig"),
	                                               "io.kubernetes.cri.pod-annotations");
	yyjson_mut_obj_add_str(doc, notes, "godwit.dev/migration", migration);
	yyjson_mut_obj_add_str(doc, notes, "godwit.dev/network", text);
	gw_auto(mem) char *all = gw_json_text(doc, NULL);
	(void)snprintf(conf_b, sizeof(conf_b), "%s", all);
}

static struct plug on_b(const char *command, const char *container)
{
	return (struct plug){
	        .host = "hB", .command = command, .container = container, .netns = container, .conf = conf_b};
}

static int setup(void **state)
{
	(void)state;
	lab_up();
	int rc = gw_remove_tree(PLUG_DIR, NULL);
	if (rc == 0)
		rc = gw_remove_tree("/run/cniB", NULL);
	lab_sh("mkdir -p " PLUG_DIR "/last && printf 10.88.0.4 >" PLUG_DIR "/last/10.88.0.0_24 && "
	       "printf fd88::4 >" PLUG_DIR "/last/fd88::_64");
	assert_string_equal(plug_add("source"), "10.88.0.5");
	assert_string_equal(plug_ip(AF_INET6), "fd88::5");
	lab_enter("hA");
	OK(gw_pod_inspect("/run/netns/source", &pod, &e));
	make_conf_b("m1", &pod);
	lab_sh("ip netns add target");
	lab_enter("hB");
	return rc;
}

static void a_pod_that_moves_in_is_dormant_and_the_image_of_its_source(void **state)
{
	(void)state;
	struct gw_pod copy;
	struct plug p = on_b("ADD", "target");
	plug_ok(&p);
	assert_string_equal(plug_ip(AF_INET), "10.88.0.5");
	OK(gw_pod_inspect("/run/netns/target", &copy, &e));
	assert_memory_equal(copy.mac, pod.mac, 6);
	assert_memory_equal(copy.addrs, pod.addrs, sizeof(pod.addrs));
	assert_memory_equal(copy.routes, pod.routes, sizeof(pod.routes));
	assert_int_equal(copy.mtu, pod.mtu);
	const char *r = lab_sh_text("ip -n hB route; ip -n hB -6 route");
	assert_false(says(r, "10.88.0.5 dev") || says(r, "fd88::5 dev"));
	assert_int_equal(lab_sh_status("ip netns exec target ping -qc1 -W1 10.9.0.3 >/dev/null"), 1);
	lab_sh("ip netns exec hC ping -qc1 -W2 10.88.0.5 >/dev/null"); /* by the source still */
	lab_sh("ip -n hA link set $(ip -n hA -br link | grep -o '^gw[0-9a-f]*') down");
	assert_int_equal(lab_sh_status("ip netns exec hC ping -qc1 -W1 10.88.0.5 >/dev/null"),
	                 1); /* and by nobody else */
}

static void deleting_a_dormant_pod_leaves_nothing(void **state)
{
	(void)state;
	struct plug p = on_b("ADD", "target");
	plug_ok(&p);
	assert_true(says(lab_sh_text("ip netns exec hB nft list ruleset"), "\"gw"));
	p.command = "DEL";
	plug_ok(&p);
	plug_ok(&p);
	assert_string_equal(lab_sh_text("find /run/cniB/addr /run/cniB/pod -type f; ip -n hB -br link | grep ^gw"), "");
	assert_true(says(lab_sh_text("ip -n hB route; ip -n hB -6 route"),
	                 "fd88::5 via fd09::2")); /* still to the source */
	lab_sh("ip netns exec hB ping -qc1 -W2 10.88.0.5 >/dev/null");
}

static void echo_tcp(int family, const char *from)
{
	socklen_t len;
	int l = lab_listen("target", family, 7001, SOCK_STREAM), c = lab_socket(from, family, SOCK_STREAM, 0);
	struct sockaddr *sa = lab_address(family, lab_pod_ip[family == AF_INET6], 7001, &len);
	char word[3] = {0};
	assert_int_equal(connect(c, sa, len), 0);
	gw_auto(fd) int s = accept(l, NULL, NULL);
	assert_true(s >= 0);
	assert_int_equal(write(s, "ok", 2), 2);
	assert_int_equal(gw_read_full(c, word, 2), 0);
	assert_string_equal(word, "ok");
	(void)close(c);
	(void)close(l);
}

static void one_datagram(int family, const char *from)
{
	socklen_t len;
	int l = lab_listen("target", family, 7002, SOCK_DGRAM), c = lab_socket(from, family, SOCK_DGRAM, 0);
	struct sockaddr *sa = lab_address(family, lab_pod_ip[family == AF_INET6], 7002, &len);
	struct pollfd pf = {.fd = l, .events = POLLIN};
	char word[3] = {0};
	assert_int_equal(sendto(c, "ok", 2, 0, sa, len), 2);
	assert_int_equal(poll(&pf, 1, 2000), 1);
	assert_int_equal(recv(l, word, 2, 0), 2);
	assert_string_equal(word, "ok");
	(void)close(c);
	(void)close(l);
}

/* What godwitd does at the commit; the source is the lab's hA. */
static void move(void)
{
	struct plug p = on_b("ADD", "target");
	plug_ok(&p);
	lab_enter("hA");
	OK(gw_ipam_away_set(PLUG_DIR, &pod.addrs[0], "hB", &e));
	OK(gw_ipam_away_set(PLUG_DIR, &pod.addrs[1], "hB", &e));
	OK(m->ready("source", &pod, LAB_VIA_B, &e));
	OK(m->seal("source", &pod, &e));
	lab_enter("hB");
	OK(m->activate("target", &pod, &e));
	OK(gw_record_arrived("/run/cniB", "target", &e));
	lab_enter("hA");
	OK(m->turn("source", &pod, LAB_VIA_B, &e));
	lab_enter("hB");
	OK(m->settle("target", &pod, &e));
	assert_false(says(lab_sh_text("ip netns exec hB nft list ruleset"), "\"gw"));
	lab_enter("hA");
}

static void an_activated_pod_is_reached_from_everywhere(void **state)
{
	(void)state;
	move();
	for (const char *const *from = (const char *const[]){"hA", "hB", "hC", NULL}; *from; from++)
		for (const int *f = (const int[]){AF_INET, AF_INET6, 0}; *f; f++) {
			echo_tcp(*f, *from);
			one_datagram(*f, *from);
		}
	struct plug p = on_b("CHECK", "target");
	char conf[20000], result[8192];
	lab_enter("hB");
	(void)snprintf(result, sizeof(result), "%s", plug_out);
	(void)snprintf(conf, sizeof(conf), "%.*s,\"prevResult\":%s}", (int)strlen(conf_b) - 1, conf_b, result);
	p.conf = conf;
	plug_ok(&p);
}

static void deleting_the_source_keeps_the_way_and_the_address(void **state)
{
	(void)state;
	move();
	plug_del("source");
	const char *r = lab_sh_text("ip -n hA route; ip -n hA -6 route; ip -n hA -br link");
	assert_true(says(r, "10.88.0.5 via 10.9.0.3") && says(r, "fd88::5 via fd09::3"));
	assert_false(says(r, "gw"));
	echo_tcp(AF_INET, "hC");
	echo_tcp(AF_INET6, "hA");
	/* The search is put right before it, and must pass it by, route or not. */
	lab_sh("printf 10.88.0.4 >" PLUG_DIR "/last/10.88.0.0_24; printf fd88::4 >" PLUG_DIR "/last/fd88::_64; "
	       "ip -n hA route del 10.88.0.5; ip -n hA -6 route del fd88::5");
	assert_string_equal(plug_add("next"), "10.88.0.6");
	assert_string_equal(plug_ip(AF_INET6), "fd88::6");
	lab_sh("printf 10.88.0.4 >" PLUG_DIR "/last/10.88.0.0_24");
	OK(gw_ipam_away_clear(PLUG_DIR, &pod.addrs[0], &e));
	assert_string_equal(plug_add("free"), "10.88.0.5");
}

static void a_check_of_the_source_says_that_it_moved(void **state)
{
	(void)state;
	char more[9000];
	(void)snprintf(more, sizeof(more), ",\"prevResult\":%s", plug_out);
	move();
	struct plug p = {.host = "hA", .command = "CHECK", .container = "source", .netns = "source"};
	p.conf = plug_conf("1.0.0", plug_ranges, more);
	plug_fails(&p, 103, "moved to another host");
}

static void a_pod_comes_home_again(void **state)
{
	(void)state;
	move();
	plug_del("source");
	lab_sh("ip netns add back");
	make_conf_b("m2", &pod);
	char *dir = strstr(conf_b, "/run/cniB");
	memcpy(dir, "/run/cni\"", 9); /* hA's folder: the same length but for a quote */
	memmove(dir + 9, dir + 10, strlen(dir + 10) + 1);
	struct plug p = {.host = "hA", .command = "ADD", .container = "back", .netns = "back", .conf = conf_b};
	plug_ok(&p);
	lab_enter("hB");
	struct gw_pod there;
	OK(gw_pod_inspect("/run/netns/target", &there, &e));
	OK(m->ready("target", &there, LAB_VIA_A, &e));
	OK(m->seal("target", &there, &e));
	lab_enter("hA");
	OK(m->activate("back", &pod, &e));
	OK(gw_ipam_away_clear(PLUG_DIR, &pod.addrs[0], &e));
	OK(gw_ipam_away_clear(PLUG_DIR, &pod.addrs[1], &e));
	lab_enter("hB");
	OK(m->turn("target", &there, LAB_VIA_A, &e));
	lab_sh("ip netns exec hC ping -qc1 -W2 10.88.0.5 >/dev/null && ip netns exec hB ping -qc1 -W2 fd88::5 "
	       ">/dev/null");
	p.command = "DEL";
	plug_ok(&p);
	assert_string_equal(lab_sh_text("find " PLUG_DIR "/addr -type f"), "");
}

static void a_sandbox_made_again_after_the_move_is_an_ordinary_pod(void **state)
{
	(void)state;
	move();
	lab_sh("ip netns add again");
	struct plug p = on_b("ADD", "again"); /* the annotations are there still */
	plug_ok(&p);
	assert_string_equal(plug_ip(AF_INET), "10.89.0.1");
	lab_sh("ip netns exec again ping -qc1 -W2 10.9.0.3 >/dev/null");
}

static void an_address_that_is_in_use_here_cant_move_in(void **state)
{
	(void)state;
	struct plug p = on_b("ADD", "target");
	lab_sh("ip -n hB addr add 10.88.0.5/32 dev lo");
	plug_fails(&p, 102, "10.88.0.5/32 is in use");
	lab_sh("ip -n hB addr del 10.88.0.5/32 dev lo; echo net c9 eth0 >/run/cniB/addr/fd88::5");
	plug_fails(&p, 102, "fd88::5 is given to container c9");
	assert_string_equal(lab_sh_text("ls /run/cniB/addr /run/cniB/pod; ip -n hB -br link | grep ^gw"),
	                    "/run/cniB/addr:\nfd88::5\n\n/run/cniB/pod:\n");
}

static void annotations_of_another_interface_are_refused(void **state)
{
	(void)state;
	struct plug p = on_b("ADD", "target");
	p.ifname = "eth1";
	plug_fails(&p, 105, "must be eth1 here");
}

#define WITH_LAB(t) cmocka_unit_test_setup_teardown(t, setup, plug_teardown)
static int tests(void)
{
	const struct CMUnitTest list[] = {
	        WITH_LAB(a_pod_that_moves_in_is_dormant_and_the_image_of_its_source),
	        WITH_LAB(deleting_a_dormant_pod_leaves_nothing),
	        WITH_LAB(an_activated_pod_is_reached_from_everywhere),
	        WITH_LAB(deleting_the_source_keeps_the_way_and_the_address),
	        WITH_LAB(a_check_of_the_source_says_that_it_moved),
	        WITH_LAB(a_pod_comes_home_again),
	        WITH_LAB(a_sandbox_made_again_after_the_move_is_an_ordinary_pod),
	        WITH_LAB(an_address_that_is_in_use_here_cant_move_in),
	        WITH_LAB(annotations_of_another_interface_are_refused),
	};
	return cmocka_run_group_tests_name("cni/arrive", list, NULL, NULL);
}

int main(void)
{
	_exit(lab_run(tests)); /* its children's pid namespace is dead: no leak check can start */
}
