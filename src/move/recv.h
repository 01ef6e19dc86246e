#pragma once
#include <stdatomic.h>
#include <stdint.h>

#include "base/gw_err.h"
#include "mem/store.h"
#include "wire/conn.h"

/* recv: one data connection on the destination, into the page store.
 *
 * Owner    the migration; it calls gw_recv_data in one thread per connection
 *          and ends it with gw_conn_shutdown.
 * Threads  any number of connections into one store.
 * Limits   one frame in memory per connection (at most 1 MiB + 64 KiB), plus
 *          1 MiB once the peer has compressed something. */
struct gw_recv_counters {
	_Atomic uint64_t frames;
	_Atomic uint64_t wire_bytes; /* frames, without TLS */
	_Atomic uint64_t pages;      /* zero ones included */
	_Atomic uint64_t zero_pages;
	_Atomic uint64_t dropped_pages;
	_Atomic uint64_t barriers;
};

/* Store PAGES, drop DROP, answer BARRIER when everything before it is stored.
 * Returns 0 when the peer has closed between two frames; -ECANCELED after
 * gw_conn_shutdown; otherwise why the connection cannot go on (any other
 * frame, any number that does not fit, a space never announced, no room). */
int gw_recv_data(struct gw_conn *c, struct gw_store *st, struct gw_recv_counters *n, struct gw_err *e);
