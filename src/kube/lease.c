#include "kube/lease.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/gw_log.h"
#include "base/scope.h"
#include "kube/migration.h"

void gw_lease_init(struct gw_lease *l, const char *ns, const char *name, const char *identity)
{
	*l = (struct gw_lease){.held = false};
	(void)snprintf(l->namespace, sizeof(l->namespace), "%s", ns);
	(void)snprintf(l->name, sizeof(l->name), "%s", name);
	(void)snprintf(l->identity, sizeof(l->identity), "%s", identity);
}

bool gw_lease_is_held(const struct gw_lease *l)
{
	return l->held && gw_now_ms() - l->renewed_ms < GW_LEASE_DEADLINE_MS;
}

static yyjson_mut_doc *body(const struct gw_lease *l, const char *holder)
{
	char now[64];
	gw_k8s_now_us(now);
	yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *o = yyjson_mut_obj(doc), *meta = yyjson_mut_obj(doc), *spec = yyjson_mut_obj(doc);
	yyjson_mut_doc_set_root(doc, o);
	yyjson_mut_obj_add_str(doc, o, "apiVersion", "coordination.k8s.io/v1");
	yyjson_mut_obj_add_str(doc, o, "kind", "Lease");
	yyjson_mut_obj_add_str(doc, meta, "name", l->name);
	if (l->version[0]) /* somebody else's change makes it a Conflict */
		yyjson_mut_obj_add_str(doc, meta, "resourceVersion", l->version);
	yyjson_mut_obj_add_str(doc, spec, "holderIdentity", holder);
	yyjson_mut_obj_add_int(doc, spec, "leaseDurationSeconds", GW_LEASE_S);
	yyjson_mut_obj_add_strcpy(doc, spec, "renewTime", now);
	yyjson_mut_obj_add_val(doc, o, "metadata", meta);
	yyjson_mut_obj_add_val(doc, o, "spec", spec);
	return doc;
}

static void path_of(const struct gw_lease *l, bool one, char *out, size_t size)
{
	(void)snprintf(out, size, "/apis/coordination.k8s.io/v1/namespaces/%s/leases%s%s", l->namespace, one ? "/" : "",
	               one ? l->name : "");
}

/* 1: nobody has it (or it is ours), 0: another. */
static int look(struct gw_lease *l, struct gw_kube *k, struct gw_err *e)
{
	char path[300];
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	path_of(l, true, path, sizeof(path));
	int rc = gw_kube_get(k, path, &doc, e);
	if (rc == -ENOENT) {
		l->version[0] = 0;
		return 1;
	}
	if (rc < 0)
		return rc;
	yyjson_val *o = yyjson_doc_get_root(doc);
	const char *version = gw_json_str(yyjson_obj_get(o, "metadata"), "resourceVersion", "");
	const char *holder = gw_json_str(yyjson_obj_get(o, "spec"), "holderIdentity", "");
	if (strcmp(version, l->version) != 0) {
		(void)snprintf(l->version, sizeof(l->version), "%s", version);
		l->seen_ms = gw_now_ms();
	}
	return !*holder || !strcmp(holder, l->identity) || gw_now_ms() - l->seen_ms > (uint64_t)GW_LEASE_S * 1000;
}

static int put(struct gw_lease *l, struct gw_kube *k, const char *holder, struct gw_err *e)
{
	char path[300];
	bool exists = l->version[0];
	gw_auto(jmut) yyjson_mut_doc *doc = body(l, holder);
	gw_auto(jdoc) yyjson_doc *now = NULL;
	path_of(l, exists, path, sizeof(path));
	int rc = exists ? gw_kube_patch(k, path, GW_PATCH_MERGE, doc, &now, e) : gw_kube_create(k, path, doc, &now, e);
	if (rc == 0) {
		(void)snprintf(
		        l->version, sizeof(l->version), "%s",
		        gw_json_str(yyjson_obj_get(yyjson_doc_get_root(now), "metadata"), "resourceVersion", ""));
		l->seen_ms = gw_now_ms();
	}
	return rc;
}

int gw_lease_hold(struct gw_lease *l, struct gw_kube *k)
{
	struct gw_err e = {.class = GW_OK};
	uint64_t now = gw_now_ms();
	if (now < l->next_ms)
		return (int)(l->next_ms - now);
	bool was = gw_lease_is_held(l);
	int rc = look(l, k, &e);
	if (rc == 1)
		rc = put(l, k, l->identity, &e) == 0 ? 1 : -e.err;
	l->held = rc == 1 || (rc < 0 && was); /* a server that is away takes it from nobody, the deadline does */
	if (rc == 1)
		l->renewed_ms = gw_now_ms();
	if (was != gw_lease_is_held(l))
		gw_info(l->held ? "leading" : "not leading", kv_str("lease", l->name));
	l->next_ms = gw_now_ms() + GW_LEASE_EVERY_MS;
	return GW_LEASE_EVERY_MS;
}

void gw_lease_release(struct gw_lease *l, struct gw_kube *k)
{
	struct gw_err e;
	if (gw_lease_is_held(l) && put(l, k, "", &e) < 0)
		gw_warn("lease not given back", kv_str("lease", l->name), kv_str("reason", e.text));
	l->held = false;
}
