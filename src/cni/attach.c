#include "cni/attach.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "cni/record.h"
#include "net/mover.h"
#include "net/netns.h"
#include "net/nl.h"
#include "net/routed.h"
#include "net/rtnl.h"

enum { MTU_WITHOUT_UPLINK = 1500, MTU_MIN_V6 = 1280, MTU_MAX = 65535, ROUTE_LEN_V4 = 32, ROUTE_LEN_V6 = 128 };

static const uint8_t host_mac[6] = {0xee, 0xee, 0xee, 0xee, 0xee, 0xee};
static const struct gw_addr gateway_v4 = {.family = AF_INET, .bytes = {169, 254, 1, 1}, .prefix = ROUTE_LEN_V4};
static const struct gw_addr gateway_v6 = {.family = AF_INET6, .bytes = {0xfe, 0x80, [15] = 1}, .prefix = ROUTE_LEN_V6};
/* Of the ranges for documentation (RFC 5737, RFC 3849): only a default route leads there. */
static const struct gw_addr anywhere[] = {
        {.family = AF_INET, .bytes = {192, 0, 2, 1}, .prefix = 32},
        {.family = AF_INET6, .bytes = {0x20, 0x01, 0x0d, 0xb8, [15] = 1}, .prefix = 128},
};

struct job {
	const struct gw_cni_conf *c;
	struct gw_ipam s;
	struct gw_nl nl;
	struct gw_record r;
	struct gw_routed_names names;
};

static void gw_end_job(struct job *j)
{
	gw_end_nl(&j->nl);
	gw_end_ipam(&j->s);
}

static int name_job(struct job *j, const struct gw_ipam_owner *o, struct gw_err *e)
{
	j->r.owner = *o;
	return gw_routed_names(o->container, &j->names, e);
}

static int open_job(struct job *j, const struct gw_cni_conf *c, const struct gw_cni_env *env, struct gw_err *e)
{
	struct gw_ipam_owner o;
	*j = (struct job){.c = c, .s = {.lock = -1}};
	int rc = gw_nl_open(NETLINK_ROUTE, &j->nl, e);
	if (rc == 0)
		rc = gw_ipam_open(c->data_dir, &j->s, e);
	if (rc < 0 || !env)
		return rc;
	gw_ipam_owner(&o, c->name, env->container, env->ifname);
	return name_job(j, &o, e);
}

static struct gw_addr alone(const struct gw_addr *a)
{
	struct gw_addr h = *a;
	h.prefix = (uint8_t)(gw_addr_len(a->family) * 8);
	return h;
}

/* -------------------------------------------------------------- addresses */

/* The host's tables know of addresses that no file of ours does: another
 * plugin's, an interface of the host, a pod that moved away just now. */
static int usable(void *arg, const struct gw_addr *a, struct gw_err *e)
{
	struct job *j = arg;
	struct gw_route_found f;
	int rc = gw_rt_route_find(&j->nl, a, &f, e);
	if (rc < 0)
		return rc;
	return f.type != RTN_LOCAL && !(f.type == RTN_UNICAST && f.prefix == gw_addr_len(a->family) * 8);
}

/* 0 and *lost true: that owner's interface is gone, so it can't use an address. */
static int has_lost(struct job *j, const struct gw_ipam_owner *o, bool *lost, struct gw_err *e)
{
	struct gw_routed_names names;
	struct gw_link l;
	struct gw_err mine = {0};
	*lost = true;
	if (!o->container[0])
		return 0;
	int rc = gw_routed_names(o->container, &names, e);
	if (rc < 0)
		return rc;
	rc = gw_rt_link(&j->nl, names.link, 0, &l, &mine);
	*lost = rc == -ENODEV;
	if (rc < 0 && !*lost && e)
		*e = mine;
	return *lost ? 0 : rc;
}

static int reclaim_one(void *arg, const struct gw_addr *a, const struct gw_ipam_owner *o, struct gw_err *e)
{
	struct job *j = arg;
	bool lost;
	int rc = gw_ipam_same(o, &j->r.owner) ? 1 : has_lost(j, o, &lost, e);
	if (rc != 0 || !lost)
		return rc < 0 ? rc : 0;
	rc = gw_ipam_give_back(&j->s, a, o, e);
	return rc == 0 && o->container[0] ? gw_record_drop(&j->s, o->container, e) : rc;
}

