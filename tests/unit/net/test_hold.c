#include "test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/icmp6.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/scope.h"
#include "flow.h"
#include "lab.h"
#include "net/handshakes.h"
#include "net/hold.h"
#include "net/nl.h"
#include "net/rtnl.h"

static struct gw_pod pod;
static struct gw_err e;
static struct gw_hold *h;

enum { SEEN_MAX = 40000 };
static uint32_t seen[SEEN_MAX], nseen;

static int setup(void **state)
{
	h = NULL;
	nseen = 0;
	return lab_with_pod(state) < 0 ? -1 : gw_pod_inspect("/run/netns/pA", &pod, &e);
}

static int teardown(void **state)
{
	gw_hold_free(h);
	return lab_end(state);
}

static struct gw_hold *hold(const char *id)
{
	struct gw_hold *n = NULL;
	if (gw_hold_new(id, &pod, &n, &e) < 0)
		fail_msg("%s", e.text);
	return n;
}

/* Send `count` datagrams and wait until they are on their way. */
static void burst(int family, const char *client, uint32_t count, uint32_t size)
{
	struct udp_flow f = {.family = family, .ns = client, .port = 9001, .count = count, .size = size};
	udp_flow_start(&f);
	udp_flow_end(&f);
	assert_int_equal(f.refused, 0);
}

static void expect_all_in_order(uint32_t count)
{
	if (nseen != count)
		fail_msg("%u of %u came", nseen, count);
	for (uint32_t i = 0; i < count; i++)
		if (seen[i] != i)
			fail_msg("number %u came in place %u", seen[i], i);
}

static struct gw_hold_stats stats(void)
{
	struct gw_hold_stats s;
	gw_hold_stats(h, &s);
	return s;
}

/* The reader has seen what was sent: it is asynchronous to the sender. */
static void wait_held(uint64_t count)
{
	for (int i = 0; i < 2000 && stats().held < count; i++)
		gw_sleep_us(1000);
	assert_int_equal(stats().held, count);
}

static void this_kernel_can_hold(void **state)
{
	(void)state;
	if (gw_hold_supported(&e) < 0)
		fail_msg("%s", e.text);
}

static void an_open_hold_lets_everything_pass(void **state)
{
	(void)state;
	h = hold("c1");
	for (int i = 0; i < 2; i++) {
		int family = i ? AF_INET6 : AF_INET;
		gw_auto(fd) int a = lab_listen("pA", family, 9001, SOCK_DGRAM);
		nseen = 0;
		burst(family, "hC", 1000, 0);
		udp_collect(a, seen, SEEN_MAX, &nseen, 200);
		expect_all_in_order(1000);
	}
	assert_true(stats().passed >= 2000);
	assert_int_equal(stats().held, 0);
	assert_int_equal(stats().overflow, 0);
}

static void kept_packets_wait_and_come_in_order(int family, const char *client)
{
	gw_auto(fd) int a = lab_listen("pA", family, 9001, SOCK_DGRAM);
	h = hold("c1");
	gw_hold_shut(h);
	burst(family, client, 500, 0);
	wait_held(500);
	udp_collect(a, seen, SEEN_MAX, &nseen, 50);
	assert_int_equal(nseen, 0);
	gw_hold_release(h);
	udp_collect(a, seen, SEEN_MAX, &nseen, 200);
	expect_all_in_order(500);
	assert_true(stats().held_us_max >= 50000);
}
static void packets_of_ipv4_from_outside_wait_and_come_in_order(void **s)
{
	(void)s;
	kept_packets_wait_and_come_in_order(AF_INET, "hC");
}
static void packets_of_ipv6_from_outside_wait_and_come_in_order(void **s)
{
	(void)s;
	kept_packets_wait_and_come_in_order(AF_INET6, "hC");
}
static void packets_of_ipv4_of_the_host_itself_wait_and_come_in_order(void **s)
{
	(void)s;
	kept_packets_wait_and_come_in_order(AF_INET, "hA");
}
static void packets_of_ipv6_of_the_host_itself_wait_and_come_in_order(void **s)
{
	(void)s;
	kept_packets_wait_and_come_in_order(AF_INET6, "hA");
}

