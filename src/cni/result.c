#include "cni/result.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

static const struct {
	const char *reason;
	int code;
} table[] = {
        {"BadVersion", 1}, {"UnsupportedField", 2}, {"UnknownContainer", 3},  {"BadEnvironment", 4},
        {"IoFailure", 5},  {"BadJson", 6},          {"BadConfig", 7},         {"TryAgain", 11},
        {"NotReady", 50},  {"NoFreeAddress", 101},  {"AddressInUse", 102},    {"AddressAway", 103},
        {"Damaged", 104},  {"BadMigration", 105},   {"AlreadyAttached", 106}, {"NoForwarding", 107},
};

int gw_cni_code(const char *reason)
{
	for (size_t i = 0; i < gw_countof(table); i++)
		if (!strcmp(table[i].reason, reason))
			return table[i].code;
	return 100;
}

static char *text_of(yyjson_mut_doc *d)
{
	return gw_json_text(d, NULL);
}

static yyjson_mut_val *start(yyjson_mut_doc *d, const char *version)
{
	yyjson_mut_val *obj = yyjson_mut_obj(d);
	yyjson_mut_doc_set_root(d, obj);
	(void)yyjson_mut_obj_add_strcpy(d, obj, "cniVersion", version ? version : "1.1.0");
	return obj;
}

/* Words may hold what a user gave us; JSON is UTF-8. */
static void put_words(yyjson_mut_doc *d, yyjson_mut_val *obj, const char *key, const char *words)
{
	char clean[sizeof(((struct gw_err *)0)->text)];
	(void)snprintf(clean, sizeof(clean), "%s", words);
	for (char *p = clean; *p; p++)
		if (*p & 0x80)
			*p = '?';
	(void)yyjson_mut_obj_add_strcpy(d, obj, key, clean);
}

char *gw_cni_error_text(const char *version, const struct gw_err *e)
{
	gw_auto(jmut) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *obj = start(d, version);
	(void)yyjson_mut_obj_add_int(d, obj, "code", gw_cni_code(e->code));
	put_words(d, obj, "msg", e->text);
	if (e->code[0])
		put_words(d, obj, "details", e->code);
	return text_of(d);
}

char *gw_cni_version_text(const char *version)
{
	gw_auto(jmut) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *obj = start(d, version);
	yyjson_mut_val *all = yyjson_mut_obj_add_arr(d, obj, "supportedVersions");
	(void)yyjson_mut_arr_add_str(d, all, "0.4.0");
	(void)yyjson_mut_arr_add_str(d, all, "1.0.0");
	(void)yyjson_mut_arr_add_str(d, all, "1.1.0");
	return text_of(d);
}

static void put_link(yyjson_mut_doc *d, yyjson_mut_val *list, const char *name, const uint8_t mac[6], const char *netns,
                     uint32_t mtu)
{
	char t[18];
	yyjson_mut_val *o = yyjson_mut_arr_add_obj(d, list);
	(void)snprintf(t, sizeof(t), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
	(void)yyjson_mut_obj_add_strcpy(d, o, "name", name);
	(void)yyjson_mut_obj_add_strcpy(d, o, "mac", t);
	if (mtu)
		(void)yyjson_mut_obj_add_uint(d, o, "mtu", mtu);
	if (netns)
		(void)yyjson_mut_obj_add_strcpy(d, o, "sandbox", netns);
}

/* The gateway of the pod's default route of that family, NULL: it has none. */
static const uint8_t *gateway_of(const struct gw_pod *p, int family)
{
	for (unsigned i = 0; i < p->nroutes; i++)
		if (p->routes[i].dst.family == family && p->routes[i].dst.prefix == 0 && p->routes[i].has_gateway)
			return p->routes[i].gateway;
	return NULL;
}

static void put_ips(yyjson_mut_doc *d, yyjson_mut_val *obj, const char *version, const struct gw_pod *p)
{
	char t[64];
	yyjson_mut_val *ips = yyjson_mut_obj_add_arr(d, obj, "ips");
	for (unsigned i = 0; i < p->naddrs; i++) {
		const struct gw_addr *a = &p->addrs[i];
		const uint8_t *gw = gateway_of(p, a->family);
		yyjson_mut_val *o = yyjson_mut_arr_add_obj(d, ips);
		if (!strcmp(version, "0.4.0"))
			(void)yyjson_mut_obj_add_str(d, o, "version", a->family == AF_INET ? "4" : "6");
		(void)yyjson_mut_obj_add_strcpy(d, o, "address", gw_addr_text(a, t, sizeof(t)));
		if (gw && inet_ntop(a->family, gw, t, sizeof(t)))
			(void)yyjson_mut_obj_add_strcpy(d, o, "gateway", t);
		(void)yyjson_mut_obj_add_int(d, o, "interface", 1);
	}
}

static void put_routes(yyjson_mut_doc *d, yyjson_mut_val *obj, const struct gw_pod *p)
{
	char t[64];
	yyjson_mut_val *routes = yyjson_mut_obj_add_arr(d, obj, "routes");
	for (unsigned i = 0; i < p->nroutes; i++) {
		const struct gw_pod_route *r = &p->routes[i];
		if (!r->has_gateway)
			continue; /* how to reach the gateway is ours to know */
		yyjson_mut_val *o = yyjson_mut_arr_add_obj(d, routes);
		(void)yyjson_mut_obj_add_strcpy(d, o, "dst", gw_addr_text(&r->dst, t, sizeof(t)));
		if (inet_ntop(r->dst.family, r->gateway, t, sizeof(t)))
			(void)yyjson_mut_obj_add_strcpy(d, o, "gw", t);
	}
}

char *gw_cni_added_text(const struct gw_cni_conf *c, const char *netns, const struct gw_pod *p)
{
	gw_auto(jmut) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *obj = start(d, c->version);
	uint32_t mtu = strcmp(c->version, "1.1.0") ? 0 : p->mtu; /* a field of 1.1.0 */
	yyjson_mut_val *links = yyjson_mut_obj_add_arr(d, obj, "interfaces");
	put_link(d, links, p->host_ifname, p->host_mac, NULL, mtu);
	put_link(d, links, p->ifname, p->mac, netns, mtu);
	put_ips(d, obj, c->version, p);
	put_routes(d, obj, p);
	yyjson_mut_val *dns = c->dns ? yyjson_val_mut_copy(d, c->dns) : yyjson_mut_obj(d);
	(void)yyjson_mut_obj_add_val(d, obj, "dns", dns);
	return text_of(d);
}
