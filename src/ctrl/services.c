#include "ctrl/services.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/scope.h"

static const char SERVICE[] = "kubernetes.io/service-name", MANAGED_BY[] = "endpointslice.kubernetes.io/managed-by";
enum { SLICE_NAME_BYTES = 200, UID_BYTES = 5 };

static yyjson_val *labels_of(yyjson_val *o)
{
	return yyjson_obj_get(yyjson_obj_get(o, "metadata"), "labels");
}

const char *ctrl_selected_by(yyjson_val *selector, yyjson_val *labels)
{
	const char *first = NULL;
	yyjson_obj_iter it = yyjson_obj_iter_with(selector);
	for (yyjson_val *k; (k = yyjson_obj_iter_next(&it));) {
		const char *key = yyjson_get_str(k), *v = yyjson_get_str(yyjson_obj_iter_get_val(k));
		if (!key || !v || !yyjson_equals_str(yyjson_obj_get(labels, key), v))
			return NULL;
		if (!first)
			first = key;
	}
	return first;
}

static bool has(yyjson_mut_val *arr, const char *key)
{
	yyjson_mut_arr_iter it = yyjson_mut_arr_iter_with(arr);
	for (yyjson_mut_val *v; (v = yyjson_mut_arr_iter_next(&it));)
		if (yyjson_mut_equals_str(v, key))
			return true;
	return false;
}

int ctrl_veil(struct gw_kube *k, const struct gw_migration *m, yyjson_val *source, yyjson_mut_doc *doc,
              yyjson_mut_val **out, struct gw_err *e)
{
	char path[200];
	gw_auto(jdoc) yyjson_doc *services = NULL;
	(void)snprintf(path, sizeof(path), "/api/v1/namespaces/%s/services", m->namespace);
	int rc = gw_kube_get(k, path, &services, e);
	if (rc < 0)
		return rc;
	yyjson_mut_val *keys = yyjson_mut_arr(doc);
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(yyjson_doc_get_root(services), "items"));
	for (yyjson_val *s; (s = yyjson_arr_iter_next(&it));) {
		const char *key =
		        ctrl_selected_by(yyjson_obj_get(yyjson_obj_get(s, "spec"), "selector"), labels_of(source));
		if (key && !has(keys, key))
			yyjson_mut_arr_add_strcpy(doc, keys, key);
	}
	*out = keys;
	return 0;
}

static int patch_labels(struct gw_kube *k, const struct gw_migration *m, const char *pod, yyjson_mut_doc *doc,
                        yyjson_mut_val *labels, struct gw_err *e)
{
	char path[700];
	yyjson_mut_val *meta = yyjson_mut_obj(doc);
	yyjson_mut_obj_add_val(doc, meta, "labels", labels);
	yyjson_mut_obj_add_val(doc, yyjson_mut_doc_get_root(doc), "metadata", meta);
	ctrl_pod_path(m->namespace, pod, path, sizeof(path));
	int rc = gw_kube_patch(k, path, GW_PATCH_MERGE, doc, NULL, e);
	return rc == -ENOENT ? 0 : rc;
}

int ctrl_veil_pod(struct gw_kube *k, const struct gw_migration *m, yyjson_val *source, const char *pod,
                  struct gw_err *e)
{
	gw_auto(jmut) yyjson_mut_doc *doc = gw_status_new();
	yyjson_mut_val *keys, *labels = yyjson_mut_obj(doc);
	int rc = ctrl_veil(k, m, source, doc, &keys, e);
	if (rc < 0 || !yyjson_mut_arr_size(keys))
		return rc;
	yyjson_mut_arr_iter it = yyjson_mut_arr_iter_with(keys);
	for (yyjson_mut_val *v; (v = yyjson_mut_arr_iter_next(&it));)
		yyjson_mut_obj_add_null(doc, labels, yyjson_mut_get_str(v));
	return patch_labels(k, m, pod, doc, labels, e);
}

