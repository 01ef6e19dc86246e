/* The mover for routed pods: a /32 or /128 behind a veth, plain routes between hosts. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>

#include "net/dormant.h"
#include "net/forward.h"
#include "net/mover.h"
#include "net/netns.h"
#include "net/nl.h"
#include "net/routed.h"
#include "net/rtnl.h"

/* The IPv6 default for routes made by hand is 1024; ours must win over what a
 * CNI plugin left. In IPv4 that default is 0 and can't be beaten, only replaced. */
enum { PRIORITY_V6 = 1 };

int gw_routed_names(const char *id, struct gw_routed_names *out, struct gw_err *e)
{
	size_t n = strlen(id);
	if (n == 0 || n > GW_ROUTED_ID_MAX || strchr(id, '/') || id[0] == '.')
		return gw_fail(e, GW_INPUT, EINVAL, "\"%.80s\" is no container id: 1 to %d characters, no slash", id,
		               GW_ROUTED_ID_MAX);
	uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */
	for (size_t i = 0; i < n; i++)
		h = (h ^ (uint8_t)id[i]) * 0x100000001b3u;
	(void)snprintf(out->link, sizeof(out->link), "gw%012llx", (unsigned long long)(h & 0xffffffffffffu));
	(void)snprintf(out->netns, sizeof(out->netns), "/run/netns/gw-%s", id);
	return 0;
}

/* The address alone, without the range it was given with. */
static struct gw_addr host_only(const struct gw_addr *a)
{
	struct gw_addr h = *a;
	h.prefix = (uint8_t)(gw_addr_len(a->family) * 8);
	return h;
}

static int route_to_link(struct gw_nl *n, const struct gw_pod *p, const char *link, struct gw_err *e)
{
	struct gw_link l;
	int rc = gw_rt_link(n, link, 0, &l, e);
	if (rc < 0)
		return gw_wrap(e, "interface %s", link);
	for (unsigned i = 0; i < p->naddrs; i++) {
		struct gw_route r = {.dst = host_only(&p->addrs[i]), .index = l.index};
		r.priority = r.dst.family == AF_INET6 ? PRIORITY_V6 : 0;
		rc = gw_rt_route_put(n, &r, e);
		if (rc < 0)
			return rc;
	}
	return 0;
}

const uint8_t gw_routed_dormant_mac[6] = {0x02, 'g', 'w', 0, 0, 1};

/* One veth's two directions: our end's address is the one the container sends
 * to, and the neighbour entries are the container's own address; or neither. */
static int link_speaks(struct gw_nl *n, const struct gw_pod *p, const char *link, bool yes, struct gw_err *e)
{
	struct gw_link l;
	int rc = gw_rt_link(n, link, 0, &l, e);
	if (rc == 0)
		rc = gw_rt_link_mac(n, l.index, yes ? p->host_mac : gw_routed_dormant_mac, e);
	for (unsigned i = 0; rc == 0 && i < p->naddrs; i++)
		rc = gw_rt_neigh_permanent(n, l.index, &p->addrs[i], yes ? p->mac : gw_routed_dormant_mac, e);
	return rc < 0 ? gw_wrap(e, "%s interface %s", yes ? "open" : "seal", link) : 0;
}

static int seal_or_not(const struct gw_pod *p, bool seal, struct gw_err *e)
{
	gw_auto(nl) struct gw_nl n = {0};
	int rc = gw_nl_open(NETLINK_ROUTE, &n, e);
	return rc < 0 ? rc : link_speaks(&n, p, p->host_ifname, !seal, e);
}

static int seal(const char *id, const struct gw_pod *p, struct gw_err *e)
{
	int rc = seal_or_not(p, true, e);
	return rc < 0 ? gw_wrap(e, "seal %s", id) : 0;
}

static int unseal(const char *id, const struct gw_pod *p, struct gw_err *e)
{
	int rc = seal_or_not(p, false, e);
	return rc < 0 ? gw_wrap(e, "unseal %s", id) : 0;
}

static int activate(const char *id, const struct gw_pod *p, struct gw_err *e)
{
	struct gw_routed_names names;
	gw_auto(nl) struct gw_nl n = {0};
	int rc = gw_routed_names(id, &names, e);
	if (rc == 0)
		rc = gw_nl_open(NETLINK_ROUTE, &n, e);
	if (rc == 0)
		rc = route_to_link(&n, p, names.link, e);
	return rc < 0 ? gw_wrap(e, "activate %s", id) : 0;
}