static void large_datagrams_are_held_with_all_their_fragments(void **state)
{
	(void)state;
	h = hold("c1");
	for (int i = 0; i < 2; i++) {
		int family = i ? AF_INET6 : AF_INET;
		gw_auto(fd) int a = lab_listen("pA", family, 9001, SOCK_DGRAM);
		/* The first large one is lost to the discovery of the path's MTU. */
		(void)lab_sh_status("ip netns exec hC ping -qc2 -i0.1 -W1 -s3000 %s >/dev/null", lab_pod_ip[i]);
		nseen = 0;
		gw_hold_shut(h);
		burst(family, "hC", 50, 6000);
		gw_sleep_us(20000);
		udp_collect(a, seen, SEEN_MAX, &nseen, 20);
		assert_int_equal(nseen, 0);
		gw_hold_release(h);
		udp_collect(a, seen, SEEN_MAX, &nseen, 200);
		expect_all_in_order(50);
	}
}

/* Bytes of a known pattern through one connection, in segments as large as they come. */
struct bulk {
	int fd;
	size_t bytes;
	bool ok;
};

static void *bulk_send(void *arg)
{
	struct bulk *b = arg;
	uint8_t buf[65536];
	size_t at = 0;
	b->ok = true;
	while (b->ok && at < b->bytes) {
		for (size_t i = 0; i < sizeof(buf); i++)
			buf[i] = (uint8_t)((at + i) * 2654435761u >> 24);
		for (size_t off = 0; b->ok && off < sizeof(buf);) {
			ssize_t n = send(b->fd, buf + off, sizeof(buf) - off, MSG_NOSIGNAL);
			b->ok = n > 0;
			off += n > 0 ? (size_t)n : 0;
		}
		at += sizeof(buf);
	}
	(void)shutdown(b->fd, SHUT_WR);
	return NULL;
}

static bool bulk_receive(int fd, size_t bytes)
{
	uint8_t buf[65536];
	size_t at = 0;
	for (ssize_t n; (n = recv(fd, buf, sizeof(buf), 0)) > 0; at += (size_t)n)
		for (size_t i = 0; i < (size_t)n; i++)
			if (buf[i] != (uint8_t)((at + i) * 2654435761u >> 24))
				return false;
	return at == bytes;
}

static void large_segments_pass_and_wait_unharmed(void **state)
{
	(void)state;
	h = hold("c1");
	for (int i = 0; i < 4; i++) {
		int family = i % 2 ? AF_INET6 : AF_INET;
		const char *client = i < 2 ? "hC" : "hA";
		gw_auto(fd) int a = lab_listen("pA", family, 7001, SOCK_STREAM);
		gw_auto(fd) int fd = lab_socket(client, family, SOCK_STREAM, 0);
		socklen_t len;
		struct sockaddr *sa = lab_address(family, lab_pod_ip[i % 2], 7001, &len);
		assert_int_equal(connect(fd, sa, len), 0);
		gw_auto(fd) int conn = accept(a, NULL, NULL);
		struct bulk b = {.fd = fd, .bytes = 16 << 20};
		pthread_t t = lab_thread(client, bulk_send, &b);
		gw_sleep_us(2000);
		gw_hold_shut(h);
		gw_sleep_us(20000);
		gw_hold_release(h);
		assert_true(bulk_receive(conn, b.bytes));
		(void)pthread_join(t, NULL);
		assert_true(b.ok);
	}
	assert_int_equal(stats().overflow, 0);
}

static void what_the_pod_sends_passes_until_it_is_muted(void **state)
{
	(void)state;
	h = hold("c1");
	for (int i = 0; i < 2; i++) {
		int family = i ? AF_INET6 : AF_INET;
		gw_auto(fd) int c = lab_socket("hC", family, SOCK_DGRAM, 0);
		gw_auto(fd) int p = lab_socket("pA", family, SOCK_DGRAM, 0);
		socklen_t len;
		struct sockaddr *sa = lab_address(family, lab_host_ip[LAB_C][i], 9002, &len);
		struct pollfd ps = {.fd = c, .events = POLLIN};
		char buf[8];
		uint64_t dropped = stats().dropped_out;
		assert_int_equal(bind(c, sa, len), 0);
		assert_int_equal(connect(p, sa, len), 0);
		gw_hold_shut(h);
		assert_int_equal(send(p, "1", 1, 0), 1); /* it is not frozen yet */
		assert_int_equal(poll(&ps, 1, 2000), 1);
		assert_int_equal(recv(c, buf, sizeof(buf), 0), 1);
		gw_hold_mute(h);
		assert_int_equal(send(p, "22", 2, 0), 2);
		assert_int_equal(poll(&ps, 1, 100), 0);
		assert_true(stats().dropped_out > dropped);
		gw_hold_release(h);
		assert_int_equal(send(p, "333", 3, 0), 3);
		assert_int_equal(poll(&ps, 1, 2000), 1);
		assert_int_equal(recv(c, buf, sizeof(buf), 0), 3);
		assert_int_equal(poll(&ps, 1, 50), 0); /* what was dropped does not come later */
	}
}

