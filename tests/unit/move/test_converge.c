#include "test.h"

#include "move/converge.h"

static const struct gw_converge_opts usual = {.want_us = 50000, .max_us = 500000, .rounds_max = 30, .fixed_us = 40000};

static void the_first_round_never_freezes(void **state)
{
	(void)state;
	struct gw_converge c;
	gw_converge_init(&c, &usual);
	assert_int_equal(gw_converge_round(&c, 1 << 30, 0, 1000000), GW_AGAIN);
	assert_in_range(c.send_rate, 1073000000, 1074000000);
}

static void a_quiet_container_freezes_after_the_second_round(void **state)
{
	(void)state;
	struct gw_converge c;
	gw_converge_init(&c, &usual);
	(void)gw_converge_round(&c, 1 << 30, 0, 1000000);
	assert_int_equal(gw_converge_round(&c, 4096, 1000000, 5000), GW_FREEZE);
	assert_in_range(c.predicted_us, 40000, 40100);
}

static void rounds_go_on_while_the_prediction_improves(void **state)
{
	(void)state;
	struct gw_converge c;
	gw_converge_init(&c, &usual);
	(void)gw_converge_round(&c, 1ull << 32, 0, 4000000);
	assert_int_equal(gw_converge_round(&c, 1000u << 20, 4000000, 1000000), GW_AGAIN);
	assert_int_equal(gw_converge_round(&c, 250u << 20, 1000000, 250000), GW_AGAIN);
	assert_int_equal(gw_converge_round(&c, 62u << 20, 250000, 62000), GW_AGAIN);
}

static void what_stops_improving_under_the_limit_freezes(void **state)
{
	(void)state;
	struct gw_converge c;
	gw_converge_init(&c, &usual);
	(void)gw_converge_round(&c, 1 << 30, 0, 1000000);
	enum gw_converge_step s = GW_AGAIN;
	for (int i = 0; i < 10 && s == GW_AGAIN; i++)
		s = gw_converge_round(&c, 100u << 20, 300000, 100000);
	assert_int_equal(s, GW_FREEZE);
	assert_true(c.rounds < 10);
}

static void a_writer_as_fast_as_the_link_is_not_frozen(void **state)
{
	(void)state;
	struct gw_converge c;
	gw_converge_init(&c, &usual);
	(void)gw_converge_round(&c, 1 << 30, 0, 1000000);
	enum gw_converge_step s = GW_AGAIN;
	for (int i = 0; i < 40 && s == GW_AGAIN; i++)
		s = gw_converge_round(&c, 900u << 20, 900000, 900000);
	assert_int_equal(s, GW_NOT_CONVERGING);
}

static void the_brake_is_pulled_in_steps_of_half_and_then_given_up(void **state)
{
	(void)state;
	struct gw_converge_opts o = usual;
	o.may_throttle = true;
	struct gw_converge c;
	gw_converge_init(&c, &o);
	(void)gw_converge_round(&c, 1 << 30, 0, 1000000);
	unsigned brakes = 0;
	enum gw_converge_step s = GW_AGAIN;
	for (int i = 0; i < 200 && s != GW_NOT_CONVERGING; i++) {
		s = gw_converge_round(&c, 900u << 20, 900000, 900000);
		if (s == GW_THROTTLE)
			assert_int_equal(gw_converge_cpu_percent(&c), 100u >> ++brakes);
	}
	assert_int_equal(s, GW_NOT_CONVERGING);
	assert_int_equal(brakes, 4);
}

static void a_braked_writer_that_converges_freezes(void **state)
{
	(void)state;
	struct gw_converge_opts o = usual;
	o.may_throttle = true;
	struct gw_converge c;
	gw_converge_init(&c, &o);
	(void)gw_converge_round(&c, 1 << 30, 0, 1000000);
	enum gw_converge_step s = GW_AGAIN;
	while (s == GW_AGAIN)
		s = gw_converge_round(&c, 900u << 20, 900000, 900000);
	assert_int_equal(s, GW_THROTTLE);
	s = GW_AGAIN;
	uint64_t t = 900000;
	for (int i = 0; i < 30 && s == GW_AGAIN; i++, t /= 2)
		s = gw_converge_round(&c, t * 450, t, t / 2);
	assert_int_equal(s, GW_FREEZE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(the_first_round_never_freezes),
	        cmocka_unit_test(a_quiet_container_freezes_after_the_second_round),
	        cmocka_unit_test(rounds_go_on_while_the_prediction_improves),
	        cmocka_unit_test(what_stops_improving_under_the_limit_freezes),
	        cmocka_unit_test(a_writer_as_fast_as_the_link_is_not_frozen),
	        cmocka_unit_test(the_brake_is_pulled_in_steps_of_half_and_then_given_up),
	        cmocka_unit_test(a_braked_writer_that_converges_freezes),
	};
	return cmocka_run_group_tests_name("move/converge", tests, NULL, NULL);
}
