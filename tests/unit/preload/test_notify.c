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

/* criu_req{type: RESTORE, opts{images_dir_fd: 300, log_level: 4, log_file: "restore.log"}} */
static const unsigned char restore[] = {0x08, 0x02, 0x12, 0x12, 0x08, 0xac, 0x02, 0x48, 0x04, 0x52, 0x0b,
                                        'r',  'e',  's',  't',  'o',  'r',  'e',  '.',  'l',  'o',  'g'};
enum { LEVEL_AT = 8 };

static void a_restore_is_made_to_log_warnings_only(void **state)
{
	(void)state;
	unsigned char req[sizeof(restore)];
	memcpy(req, restore, sizeof(req));
	assert_true(gwc_quiet(req, sizeof(req)));
	assert_int_equal(req[LEVEL_AT], 2);
	req[LEVEL_AT] = 4;
	assert_memory_equal(req, restore, sizeof(req));
}

static void other_requests_stay_as_they_are(void **state)
{
	(void)state;
	unsigned char req[sizeof(restore)], before[sizeof(restore)];
	memcpy(before, restore, sizeof(before));
	before[1] = 1; /* a dump */
	memcpy(req, before, sizeof(req));
	assert_false(gwc_quiet(req, sizeof(req)));
	assert_memory_equal(req, before, sizeof(req));
	memcpy(before, restore, sizeof(before));
	before[LEVEL_AT] = 1; /* quieter already */
	memcpy(req, before, sizeof(req));
	assert_false(gwc_quiet(req, sizeof(req)));
	assert_memory_equal(req, before, sizeof(req));
	for (size_t n = 0; n < sizeof(restore); n++) { /* cut: opts must be whole */
		memcpy(req, restore, sizeof(req));
		assert_false(gwc_quiet(req, n));
		assert_memory_equal(req, restore, sizeof(req));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(the_pid_of_a_notification_is_found),
	        cmocka_unit_test(a_cut_message_has_no_pid),
	        cmocka_unit_test(a_length_beyond_the_end_is_refused),
	        cmocka_unit_test(a_restore_is_made_to_log_warnings_only),
	        cmocka_unit_test(other_requests_stay_as_they_are),
	};
	return cmocka_run_group_tests_name("preload/notify", tests, NULL, NULL);
}
