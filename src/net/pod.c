#include "net/pod.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "net/netns.h"
#include "net/nl.h"
#include "net/rtnl.h"

enum { POD_LINKS_MAX = 64 };

/* What the dumps fill: one pod, and what did not fit. */
struct gather {
	struct gw_pod *p;
	int index;
	const char *refuse; /* a code, NULL: nothing to refuse */
};

/* The first reason is the one to tell. */
static void refuse_for(struct gather *g, const char *code)
{
	if (!g->refuse)
		g->refuse = code;
}

static bool add_gateway(struct gw_pod *p, int family, const uint8_t *bytes)
{
	struct gw_addr g = {.family = family, .prefix = (uint8_t)(gw_addr_len(family) * 8)};
	memcpy(g.bytes, bytes, gw_addr_len(family));
	for (unsigned i = 0; i < p->ngateways; i++)
		if (p->gateways[i].family == family && !memcmp(p->gateways[i].bytes, g.bytes, sizeof(g.bytes)))
			return true;
	if (p->ngateways == GW_POD_ADDRS_MAX)
		return false;
	p->gateways[p->ngateways++] = g;
	return true;
}

static int on_addr(const struct nlmsghdr *h, void *data)
{
	struct gather *g = data;
	if (h->nlmsg_type != RTM_NEWADDR)
		return MNL_CB_OK;
	const struct ifaddrmsg *m = mnl_nlmsg_get_payload(h);
	if ((int)m->ifa_index != g->index || m->ifa_scope != RT_SCOPE_UNIVERSE ||
	    (m->ifa_family != AF_INET && m->ifa_family != AF_INET6))
		return MNL_CB_OK;
	const void *bytes = NULL;
	uint32_t flags = m->ifa_flags;
	/* IFA_ADDRESS is the other end of a point-to-point address; IFA_LOCAL, where given, is ours. */
	gw_nl_each(a, h, sizeof(*m))
	{
		bool whole = mnl_attr_get_payload_len(a) == gw_addr_len(m->ifa_family);
		if (mnl_attr_get_type(a) == IFA_LOCAL && whole)
			bytes = mnl_attr_get_payload(a);
		if (mnl_attr_get_type(a) == IFA_ADDRESS && whole && !bytes)
			bytes = mnl_attr_get_payload(a);
		if (mnl_attr_get_type(a) == IFA_FLAGS)
			flags = mnl_attr_get_u32(a);
	}
	if (!bytes || (m->ifa_family == AF_INET6 && (flags & (IFA_F_TEMPORARY | IFA_F_DADFAILED))))
		return MNL_CB_OK;
	struct gw_pod *p = g->p;
	if (p->naddrs == GW_POD_ADDRS_MAX) {
		refuse_for(g, "ManyAddresses");
		return MNL_CB_OK;
	}
	struct gw_addr *to = &p->addrs[p->naddrs++];
	*to = (struct gw_addr){.family = m->ifa_family, .prefix = m->ifa_prefixlen};
	memcpy(to->bytes, bytes, gw_addr_len(m->ifa_family));
	return MNL_CB_OK;
}

static void reset_addrs(void *data)
{
	((struct gather *)data)->p->naddrs = 0;
}

/* Made by the kernel for every interface, and so not carried. */
static bool is_automatic(const struct gw_pod *p, const struct gw_pod_route *r)
{
	if (r->dst.family == AF_INET6 &&
	    (r->dst.bytes[0] == 0xff ||
	     (r->dst.bytes[0] == 0xfe && (r->dst.bytes[1] & 0xc0) == 0x80 && r->dst.prefix <= 64)))
		return true;
	if (r->has_gateway || r->dst.prefix != gw_addr_len(r->dst.family) * 8)
		return false;
	for (unsigned i = 0; i < p->naddrs; i++)
		if (p->addrs[i].family == r->dst.family &&
		    !memcmp(p->addrs[i].bytes, r->dst.bytes, sizeof(r->dst.bytes)))
			return true;
	return false;
}

