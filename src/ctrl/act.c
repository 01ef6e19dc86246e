#include "ctrl/act.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/gw_log.h"
#include "base/scope.h"
#include "ctrl/job.h"
#include "ctrl/leases.h"
#include "ctrl/services.h"
#include "ctrl/target.h"

enum { MIRROR_FOR_S = 60, REFUSED_FOR_S = 3 };

static yyjson_val *root_of(yyjson_doc *d)
{
	return d ? yyjson_doc_get_root(d) : NULL;
}

static yyjson_mut_doc *phase_doc(const char *phase)
{
	yyjson_mut_doc *doc = gw_status_new();
	yyjson_mut_obj_add_str(doc, yyjson_mut_doc_get_root(doc), "phase", phase);
	return doc;
}

static int finalizers(struct gw_kube *k, const struct gw_migration *m, bool put, struct gw_err *e)
{
	char path[700];
	gw_auto(jmut) yyjson_mut_doc *doc = gw_status_new();
	yyjson_mut_val *o = yyjson_mut_doc_get_root(doc), *meta = yyjson_mut_obj(doc), *arr = yyjson_mut_arr(doc);
	if (put)
		yyjson_mut_arr_add_str(doc, arr, GW_FINALIZER);
	yyjson_mut_obj_add_val(doc, meta, "finalizers", arr);
	yyjson_mut_obj_add_val(doc, o, "metadata", meta);
	gw_migration_path(m, "", path, sizeof(path));
	int rc = gw_kube_patch(k, path, GW_PATCH_MERGE, doc, NULL, e);
	return rc == -ENOENT ? 0 : rc;
}

static const char *id_of(yyjson_val *pod, const char *list, const char *name)
{
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(yyjson_obj_get(pod, "status"), list));
	for (yyjson_val *c; (c = yyjson_arr_iter_next(&it));)
		if (!strcmp(gw_json_str(c, "name", ""), name)) {
			const char *id = gw_json_str(c, "containerID", ""), *bare = strstr(id, "://");
			return bare ? bare + 3 : id;
		}
	return "";
}

static void add_containers(yyjson_mut_doc *doc, yyjson_mut_val *all, yyjson_val *pod, const char *list,
                           const char *statuses)
{
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(yyjson_obj_get(pod, "spec"), list));
	for (yyjson_val *c; (c = yyjson_arr_iter_next(&it));) {
		const char *name = gw_json_str(c, "name", "");
		if (!strcmp(list, "initContainers") && !ctrl_is_sidecar(c))
			continue;
		yyjson_mut_val *o = yyjson_mut_arr_add_obj(doc, all);
		yyjson_mut_obj_add_strcpy(doc, o, "name", name);
		yyjson_mut_obj_add_strcpy(doc, o, "id", id_of(pod, statuses, name));
	}
}

/* In the order in which kubelet starts them. */
static yyjson_mut_val *containers_of(yyjson_mut_doc *doc, yyjson_val *pod)
{
	yyjson_mut_val *all = yyjson_mut_arr(doc);
	add_containers(doc, all, pod, "initContainers", "initContainerStatuses");
	add_containers(doc, all, pod, "containers", "containerStatuses");
	return all;
}

/* Where its godwitd is. */
static int door_of(struct gw_kube *k, const struct ctrl_view *v, const char *node, uint16_t port, char out[200],
                   struct gw_err *e)
{
	struct ctrl_node n;
	int rc = ctrl_cluster_node(v->cluster, k, node, false, &n, e);
	(void)snprintf(out, 200, "%.*s:%u", (int)strcspn(n.addresses, ","), n.addresses, port);
	return rc;
}

