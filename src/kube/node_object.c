#include "kube/node_object.h"

#include <stdio.h>
#include <string.h>

#include "base/scope.h"
#include "kube/migration.h"

static void node_path(const char *node, const char *sub, char *out, size_t size)
{
	(void)snprintf(out, size, "/api/v1/nodes/%s%s", node, sub);
}

static yyjson_val *our_condition(yyjson_doc *node)
{
	yyjson_val *all = yyjson_obj_get(yyjson_obj_get(yyjson_doc_get_root(node), "status"), "conditions");
	yyjson_arr_iter it = yyjson_arr_iter_with(all);
	for (yyjson_val *c; (c = yyjson_arr_iter_next(&it));)
		if (!strcmp(gw_json_str(c, "type", ""), GW_NODE_CONDITION))
			return c;
	return NULL;
}

/* {"status": {"conditions": [c]}}: merged by type. */
static int patch(struct gw_kube *k, const char *node, yyjson_mut_doc *doc, yyjson_mut_val *c, struct gw_err *e)
{
	char path[400];
	yyjson_mut_val *root = yyjson_mut_obj(doc), *status = yyjson_mut_obj(doc), *all = yyjson_mut_arr(doc);
	yyjson_mut_doc_set_root(doc, root);
	yyjson_mut_arr_append(all, c);
	yyjson_mut_obj_add_val(doc, status, "conditions", all);
	yyjson_mut_obj_add_val(doc, root, "status", status);
	node_path(node, "/status", path, sizeof(path));
	return gw_kube_patch(k, path, GW_PATCH_STRATEGIC, doc, NULL, e);
}

int gw_node_condition(struct gw_kube *k, const char *node, bool is_ready, const char *reason, const char *message,
                      struct gw_err *e)
{
	char path[400], now[32];
	gw_auto(jdoc) yyjson_doc *old = NULL;
	gw_auto(jmut) yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	const char *status = is_ready ? "True" : "False";
	node_path(node, "", path, sizeof(path));
	int rc = gw_kube_get(k, path, &old, e);
	if (rc < 0)
		return rc;
	yyjson_val *was = our_condition(old);
	bool same = was && !strcmp(gw_json_str(was, "status", ""), status);
	if (same && !strcmp(gw_json_str(was, "reason", ""), reason) &&
	    !strcmp(gw_json_str(was, "message", ""), message))
		return 0;
	gw_k8s_now(now);
	yyjson_mut_val *c = yyjson_mut_obj(doc);
	yyjson_mut_obj_add_str(doc, c, "type", GW_NODE_CONDITION);
	yyjson_mut_obj_add_str(doc, c, "status", status);
	yyjson_mut_obj_add_str(doc, c, "reason", reason);
	yyjson_mut_obj_add_str(doc, c, "message", message);
	yyjson_mut_obj_add_str(doc, c, "lastHeartbeatTime", now);
	yyjson_mut_obj_add_str(doc, c, "lastTransitionTime", same ? gw_json_str(was, "lastTransitionTime", now) : now);
	return patch(k, node, doc, c, e);
}

int gw_node_condition_drop(struct gw_kube *k, const char *node, struct gw_err *e)
{
	char path[400];
	gw_auto(jdoc) yyjson_doc *old = NULL;
	gw_auto(jmut) yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	node_path(node, "", path, sizeof(path));
	int rc = gw_kube_get(k, path, &old, e);
	if (rc < 0 || !our_condition(old))
		return rc;
	yyjson_mut_val *c = yyjson_mut_obj(doc);
	yyjson_mut_obj_add_str(doc, c, "$patch", "delete");
	yyjson_mut_obj_add_str(doc, c, "type", GW_NODE_CONDITION);
	return patch(k, node, doc, c, e);
}

int gw_node_event(struct gw_kube *k, const char *node, const char *component, bool is_warning, const char *reason,
                  const char *message, struct gw_err *e)
{
	char now[32], prefix[300];
	gw_auto(jmut) yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *o = yyjson_mut_obj(doc), *meta = yyjson_mut_obj(doc), *about = yyjson_mut_obj(doc),
	               *by = yyjson_mut_obj(doc);
	yyjson_mut_doc_set_root(doc, o);
	gw_k8s_now(now);
	(void)snprintf(prefix, sizeof(prefix), "%.200s.", node);
	yyjson_mut_obj_add_str(doc, meta, "generateName", prefix);
	yyjson_mut_obj_add_str(doc, meta, "namespace", "default");
	yyjson_mut_obj_add_str(doc, about, "kind", "Node");
	yyjson_mut_obj_add_str(doc, about, "apiVersion", "v1");
	yyjson_mut_obj_add_str(doc, about, "name", node);
	yyjson_mut_obj_add_str(doc, about, "uid", node); /* as kubelet does: kubectl describe looks for it */
	yyjson_mut_obj_add_str(doc, by, "component", component);
	yyjson_mut_obj_add_str(doc, by, "host", node);
	yyjson_mut_obj_add_str(doc, o, "apiVersion", "v1");
	yyjson_mut_obj_add_str(doc, o, "kind", "Event");
	yyjson_mut_obj_add_val(doc, o, "metadata", meta);
	yyjson_mut_obj_add_val(doc, o, "involvedObject", about);
	yyjson_mut_obj_add_val(doc, o, "source", by);
	yyjson_mut_obj_add_str(doc, o, "type", is_warning ? "Warning" : "Normal");
	yyjson_mut_obj_add_str(doc, o, "reason", reason);
	yyjson_mut_obj_add_strn(doc, o, "message", message, strnlen(message, 1000));
	yyjson_mut_obj_add_str(doc, o, "firstTimestamp", now);
	yyjson_mut_obj_add_str(doc, o, "lastTimestamp", now);
	yyjson_mut_obj_add_int(doc, o, "count", 1);
	return gw_kube_create(k, "/api/v1/namespaces/default/events", doc, NULL, e);
}
