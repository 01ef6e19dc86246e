#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "load.h"

/* Buckets of 1/16 of an octave: 6 % wide, enough for a table of milliseconds. */
static unsigned bucket(uint64_t us)
{
	if (us < 16)
		return (unsigned)us;
	unsigned oct = 63u - (unsigned)__builtin_clzll(us);
	return (oct - 3) * 16 + (unsigned)((us >> (oct - 4)) & 15);
}
static uint64_t bucket_top(unsigned b)
{
	if (b < 16)
		return b;
	unsigned oct = b / 16 + 3;
	return ((16ull + b % 16 + 1) << (oct - 4)) - 1;
}

void load_window_reset(struct load_window *w, struct load_tcp tcp)
{
	memset(w, 0, sizeof *w);
	w->from_us = gw_now_us();
	w->tcp_from = tcp;
}

void load_window_answer(struct load_window *w, uint64_t now, uint64_t due, uint64_t sent, uint64_t last_answer)
{
	w->answers++;
	w->hist[bucket(now - due)]++;
	if (now - sent > w->wait_us_max) {
		w->wait_us_max = now - sent;
		w->wait_sent_us = sent;
	}
	if (now - due > w->due_us_max)
		w->due_us_max = now - due;
	if (now - last_answer > w->gap_us_max) {
		w->gap_us_max = now - last_answer;
		w->gap_from_us = last_answer;
	}
}

uint64_t load_window_quantile(const struct load_window *w, double q)
{
	uint64_t want = (uint64_t)(q * (double)w->answers);
	uint64_t n = 0;
	for (unsigned b = 0; b < LOAD_HIST; b++) {
		n += w->hist[b];
		if (n > want)
			return bucket_top(b);
	}
	return w->due_us_max;
}

void load_window_print(FILE *f, const struct load *l, const struct load_window *w, const char *event, const char *name,
                       struct load_tcp tcp)
{
	uint64_t now = gw_now_us();
	double s = (double)(now - w->from_us) / 1e6;
	fprintf(f,
	        "{\"event\":\"%s\",\"name\":\"%s\",\"from_us\":%" PRIu64 ",\"to_us\":%" PRIu64 ",\"answers\":%" PRIu64
	        ",\"rate\":%.0f,\"p50_us\":%" PRIu64 ",\"p99_us\":%" PRIu64 ",\"wait_max_us\":%" PRIu64
	        ",\"wait_sent_us\":%" PRIu64 ",\"due_max_us\":%" PRIu64 ",\"gap_max_us\":%" PRIu64
	        ",\"gap_from_us\":%" PRIu64 ",\"inflight\":%" PRIu32 ",\"idle_us\":%" PRIu64 ",\"retransmits\":%" PRIu32
	        ",\"probes\":%" PRIu64 ",\"timeouts\":%" PRIu64 "}\n",
	        event, name, w->from_us, now, w->answers, s > 0 ? (double)w->answers / s : 0,
	        load_window_quantile(w, 0.5), load_window_quantile(w, 0.99), w->wait_us_max, w->wait_sent_us,
	        w->due_us_max, w->gap_us_max, w->gap_from_us, l->inflight, now - l->last_answer_us,
	        tcp.retransmits - w->tcp_from.retransmits, tcp.probes - w->tcp_from.probes,
	        tcp.timeouts - w->tcp_from.timeouts);
}
