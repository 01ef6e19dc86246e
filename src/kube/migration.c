#include "kube/migration.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/scope.h"

#define COPY(to, from) (void)snprintf(to, sizeof(to), "%s", from)

int64_t gw_k8s_time(const char *text)
{
	struct tm tm = {0};
	return strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) ? (int64_t)timegm(&tm) : 0;
}

void gw_k8s_now(char out[32])
{
	time_t now = time(NULL);
	struct tm tm;
	(void)strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
}

void gw_k8s_now_us(char out[64])
{
	struct timespec t;
	struct tm tm;
	char sec[32];
	clock_gettime(CLOCK_REALTIME, &t);
	(void)strftime(sec, sizeof(sec), "%Y-%m-%dT%H:%M:%S", gmtime_r(&t.tv_sec, &tm));
	(void)snprintf(out, 64, "%s.%06ldZ", sec, t.tv_nsec / 1000);
}

static void parse_meta(yyjson_val *meta, struct gw_migration *m)
{
	COPY(m->namespace, gw_json_str(meta, "namespace", ""));
	COPY(m->name, gw_json_str(meta, "name", ""));
	COPY(m->uid, gw_json_str(meta, "uid", ""));
	m->deleting = yyjson_obj_get(meta, "deletionTimestamp") != NULL;
	m->created_s = gw_k8s_time(gw_json_str(meta, "creationTimestamp", ""));
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(meta, "finalizers"));
	for (yyjson_val *v; (v = yyjson_arr_iter_next(&it));)
		m->finalized |= yyjson_equals_str(v, GW_FINALIZER);
}

static void parse_spec(yyjson_val *spec, struct gw_migration *m)
{
	yyjson_val *o = yyjson_obj_get(spec, "options");
	COPY(m->pod, gw_json_str(spec, "podName", ""));
	COPY(m->workload, gw_json_str(spec, "target", ""));
	COPY(m->to, gw_json_str(spec, "to", ""));
	m->cancel = gw_json_bool(spec, "cancel", false);
	m->check_only = gw_json_bool(spec, "checkOnly", false);
	m->fallback_evict = !strcmp(gw_json_str(spec, "fallback", ""), "Evict");
	m->max_freeze_ms = gw_json_u64(o, "maxFreezeMs", 0);
	m->want_freeze_ms = gw_json_u64(o, "wantFreezeMs", 0);
	m->bandwidth = gw_json_u64(o, "bandwidth", 0);
	m->timeout_s = gw_json_u64(o, "timeoutSeconds", 0);
	m->throttle = gw_json_bool(o, "throttle", false);
	m->zstd = gw_json_bool(o, "zstd", false);
}

static void parse_status(yyjson_val *status, struct gw_migration *m)
{
	yyjson_val *source = yyjson_obj_get(status, "source"), *target = yyjson_obj_get(status, "target");
	COPY(m->phase, gw_json_str(status, "phase", ""));
	COPY(m->reason, gw_json_str(status, "reason", ""));
	COPY(m->method, gw_json_str(status, "method", ""));
	if (!m->pod[0])
		COPY(m->pod, gw_json_str(source, "pod", ""));
	COPY(m->source_uid, gw_json_str(source, "podUID", ""));
	COPY(m->source_node, gw_json_str(source, "node", ""));
	COPY(m->source_address, gw_json_str(source, "address", ""));
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(source, "containers"));
	for (yyjson_val *c; m->ncontainers < GW_CONTAINERS_MAX && (c = yyjson_arr_iter_next(&it));) {
		struct gw_k8s_container *to = &m->containers[m->ncontainers++];
		COPY(to->name, gw_json_str(c, "name", ""));
		COPY(to->id, gw_json_str(c, "id", ""));
	}
	m->source_gone = gw_json_bool(source, "gone", false);
	m->source_lost = gw_json_bool(source, "lost", false);
	COPY(m->target_pod, gw_json_str(target, "pod", ""));
	COPY(m->target_uid, gw_json_str(target, "podUID", ""));
	COPY(m->target_node, gw_json_str(target, "node", ""));
	COPY(m->target_address, gw_json_str(target, "address", ""));
	yyjson_val *job = yyjson_obj_get(status, "job");
	COPY(m->job, gw_json_str(job, "name", ""));
	COPY(m->job_policy, gw_json_str(job, "podReplacementPolicy", ""));
	yyjson_val *asked = yyjson_obj_get(status, "requests");
	m->asked_controller = gw_json_u64(asked, GW_BY_CONTROLLER, 0);
	m->asked_agents = gw_json_u64(asked, GW_BY_AGENTS, 0);
	yyjson_val *result = yyjson_obj_get(status, "result");
	m->freeze_us = gw_json_u64(result, "freezeUs", 0);
	m->sent_bytes = gw_json_u64(result, "sentBytes", 0);
	m->abort = gw_json_bool(status, "abort", false);
	m->checked = gw_json_str(status, "network", "")[0] != 0;
}

