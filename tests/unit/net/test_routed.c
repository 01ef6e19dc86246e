#include "test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/scope.h"
#include "lab.h"
#include "net/mover.h"

static const struct gw_mover *const m = &gw_mover_routed;
static const char id[] = "0123456789abcdef-redis_1.x";
static char made[300]; /* what prepare calls its namespace */
static struct gw_pod pod;
static struct gw_err e;

static int setup(void **state)
{
	return lab_with_pod(state) < 0 ? -1 : gw_pod_inspect("/run/netns/pA", &pod, &e);
}

static void prepare_on_b(void)
{
	lab_enter("hB");
	OK(m->prepare(id, &pod, made, sizeof(made), &e));
}

static void expect_failure(int rc, const char *words)
{
	assert_true(rc < 0);
	if (!says(e.text, words) && strcmp(e.code, words) != 0)
		fail_msg("\"%s\" (code \"%s\") does not say \"%s\"", e.text, e.code, words);
}

static void a_prepared_pod_is_dormant(void **state)
{
	(void)state;
	prepare_on_b();
	assert_string_equal(made, "/run/netns/gw-0123456789abcdef-redis_1.x");
	const char *r = lab_sh_text("ip -n hB route; ip -n hB -6 route");
	assert_true(says(r, "10.88.0.5 via 10.9.0.2"));
	assert_true(says(r, "fd88::5 via fd09::2"));
	assert_false(says(r, "10.88.0.5 dev"));
	assert_int_equal(lab_sh_status("ip netns exec hC ping -qc1 -W1 10.88.0.5 >/dev/null"), 0); /* by A still */
}

static void a_prepared_pod_is_the_image_of_the_source(void **state)
{
	(void)state;
	struct gw_pod copy;
	prepare_on_b();
	OK(gw_pod_inspect(made, &copy, &e));
	assert_string_not_equal(copy.host_ifname, pod.host_ifname);
	memcpy(copy.host_ifname, pod.host_ifname, sizeof(copy.host_ifname));
	assert_memory_equal(&copy, &pod, sizeof(pod));
}

