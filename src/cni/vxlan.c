/* The VXLAN part of cni/fabric.h. Layouts: linux/if_link.h (IFLA_VXLAN_*), linux/neighbour.h. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>

#include "cni/fabric.h"
#include "net/nl.h"
#include "net/rtnl.h"

enum { PORT = 4789, VNI_MAX = 0xffffff };

/* The four bytes of a node's IPv4 address make it unique; locally administered. */
static void mac_of(const struct gw_addr *node, uint8_t mac[6])
{
	mac[0] = 0x02;
	mac[1] = 'g';
	memcpy(mac + 2, node->bytes, 4);
}

/* By which a range of that family is reached: the node itself, or a link-local of its own. */
static struct gw_addr gateway_of(const struct gw_addr *node, int family)
{
	struct gw_addr g = *node;
	if (family == AF_INET6) {
		g = (struct gw_addr){.family = AF_INET6, .bytes = {0xfe, 0x80, [8] = 'g', 'w'}, .prefix = 128};
		memcpy(g.bytes + 12, node->bytes, 4);
	}
	return g;
}

static int node_ok(const struct gw_addr *node, struct gw_err *e)
{
	char t[64];
	if (node->family == AF_INET)
		return 0;
	return gw_fail(e, GW_INPUT, EAFNOSUPPORT, "VXLAN: node address %s is not IPv4",
	               gw_addr_text(node, t, sizeof(t)));
}

static int link_add(struct gw_nl *n, const struct gw_fabric_vxlan *v, struct gw_err *e)
{
	struct gw_nl_msg m;
	uint8_t mac[6];
	uint32_t ip;
	struct nlmsghdr *h = gw_nl_start(&m, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof(struct ifinfomsg));
	mac_of(&v->local, mac);
	memcpy(&ip, v->local.bytes, sizeof(ip));
	mnl_attr_put_strz(h, IFLA_IFNAME, v->name);
	mnl_attr_put(h, IFLA_ADDRESS, sizeof(mac), mac);
	mnl_attr_put_u32(h, IFLA_MTU, v->mtu);
	struct nlattr *info = mnl_attr_nest_start(h, IFLA_LINKINFO);
	mnl_attr_put_strz(h, IFLA_INFO_KIND, "vxlan");
	struct nlattr *data = mnl_attr_nest_start(h, IFLA_INFO_DATA);
	mnl_attr_put_u32(h, IFLA_VXLAN_ID, v->vni);
	mnl_attr_put_u32(h, IFLA_VXLAN_LOCAL, ip);
	mnl_attr_put_u16(h, IFLA_VXLAN_PORT, htons(PORT));
	mnl_attr_put_u8(h, IFLA_VXLAN_LEARNING, 0);
	mnl_attr_nest_end(h, data);
	mnl_attr_nest_end(h, info);
	return gw_nl_talk(n, h, e, "make VXLAN device %s", v->name);
}

struct seen {
	uint32_t vni, ip;
	bool vxlan;
};

static void see_data(const struct nlattr *data, struct seen *s)
{
	gw_nl_each_in(a, data)
	{
		if (mnl_attr_get_type(a) == IFLA_VXLAN_ID)
			s->vni = mnl_attr_get_u32(a);
		if (mnl_attr_get_type(a) == IFLA_VXLAN_LOCAL)
			s->ip = mnl_attr_get_u32(a);
	}
}

static int on_link(const struct nlmsghdr *h, void *arg)
{
	struct seen *s = arg;
	if (h->nlmsg_type != RTM_NEWLINK)
		return MNL_CB_OK;
	gw_nl_each(info, h, sizeof(struct ifinfomsg))
	{
		if (mnl_attr_get_type(info) != IFLA_LINKINFO)
			continue;
		gw_nl_each_in(a, info)
		{
			if (mnl_attr_get_type(a) == IFLA_INFO_KIND)
				s->vxlan = !strncmp(mnl_attr_get_payload(a), "vxlan", mnl_attr_get_payload_len(a));
			if (mnl_attr_get_type(a) == IFLA_INFO_DATA && s->vxlan)
				see_data(a, s);
		}
	}
	return MNL_CB_OK;
}