static int resolve(struct gw_kube *k, const struct gw_migration *m, struct ctrl_view *v, uint16_t port,
                   struct gw_err *e)
{
	char here[200], there[200];
	const struct ctrl_pod *p = &v->seen.source;
	int rc = door_of(k, v, p->node, port, here, e);
	if (rc == 0)
		rc = door_of(k, v, m->to, port, there, e);
	if (rc < 0)
		return rc;
	yyjson_mut_doc *doc = phase_doc("Checking");
	yyjson_mut_val *o = yyjson_mut_doc_get_root(doc), *source = yyjson_mut_obj(doc), *target = yyjson_mut_obj(doc);
	char now[32];
	gw_k8s_now(now);
	yyjson_mut_obj_add_strcpy(doc, o, "startTime", now);
	yyjson_mut_obj_add_str(doc, o, "reason", "");
	yyjson_mut_obj_add_str(doc, o, "message", "");
	yyjson_mut_obj_add_str(doc, o, "method",
	                       !strcmp(p->owner_kind, "ReplicaSet") || !strcmp(p->owner_kind, "Job") ? "Clone"
	                                                                                             : "SameName");
	yyjson_mut_obj_add_strcpy(doc, source, "pod", m->pod);
	yyjson_mut_obj_add_strcpy(doc, source, "podUID", p->uid);
	yyjson_mut_obj_add_strcpy(doc, source, "node", p->node);
	yyjson_mut_obj_add_strcpy(doc, source, "address", here);
	yyjson_mut_obj_add_val(doc, source, "containers", containers_of(doc, root_of(v->source)));
	yyjson_mut_obj_add_strcpy(doc, target, "node", m->to);
	yyjson_mut_obj_add_strcpy(doc, target, "address", there);
	yyjson_mut_obj_add_val(doc, o, "source", source);
	yyjson_mut_obj_add_val(doc, o, "target", target);
	return gw_migration_patch_status(k, m, doc, e);
}

static int post_pod(struct gw_kube *k, const struct gw_migration *m, const char *query, yyjson_mut_doc *take_doc,
                    struct gw_err *e)
{
	char path[400];
	gw_auto(jmut) yyjson_mut_doc *doc = take_doc;
	(void)snprintf(path, sizeof(path), "/api/v1/namespaces/%s/pods%s", m->namespace, query);
	return gw_kube_create(k, path, doc, NULL, e);
}

static int create_pod(struct gw_kube *k, const struct gw_migration *m, yyjson_mut_doc *take_doc, struct gw_err *e)
{
	int rc = post_pod(k, m, "", take_doc, e);
	return rc == -EEXIST ? 1 : rc; /* there, or still going */
}

static const char *network_of(const struct ctrl_view *v)
{
	return gw_json_str(yyjson_obj_get(root_of(v->migration), "status"), "network", "");
}

static bool of_quota(const struct gw_err *e)
{
	return strstr(e->text, "exceeded quota");
}

/* The API server will not have the pod: a quota, a limit range, an admission policy. For a
 * moment it may be wrong (a pod that has just gone still counts), then it is the answer. */
static int refused(struct gw_kube *k, const struct gw_migration *m, const struct ctrl_view *v, struct gw_err *e)
{
	if (e->class != GW_INPUT || (e->err != EACCES && e->err != EINVAL) || v->seen.phase_age_s < REFUSED_FOR_S)
		return -e->err;
	const struct gw_err why = *e;
	return gw_migration_phase(k, m, "Failed", of_quota(&why) ? "NoCapacity" : "TargetRefused", why.text, e);
}

/* Would the pod that takes the source's name be let in? Asked while the source has its object:
 * later there is no way back. Its name is taken, as it should be; a quota counts them both,
 * which it will not then; a webhook that knows no dry run says nothing. */
static int try_successor(struct gw_kube *k, const struct gw_migration *m, const struct ctrl_view *v, struct gw_err *e)
{
	int rc = post_pod(k, m, "?dryRun=All", ctrl_target(m, root_of(v->source), network_of(v), true), e);
	bool is_no = rc < 0 && e->class == GW_INPUT && (e->err == EACCES || e->err == EINVAL) && !of_quota(e) &&
	             !strstr(e->text, "does not support dry run");
	return is_no ? rc : 0;
}

static int make_target(struct gw_kube *k, const struct gw_migration *m, struct ctrl_view *v, struct gw_err *e)
{
	if (!v->source)
		return 0;
	bool same = !strcmp(m->method, "SameName");
	int rc = same ? try_successor(k, m, v, e) : 0;
	if (rc == 0)
		rc = create_pod(k, m,
		                same ? ctrl_placeholder(m, root_of(v->source))
		                     : ctrl_target(m, root_of(v->source), network_of(v), false),
		                e);
	return rc < 0 ? refused(k, m, v, e) : rc;
}