static int settle(const char *id, const struct gw_pod *p, struct gw_err *e)
{
	struct gw_routed_names names;
	(void)p;
	int rc = gw_routed_names(id, &names, e);
	if (rc == 0)
		rc = gw_dormant_end(names.link, e);
	return rc < 0 ? gw_wrap(e, "settle %s", id) : 0;
}

static int turn_back(const char *id, const struct gw_pod *p, struct gw_err *e)
{
	gw_auto(nl) struct gw_nl n = {0};
	int rc = gw_nl_open(NETLINK_ROUTE, &n, e);
	if (rc == 0)
		rc = route_to_link(&n, p, p->host_ifname, e);
	return rc < 0 ? gw_wrap(e, "turn the route to %s back", id) : 0;
}

/* via_host's address of one family, out of its comma list. */
static int via_of(const char *via_host, int family, struct gw_addr *out, struct gw_err *e)
{
	char one[INET6_ADDRSTRLEN];
	struct gw_addr a;
	for (const char *p = via_host; *p;) {
		size_t n = strcspn(p, ",");
		(void)snprintf(one, sizeof(one), "%.*s", n < sizeof(one) ? (int)n : 0, p);
		if (strchr(one, '/') || gw_addr_parse(one, &a) < 0)
			return gw_fail(e, GW_INPUT, EINVAL, "\"%s\" is no list of a host's addresses", via_host);
		if (a.family == family) {
			*out = a;
			return 0;
		}
		p += n + (p[n] == ',');
	}
	return gw_fail(e, GW_INPUT, EINVAL,
	               "the pod has an %s address and \"%s\" names none of the destination host: give both, "
	               "\"10.9.0.3,fd09::3\"",
	               family == AF_INET ? "IPv4" : "IPv6", via_host);
}

static int turn(const char *id, const struct gw_pod *p, const char *via_host, struct gw_err *e)
{
	gw_auto(nl) struct gw_nl n = {0};
	int rc = gw_nl_open(NETLINK_ROUTE, &n, e);
	struct gw_addr via[GW_POD_ADDRS_MAX];
	/* All of the words first: a list that lacks a family must turn nothing. */
	for (unsigned i = 0; rc == 0 && i < p->naddrs; i++)
		rc = via_of(via_host, p->addrs[i].family, &via[i], e);
	for (unsigned i = 0; rc == 0 && i < p->naddrs; i++) {
		struct gw_route r = {.dst = host_only(&p->addrs[i]), .gateway = via[i].bytes};
		r.priority = r.dst.family == AF_INET6 ? PRIORITY_V6 : 0;
		rc = gw_rt_route_put(&n, &r, e);
		if (rc == -ENETUNREACH || rc == -EHOSTUNREACH || rc == -EINVAL)
			(void)gw_wrap(e, "%s is on no link of this host", via_host);
	}
	return rc < 0 ? gw_wrap(e, "turn the route to %s", id) : 0;
}

static int ready_for(struct gw_nl *n, const struct gw_addr *a, const char *via_host, struct gw_err *e)
{
	const int family = a->family;
	const struct gw_addr host = host_only(a);
	struct gw_addr via;
	struct gw_route_found f;
	struct gw_link l;
	int rc = gw_routed_forwards(family, e);
	if (rc == 0)
		rc = via_of(via_host, family, &via, e);
	if (rc == 0)
		rc = gw_rt_route_find(n, &via, &f, e);
	if (rc < 0)
		return rc;
	if (f.type != RTN_UNICAST || f.has_gateway)
		return gw_fail_code(e, GW_INPUT, "NoSharedLink",
		                    "the destination host %s is on no link of this host: moving a routed pod takes two "
		                    "hosts that reach each other without a router",
		                    via_host);
	rc = gw_rt_link(n, NULL, f.index, &l, e);
	if (rc == 0)
		rc = gw_rt_neigh_probe(n, f.index, &via, e);
	if (rc == 0)
		rc = gw_forward_allow(&host, l.name, e);
	if (rc < 0 || family == AF_INET6)
		return rc; /* IPv6 sends redirects only toward link-local next hops: never here */
	rc = gw_routed_sysctl("0", e, "net/ipv4/conf/all/send_redirects");
	return rc < 0 ? rc : gw_routed_sysctl("0", e, "net/ipv4/conf/%s/send_redirects", l.name);
}

