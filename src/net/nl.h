#pragma once
#include <libmnl/libmnl.h>
#include <stdint.h>

#include "base/gw_err.h"
#include "base/scope.h"

/* nl: one netlink socket, requests that are answered, dumps.
 *
 * On libmnl. A socket belongs for ever to the network namespace of the
 * thread that opened it, whoever uses it later. Errors carry the kernel's own
 * words (extended acknowledgement) where it gives any.
 * Owner: whoever opened it. Threads: one at a time per socket. Limits: a
 * request of at most GW_NL_MSG_MAX bytes. */
enum { GW_NL_MSG_MAX = 4096 };

struct gw_nl {
	struct mnl_socket *sock; /* NULL: closed */
	uint32_t seq;
};

/* A buffer for one request, aligned as netlink wants it. */
struct gw_nl_msg {
	alignas(8) char buf[GW_NL_MSG_MAX];
};

int gw_nl_open(int bus, struct gw_nl *out, struct gw_err *e);                  /* in the calling thread's namespace */
int gw_nl_open_in(int netns_fd, int bus, struct gw_nl *out, struct gw_err *e); /* in another one */
static inline void gw_end_nl(struct gw_nl *n)
{
	if (n->sock)
		(void)mnl_socket_close(n->sock);
	n->sock = NULL;
}

/* Start a request; `extra` bytes of family header follow, zeroed. */
struct nlmsghdr *gw_nl_start(struct gw_nl_msg *m, uint16_t type, uint16_t flags, size_t extra);

/* Send and wait for the acknowledgement. The words say what was tried. */
[[gnu::format(printf, 4, 5)]]
int gw_nl_talk(struct gw_nl *n, struct nlmsghdr *req, struct gw_err *e, const char *fmt, ...);

/* Send and give every message of the answer to cb (MNL_CB_OK to go on,
 * MNL_CB_ERROR with errno set to fail). A dump that the kernel says was torn
 * by a change is asked for again, so cb's data must stand being filled twice:
 * `reset` is called before each try (NULL: nothing to reset). */
int gw_nl_ask(struct gw_nl *n, struct nlmsghdr *req, mnl_cb_t cb, void (*reset)(void *data), void *data,
              const char *what, struct gw_err *e);

/* The attributes behind `extra` bytes of family header, or inside a nest.
 * (libmnl's own loops don't compile under our warnings.) */
static inline bool gw_nl_attr_ok(const struct nlattr *a, const void *end)
{
	return (const char *)end > (const char *)a && mnl_attr_ok(a, (int)((const char *)end - (const char *)a));
}
#define gw_nl_each(a, h, extra)                                                                                        \
	for (struct nlattr *a = mnl_nlmsg_get_payload_offset((h), (extra));                                            \
	     gw_nl_attr_ok(a, mnl_nlmsg_get_payload_tail(h)); a = mnl_attr_next(a))
#define gw_nl_each_in(a, nest)                                                                                         \
	for (struct nlattr *a = mnl_attr_get_payload(nest);                                                            \
	     gw_nl_attr_ok(a, (const char *)mnl_attr_get_payload(nest) + mnl_attr_get_payload_len(nest));              \
	     a = mnl_attr_next(a))