static void put_target(yyjson_mut_doc *doc, const struct ctrl_view *v)
{
	yyjson_mut_val *target = yyjson_mut_obj(doc);
	const char *name = gw_json_str(yyjson_obj_get(root_of(v->target), "metadata"), "name", "");
	yyjson_mut_obj_add_strcpy(doc, target, "pod", name);
	yyjson_mut_obj_add_strcpy(doc, target, "podUID", v->seen.target.uid);
	yyjson_mut_obj_add_val(doc, yyjson_mut_doc_get_root(doc), "target", target);
}

static int delete_pod(struct gw_kube *k, const struct gw_migration *m, const char *name, const char *uid, int grace_s,
                      struct gw_err *e)
{
	char path[700];
	ctrl_pod_path(m->namespace, name, path, sizeof(path));
	int rc = gw_kube_delete(k, path, uid, grace_s, e);
	return rc == -ENOENT || rc == -ESTALE ? 0 : rc; /* gone, or another one */
}

/* The spec to make it from, and the labels it is made without. */
static int note_successor(struct gw_kube *k, const struct gw_migration *m, const struct ctrl_view *v, struct gw_err *e)
{
	gw_auto(jmut) yyjson_mut_doc *target = ctrl_target(m, root_of(v->source), network_of(v), true);
	yyjson_mut_doc *doc = gw_status_new();
	yyjson_mut_val *copy = yyjson_mut_val_mut_copy(doc, yyjson_mut_doc_get_root(target)), *veil;
	int rc = ctrl_veil(k, m, root_of(v->source), doc, &veil, e);
	if (rc < 0) {
		yyjson_mut_doc_free(doc);
		return rc;
	}
	yyjson_mut_obj_add_val(doc, yyjson_mut_doc_get_root(doc), "successor", copy);
	yyjson_mut_obj_add_val(doc, yyjson_mut_doc_get_root(doc), "veil", veil);
	return gw_migration_patch_status(k, m, doc, e);
}

static yyjson_val *status_of(const struct ctrl_view *v, const char *key)
{
	return yyjson_obj_get(yyjson_obj_get(root_of(v->migration), "status"), key);
}

/* The API server's words for whatever is made in a namespace that is being deleted. */
static bool is_namespace_going(int rc, const struct gw_err *e)
{
	return rc == -EACCES && strstr(e->text, "being terminated");
}

static int abort_it(struct gw_kube *k, const struct gw_migration *m, const struct ctrl_plan *p, struct gw_err *e)
{
	yyjson_mut_doc *doc = gw_status_new();
	yyjson_mut_val *o = yyjson_mut_doc_get_root(doc);
	yyjson_mut_obj_add_bool(doc, o, "abort", true);
	yyjson_mut_obj_add_strcpy(doc, o, "reason", p->reason);
	yyjson_mut_obj_add_strcpy(doc, o, "message", p->words);
	return gw_migration_patch_status(k, m, doc, e);
}

static int end_with_namespace(struct gw_kube *k, const struct gw_migration *m, struct gw_err *e)
{
	static const struct ctrl_plan p = {.reason = "NamespaceGone", .words = "the pod's namespace is being deleted"};
	gw_info("handed over in a namespace that is being deleted", kv_str("name", m->name));
	return abort_it(k, m, &p, e);
}

/* The source's object goes at once, its process does not: godwit-runtime keeps
 * kubelet's kill back. In between, the admission policy lets nobody else make a
 * pod of that name. The spec to make it from is kept in the status, for the
 * case that we die here. */
