#include "move/converge.h"

enum { STALE_MAX = 2, THROTTLE_STEPS_MAX = 4, SEND_RATE_FLOOR = 1 << 20 };

void gw_converge_init(struct gw_converge *c, const struct gw_converge_opts *o)
{
	*c = (struct gw_converge){.o = *o, .best_us = UINT64_MAX};
}

/* Half of the new value, half of the past: rounds are few and noisy. */
static uint64_t smooth(uint64_t past, uint64_t now)
{
	return past ? (past + now) / 2 : now;
}

static uint64_t per_second(uint64_t bytes, uint64_t us)
{
	return us ? (uint64_t)((double)bytes * 1e6 / (double)us) : 0;
}

static uint64_t predict(const struct gw_converge *c, uint64_t round_us)
{
	uint64_t rate = c->send_rate > SEND_RATE_FLOOR ? c->send_rate : SEND_RATE_FLOOR;
	double dirty = (double)c->dirty_rate * (double)round_us / 1e6;
	return c->o.fixed_us + (uint64_t)(dirty * 1e6 / (double)rate);
}

static enum gw_converge_step over_limit(struct gw_converge *c)
{
	if (!c->o.may_throttle || c->throttle_step == THROTTLE_STEPS_MAX)
		return GW_NOT_CONVERGING;
	c->throttle_step++;
	c->stale = 0;
	c->best_us = UINT64_MAX;
	c->dirty_rate = 0; /* what was measured before the brake says nothing now */
	return GW_THROTTLE;
}

enum gw_converge_step gw_converge_round(struct gw_converge *c, uint64_t dirty_bytes, uint64_t since_last_us,
                                        uint64_t round_us)
{
	c->rounds++;
	/* A round of few pages is all start-up cost: it says nothing of the speed. */
	if (c->rounds == 1 || dirty_bytes > 8u << 20)
		c->send_rate = smooth(c->send_rate, per_second(dirty_bytes, round_us));
	if (c->rounds == 1)
		return GW_AGAIN;
	c->dirty_rate = smooth(c->dirty_rate, per_second(dirty_bytes, since_last_us));
	c->predicted_us = predict(c, round_us);
	if (c->predicted_us <= c->o.want_us)
		return GW_FREEZE;
	/* An improvement of less than a tenth is none. */
	if (c->predicted_us < c->best_us - c->best_us / 10) {
		c->best_us = c->predicted_us;
		c->stale = 0;
	} else {
		c->stale++;
	}
	if (c->stale < STALE_MAX && c->rounds < c->o.rounds_max)
		return GW_AGAIN;
	return c->predicted_us <= c->o.max_us ? GW_FREEZE : over_limit(c);
}

uint32_t gw_converge_cpu_percent(const struct gw_converge *c)
{
	return 100u >> c->throttle_step;
}
