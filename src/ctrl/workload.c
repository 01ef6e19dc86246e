#include "ctrl/workload.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/scope.h"

enum { SELECTOR_BYTES = 1500 };

static const struct {
	const char *words; /* one space around each */
	const char *group, *plural;
} kinds[] = {
        {" deployment deployments deploy ", "apps", "deployments"},
        {" statefulset statefulsets sts ", "apps", "statefulsets"},
        {" replicaset replicasets rs ", "apps", "replicasets"},
        {" job jobs ", "batch", "jobs"},
};

static bool add(char *out, size_t size, size_t *n, const char *text)
{
	size_t len = strlen(text);
	if (*n + len >= size)
		return false;
	memcpy(out + *n, text, len + 1);
	*n += len;
	return true;
}

/* "key in (a,b)" and its like; names of labels need no more encoding than this. */
static bool add_expression(yyjson_val *x, char *out, size_t size, size_t *n)
{
	const char *op = gw_json_str(x, "operator", ""), *key = gw_json_str(x, "key", "");
	bool in = !strcmp(op, "In"), not_in = !strcmp(op, "NotIn"), absent = !strcmp(op, "DoesNotExist");
	if (!*key || (!in && !not_in && !absent && strcmp(op, "Exists") != 0))
		return false;
	if (!add(out, size, n, absent ? "%21" : "") || !add(out, size, n, key))
		return false;
	if (!in && !not_in)
		return true;
	if (!add(out, size, n, in ? "%20in%20%28" : "%20notin%20%28"))
		return false;
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(x, "values"));
	bool first = true;
	for (yyjson_val *v; (v = yyjson_arr_iter_next(&it)); first = false)
		if (!add(out, size, n, first ? "" : "%2C") || !add(out, size, n, yyjson_get_str(v) ?: ""))
			return false;
	return add(out, size, n, "%29");
}

bool ctrl_selector(yyjson_val *selector, char *out, size_t size)
{
	size_t n = 0;
	out[0] = 0;
	yyjson_obj_iter it = yyjson_obj_iter_with(yyjson_obj_get(selector, "matchLabels"));
	for (yyjson_val *k; (k = yyjson_obj_iter_next(&it));)
		if (!add(out, size, &n, n ? "%2C" : "") || !add(out, size, &n, yyjson_get_str(k) ?: "") ||
		    !add(out, size, &n, "%3D") || !add(out, size, &n, yyjson_get_str(yyjson_obj_iter_get_val(k)) ?: ""))
			return false;
	yyjson_arr_iter xs = yyjson_arr_iter_with(yyjson_obj_get(selector, "matchExpressions"));
	for (yyjson_val *x; (x = yyjson_arr_iter_next(&xs));)
		if (!add(out, size, &n, n ? "%2C" : "") || !add_expression(x, out, size, &n))
			return false;
	return n > 0;
}

/* One that its controller counts; a clone that is being filled has none yet. */
static bool counts(yyjson_val *pod)
{
	yyjson_val *meta = yyjson_obj_get(pod, "metadata");
	if (strcmp(gw_json_str(yyjson_obj_get(pod, "status"), "phase", ""), "Running") != 0 ||
	    yyjson_obj_get(meta, "deletionTimestamp"))
		return false;
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(meta, "ownerReferences"));
	for (yyjson_val *o; (o = yyjson_arr_iter_next(&it));)
		if (gw_json_bool(o, "controller", false))
			return true;
	return false;
}

static int only_pod(struct gw_kube *k, const struct gw_migration *m, yyjson_val *workload, char pod[GW_K8S_NAME],
                    unsigned *running, struct gw_err *e)
{
	char path[2048], selector[SELECTOR_BYTES];
	gw_auto(jdoc) yyjson_doc *pods = NULL;
	*running = 0;
	if (!ctrl_selector(yyjson_obj_get(yyjson_obj_get(workload, "spec"), "selector"), selector, sizeof(selector)))
		return 0;
	(void)snprintf(path, sizeof(path), "/api/v1/namespaces/%s/pods?labelSelector=%s", m->namespace, selector);
	int rc = gw_kube_get(k, path, &pods, e);
	if (rc < 0)
		return rc;
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(yyjson_doc_get_root(pods), "items"));
	for (yyjson_val *v; (v = yyjson_arr_iter_next(&it));) {
		if (!counts(v))
			continue;
		(void)snprintf(pod, GW_K8S_NAME, "%s", gw_json_str(yyjson_obj_get(v, "metadata"), "name", ""));
		(*running)++;
	}
	if (*running != 1)
		pod[0] = 0;
	return 0;
}

int ctrl_find_pod(struct gw_kube *k, const struct gw_migration *m, char pod[GW_K8S_NAME], const char **reason,
                  char *words, size_t size, struct gw_err *e)
{
	char word[80], path[700] = "";
	const char *slash = strchr(m->workload, '/');
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	struct gw_err mine;
	unsigned running;
	pod[0] = 0;
	(void)snprintf(word, sizeof(word), " %.*s ", slash ? (int)(slash - m->workload) : 0, m->workload);
	for (size_t i = 0; i < gw_countof(kinds) && slash; i++)
		if (strcasestr(kinds[i].words, word))
			(void)snprintf(path, sizeof(path), "/apis/%s/v1/namespaces/%s/%s/%s", kinds[i].group,
			               m->namespace, kinds[i].plural, slash + 1);
	*reason = "UnknownKind";
	(void)snprintf(words, size, "%s: spec.target is Deployment, StatefulSet, ReplicaSet or Job, a slash and a name",
	               m->workload);
	if (!path[0])
		return 0;
	int rc = gw_kube_get(k, path, &doc, &mine);
	if (rc == -ENOENT) {
		*reason = "NoSuchWorkload";
		(void)snprintf(words, size, "there is no %s in this namespace", m->workload);
		return 0;
	}
	if (rc < 0)
		return *e = mine, rc;
	rc = only_pod(k, m, yyjson_doc_get_root(doc), pod, &running, e);
	if (rc < 0 || pod[0])
		return rc;
	*reason = running ? "WhichPod" : "NoSuchPod";
	(void)snprintf(words, size, "%u pods of %s are running%s", running, m->workload,
	               running ? ": name the one to move (spec.podName)" : "");
	return 0;
}