/* Does a TCP segment with these flags from inside the prepared namespace reach the third host? */
static bool is_heard(int family, uint8_t flags)
{
	gw_auto(fd) int ear = lab_socket("hC", family, SOCK_RAW, IPPROTO_TCP);
	gw_auto(fd) int mouth = lab_socket(made, family, SOCK_RAW, IPPROTO_TCP);
	const struct timeval patience = {.tv_usec = 200000};
	struct tcphdr h = {.th_sport = htons(7001), .th_dport = htons(7999), .th_off = 5, .th_flags = flags};
	socklen_t len;
	uint8_t buf[200];
	struct sockaddr *sa = lab_address(family, lab_host_ip[LAB_C][family == AF_INET6], 0, &len);
	assert_int_equal(setsockopt(ear, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
	assert_int_equal(sendto(mouth, &h, sizeof(h), 0, sa, len), sizeof(h));
	for (ssize_t n; (n = recv(ear, buf, sizeof(buf), 0)) > 0;) {
		struct tcphdr got;
		size_t at = family == AF_INET ? sizeof(struct iphdr) : 0;
		memcpy(&got, buf + at, sizeof(got));
		if (got.th_dport == h.th_dport)
			return true;
	}
	return false;
}

/* A stopped copy that is discarded has sockets for which the kernel says FIN or RST. */
static void a_dormant_pod_ends_no_connection_and_says_all_else(void **state)
{
	static const int families[] = {AF_INET, AF_INET6};
	(void)state;
	prepare_on_b();
	/* A strict reverse path filter drops what comes from an address that leads elsewhere still. */
	lab_sh("for f in all default eth0; do ip netns exec hB sysctl -qw net.ipv4.conf.$f.rp_filter=0; done; "
	       "for f in /proc/sys/net/ipv4/conf/gw*/rp_filter; do echo 0 > $f; done");
	for (int i = 0; i < 2; i++) {
		assert_false(is_heard(families[i], TH_FIN | TH_ACK));
		assert_false(is_heard(families[i], TH_RST));
		assert_true(is_heard(families[i], TH_ACK | TH_PUSH));
	}
	OK(m->activate(id, &pod, &e));
	OK(m->settle(id, &pod, &e));
	for (int i = 0; i < 2; i++) {
		assert_true(is_heard(families[i], TH_FIN | TH_ACK));
		assert_true(is_heard(families[i], TH_RST));
	}
}

static void a_discarded_pod_leaves_no_rule(void **state)
{
	(void)state;
	prepare_on_b();
	assert_true(says(lab_sh_text("nft list ruleset"), "godwit-dormant"));
	assert_true(says(lab_sh_text("nft list ruleset"), "tcp flags"));
	OK(m->discard(id, &pod, NULL, &e));
	assert_false(says(lab_sh_text("nft list ruleset"), "tcp flags"));
}

static void a_dormant_address_can_be_bound_to_at_once(void **state)
{
	(void)state;
	prepare_on_b();
	for (int i = 0; i < 2; i++) {
		gw_auto(fd) int fd = lab_socket(made, i ? AF_INET6 : AF_INET, SOCK_STREAM, 0);
		socklen_t len;
		struct sockaddr *sa = lab_address(i ? AF_INET6 : AF_INET, lab_pod_ip[i], 7001, &len);
		assert_int_equal(bind(fd, sa, len), 0);
	}
	/* In an Ethernet interface with nobody to ask, an address could stay tentative for a second. */
	assert_false(says(lab_sh_text("ip -n gw-%s addr", id), "tentative"));
}

static void the_namespace_is_named_as_ip_netns_would(void **state)
{
	(void)state;
	prepare_on_b();
	assert_true(says(lab_sh_text("ip netns list"), "gw-0123456789abcdef-redis_1.x"));
	assert_int_equal(lab_sh_status("ip netns exec gw-%s true", id), 0);
}

static void move_to_b(void)
{
	prepare_on_b();
	lab_enter("hA");
	OK(m->ready(id, &pod, LAB_VIA_B, &e));
	lab_enter("hB");
	OK(m->activate(id, &pod, &e));
	lab_enter("hA");
	OK(m->turn(id, &pod, LAB_VIA_B, &e));
}

/* Does the pod that answers to its address live in this namespace? */
static void expect_answer_from(const char *ns, const char *client)
{
	for (int i = 0; i < 2; i++) {
		int family = i ? AF_INET6 : AF_INET;
		gw_auto(fd) int server = lab_listen(ns, family, 9000, SOCK_DGRAM);
		gw_auto(fd) int fd = lab_socket(client, family, SOCK_DGRAM, 0);
		socklen_t len;
		struct sockaddr *sa = lab_address(family, lab_pod_ip[i], 9000, &len);
		assert_int_equal(connect(fd, sa, len), 0);
		struct sockaddr_storage from;
		socklen_t from_len = sizeof(from);
		char buf[8];
		struct pollfd ps = {.fd = server, .events = POLLIN}, pc = {.fd = fd, .events = POLLIN};
		assert_int_equal(send(fd, "hello", 5, 0), 5);
		if (poll(&ps, 1, 2000) != 1)
			fail_msg("nothing from %s reaches %s in %s", client, lab_pod_ip[i], ns);
		assert_int_equal(recvfrom(server, buf, sizeof(buf), 0, (struct sockaddr *)&from, &from_len), 5);
		assert_int_equal(sendto(server, "back", 4, 0, (struct sockaddr *)&from, from_len), 4);
		if (poll(&pc, 1, 2000) != 1)
			fail_msg("no answer from %s in %s to %s", lab_pod_ip[i], ns, client);
		assert_int_equal(recv(fd, buf, sizeof(buf), 0), 4);
	}
}

static void after_the_turn_clients_everywhere_reach_the_destination(void **state)
{
	(void)state;
	move_to_b();
	expect_answer_from(made, "hC"); /* C still sends to A */
	expect_answer_from(made, "hA");
	expect_answer_from(made, "hB");
	/* A third host follows by the same call. */
	lab_enter("hC");
	OK(m->turn(id, &pod, LAB_VIA_B, &e));
	expect_answer_from(made, "hC");
}

/* Every frame on the host's end of the new veth, seen from B. */
static int count_questions(int packet_fd, int *out_ip)
{
	int questions = 0;
	uint8_t f[2048];
	struct pollfd p = {.fd = packet_fd, .events = POLLIN};
	*out_ip = 0;
	while (poll(&p, 1, 0) > 0) {
		ssize_t n = recv(packet_fd, f, sizeof(f), 0);
		uint16_t type = (uint16_t)(f[12] << 8 | f[13]);
		if (n < 34)
			continue;
		if (type == ETH_P_ARP)
			questions++;
		/* Neighbour solicitations for anything but the link's own end. */
		if (type == ETH_P_IPV6 && f[20] == IPPROTO_ICMPV6 && n > 54 && (f[54] == 135 || f[54] == 136))
			questions++;
		*out_ip += type == ETH_P_IP || type == ETH_P_IPV6;
	}
	return questions;
}

static void the_first_packet_after_activate_asks_for_no_neighbour(void **state)
{
	(void)state;
	move_to_b();
	struct gw_pod copy;
	lab_enter("hB");
	OK(gw_pod_inspect(made, &copy, &e));
	gw_auto(fd) int fd = lab_socket("hB", AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
	struct sockaddr_ll ll = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	ll.sll_ifindex = (int)if_nametoindex(copy.host_ifname);
	assert_int_equal(bind(fd, (struct sockaddr *)&ll, sizeof(ll)), 0);
	expect_answer_from(made, "hC");
	int ip, asked = count_questions(fd, &ip);
	assert_true(ip >= 4); /* there and back, both families: the socket does see */
	assert_int_equal(asked, 0);
}

static void turning_back_gives_the_pod_back_to_the_source(void **state)
{
	(void)state;
	move_to_b();
	lab_enter("hA");
	OK(m->turn_back(id, &pod, &e));
	expect_answer_from("pA", "hC");
	expect_answer_from("pA", "hA");
}

static void turning_twice_is_turning_once(void **state)
{
	(void)state;
	move_to_b();
	lab_enter("hA");
	OK(m->turn(id, &pod, LAB_VIA_B, &e));
	lab_enter("hB");
	OK(m->activate(id, &pod, &e));
	expect_answer_from(made, "hC");
}

static void a_turn_without_an_address_for_each_family_turns_nothing(void **state)
{
	(void)state;
	lab_enter("hA");
	expect_failure(m->turn(id, &pod, "10.9.0.3", &e), "IPv6");
	expect_failure(m->turn(id, &pod, "fd09::3", &e), "IPv4");
	expect_failure(m->turn(id, &pod, "10.9.0.3,nonsense", &e), "no list");
	expect_failure(m->turn(id, &pod, "", &e), "IPv4");
	expect_answer_from("pA", "hC");
}

static void a_turn_to_a_host_on_no_link_of_ours_fails_with_words(void **state)
{
	(void)state;
	lab_enter("hA");
	expect_failure(m->turn(id, &pod, "10.77.0.3,fd77::3", &e), "on no link of this host");
	expect_failure(m->ready(id, &pod, "10.77.0.3,fd77::3", &e), "NoSharedLink");
	expect_answer_from("pA", "hC");
}

static void ready_stops_redirects_and_knows_the_neighbour(void **state)
{
	(void)state;
	lab_enter("hA");
	lab_sh("ip -n hA neigh flush all");
	OK(m->ready(id, &pod, LAB_VIA_B, &e));
	assert_true(says(lab_sh_text("ip netns exec hA sysctl -n net.ipv4.conf.eth0.send_redirects"), "0"));
	assert_true(says(lab_sh_text("ip netns exec hA sysctl -n net.ipv4.conf.all.send_redirects"), "0"));
	const char *text = "";
	for (int i = 0; i < 100 && !(says(text, "10.9.0.3 dev eth0 lladdr") && says(text, "fd09::3 dev eth0 lladdr"));
	     i++) {
		(void)usleep(20000);
		text = lab_sh_text("ip -n hA neigh");
	}
	assert_true(says(text, "10.9.0.3 dev eth0 lladdr"));
	assert_true(says(text, "fd09::3 dev eth0 lladdr"));
}

static void a_host_that_does_not_forward_is_refused(void **state)
{
	(void)state;
	lab_sh("ip netns exec hB sysctl -qw net.ipv6.conf.all.forwarding=0");
	lab_enter("hB");
	expect_failure(m->prepare(id, &pod, made, sizeof(made), &e), "NoForwarding");
	assert_true(says(e.text, "net.ipv6.conf.all.forwarding=1"));
	lab_sh("ip netns exec hA sysctl -qw net.ipv4.ip_forward=0");
	lab_enter("hA");
	expect_failure(m->ready(id, &pod, LAB_VIA_B, &e), "NoForwarding");
}

static void preparing_twice_replaces_the_first(void **state)
{
	(void)state;
	prepare_on_b();
	struct stat a, b;
	assert_int_equal(stat(made, &a), 0);
	gw_auto(fd) int keep = lab_socket(made, AF_INET, SOCK_DGRAM, 0); /* no inode comes twice */
	prepare_on_b();
	assert_int_equal(stat(made, &b), 0);
	assert_true(a.st_ino != b.st_ino);
	lab_enter("hB");
	OK(m->activate(id, &pod, &e));
	expect_answer_from(made, "hB");
}

static void an_address_that_lives_here_is_not_prepared_again(void **state)
{
	(void)state;
	move_to_b();
	lab_enter("hB");
	expect_failure(m->prepare(id, &pod, made, sizeof(made), &e), "AddressInUse");
	expect_answer_from(made, "hC");
	/* Nor on the source, where another one has it. */
	lab_enter("hA");
	OK(m->turn_back(id, &pod, &e));
	expect_failure(m->prepare("other", &pod, made, sizeof(made), &e), "AddressInUse");
	lab_sh("ip -n hA addr add 10.88.0.5/32 dev lo");
	expect_failure(m->prepare("other", &pod, made, sizeof(made), &e), "AddressInUse");
}

static void a_failed_prepare_leaves_nothing(void **state)
{
	(void)state;
	struct gw_pod odd = pod;
	/* A gateway that no route leads to: refused by the kernel at the last step but one. */
	assert_int_equal(inet_pton(AF_INET, "172.31.0.1", odd.routes[0].gateway), 1);
	odd.routes[0].has_gateway = true;
	lab_enter("hB");
	expect_failure(m->prepare(id, &odd, made, sizeof(made), &e), "set the route");
	assert_false(says(lab_sh_text("ip netns list"), "gw-"));
	assert_false(says(lab_sh_text("ip -n hB -br link"), "gw"));
}

static void discarding_the_destination_takes_all_away_and_may_be_repeated(void **state)
{
	(void)state;
	prepare_on_b();
	for (int i = 0; i < 3; i++)
		OK(m->discard(id, &pod, i == 1 ? made : NULL, &e));
	assert_false(says(lab_sh_text("ip netns list"), "gw-"));
	assert_int_not_equal(access(made, F_OK), 0);
	assert_false(says(lab_sh_text("ip -n hB -br link"), "gw"));
	expect_answer_from("pA", "hB");
}

static void what_a_crash_left_half_made_is_taken_away(void **state)
{
	(void)state;
	prepare_on_b();
	lab_sh("umount %s", made); /* the file stays, the veth goes with the namespace or not */
	OK(m->discard(id, &pod, NULL, &e));
	assert_int_not_equal(access(made, F_OK), 0);
	prepare_on_b();
	lab_sh("umount %s && rm %s", made, made);
	prepare_on_b();
	OK(m->activate(id, &pod, &e));
	expect_answer_from(made, "hB");
}

static void discarding_the_source_keeps_its_namespace_and_takes_the_interface(void **state)
{
	(void)state;
	move_to_b();
	lab_enter("hA");
	for (int i = 0; i < 2; i++)
		OK(m->discard(id, &pod, "/run/netns/pA", &e));
	assert_int_equal(access("/run/netns/pA", F_OK), 0);
	assert_false(says(lab_sh_text("ip -n pA -br link"), "eth0"));
	assert_false(says(lab_sh_text("ip -n hA -br link"), "v-pA"));
	expect_answer_from(made, "hC");
	expect_answer_from(made, "hA");
}

static void the_hosts_own_interface_is_never_taken(void **state)
{
	(void)state;
	lab_enter("hA");
	expect_failure(m->discard(id, &pod, "/proc/thread-self/ns/net", &e), "own network namespace");
	assert_true(says(lab_sh_text("ip -n hA -br link"), "eth0"));
}

static void ids_that_would_leave_the_folder_are_refused(void **state)
{
	(void)state;
	char long_id[300];
	memset(long_id, 'x', sizeof(long_id) - 1);
	long_id[sizeof(long_id) - 1] = 0;
	const char *const ids[] = {"", "../x", "a/b", ".", long_id};
	lab_enter("hB");
	for (size_t i = 0; i < gw_countof(ids); i++) {
		expect_failure(m->prepare(ids[i], &pod, made, sizeof(made), &e), "no container id");
		expect_failure(m->discard(ids[i], &pod, NULL, &e), "no container id");
		expect_failure(m->activate(ids[i], &pod, &e), "no container id");
	}
}

static void a_pod_goes_there_and_back_and_there_again(void **state)
{
	(void)state;
	move_to_b();
	lab_enter("hA");
	OK(m->discard(id, &pod, "/run/netns/pA", &e));
	const char *here = "hB", *there = "hA", *via = LAB_VIA_A;
	for (int i = 0; i < 3; i++) {
		struct gw_pod now;
		lab_enter(here);
		/* Both hosts share this lab's /run/netns: the copy gets a name of its own. */
		char old[300], next_id[32];
		(void)snprintf(old, sizeof(old), "%s", made);
		(void)snprintf(next_id, sizeof(next_id), "move-%d", i);
		OK(gw_pod_inspect(old, &now, &e));
		OK(m->ready(next_id, &now, via, &e));
		lab_enter(there);
		OK(m->prepare(next_id, &now, made, sizeof(made), &e));
		OK(m->activate(next_id, &now, &e));
		lab_enter(here);
		OK(m->turn(next_id, &now, via, &e));
		OK(m->discard(next_id, &now, old, &e));
		expect_answer_from(made, "hC");
		expect_answer_from(made, "hA");
		expect_answer_from(made, "hB");
		const char *t = here;
		here = there;
		there = t;
		via = strcmp(there, "hA") ? LAB_VIA_B : LAB_VIA_A;
	}
}

static void what_was_set_up_for_forwarding_can_be_forgotten(void **state)
{
	(void)state;
	const char *rules = "ip netns exec hA nft list table inet godwit-forward";
	move_to_b();
	lab_enter("hA");
	OK(m->ready(id, &pod, LAB_VIA_B, &e)); /* twice is once */
	OK(m->discard(id, &pod, "/run/netns/pA", &e));
	assert_int_equal(atoi(lab_sh_text("%s | grep -c notrack", rules)), 2);
	OK(m->forget(id, &pod, &e));
	OK(m->forget(id, &pod, &e));
	assert_int_equal(atoi(lab_sh_text("%s | grep -c notrack", rules)), 0);
	assert_false(says(lab_sh_text("ip -n hA route; ip -n hA -6 route"), "88"));
}

static void a_pod_that_is_back_is_not_forgotten(void **state)
{
	(void)state;
	move_to_b();
	lab_enter("hA");
	OK(m->turn_back(id, &pod, &e));
	OK(m->forget(id, &pod, &e));
	expect_answer_from("pA", "hC");
}

static void a_pod_that_asks_for_everyone_gets_answers_at_once(void **state)
{
	(void)state;
	/* Routes without a gateway: the pod asks for 10.9.0.1 itself, by ARP. */
	lab_sh("ip -n pA route del default && ip -n pA route add default dev eth0 && "
	       "ip netns exec hA sysctl -qw net.ipv4.conf.v-pA.proxy_arp=1");
	lab_enter("hA");
	OK(gw_pod_inspect("/run/netns/pA", &pod, &e));
	move_to_b();
	expect_answer_from(made, "hC");
}

#define WITH_LAB(f) cmocka_unit_test_setup_teardown(f, setup, lab_end)

static int tests(void)
{
	const struct CMUnitTest list[] = {
	        WITH_LAB(a_prepared_pod_is_dormant),
	        WITH_LAB(a_prepared_pod_is_the_image_of_the_source),
	        WITH_LAB(a_dormant_pod_ends_no_connection_and_says_all_else),
	        WITH_LAB(a_discarded_pod_leaves_no_rule),
	        WITH_LAB(a_dormant_address_can_be_bound_to_at_once),
	        WITH_LAB(the_namespace_is_named_as_ip_netns_would),
	        WITH_LAB(after_the_turn_clients_everywhere_reach_the_destination),
	        WITH_LAB(the_first_packet_after_activate_asks_for_no_neighbour),
	        WITH_LAB(turning_back_gives_the_pod_back_to_the_source),
	        WITH_LAB(turning_twice_is_turning_once),
	        WITH_LAB(a_turn_without_an_address_for_each_family_turns_nothing),
	        WITH_LAB(a_turn_to_a_host_on_no_link_of_ours_fails_with_words),
	        WITH_LAB(ready_stops_redirects_and_knows_the_neighbour),
	        WITH_LAB(a_host_that_does_not_forward_is_refused),
	        WITH_LAB(preparing_twice_replaces_the_first),
	        WITH_LAB(an_address_that_lives_here_is_not_prepared_again),
	        WITH_LAB(a_failed_prepare_leaves_nothing),
	        WITH_LAB(discarding_the_destination_takes_all_away_and_may_be_repeated),
	        WITH_LAB(what_a_crash_left_half_made_is_taken_away),
	        WITH_LAB(discarding_the_source_keeps_its_namespace_and_takes_the_interface),
	        WITH_LAB(the_hosts_own_interface_is_never_taken),
	        WITH_LAB(ids_that_would_leave_the_folder_are_refused),
	        WITH_LAB(a_pod_goes_there_and_back_and_there_again),
	        WITH_LAB(what_was_set_up_for_forwarding_can_be_forgotten),
	        WITH_LAB(a_pod_that_is_back_is_not_forgotten),
	        WITH_LAB(a_pod_that_asks_for_everyone_gets_answers_at_once),
	};
	return cmocka_run_group_tests_name("net/routed", list, NULL, NULL);
}

int main(void)
{
	_exit(lab_run(tests)); /* its children's pid namespace is dead: no leak check can start */
}
