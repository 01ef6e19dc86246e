#include "net/nl.h"

#include <assert.h>
#include <errno.h>
#include <linux/netlink.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "net/netns.h"

enum { NL_ANSWER_MAX = 32768, NL_TRIES_MAX = 8 };

int gw_nl_open(int bus, struct gw_nl *out, struct gw_err *e)
{
	gw_auto(nl) struct gw_nl n = {.sock = mnl_socket_open2(bus, SOCK_CLOEXEC)};
	if (!n.sock)
		return gw_fail(e, GW_SYS, errno, "open a netlink socket");
	int on = 1;
	if (mnl_socket_bind(n.sock, 0, MNL_SOCKET_AUTOPID) < 0)
		return gw_fail(e, GW_SYS, errno, "bind a netlink socket");
	/* Only the words of an error depend on this one. */
	(void)mnl_socket_setsockopt(n.sock, NETLINK_EXT_ACK, &on, sizeof(on));
	*out = n;
	n.sock = NULL;
	return 0;
}

struct open_in {
	int bus;
	struct gw_nl nl;
};

static int open_there(void *arg, struct gw_err *e)
{
	struct open_in *o = arg;
	return gw_nl_open(o->bus, &o->nl, e);
}

int gw_nl_open_in(int netns_fd, int bus, struct gw_nl *out, struct gw_err *e)
{
	struct open_in o = {.bus = bus};
	int rc = gw_netns_run(netns_fd, open_there, &o, e);
	if (rc == 0)
		*out = o.nl;
	return rc;
}

struct nlmsghdr *gw_nl_start(struct gw_nl_msg *m, uint16_t type, uint16_t flags, size_t extra)
{
	struct nlmsghdr *h = mnl_nlmsg_put_header(m->buf);
	h->nlmsg_type = type;
	h->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	(void)mnl_nlmsg_put_extra_header(h, extra);
	return h;
}

/* The kernel's words in an error message, "" when it gave none. */
static void kernel_words(const struct nlmsghdr *h, char *out, size_t size)
{
	out[0] = 0;
	if (h->nlmsg_type != NLMSG_ERROR || !(h->nlmsg_flags & NLM_F_ACK_TLVS) ||
	    mnl_nlmsg_get_payload_len(h) < sizeof(struct nlmsgerr))
		return;
	const struct nlmsgerr *err = mnl_nlmsg_get_payload(h);
	size_t skip = sizeof(*err);
	if (!(h->nlmsg_flags & NLM_F_CAPPED))
		skip += (((size_t)err->msg.nlmsg_len + 3) & ~(size_t)3) - sizeof(err->msg);
	if (skip > mnl_nlmsg_get_payload_len(h))
		return;
	gw_nl_each(a, h, skip) if (mnl_attr_get_type(a) == NLMSGERR_ATTR_MSG &&
	                           mnl_attr_validate(a, MNL_TYPE_NUL_STRING) >= 0)(void)
	        snprintf(out, size, " (kernel: %s)", mnl_attr_get_str(a));
}

/* Receive until the answer to seq is whole. 0 or -errno; words[] filled. */
static int answer(struct gw_nl *n, uint32_t seq, mnl_cb_t cb, void *data, char *words, size_t size)
{
	alignas(8) char buf[NL_ANSWER_MAX];
	for (;;) {
		ssize_t len = mnl_socket_recvfrom(n->sock, buf, sizeof(buf));
		if (len < 0 && errno == EINTR)
			continue;
		if (len < 0)
			return -errno;
		const struct nlmsghdr *h = (const struct nlmsghdr *)buf;
		if (mnl_nlmsg_ok(h, (int)len)) {
			/* A late answer to a request that was given up. */
			if (h->nlmsg_seq != seq)
				continue;
			kernel_words(h, words, size);
		}
		int rc = mnl_cb_run(buf, (size_t)len, seq, mnl_socket_get_portid(n->sock), cb, data);
		if (rc < 0)
			return -errno;
		if (rc == MNL_CB_STOP)
			return 0;
	}
}

static int send_request(struct gw_nl *n, struct nlmsghdr *req)
{
	assert(req->nlmsg_len <= GW_NL_MSG_MAX);
	req->nlmsg_seq = ++n->seq;
	return mnl_socket_sendto(n->sock, req, req->nlmsg_len) < 0 ? -errno : 0;
}

int gw_nl_talk(struct gw_nl *n, struct nlmsghdr *req, struct gw_err *e, const char *fmt, ...)
{
	char words[160] = "";
	req->nlmsg_flags |= NLM_F_ACK;
	int rc = send_request(n, req);
	if (rc == 0)
		rc = answer(n, req->nlmsg_seq, NULL, NULL, words, sizeof(words));
	if (rc == 0 || !e)
		return rc;
	char what[200];
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	return gw_fail(e, GW_SYS, -rc, "%s%s", what, words);
}

int gw_nl_ask(struct gw_nl *n, struct nlmsghdr *req, mnl_cb_t cb, void (*reset)(void *data), void *data,
              const char *what, struct gw_err *e)
{
	char words[160] = "";
	/* A dump ends with NLMSG_DONE; a single answer needs an ACK to end. */
	if (!(req->nlmsg_flags & NLM_F_DUMP))
		req->nlmsg_flags |= NLM_F_ACK;
	int rc = -EINTR;
	for (int i = 0; i < NL_TRIES_MAX && rc == -EINTR; i++) {
		if (reset)
			reset(data);
		rc = send_request(n, req);
		if (rc == 0)
			rc = answer(n, req->nlmsg_seq, cb, data, words, sizeof(words));
	}
	return rc < 0 ? gw_fail(e, GW_SYS, -rc, "%s%s", what, words) : 0;
}
