#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* unread: datagrams that a pod's sockets have received and nobody has read.
 *
 * CRIU does not carry the receive queue of an inet datagram socket, so what
 * lies there when the tasks stop is lost. Between the hold's shut and the
 * freezer no new ones come, and a running program reads its queue within
 * microseconds: worth waiting for, not for long. */

/* Does any UDP socket of the network namespace of process `pid` hold data? In
 * /proc/PID/net/udp and udp6 (column rx_queue). What can't be read counts as
 * empty. Tens of microseconds. */
bool gw_unread_datagrams(pid_t pid);
/* Waits until there is none, at most max_us. Any thread. */
void gw_unread_wait(pid_t pid, uint64_t max_us);
