#include "test.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* What CRIU 4.1 asks every socket; our getsockopt is the program's here. */
static int ask(int family, int name, int *value)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	socklen_t len = sizeof(*value);
	*value = -1;
	int rc = getsockopt(fd, SOL_SOCKET, name, value, &len);
	assert_int_equal(len, sizeof(*value));
	close(fd);
	return rc;
}

static void inet_sockets_pass_no_credentials(void **state)
{
	(void)state;
	int v;
	(void)setenv("GODWIT_CRIU_MODE", "dump", 1);
	assert_int_equal(ask(AF_INET, SO_PASSCRED, &v), 0);
	assert_int_equal(v, 0);
	assert_int_equal(ask(AF_INET6, SO_PASSSEC, &v), 0);
	assert_int_equal(v, 0);
}

static void unix_sockets_answer_themselves(void **state)
{
	(void)state;
	int on = 1, v = 0;
	socklen_t len = sizeof(v);
	(void)setenv("GODWIT_CRIU_MODE", "dump", 1);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)), 0);
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_PASSCRED, &v, &len), 0);
	assert_int_equal(v, 1);
	close(fd);
}

static void other_refusals_stay(void **state)
{
	(void)state;
	int v;
	(void)setenv("GODWIT_CRIU_MODE", "dump", 1);
	assert_int_equal(ask(AF_INET, 9999, &v), -1);
	assert_int_equal(errno, ENOPROTOOPT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(inet_sockets_pass_no_credentials),
	        cmocka_unit_test(unix_sockets_answer_themselves),
	        cmocka_unit_test(other_refusals_stay),
	};
	return cmocka_run_group_tests_name("preload/sockopt", tests, NULL, NULL);
}
