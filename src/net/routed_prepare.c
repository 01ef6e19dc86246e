/* The destination's half before the freeze: a dormant copy of the pod's network. */
#include <errno.h>
#include <limits.h>
#include <linux/rtnetlink.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/io.h"
#include "net/dormant.h"
#include "net/netns.h"
#include "net/nl.h"
#include "net/routed.h"
#include "net/rtnl.h"

enum { USABLE_WITHIN_MS = 2000 };

static bool has_family(const struct gw_pod *p, int family)
{
	for (unsigned i = 0; i < p->naddrs; i++)
		if (p->addrs[i].family == family)
			return true;
	return false;
}

int gw_routed_sysctl(const char *value, struct gw_err *e, const char *key, ...)
{
	char name[128], path[160];
	va_list ap;
	va_start(ap, key);
	int n = vsnprintf(name, sizeof(name), key, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof(name))
		return gw_fail(e, GW_INPUT, ENAMETOOLONG, "sysctl %s", name);
	gw_path(path, sizeof(path), "/proc/sys/%s", name);
	int rc = gw_write_knob(path, value);
	return rc < 0 ? gw_fail(e, GW_SYS, -rc, "set sysctl %s to %s", name, value) : 0;
}

static int sysctl_get(const char *key, const char *link, long *out, struct gw_err *e)
{
	char path[160];
	gw_auto(mem) char *text = NULL;
	gw_path(path, sizeof(path), "/proc/sys/net/ipv4/conf/%s/%s", link, key);
	int rc = gw_read_file(path, 64, &text, NULL, e);
	if (rc == 0)
		*out = strtol(text, NULL, 10);
	return rc;
}

int gw_routed_forwards(int family, struct gw_err *e)
{
	const char *key = family == AF_INET ? "net.ipv4.ip_forward" : "net.ipv6.conf.all.forwarding";
	const char *path =
	        family == AF_INET ? "/proc/sys/net/ipv4/ip_forward" : "/proc/sys/net/ipv6/conf/all/forwarding";
	gw_auto(mem) char *text = NULL;
	int rc = gw_read_file(path, 64, &text, NULL, e);
	if (rc < 0)
		return rc;
	if (text[0] == '0')
		return gw_fail_code(e, GW_INPUT, "NoForwarding",
		                    "this host does not forward %s packets, so no pod behind it can be reached: "
		                    "sysctl -w %s=1",
		                    family == AF_INET ? "IPv4" : "IPv6", key);
	return 0;
}

/* Nothing on this host may own the address, and what comes back from the
 * source for our own clients (see mover.h) must not be dropped as spoofed. */
static int check_address(struct gw_nl *n, const struct gw_addr *a, struct gw_err *e)
{
	struct gw_route_found f;
	struct gw_link l;
	char text[64];
	int rc = gw_routed_forwards(a->family, e);
	if (rc == 0)
		rc = gw_rt_route_find(n, a, &f, e);
	if (rc < 0)
		return rc;
	bool exact = f.prefix == gw_addr_len(a->family) * 8;
	if (f.type == RTN_LOCAL || (f.type == RTN_UNICAST && exact && !f.has_gateway))
		return gw_fail_code(e, GW_INPUT, "AddressInUse", "the pod's address %s is in use on this host already",
		                    gw_addr_text(a, text, sizeof(text)));
	if (a->family != AF_INET || f.type != RTN_UNICAST || !f.has_gateway)
		return 0;
	rc = gw_rt_link(n, NULL, f.index, &l, e);
	if (rc == 0)
		rc = gw_routed_sysctl("1", e, "net/ipv4/conf/%s/accept_local", l.name);
	/* The larger of the two counts: 1 is strict, 2 loose. */
	long all = 0, own = 0;
	if (rc == 0)
		rc = sysctl_get("rp_filter", "all", &all, e);
	if (rc == 0)
		rc = sysctl_get("rp_filter", l.name, &own, e);
	if (rc == 0 && (all > own ? all : own) == 1)
		rc = gw_routed_sysctl("2", e, "net/ipv4/conf/%s/rp_filter", l.name);
	return rc;
}

