#include "ctrl/observe.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/scope.h"
#include "ctrl/job.h"
#include "ctrl/target.h"
#include "ctrl/workload.h"

enum { SILENT_S = 600 };

#define COPY(to, from) (void)snprintf(to, sizeof(to), "%s", from)

void ctrl_view_done(struct ctrl_view *v)
{
	yyjson_doc_free(gw_take(v->migration));
	yyjson_doc_free(gw_take(v->source));
	yyjson_doc_free(gw_take(v->target));
}

void ctrl_pod_path(const char *ns, const char *name, char *out, size_t size)
{
	(void)snprintf(out, size, "/api/v1/namespaces/%s/pods/%s", ns, name);
}

static const char *condition(yyjson_val *pod, const char *type, const char **reason, const char **message)
{
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(yyjson_obj_get(pod, "status"), "conditions"));
	for (yyjson_val *c; (c = yyjson_arr_iter_next(&it));)
		if (!strcmp(gw_json_str(c, "type", ""), type)) {
			*reason = gw_json_str(c, "reason", "");
			*message = gw_json_str(c, "message", "");
			return gw_json_str(c, "status", "");
		}
	return "";
}

static unsigned running(yyjson_val *pod, const char *list)
{
	unsigned n = 0;
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(yyjson_obj_get(pod, "status"), list));
	for (yyjson_val *c; (c = yyjson_arr_iter_next(&it));)
		n += yyjson_obj_get(yyjson_obj_get(c, "state"), "running") != NULL;
	return n;
}

static void look_sidecars(yyjson_val *pod, struct ctrl_pod *p)
{
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(yyjson_obj_get(pod, "spec"), "initContainers"));
	for (yyjson_val *c; (c = yyjson_arr_iter_next(&it));)
		p->sidecars += ctrl_is_sidecar(c);
	p->running_sidecars = running(pod, "initContainerStatuses");
}

static void owner_kind(yyjson_val *meta, char *out, size_t size)
{
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(meta, "ownerReferences"));
	for (yyjson_val *o; (o = yyjson_arr_iter_next(&it));)
		if (gw_json_bool(o, "controller", false))
			(void)snprintf(out, size, "%s", gw_json_str(o, "kind", ""));
}

static bool has_http_hook(yyjson_val *spec)
{
	static const char *const lists[] = {"containers", "initContainers"}, *const hooks[] = {"postStart", "preStop"};
	for (size_t i = 0; i < gw_countof(lists); i++) {
		yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(spec, lists[i]));
		for (yyjson_val *c; (c = yyjson_arr_iter_next(&it));)
			for (size_t k = 0; k < gw_countof(hooks); k++)
				if (yyjson_obj_get(yyjson_obj_get(yyjson_obj_get(c, "lifecycle"), hooks[k]), "httpGet"))
					return true;
	}
	return false;
}

static void look_pod(yyjson_doc *doc, struct ctrl_pod *p)
{
	const char *reason = "", *words = "";
	yyjson_val *o = doc ? yyjson_doc_get_root(doc) : NULL, *meta = yyjson_obj_get(o, "metadata"),
	           *spec = yyjson_obj_get(o, "spec"), *notes = yyjson_obj_get(meta, "annotations");
	*p = (struct ctrl_pod){.exists = o != NULL};
	if (!o)
		return;
	p->terminating = yyjson_obj_get(meta, "deletionTimestamp") != NULL;
	p->running = !strcmp(gw_json_str(yyjson_obj_get(o, "status"), "phase", ""), "Running");
	const char *phase = gw_json_str(yyjson_obj_get(o, "status"), "phase", "");
	p->ended = !strcmp(phase, "Succeeded") || !strcmp(phase, "Failed");
	p->ready = !strcmp(condition(o, "Ready", &reason, &words), "True");
	COPY(p->uid, gw_json_str(meta, "uid", ""));
	COPY(p->node, gw_json_str(spec, "nodeName", ""));
	COPY(p->migration, gw_json_str(notes, "godwit.dev/migration", ""));
	owner_kind(meta, p->owner_kind, sizeof(p->owner_kind));
	p->mirror = gw_json_str(notes, "kubernetes.io/config.mirror", "")[0];
	p->host_network = gw_json_bool(spec, "hostNetwork", false);
	p->http_hook = has_http_hook(spec);
	p->containers = (unsigned)yyjson_arr_size(yyjson_obj_get(spec, "containers"));
	p->running_containers = running(o, "containerStatuses");
	look_sidecars(o, p);
	bool refused = !strcmp(condition(o, "PodScheduled", &reason, &words), "False");
	p->unschedulable = refused && !strcmp(reason, "Unschedulable");
	COPY(p->words, words);
}

