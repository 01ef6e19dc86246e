#include "net/rtnl.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/net_namespace.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <string.h>

size_t gw_addr_len(int family)
{
	return family == AF_INET ? 4 : 16;
}

static void link_kind(const struct nlattr *info, struct gw_link *l)
{
	gw_nl_each_in(a, info) if (mnl_attr_get_type(a) == IFLA_INFO_KIND && mnl_attr_validate(a, MNL_TYPE_STRING) >= 0)
	{
		size_t len = mnl_attr_get_payload_len(a);
		if (len >= sizeof(l->kind))
			len = sizeof(l->kind) - 1;
		memcpy(l->kind, mnl_attr_get_payload(a), len);
	}
}

static void link_parse(const struct nlmsghdr *h, struct gw_link *l)
{
	const struct ifinfomsg *m = mnl_nlmsg_get_payload(h);
	*l = (struct gw_link){.index = m->ifi_index, .flags = m->ifi_flags, .type = m->ifi_type, .peer_nsid = -1};
	gw_nl_each(a, h, sizeof(*m))
	{
		size_t len = mnl_attr_get_payload_len(a);
		switch (mnl_attr_get_type(a)) {
		case IFLA_IFNAME:
			if (len > 0 && len <= sizeof(l->name))
				memcpy(l->name, mnl_attr_get_payload(a), len);
			l->name[sizeof(l->name) - 1] = 0;
			break;
		case IFLA_ADDRESS:
			if (len == sizeof(l->mac))
				memcpy(l->mac, mnl_attr_get_payload(a), len);
			break;
		case IFLA_MTU: l->mtu = mnl_attr_get_u32(a); break;
		case IFLA_LINK: l->peer = (int)mnl_attr_get_u32(a); break;
		case IFLA_LINK_NETNSID: l->peer_nsid = (int)mnl_attr_get_u32(a); break;
		case IFLA_MASTER: l->master = (int)mnl_attr_get_u32(a); break;
		case IFLA_LINKINFO: link_kind(a, l); break;
		default: break;
		}
	}
}

static int on_link(const struct nlmsghdr *h, void *data)
{
	if (h->nlmsg_type == RTM_NEWLINK)
		link_parse(h, data);
	return MNL_CB_OK;
}

int gw_rt_link(struct gw_nl *n, const char *name, int index, struct gw_link *out, struct gw_err *e)
{
	struct gw_nl_msg m;
	struct nlmsghdr *h = gw_nl_start(&m, RTM_GETLINK, 0, sizeof(struct ifinfomsg));
	struct ifinfomsg *i = mnl_nlmsg_get_payload(h);
	i->ifi_index = index;
	if (name)
		mnl_attr_put_strz(h, IFLA_IFNAME, name);
	struct gw_link l = {0};
	int rc = gw_nl_ask(n, h, on_link, NULL, &l, "look at a network interface", e);
	if (rc == 0)
		*out = l;
	return rc;
}

struct link_list {
	struct gw_link *out;
	size_t max, n;
};

static int on_link_list(const struct nlmsghdr *h, void *data)
{
	struct link_list *l = data;
	if (h->nlmsg_type != RTM_NEWLINK)
		return MNL_CB_OK;
	if (l->n < l->max)
		link_parse(h, &l->out[l->n]);
	l->n++;
	return MNL_CB_OK;
}

static void reset_link_list(void *data)
{
	((struct link_list *)data)->n = 0;
}

int gw_rt_links(struct gw_nl *n, struct gw_link *out, size_t max, size_t *out_n, struct gw_err *e)
{
	struct gw_nl_msg m;
	struct nlmsghdr *h = gw_nl_start(&m, RTM_GETLINK, NLM_F_DUMP, sizeof(struct ifinfomsg));
	struct link_list l = {.out = out, .max = max};
	int rc = gw_nl_ask(n, h, on_link_list, reset_link_list, &l, "list the network interfaces", e);
	if (rc == 0)
		*out_n = l.n;
	return rc;
}

static int on_nsid(const struct nlmsghdr *h, void *data)
{
	gw_nl_each(a, h, sizeof(struct rtgenmsg)) if (mnl_attr_get_type(a) == NETNSA_NSID) * (int *)data =
	        (int)mnl_attr_get_u32(a);
	return MNL_CB_OK;
}

int gw_rt_nsid(struct gw_nl *n, int netns_fd, int *out_nsid, struct gw_err *e)
{
	struct gw_nl_msg m;
	struct nlmsghdr *h = gw_nl_start(&m, RTM_GETNSID, 0, sizeof(struct rtgenmsg));
	mnl_attr_put_u32(h, NETNSA_FD, (uint32_t)netns_fd);
	int id = -1;
	int rc = gw_nl_ask(n, h, on_nsid, NULL, &id, "ask for the number of a network namespace", e);
	if (rc == 0)
		*out_nsid = id;
	return rc;
}

