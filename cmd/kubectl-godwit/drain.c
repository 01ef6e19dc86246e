/* drain: empty a node. What can move moves, the rest is evicted. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/scope.h"
#include "plugin.h"

enum { NODES_MAX = 200, EVICT_TRIES = 300, EVICT_PAUSE_US = 2000000 };

struct drain {
	struct plugin *p;
	const char *node;
	char nodes[NODES_MAX][GW_K8S_NAME]; /* where things may go */
	unsigned nnodes, moved, evicted, left;
};

static int cordon(struct drain *d, struct gw_err *e)
{
	char path[400];
	gw_auto(jmut) yyjson_mut_doc *patch = gw_status_new();
	yyjson_mut_val *spec = yyjson_mut_obj(patch);
	yyjson_mut_obj_add_bool(patch, spec, "unschedulable", true);
	yyjson_mut_obj_add_val(patch, yyjson_mut_doc_get_root(patch), "spec", spec);
	(void)snprintf(path, sizeof(path), "/api/v1/nodes/%s", d->node);
	return gw_kube_patch(d->p->k, path, GW_PATCH_MERGE, patch, NULL, e);
}

static int find_nodes(struct drain *d, struct gw_err *e)
{
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	int rc = gw_kube_get(d->p->k, "/api/v1/nodes", &doc, e);
	if (rc < 0)
		return rc;
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(yyjson_doc_get_root(doc), "items"));
	for (yyjson_val *v; (v = yyjson_arr_iter_next(&it)) && d->nnodes < NODES_MAX;) {
		yyjson_val *meta = yyjson_obj_get(v, "metadata");
		const char *name = gw_json_str(meta, "name", "");
		bool has = !strcmp(gw_json_str(yyjson_obj_get(meta, "labels"), "live.godwit.dev/node", ""), "true");
		bool open = !gw_json_bool(yyjson_obj_get(v, "spec"), "unschedulable", false);
		if (has && open && strcmp(name, d->node) != 0 && (!d->p->to || !strcmp(d->p->to, name)))
			(void)snprintf(d->nodes[d->nnodes++], GW_K8S_NAME, "%s", name);
	}
	return 0;
}

static bool stays(yyjson_val *pod)
{
	yyjson_val *meta = yyjson_obj_get(pod, "metadata");
	const char *phase = gw_json_str(yyjson_obj_get(pod, "status"), "phase", "");
	if (gw_json_str(yyjson_obj_get(meta, "annotations"), "kubernetes.io/config.mirror", "")[0])
		return true;
	if (yyjson_obj_get(meta, "deletionTimestamp") || !strcmp(phase, "Succeeded") || !strcmp(phase, "Failed"))
		return true;
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(meta, "ownerReferences"));
	for (yyjson_val *o; (o = yyjson_arr_iter_next(&it));)
		if (!strcmp(gw_json_str(o, "kind", ""), "DaemonSet"))
			return true;
	return false;
}

static int evict(struct drain *d, const char *ns, const char *pod, struct gw_err *e)
{
	char path[700];
	gw_auto(jmut) yyjson_mut_doc *doc = gw_status_new();
	yyjson_mut_val *o = yyjson_mut_doc_get_root(doc), *meta = yyjson_mut_obj(doc);
	yyjson_mut_obj_add_str(doc, o, "apiVersion", "policy/v1");
	yyjson_mut_obj_add_str(doc, o, "kind", "Eviction");
	yyjson_mut_obj_add_str(doc, meta, "name", pod);
	yyjson_mut_obj_add_str(doc, meta, "namespace", ns);
	yyjson_mut_obj_add_val(doc, o, "metadata", meta);
	(void)snprintf(path, sizeof(path), "/api/v1/namespaces/%s/pods/%s/eviction", ns, pod);
	int rc = 0;
	for (int i = 0; i < EVICT_TRIES; i++) {
		gw_kube_patience(d->p->k, false);
		rc = gw_kube_create(d->p->k, path, doc, NULL, e);
		gw_kube_patience(d->p->k, true);
		if (rc == -ENOENT)
			return 0;
		if (rc != -EBUSY) /* a PodDisruptionBudget: later */
			return rc;
		if (i == 0)
			(void)fprintf(stderr, "waiting  %s/%s: %s\n", ns, pod, e->text);
		gw_sleep_us(EVICT_PAUSE_US);
	}
	return rc;
}

