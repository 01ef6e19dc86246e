#pragma once
#include "base/gw_err.h"

/* destroy: no TCP connection of a namespace outlives its process.
 *
 * A copy that was rebuilt and then thrown away leaves sockets in the kernel (its
 * FIN is dropped, net/dormant.h, and it says it again for minutes): a second copy in
 * the same namespace could not have the same connections. Listening sockets are left.
 * Needs CONFIG_INET_DIAG_DESTROY: without it fails with EOPNOTSUPP. Any thread. */
int gw_tcp_destroy_all(int netns_fd, struct gw_err *e);
