/* Clients on a third host, on the source and on the destination, through a
 * whole move: hold, freeze, activate, turn, release. */
#include "test.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/scope.h"
#include "flow.h"
#include "lab.h"
#include "net/hold.h"
#include "net/mover.h"
#include "tcp_move.h"

enum { FREEZE_MS = 60, RTO_MIN_MS = 200 };

static const struct gw_mover *const m = &gw_mover_routed;
static const char id[] = "c1";
static char made[300];
static struct gw_pod pod;
static struct gw_err e;

static int setup(void **state)
{
	return lab_with_pod(state) < 0 ? -1 : gw_pod_inspect("/run/netns/pA", &pod, &e);
}

/* All that happens before the freeze; ends on A with an open hold. */
static struct gw_hold *before(void)
{
	struct gw_hold *h = NULL;
	lab_enter("hB");
	OK(m->prepare(id, &pod, made, sizeof(made), &e));
	lab_enter("hA");
	OK(m->ready(id, &pod, LAB_VIA_B, &e));
	OK(gw_hold_new(id, &pod, &h, &e));
	return h;
}

static void commit(struct gw_hold *h)
{
	lab_enter("hB");
	OK(m->activate(id, &pod, &e));
	lab_enter("hA");
	OK(m->turn(id, &pod, LAB_VIA_B, &e));
	gw_hold_release_moved(h);
}

enum { SEEN_MAX = 100000 };
static uint32_t seen[SEEN_MAX], nseen;

static void expect_each_once(uint32_t sent, bool in_order)
{
	static uint8_t times[SEEN_MAX];
	memset(times, 0, sizeof(times));
	assert_true(sent <= SEEN_MAX);
	for (uint32_t i = 0; i < nseen; i++) {
		assert_true(seen[i] < sent);
		times[seen[i]]++;
		if (in_order && seen[i] != i)
			fail_msg("number %u came in place %u", seen[i], i);
	}
	for (uint32_t i = 0; i < sent; i++)
		if (times[i] != 1)
			fail_msg("number %u of %u came %u times", i, sent, times[i]);
}

/* Datagrams all the while; each must come once, some of them held. `there`:
 * the destination holds too, which also keeps the order for its own clients. */
static void udp_move(int family, const char *client, bool there)
{
	struct udp_flow f = {.family = family, .ns = client, .port = 9001, .pace_us = 200};
	struct gw_hold_stats st;
	struct gw_hold *h = before(), *h2 = NULL;
	gw_auto(fd) int a = lab_listen("pA", family, 9001, SOCK_DGRAM);
	gw_auto(fd) int b = lab_listen(made, family, 9001, SOCK_DGRAM);
	nseen = 0;
	if (there) {
		lab_enter("hB");
		OK(gw_hold_new(id, &pod, &h2, &e));
		lab_enter("hA");
	}
	udp_flow_start(&f);
	for (int i = 0; i < 1500 && nseen < 50; i++) {
		gw_sleep_us(10000);
		udp_collect(a, seen, SEEN_MAX, &nseen, 0);
	}
	if (there) {
		gw_hold_shut(h2);
		gw_sleep_us(5000); /* what is on the wire to A arrives */
	}
	gw_hold_shut(h);
	unsigned sent = atomic_load(&f.sent);
	gw_sleep_us(FREEZE_MS * 1000);
	udp_flow_wait(&f, sent + 10);
	udp_collect(a, seen, SEEN_MAX, &nseen, 0);
	uint32_t to_a = nseen;
	commit(h);
	if (there)
		gw_hold_release(h2);
	udp_flow_wait(&f, atomic_load(&f.sent) + 100);
	udp_flow_end(&f);
	udp_collect(a, seen, SEEN_MAX, &nseen, 0);
	assert_int_equal(nseen, to_a); /* what the frozen copy gets is lost */
	udp_collect(b, seen, SEEN_MAX, &nseen, 200);
	gw_hold_stats(h, &st);
	if (there)
		gw_hold_free(h2);
	gw_hold_free(h);
	assert_int_equal(f.refused, 0);
	assert_true(to_a > 0 && nseen > to_a);
	if (!there)
		assert_true(st.held > 0);
	assert_int_equal(st.overflow, 0);
	/* B's own newest go straight to its pod while its older ones come back from A. */
	expect_each_once(f.sent, strcmp(client, "hB") != 0 || there);
}