static int take_from(struct job *j, const struct gw_addr *range, struct gw_addr *out, struct gw_err *e)
{
	return gw_ipam_take(&j->s, range, &j->r.owner, usable, j, out, e);
}

/* Any range of the family will do. After a reboot the owners of before may be
 * there for ever: they go when there is need, not earlier, so that clients
 * which still know a dead pod's address don't find another behind it. */
static int take_family(struct job *j, int family, struct gw_err *e)
{
	struct gw_pod *p = &j->r.pod;
	struct gw_err mine = {0};
	for (int again = 0; again < 2; again++) {
		for (unsigned i = 0; i < j->c->nranges; i++) {
			if (j->c->ranges[i].family != family)
				continue;
			int rc = take_from(j, &j->c->ranges[i], &p->addrs[p->naddrs], &mine);
			if (rc == 0) {
				p->naddrs++;
				return 0;
			}
			if (strcmp(mine.code, "NoFreeAddress") != 0)
				again = 1;
		}
		if (again == 0) {
			int rc = gw_ipam_each(&j->s, reclaim_one, j, e);
			if (rc < 0)
				return rc;
		}
	}
	if (e)
		*e = mine;
	return mine.err ? -mine.err : -EIO;
}

/* -------------------------------------------------------------- an ordinary pod */

static void route(struct gw_pod *p, int family, uint8_t prefix, const struct gw_addr *dst,
                  const struct gw_addr *gateway)
{
	struct gw_pod_route *r = &p->routes[p->nroutes++];
	*r = (struct gw_pod_route){.dst = {.family = family, .prefix = prefix}};
	if (dst)
		memcpy(r->dst.bytes, dst->bytes, sizeof(r->dst.bytes));
	if (gateway) {
		r->has_gateway = true;
		memcpy(r->gateway, gateway->bytes, sizeof(r->gateway));
	}
}

static int mtu_of(struct job *j, uint32_t *out, struct gw_err *e)
{
	struct gw_link l = {.mtu = MTU_WITHOUT_UPLINK};
	int rc = 0;
	if (j->c->mtu) {
		*out = j->c->mtu;
		return 0;
	}
	if (j->c->uplink) {
		rc = gw_rt_link(&j->nl, j->c->uplink, 0, &l, e);
		if (rc < 0)
			return gw_wrap(e, "uplink %s", j->c->uplink);
	}
	for (unsigned i = 0; !j->c->uplink && i < gw_countof(anywhere); i++) {
		struct gw_route_found f;
		rc = gw_rt_route_find(&j->nl, &anywhere[i], &f, e);
		if (rc == 0 && f.type == RTN_UNICAST && f.index) {
			rc = gw_rt_link(&j->nl, NULL, f.index, &l, e);
			break;
		}
		if (rc < 0)
			return rc;
	}
	if (rc < 0)
		return rc;
	uint32_t min = 0;
	for (unsigned i = 0; i < j->c->nranges; i++)
		if (j->c->ranges[i].family == AF_INET6)
			min = MTU_MIN_V6;
	if (l.mtu < min)
		return gw_fail_code(e, GW_INPUT, "BadConfig",
		                    "the uplink's MTU is %u and IPv6 needs %u: set \"mtu\" or another \"uplink\"",
		                    l.mtu, min);
	*out = l.mtu > MTU_MAX ? MTU_MAX : l.mtu;
	return 0;
}

static int invent(struct job *j, const struct gw_cni_env *env, struct gw_err *e)
{
	struct gw_pod *p = &j->r.pod;
	static const int families[] = {AF_INET, AF_INET6};
	(void)snprintf(p->ifname, sizeof(p->ifname), "%s", env->ifname);
	memcpy(p->host_mac, host_mac, sizeof(p->host_mac));
	if (getrandom(p->mac, sizeof(p->mac), 0) != sizeof(p->mac))
		return gw_fail(e, GW_SYS, errno, "choose an Ethernet address");
	p->mac[0] = (uint8_t)((p->mac[0] & 0xfcu) | 2); /* one interface's, locally administered */
	int rc = mtu_of(j, &p->mtu, e);
	for (unsigned f = 0; rc == 0 && f < gw_countof(families); f++) {
		bool wanted = false;
		for (unsigned i = 0; i < j->c->nranges; i++)
			wanted |= j->c->ranges[i].family == families[f];
		if (wanted)
			rc = take_family(j, families[f], e);
		if (rc < 0 || !wanted)
			continue;
		const struct gw_addr *gateway = families[f] == AF_INET ? &gateway_v4 : &gateway_v6;
		p->gateways[p->ngateways++] = *gateway;
		/* fe80::1 is on every link already. */
		if (families[f] == AF_INET)
			route(p, AF_INET, ROUTE_LEN_V4, gateway, NULL);
		route(p, families[f], 0, NULL, gateway);
	}
	return rc;
}

