#include "ctrl/target.h"

#include <stdio.h>
#include <string.h>

#include "base/scope.h"

enum { NAME_MAX_BYTES = 253, UID_BYTES = 5 };

static bool starts(const char *s, const char *with)
{
	return !strncmp(s, with, strlen(with));
}

/* Without what a move before has put at its end ("-m01abf"), or it would grow with every move. */
static size_t stem(const char *pod)
{
	size_t n = strlen(pod), tail = UID_BYTES + 2;
	if (n <= tail + 1 || pod[n - tail] != '-' || pod[n - tail + 1] != 'm')
		return n;
	return strspn(pod + n - UID_BYTES, "0123456789abcdef") == UID_BYTES ? n - tail : n;
}

void ctrl_target_name(const struct gw_migration *m, const char *suffix, char out[GW_K8S_NAME])
{
	size_t most = NAME_MAX_BYTES - UID_BYTES - 3, n = stem(m->pod);
	(void)snprintf(out, GW_K8S_NAME, "%.*s-%s%.*s", (int)(n < most ? n : most), m->pod, suffix, UID_BYTES, m->uid);
}

static yyjson_mut_val *member(yyjson_mut_doc *doc, yyjson_mut_val *o, const char *key)
{
	yyjson_mut_val *v = yyjson_mut_obj_get(o, key);
	if (v)
		return v;
	v = yyjson_mut_obj(doc);
	yyjson_mut_obj_add_val(doc, o, key, v);
	return v;
}

static void put_str(yyjson_mut_doc *doc, yyjson_mut_val *o, const char *key, const char *value)
{
	yyjson_mut_obj_remove_key(o, key);
	yyjson_mut_obj_add_strcpy(doc, o, key, value);
}

/* Elements of an array for which drop says so go. */
static void filter(yyjson_mut_val *arr, const char *key, const char *prefix)
{
	yyjson_mut_arr_iter it = yyjson_mut_arr_iter_with(arr);
	for (yyjson_mut_val *v; (v = yyjson_mut_arr_iter_next(&it));) {
		const char *name = yyjson_mut_get_str(yyjson_mut_obj_get(v, key));
		if (name && starts(name, prefix))
			(void)yyjson_mut_arr_iter_remove(&it);
	}
}

static void drop_token_volume(yyjson_mut_val *spec)
{
	static const char *const lists[] = {"containers", "initContainers"};
	filter(yyjson_mut_obj_get(spec, "volumes"), "name", "kube-api-access-");
	for (size_t i = 0; i < gw_countof(lists); i++) {
		yyjson_mut_arr_iter it = yyjson_mut_arr_iter_with(yyjson_mut_obj_get(spec, lists[i]));
		for (yyjson_mut_val *c; (c = yyjson_mut_arr_iter_next(&it));)
			filter(yyjson_mut_obj_get(c, "volumeMounts"), "name", "kube-api-access-");
	}
}

static yyjson_mut_val *name_is(yyjson_mut_doc *doc, const char *node)
{
	yyjson_mut_val *f = yyjson_mut_obj(doc), *values = yyjson_mut_arr(doc), *fields = yyjson_mut_arr(doc);
	yyjson_mut_obj_add_str(doc, f, "key", "metadata.name");
	yyjson_mut_obj_add_str(doc, f, "operator", "In");
	yyjson_mut_arr_add_strcpy(doc, values, node);
	yyjson_mut_obj_add_val(doc, f, "values", values);
	yyjson_mut_arr_append(fields, f);
	return fields;
}

static const char REQUIRED[] = "requiredDuringSchedulingIgnoredDuringExecution";

/* Does it say itself which nodes it may be on? A node's name is what pin() wrote for a move before,
 * godwit's label comes from the RuntimeClass. */
static bool chooses_nodes(yyjson_mut_val *spec)
{
	yyjson_mut_val *affinity = yyjson_mut_obj_get(yyjson_mut_obj_get(spec, "affinity"), "nodeAffinity");
	yyjson_mut_arr_iter it = yyjson_mut_arr_iter_with(
	        yyjson_mut_obj_get(yyjson_mut_obj_get(affinity, REQUIRED), "nodeSelectorTerms"));
	for (yyjson_mut_val *t; (t = yyjson_mut_arr_iter_next(&it));)
		if (yyjson_mut_obj_get(t, "matchExpressions"))
			return true;
	yyjson_mut_val *labels = yyjson_mut_obj_get(spec, "nodeSelector");
	return yyjson_mut_obj_size(labels) > (yyjson_mut_obj_get(labels, "live.godwit.dev/node") ? 1 : 0);
}