/* A connection to the pod from hC, asked for and not waited for. */
static int ask_for_connection(int family)
{
	int c = lab_socket("hC", family, SOCK_STREAM | SOCK_NONBLOCK, 0);
	socklen_t len;
	struct sockaddr *sa = lab_address(family, lab_pod_ip[family == AF_INET6], 7001, &len);
	assert_int_equal(connect(c, sa, len), -1);
	assert_int_equal(errno, EINPROGRESS);
	return c;
}

static void what_opens_a_connection_waits_while_others_go_on(void **state)
{
	(void)state;
	h = hold("c1");
	for (int i = 0; i < 2; i++) {
		int family = i ? AF_INET6 : AF_INET;
		char buf[8];
		gw_auto(fd) int a = lab_listen("pA", family, 7001, SOCK_STREAM);
		gw_auto(fd) int c = ask_for_connection(family);
		gw_auto(fd) int conn = accept(a, NULL, NULL);
		uint64_t held = stats().held;
		gw_hold_shut_new(h);
		assert_int_equal(send(c, "abc", 3, 0), 3);
		assert_int_equal(recv(conn, buf, sizeof(buf), 0), 3);
		gw_auto(fd) int d = ask_for_connection(family);
		struct pollfd p = {.fd = d, .events = POLLOUT};
		assert_int_equal(poll(&p, 1, 50), 0);
		assert_int_equal(stats().held, held + 1);
		gw_hold_shut(h);
		assert_int_equal(send(c, "de", 2, 0), 2);
		wait_held(held + 2);
		assert_int_equal(recv(conn, buf, sizeof(buf), MSG_DONTWAIT), -1);
		gw_hold_release(h);
		assert_int_equal(recv(conn, buf, sizeof(buf), 0), 2);
		assert_int_equal(poll(&p, 1, 500), 1);
		assert_false(p.revents & (POLLERR | POLLHUP));
	}
}

static unsigned unaccepted(void)
{
	unsigned left = 77;
	lab_enter("pA"); /* the namespace of this process is its first thread's */
	int rc = gw_handshakes_wait(getpid(), 1000, &left, &e);
	lab_enter("hA");
	if (rc < 0)
		fail_msg("%s", e.text);
	return left;
}

static void a_connection_that_nobody_has_accepted_is_seen(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		int family = i ? AF_INET6 : AF_INET;
		gw_auto(fd) int a = lab_listen("pA", family, 7001, SOCK_STREAM);
		assert_int_equal(unaccepted(), 0);
		gw_auto(fd) int c = ask_for_connection(family);
		struct pollfd p = {.fd = a, .events = POLLIN};
		assert_int_equal(poll(&p, 1, 2000), 1);
		assert_int_equal(unaccepted(), 1);
		gw_auto(fd) int conn = accept(a, NULL, NULL);
		assert_int_equal(unaccepted(), 0);
		/* Its third packet is lost: half a handshake. */
		lab_sh("ip netns exec hC nft 'add table inet x; add chain inet x o { type filter hook output priority "
		       "0; }; add rule inet x o tcp flags & (syn|ack) == ack drop'");
		gw_auto(fd) int d = ask_for_connection(family);
		p = (struct pollfd){.fd = d, .events = POLLOUT};
		assert_int_equal(poll(&p, 1, 2000), 1);
		assert_int_equal(unaccepted(), 1);
		lab_sh("ip netns exec hC nft delete table inet x");
	}
}

