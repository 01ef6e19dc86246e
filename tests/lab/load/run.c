#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "load.h"

enum { PING_EVERY_US = 2000, VERIFY_TIMEOUT_MS = 60000 };

static uint64_t random_next(struct load *l)
{
	uint64_t x = l->random;
	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return l->random = x;
}

static uint64_t interval_ns(const struct load *l)
{
	return l->o.rate ? 1000000000ull / l->o.rate : PING_EVERY_US * 1000ull;
}

static void push(struct load *l, struct load_request r)
{
	r.sent_us = gw_now_us();
	l->ring[(l->head + l->inflight) % LOAD_PIPELINE_MAX] = r;
	l->inflight++;
	l->sent++;
	load_put_request(l, &r);
}

/* Everything that is due by now, as far as the pipeline allows. */
static void send_due(struct load *l)
{
	while (l->inflight < l->o.pipeline && gw_now_ns() >= l->next_ns) {
		struct load_request r = {.kind = LOAD_PING, .due_us = l->next_ns / 1000};
		l->next_ns += interval_ns(l);
		if (l->o.rate) {
			r.kind = LOAD_SET;
			r.key = (uint32_t)(random_next(l) % l->o.keys);
			r.version = ++l->versions[r.key];
		}
		push(l, r);
		if (!l->o.rate || !l->o.read_every || ++l->since_read < l->o.read_every || l->inflight == l->o.pipeline)
			continue;
		l->since_read = 0;
		r.kind = LOAD_GET;
		r.key = (uint32_t)(random_next(l) % l->o.keys);
		r.version = l->versions[r.key];
		if (r.version)
			push(l, r);
	}
}

static bool answer_ok(const struct load *l, const struct load_request *r, char type, const uint8_t *text, size_t len)
{
	switch (r->kind) {
	case LOAD_SET: return type == '+' && len == 2 && memcmp(text, "OK", 2) == 0;
	case LOAD_PING: return type == '+' && len == 4 && memcmp(text, "PONG", 4) == 0;
	case LOAD_GET: return type == '$' && len == l->o.value && load_value_ok(text, l->o.value, r->key, r->version);
	}
	return false;
}

static void note(struct load *l, const struct load_request *r, uint64_t now)
{
	uint64_t last = l->last_answer_us;
	if (l->report && now - last >= l->o.stall_ms * 1000ull)
		fprintf(l->report, "{\"event\":\"stall\",\"from_us\":%" PRIu64 ",\"to_us\":%" PRIu64 ",\"ms\":%.1f}\n",
		        last, now, (double)(now - last) / 1000);
	load_window_answer(&l->second, now, r->due_us, r->sent_us, last);
	load_window_answer(&l->marked, now, r->due_us, r->sent_us, last);
	l->last_answer_us = now;
}

static int take_answers(struct load *l, struct gw_err *e)
{
	const uint8_t *text;
	size_t len;
	char type;
	int rc;
	while ((rc = load_next_answer(l, &type, &text, &len, e)) == 1) {
		if (!l->inflight)
			return gw_fail(e, GW_PEER, EPROTO, "an answer came that nothing had asked for");
		const struct load_request *r = &l->ring[l->head];
		if (!answer_ok(l, r, type, text, len)) {
			l->wrong_answers++;
			fprintf(stderr,
			        "lab-load: wrong answer to %s of key %" PRIu32 " version %" PRIu32 " (%zu bytes)\n",
			        r->kind == LOAD_SET   ? "SET"
			        : r->kind == LOAD_GET ? "GET"
			                              : "PING",
			        r->key, r->version, len);
		}
		note(l, r, gw_now_us());
		l->head = (l->head + 1) % LOAD_PIPELINE_MAX;
		l->inflight--;
		l->answered++;
	}
	return rc;
}

static void each_tick(struct load *l)
{
	if (gw_now_us() - l->second.from_us < l->o.every_ms * 1000ull)
		return;
	struct load_tcp r = load_tcp_now(l);
	if (l->report)
		load_window_print(l->report, l, &l->second, "second", "", r);
	load_window_reset(&l->second, r);
}