/* 1: moved. 0: cannot; *why. */
static int move(struct drain *d, const char *ns, const char *pod, char *why, size_t size, struct gw_err *e)
{
	(void)snprintf(why, size, "no other node has godwit and is schedulable");
	for (unsigned i = 0; i < d->nnodes; i++) {
		/* In turn, so that not all go to the first. */
		const char *to = d->nodes[(d->moved + i) % d->nnodes];
		struct gw_migration m;
		gw_auto(jdoc) yyjson_doc *doc = NULL;
		int rc = plugin_make(d->p, ns, pod, to, false, &m, e);
		if (rc == 0)
			rc = plugin_wait(d->p, &m, d->p->watch, &doc, e);
		if (rc < 0)
			return rc;
		yyjson_val *s = plugin_status(doc);
		if (!strcmp(gw_json_str(s, "phase", ""), "Succeeded")) {
			(void)printf("moved    %s/%s to %s, frozen for %" PRIu64 " ms\n", ns, pod, to,
			             gw_json_u64(yyjson_obj_get(s, "result"), "freezeMs", 0));
			return 1;
		}
		const char *reason = gw_json_str(s, "reason", "");
		(void)snprintf(why, size, "%s: %s", reason, gw_json_str(s, "message", ""));
		if (strcmp(reason, "NoCapacity") != 0)
			return 0;
	}
	return 0;
}

/* One that does not move: why, until it is its turn to be evicted. */
struct rest {
	struct rest *next;
	yyjson_val *pod;
	char why[700];
};

static void move_or_keep(struct drain *d, yyjson_val *pod, struct rest ***tail)
{
	char why[700];
	struct gw_err e = {.class = GW_OK};
	yyjson_val *meta = yyjson_obj_get(pod, "metadata");
	const char *ns = gw_json_str(meta, "namespace", ""), *name = gw_json_str(meta, "name", "");
	if (stays(pod))
		return;
	int rc = move(d, ns, name, why, sizeof(why), &e);
	(void)fflush(stdout);
	d->moved += rc == 1;
	if (rc == 1)
		return;
	struct rest *r = calloc(1, sizeof(*r));
	if (!r) {
		(void)printf("left     %s/%s: no memory\n", ns, name);
		d->left++;
		return;
	}
	r->pod = pod;
	(void)snprintf(r->why, sizeof(r->why), "%s", rc < 0 ? e.text : why);
	**tail = r;
	*tail = &r->next;
}

static void evict_rest(struct drain *d, const struct rest *r)
{
	struct gw_err e = {.class = GW_OK};
	yyjson_val *meta = yyjson_obj_get(r->pod, "metadata");
	const char *ns = gw_json_str(meta, "namespace", ""), *name = gw_json_str(meta, "name", "");
	int rc = evict(d, ns, name, &e);
	d->evicted += rc == 0;
	d->left += rc < 0;
	if (rc == 0)
		(void)printf("evicted  %s/%s: %s\n", ns, name, r->why);
	else
		(void)printf("left     %s/%s: %s; and not evicted: %s\n", ns, name, r->why, e.text);
	(void)fflush(stdout);
}

int verb_drain(struct plugin *p)
{
	static struct drain d;
	char path[500];
	struct gw_err e = {.class = GW_OK};
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	d.p = p;
	d.node = p->what[1];
	(void)snprintf(path, sizeof(path), "/api/v1/pods?fieldSelector=spec.nodeName%%3D%s", d.node);
	int rc = cordon(&d, &e);
	if (rc == 0)
		rc = find_nodes(&d, &e);
	if (rc == 0)
		rc = gw_kube_get(p->k, path, &doc, &e);
	if (rc < 0)
		return plugin_fail(&e);
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(yyjson_doc_get_root(doc), "items"));
	/* A budget may hold an eviction for long: everything that can move moves first. */
	struct rest *rest = NULL, **tail = &rest;
	for (yyjson_val *v; (v = yyjson_arr_iter_next(&it));)
		move_or_keep(&d, v, &tail);
	while (rest) {
		struct rest *r = rest;
		rest = r->next;
		evict_rest(&d, r);
		free(r);
	}
	(void)printf("%s: %u moved, %u evicted, %u left (of what belongs to the node nothing is touched)\n", d.node,
	             d.moved, d.evicted, d.left);
	return d.left ? PLUGIN_FAILED : PLUGIN_OK;
}