int gw_rt_link_up(struct gw_nl *n, const char *name, struct gw_err *e)
{
	struct gw_nl_msg m;
	struct nlmsghdr *h = gw_nl_start(&m, RTM_NEWLINK, 0, sizeof(struct ifinfomsg));
	struct ifinfomsg *i = mnl_nlmsg_get_payload(h);
	i->ifi_flags = i->ifi_change = IFF_UP;
	mnl_attr_put_strz(h, IFLA_IFNAME, name);
	return gw_nl_talk(n, h, e, "set interface %s up", name);
}

int gw_rt_link_mac(struct gw_nl *n, int index, const uint8_t mac[6], struct gw_err *e)
{
	struct gw_nl_msg m;
	struct nlmsghdr *h = gw_nl_start(&m, RTM_NEWLINK, 0, sizeof(struct ifinfomsg));
	struct ifinfomsg *i = mnl_nlmsg_get_payload(h);
	i->ifi_index = index;
	mnl_attr_put(h, IFLA_ADDRESS, 6, mac);
	return gw_nl_talk(n, h, e, "set the address of interface %d", index);
}

int gw_rt_link_delete(struct gw_nl *n, const char *name, struct gw_err *e)
{
	struct gw_nl_msg m;
	struct nlmsghdr *h = gw_nl_start(&m, RTM_DELLINK, 0, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(h, IFLA_IFNAME, name);
	return gw_nl_talk(n, h, e, "delete interface %s", name);
}

static void put_veth_end(struct nlmsghdr *h, const struct gw_veth_end *v, uint32_t mtu)
{
	mnl_attr_put_strz(h, IFLA_IFNAME, v->name);
	mnl_attr_put(h, IFLA_ADDRESS, 6, v->mac);
	mnl_attr_put_u32(h, IFLA_MTU, mtu);
	if (v->netns_fd >= 0)
		mnl_attr_put_u32(h, IFLA_NET_NS_FD, (uint32_t)v->netns_fd);
}

int gw_rt_veth(struct gw_nl *n, const struct gw_veth_end *a, const struct gw_veth_end *b, uint32_t mtu,
               struct gw_err *e)
{
	struct gw_nl_msg m;
	struct nlmsghdr *h = gw_nl_start(&m, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof(struct ifinfomsg));
	put_veth_end(h, a, mtu);
	struct nlattr *info = mnl_attr_nest_start(h, IFLA_LINKINFO);
	mnl_attr_put_strz(h, IFLA_INFO_KIND, "veth");
	struct nlattr *data = mnl_attr_nest_start(h, IFLA_INFO_DATA);
	struct nlattr *peer = mnl_attr_nest_start(h, VETH_INFO_PEER);
	(void)mnl_nlmsg_put_extra_header(h, sizeof(struct ifinfomsg));
	put_veth_end(h, b, mtu);
	mnl_attr_nest_end(h, peer);
	mnl_attr_nest_end(h, data);
	mnl_attr_nest_end(h, info);
	return gw_nl_talk(n, h, e, "make the pair of interfaces %s and %s", a->name, b->name);
}

int gw_rt_addr_add(struct gw_nl *n, int index, const struct gw_addr *a, struct gw_err *e)
{
	struct gw_nl_msg m;
	char text[64];
	struct nlmsghdr *h = gw_nl_start(&m, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, sizeof(struct ifaddrmsg));
	struct ifaddrmsg *i = mnl_nlmsg_get_payload(h);
	i->ifa_family = (uint8_t)a->family;
	i->ifa_prefixlen = a->prefix;
	i->ifa_scope = RT_SCOPE_UNIVERSE;
	i->ifa_index = (uint32_t)index;
	uint32_t flags = IFA_F_PERMANENT | IFA_F_NOPREFIXROUTE;
	if (a->family == AF_INET6)
		flags |= IFA_F_NODAD;
	i->ifa_flags = (uint8_t)flags;
	mnl_attr_put(h, IFA_LOCAL, gw_addr_len(a->family), a->bytes);
	mnl_attr_put(h, IFA_ADDRESS, gw_addr_len(a->family), a->bytes);
	mnl_attr_put_u32(h, IFA_FLAGS, flags);
	return gw_nl_talk(n, h, e, "add address %s", gw_addr_text(a, text, sizeof(text)));
}

static struct nlmsghdr *neigh_start(struct gw_nl_msg *m, int index, const struct gw_addr *a, uint16_t state,
                                    uint8_t flags)
{
	struct nlmsghdr *h = gw_nl_start(m, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, sizeof(struct ndmsg));
	struct ndmsg *d = mnl_nlmsg_get_payload(h);
	d->ndm_family = (uint8_t)a->family;
	d->ndm_ifindex = index;
	d->ndm_state = state;
	d->ndm_flags = flags;
	mnl_attr_put(h, NDA_DST, gw_addr_len(a->family), a->bytes);
	return h;
}

int gw_rt_neigh_permanent(struct gw_nl *n, int index, const struct gw_addr *a, const uint8_t mac[6], struct gw_err *e)
{
	struct gw_nl_msg m;
	char text[64];
	struct nlmsghdr *h = neigh_start(&m, index, a, NUD_PERMANENT, 0);
	mnl_attr_put(h, NDA_LLADDR, 6, mac);
	return gw_nl_talk(n, h, e, "enter neighbour %s", gw_addr_text(a, text, sizeof(text)));
}

int gw_rt_neigh_probe(struct gw_nl *n, int index, const struct gw_addr *a, struct gw_err *e)
{
	struct gw_nl_msg m;
	char text[64];
	struct nlmsghdr *h = neigh_start(&m, index, a, NUD_NONE, NTF_USE);
	return gw_nl_talk(n, h, e, "look for neighbour %s", gw_addr_text(a, text, sizeof(text)));
}

static struct nlmsghdr *route_start(struct gw_nl_msg *m, uint16_t type, uint16_t flags, const struct gw_route *r)
{
	struct nlmsghdr *h = gw_nl_start(m, type, flags, sizeof(struct rtmsg));
	struct rtmsg *rt = mnl_nlmsg_get_payload(h);
	rt->rtm_family = (uint8_t)r->dst.family;
	rt->rtm_dst_len = r->dst.prefix;
	rt->rtm_table = RT_TABLE_MAIN;
	rt->rtm_protocol = GW_RT_PROTO;
	rt->rtm_scope = r->gateway || r->dst.family == AF_INET6 ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
	rt->rtm_type = RTN_UNICAST;
	if (r->onlink)
		rt->rtm_flags = RTNH_F_ONLINK;
	size_t len = gw_addr_len(r->dst.family);
	if (r->dst.prefix)
		mnl_attr_put(h, RTA_DST, len, r->dst.bytes);
	if (r->gateway)
		mnl_attr_put(h, RTA_GATEWAY, len, r->gateway);
	if (r->index)
		mnl_attr_put_u32(h, RTA_OIF, (uint32_t)r->index);
	if (r->priority)
		mnl_attr_put_u32(h, RTA_PRIORITY, r->priority);
	return h;
}

int gw_rt_route_put(struct gw_nl *n, const struct gw_route *r, struct gw_err *e)
{
	struct gw_nl_msg m;
	char text[64];
	struct nlmsghdr *h = route_start(&m, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, r);
	return gw_nl_talk(n, h, e, "set the route to %s", gw_addr_text(&r->dst, text, sizeof(text)));
}

int gw_rt_route_delete(struct gw_nl *n, const struct gw_route *r, struct gw_err *e)
{
	struct gw_nl_msg m;
	char text[64];
	struct nlmsghdr *h = route_start(&m, RTM_DELROUTE, 0, r);
	((struct rtmsg *)mnl_nlmsg_get_payload(h))->rtm_scope = RT_SCOPE_NOWHERE; /* any */
	return gw_nl_talk(n, h, e, "delete the route to %s", gw_addr_text(&r->dst, text, sizeof(text)));
}

static int on_route_found(const struct nlmsghdr *h, void *data)
{
	struct gw_route_found *f = data;
	if (h->nlmsg_type != RTM_NEWROUTE)
		return MNL_CB_OK;
	const struct rtmsg *rt = mnl_nlmsg_get_payload(h);
	*f = (struct gw_route_found){.type = rt->rtm_type, .prefix = rt->rtm_dst_len, .proto = rt->rtm_protocol};
	gw_nl_each(a, h, sizeof(*rt))
	{
		if (mnl_attr_get_type(a) == RTA_OIF)
			f->index = (int)mnl_attr_get_u32(a);
		if (mnl_attr_get_type(a) == RTA_GATEWAY || mnl_attr_get_type(a) == RTA_VIA)
			f->has_gateway = true;
	}
	return MNL_CB_OK;
}

int gw_rt_route_find(struct gw_nl *n, const struct gw_addr *a, struct gw_route_found *out, struct gw_err *e)
{
	struct gw_nl_msg m;
	struct gw_err mine = {0};
	struct nlmsghdr *h = gw_nl_start(&m, RTM_GETROUTE, 0, sizeof(struct rtmsg));
	struct rtmsg *rt = mnl_nlmsg_get_payload(h);
	rt->rtm_family = (uint8_t)a->family;
	rt->rtm_dst_len = (uint8_t)(gw_addr_len(a->family) * 8);
	rt->rtm_flags = RTM_F_FIB_MATCH | RTM_F_LOOKUP_TABLE;
	mnl_attr_put(h, RTA_DST, gw_addr_len(a->family), a->bytes);
	struct gw_route_found f = {0};
	int rc = gw_nl_ask(n, h, on_route_found, NULL, &f, "look for a route", &mine);
	/* Unreachable and prohibited addresses are answered with these too. */
	if (rc == -ENETUNREACH || rc == -EHOSTUNREACH || rc == -EACCES || rc == -EINVAL) {
		f = (struct gw_route_found){0};
		rc = 0;
	}
	if (rc < 0) {
		if (e)
			*e = mine;
		return rc;
	}
	*out = f;
	return 0;
}