static void udp_over_ipv4_from_a_third_host_loses_nothing(void **s)
{
	(void)s;
	udp_move(AF_INET, "hC", false);
}
static void udp_over_ipv6_from_a_third_host_loses_nothing(void **s)
{
	(void)s;
	udp_move(AF_INET6, "hC", false);
}
static void udp_over_ipv4_from_the_source_loses_nothing(void **s)
{
	(void)s;
	udp_move(AF_INET, "hA", false);
}
static void udp_over_ipv6_from_the_source_loses_nothing(void **s)
{
	(void)s;
	udp_move(AF_INET6, "hA", false);
}
static void udp_over_ipv4_from_the_destination_loses_nothing(void **s)
{
	(void)s;
	udp_move(AF_INET, "hB", false);
}
static void udp_over_ipv6_from_the_destination_loses_nothing(void **s)
{
	(void)s;
	udp_move(AF_INET6, "hB", false);
}
static void a_hold_on_the_destination_keeps_the_order_of_its_own_clients(void **s)
{
	(void)s;
	udp_move(AF_INET, "hB", true);
}
static void the_same_over_ipv6(void **s)
{
	(void)s;
	udp_move(AF_INET6, "hB", true);
}
static void a_hold_on_the_destination_does_not_harm_a_third_host(void **s)
{
	(void)s;
	udp_move(AF_INET, "hC", true);
}

/* A connection with its server's socket really taken to the other side. */
static void tcp_move(int family, const char *client, const char *ip, uint16_t port)
{
	static struct tcp_image image;
	struct tcp_flow f = {.family = family, .ns = client, .ip = ip, .port = port};
	struct gw_hold *h = before();
	gw_auto(fd) int a = lab_listen("pA", family, 7001, SOCK_STREAM);
	tcp_flow_start(&f);
	gw_auto(fd) int conn = accept(a, NULL, NULL);
	assert_true(conn >= 0);
	assert_int_equal(tcp_serve_until(conn, &f, 40), 0);
	uint64_t t = gw_now_us();
	gw_hold_shut(h);
	assert_int_equal(tcp_serve(conn, 3), 0); /* it still runs: what it answers now must arrive */
	tcp_image_take(conn, &image);
	gw_sleep_us(FREEZE_MS * 1000);
	gw_auto(fd) int moved = tcp_image_make(made, &image);
	commit(h);
	t = gw_now_us() - t;
	/* The dead copy's FIN must not get out. */
	(void)shutdown(conn, SHUT_RDWR);
	(void)close(gw_take_fd(&conn));
	unsigned rounds = atomic_load(&f.rounds);
	assert_int_equal(tcp_serve_until(moved, &f, rounds + 40), 0);
	gw_hold_free(h);
	assert_int_equal(tcp_serve_until(moved, &f, rounds + 80), 0);
	atomic_store(&f.end, true);
	(void)tcp_serve(moved, 30);
	tcp_flow_end(&f);
	assert_int_equal(f.error, 0);
	/* A slow machine may have held for longer than the client's patience. */
	if (t < RTO_MIN_MS * 1000 / 2)
		assert_int_equal(f.retransmits, 0);
	print_message("held %u us, longest wait %u us, %u retransmits\n", (unsigned)t, (unsigned)f.longest_us,
	              f.retransmits);
}

static void tcp_over_ipv4_from_a_third_host_goes_on(void **s)
{
	(void)s;
	tcp_move(AF_INET, "hC", NULL, 7001);
}
static void tcp_over_ipv6_from_a_third_host_goes_on(void **s)
{
	(void)s;
	tcp_move(AF_INET6, "hC", NULL, 7001);
}
static void tcp_over_ipv4_from_the_source_goes_on(void **s)
{
	(void)s;
	tcp_move(AF_INET, "hA", NULL, 7001);
}
static void tcp_over_ipv6_from_the_source_goes_on(void **s)
{
	(void)s;
	tcp_move(AF_INET6, "hA", NULL, 7001);
}
static void tcp_over_ipv4_from_the_destination_goes_on(void **s)
{
	(void)s;
	tcp_move(AF_INET, "hB", NULL, 7001);
}
static void tcp_over_ipv6_from_the_destination_goes_on(void **s)
{
	(void)s;
	tcp_move(AF_INET6, "hB", NULL, 7001);
}