/* Of the settings that can't be changed on a device that is there. */
static int fits(struct gw_nl *n, const struct gw_fabric_vxlan *v, bool *out, struct gw_err *e)
{
	struct gw_nl_msg m;
	struct seen s = {0};
	uint32_t ip;
	struct nlmsghdr *h = gw_nl_start(&m, RTM_GETLINK, 0, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(h, IFLA_IFNAME, v->name);
	memcpy(&ip, v->local.bytes, sizeof(ip));
	int rc = gw_nl_ask(n, h, on_link, NULL, &s, "look at a VXLAN device", e);
	if (rc == 0)
		*out = s.vxlan && s.vni == v->vni && s.ip == ip;
	return rc;
}

int gw_fabric_vxlan_up(const struct gw_fabric_vxlan *v, struct gw_err *e)
{
	gw_auto(nl) struct gw_nl n = {0};
	struct gw_link l;
	struct gw_err mine = {0};
	bool keep = false;
	if (v->vni == 0 || v->vni > VNI_MAX)
		return gw_fail(e, GW_INPUT, EINVAL, "VXLAN: network identifier %u is not in 1 to %d", v->vni, VNI_MAX);
	int rc = node_ok(&v->local, e);
	if (rc == 0)
		rc = gw_nl_open(NETLINK_ROUTE, &n, e);
	if (rc < 0)
		return rc;
	rc = gw_rt_link(&n, v->name, 0, &l, &mine);
	if (rc < 0 && rc != -ENODEV) {
		if (e)
			*e = mine;
		return rc;
	}
	if (rc == 0) {
		rc = fits(&n, v, &keep, e);
		keep = keep && l.mtu == v->mtu;
		if (rc == 0 && !keep)
			rc = gw_rt_link_delete(&n, v->name, e);
		if (rc < 0)
			return rc;
	}
	rc = keep ? 0 : link_add(&n, v, e);
	return rc < 0 ? rc : gw_rt_link_up(&n, v->name, e);
}

static int fdb(struct gw_nl *n, int index, const struct gw_addr *node, bool add, struct gw_err *e)
{
	struct gw_nl_msg m;
	uint8_t mac[6];
	char t[64];
	struct nlmsghdr *h = gw_nl_start(&m, add ? RTM_NEWNEIGH : RTM_DELNEIGH, add ? NLM_F_CREATE | NLM_F_REPLACE : 0,
	                                 sizeof(struct ndmsg));
	struct ndmsg *d = mnl_nlmsg_get_payload(h);
	d->ndm_family = AF_BRIDGE;
	d->ndm_ifindex = index;
	d->ndm_state = NUD_PERMANENT | NUD_NOARP;
	d->ndm_flags = NTF_SELF;
	mac_of(node, mac);
	mnl_attr_put(h, NDA_LLADDR, sizeof(mac), mac);
	mnl_attr_put(h, NDA_DST, 4, node->bytes);
	return gw_nl_talk(n, h, e, "%s the way to host %s", add ? "enter" : "remove", gw_addr_text(node, t, sizeof(t)));
}

int gw_fabric_vxlan_put(const char *name, const struct gw_addr *range, const struct gw_addr *node, struct gw_err *e)
{
	gw_auto(nl) struct gw_nl n = {0};
	struct gw_link l;
	struct gw_addr gateway = gateway_of(node, range->family);
	uint8_t mac[6];
	int rc = node_ok(node, e);
	if (rc == 0)
		rc = gw_nl_open(NETLINK_ROUTE, &n, e);
	if (rc == 0)
		rc = gw_rt_link(&n, name, 0, &l, e);
	if (rc == 0)
		rc = fdb(&n, l.index, node, true, e);
	mac_of(node, mac);
	if (rc == 0)
		rc = gw_rt_neigh_permanent(&n, l.index, &gateway, mac, e);
	if (rc < 0)
		return rc;
	struct gw_route r = {.dst = *range, .gateway = gateway.bytes, .index = l.index, .onlink = true};
	return gw_rt_route_put(&n, &r, e);
}

int gw_fabric_vxlan_forget(const char *name, const struct gw_addr *node, struct gw_err *e)
{
	gw_auto(nl) struct gw_nl n = {0};
	struct gw_link l;
	int rc = node_ok(node, e);
	if (rc == 0)
		rc = gw_nl_open(NETLINK_ROUTE, &n, e);
	if (rc == 0)
		rc = gw_rt_link(&n, name, 0, &l, e);
	if (rc == 0)
		rc = fdb(&n, l.index, node, false, e);
	return rc == -ENOENT || rc == -ENODEV ? 0 : rc;
}

int gw_fabric_vxlan_down(const char *name, struct gw_err *e)
{
	gw_auto(nl) struct gw_nl n = {0};
	int rc = gw_nl_open(NETLINK_ROUTE, &n, e);
	if (rc == 0)
		rc = gw_rt_link_delete(&n, name, e);
	return rc == -ENODEV ? 0 : rc;
}
