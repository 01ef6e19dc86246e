/* CHECK: is everything there that ADD made? */
#include <errno.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cni/attach.h"
#include "cni/record.h"
#include "net/netns.h"
#include "net/nl.h"
#include "net/routed.h"
#include "net/rtnl.h"

[[gnu::format(printf, 2, 3)]]
static int damaged(struct gw_err *e, const char *fmt, ...)
{
	char words[300];
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(words, sizeof(words), fmt, ap);
	va_end(ap);
	return gw_fail_code(e, GW_INPUT, "Damaged", "%s", words);
}

static bool lists(const struct gw_addr *list, unsigned n, const struct gw_addr *a, bool with_prefix)
{
	for (unsigned i = 0; i < n; i++)
		if (list[i].family == a->family && !memcmp(list[i].bytes, a->bytes, sizeof(a->bytes)) &&
		    (!with_prefix || list[i].prefix == a->prefix))
			return true;
	return false;
}

static bool has_route(const struct gw_pod *p, const struct gw_pod_route *r)
{
	for (unsigned i = 0; i < p->nroutes; i++) {
		const struct gw_pod_route *q = &p->routes[i];
		if (lists(&q->dst, 1, &r->dst, true) && q->has_gateway == r->has_gateway &&
		    (!r->has_gateway || !memcmp(q->gateway, r->gateway, sizeof(r->gateway))))
			return true;
	}
	return false;
}

/* Which gateways have the permanent entry that ADD made. */
struct entries {
	const struct gw_pod *pod;
	bool found[GW_POD_ADDRS_MAX];
};

static void reset_entries(void *data)
{
	memset(((struct entries *)data)->found, 0, sizeof(((struct entries *)data)->found));
}

static int on_neigh(const struct nlmsghdr *h, void *data)
{
	struct entries *n = data;
	struct gw_addr a = {0};
	bool right = false;
	if (h->nlmsg_type != RTM_NEWNEIGH)
		return MNL_CB_OK;
	const struct ndmsg *m = mnl_nlmsg_get_payload(h);
	a.family = m->ndm_family;
	gw_nl_each(t, h, sizeof(*m))
	{
		size_t len = mnl_attr_get_payload_len(t);
		if (mnl_attr_get_type(t) == NDA_DST && len <= sizeof(a.bytes))
			memcpy(a.bytes, mnl_attr_get_payload(t), len);
		if (mnl_attr_get_type(t) == NDA_LLADDR && len == sizeof(n->pod->host_mac))
			right = !memcmp(mnl_attr_get_payload(t), n->pod->host_mac, len);
	}
	for (unsigned i = 0; i < n->pod->ngateways; i++)
		if (right && m->ndm_state & NUD_PERMANENT && lists(&n->pod->gateways[i], 1, &a, false))
			n->found[i] = true;
	return MNL_CB_OK;
}

static int check_neighbours(const struct gw_record *r, const char *netns, struct gw_err *e)
{
	gw_auto(fd) int fd = -1;
	gw_auto(nl) struct gw_nl in = {0};
	struct gw_nl_msg m;
	struct entries n = {.pod = &r->pod};
	char t[64];
	int rc = gw_netns_open(netns, &fd, e);
	if (rc == 0)
		rc = gw_nl_open_in(fd, NETLINK_ROUTE, &in, e);
	struct nlmsghdr *h = gw_nl_start(&m, RTM_GETNEIGH, NLM_F_DUMP, sizeof(struct ndmsg));
	if (rc == 0)
		rc = gw_nl_ask(&in, h, on_neigh, reset_entries, &n, "list the container's neighbours", e);
	if (rc < 0)
		return rc;
	for (unsigned i = 0; i < r->pod.ngateways; i++)
		if (!n.found[i])
			return damaged(e, "the neighbour entry of %s is missing in the container",
			               gw_addr_text(&r->pod.gateways[i], t, sizeof(t)));
	return 0;
}

/* More than ADD made is fine: plugins behind us in the list may add. */
static int check_inside(const struct gw_record *r, const char *netns, struct gw_err *e)
{
	struct gw_pod is;
	struct gw_err mine = {0};
	char t[64];
	int rc = gw_pod_inspect_link(netns, r->pod.ifname, &is, &mine);
	if (rc == -ENOENT)
		return gw_fail_code(e, GW_INPUT, "UnknownContainer", "CNI_NETNS=%.200s: there is no such file", netns);
	if (rc < 0 && mine.class == GW_SYS) {
		if (e)
			*e = mine;
		return rc;
	}
	if (rc < 0)
		return damaged(e, "%.250s", mine.text);
	if (strcmp(is.host_ifname, r->pod.host_ifname) != 0)
		return damaged(e, "the other end of %s is %s and was %s", r->pod.ifname, is.host_ifname,
		               r->pod.host_ifname);
	for (unsigned i = 0; i < r->pod.naddrs; i++)
		if (!lists(is.addrs, is.naddrs, &r->pod.addrs[i], true))
			return damaged(e, "address %s is missing in the container",
			               gw_addr_text(&r->pod.addrs[i], t, sizeof(t)));
	for (unsigned i = 0; i < r->pod.nroutes; i++)
		if (!has_route(&is, &r->pod.routes[i]))
			return damaged(e, "the route to %s is missing in the container",
			               gw_addr_text(&r->pod.routes[i].dst, t, sizeof(t)));
	return check_neighbours(r, netns, e);
}

