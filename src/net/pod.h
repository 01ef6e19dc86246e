#pragma once
#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/gw_err.h"
#include "base/json.h"

/* pod: the network of one container as it can be carried to another host.
 *
 * Read from the container's network namespace on the source, sent as JSON,
 * rebuilt on the destination. Plain values, no descriptors: copy freely. */
enum { GW_POD_ADDRS_MAX = 8, GW_POD_ROUTES_MAX = 16 };

struct gw_addr {
	int family; /* AF_INET, AF_INET6 */
	uint8_t bytes[16];
	uint8_t prefix;
};
struct gw_pod_route {
	struct gw_addr dst;
	bool has_gateway;
	uint8_t gateway[16];
	bool onlink;
};
struct gw_pod {
	char ifname[IFNAMSIZ]; /* in the container: "eth0" */
	uint8_t mac[6];
	uint8_t host_mac[6]; /* of the host's end: the container's neighbour entry points there */
	uint32_t mtu;
	char host_ifname[IFNAMSIZ]; /* the host's end of the pair, on the source */
	unsigned naddrs;
	struct gw_addr addrs[GW_POD_ADDRS_MAX]; /* global ones only */
	unsigned nroutes;
	struct gw_pod_route routes[GW_POD_ROUTES_MAX];
	unsigned ngateways;
	struct gw_addr gateways[GW_POD_ADDRS_MAX]; /* neighbours the routes need, to be entered as permanent */
};

/* netns_path as in config.json ("/run/netns/x" or "/proc/PID/ns/net"). All
 * refusals are GW_INPUT with a code:
 *   HostNetwork     the container is in the host's own network namespace
 *   NoAddress       no interface that is up, or no global address on it
 *   ManyInterfaces  more than one interface is up (loopback aside)
 *   NotVeth         its interface is no veth (macvlan, ipvlan, SR-IOV, ...)
 *   NotRouted       the host's end is in another namespace or a bridge's port:
 *                   packets to the pod would pass the host without being routed
 *   ManyAddresses, ManyRoutes   more than fit into struct gw_pod
 *   OddRoute        a route of several next hops, or through another family
 * Calling thread's namespace: the host's. Takes about a millisecond. */
int gw_pod_inspect(const char *netns_path, struct gw_pod *out, struct gw_err *e);
/* The same for the interface of that name, whatever others there are. */
int gw_pod_inspect_link(const char *netns_path, const char *ifname, struct gw_pod *out, struct gw_err *e);
void gw_pod_to_json(const struct gw_pod *p, yyjson_mut_doc *doc, yyjson_mut_val *obj);
int gw_pod_from_json(yyjson_val *obj, struct gw_pod *out, struct gw_err *e); /* input of a peer: all checked */
const char *gw_addr_text(const struct gw_addr *a, char *out, size_t size);   /* "10.88.0.5/32" */
int gw_addr_parse(const char *text, struct gw_addr *out);                    /* -EINVAL */