static int hand_over(struct gw_kube *k, const struct gw_migration *m, struct ctrl_view *v, struct gw_err *e)
{
	char name[GW_K8S_NAME];
	yyjson_val *kept = status_of(v, "successor"), *veil = status_of(v, "veil");
	if (v->seen.source.exists && !kept)
		return note_successor(k, m, v, e);
	int rc = v->seen.source.exists ? ctrl_mirror(k, m, e) : 0;
	if (rc < 0)
		return rc;
	ctrl_target_name(m, "p", name);
	rc = delete_pod(k, m, name, NULL, 0, e);
	if (rc == 0 && v->seen.source.exists)
		rc = delete_pod(k, m, m->pod, m->source_uid, 0, e);
	if (rc < 0 || !kept)
		return rc;
	yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_doc_set_root(doc, yyjson_val_mut_copy(doc, kept));
	yyjson_mut_val *meta = yyjson_mut_obj_get(yyjson_mut_doc_get_root(doc), "metadata");
	if (yyjson_arr_size(veil))
		yyjson_mut_obj_remove_key(meta, "ownerReferences");
	yyjson_arr_iter it = yyjson_arr_iter_with(veil);
	for (yyjson_val *key; (key = yyjson_arr_iter_next(&it));)
		yyjson_mut_obj_remove_key(yyjson_mut_obj_get(meta, "labels"), yyjson_get_str(key) ?: "");
	rc = create_pod(k, m, doc, e);
	return is_namespace_going(rc, e) ? end_with_namespace(k, m, e) : rc;
}

static int unveil(struct gw_kube *k, const struct gw_migration *m, const struct ctrl_view *v, struct gw_err *e)
{
	char path[700];
	yyjson_val *kept = status_of(v, "successor");
	gw_auto(jmut) yyjson_mut_doc *patch = ctrl_adoption(kept);
	ctrl_pod_path(m->namespace, m->pod, path, sizeof(path));
	int rc = gw_kube_patch(k, path, GW_PATCH_MERGE, patch, NULL, e);
	return rc == -ENOENT ? 0 : rc;
}

static int placed(struct gw_kube *k, const struct gw_migration *m, const struct ctrl_view *v, struct gw_err *e)
{
	char name[GW_K8S_NAME];
	ctrl_target_name(m, "m", name);
	int rc = strcmp(m->method, "SameName") != 0 ? ctrl_veil_pod(k, m, root_of(v->source), name, e) : 0;
	if (rc < 0)
		return rc;
	yyjson_mut_doc *doc = phase_doc("PreCopy");
	put_target(doc, v);
	return gw_migration_patch_status(k, m, doc, e);
}

static int adopt(struct gw_kube *k, const struct gw_migration *m, struct ctrl_view *v, struct gw_err *e)
{
	char path[700], name[GW_K8S_NAME];
	gw_auto(jmut) yyjson_mut_doc *cost = gw_status_new();
	yyjson_mut_val *meta = yyjson_mut_obj(cost), *notes = yyjson_mut_obj(cost);
	/* ReplicaSets delete the pod of the lowest cost first. */
	yyjson_mut_obj_add_str(cost, notes, "controller.kubernetes.io/pod-deletion-cost", "-2147483647");
	yyjson_mut_obj_add_val(cost, meta, "annotations", notes);
	yyjson_mut_obj_add_val(cost, yyjson_mut_doc_get_root(cost), "metadata", meta);
	ctrl_pod_path(m->namespace, m->pod, path, sizeof(path));
	int rc = gw_kube_patch(k, path, GW_PATCH_MERGE, cost, NULL, e);
	if (rc < 0)
		return rc;
	gw_auto(jmut) yyjson_mut_doc *patch = ctrl_adoption(root_of(v->source));
	ctrl_target_name(m, "m", name);
	ctrl_pod_path(m->namespace, name, path, sizeof(path));
	return gw_kube_patch(k, path, GW_PATCH_MERGE, patch, NULL, e);
}

static int source_gone(struct gw_kube *k, const struct gw_migration *m, const struct ctrl_view *v, struct gw_err *e)
{
	int rc = ctrl_leases_put(k, m, v, e);
	if (rc == 0 && v->seen.source.exists)
		rc = ctrl_strip_source(k, m, root_of(v->source), e);
	if (rc < 0)
		return rc;
	yyjson_mut_doc *doc = gw_status_new();
	yyjson_mut_val *source = yyjson_mut_obj(doc);
	yyjson_mut_obj_add_bool(doc, source, "gone", true);
	yyjson_mut_obj_add_val(doc, yyjson_mut_doc_get_root(doc), "source", source);
	return gw_migration_patch_status(k, m, doc, e);
}

