#include "ctrl/leases.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/gw_log.h"
#include "base/scope.h"

enum { SWEEP_EVERY_MS = 10000, GONE_FOR_MS = 30000 };

bool ctrl_in_range(const char *address, const char *range)
{
	char net[INET6_ADDRSTRLEN + 8];
	uint8_t a[16], b[16];
	const char *slash = strchr(range, '/');
	int family = strchr(address, ':') ? AF_INET6 : AF_INET, most = family == AF_INET ? 32 : 128;
	if (!slash || (size_t)(slash - range) >= sizeof(net))
		return false;
	(void)snprintf(net, sizeof(net), "%.*s", (int)(slash - range), range);
	char *end;
	long bits = strtol(slash + 1, &end, 10);
	if (*end || bits < 0 || bits > most || inet_pton(family, address, a) != 1 || inet_pton(family, net, b) != 1)
		return false;
	size_t whole = (size_t)bits / 8;
	unsigned rest = (unsigned)bits % 8;
	uint8_t mask = (uint8_t)(0xff00u >> rest);
	return !memcmp(a, b, whole) && (rest == 0 || (a[whole] & mask) == (b[whole] & mask));
}

static bool at_home(const struct ctrl_node *node, const char *address)
{
	for (size_t i = 0; i < gw_countof(node->ranges); i++)
		if (ctrl_in_range(address, node->ranges[i]))
			return true;
	return false;
}

static int put_one(struct gw_kube *k, const struct gw_address_lease *l, bool home, struct gw_err *e)
{
	char path[200];
	(void)snprintf(path, sizeof(path), "%s/%s", GW_ADDRESS_LEASES, l->name);
	if (home) {
		int rc = gw_kube_delete(k, path, NULL, -1, e);
		return rc == -ENOENT ? 0 : rc;
	}
	gw_auto(jmut) yyjson_mut_doc *doc = gw_address_lease_doc(l);
	int rc = gw_kube_create(k, GW_ADDRESS_LEASES, doc, NULL, e);
	return rc == -EEXIST ? gw_kube_patch(k, path, GW_PATCH_MERGE, doc, NULL, e) : rc;
}

int ctrl_leases_put(struct gw_kube *k, const struct gw_migration *m, const struct ctrl_view *v, struct gw_err *e)
{
	gw_auto(jdoc) yyjson_doc *network = NULL;
	struct ctrl_node node;
	yyjson_val *status = yyjson_obj_get(yyjson_doc_get_root(v->migration), "status");
	const char *text = gw_json_str(status, "network", "");
	struct gw_address_lease l = {0};
	if (!v->target || gw_json_parse(text, strlen(text), "the pod's network", &network, e) < 0)
		return 0; /* it is gone, or has no address */
	int rc = ctrl_cluster_node(v->cluster, k, m->to, false, &node, e);
	if (rc < 0 || !node.exists)
		return rc;
	(void)snprintf(l.node, sizeof(l.node), "%s", m->to);
	(void)snprintf(l.namespace, sizeof(l.namespace), "%s", m->namespace);
	(void)snprintf(l.pod, sizeof(l.pod), "%s",
	               gw_json_str(yyjson_obj_get(yyjson_doc_get_root(v->target), "metadata"), "name", ""));
	(void)snprintf(l.pod_uid, sizeof(l.pod_uid), "%s", v->seen.target.uid);
	(void)snprintf(l.node_addresses, sizeof(l.node_addresses), "%s", node.addresses);
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(yyjson_doc_get_root(network), "addrs"));
	for (yyjson_val *a; rc == 0 && (a = yyjson_arr_iter_next(&it));) {
		const char *one = yyjson_get_str(a) ?: "";
		(void)snprintf(l.address, sizeof(l.address), "%.*s", (int)strcspn(one, "/"), one);
		gw_address_lease_name(l.address, l.name);
		rc = put_one(k, &l, at_home(&node, l.address), e);
	}
	return rc;
}

/* ---- leases whose pod is gone ---- */

/* 1: it is there, 0: it is not. */
static int pod_is_there(struct gw_kube *k, const struct gw_address_lease *l, struct gw_err *e)
{
	char path[700];
	gw_auto(jdoc) yyjson_doc *pod = NULL;
	ctrl_pod_path(l->namespace, l->pod, path, sizeof(path));
	int rc = gw_kube_get(k, path, &pod, e);
	if (rc < 0)
		return rc == -ENOENT ? 0 : rc;
	return !strcmp(gw_json_str(yyjson_obj_get(yyjson_doc_get_root(pod), "metadata"), "uid", ""), l->pod_uid);
}

static uint64_t *since(struct ctrl_lease_sweep *s, const char *uid, bool make)
{
	for (size_t i = 0; i < gw_countof(s->gone); i++)
		if (!strcmp(s->gone[i].uid, uid))
			return &s->gone[i].since_ms;
	for (size_t i = 0; make && i < gw_countof(s->gone); i++)
		if (!s->gone[i].uid[0]) {
			(void)snprintf(s->gone[i].uid, sizeof(s->gone[i].uid), "%s", uid);
			s->gone[i].since_ms = gw_now_ms();
			return &s->gone[i].since_ms;
		}
	return NULL;
}

static void forget(struct ctrl_lease_sweep *s, const char *uid)
{
	for (size_t i = 0; i < gw_countof(s->gone); i++)
		if (!strcmp(s->gone[i].uid, uid))
			s->gone[i].uid[0] = 0;
}

static void sweep_one(struct ctrl_lease_sweep *s, struct gw_kube *k, const struct gw_address_lease *l, bool moving)
{
	char path[200];
	struct gw_err e = {.class = GW_OK};
	if (moving || pod_is_there(k, l, &e) != 0) {
		forget(s, l->uid);
		return;
	}
	const uint64_t *begun = since(s, l->uid, true);
	if (!begun || gw_now_ms() - *begun < GONE_FOR_MS)
		return;
	(void)snprintf(path, sizeof(path), "%s/%s", GW_ADDRESS_LEASES, l->name);
	int rc = gw_kube_delete(k, path, l->uid, -1, &e);
	if (rc == 0 || rc == -ENOENT)
		gw_info("address is free again", kv_str("address", l->address), kv_str("pod", l->pod));
	else
		gw_warn("address lease not ended", kv_str("address", l->address), kv_str("reason", e.text));
	forget(s, l->uid);
}

void ctrl_leases_sweep(struct ctrl_lease_sweep *s, struct gw_kube *k,
                       bool (*moving)(void *ctx, const char *ns, const char *pod), void *ctx)
{
	gw_auto(jdoc) yyjson_doc *all = NULL;
	struct gw_err e = {.class = GW_OK};
	if (gw_now_ms() < s->next_ms)
		return;
	s->next_ms = gw_now_ms() + SWEEP_EVERY_MS;
	if (gw_kube_get(k, GW_ADDRESS_LEASES, &all, &e) < 0) {
		gw_warn("address leases not seen", kv_str("reason", e.text));
		return;
	}
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(yyjson_doc_get_root(all), "items"));
	for (yyjson_val *v; (v = yyjson_arr_iter_next(&it));) {
		struct gw_address_lease l;
		if (gw_address_lease_parse(v, &l) == 0)
			sweep_one(s, k, &l, moving(ctx, l.namespace, l.pod));
	}
}
