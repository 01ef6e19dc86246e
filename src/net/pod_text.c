/* A pod's network as text: addresses and JSON. Pure: no system calls. */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "net/pod.h"

enum { MTU_MIN = 68, MTU_MIN_V6 = 1280, MTU_MAX = 65535 };

static uint8_t full_prefix(int family)
{
	return family == AF_INET ? 32 : 128;
}

const char *gw_addr_text(const struct gw_addr *a, char *out, size_t size)
{
	char t[INET6_ADDRSTRLEN];
	if (!inet_ntop(a->family, a->bytes, t, sizeof(t)))
		(void)snprintf(out, size, "?");
	else
		(void)snprintf(out, size, "%s/%u", t, a->prefix);
	return out;
}

int gw_addr_parse(const char *text, struct gw_addr *out)
{
	char host[INET6_ADDRSTRLEN];
	size_t n = strcspn(text, "/");
	if (n >= sizeof(host))
		return -EINVAL;
	memcpy(host, text, n);
	host[n] = 0;
	struct gw_addr a = {.family = strchr(host, ':') ? AF_INET6 : AF_INET};
	if (inet_pton(a.family, host, a.bytes) != 1)
		return -EINVAL;
	a.prefix = full_prefix(a.family);
	if (text[n] == '/') {
		unsigned v = 0, digits = 0;
		const char *p = text + n + 1;
		for (; isdigit((unsigned char)*p) && digits < 4; p++, digits++)
			v = v * 10 + (unsigned)(*p - '0');
		if (*p || !digits || v > a.prefix)
			return -EINVAL;
		a.prefix = (uint8_t)v;
	}
	*out = a;
	return 0;
}

static void put_str(yyjson_mut_doc *doc, yyjson_mut_val *obj, const char *key, const char *text)
{
	(void)yyjson_mut_obj_add_strcpy(doc, obj, key, text);
}