/* The scheduler weighs only nodes that a pod's affinity allows: pinned to one, it would be
 * spread well wherever it goes. With an affinity of its own that can't be told apart. */
static void spread_over_all(yyjson_mut_doc *doc, yyjson_mut_val *spec)
{
	if (chooses_nodes(spec))
		return;
	yyjson_mut_arr_iter it = yyjson_mut_arr_iter_with(yyjson_mut_obj_get(spec, "topologySpreadConstraints"));
	for (yyjson_mut_val *c; (c = yyjson_mut_arr_iter_next(&it));)
		put_str(doc, c, "nodeAffinityPolicy", "Ignore");
}

/* Terms are alternatives: each of them gets the node's name. */
static void pin(yyjson_mut_doc *doc, yyjson_mut_val *spec, const char *node)
{
	spread_over_all(doc, spec);
	yyjson_mut_val *affinity = member(doc, member(doc, spec, "affinity"), "nodeAffinity");
	yyjson_mut_val *sel = member(doc, affinity, REQUIRED), *terms = yyjson_mut_obj_get(sel, "nodeSelectorTerms");
	if (!yyjson_mut_arr_size(terms)) {
		yyjson_mut_obj_remove_key(sel, "nodeSelectorTerms");
		terms = yyjson_mut_arr(doc);
		yyjson_mut_arr_add_obj(doc, terms);
		yyjson_mut_obj_add_val(doc, sel, "nodeSelectorTerms", terms);
	}
	yyjson_mut_arr_iter it = yyjson_mut_arr_iter_with(terms);
	for (yyjson_mut_val *t; (t = yyjson_mut_arr_iter_next(&it));) {
		yyjson_mut_obj_remove_key(t, "matchFields");
		yyjson_mut_obj_add_val(doc, t, "matchFields", name_is(doc, node));
	}
}

/* A pod with the source's spec, cleared of what the cluster filled in. */
static yyjson_mut_doc *begin(yyjson_val *source, yyjson_mut_val **out_meta, yyjson_mut_val **out_spec)
{
	yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *o = yyjson_mut_obj(doc), *meta = yyjson_mut_obj(doc);
	yyjson_mut_val *spec = yyjson_val_mut_copy(doc, yyjson_obj_get(source, "spec"));
	yyjson_mut_doc_set_root(doc, o);
	yyjson_mut_obj_add_str(doc, o, "apiVersion", "v1");
	yyjson_mut_obj_add_str(doc, o, "kind", "Pod");
	yyjson_mut_obj_add_val(doc, o, "metadata", meta);
	yyjson_mut_obj_add_val(doc, o, "spec", spec);
	yyjson_mut_obj_remove_key(spec, "nodeName");
	yyjson_mut_obj_remove_key(spec, "ephemeralContainers");
	drop_token_volume(spec);
	*out_meta = meta;
	*out_spec = spec;
	return doc;
}

static bool of_job(yyjson_val *pod)
{
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(yyjson_obj_get(pod, "metadata"), "ownerReferences"));
	for (yyjson_val *o; (o = yyjson_arr_iter_next(&it));)
		if (gw_json_bool(o, "controller", false) && !strcmp(gw_json_str(o, "kind", ""), "Job"))
			return true;
	return false;
}

/* Not all: what a ReplicaSet or a Job would take it for one of theirs by is left
 * out. A Job's selector may be anything. */
static void copy_labels(yyjson_mut_doc *doc, yyjson_mut_val *meta, yyjson_val *source, bool all)
{
	yyjson_val *labels = yyjson_obj_get(yyjson_obj_get(source, "metadata"), "labels");
	bool none = !labels || (!all && of_job(source));
	yyjson_mut_val *l = none ? yyjson_mut_obj(doc) : yyjson_val_mut_copy(doc, labels);
	if (!all)
		yyjson_mut_obj_remove_key(l, "pod-template-hash");
	yyjson_mut_obj_add_val(doc, meta, "labels", l);
}

static void copy_annotations(yyjson_mut_doc *doc, yyjson_mut_val *meta, yyjson_val *source)
{
	yyjson_mut_val *a = yyjson_mut_obj(doc);
	yyjson_obj_iter it = yyjson_obj_iter_with(yyjson_obj_get(yyjson_obj_get(source, "metadata"), "annotations"));
	for (yyjson_val *key; (key = yyjson_obj_iter_next(&it));) {
		const char *k = yyjson_get_str(key), *v = yyjson_get_str(yyjson_obj_iter_get_val(key));
		if (!k || !v || starts(k, "godwit.dev/") || starts(k, "kubectl.kubernetes.io/last-applied") ||
		    starts(k, "controller.kubernetes.io/pod-deletion-cost"))
			continue;
		yyjson_mut_val *kc = yyjson_mut_strcpy(doc, k);
		yyjson_mut_obj_add(a, kc, yyjson_mut_strcpy(doc, v));
	}
	yyjson_mut_obj_add_val(doc, meta, "annotations", a);
}

