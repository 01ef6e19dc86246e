#include "cni/fabric.h"

#include <errno.h>
#include <linux/rtnetlink.h>

#include "net/nl.h"
#include "net/rtnl.h"

int gw_fabric_put(const struct gw_addr *range, const struct gw_addr *node, struct gw_err *e)
{
	gw_auto(nl) struct gw_nl n = {0};
	struct gw_route_found f;
	char to[64], by[64];
	gw_addr_text(range, to, sizeof(to));
	gw_addr_text(node, by, sizeof(by));
	if (range->family != node->family)
		return gw_fail(e, GW_INPUT, EINVAL, "range %s and node address %s are of two families", to, by);
	int rc = gw_nl_open(NETLINK_ROUTE, &n, e);
	if (rc == 0)
		rc = gw_rt_route_find(&n, node, &f, e);
	if (rc < 0)
		return rc;
	if (f.type != RTN_UNICAST || f.has_gateway)
		return gw_fail_code(
		        e, GW_INPUT, "NoSharedLink",
		        "node address %s is on no link of this host: a router that is between the hosts does not know "
		        "pods; use VXLAN",
		        by);
	struct gw_route r = {.dst = *range, .gateway = node->bytes, .index = f.index};
	return gw_rt_route_put(&n, &r, e);
}

int gw_fabric_remove(const struct gw_addr *range, struct gw_err *e)
{
	gw_auto(nl) struct gw_nl n = {0};
	struct gw_route r = {.dst = *range};
	int rc = gw_nl_open(NETLINK_ROUTE, &n, e);
	if (rc == 0)
		rc = gw_rt_route_delete(&n, &r, e);
	return rc == -ESRCH ? 0 : rc;
}

/* 1: an entry for the very address, to another host; 2: to a pod of this one; 0: none. */
static int entry_for(const struct gw_addr *a, struct gw_err *e)
{
	gw_auto(nl) struct gw_nl n = {0};
	struct gw_route_found f;
	int rc = gw_nl_open(NETLINK_ROUTE, &n, e);
	if (rc == 0)
		rc = gw_rt_route_find(&n, a, &f, e);
	if (rc < 0)
		return rc;
	if (f.type != RTN_UNICAST || f.prefix != gw_addr_len(a->family) * 8)
		return 0;
	return f.has_gateway ? 1 : 2;
}

int gw_fabric_pod_put(const struct gw_addr *a, const struct gw_addr *node, struct gw_err *e)
{
	struct gw_addr one = *a;
	one.prefix = (uint8_t)(gw_addr_len(a->family) * 8);
	int rc = entry_for(a, e);
	if (rc == 2)
		return 0;
	return rc < 0 ? rc : gw_fabric_put(&one, node, e);
}

int gw_fabric_pod_remove(const struct gw_addr *a, struct gw_err *e)
{
	struct gw_addr one = *a;
	one.prefix = (uint8_t)(gw_addr_len(a->family) * 8);
	int rc = entry_for(a, e);
	return rc == 1 ? gw_fabric_remove(&one, e) : rc < 0 ? rc : 0;
}