/* A Service's address: translated on the host itself, behind the raw table. */
static void tcp_to_a_translated_address_from_the_source_goes_on(void **s)
{
	(void)s;
	lab_sh("ip netns exec hA nft 'add table ip svc; add chain ip svc o { type nat hook output priority -100; }; "
	       "add rule ip svc o ip daddr 10.96.0.1 tcp dport 80 dnat to 10.88.0.5:7001'");
	tcp_move(AF_INET, "hA", "10.96.0.1", 80);
}
static void tcp_to_a_translated_address_through_the_source_goes_on(void **s)
{
	(void)s;
	lab_sh("ip netns exec hA nft 'add table ip svc; add chain ip svc p { type nat hook prerouting priority -100; "
	       "}; "
	       "add rule ip svc p ip daddr 10.96.0.1 tcp dport 80 dnat to 10.88.0.5:7001'");
	lab_sh("ip -n hC route add 10.96.0.1 via 10.9.0.2");
	/* The answers must come back through the translator. */
	lab_sh("ip netns exec hA nft 'add chain ip svc q { type nat hook postrouting priority 100; }; "
	       "add rule ip svc q ip daddr 10.88.0.5 ip saddr 10.9.0.1 snat to 10.9.0.2'");
	tcp_move(AF_INET, "hC", "10.96.0.1", 80);
}

/* Asked for while everything is held: the SYN must arrive as what it was, at once
 * when it is let go. It is sent again after a second only. */
