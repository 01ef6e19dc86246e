#pragma once
#include <stdint.h>
#include <stdio.h>

#include "base/gw_err.h"

/* metrics: what a monitoring system asks of a program of the cluster, over HTTP:
 * /metrics (Prometheus text format 0.0.4) and /healthz.
 *
 * Without TLS and without a password: nothing secret is told, no names of pods.
 * libmicrohttpd, one thread of its own, few connections at once; every callback
 * runs in that thread. Counters begin with the process. All functions take NULL
 * for one that is off. */
struct gw_metrics;

struct gw_metrics_opts {
	const char *listen;                              /* "ADDR:PORT", "[ADDR6]:PORT" */
	void (*more)(void *ctx, FILE *out);              /* what else there is; NULL for nothing */
	bool (*well)(void *ctx, char *why, size_t size); /* NULL: always; *why is one line */
	void *ctx;
};

/* Until the process ends. */
int gw_metrics_start(const struct gw_metrics_opts *o, struct gw_metrics **out, struct gw_err *e);
void gw_metrics_stop(struct gw_metrics *s);
/* A migration is over. freeze_us 0: it was not frozen. */
void gw_metrics_ended(struct gw_metrics *s, const char *result, const char *reason, uint64_t freeze_us,
                      uint64_t sent_bytes);
/* The port that is listened on (":0" takes any). */
uint16_t gw_metrics_port(const struct gw_metrics *s);