static void copy_owners(yyjson_mut_doc *doc, yyjson_mut_val *meta, yyjson_val *source)
{
	yyjson_val *owners = yyjson_obj_get(yyjson_obj_get(source, "metadata"), "ownerReferences");
	if (owners)
		yyjson_mut_obj_add_val(doc, meta, "ownerReferences", yyjson_val_mut_copy(doc, owners));
}

bool ctrl_is_sidecar(yyjson_val *container)
{
	return !strcmp(gw_json_str(container, "restartPolicy", ""), "Always");
}

static uint64_t number_of(yyjson_mut_val *probe, const char *key, uint64_t otherwise)
{
	yyjson_mut_val *v = yyjson_mut_obj_get(probe, key);
	return yyjson_mut_is_uint(v) ? yyjson_mut_get_uint(v) : otherwise;
}

/* kubelet makes the other containers only when a sidecar's startupProbe has succeeded,
 * which it can't before all of them are restored. It has started long ago; should it be
 * started anew, its livenessProbe gives it the time that the other one did. */
static void spare_startup(yyjson_mut_doc *doc, yyjson_mut_val *sidecar)
{
	yyjson_mut_val *startup = yyjson_mut_obj_remove_key(sidecar, "startupProbe");
	yyjson_mut_val *alive = yyjson_mut_obj_get(sidecar, "livenessProbe");
	if (!startup || !alive)
		return;
	/* Kubernetes' own defaults, which the API server has filled in. */
	uint64_t takes = number_of(startup, "initialDelaySeconds", 0) +
	                 number_of(startup, "failureThreshold", 3) * number_of(startup, "periodSeconds", 10);
	if (number_of(alive, "initialDelaySeconds", 0) >= takes)
		return;
	yyjson_mut_obj_remove_key(alive, "initialDelaySeconds");
	yyjson_mut_obj_add_uint(doc, alive, "initialDelaySeconds", takes);
}

/* Of the init containers those that stay; the others have done their work. */
static void keep_sidecars(yyjson_mut_doc *doc, yyjson_mut_val *spec)
{
	yyjson_mut_arr_iter it = yyjson_mut_arr_iter_with(yyjson_mut_obj_get(spec, "initContainers"));
	for (yyjson_mut_val *c; (c = yyjson_mut_arr_iter_next(&it));) {
		const char *policy = yyjson_mut_get_str(yyjson_mut_obj_get(c, "restartPolicy"));
		if (!policy || strcmp(policy, "Always") != 0)
			(void)yyjson_mut_arr_iter_remove(&it);
		else
			spare_startup(doc, c);
	}
	if (!yyjson_mut_arr_size(yyjson_mut_obj_get(spec, "initContainers")))
		yyjson_mut_obj_remove_key(spec, "initContainers");
}

/* For godwit-runtime (cmd/godwit-runtime/hooks.h): what the target's containers have run when they
 * started, by name. */
static void note_hooks(yyjson_mut_doc *doc, yyjson_mut_val *notes, yyjson_val *source)
{
	static const char *const lists[] = {"containers", "initContainers"};
	gw_auto(jmut) yyjson_mut_doc *all = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *o = yyjson_mut_obj(all);
	yyjson_mut_doc_set_root(all, o);
	for (size_t i = 0; i < gw_countof(lists); i++) {
		yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(yyjson_obj_get(source, "spec"), lists[i]));
		for (yyjson_val *c; (c = yyjson_arr_iter_next(&it));) {
			yyjson_val *hook = yyjson_obj_get(yyjson_obj_get(c, "lifecycle"), "postStart");
			yyjson_val *words = yyjson_obj_get(yyjson_obj_get(hook, "exec"), "command");
			if (words)
				yyjson_mut_obj_add(o, yyjson_mut_strcpy(all, gw_json_str(c, "name", "")),
				                   yyjson_val_mut_copy(all, words));
		}
	}
	gw_auto(mem) char *text = yyjson_mut_obj_size(o) ? gw_json_text(all, NULL) : NULL;
	if (text)
		put_str(doc, notes, "godwit.dev/post-start", text);
}

