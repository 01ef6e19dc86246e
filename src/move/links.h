#pragma once
#include <stddef.h>
#include <stdint.h>

#include "base/gw_err.h"

/* links: unix stream connections between two containers of one pod.
 *
 * Each container is dumped and restored by a CRIU of its own, which has one end
 * only. So godwitd makes the pair on the destination, with what neither end had
 * read yet, and gives each CRIU its end.
 *
 *   source   each container names the ends it holds (group SEEN), and peeks at
 *            what waits at those whose peer is another one's (LISTED): nothing is
 *            taken, a migration that fails has changed nothing. The leader sends it.
 *   dest     the leader's session makes the pairs in the pod's network namespace;
 *            every container's session gives ends away, by inode.
 *
 * Lost, as in a connection inside of one container: the path that an accepted end
 * shows as its name, and the credentials of the peer (SO_PEERCRED). docs/wire.md
 * has the bytes. Plain values, one owner, one thread. */
enum { GW_LINKS_MAX = 4096, GW_LINKS_BYTES_MAX = 64 << 20 };

/* What waits at one end: records of a length (4 bytes, little-endian) and bytes. Of a
 * stream the records have no meaning, of SOCK_SEQPACKET each is a message. */
struct gw_queue {
	uint8_t *v;
	size_t len, cap;
};

struct gw_link {
	uint32_t type; /* SOCK_STREAM or SOCK_SEQPACKET */
	uint32_t ino[2];
	struct gw_queue at[2];
};

struct gw_links {
	struct gw_link *v;
	size_t n;
};

int gw_queue_add(struct gw_queue *q, const void *data, size_t len); /* -ENOMEM, -EFBIG */
/* The record at *at, which goes on to the next. 0: there is none; a bad one (-EPROTO)
 * can only be in what was not unpacked by gw_links_unpack. */
int gw_queue_next(const struct gw_queue *q, size_t *at, const uint8_t **out, size_t *out_len);

/* A link is copied, its queues are taken. */
int gw_links_add(struct gw_links *l, const struct gw_link *take_link);
int gw_links_pack(const struct gw_links *l, uint8_t **out, size_t *out_len, struct gw_err *e);
/* From a peer: all is checked. *out is the caller's (gw_links_done). */
int gw_links_unpack(const uint8_t *p, size_t len, struct gw_links *out, struct gw_err *e);
void gw_links_done(struct gw_links *l);
