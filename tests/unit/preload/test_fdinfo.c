#include "test.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "godwit-criu.h"

/* fdinfo of fd as CRIU would read it. */
static void info_of(int fd, char out[1024])
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	int in = gwc_fdinfo_open(open(path, O_RDONLY | O_CLOEXEC));
	assert_true(in >= 0);
	ssize_t n = read(in, out, 1023);
	assert_true(n > 0);
	out[n] = 0;
	close(in);
}

static int timer(long value_ns, long interval_ns, bool wait)
{
	struct itimerspec t = {.it_value.tv_nsec = value_ns, .it_interval.tv_nsec = interval_ns};
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	assert_true(fd >= 0);
	assert_int_equal(timerfd_settime(fd, 0, &t, NULL), 0);
	struct pollfd p = {.fd = fd, .events = POLLIN};
	if (wait)
		assert_int_equal(poll(&p, 1, 5000), 1);
	return fd;
}

static void a_periodic_timer_that_fired_unread_is_due(void **state)
{
	(void)state;
	char text[1024];
	int fd = timer(1000, 1000000, true);
	info_of(fd, text);
	assert_non_null(strstr(text, "it_value: (0, 1)\n"));
	assert_non_null(strstr(text, "it_interval: (0, 1000000)\n"));
	close(fd);
}

static void a_timer_that_is_off_stays_off(void **state)
{
	(void)state;
	char text[1024];
	int fd = timer(0, 1000000, false);
	info_of(fd, text);
	assert_non_null(strstr(text, "it_value: (0, 0)\n"));
	close(fd);
}

static void a_single_shot_that_fired_stays_fired(void **state)
{
	(void)state;
	char text[1024];
	int fd = timer(1000, 0, true);
	info_of(fd, text);
	assert_non_null(strstr(text, "it_value: (0, 0)\n"));
	assert_non_null(strstr(text, "ticks: 1\n"));
	close(fd);
}

static void other_descriptors_are_left_alone(void **state)
{
	(void)state;
	char text[1024];
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	info_of(fd, text);
	assert_non_null(strstr(text, "pos:\t0\n"));
	close(fd);
	char odd[] = "pos:\t0\nticks: 3\nit_value: (0, 0)\n";
	assert_false(gwc_fdinfo_wind(odd));
	assert_int_equal(gwc_fdinfo_open(-1), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(a_periodic_timer_that_fired_unread_is_due),
	        cmocka_unit_test(a_timer_that_is_off_stays_off),
	        cmocka_unit_test(a_single_shot_that_fired_stays_fired),
	        cmocka_unit_test(other_descriptors_are_left_alone),
	};
	return cmocka_run_group_tests_name("preload/fdinfo", tests, NULL, NULL);
}
