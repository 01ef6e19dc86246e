#include "test.h"

#include <errno.h>
#include <string.h>

#include "base/gw_err.h"

static void a_system_failure_ends_with_the_words_of_errno(void **state)
{
	(void)state;
	struct gw_err e = {0};
	assert_int_equal(gw_fail(&e, GW_SYS, ENOENT, "open %s", "/x"), -ENOENT);
	assert_string_equal(e.text, "open /x: No such file or directory");
}

static void wrapping_puts_words_in_front(void **state)
{
	(void)state;
	struct gw_err e = {0};
	(void)gw_fail(&e, GW_PEER, 0, "root cause");
	assert_int_equal(gw_wrap(&e, "while %s", "working"), -EIO);
	assert_string_equal(e.text, "while working: root cause");
}

static void a_full_text_drops_the_front_and_keeps_the_cause(void **state)
{
	(void)state;
	struct gw_err e = {0};
	char big[400];
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = 0;
	(void)gw_fail(&e, GW_PEER, 0, "%s", big);
	(void)gw_wrap(&e, "%s", big);
	assert_string_equal(e.text, big);
}

static void a_code_survives_wrapping(void **state)
{
	(void)state;
	struct gw_err e = {0};
	(void)gw_fail_code(&e, GW_INPUT, "NotConverging", "too fast a writer");
	(void)gw_wrap(&e, "pre-copy");
	assert_string_equal(e.code, "NotConverging");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(a_system_failure_ends_with_the_words_of_errno),
	        cmocka_unit_test(wrapping_puts_words_in_front),
	        cmocka_unit_test(a_full_text_drops_the_front_and_keeps_the_cause),
	        cmocka_unit_test(a_code_survives_wrapping),
	};
	return cmocka_run_group_tests_name("base/gw_err", tests, NULL, NULL);
}