static int on_route(const struct nlmsghdr *h, void *data)
{
	struct gather *g = data;
	if (h->nlmsg_type != RTM_NEWROUTE)
		return MNL_CB_OK;
	const struct rtmsg *m = mnl_nlmsg_get_payload(h);
	if (m->rtm_type != RTN_UNICAST || (m->rtm_flags & RTM_F_CLONED) ||
	    (m->rtm_family != AF_INET && m->rtm_family != AF_INET6))
		return MNL_CB_OK;
	struct gw_pod_route r = {.dst = {.family = m->rtm_family, .prefix = m->rtm_dst_len},
	                         .onlink = (m->rtm_flags & RTNH_F_ONLINK) != 0};
	uint32_t table = m->rtm_table;
	int index = 0;
	bool odd = false;
	size_t len = gw_addr_len(m->rtm_family);
	gw_nl_each(a, h, sizeof(*m))
	{
		bool whole = mnl_attr_get_payload_len(a) == len;
		switch (mnl_attr_get_type(a)) {
		case RTA_TABLE: table = mnl_attr_get_u32(a); break;
		case RTA_OIF: index = (int)mnl_attr_get_u32(a); break;
		case RTA_DST:
			if (whole)
				memcpy(r.dst.bytes, mnl_attr_get_payload(a), len);
			break;
		case RTA_GATEWAY:
			r.has_gateway = whole;
			if (whole)
				memcpy(r.gateway, mnl_attr_get_payload(a), len);
			break;
		case RTA_MULTIPATH:
		case RTA_NH_ID:
		case RTA_VIA:
		case RTA_ENCAP: odd = true; break;
		default: break;
		}
	}
	struct gw_pod *p = g->p;
	if (table != RT_TABLE_MAIN || (index != g->index && !odd) || is_automatic(p, &r))
		return MNL_CB_OK;
	if (odd)
		refuse_for(g, "OddRoute");
	else if (p->nroutes == GW_POD_ROUTES_MAX || (r.has_gateway && !add_gateway(p, m->rtm_family, r.gateway)))
		refuse_for(g, "ManyRoutes");
	else
		p->routes[p->nroutes++] = r;
	return MNL_CB_OK;
}

static void reset_routes(void *data)
{
	struct gather *g = data;
	g->p->nroutes = g->p->ngateways = 0;
}

/* Entries the container was given for good: it may have no other way to find them. */
static int on_neigh(const struct nlmsghdr *h, void *data)
{
	struct gather *g = data;
	if (h->nlmsg_type != RTM_NEWNEIGH)
		return MNL_CB_OK;
	const struct ndmsg *m = mnl_nlmsg_get_payload(h);
	if (m->ndm_ifindex != g->index || !(m->ndm_state & NUD_PERMANENT) ||
	    (m->ndm_family != AF_INET && m->ndm_family != AF_INET6))
		return MNL_CB_OK;
	gw_nl_each(a, h, sizeof(*m)) if (mnl_attr_get_type(a) == NDA_DST &&
	                                 mnl_attr_get_payload_len(a) == gw_addr_len(m->ndm_family) &&
	                                 !add_gateway(g->p, m->ndm_family, mnl_attr_get_payload(a)))
	        refuse_for(g, "ManyRoutes");
	return MNL_CB_OK;
}

static int dump(struct gw_nl *n, uint16_t type, int family, mnl_cb_t cb, void (*reset)(void *), struct gather *g,
                const char *what, struct gw_err *e)
{
	struct gw_nl_msg m;
	/* rtgenmsg's family comes first in every rtnetlink header. */
	struct nlmsghdr *h = gw_nl_start(&m, type, NLM_F_DUMP, sizeof(struct rtmsg));
	((struct rtgenmsg *)mnl_nlmsg_get_payload(h))->rtgen_family = (uint8_t)family;
	return gw_nl_ask(n, h, cb, reset, g, what, e);
}

/* The one interface that is up, or up and of that name. Tunnels that the kernel puts into every
 * namespace (tunl0, sit0, ...) are down and don't count. */
static int only_link(struct gw_nl *n, const char *ifname, struct gw_link *out, struct gw_err *e)
{
	gw_auto(mem) struct gw_link *l = calloc(POD_LINKS_MAX, sizeof(*l));
	size_t total = 0;
	if (!l)
		return gw_fail(e, GW_SYS, ENOMEM, "list the container's interfaces");
	int rc = gw_rt_links(n, l, POD_LINKS_MAX, &total, e);
	if (rc < 0)
		return rc;
	const struct gw_link *one = NULL;
	bool many = total > POD_LINKS_MAX && !ifname;
	for (size_t i = 0; i < total && i < POD_LINKS_MAX; i++) {
		if (l[i].type == ARPHRD_LOOPBACK || !(l[i].flags & IFF_UP))
			continue;
		if (ifname && strcmp(l[i].name, ifname) != 0)
			continue;
		many |= one != NULL;
		one = &l[i];
	}
	if (many)
		return gw_fail_code(e, GW_INPUT, "ManyInterfaces",
		                    "the container has more than one network interface; one can be moved");
	if (!one)
		return gw_fail_code(e, GW_INPUT, "NoAddress", "the container has no network interface that is up");
	if (strcmp(one->kind, "veth") != 0 || one->peer == 0 || one->peer_nsid < 0)
		return gw_fail_code(e, GW_INPUT, "NotVeth",
		                    "the container's interface %s is not one end of a veth pair (%s)", one->name,
		                    one->kind[0] ? one->kind : "hardware");
	*out = *one;
	return 0;
}

