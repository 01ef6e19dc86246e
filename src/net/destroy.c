#include "net/destroy.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "net/nl.h"

/* include/net/tcp_states.h: one bit for each state; not LISTEN (10). */
enum { ALL_STATES = 0x1fff, LISTEN_BIT = 1 << 10 };

struct found {
	struct inet_diag_sockid *v;
	size_t n, cap;
};

static int on_socket(const struct nlmsghdr *h, void *data)
{
	struct found *f = data;
	const struct inet_diag_msg *m = mnl_nlmsg_get_payload(h);
	if (f->n == f->cap) {
		size_t cap = f->cap ? f->cap * 2 : 64;
		struct inet_diag_sockid *more = realloc(f->v, cap * sizeof(*more));
		if (!more)
			return errno = ENOMEM, MNL_CB_ERROR;
		f->v = more;
		f->cap = cap;
	}
	f->v[f->n++] = m->id;
	return MNL_CB_OK;
}

static void none_yet(void *data)
{
	((struct found *)data)->n = 0;
}

static struct nlmsghdr *request(struct gw_nl_msg *m, uint16_t type, uint16_t flags, uint8_t family)
{
	struct nlmsghdr *h = gw_nl_start(m, type, flags, sizeof(struct inet_diag_req_v2));
	struct inet_diag_req_v2 *r = mnl_nlmsg_get_payload(h);
	r->sdiag_family = family;
	r->sdiag_protocol = IPPROTO_TCP;
	r->idiag_states = ALL_STATES & ~LISTEN_BIT;
	return h;
}

static int destroy_family(struct gw_nl *n, uint8_t family, struct gw_err *e)
{
	struct gw_nl_msg m;
	struct found f = {0};
	int rc = gw_nl_ask(n, request(&m, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, family), on_socket, none_yet,
	                   &f, "list connections", e);
	for (size_t i = 0; rc == 0 && i < f.n; i++) {
		struct nlmsghdr *h = request(&m, SOCK_DESTROY, NLM_F_REQUEST | NLM_F_ACK, family);
		((struct inet_diag_req_v2 *)mnl_nlmsg_get_payload(h))->id = f.v[i];
		rc = gw_nl_talk(n, h, e, "end a connection that nobody has");
		if (rc == -ENOENT)
			rc = 0;
	}
	free(f.v);
	return rc;
}

int gw_tcp_destroy_all(int netns_fd, struct gw_err *e)
{
	gw_auto(nl) struct gw_nl n = {0};
	int rc = gw_nl_open_in(netns_fd, NETLINK_SOCK_DIAG, &n, e);
	if (rc == 0)
		rc = destroy_family(&n, AF_INET, e);
	if (rc == 0)
		rc = destroy_family(&n, AF_INET6, e);
	return rc;
}