static void new_connection(const char *client, const char *translator)
{
	struct gw_hold *h = before(), *h2 = NULL;
	gw_auto(fd) int b = lab_listen(made, AF_INET, 7001, SOCK_STREAM);
	lab_sh("for c in output prerouting; do ip netns exec %s nft \"add table ip svc; add chain ip svc $c "
	       "{ type nat hook $c priority -100; }; add rule ip svc $c ip daddr 10.96.0.1 tcp dport 80 dnat to "
	       "10.88.0.5:7001\"; done",
	       translator);
	lab_enter("hB");
	OK(gw_hold_new_there(id, &pod, &h2, &e));
	gw_hold_shut(h2);
	lab_enter("hA");
	gw_hold_shut(h);
	gw_auto(fd) int c = lab_socket(client, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	socklen_t len;
	struct sockaddr *sa = lab_address(AF_INET, "10.96.0.1", 80, &len);
	assert_int_equal(connect(c, sa, len), -1);
	assert_int_equal(errno, EINPROGRESS);
	gw_sleep_us(FREEZE_MS * 1000);
	commit(h);
	gw_hold_release(h2);
	struct pollfd p = {.fd = c, .events = POLLOUT};
	assert_int_equal(poll(&p, 1, 5000), 1);
	struct tcp_info i = {0};
	len = sizeof(i);
	assert_int_equal(getsockopt(c, IPPROTO_TCP, TCP_INFO, &i, &len), 0);
	assert_int_equal(i.tcpi_state, TCP_ESTABLISHED);
	assert_int_equal(i.tcpi_total_retrans, 0);
	gw_hold_free(h2);
	gw_hold_free(h);
}
static void a_new_connection_by_a_translated_address_from_the_source_is_held(void **s)
{
	(void)s;
	new_connection("hA", "hA");
}
static void a_new_connection_by_a_translated_address_from_the_destination_is_held(void **s)
{
	(void)s;
	new_connection("hB", "hB");
}
static void a_new_connection_by_a_port_of_the_destination_is_held(void **s)
{
	(void)s;
	lab_sh("ip -n hC route add 10.96.0.1 via 10.9.0.3");
	lab_sh("ip netns exec hB nft 'add table ip svc; add chain ip svc q { type nat hook postrouting priority 100; "
	       "}; add rule ip svc q ip daddr 10.88.0.5 ip saddr 10.9.0.1 snat to 10.9.0.3'");
	new_connection("hC", "hB");
}

/* The same with connection tracking on every host, as Kubernetes has it. */
static void tracked(int family, const char *client)
{
	lab_sh("for h in hA hB; do ip netns exec $h nft 'add table inet t; "
	       "add chain inet t f { type filter hook forward priority 0; }; "
	       "add rule inet t f ct state invalid counter drop; add rule inet t f ct state new,established accept'; "
	       "done");
	tcp_move(family, client, NULL, 7001);
}
static void connection_tracking_does_not_stop_a_move_for_a_third_host(void **s)
{
	(void)s;
	tracked(AF_INET, "hC");
}
static void connection_tracking_does_not_stop_a_move_for_the_source(void **s)
{
	(void)s;
	tracked(AF_INET, "hA");
}
static void connection_tracking_does_not_stop_a_move_for_the_destination(void **s)
{
	(void)s;
	tracked(AF_INET6, "hB");
}

static void new_connections_through_the_source_are_tracked_by_nobody(void **s)
{
	(void)s;
	lab_sh("ip netns exec hA nft 'add table inet t; add chain inet t f { type filter hook forward priority 0; }; "
	       "add rule inet t f ct state invalid counter drop'");
	struct gw_hold *h = before();
	gw_hold_shut(h);
	commit(h);
	gw_hold_free(h);
	for (int i = 0; i < 2; i++) {
		int family = i ? AF_INET6 : AF_INET;
		struct tcp_flow f = {.family = family, .ns = "hC", .port = 7002};
		gw_auto(fd) int b = lab_listen(made, family, 7002, SOCK_STREAM);
		tcp_flow_start(&f);
		gw_auto(fd) int conn = accept(b, NULL, NULL);
		assert_int_equal(tcp_serve_until(conn, &f, 40), 0);
		atomic_store(&f.end, true);
		(void)tcp_serve(conn, 20);
		tcp_flow_end(&f);
		assert_int_equal(f.error, 0);
	}
}

/* A move that is called off after the turn. */
static void a_move_called_off_after_the_turn_loses_nothing(void **s)
{
	(void)s;
	struct udp_flow f = {.family = AF_INET, .ns = "hC", .port = 9001, .pace_us = 200};
	struct gw_hold *h = before();
	gw_auto(fd) int a = lab_listen("pA", AF_INET, 9001, SOCK_DGRAM);
	nseen = 0;
	udp_flow_start(&f);
	udp_flow_wait(&f, 100);
	gw_hold_shut(h);
	gw_sleep_us(20000);
	OK(m->turn(id, &pod, LAB_VIA_B, &e));
	gw_sleep_us(20000);
	OK(m->turn_back(id, &pod, &e));
	gw_hold_release(h);
	udp_flow_wait(&f, atomic_load(&f.sent) + 100);
	udp_flow_end(&f);
	udp_collect(a, seen, SEEN_MAX, &nseen, 200);
	gw_hold_free(h);
	expect_each_once(f.sent, true);
}

#define WITH_LAB(f) cmocka_unit_test_setup_teardown(f, setup, lab_end)

static int tests(void)
{
	const struct CMUnitTest list[] = {
	        WITH_LAB(udp_over_ipv4_from_a_third_host_loses_nothing),
	        WITH_LAB(udp_over_ipv6_from_a_third_host_loses_nothing),
	        WITH_LAB(udp_over_ipv4_from_the_source_loses_nothing),
	        WITH_LAB(udp_over_ipv6_from_the_source_loses_nothing),
	        WITH_LAB(udp_over_ipv4_from_the_destination_loses_nothing),
	        WITH_LAB(udp_over_ipv6_from_the_destination_loses_nothing),
	        WITH_LAB(a_hold_on_the_destination_keeps_the_order_of_its_own_clients),
	        WITH_LAB(the_same_over_ipv6),
	        WITH_LAB(a_hold_on_the_destination_does_not_harm_a_third_host),
	        WITH_LAB(tcp_over_ipv4_from_a_third_host_goes_on),
	        WITH_LAB(tcp_over_ipv6_from_a_third_host_goes_on),
	        WITH_LAB(tcp_over_ipv4_from_the_source_goes_on),
	        WITH_LAB(tcp_over_ipv6_from_the_source_goes_on),
	        WITH_LAB(tcp_over_ipv4_from_the_destination_goes_on),
	        WITH_LAB(tcp_over_ipv6_from_the_destination_goes_on),
	        WITH_LAB(tcp_to_a_translated_address_from_the_source_goes_on),
	        WITH_LAB(tcp_to_a_translated_address_through_the_source_goes_on),
	        WITH_LAB(a_new_connection_by_a_translated_address_from_the_source_is_held),
	        WITH_LAB(a_new_connection_by_a_translated_address_from_the_destination_is_held),
	        WITH_LAB(a_new_connection_by_a_port_of_the_destination_is_held),
	        WITH_LAB(connection_tracking_does_not_stop_a_move_for_a_third_host),
	        WITH_LAB(connection_tracking_does_not_stop_a_move_for_the_source),
	        WITH_LAB(connection_tracking_does_not_stop_a_move_for_the_destination),
	        WITH_LAB(new_connections_through_the_source_are_tracked_by_nobody),
	        WITH_LAB(a_move_called_off_after_the_turn_loses_nothing),
	};
	return cmocka_run_group_tests_name("net/turn", list, NULL, NULL);
}

int main(void)
{
	_exit(lab_run(tests)); /* its children's pid namespace is dead: no leak check can start */
}
