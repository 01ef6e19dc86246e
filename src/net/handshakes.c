#include "net/handshakes.h"

#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/io.h"
#include "net/netns.h"
#include "net/nl.h"

enum { STEP_US = 200 };

static int on_socket(const struct nlmsghdr *h, void *data)
{
	unsigned *n = data;
	const struct inet_diag_msg *m = mnl_nlmsg_get_payload(h);
	/* Of a listening one idiag_rqueue is the length of its queue. */
	*n += m->idiag_state == TCP_LISTEN ? m->idiag_rqueue : 1;
	return MNL_CB_OK;
}

static void none_yet(void *data)
{
	*(unsigned *)data = 0;
}

static int count(struct gw_nl *n, uint8_t family, unsigned *out, struct gw_err *e)
{
	struct gw_nl_msg m;
	struct nlmsghdr *h = gw_nl_start(&m, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, sizeof(struct inet_diag_req_v2));
	struct inet_diag_req_v2 *r = mnl_nlmsg_get_payload(h);
	r->sdiag_family = family;
	r->sdiag_protocol = IPPROTO_TCP;
	r->idiag_states = 1u << TCP_LISTEN | 1u << TCP_SYN_RECV;
	return gw_nl_ask(n, h, on_socket, none_yet, out, "list connections nobody has accepted", e);
}

int gw_handshakes_wait(pid_t pid, uint64_t max_us, unsigned *out_left, struct gw_err *e)
{
	char path[64];
	gw_auto(fd) int ns = -1;
	gw_auto(nl) struct gw_nl n = {0};
	uint64_t until = gw_now_us() + max_us;
	gw_path(path, sizeof(path), "/proc/%d/ns/net", pid);
	int rc = gw_netns_open(path, &ns, e);
	if (rc == 0)
		rc = gw_nl_open_in(ns, NETLINK_SOCK_DIAG, &n, e);
	while (rc == 0) {
		unsigned v4 = 0, v6 = 0;
		rc = count(&n, AF_INET, &v4, e);
		if (rc == 0)
			rc = count(&n, AF_INET6, &v6, e);
		*out_left = v4 + v6;
		if (rc == 0 && (*out_left == 0 || gw_now_us() >= until))
			return 0;
		gw_sleep_us(STEP_US);
	}
	return gw_wrap(e, "look for connections nobody has accepted");
}