/* The host's end, shown to be the peer and not just a link of that index. */
static int host_end(struct gw_nl *host, int netns_fd, const struct gw_link *in, struct gw_pod *p, struct gw_err *e)
{
	struct gw_link l;
	int nsid = -1;
	struct gw_err none = {0};
	int rc = gw_rt_link(host, NULL, in->peer, &l, &none);
	if (rc < 0 && rc != -ENODEV) {
		if (e)
			*e = none;
		return rc;
	}
	if (rc == 0) {
		/* The answer above made the kernel number the peer's namespace. */
		int rc2 = gw_rt_nsid(host, netns_fd, &nsid, e);
		if (rc2 < 0)
			return rc2;
	}
	if (rc < 0 || strcmp(l.kind, "veth") != 0 || l.peer != in->index || nsid < 0 || l.peer_nsid != nsid)
		return gw_fail_code(e, GW_INPUT, "NotRouted",
		                    "the other end of the container's %s is not in the host's network namespace",
		                    in->name);
	if (l.master)
		return gw_fail_code(e, GW_INPUT, "NotRouted",
		                    "the host's end %s of the container's %s is a port of a bridge; only pods that "
		                    "the host routes to can be moved",
		                    l.name, in->name);
	memcpy(p->host_mac, l.mac, sizeof(p->host_mac));
	memcpy(p->host_ifname, l.name, sizeof(p->host_ifname));
	return 0;
}

static int refuse(const struct gather *g, struct gw_err *e)
{
	if (g->refuse && !strcmp(g->refuse, "ManyAddresses"))
		return gw_fail_code(e, GW_INPUT, g->refuse, "the container has more than %d addresses",
		                    GW_POD_ADDRS_MAX);
	if (g->refuse && !strcmp(g->refuse, "ManyRoutes"))
		return gw_fail_code(e, GW_INPUT, g->refuse, "the container has more than %d routes or %d gateways",
		                    GW_POD_ROUTES_MAX, GW_POD_ADDRS_MAX);
	if (g->refuse)
		return gw_fail_code(e, GW_INPUT, g->refuse,
		                    "the container has a route of several next hops, of a nexthop object or through "
		                    "another address family; plain routes can be moved");
	if (g->p->naddrs == 0)
		return gw_fail_code(e, GW_INPUT, "NoAddress", "the container's interface %s has no global address",
		                    g->p->ifname);
	return 0;
}

static int inspect(struct gw_nl *in, struct gw_nl *host, int netns_fd, const char *ifname, struct gw_pod *p,
                   struct gw_err *e)
{
	struct gw_link l;
	int rc = only_link(in, ifname, &l, e);
	if (rc < 0)
		return rc;
	memcpy(p->ifname, l.name, sizeof(p->ifname));
	memcpy(p->mac, l.mac, sizeof(p->mac));
	p->mtu = l.mtu;
	struct gather g = {.p = p, .index = l.index};
	rc = dump(in, RTM_GETADDR, AF_UNSPEC, on_addr, reset_addrs, &g, "list the container's addresses", e);
	if (rc == 0)
		rc = dump(in, RTM_GETROUTE, AF_UNSPEC, on_route, reset_routes, &g, "list the container's routes", e);
	if (rc == 0)
		rc = dump(in, RTM_GETNEIGH, AF_UNSPEC, on_neigh, NULL, &g, "list the container's neighbours", e);
	if (rc == 0)
		rc = refuse(&g, e);
	if (rc == 0)
		rc = host_end(host, netns_fd, &l, p, e);
	return rc;
}

int gw_pod_inspect(const char *netns_path, struct gw_pod *out, struct gw_err *e)
{
	return gw_pod_inspect_link(netns_path, NULL, out, e);
}

int gw_pod_inspect_link(const char *netns_path, const char *ifname, struct gw_pod *out, struct gw_err *e)
{
	gw_auto(fd) int fd = -1;
	gw_auto(nl) struct gw_nl in = {0};
	gw_auto(nl) struct gw_nl host = {0};
	int rc = gw_netns_open(netns_path, &fd, e);
	if (rc < 0)
		return rc;
	int ours = gw_netns_is_ours(fd);
	if (ours < 0)
		return gw_fail(e, GW_SYS, -ours, "compare network namespaces");
	if (ours)
		return gw_fail_code(e, GW_INPUT, "HostNetwork",
		                    "the container uses the host's own network namespace: its address belongs to the "
		                    "host and can't leave it");
	rc = gw_nl_open_in(fd, NETLINK_ROUTE, &in, e);
	if (rc == 0)
		rc = gw_nl_open(NETLINK_ROUTE, &host, e);
	if (rc < 0)
		return rc;
	struct gw_pod p = {0};
	rc = inspect(&in, &host, fd, ifname, &p, e);
	if (rc == 0)
		*out = p;
	return rc;
}
