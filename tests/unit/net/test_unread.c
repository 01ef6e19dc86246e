/* Datagrams that wait in a socket are seen, in a network namespace of its own. */
#include "test.h"

#include <netinet/in.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/scope.h"
#include "lab.h"
#include "net/unread.h"

static void one_datagram(int family)
{
	struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_port = htons(7000), .sin6_addr = in6addr_loopback};
	struct sockaddr_in a4 = {
	        .sin_family = AF_INET, .sin_port = htons(7000), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr *a = family == AF_INET ? (struct sockaddr *)&a4 : (struct sockaddr *)&a6;
	socklen_t len = family == AF_INET ? sizeof(a4) : sizeof(a6);
	gw_auto(fd) int from = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	gw_auto(fd) int to = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char b[8];
	assert_true(from >= 0 && to >= 0);
	assert_return_code(bind(to, a, len), 0);
	assert_false(gw_unread_datagrams(getpid()));
	for (int i = 0; i < 2; i++)
		assert_int_equal(sendto(from, "x", 1, 0, a, len), 1);
	assert_true(gw_unread_datagrams(getpid()));
	gw_unread_wait(getpid(), 1000); /* nobody reads: comes back all the same */
	assert_int_equal(recv(to, b, sizeof(b), 0), 1);
	assert_true(gw_unread_datagrams(getpid()));
	assert_int_equal(recv(to, b, sizeof(b), 0), 1);
	assert_false(gw_unread_datagrams(getpid()));
	gw_unread_wait(getpid(), UINT64_MAX / 2);
}

static void a_datagram_over_ipv4_that_nobody_read_is_seen(void **s)
{
	(void)s;
	one_datagram(AF_INET);
}
static void a_datagram_over_ipv6_that_nobody_read_is_seen(void **s)
{
	(void)s;
	one_datagram(AF_INET6);
}
static void a_process_that_is_gone_has_none(void **s)
{
	(void)s;
	assert_false(gw_unread_datagrams(0x7ffffff0));
}

static int tests(void)
{
	const struct CMUnitTest list[] = {
	        cmocka_unit_test(a_datagram_over_ipv4_that_nobody_read_is_seen),
	        cmocka_unit_test(a_datagram_over_ipv6_that_nobody_read_is_seen),
	        cmocka_unit_test(a_process_that_is_gone_has_none),
	};
	return cmocka_run_group_tests_name("net/unread", list, NULL, NULL);
}

int main(void)
{
	_exit(lab_run(tests)); /* its children's pid namespace is dead: no leak check can start */
}
