#pragma once
#include <stdbool.h>
#include <stdint.h>

/* converge: when to freeze. Pure arithmetic on what the rounds measured.
 *
 * After each round: how long would the container be frozen if we froze now?
 *   freeze = fixed + pages that will be dirty by then / speed of the last pages
 * fixed is what dump, restore and commit take whatever the memory is (known
 * from the last migrations of this host, 40 ms before the first). Pages that
 * will be dirty: dirty rate times the time of one more (short) round, for the
 * last round's pages were dirtied while the one before it was being sent.
 *
 * Freeze when that meets the wish, or when it has stopped improving and is
 * under the limit. Over the limit: slow the writer, if allowed, in steps of
 * half; else stop with NotConverging. All times in us, rates in bytes/s. */
struct gw_converge_opts {
	uint64_t want_us; /* good enough: freeze at once (0: as short as it gets) */
	uint64_t max_us;  /* never freeze if predicted longer */
	uint32_t rounds_max;
	bool may_throttle;
	uint64_t fixed_us;
};

enum gw_converge_step { GW_AGAIN, GW_FREEZE, GW_THROTTLE, GW_NOT_CONVERGING };

struct gw_converge {
	struct gw_converge_opts o;
	uint32_t rounds;
	uint32_t stale;         /* rounds without a better prediction */
	uint32_t throttle_step; /* how often the writer was slowed */
	uint64_t best_us;
	uint64_t predicted_us;
	uint64_t dirty_rate; /* bytes per second, smoothed */
	uint64_t send_rate;  /* bytes per second, smoothed */
};

void gw_converge_init(struct gw_converge *c, const struct gw_converge_opts *o);
/* One round is over: it found dirty_bytes that were written during
 * since_last_us, and took round_us to find and send them. The first round
 * (everything) only measures the speed. */
enum gw_converge_step gw_converge_round(struct gw_converge *c, uint64_t dirty_bytes, uint64_t since_last_us,
                                        uint64_t round_us);
/* CPU share left to the writer after throttle_step steps, in percent. */
uint32_t gw_converge_cpu_percent(const struct gw_converge *c);
