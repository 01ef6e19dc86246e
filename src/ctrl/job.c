#include "ctrl/job.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/scope.h"
#include "ctrl/target.h"

static yyjson_val *root_of(yyjson_doc *d)
{
	return d ? yyjson_doc_get_root(d) : NULL;
}

static void job_path(const struct gw_migration *m, const char *name, char *out, size_t size)
{
	(void)snprintf(out, size, "/apis/batch/v1/namespaces/%s/jobs/%s", m->namespace, name);
}

static const char *owner_name(yyjson_val *pod)
{
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(yyjson_obj_get(pod, "metadata"), "ownerReferences"));
	for (yyjson_val *o; (o = yyjson_arr_iter_next(&it));)
		if (gw_json_bool(o, "controller", false) && !strcmp(gw_json_str(o, "kind", ""), "Job"))
			return gw_json_str(o, "name", "");
	return "";
}

int ctrl_job_look(struct gw_kube *k, const struct gw_migration *m, struct ctrl_view *v, struct gw_err *e)
{
	char path[700];
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	const char *name = m->job[0] ? m->job : owner_name(root_of(v->source));
	if (!*name)
		return 0;
	v->seen.of_job = true;
	job_path(m, name, path, sizeof(path));
	int rc = ctrl_cluster_get(v->cluster, k, m->uid, path, &doc, e);
	if (rc < 0)
		return rc;
	/* What is not there any more makes no other pod. */
	const char *policy = gw_json_str(yyjson_obj_get(root_of(doc), "spec"), "podReplacementPolicy",
	                                 doc ? "TerminatingOrFailed" : "Failed");
	(void)snprintf(v->seen.job_policy, sizeof(v->seen.job_policy), "%s", policy);
	return 0;
}

int ctrl_job_note(struct gw_kube *k, const struct gw_migration *m, const struct ctrl_view *v, struct gw_err *e)
{
	yyjson_mut_doc *doc = gw_status_new();
	yyjson_mut_val *job = yyjson_mut_obj(doc), *finalizers = yyjson_mut_arr(doc);
	gw_auto(jmut) yyjson_mut_doc *adoption = ctrl_adoption(root_of(v->source));
	yyjson_mut_val *successor = yyjson_mut_val_mut_copy(doc, yyjson_mut_doc_get_root(adoption));
	yyjson_mut_arr_add_str(doc, finalizers, CTRL_JOB_FINALIZER);
	yyjson_mut_obj_add_val(doc, yyjson_mut_obj_get(successor, "metadata"), "finalizers", finalizers);
	yyjson_mut_obj_add_strcpy(doc, job, "name", owner_name(root_of(v->source)));
	yyjson_mut_obj_add_strcpy(doc, job, "podReplacementPolicy", v->seen.job_policy);
	yyjson_mut_obj_add_val(doc, yyjson_mut_doc_get_root(doc), "job", job);
	yyjson_mut_obj_add_val(doc, yyjson_mut_doc_get_root(doc), "successor", successor);
	return gw_migration_patch_status(k, m, doc, e);
}

int ctrl_job_policy(struct gw_kube *k, const struct gw_migration *m, const char *policy, struct gw_err *e)
{
	char path[700];
	gw_auto(jmut) yyjson_mut_doc *doc = gw_status_new();
	yyjson_mut_val *spec = yyjson_mut_obj(doc);
	yyjson_mut_obj_add_str(doc, spec, "podReplacementPolicy", policy);
	yyjson_mut_obj_add_val(doc, yyjson_mut_doc_get_root(doc), "spec", spec);
	job_path(m, m->job, path, sizeof(path));
	int rc = gw_kube_patch(k, path, GW_PATCH_MERGE, doc, NULL, e);
	return rc == -ENOENT ? 0 : rc;
}

static int drop_finalizer(struct gw_kube *k, const char *path, yyjson_val *pod, struct gw_err *e)
{
	gw_auto(jmut) yyjson_mut_doc *doc = gw_status_new();
	yyjson_mut_val *meta = yyjson_mut_obj(doc), *left = yyjson_mut_arr(doc);
	yyjson_val *old = yyjson_obj_get(pod, "metadata");
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(old, "finalizers"));
	bool has = false;
	for (yyjson_val *f; (f = yyjson_arr_iter_next(&it));) {
		bool that = yyjson_equals_str(f, CTRL_JOB_FINALIZER);
		has |= that;
		if (!that)
			yyjson_mut_arr_add_strcpy(doc, left, yyjson_get_str(f) ?: "");
	}
	if (!has)
		return 0;
	yyjson_mut_obj_add_val(doc, meta, "finalizers", left);
	/* Finalizers are a list without keys: somebody else's change makes it a Conflict. */
	yyjson_mut_obj_add_strcpy(doc, meta, "resourceVersion", gw_json_str(old, "resourceVersion", ""));
	yyjson_mut_obj_add_val(doc, yyjson_mut_doc_get_root(doc), "metadata", meta);
	return gw_kube_patch(k, path, GW_PATCH_MERGE, doc, NULL, e);
}

int ctrl_job_leave(struct gw_kube *k, const struct gw_migration *m, const struct ctrl_view *v, struct gw_err *e)
{
	char path[700];
	ctrl_pod_path(m->namespace, m->pod, path, sizeof(path));
	int rc = drop_finalizer(k, path, root_of(v->source), e);
	if (rc == 0)
		rc = gw_kube_delete(k, path, m->source_uid, -1, e);
	return rc == -ENOENT ? 0 : rc;
}

int ctrl_job_adopt(struct gw_kube *k, const struct gw_migration *m, const struct ctrl_view *v, struct gw_err *e)
{
	char path[700], name[GW_K8S_NAME];
	gw_auto(jmut) yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_val *kept = yyjson_obj_get(yyjson_obj_get(root_of(v->migration), "status"), "successor");
	yyjson_mut_doc_set_root(doc, yyjson_val_mut_copy(doc, kept));
	ctrl_target_name(m, "m", name);
	ctrl_pod_path(m->namespace, name, path, sizeof(path));
	int rc = gw_kube_patch(k, path, GW_PATCH_MERGE, doc, NULL, e);
	return rc == -ENOENT ? 0 : rc;
}
