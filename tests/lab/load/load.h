#pragma once
#include <stdint.h>
#include <stdio.h>

#include "base/gw_err.h"

/* load: a client that trusts nothing.
 *
 * One TCP connection to a redis, never a second one: a reset is an error. It
 * writes values that can be checked (made from key and version), reads every
 * answer, reads keys back between the writes, and at the end reads every key
 * it ever wrote. Requests are sent by the clock, not by the answers (open
 * loop), so that a stall is seen by all that should have been sent in it.
 * Times are CLOCK_MONOTONIC in microseconds, the same on every host of the lab.
 *
 * Owner: main. One thread; everything is non-blocking and driven by run.c. */
enum {
	LOAD_PIPELINE_MAX = 256,
	LOAD_VALUE_MAX = 60000,
	LOAD_KEYS_MAX = 50000000,
	LOAD_HIST = 64 * 16,
	LOAD_MGET = 64,
};

struct load_opts {
	const char *host;
	const char *port;
	const char *prefix;
	const char *report;  /* JSON lines; NULL: none */
	const char *control; /* unix socket; NULL: none */
	uint32_t rate;       /* writes a second; 0: a PING every 2 ms */
	uint32_t value;
	uint32_t keys;
	uint32_t seconds; /* 0: until told */
	uint32_t pipeline;
	uint32_t read_every; /* one read after so many writes; 0: none */
	uint32_t every_ms;   /* a line in the report so often */
	uint32_t stall_ms;   /* a gap this long is an event */
};

/* What TCP had to do. A tail loss probe counts as a retransmit, but comes some
 * milliseconds after a segment that is not the only one under way, however
 * healthy the network: timeouts are what hurts. Both are of the whole network
 * namespace, where this client is alone. */
struct load_tcp {
	uint32_t retransmits;
	uint64_t probes;
	uint64_t timeouts;
};

/* What was seen between two marks. */
struct load_window {
	uint64_t from_us;
	uint64_t answers;
	uint64_t hist[LOAD_HIST]; /* of waits from the time a request was due */
	uint64_t wait_us_max;     /* from sending to the answer */
	uint64_t wait_sent_us;    /* when that one was sent */
	uint64_t due_us_max;      /* from being due to the answer */
	uint64_t gap_us_max;      /* between two answers */
	uint64_t gap_from_us;
	struct load_tcp tcp_from;
};
void load_window_reset(struct load_window *w, struct load_tcp tcp);
void load_window_answer(struct load_window *w, uint64_t now, uint64_t due, uint64_t sent, uint64_t last_answer);
uint64_t load_window_quantile(const struct load_window *w, double q);

/* Values: len bytes made from key and version; version 0 was never written. */
void load_value_fill(uint8_t *out, uint32_t len, uint32_t key, uint32_t version);
bool load_value_ok(const uint8_t *got, uint32_t len, uint32_t key, uint32_t version);

enum load_kind { LOAD_SET, LOAD_GET, LOAD_PING };
struct load_request {
	enum load_kind kind;
	uint32_t key;
	uint32_t version; /* of a read: the one that must come back */
	uint64_t due_us;
	uint64_t sent_us;
};

struct load_bytes {
	uint8_t *at;
	size_t from, to, size;
};

struct load {
	struct load_opts o;
	FILE *report;
	int fd;
	int listen_fd;
	int ctl_fd;
	char ctl_line[128];
	size_t ctl_len;
	uint32_t *versions;
	uint64_t random;
	uint32_t since_read;
	struct load_request ring[LOAD_PIPELINE_MAX];
	uint32_t head, inflight;
	struct load_bytes out, in;
	uint64_t next_ns; /* the next request is due */
	uint64_t last_answer_us;
	uint64_t sent, answered, wrong_answers;
	struct load_window second, marked;
	struct load_tcp tcp_start;
	bool stop;
	uint16_t port;
};

/* window.c: {"event":EVENT,"name":NAME,...} and a newline. idle_us: since the last answer. */
void load_window_print(FILE *f, const struct load *l, const struct load_window *w, const char *event, const char *name,
                       struct load_tcp tcp);

/* conn.c: bytes out and in. */
int load_connect(struct load *l, struct gw_err *e);
uint16_t load_local_port(const struct load *l);
struct load_tcp load_tcp_now(const struct load *l);
void load_put_request(struct load *l, const struct load_request *r);
void load_put(struct load *l, const void *data, size_t len);
int load_flush(struct load *l, struct gw_err *e);   /* as much as goes */
int load_receive(struct load *l, struct gw_err *e); /* as much as is there */
/* One whole answer off the front of l->in. 1: *out_text of *out_len (no
 * frame), *out_type its first letter; 0: not all of it is here yet. */
int load_next_answer(struct load *l, char *out_type, const uint8_t **out_text, size_t *out_len, struct gw_err *e);

/* control.c: "mark NAME", "peek", "rate N", "stop" from a unix socket. */
int load_control_open(struct load *l, struct gw_err *e);
void load_control_step(struct load *l, short listen_events, short ctl_events);
int load_control_client(int argc, char **argv);

/* run.c */
int load_run(struct load *l, struct gw_err *e);
/* Reads back every key ever written. */
int load_verify(struct load *l, uint64_t *out_checked, uint64_t *out_wrong, struct gw_err *e);