static void a_pod_that_moved_stays_mute(void **state)
{
	(void)state;
	h = hold("c1");
	gw_auto(fd) int c = lab_socket("hC", AF_INET, SOCK_DGRAM, 0);
	gw_auto(fd) int p = lab_socket("pA", AF_INET, SOCK_DGRAM, 0);
	socklen_t len;
	struct sockaddr *sa = lab_address(AF_INET, lab_host_ip[LAB_C][0], 9002, &len);
	struct pollfd ps = {.fd = c, .events = POLLIN};
	assert_int_equal(bind(c, sa, len), 0);
	assert_int_equal(connect(p, sa, len), 0);
	gw_hold_shut(h);
	gw_hold_release_moved(h);
	assert_int_equal(send(p, "1", 1, 0), 1);
	assert_int_equal(poll(&ps, 1, 100), 0);
	assert_true(stats().dropped_out >= 1);
}

/* A raw solicitation to the pod's address itself, as the host sends to see
 * whether a neighbour is still there. */
static void neighbour_discovery_is_not_held(void **state)
{
	(void)state;
	struct {
		struct nd_neighbor_solicit ns;
		uint8_t option[8];
	} msg = {.ns.nd_ns_type = ND_NEIGHBOR_SOLICIT, .option = {1, 1, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee}};
	int hops = 255;
	socklen_t len;
	gw_auto(fd) int from = lab_socket("hA", AF_INET6, SOCK_RAW, IPPROTO_ICMPV6);
	gw_auto(fd) int to = lab_socket("pA", AF_INET6, SOCK_RAW, IPPROTO_ICMPV6);
	struct sockaddr *sa = lab_address(AF_INET6, lab_pod_ip[1], 0, &len);
	assert_int_equal(inet_pton(AF_INET6, lab_pod_ip[1], &msg.ns.nd_ns_target), 1);
	assert_int_equal(setsockopt(from, IPPROTO_IPV6, IPV6_UNICAST_HOPS, &hops, sizeof(hops)), 0);
	struct icmp6_filter filter;
	ICMP6_FILTER_SETBLOCKALL(&filter);
	ICMP6_FILTER_SETPASS(ND_NEIGHBOR_SOLICIT, &filter);
	assert_int_equal(setsockopt(to, IPPROTO_ICMPV6, ICMP6_FILTER, &filter, sizeof(filter)), 0);
	h = hold("c1");
	gw_hold_shut(h);
	assert_int_equal(sendto(from, &msg, sizeof(msg), 0, sa, len), sizeof(msg));
	struct pollfd p = {.fd = to, .events = POLLIN};
	assert_int_equal(poll(&p, 1, 2000), 1);
	/* While an echo request, ICMPv6 too, is. */
	assert_int_not_equal(lab_sh_status("ip netns exec hA ping -qc1 -W1 fd88::5 >/dev/null"), 0);
	assert_int_equal(stats().held, 1);
}

static void more_than_fit_are_dropped_and_counted(void **state)
{
	(void)state;
	enum { MORE = 500 };
	gw_auto(fd) int a = lab_listen("pA", AF_INET, 9001, SOCK_DGRAM);
	h = hold("c1");
	gw_hold_shut(h);
	burst(AF_INET, "hC", HOLD_PACKETS_MAX + MORE, 0);
	wait_held(HOLD_PACKETS_MAX);
	assert_int_equal(stats().overflow, MORE);
	gw_hold_release(h);
	udp_collect(a, seen, SEEN_MAX, &nseen, 300);
	expect_all_in_order(HOLD_PACKETS_MAX);
	/* And there is room again. */
	nseen = 0;
	burst(AF_INET, "hC", 100, 0);
	udp_collect(a, seen, SEEN_MAX, &nseen, 200);
	expect_all_in_order(100);
}

static void freeing_a_hold_lets_kept_packets_go(void **state)
{
	(void)state;
	gw_auto(fd) int a = lab_listen("pA", AF_INET, 9001, SOCK_DGRAM);
	h = hold("c1");
	gw_hold_shut(h);
	burst(AF_INET, "hC", 300, 0);
	wait_held(300);
	gw_hold_free(h);
	h = NULL;
	udp_collect(a, seen, SEEN_MAX, &nseen, 200);
	expect_all_in_order(300);
	nseen = 0;
	burst(AF_INET, "hC", 300, 0);
	udp_collect(a, seen, SEEN_MAX, &nseen, 200);
	expect_all_in_order(300);
	assert_false(strstr(lab_sh_text("ip netns exec hA nft list ruleset"), "godwit:c1"));
}

