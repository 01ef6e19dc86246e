#pragma once
#include <stddef.h>
#include <stdint.h>

#include "net/nl.h"

/* usock: the unix sockets of a network namespace, as NETLINK_SOCK_DIAG tells
 * (linux/unix_diag.h). A snapshot, owned by the caller; one thread. */
enum { GW_USOCK_NAME = 108 };

struct gw_usock {
	uint32_t ino, peer; /* peer 0: none */
	uint8_t type, state, shutdown;
	uint32_t unread; /* bytes it sent that nobody has read */
	uint32_t nicons;
	uint32_t *icons;              /* owned: the clients' inodes, 0: closed already */
	char name[GW_USOCK_NAME + 1]; /* '@' first: abstract; "": none */
};

struct gw_usocks {
	struct gw_usock *s; /* sorted by ino */
	size_t n, cap;
};

/* n: a NETLINK_SOCK_DIAG socket of the namespace. What t had is forgotten. */
int gw_usocks_read(struct gw_nl *n, struct gw_usocks *t, struct gw_err *e);
const struct gw_usock *gw_usocks_find(const struct gw_usocks *t, uint32_t ino); /* NULL: not there */
void gw_usocks_done(struct gw_usocks *t);