/* As every plugin that routes does; a node of pods is a router. */
static int forward(const struct gw_pod *p, struct gw_err *e)
{
	for (unsigned i = 0; i < p->naddrs; i++) {
		bool v4 = p->addrs[i].family == AF_INET;
		if (gw_routed_forwards(p->addrs[i].family, NULL) == 0)
			continue;
		int rc = gw_routed_sysctl("1", e, v4 ? "net/ipv4/ip_forward" : "net/ipv6/conf/all/forwarding");
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* ---------------------------------------------------- a pod that moves in */

static int receive(struct job *j, const struct gw_cni_env *env, struct gw_err *e)
{
	j->r.pod = j->c->arriving;
	j->r.dormant = true;
	(void)snprintf(j->r.migration, sizeof(j->r.migration), "%s", j->c->migration);
	if (strcmp(j->r.pod.ifname, env->ifname) != 0)
		return gw_fail_code(e, GW_INPUT, "BadMigration",
		                    "migration %s: the pod's interface is called %s on its source and must be %s here",
		                    j->c->migration, j->r.pod.ifname, env->ifname);
	int rc = forward(&j->r.pod, e);
	if (rc == 0)
		rc = gw_routed_may_come(&j->r.pod, e);
	for (unsigned i = 0; rc == 0 && i < j->r.pod.naddrs; i++) {
		struct gw_addr a = alone(&j->r.pod.addrs[i]);
		rc = gw_ipam_take_this(&j->s, &a, &j->r.owner, e);
	}
	return rc;
}

/* -------------------------------------------------------------------- ADD */

static int netns_for_pod(const char *path, struct gw_err *e)
{
	gw_auto(fd) int fd = -1;
	struct gw_err mine = {0};
	int rc = gw_netns_open(path, &fd, &mine);
	if (rc == -ENOENT)
		return gw_fail_code(e, GW_INPUT, "UnknownContainer", "CNI_NETNS=%.200s: there is no such file", path);
	if (rc < 0)
		return gw_fail_code(e, GW_INPUT, "BadEnvironment", "CNI_NETNS: %.300s", mine.text);
	int ours = gw_netns_is_ours(fd);
	if (ours < 0)
		return gw_fail(e, GW_SYS, -ours, "compare network namespaces");
	if (ours)
		return gw_fail_code(e, GW_INPUT, "BadEnvironment", "CNI_NETNS=%.200s is the host's own namespace",
		                    path);
	return 0;
}

/* By this host's end, whose peer goes with it as do the routes that lead to
 * it; a route that was turned to another host does not. "" is no namespace. */
static int remove_link(const struct job *j, struct gw_err *e)
{
	return gw_routed_discard(j->r.owner.container, &j->r.pod, "", e);
}

/* Everything that belongs to j->r. */
static int undo(struct job *j, struct gw_err *e)
{
	int rc = remove_link(j, e);
	for (unsigned i = 0; rc == 0 && i < j->r.pod.naddrs; i++) {
		struct gw_addr a = alone(&j->r.pod.addrs[i]);
		rc = gw_ipam_give_back(&j->s, &a, &j->r.owner, e);
	}
	return rc < 0 ? rc : gw_record_drop(&j->s, j->r.owner.container, e);
}

static int make(struct job *j, const struct gw_cni_env *env, struct gw_err *e)
{
	struct gw_pod *p = &j->r.pod;
	bool moves_in = j->c->migration && !gw_record_is_done(&j->s, j->c->migration);
	if (!moves_in && !j->c->nranges)
		return gw_fail_code(
		        e, GW_INPUT, "BadConfig",
		        "configuration: \"ranges\" is missing: the node's podCIDRs, like [\"10.244.1.0/24\"]");
	int rc = remove_link(j, e); /* left by a crash: nothing knows of it */
	if (rc == 0)
		rc = moves_in ? receive(j, env, e) : invent(j, env, e);
	if (rc < 0)
		return rc;
	memcpy(p->host_ifname, j->names.link, sizeof(p->host_ifname));
	rc = gw_record_put(&j->s, &j->r, e);
	if (rc == 0 && !moves_in)
		rc = forward(p, e);
	if (rc == 0)
		rc = gw_routed_fill(env->container, p, env->netns, moves_in, e);
	if (rc == 0 && !moves_in)
		rc = gw_mover_routed.activate(env->container, p, e);
	return rc;
}

int gw_cni_add(const struct gw_cni_conf *c, const struct gw_cni_env *env, struct gw_pod *out, struct gw_err *e)
{
	gw_auto(job) struct job j;
	struct gw_record old;
	int rc = open_job(&j, c, env, e);
	if (rc == 0)
		rc = netns_for_pod(env->netns, e);
	if (rc == 0)
		rc = gw_record_get(&j.s, env->container, &old, e);
	if (rc == 1)
		return gw_fail_code(
		        e, GW_INPUT, "AlreadyAttached",
		        "container %.64s has interface %s in network %s already, and one is what can move: DEL first",
		        env->container, old.owner.ifname, old.owner.network);
	if (rc < 0)
		return rc;
	(void)snprintf(j.r.netns, sizeof(j.r.netns), "%s", env->netns);
	rc = make(&j, env, e);
	if (rc < 0) {
		(void)undo(&j, NULL); /* the first error is the one to tell */
		return rc;
	}
	*out = j.r.pod;
	return 0;
}

/* -------------------------------------------------------------- DEL and GC */

static int give_back_all(void *arg, const struct gw_addr *a, const struct gw_ipam_owner *o, struct gw_err *e)
{
	struct job *j = arg;
	return gw_ipam_same(o, &j->r.owner) ? gw_ipam_give_back(&j->s, a, o, e) : 0;
}

int gw_cni_del(const struct gw_cni_conf *c, const struct gw_cni_env *env, struct gw_err *e)
{
	gw_auto(job) struct job j;
	struct gw_record r;
	int rc = open_job(&j, c, env, e);
	if (rc == 0)
		rc = gw_record_get(&j.s, env->container, &r, e);
	if (rc < 0)
		return rc;
	if (rc == 1 && !gw_ipam_same(&r.owner, &j.r.owner))
		return 0; /* never ours: it has another interface */
	if (rc == 1) {
		j.r = r;
		return undo(&j, e);
	}
	/* An ADD that was killed before it wrote its record may have left these. */
	rc = gw_ipam_each(&j.s, give_back_all, &j, e);
	return rc < 0 ? rc : undo(&j, e);
}

static bool is_valid(const struct gw_cni_conf *c, const struct gw_ipam_owner *o)
{
	size_t i, max;
	yyjson_val *v;
	yyjson_arr_foreach(c->valid, i, max, v) if (!strcmp(gw_json_str(v, "containerID", ""), o->container) &&
	                                            !strcmp(gw_json_str(v, "ifname", ""), o->ifname)) return true;
	return false;
}

static int collect_record(void *arg, const struct gw_record *r, struct gw_err *e)
{
	struct job *j = arg;
	if (strcmp(r->owner.network, j->c->name) != 0 || is_valid(j->c, &r->owner))
		return 0;
	j->r = *r;
	int rc = name_job(j, &r->owner, e);
	return rc < 0 ? rc : undo(j, e);
}

static int collect_address(void *arg, const struct gw_addr *a, const struct gw_ipam_owner *o, struct gw_err *e)
{
	struct job *j = arg;
	bool garbled = !o->container[0];
	if (!garbled && (strcmp(o->network, j->c->name) != 0 || is_valid(j->c, o)))
		return 0;
	return gw_ipam_give_back(&j->s, a, o, e);
}

int gw_cni_gc(const struct gw_cni_conf *c, struct gw_err *e)
{
	gw_auto(job) struct job j;
	int rc = open_job(&j, c, NULL, e);
	if (rc == 0)
		rc = gw_record_each(&j.s, collect_record, &j, e);
	return rc < 0 ? rc : gw_ipam_each(&j.s, collect_address, &j, e);
}

/* ----------------------------------------------------------------- STATUS */

int gw_cni_status(const struct gw_cni_conf *c, struct gw_err *e)
{
	gw_auto(job) struct job j;
	struct gw_err mine = {0};
	uint32_t mtu;
	int rc = open_job(&j, c, NULL, &mine);
	if (rc == 0)
		rc = mtu_of(&j, &mtu, &mine);
	return rc < 0 ? gw_fail_code(e, GW_INPUT, "NotReady", "no pod can be added: %.400s", mine.text) : 0;
}