static void put_mac(yyjson_mut_doc *doc, yyjson_mut_val *obj, const char *key, const uint8_t mac[6])
{
	char t[18];
	(void)snprintf(t, sizeof(t), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
	put_str(doc, obj, key, t);
}

static void put_addrs(yyjson_mut_doc *doc, yyjson_mut_val *obj, const char *key, const struct gw_addr *a, unsigned n)
{
	char t[64];
	yyjson_mut_val *arr = yyjson_mut_obj_add_arr(doc, obj, key);
	for (unsigned i = 0; i < n; i++)
		(void)yyjson_mut_arr_add_strcpy(doc, arr, gw_addr_text(&a[i], t, sizeof(t)));
}

void gw_pod_to_json(const struct gw_pod *p, yyjson_mut_doc *doc, yyjson_mut_val *obj)
{
	char t[64];
	put_str(doc, obj, "ifname", p->ifname);
	put_mac(doc, obj, "mac", p->mac);
	put_str(doc, obj, "hostIfname", p->host_ifname);
	put_mac(doc, obj, "hostMac", p->host_mac);
	(void)yyjson_mut_obj_add_uint(doc, obj, "mtu", p->mtu);
	put_addrs(doc, obj, "addrs", p->addrs, p->naddrs);
	yyjson_mut_val *routes = yyjson_mut_obj_add_arr(doc, obj, "routes");
	for (unsigned i = 0; i < p->nroutes; i++) {
		const struct gw_pod_route *r = &p->routes[i];
		yyjson_mut_val *o = yyjson_mut_arr_add_obj(doc, routes);
		put_str(doc, o, "dst", gw_addr_text(&r->dst, t, sizeof(t)));
		if (r->has_gateway && inet_ntop(r->dst.family, r->gateway, t, sizeof(t)))
			put_str(doc, o, "via", t);
		if (r->onlink)
			(void)yyjson_mut_obj_add_bool(doc, o, "onlink", true);
	}
	put_addrs(doc, obj, "gateways", p->gateways, p->ngateways);
}

/* From here on: input of another host. Every refusal names the key. */

static int bad(struct gw_err *e, const char *key, const char *why)
{
	return gw_fail(e, GW_PEER, EBADMSG, "pod network: \"%s\" %s", key, why);
}

/* What the kernel takes as a name (dev_valid_name), no more. */
static int get_ifname(yyjson_val *obj, const char *key, char out[IFNAMSIZ], struct gw_err *e)
{
	const char *s = gw_json_str(obj, key, "");
	size_t n = strlen(s);
	if (n == 0 || n >= IFNAMSIZ || !strcmp(s, ".") || !strcmp(s, ".."))
		return bad(e, key, "is no interface name");
	for (size_t i = 0; i < n; i++)
		if (s[i] == '/' || s[i] == ':' || !isgraph((unsigned char)s[i]))
			return bad(e, key, "is no interface name");
	memset(out, 0, IFNAMSIZ);
	memcpy(out, s, n);
	return 0;
}

static int get_mac(yyjson_val *obj, const char *key, uint8_t out[6], struct gw_err *e)
{
	const char *s = gw_json_str(obj, key, "");
	uint8_t mac[6];
	if (strlen(s) != 17)
		return bad(e, key, "is no Ethernet address");
	for (unsigned i = 0; i < 6; i++) {
		const char *p = s + (size_t)i * 3;
		unsigned v = 0;
		if (!isxdigit((unsigned char)p[0]) || !isxdigit((unsigned char)p[1]) || (i < 5 && p[2] != ':') ||
		    sscanf(p, "%2x", &v) != 1)
			return bad(e, key, "is no Ethernet address");
		mac[i] = (uint8_t)v;
	}
	if ((mac[0] & 1) || !memcmp(mac, (const uint8_t[6]){0}, 6))
		return bad(e, key, "is not the Ethernet address of one interface");
	memcpy(out, mac, 6);
	return 0;
}

/* An address that one host can have: not zero, loopback, multicast, broadcast. */
static bool is_unicast(const struct gw_addr *a)
{
	const uint8_t *b = a->bytes;
	if (a->family == AF_INET)
		return b[0] != 0 && b[0] != 127 && b[0] < 224;
	static const uint8_t zero[10]; /* also the IPv4-mapped ones */
	return b[0] != 0xff && memcmp(b, zero, sizeof(zero)) != 0;
}

static bool is_link_local(const struct gw_addr *a)
{
	return a->family == AF_INET ? a->bytes[0] == 169 && a->bytes[1] == 254
	                            : a->bytes[0] == 0xfe && (a->bytes[1] & 0xc0) == 0x80;
}

static bool is_prefix_only(const struct gw_addr *a)
{
	for (unsigned bit = a->prefix; bit < full_prefix(a->family); bit++)
		if (a->bytes[bit / 8] & (0x80u >> bit % 8))
			return false;
	return true;
}

static bool is_listed(const struct gw_addr *list, unsigned n, const struct gw_addr *a)
{
	for (unsigned i = 0; i < n; i++)
		if (list[i].family == a->family && !memcmp(list[i].bytes, a->bytes, sizeof(a->bytes)))
			return true;
	return false;
}

static int get_addrs(yyjson_val *obj, const char *key, bool global, struct gw_addr *out, unsigned *out_n,
                     struct gw_err *e)
{
	yyjson_val *arr = yyjson_obj_get(obj, key);
	if (!yyjson_is_arr(arr))
		return bad(e, key, "is missing or no list");
	if (yyjson_arr_size(arr) > GW_POD_ADDRS_MAX)
		return bad(e, key, "has too many entries");
	unsigned n = 0;
	size_t i, max;
	yyjson_val *v;
	yyjson_arr_foreach(arr, i, max, v)
	{
		struct gw_addr a;
		if (!yyjson_is_str(v) || gw_addr_parse(yyjson_get_str(v), &a) < 0)
			return bad(e, key, "holds something that is no address");
		if (!is_unicast(&a) || (global && is_link_local(&a)))
			return bad(e, key, "holds an address that no pod can have");
		if (!global && a.prefix != full_prefix(a.family))
			return bad(e, key, "holds a range instead of an address");
		if (is_listed(out, n, &a))
			return bad(e, key, "holds an address twice");
		out[n++] = a;
	}
	*out_n = n;
	return 0;
}

static int get_route(yyjson_val *v, struct gw_pod_route *out, struct gw_err *e)
{
	struct gw_pod_route r = {0};
	struct gw_addr via;
	const char *dst = gw_json_str(v, "dst", "");
	const char *gateway = gw_json_str(v, "via", NULL);
	if (gw_addr_parse(dst, &r.dst) < 0 || !is_prefix_only(&r.dst))
		return bad(e, "routes", "holds a destination that is no range of addresses");
	if (yyjson_obj_get(v, "via") && !gateway)
		return bad(e, "routes", "holds a gateway that is no address");
	if (gateway) {
		if (gw_addr_parse(gateway, &via) < 0 || via.family != r.dst.family || strchr(gateway, '/') ||
		    !is_unicast(&via))
			return bad(e, "routes", "holds a gateway that is no address of its family");
		r.has_gateway = true;
		memcpy(r.gateway, via.bytes, sizeof(r.gateway));
	}
	r.onlink = gw_json_bool(v, "onlink", false);
	*out = r;
	return 0;
}

static int get_routes(yyjson_val *obj, struct gw_pod *p, struct gw_err *e)
{
	yyjson_val *arr = yyjson_obj_get(obj, "routes");
	if (!yyjson_is_arr(arr))
		return bad(e, "routes", "is missing or no list");
	if (yyjson_arr_size(arr) > GW_POD_ROUTES_MAX)
		return bad(e, "routes", "has too many entries");
	size_t i, max;
	yyjson_val *v;
	yyjson_arr_foreach(arr, i, max, v)
	{
		int rc = get_route(v, &p->routes[p->nroutes], e);
		if (rc < 0)
			return rc;
		p->nroutes++;
	}
	return 0;
}

int gw_pod_from_json(yyjson_val *obj, struct gw_pod *out, struct gw_err *e)
{
	struct gw_pod p = {0};
	if (!yyjson_is_obj(obj))
		return gw_fail(e, GW_PEER, EBADMSG, "pod network: missing or no object");
	int rc = get_ifname(obj, "ifname", p.ifname, e);
	if (rc == 0)
		rc = get_ifname(obj, "hostIfname", p.host_ifname, e);
	if (rc == 0)
		rc = get_mac(obj, "mac", p.mac, e);
	if (rc == 0)
		rc = get_mac(obj, "hostMac", p.host_mac, e);
	if (rc == 0)
		rc = get_addrs(obj, "addrs", true, p.addrs, &p.naddrs, e);
	if (rc == 0)
		rc = get_addrs(obj, "gateways", false, p.gateways, &p.ngateways, e);
	if (rc == 0)
		rc = get_routes(obj, &p, e);
	if (rc < 0)
		return rc;
	if (p.naddrs == 0)
		return bad(e, "addrs", "is empty");
	if (!strcmp(p.ifname, "lo"))
		return bad(e, "ifname", "is the loopback interface");
	uint64_t mtu_min = MTU_MIN;
	for (unsigned i = 0; i < p.naddrs; i++)
		if (p.addrs[i].family == AF_INET6)
			mtu_min = MTU_MIN_V6;
	uint64_t mtu = gw_json_u64(obj, "mtu", 0);
	if (mtu < mtu_min || mtu > MTU_MAX)
		return bad(e, "mtu", "is out of range");
	p.mtu = (uint32_t)mtu;
	*out = p;
	return 0;
}