static int check_route(struct gw_nl *n, struct gw_ipam *s, const struct gw_link *l, const struct gw_addr *a,
                       struct gw_err *e)
{
	struct gw_route_found f;
	char t[64];
	int rc = gw_rt_route_find(n, a, &f, e);
	if (rc < 0)
		return rc;
	gw_addr_text(a, t, sizeof(t));
	bool exact = f.type == RTN_UNICAST && f.prefix == gw_addr_len(a->family) * 8;
	if (exact && !f.has_gateway && f.index == l->index)
		return 0;
	if ((exact && f.has_gateway) || gw_ipam_marked(s, "away", a))
		return gw_fail_code(e, GW_INPUT, "AddressAway", "%s was moved to another host", t);
	return damaged(e, "the host has no route to %s by %s", t, l->name);
}

static int check_host(struct gw_ipam *s, const struct gw_record *r, struct gw_err *e)
{
	gw_auto(nl) struct gw_nl n = {0};
	struct gw_link l;
	struct gw_err mine = {0};
	int rc = gw_nl_open(NETLINK_ROUTE, &n, e);
	if (rc < 0)
		return rc;
	if (gw_rt_link(&n, r->pod.host_ifname, 0, &l, &mine) < 0)
		return damaged(e, "the host's interface %s: %.200s", r->pod.host_ifname, mine.text);
	if (!(l.flags & IFF_UP))
		return damaged(e, "the host's interface %s is down", l.name);
	/* Until godwitd wakes it, its address leads to the source. */
	for (unsigned i = 0; rc == 0 && !r->dormant && i < r->pod.naddrs; i++)
		rc = check_route(&n, s, &l, &r->pod.addrs[i], e);
	if (rc == 0 && !r->dormant && memcmp(l.mac, r->pod.host_mac, sizeof(l.mac)) != 0)
		rc = damaged(e, "the host's interface %s has another Ethernet address than the container sends to",
		             l.name);
	return rc;
}

static int check_store(struct gw_ipam *s, const struct gw_record *r, struct gw_err *e)
{
	char t[64];
	for (unsigned i = 0; i < r->pod.naddrs; i++) {
		struct gw_ipam_owner who = {0};
		int rc = gw_ipam_who(s, &r->pod.addrs[i], &who, e);
		if (rc < 0)
			return rc;
		if (!gw_ipam_same(&who, &r->owner))
			return damaged(e, "address %s is not given to this container: %s/addr",
			               gw_addr_text(&r->pod.addrs[i], t, sizeof(t)), s->dir);
	}
	return 0;
}

/* The runtime's idea of the container against ours. */
static int check_result(const struct gw_cni_conf *c, const struct gw_record *r, struct gw_err *e)
{
	yyjson_val *v;
	size_t i, max;
	char t[64];
	struct gw_addr listed[GW_POD_ADDRS_MAX];
	unsigned n = 0;
	yyjson_arr_foreach(yyjson_obj_get(c->prev, "ips"), i, max, v)
	{
		const char *text = gw_json_str(v, "address", "");
		if (n < GW_POD_ADDRS_MAX && gw_addr_parse(text, &listed[n]) == 0)
			n++;
	}
	for (unsigned k = 0; k < r->pod.naddrs; k++)
		if (!lists(listed, n, &r->pod.addrs[k], true))
			return gw_fail_code(e, GW_INPUT, "BadConfig",
			                    "configuration: \"prevResult\" does not list %s, which this container has",
			                    gw_addr_text(&r->pod.addrs[k], t, sizeof(t)));
	return 0;
}

int gw_cni_check(const struct gw_cni_conf *c, const struct gw_cni_env *env, struct gw_err *e)
{
	gw_auto(ipam) struct gw_ipam s = {.lock = -1};
	struct gw_ipam_owner o;
	struct gw_record r;
	gw_ipam_owner(&o, c->name, env->container, env->ifname);
	int rc = gw_ipam_open(c->data_dir, &s, e);
	if (rc == 0)
		rc = gw_record_get(&s, env->container, &r, e);
	if (rc == 0)
		return gw_fail_code(e, GW_INPUT, "UnknownContainer",
		                    "container %.64s was given no interface %s in network %s", env->container,
		                    env->ifname, c->name);
	if (rc == 1)
		rc = check_result(c, &r, e);
	if (rc == 0)
		rc = check_store(&s, &r, e);
	if (rc == 0)
		rc = check_inside(&r, env->netns, e);
	return rc < 0 ? rc : check_host(&s, &r, e);
}