/* An interface that answers and asks nobody: no address is ever tentative. */
static int quiet_v6(const char *link, struct gw_err *e)
{
	static const char *const keys[] = {"accept_dad", "dad_transmits", "accept_ra", "autoconf",
	                                   "router_solicitations"};
	for (unsigned i = 0; i < gw_countof(keys); i++) {
		int rc = gw_routed_sysctl("0", e, "net/ipv6/conf/%s/%s", link, keys[i]);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int quiet_inside(void *arg, struct gw_err *e)
{
	(void)arg;
	return quiet_v6("default", e);
}

static int add_routes(struct gw_nl *n, const struct gw_pod *p, int index, bool with_gateway, struct gw_err *e)
{
	for (unsigned i = 0; i < p->nroutes; i++) {
		const struct gw_pod_route *from = &p->routes[i];
		if (from->has_gateway != with_gateway)
			continue;
		struct gw_route r = {.dst = from->dst,
		                     .index = index,
		                     .onlink = from->onlink,
		                     .gateway = with_gateway ? from->gateway : NULL};
		int rc = gw_rt_route_put(n, &r, e);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int fill_inside(struct gw_nl *n, const struct gw_pod *p, struct gw_err *e)
{
	struct gw_link l;
	int rc = gw_rt_link_up(n, "lo", e);
	if (rc == 0)
		rc = gw_rt_link_up(n, p->ifname, e);
	if (rc == 0)
		rc = gw_rt_link(n, p->ifname, 0, &l, e);
	for (unsigned i = 0; rc == 0 && i < p->naddrs; i++)
		rc = gw_rt_addr_add(n, l.index, &p->addrs[i], e);
	/* A gateway must be on a link by the time its route is added. */
	if (rc == 0)
		rc = add_routes(n, p, l.index, false, e);
	if (rc == 0)
		rc = add_routes(n, p, l.index, true, e);
	for (unsigned i = 0; rc == 0 && i < p->ngateways; i++)
		rc = gw_rt_neigh_permanent(n, l.index, &p->gateways[i], p->host_mac, e);
	return rc;
}

/* A container that believes everyone to be on its link asks for them by ARP. */
static bool asks_for_others(const struct gw_pod *p)
{
	for (unsigned i = 0; i < p->nroutes; i++)
		if (p->routes[i].dst.family == AF_INET && !p->routes[i].has_gateway && p->routes[i].dst.prefix < 32)
			return true;
	return false;
}

static int fill_host(struct gw_nl *n, const struct gw_pod *p, const char *link, struct gw_err *e)
{
	struct gw_link l;
	int rc = 0;
	if (has_family(p, AF_INET6)) {
		rc = quiet_v6(link, e);
		if (rc == 0)
			rc = gw_routed_sysctl("0", e, "net/ipv6/neigh/%s/proxy_delay", link);
	}
	/* By default a proxied answer waits up to 0.8 s. */
	if (rc == 0)
		rc = gw_routed_sysctl("0", e, "net/ipv4/neigh/%s/proxy_delay", link);
	if (rc == 0 && asks_for_others(p))
		rc = gw_routed_sysctl("1", e, "net/ipv4/conf/%s/proxy_arp", link);
	if (rc == 0)
		rc = gw_rt_link_up(n, link, e);
	if (rc == 0)
		rc = gw_rt_link(n, link, 0, &l, e);
	for (unsigned i = 0; rc == 0 && i < p->naddrs; i++)
		rc = gw_rt_neigh_permanent(n, l.index, &p->addrs[i], p->mac, e);
	return rc;
}

/* The kernel makes an IPv6 address usable, and a carrier known, in a work
 * queue: without this wait a packet a millisecond later may be dropped. */
static int wait_usable(struct gw_nl *in, struct gw_nl *host, const struct gw_pod *p, const char *link, struct gw_err *e)
{
	uint64_t end = gw_now_ms() + USABLE_WITHIN_MS;
	for (;;) {
		struct gw_link here, there;
		struct gw_route_found f;
		bool usable = true;
		int rc = gw_rt_link(host, link, 0, &here, e);
		if (rc == 0)
			rc = gw_rt_link(in, p->ifname, 0, &there, e);
		for (unsigned i = 0; rc == 0 && i < p->naddrs; i++) {
			rc = gw_rt_route_find(in, &p->addrs[i], &f, e);
			usable &= rc == 0 && f.type == RTN_LOCAL;
		}
		if (rc < 0)
			return rc;
		if (usable && here.flags & there.flags & IFF_RUNNING)
			return 0;
		if (gw_now_ms() > end)
			return gw_fail(e, GW_SYS, ETIMEDOUT, "interface %s does not come up", p->ifname);
		gw_sleep_us(500);
	}
}

static int build(const struct gw_routed_names *names, const struct gw_pod *p, const char *netns, bool dormant,
                 struct gw_nl *host, struct gw_err *e)
{
	gw_auto(fd) int fd = -1;
	gw_auto(nl) struct gw_nl in = {0};
	int rc = gw_netns_open(netns, &fd, e);
	if (rc == 0 && has_family(p, AF_INET6))
		rc = gw_netns_run(fd, quiet_inside, NULL, e);
	if (rc == 0)
		rc = gw_nl_open_in(fd, NETLINK_ROUTE, &in, e);
	if (rc < 0)
		return rc;
	const struct gw_veth_end ours = {.name = names->link, .mac = p->host_mac, .netns_fd = -1};
	const struct gw_veth_end theirs = {.name = p->ifname, .mac = p->mac, .netns_fd = fd};
	if (dormant)
		rc = gw_dormant_begin(names->link, e);
	if (rc == 0)
		rc = gw_rt_veth(host, &ours, &theirs, p->mtu, e);
	/* Our end first: an interface whose peer is down has no carrier, and loses its routes. */
	if (rc == 0)
		rc = fill_host(host, p, names->link, e);
	if (rc == 0)
		rc = fill_inside(&in, p, e);
	if (rc == 0)
		rc = wait_usable(&in, host, p, names->link, e);
	return rc;
}

int gw_routed_may_come(const struct gw_pod *p, struct gw_err *e)
{
	gw_auto(nl) struct gw_nl host = {0};
	int rc = gw_nl_open(NETLINK_ROUTE, &host, e);
	for (unsigned i = 0; rc == 0 && i < p->naddrs; i++)
		rc = check_address(&host, &p->addrs[i], e);
	return rc;
}

int gw_routed_fill(const char *id, const struct gw_pod *p, const char *netns, bool dormant, struct gw_err *e)
{
	struct gw_routed_names names;
	gw_auto(nl) struct gw_nl host = {0};
	int rc = gw_routed_names(id, &names, e);
	if (rc == 0)
		rc = gw_nl_open(NETLINK_ROUTE, &host, e);
	if (rc < 0)
		return rc;
	struct gw_link there;
	if (gw_rt_link(&host, names.link, 0, &there, NULL) == 0)
		return gw_fail(e, GW_SYS, EEXIST, "interface %s of %s", names.link, id);
	rc = build(&names, p, netns, dormant, &host, e);
	/* By our end only: an interface of that name inside may be somebody else's. */
	if (rc < 0)
		(void)gw_routed_discard(id, p, "", NULL);
	return rc < 0 ? gw_wrap(e, "make the network of %s", id) : 0;
}

int gw_routed_prepare(const char *id, const struct gw_pod *p, char *out_netns, size_t size, struct gw_err *e)
{
	struct gw_routed_names names;
	gw_auto(nl) struct gw_nl host = {0};
	int rc = gw_routed_names(id, &names, e);
	if (rc == 0 && size <= strlen(names.netns))
		rc = gw_fail(e, GW_INPUT, ENAMETOOLONG, "no room for the path %s", names.netns);
	if (rc == 0)
		rc = gw_nl_open(NETLINK_ROUTE, &host, e);
	if (rc == 0)
		rc = gw_routed_may_come(p, e);
	if (rc == 0)
		rc = gw_routed_discard(id, p, NULL, e);
	if (rc == 0) {
		rc = gw_netns_make(names.netns, e);
		if (rc == 0)
			rc = build(&names, p, names.netns, true, &host, e);
		if (rc < 0)
			(void)gw_routed_discard(id, p, NULL, NULL); /* the first error is the one to tell */
	}
	if (rc < 0)
		return gw_wrap(e, "prepare the network of %s", id);
	(void)snprintf(out_netns, size, "%s", names.netns);
	return 0;
}