static int evict(struct gw_kube *k, const struct gw_migration *m, const char *uid, struct gw_err *e)
{
	char path[700];
	gw_auto(jmut) yyjson_mut_doc *doc = gw_status_new();
	yyjson_mut_val *o = yyjson_mut_doc_get_root(doc), *meta = yyjson_mut_obj(doc);
	yyjson_mut_obj_add_str(doc, o, "apiVersion", "policy/v1");
	yyjson_mut_obj_add_str(doc, o, "kind", "Eviction");
	yyjson_mut_obj_add_strcpy(doc, meta, "name", m->pod);
	yyjson_mut_obj_add_strcpy(doc, meta, "namespace", m->namespace);
	yyjson_mut_obj_add_val(doc, o, "metadata", meta);
	yyjson_mut_val *options = yyjson_mut_obj(doc), *only = yyjson_mut_obj(doc);
	yyjson_mut_obj_add_strcpy(doc, only, "uid", uid);
	yyjson_mut_obj_add_val(doc, options, "preconditions", only);
	yyjson_mut_obj_add_val(doc, o, "deleteOptions", options);
	(void)snprintf(path, sizeof(path), "/api/v1/namespaces/%s/pods/%s/eviction", m->namespace, m->pod);
	gw_kube_patience(k, false); /* others are waiting */
	int rc = gw_kube_create(k, path, doc, NULL, e);
	gw_kube_patience(k, true);
	if (rc == -EBUSY) { /* a disruption budget: later */
		gw_info("eviction has to wait", kv_str("name", m->name), kv_str("reason", e->text));
		return 1;
	}
	return rc == -ENOENT || rc == -ESTALE ? 0 : rc; /* gone, or another one */
}

/* A pod of the same name whose hand-over failed: the object is the target's, the
 * process ends with kubelet's next kill. The name starts from nothing, as it
 * would have after a deletion. */
static int start_anew(struct gw_kube *k, const struct gw_migration *m, struct ctrl_view *v, struct gw_err *e)
{
	yyjson_val *kept = status_of(v, "successor") ?: root_of(v->target);
	bool owned = yyjson_obj_get(yyjson_obj_get(kept, "metadata"), "ownerReferences");
	gw_auto(jmut) yyjson_mut_doc *plain = owned ? NULL : ctrl_plain(m, kept);
	int rc = delete_pod(k, m, m->pod, v->seen.target.uid, 0, e);
	if (rc == 0 && plain)
		rc = create_pod(k, m, gw_take(plain), e);
	return is_namespace_going(rc, e) ? 0 : rc;
}

static int clean(struct gw_kube *k, const struct gw_migration *m, struct ctrl_view *v, struct gw_err *e)
{
	char name[GW_K8S_NAME];
	int rc = 0;
	bool same = !strcmp(m->method, "SameName");
	if (m->method[0]) {
		ctrl_target_name(m, same ? "p" : "m", name);
		rc = delete_pod(k, m, name, NULL, 0, e);
	}
	if (rc == 0 && same && v->target && !strcmp(v->seen.target.migration, m->uid) &&
	    !strcmp(gw_json_str(yyjson_obj_get(root_of(v->target), "metadata"), "name", ""), m->pod))
		rc = start_anew(k, m, v, e);
	if (rc == 0 && m->fallback_evict && v->seen.source.exists && !strcmp(m->phase, "Failed"))
		rc = evict(k, m, v->seen.source.uid, e);
	bool left = false;
	if (rc == 0 && same)
		rc = ctrl_unmirror(k, m, !v->seen.source.exists || v->seen.phase_age_s > MIRROR_FOR_S, &left, e);
	if (rc == 0 && left)
		return 1;
	if (rc == 0) /* how many requests it took */
		rc = gw_migration_patch_status(k, m, gw_status_new(), e);
	return rc != 0 ? rc : finalizers(k, m, false, e);
}

