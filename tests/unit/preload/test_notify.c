#include "test.h"

#include "godwit-criu.h"

/* criu_resp{type: NOTIFY, success: true, notify{script: "pre-resume", pid: 4711}} */
static const unsigned char resp[] = {0x08, 0x06, 0x10, 0x01, 0x2a, 0x0f, 0x0a, 0x0a, 'p',  'r', 'e',
                                     '-',  'r',  'e',  's',  'u',  'm',  'e',  0x10, 0xe7, 0x24};

static void the_pid_of_a_notification_is_found(void **state)
{
	(void)state;
	assert_int_equal(gwc_notify_pid(resp, sizeof(resp)), 4711);
}

static void a_cut_message_has_no_pid(void **state)
{
	(void)state;
	for (size_t n = 0; n < sizeof(resp); n++)
		assert_int_equal(gwc_notify_pid(resp, n), -1);
}

static void a_length_beyond_the_end_is_refused(void **state)
{
	(void)state;
	const unsigned char bad[] = {0x2a, 0x7f, 0x10, 0x01};
	assert_int_equal(gwc_notify_pid(bad, sizeof(bad)), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(the_pid_of_a_notification_is_found),
	        cmocka_unit_test(a_cut_message_has_no_pid),
	        cmocka_unit_test(a_length_beyond_the_end_is_refused),
	};
	return cmocka_run_group_tests_name("preload/notify", tests, NULL, NULL);
}