yyjson_mut_doc *ctrl_target(const struct gw_migration *m, yyjson_val *source, const char *network, bool same_name)
{
	char name[GW_K8S_NAME], from[GW_K8S_NAME + GW_K8S_NS + 2];
	yyjson_mut_val *meta, *spec;
	yyjson_mut_doc *doc = begin(source, &meta, &spec);
	ctrl_target_name(m, "m", name);
	yyjson_mut_obj_add_strcpy(doc, meta, "name", same_name ? m->pod : name);
	yyjson_mut_obj_add_strcpy(doc, meta, "namespace", m->namespace);
	copy_labels(doc, meta, source, same_name);
	copy_annotations(doc, meta, source);
	yyjson_mut_val *notes = yyjson_mut_obj_get(meta, "annotations");
	(void)snprintf(from, sizeof(from), "%s/%s", m->namespace, m->pod);
	put_str(doc, notes, "godwit.dev/migration", m->uid);
	put_str(doc, notes, "godwit.dev/network", network);
	put_str(doc, notes, "godwit.dev/source-pod", from);
	note_hooks(doc, notes, source);
	if (same_name)
		copy_owners(doc, meta, source);
	put_str(doc, spec, "runtimeClassName", "godwit");
	keep_sidecars(doc, spec);
	yyjson_mut_obj_remove_key(spec, "overhead");
	pin(doc, spec, m->to);
	return doc;
}

yyjson_mut_doc *ctrl_placeholder(const struct gw_migration *m, yyjson_val *source)
{
	char name[GW_K8S_NAME];
	yyjson_mut_val *meta, *spec;
	yyjson_mut_doc *doc = begin(source, &meta, &spec);
	ctrl_target_name(m, "p", name);
	yyjson_mut_obj_add_strcpy(doc, meta, "name", name);
	yyjson_mut_obj_add_strcpy(doc, meta, "namespace", m->namespace);
	yyjson_mut_val *notes = member(doc, meta, "annotations");
	put_str(doc, notes, "godwit.dev/migration", m->uid);
	put_str(doc, notes, "godwit.dev/placeholder", "true");
	/* It never runs: a gate would keep the scheduler away, an image that no
	 * node can pull does not. Only the room matters. */
	yyjson_mut_arr_iter it = yyjson_mut_arr_iter_with(yyjson_mut_obj_get(spec, "containers"));
	for (yyjson_mut_val *c; (c = yyjson_mut_arr_iter_next(&it));) {
		static const char *const gone[] = {
		        "command",       "args",           "env",          "envFrom",   "volumeMounts",
		        "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "ports"};
		for (size_t i = 0; i < gw_countof(gone); i++)
			yyjson_mut_obj_remove_key(c, gone[i]);
		put_str(doc, c, "image", "placeholder.godwit.dev/none:none");
		put_str(doc, c, "imagePullPolicy", "Never");
	}
	static const char *const gone[] = {"initContainers",     "volumes",        "hostname",         "subdomain",
	                                   "serviceAccountName", "serviceAccount", "runtimeClassName", "overhead"};
	for (size_t i = 0; i < gw_countof(gone); i++)
		yyjson_mut_obj_remove_key(spec, gone[i]);
	yyjson_mut_obj_remove_key(spec, "terminationGracePeriodSeconds");
	yyjson_mut_obj_add_int(doc, spec, "terminationGracePeriodSeconds", 0);
	pin(doc, spec, m->to);
	return doc;
}

yyjson_mut_doc *ctrl_plain(const struct gw_migration *m, yyjson_val *pod)
{
	yyjson_mut_val *meta, *spec;
	yyjson_mut_doc *doc = begin(pod, &meta, &spec);
	yyjson_mut_obj_add_strcpy(doc, meta, "name", m->pod);
	yyjson_mut_obj_add_strcpy(doc, meta, "namespace", m->namespace);
	copy_labels(doc, meta, pod, true);
	copy_annotations(doc, meta, pod);
	yyjson_mut_obj_remove_key(spec, "affinity");
	yyjson_mut_obj_remove_key(spec, "overhead");
	return doc;
}

yyjson_mut_doc *ctrl_adoption(yyjson_val *source)
{
	yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *o = yyjson_mut_obj(doc), *meta = yyjson_mut_obj(doc);
	yyjson_mut_doc_set_root(doc, o);
	yyjson_mut_obj_add_val(doc, o, "metadata", meta);
	copy_labels(doc, meta, source, true);
	copy_owners(doc, meta, source);
	return doc;
}