int ctrl_strip_source(struct gw_kube *k, const struct gw_migration *m, yyjson_val *source, struct gw_err *e)
{
	gw_auto(jmut) yyjson_mut_doc *doc = gw_status_new();
	if (!yyjson_obj_size(labels_of(source)))
		return 0;
	return patch_labels(k, m, m->pod, doc, yyjson_mut_null(doc), e);
}

/* ---- mirrors ---- */

static bool is_ready(yyjson_val *endpoint)
{
	return gw_json_bool(yyjson_obj_get(endpoint, "conditions"), "ready", true);
}

static void own_meta(const struct gw_migration *m, yyjson_val *slice, yyjson_mut_doc *doc, yyjson_mut_val *meta)
{
	char name[GW_K8S_NAME];
	yyjson_mut_val *labels = yyjson_mut_obj(doc), *owners = yyjson_mut_arr(doc);
	(void)snprintf(name, sizeof(name), "%.*s-%.*s", SLICE_NAME_BYTES,
	               gw_json_str(yyjson_obj_get(slice, "metadata"), "name", ""), UID_BYTES, m->uid);
	yyjson_obj_iter it = yyjson_obj_iter_with(labels_of(slice));
	for (yyjson_val *key; (key = yyjson_obj_iter_next(&it));)
		if (!yyjson_equals_str(key, MANAGED_BY))
			yyjson_mut_obj_add(labels, yyjson_val_mut_copy(doc, key),
			                   yyjson_val_mut_copy(doc, yyjson_obj_iter_get_val(key)));
	yyjson_mut_obj_add_str(doc, labels, MANAGED_BY, CTRL_MIRROR_BY);
	yyjson_mut_obj_add_strcpy(doc, labels, CTRL_MIRROR_LABEL, m->uid);
	yyjson_mut_val *owner = yyjson_mut_arr_add_obj(doc, owners);
	yyjson_mut_obj_add_str(doc, owner, "apiVersion", "godwit.dev/v1alpha1");
	yyjson_mut_obj_add_str(doc, owner, "kind", "Migration");
	yyjson_mut_obj_add_strcpy(doc, owner, "name", m->name);
	yyjson_mut_obj_add_strcpy(doc, owner, "uid", m->uid);
	yyjson_mut_obj_add_strcpy(doc, meta, "name", name);
	yyjson_mut_obj_add_strcpy(doc, meta, "namespace", m->namespace);
	yyjson_mut_obj_add_val(doc, meta, "labels", labels);
	yyjson_mut_obj_add_val(doc, meta, "ownerReferences", owners);
}

yyjson_mut_doc *ctrl_mirror_of(const struct gw_migration *m, yyjson_val *slice)
{
	yyjson_mut_doc *doc = gw_status_new();
	yyjson_mut_val *o = yyjson_mut_doc_get_root(doc), *endpoints = yyjson_mut_arr(doc), *meta = yyjson_mut_obj(doc);
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(slice, "endpoints"));
	for (yyjson_val *v; (v = yyjson_arr_iter_next(&it));)
		if (is_ready(v) && !strcmp(gw_json_str(yyjson_obj_get(v, "targetRef"), "uid", ""), m->source_uid))
			yyjson_mut_arr_append(endpoints, yyjson_val_mut_copy(doc, v));
	if (!m->source_uid[0] || !yyjson_mut_arr_size(endpoints) || !gw_json_str(labels_of(slice), SERVICE, "")[0]) {
		yyjson_mut_doc_free(doc);
		return NULL;
	}
	own_meta(m, slice, doc, meta);
	yyjson_mut_obj_add_str(doc, o, "apiVersion", "discovery.k8s.io/v1");
	yyjson_mut_obj_add_str(doc, o, "kind", "EndpointSlice");
	yyjson_mut_obj_add_val(doc, o, "metadata", meta);
	yyjson_mut_obj_add_strcpy(doc, o, "addressType", gw_json_str(slice, "addressType", "IPv4"));
	yyjson_val *ports = yyjson_obj_get(slice, "ports");
	yyjson_mut_obj_add_val(doc, o, "ports", ports ? yyjson_val_mut_copy(doc, ports) : yyjson_mut_arr(doc));
	yyjson_mut_obj_add_val(doc, o, "endpoints", endpoints);
	return doc;
}