static int by_number(const void *a, const void *b)
{
	uint32_t x, y;
	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return x < y ? -1 : x > y;
}

static void freeing_under_traffic_loses_nothing(void **state)
{
	(void)state;
	gw_auto(fd) int a = lab_listen("pA", AF_INET, 9001, SOCK_DGRAM);
	struct udp_flow f = {.family = AF_INET, .ns = "hC", .port = 9001, .pace_us = 50};
	udp_flow_start(&f);
	for (int i = 0; i < 20; i++) {
		h = hold("c1");
		gw_sleep_us(3000);
		if (i % 2)
			gw_hold_shut(h);
		gw_sleep_us(3000);
		gw_hold_free(h);
	}
	h = NULL;
	udp_flow_end(&f);
	udp_collect(a, seen, SEEN_MAX, &nseen, 200);
	/* The first that takes no detour may overtake the last that does. */
	qsort(seen, nseen < SEEN_MAX ? nseen : SEEN_MAX, sizeof(seen[0]), by_number);
	expect_all_in_order(f.sent);
}

/* Removing a netfilter chain makes the kernel drop what waits in every queue. */
static void one_hold_that_ends_does_not_harm_another(void **state)
{
	(void)state;
	gw_auto(fd) int a = lab_listen("pA", AF_INET, 9001, SOCK_DGRAM);
	struct gw_pod other = pod;
	struct gw_hold *h2 = NULL;
	other.naddrs = 1;
	assert_int_equal(gw_addr_parse("10.88.0.6", &other.addrs[0]), 0);
	(void)strcpy(other.host_ifname, "v-other");
	assert_int_equal(gw_hold_new("c2", &other, &h2, &e), 0);
	h = hold("c1");
	gw_hold_shut(h);
	burst(AF_INET, "hC", 300, 0);
	wait_held(300);
	gw_hold_free(h2);
	assert_int_equal(gw_hold_new("c3", &other, &h2, &e), 0);
	gw_hold_free(h2);
	assert_int_equal(gw_hold_sweep(&e), 0);
	gw_hold_release(h);
	udp_collect(a, seen, SEEN_MAX, &nseen, 200);
	expect_all_in_order(300);
}

static void a_firewall_that_is_loaded_anew_does_not_open_a_hold(void **state)
{
	(void)state;
	gw_auto(fd) int a = lab_listen("pA", AF_INET, 9001, SOCK_DGRAM);
	h = hold("c1");
	gw_hold_shut(h);
	lab_sh("ip netns exec hA nft flush ruleset");
	burst(AF_INET, "hC", 10, 0);
	wait_held(10);
	udp_collect(a, seen, SEEN_MAX, &nseen, 50);
	assert_int_equal(nseen, 0);
	gw_hold_release(h);
	udp_collect(a, seen, SEEN_MAX, &nseen, 200);
	expect_all_in_order(10);
}

static void a_holder_that_is_killed_does_not_cut_the_pod_off(void **state)
{
	(void)state;
	gw_auto(fd) int a = lab_listen("pA", AF_INET, 9001, SOCK_DGRAM);
	int ready[2];
	char c;
	assert_int_equal(pipe(ready), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct gw_hold *mine = NULL;
		if (gw_hold_new("c1", &pod, &mine, NULL) < 0)
			_exit(1);
		gw_hold_shut(mine);
		(void)!write(ready[1], "x", 1);
		for (;;)
			(void)pause();
	}
	assert_int_equal(read(ready[0], &c, 1), 1);
	burst(AF_INET, "hC", 10, 0);
	udp_collect(a, seen, SEEN_MAX, &nseen, 50);
	assert_int_equal(nseen, 0);
	assert_non_null(strstr(lab_sh_text("ip netns exec hA nft list ruleset"), "godwit:c1"));
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	burst(AF_INET, "hC", 100, 0);
	udp_collect(a, seen, SEEN_MAX, &nseen, 200);
	expect_all_in_order(100);
	assert_null(strstr(lab_sh_text("ip netns exec hA nft list ruleset"), "godwit:c1"));
	(void)close(ready[0]);
	(void)close(ready[1]);
}