static int ready(const char *id, const struct gw_pod *p, const char *via_host, struct gw_err *e)
{
	gw_auto(nl) struct gw_nl n = {0};
	int rc = gw_nl_open(NETLINK_ROUTE, &n, e);
	for (unsigned i = 0; rc == 0 && i < p->naddrs; i++)
		rc = ready_for(&n, &p->addrs[i], via_host, e);
	return rc < 0 ? gw_wrap(e, "make ready to turn the route to %s", id) : 0;
}

struct take_link {
	const char *name;
};

/* In the namespace: deleting one end of a veth takes the other with it. */
static int take_link(void *arg, struct gw_err *e)
{
	const struct take_link *t = arg;
	gw_auto(nl) struct gw_nl n = {0};
	int rc = gw_nl_open(NETLINK_ROUTE, &n, e);
	if (rc < 0)
		return rc;
	rc = gw_rt_link_delete(&n, t->name, e);
	return rc == -ENODEV ? 0 : rc;
}

static int empty_netns(const char *path, const struct gw_pod *p, struct gw_err *e)
{
	gw_auto(fd) int fd = -1;
	struct gw_err mine = {0};
	int rc = gw_netns_open(path, &fd, &mine);
	/* Not there any more, or a file whose mount is gone, or a process that ended. */
	if (rc == -ENOENT || rc == -EINVAL)
		return 0;
	if (rc < 0) {
		if (e)
			*e = mine;
		return rc;
	}
	int ours = gw_netns_is_ours(fd);
	if (ours != 0)
		return gw_fail(e, GW_INPUT, EINVAL, "%s is the host's own network namespace: not emptied", path);
	struct take_link t = {.name = p->ifname};
	return gw_netns_run(fd, take_link, &t, e);
}

int gw_routed_discard(const char *id, const struct gw_pod *p, const char *netns_path, struct gw_err *e)
{
	struct gw_routed_names names;
	gw_auto(nl) struct gw_nl n = {0};
	int rc = gw_routed_names(id, &names, e);
	if (rc == 0)
		rc = empty_netns(netns_path ? netns_path : names.netns, p, e);
	if (rc == 0)
		rc = gw_nl_open(NETLINK_ROUTE, &n, e);
	/* The host's end outlives the namespace's only when the latter was lost half made. */
	if (rc == 0)
		rc = gw_rt_link_delete(&n, names.link, e);
	if (rc == -ENODEV)
		rc = 0;
	if (rc == 0)
		rc = gw_dormant_end(names.link, e);
	if (rc == 0 && (!netns_path || !strcmp(netns_path, names.netns)))
		rc = gw_netns_drop(names.netns, e);
	return rc < 0 ? gw_wrap(e, "take the network of %s away", id) : 0;
}

static int forget(const char *id, const struct gw_pod *p, struct gw_err *e)
{
	gw_auto(nl) struct gw_nl n = {0};
	int rc = gw_nl_open(NETLINK_ROUTE, &n, e);
	for (unsigned i = 0; rc == 0 && i < p->naddrs; i++) {
		struct gw_route r = {.dst = host_only(&p->addrs[i])};
		struct gw_route_found f;
		r.priority = r.dst.family == AF_INET6 ? PRIORITY_V6 : 0;
		rc = gw_rt_route_find(&n, &r.dst, &f, e);
		if (rc == 0 && f.proto == GW_RT_PROTO && f.prefix == r.dst.prefix && f.has_gateway)
			rc = gw_rt_route_delete(&n, &r, e);
		if (rc == 0)
			rc = gw_forward_forget(&r.dst, e);
	}
	return rc < 0 ? gw_wrap(e, "forget the way to %s", id) : 0;
}

const struct gw_mover gw_mover_routed = {
        .name = "routed",
        .prepare = gw_routed_prepare,
        .ready = ready,
        .seal = seal,
        .unseal = unseal,
        .activate = activate,
        .settle = settle,
        .turn = turn,
        .turn_back = turn_back,
        .discard = gw_routed_discard,
        .forget = forget,
};