static int ask_target(struct gw_kube *k, const struct gw_migration *m, const struct ctrl_plan *p, struct gw_err *e)
{
	yyjson_mut_doc *doc = gw_status_new();
	yyjson_mut_val *o = yyjson_mut_doc_get_root(doc), *source = yyjson_mut_obj(doc);
	if (p->action == CTRL_ASK_TARGET)
		yyjson_mut_obj_add_bool(doc, source, "lost", true);
	yyjson_mut_obj_add_val(doc, o, "source", source);
	yyjson_mut_obj_add_strcpy(doc, o, "reason", p->reason);
	yyjson_mut_obj_add_strcpy(doc, o, "message", p->words);
	return gw_migration_patch_status(k, m, doc, e);
}

static int succeed(struct gw_kube *k, const struct gw_migration *m, const struct ctrl_view *v, struct gw_err *e)
{
	yyjson_mut_doc *doc = gw_migration_phase_doc("Succeeded", NULL, NULL);
	put_target(doc, v);
	return gw_migration_patch_status(k, m, doc, e);
}

static int choose(struct gw_kube *k, const struct gw_migration *m, const struct ctrl_view *v, struct gw_err *e)
{
	yyjson_mut_doc *doc = gw_status_new();
	yyjson_mut_val *source = yyjson_mut_obj(doc);
	yyjson_mut_obj_add_strcpy(doc, source, "pod", v->seen.chosen);
	yyjson_mut_obj_add_val(doc, yyjson_mut_doc_get_root(doc), "source", source);
	return gw_migration_patch_status(k, m, doc, e);
}

static int unfinalize(struct gw_kube *k, const struct gw_migration *m, const struct ctrl_view *v, struct gw_err *e)
{
	bool left = false;
	int rc = 0;
	if (!strcmp(m->method, "SameName"))
		rc = ctrl_unmirror(k, m, v->seen.phase_age_s > MIRROR_FOR_S, &left, e);
	if (rc == 0 && left)
		return 1;
	return rc < 0 ? rc : finalizers(k, m, false, e);
}

int ctrl_act(struct gw_kube *k, const struct gw_migration *m, struct ctrl_view *v, const struct ctrl_plan *p,
             uint16_t port, struct gw_err *e)
{
	switch (p->action) {
	case CTRL_NOTHING: return 0;
	case CTRL_FINALIZE: return finalizers(k, m, true, e);
	case CTRL_FAIL: return gw_migration_phase(k, m, "Failed", p->reason, p->words, e);
	case CTRL_CANCELLED: return gw_migration_phase(k, m, "Cancelled", "Cancelled", "cancelled", e);
	case CTRL_CHOOSE: return choose(k, m, v, e);
	case CTRL_QUEUE: return gw_migration_phase(k, m, "Pending", p->reason, p->words, e);
	case CTRL_RESOLVE: return resolve(k, m, v, port, e);
	case CTRL_MAKE_TARGET: return make_target(k, m, v, e);
	case CTRL_PLACED: return placed(k, m, v, e);
	case CTRL_ABORT: return abort_it(k, m, p, e);
	case CTRL_ASK_TARGET:
	case CTRL_TELL: return ask_target(k, m, p, e);
	case CTRL_HAND_OVER: return hand_over(k, m, v, e);
	case CTRL_ADOPT: return adopt(k, m, v, e);
	case CTRL_DELETE_SOURCE: return delete_pod(k, m, m->pod, m->source_uid, -1, e);
	case CTRL_JOB_NOTE: return ctrl_job_note(k, m, v, e);
	case CTRL_JOB_WAIT: return ctrl_job_policy(k, m, "Failed", e);
	case CTRL_JOB_LEAVE: return ctrl_job_leave(k, m, v, e);
	case CTRL_JOB_ADOPT: return ctrl_job_adopt(k, m, v, e);
	case CTRL_JOB_FREE: return ctrl_job_policy(k, m, m->job_policy, e);
	case CTRL_SOURCE_GONE: return source_gone(k, m, v, e);
	case CTRL_SUCCEED: return succeed(k, m, v, e);
	case CTRL_CLEAN: return clean(k, m, v, e);
	case CTRL_UNFINALIZE: return unfinalize(k, m, v, e);
	case CTRL_UNVEIL: return unveil(k, m, v, e);
	}
	return 0;
}