static int step(struct load *l, uint64_t wake_ns, struct gw_err *e)
{
	uint64_t now = gw_now_ns();
	uint64_t wait = wake_ns > now ? wake_ns - now : 0;
	if (wait > 50000000)
		wait = 50000000;
	struct timespec t = {.tv_nsec = (long)wait};
	struct pollfd p[3] = {
	        {.fd = l->fd, .events = (short)(POLLIN | (l->out.from < l->out.to ? POLLOUT : 0))},
	        {.fd = l->listen_fd, .events = POLLIN},
	        {.fd = l->ctl_fd, .events = POLLIN},
	};
	if (ppoll(p, 3, &t, NULL) < 0)
		return errno == EINTR ? 0 : gw_fail(e, GW_SYS, errno, "poll");
	if (p[0].revents & (POLLIN | POLLERR | POLLHUP)) {
		int rc = load_receive(l, e);
		if (rc < 0)
			return rc;
		rc = take_answers(l, e);
		if (rc < 0)
			return rc;
	}
	load_control_step(l, p[1].revents, p[2].revents);
	return 0;
}

int load_run(struct load *l, struct gw_err *e)
{
	uint64_t start = gw_now_ns();
	uint64_t end = l->o.seconds ? start + l->o.seconds * 1000000000ull : UINT64_MAX;
	l->next_ns = start;
	l->last_answer_us = start / 1000;
	load_window_reset(&l->second, load_tcp_now(l));
	load_window_reset(&l->marked, load_tcp_now(l));
	l->tcp_start = l->marked.tcp_from;
	int rc = 0;
	while (rc == 0 && !l->stop && gw_now_ns() < end) {
		send_due(l);
		rc = load_flush(l, e);
		if (rc == 0)
			rc = step(l, l->inflight < l->o.pipeline ? l->next_ns : UINT64_MAX, e);
		each_tick(l);
	}
	/* What was asked is owed an answer. */
	uint64_t limit = gw_now_ns() + 60000000000ull;
	while (rc == 0 && l->inflight) {
		if (gw_now_ns() > limit)
			return gw_fail(e, GW_PEER, ETIMEDOUT, "%u requests have no answer after a minute", l->inflight);
		rc = load_flush(l, e);
		if (rc == 0)
			rc = step(l, UINT64_MAX, e);
	}
	return rc;
}

static int wait_answer(struct load *l, char *type, const uint8_t **text, size_t *len, struct gw_err *e)
{
	int rc;
	while ((rc = load_next_answer(l, type, text, len, e)) == 0) {
		struct pollfd p = {.fd = l->fd, .events = (short)(POLLIN | (l->out.from < l->out.to ? POLLOUT : 0))};
		if (poll(&p, 1, VERIFY_TIMEOUT_MS) == 0)
			return gw_fail(e, GW_PEER, ETIMEDOUT, "read the keys back: no answer for a minute");
		if (load_flush(l, e) < 0 || (p.revents & (POLLIN | POLLERR | POLLHUP) && load_receive(l, e) < 0))
			return -e->err;
	}
	return rc < 0 ? rc : 0;
}

static int verify_some(struct load *l, const uint32_t *keys, unsigned n, uint64_t *wrong, struct gw_err *e)
{
	char text[128];
	const uint8_t *got;
	size_t len;
	char type;
	load_put(l, text, (size_t)snprintf(text, sizeof text, "*%u\r\n$4\r\nMGET\r\n", n + 1));
	for (unsigned i = 0; i < n; i++) {
		char key[80];
		int k = snprintf(key, sizeof key, "%s:%" PRIu32, l->o.prefix, keys[i]);
		load_put(l, text, (size_t)snprintf(text, sizeof text, "$%d\r\n%s\r\n", k, key));
	}
	int rc = wait_answer(l, &type, &got, &len, e);
	if (rc < 0)
		return rc;
	if (type != '*')
		return gw_fail(e, GW_PEER, EPROTO, "MGET is answered by a \"%c\"", type);
	for (unsigned i = 0; i < n; i++) {
		rc = wait_answer(l, &type, &got, &len, e);
		if (rc < 0)
			return rc;
		if (len != l->o.value || !load_value_ok(got, l->o.value, keys[i], l->versions[keys[i]])) {
			if (++*wrong <= 10)
				fprintf(stderr, "lab-load: key %" PRIu32 " does not hold version %" PRIu32 "\n",
				        keys[i], l->versions[keys[i]]);
		}
	}
	return 0;
}

int load_verify(struct load *l, uint64_t *out_checked, uint64_t *out_wrong, struct gw_err *e)
{
	uint32_t some[LOAD_MGET];
	unsigned n = 0;
	for (uint32_t k = 0; k < l->o.keys; k++) {
		if (l->versions[k])
			some[n++] = k;
		if (n == 0 || (n < LOAD_MGET && k + 1 < l->o.keys))
			continue;
		int rc = verify_some(l, some, n, out_wrong, e);
		if (rc < 0)
			return rc;
		*out_checked += n;
		n = 0;
	}
	return 0;
}