/* A timeout's worth of silence says that nothing is under way there any more. */
static enum ctrl_life life_of(const struct gw_migration *m, const struct ctrl_node *n)
{
	int64_t timeout = m->timeout_s ? (int64_t)m->timeout_s : SILENT_S;
	if (!n->exists || n->out_of_service)
		return CTRL_OFF;
	return !n->ready && n->ready_since_s && (int64_t)time(NULL) - n->ready_since_s > timeout ? CTRL_SILENT
	                                                                                         : CTRL_LIVES;
}

/* What is concluded from a node that is not there is asked for once more. */
static int look_life(struct gw_kube *k, const struct gw_migration *m, struct ctrl_view *v, bool live, struct gw_err *e)
{
	const char *const names[] = {m->source_node, m->to};
	enum ctrl_life *const lives[] = {&v->seen.source_life, &v->seen.to_life};
	for (size_t i = 0; i < gw_countof(names); i++) {
		struct ctrl_node n;
		int rc = ctrl_cluster_node(v->cluster, k, names[i], false, &n, e);
		if (rc == 0 && live && life_of(m, &n) != CTRL_LIVES)
			rc = ctrl_cluster_node(v->cluster, k, names[i], true, &n, e);
		if (rc < 0)
			return rc;
		*lives[i] = life_of(m, &n);
	}
	return 0;
}

static int look_nodes(struct gw_kube *k, const struct gw_migration *m, struct ctrl_view *v, bool live, struct gw_err *e)
{
	struct ctrl_node n;
	if (m->phase[0] && strcmp(m->phase, "Pending") != 0)
		return gw_migration_over(m) || !m->source_node[0] ? 0 : look_life(k, m, v, live, e);
	int rc = ctrl_cluster_node(v->cluster, k, m->to, false, &n, e);
	if (rc == 0 && live && !n.has_godwit)
		rc = ctrl_cluster_node(v->cluster, k, m->to, true, &n, e);
	v->seen.to_exists = n.exists;
	v->seen.to_has_godwit = n.has_godwit;
	return rc;
}

static int64_t phase_age(yyjson_val *migration)
{
	int64_t since = gw_k8s_time(gw_json_str(yyjson_obj_get(migration, "status"), "phaseSince", ""));
	return since ? (int64_t)time(NULL) - since : 0;
}

/* Does the target lack a label of status.veil? */
static bool is_veiled(const struct ctrl_view *v)
{
	yyjson_val *status = yyjson_obj_get(v->migration ? yyjson_doc_get_root(v->migration) : NULL, "status");
	yyjson_val *labels =
	        yyjson_obj_get(yyjson_obj_get(v->target ? yyjson_doc_get_root(v->target) : NULL, "metadata"), "labels");
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(status, "veil"));
	for (yyjson_val *key; v->target && (key = yyjson_arr_iter_next(&it));)
		if (!yyjson_obj_get(labels, yyjson_get_str(key) ?: ""))
			return true;
	return false;
}

/* The pod that has the target's name, or the placeholder's. */
static int look_target(struct gw_kube *k, const struct gw_migration *m, struct ctrl_view *v, struct gw_err *e)
{
	char name[GW_K8S_NAME], path[700];
	bool same = !strcmp(m->method, "SameName");
	if (!m->method[0])
		return 0;
	if (same && strcmp(m->phase, "Placing") != 0 && strcmp(m->phase, "PreCopy") != 0)
		COPY(name, m->pod);
	else
		ctrl_target_name(m, same ? "p" : "m", name);
	ctrl_pod_path(m->namespace, name, path, sizeof(path));
	int rc = ctrl_cluster_get(v->cluster, k, m->uid, path, &v->target, e);
	if (rc < 0)
		return rc;
	look_pod(v->target, &v->seen.target);
	v->seen.veiled = same && is_veiled(v);
	return rc;
}

