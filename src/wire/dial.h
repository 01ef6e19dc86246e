#pragma once
#include <stddef.h>
#include <stdint.h>

#include "base/gw_err.h"

/* dial: plain TCP below the TLS. Private to src/wire. Any thread. */

/* A connected, non-blocking socket. host: an address or a name; a name is
 * resolved by the C library, whose time is not bounded by deadline_ns. */
int gw_tcp_connect(const char *host, uint16_t port, uint64_t deadline_ns, int *out_fd, struct gw_err *e);

/* Non-blocking, no delay, dead peers found. Anything but TCP passes. -errno. */
int gw_tcp_tune(int fd);
/* A peer that the kernel hears nothing of for 5 s is dead (30 s before). */
void gw_tcp_hasten(int fd);

/* "10.9.0.3:9460", "[fd00::3]:9460", "local". */
void gw_tcp_where(int fd, char *out, size_t size);

/* poll(2) for events on fd and POLLIN on wake_fd (-1: none) until
 * deadline_ns (UINT64_MAX: for ever). -ETIMEDOUT, -ECANCELED when wake_fd is
 * readable, -errno. */
int gw_wait_fd(int fd, short events, int wake_fd, uint64_t deadline_ns);