static bool is_ours(yyjson_val *slice)
{
	return !strcmp(gw_json_str(labels_of(slice), MANAGED_BY, ""), CTRL_MIRROR_BY);
}

static int list_slices(struct gw_kube *k, const struct gw_migration *m, yyjson_doc **out, struct gw_err *e)
{
	char path[200];
	(void)snprintf(path, sizeof(path), "/apis/discovery.k8s.io/v1/namespaces/%s/endpointslices", m->namespace);
	return gw_kube_get(k, path, out, e);
}

int ctrl_mirror(struct gw_kube *k, const struct gw_migration *m, struct gw_err *e)
{
	char path[200];
	gw_auto(jdoc) yyjson_doc *all = NULL;
	int rc = list_slices(k, m, &all, e);
	(void)snprintf(path, sizeof(path), "/apis/discovery.k8s.io/v1/namespaces/%s/endpointslices", m->namespace);
	yyjson_arr_iter it = yyjson_arr_iter_with(all ? yyjson_obj_get(yyjson_doc_get_root(all), "items") : NULL);
	for (yyjson_val *v; rc == 0 && (v = yyjson_arr_iter_next(&it));) {
		gw_auto(jmut) yyjson_mut_doc *mirror = is_ours(v) ? NULL : ctrl_mirror_of(m, v);
		if (mirror)
			rc = gw_kube_create(k, path, mirror, NULL, e);
		if (rc == -EEXIST)
			rc = 0;
	}
	return rc;
}

/* Does another slice of the service, of the same kind of address, have the pod, ready? */
static bool said_by_others(const struct gw_migration *m, yyjson_val *slices, yyjson_val *mirror)
{
	yyjson_arr_iter it = yyjson_arr_iter_with(slices);
	for (yyjson_val *v; (v = yyjson_arr_iter_next(&it));) {
		if (is_ours(v) ||
		    strcmp(gw_json_str(labels_of(v), SERVICE, ""), gw_json_str(labels_of(mirror), SERVICE, "")) != 0 ||
		    strcmp(gw_json_str(v, "addressType", ""), gw_json_str(mirror, "addressType", "")) != 0)
			continue;
		yyjson_arr_iter es = yyjson_arr_iter_with(yyjson_obj_get(v, "endpoints"));
		for (yyjson_val *p; (p = yyjson_arr_iter_next(&es));)
			if (is_ready(p) && !strcmp(gw_json_str(yyjson_obj_get(p, "targetRef"), "name", ""), m->pod))
				return true;
	}
	return false;
}

int ctrl_unmirror(struct gw_kube *k, const struct gw_migration *m, bool force, bool *left, struct gw_err *e)
{
	gw_auto(jdoc) yyjson_doc *all = NULL;
	int rc = list_slices(k, m, &all, e);
	yyjson_val *slices = all ? yyjson_obj_get(yyjson_doc_get_root(all), "items") : NULL;
	yyjson_arr_iter it = yyjson_arr_iter_with(slices);
	*left = false;
	for (yyjson_val *v; rc == 0 && (v = yyjson_arr_iter_next(&it));) {
		char path[600];
		yyjson_val *meta = yyjson_obj_get(v, "metadata");
		if (!is_ours(v) || strcmp(gw_json_str(labels_of(v), CTRL_MIRROR_LABEL, ""), m->uid) != 0)
			continue;
		if (!force && !said_by_others(m, slices, v)) {
			*left = true;
			continue;
		}
		(void)snprintf(path, sizeof(path), "/apis/discovery.k8s.io/v1/namespaces/%s/endpointslices/%s",
		               m->namespace, gw_json_str(meta, "name", ""));
		rc = gw_kube_delete(k, path, NULL, -1, e);
		if (rc == -ENOENT)
			rc = 0;
	}
	return rc;
}