static int64_t ordinal_of(const char *pod)
{
	const char *dash = strrchr(pod, '-');
	return dash ? strtoll(dash + 1, NULL, 10) : 0;
}

/* Somebody has deleted the target of a hand-over. Made again for a StatefulSet that is gone
 * or wants fewer, it would be deleted again, without end, and its process run on for nobody. */
static int look_owner(struct gw_kube *k, const struct gw_migration *m, struct ctrl_view *v, struct gw_err *e)
{
	char path[700];
	yyjson_val *status = yyjson_obj_get(yyjson_doc_get_root(v->migration), "status");
	yyjson_val *meta = yyjson_obj_get(yyjson_obj_get(status, "successor"), "metadata"), *ref = NULL;
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(meta, "ownerReferences"));
	for (yyjson_val *o; (o = yyjson_arr_iter_next(&it));)
		if (gw_json_bool(o, "controller", false) && !strcmp(gw_json_str(o, "kind", ""), "StatefulSet"))
			ref = o;
	if (!ref)
		return 0;
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	const char *name = gw_json_str(ref, "name", "");
	(void)snprintf(path, sizeof(path), "/apis/apps/v1/namespaces/%s/statefulsets/%s", m->namespace, name);
	int rc = gw_kube_get(k, path, &doc, e);
	if (rc < 0 && rc != -ENOENT)
		return rc;
	yyjson_val *o = rc < 0 ? NULL : yyjson_doc_get_root(doc), *spec = yyjson_obj_get(o, "spec");
	meta = yyjson_obj_get(o, "metadata");
	int64_t first = gw_json_i64(yyjson_obj_get(spec, "ordinals"), "start", 0);
	if (!o || yyjson_obj_get(meta, "deletionTimestamp") ||
	    strcmp(gw_json_str(meta, "uid", ""), gw_json_str(ref, "uid", "")) != 0)
		(void)snprintf(v->seen.unwanted_words, sizeof(v->seen.unwanted_words),
		               "StatefulSet %s was deleted while its pod was handed over", name);
	else if (ordinal_of(m->pod) - first >= gw_json_i64(spec, "replicas", 1))
		(void)snprintf(
		        v->seen.unwanted_words, sizeof(v->seen.unwanted_words),
		        "StatefulSet %s wants no such pod any more: it was scaled down while the pod was handed over",
		        name);
	return 0;
}

static bool is_targetless(const struct ctrl_view *v, const struct gw_migration *m)
{
	const struct ctrl_pod *t = &v->seen.target;
	return !strcmp(m->method, "SameName") && !strcmp(m->phase, "HandOver") && !v->seen.source.exists &&
	       v->migration && (!t->exists || t->terminating || strcmp(t->migration, m->uid) != 0);
}

int ctrl_observe(struct gw_kube *k, const struct gw_migration *m, struct ctrl_view *v, bool live, struct gw_err *e)
{
	char path[700];
	int rc;
	if (!m->pod[0]) {
		rc = ctrl_find_pod(k, m, v->seen.chosen, &v->seen.unchosen, v->seen.unchosen_words,
		                   sizeof(v->seen.unchosen_words), e);
	} else {
		ctrl_pod_path(m->namespace, m->pod, path, sizeof(path));
		rc = ctrl_cluster_get(v->cluster, k, m->uid, path, &v->source, e);
	}
	if (rc == 0)
		rc = look_target(k, m, v, e);
	if (rc == 0)
		rc = look_nodes(k, m, v, live, e);
	if (rc < 0)
		return rc;
	yyjson_val *o = v->migration ? yyjson_doc_get_root(v->migration) : NULL;
	look_pod(v->source, &v->seen.source);
	if (gw_migration_committed(m) && !strcmp(m->method, "Clone"))
		rc = ctrl_job_look(k, m, v, e);
	if (rc < 0)
		return rc;
	/* Of the same name, but another: the source is gone. */
	if (m->source_uid[0] && strcmp(v->seen.source.uid, m->source_uid) != 0)
		v->seen.source = (struct ctrl_pod){0};
	rc = is_targetless(v, m) ? look_owner(k, m, v, e) : 0;
	if (rc < 0)
		return rc;
	v->seen.phase_age_s = phase_age(o);
	v->seen.agent_told = gw_json_bool(yyjson_obj_get(o, "status"), "abort", false);
	return 0;
}