static void a_hold_keeps_the_packets_of_no_other_pod(void **state)
{
	(void)state;
	lab_enter("hA");
	h = hold("c1");
	struct gw_hold *h2 = NULL;
	struct gw_pod other = pod;
	(void)strcpy(other.host_ifname, "v-other");
	assert_int_equal(gw_addr_parse("10.88.0.6", &other.addrs[0]), 0);
	other.naddrs = 1;
	assert_int_equal(gw_hold_new("c2", &other, &h2, &e), 0);
	gw_auto(fd) int a = lab_listen("pA", AF_INET, 9001, SOCK_DGRAM);
	gw_hold_shut(h2);
	burst(AF_INET, "hC", 10, 0);
	udp_collect(a, seen, SEEN_MAX, &nseen, 200);
	gw_hold_free(h2);
	expect_all_in_order(10);
}

static void sweeping_removes_what_has_no_owner_and_leaves_the_living(void **state)
{
	(void)state;
	gw_auto(fd) int a = lab_listen("pA", AF_INET, 9001, SOCK_DGRAM);
	h = hold("c1");
	gw_hold_shut(h);
	lab_sh("ip netns exec hA nft 'add table inet godwit-hold-77; add chain inet godwit-hold-77 prerouting "
	       "{ type filter hook prerouting priority -90; }; add table inet other'");
	if (gw_hold_sweep(&e) < 0)
		fail_msg("%s", e.text);
	const char *rules = lab_sh_text("ip netns exec hA nft list ruleset");
	assert_null(strstr(rules, "godwit-hold-77"));
	assert_non_null(strstr(rules, "table inet other"));
	assert_non_null(strstr(rules, "godwit:c1"));
	burst(AF_INET, "hC", 10, 0);
	wait_held(10);
}

static void a_hold_for_nothing_is_refused(void **state)
{
	(void)state;
	struct gw_pod none = pod;
	struct gw_hold *out = NULL;
	none.naddrs = 0;
	assert_int_equal(gw_hold_new("c1", &none, &out, &e), -EINVAL);
	none = pod;
	none.host_ifname[0] = 0;
	assert_int_equal(gw_hold_new("c1", &none, &out, &e), -EINVAL);
	assert_null(out);
}

#define WITH_LAB(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static int tests(void)
{
	const struct CMUnitTest list[] = {
	        WITH_LAB(this_kernel_can_hold),
	        WITH_LAB(an_open_hold_lets_everything_pass),
	        WITH_LAB(packets_of_ipv4_from_outside_wait_and_come_in_order),
	        WITH_LAB(packets_of_ipv6_from_outside_wait_and_come_in_order),
	        WITH_LAB(packets_of_ipv4_of_the_host_itself_wait_and_come_in_order),
	        WITH_LAB(packets_of_ipv6_of_the_host_itself_wait_and_come_in_order),
	        WITH_LAB(large_datagrams_are_held_with_all_their_fragments),
	        WITH_LAB(large_segments_pass_and_wait_unharmed),
	        WITH_LAB(what_the_pod_sends_passes_until_it_is_muted),
	        WITH_LAB(what_opens_a_connection_waits_while_others_go_on),
	        WITH_LAB(a_connection_that_nobody_has_accepted_is_seen),
	        WITH_LAB(a_pod_that_moved_stays_mute),
	        WITH_LAB(neighbour_discovery_is_not_held),
	        WITH_LAB(more_than_fit_are_dropped_and_counted),
	        WITH_LAB(freeing_a_hold_lets_kept_packets_go),
	        WITH_LAB(freeing_under_traffic_loses_nothing),
	        WITH_LAB(one_hold_that_ends_does_not_harm_another),
	        WITH_LAB(a_firewall_that_is_loaded_anew_does_not_open_a_hold),
	        WITH_LAB(a_holder_that_is_killed_does_not_cut_the_pod_off),
	        WITH_LAB(a_hold_keeps_the_packets_of_no_other_pod),
	        WITH_LAB(sweeping_removes_what_has_no_owner_and_leaves_the_living),
	        WITH_LAB(a_hold_for_nothing_is_refused),
	};
	return cmocka_run_group_tests_name("net/hold", list, NULL, NULL);
}

int main(void)
{
	_exit(lab_run(tests)); /* its children's pid namespace is dead: no leak check can start */
}