void gw_migration_parse(yyjson_val *object, struct gw_migration *out)
{
	*out = (struct gw_migration){0};
	parse_meta(yyjson_obj_get(object, "metadata"), out);
	parse_spec(yyjson_obj_get(object, "spec"), out);
	parse_status(yyjson_obj_get(object, "status"), out);
}

void gw_migration_path(const struct gw_migration *m, const char *sub, char *out, size_t size)
{
	(void)snprintf(out, size, "/apis/godwit.dev/v1alpha1/namespaces/%s/migrations/%s%s", m->namespace, m->name,
	               sub);
}

static bool one_of(const char *phase, const char *const *list)
{
	for (; *list; list++)
		if (!strcmp(phase, *list))
			return true;
	return false;
}

bool gw_migration_over(const struct gw_migration *m)
{
	static const char *const ends[] = {"Succeeded", "Failed", "Cancelled", NULL};
	return one_of(m->phase, ends);
}

bool gw_migration_committed(const struct gw_migration *m)
{
	static const char *const after[] = {"Committed", "Succeeded", NULL};
	return one_of(m->phase, after);
}

yyjson_mut_doc *gw_status_new(void)
{
	yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_doc_set_root(doc, yyjson_mut_obj(doc));
	return doc;
}

/* How many requests it has taken, the one that says so included. */
static void put_requests(struct gw_kube *k, const struct gw_migration *m, yyjson_mut_doc *doc, yyjson_mut_val *s)
{
	const char *who = NULL, *phase = yyjson_mut_get_str(yyjson_mut_obj_get(s, "phase"));
	uint64_t spent = gw_kube_spent(k, &who) + 1;
	if (!who)
		return;
	yyjson_mut_val *o = yyjson_mut_obj(doc);
	yyjson_mut_obj_add_uint(doc, o, who, spent);
	yyjson_mut_obj_add_val(doc, s, "requests", o);
	struct gw_migration then = *m;
	if (phase)
		COPY(then.phase, phase);
	if (strcmp(who, GW_BY_CONTROLLER) != 0 || !gw_migration_over(&then))
		return;
	yyjson_mut_val *result = yyjson_mut_obj_get(s, "result");
	if (!result) {
		result = yyjson_mut_obj(doc);
		yyjson_mut_obj_add_val(doc, s, "result", result);
	}
	yyjson_mut_obj_add_uint(doc, result, "apiRequests", spent + m->asked_agents);
}

int gw_migration_patch_status(struct gw_kube *k, const struct gw_migration *m, yyjson_mut_doc *status, struct gw_err *e)
{
	char path[700];
	gw_auto(jmut) yyjson_mut_doc *doc = status;
	yyjson_mut_val *root = yyjson_mut_obj(doc), *s = yyjson_mut_doc_get_root(doc);
	put_requests(k, m, doc, s);
	if (yyjson_mut_obj_get(s, "phase")) {
		char now[32];
		gw_k8s_now(now);
		yyjson_mut_obj_add_strcpy(doc, s, "phaseSince", now);
	}
	yyjson_mut_obj_add_val(doc, root, "status", s);
	yyjson_mut_doc_set_root(doc, root);
	gw_migration_path(m, "/status", path, sizeof(path));
	return gw_kube_patch(k, path, GW_PATCH_MERGE, doc, NULL, e);
}

yyjson_mut_doc *gw_migration_phase_doc(const char *phase, const char *reason, const char *message)
{
	char now[32];
	yyjson_mut_doc *doc = gw_status_new();
	yyjson_mut_val *o = yyjson_mut_doc_get_root(doc);
	struct gw_migration then = {.deleting = false};
	COPY(then.phase, phase);
	yyjson_mut_obj_add_strcpy(doc, o, "phase", phase);
	yyjson_mut_obj_add_strcpy(doc, o, "reason", reason ?: "");
	yyjson_mut_obj_add_strcpy(doc, o, "message", message ?: "");
	gw_k8s_now(now);
	if (gw_migration_over(&then))
		yyjson_mut_obj_add_strcpy(doc, o, "completionTime", now);
	return doc;
}

int gw_migration_phase(struct gw_kube *k, const struct gw_migration *m, const char *phase, const char *reason,
                       const char *message, struct gw_err *e)
{
	return gw_migration_patch_status(k, m, gw_migration_phase_doc(phase, reason, message), e);
}
