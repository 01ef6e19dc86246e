/* verbs: migrate, check, status, cancel, nodes. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/scope.h"
#include "kube/follow.h"
#include "plugin.h"

yyjson_val *plugin_status(yyjson_doc *migration)
{
	return yyjson_obj_get(yyjson_doc_get_root(migration), "status");
}

static void print_json(yyjson_val *v)
{
	gw_auto(mem) char *text = yyjson_val_write(v, YYJSON_WRITE_PRETTY, NULL);
	(void)puts(text ? text : "{}");
}

/* ---- making one and seeing it through ---- */

int plugin_make(struct plugin *p, const char *ns, const char *what, const char *to, bool check_only,
                struct gw_migration *out, struct gw_err *e)
{
	char path[400], prefix[GW_K8S_NAME];
	gw_auto(jmut) yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	gw_auto(jdoc) yyjson_doc *made = NULL;
	yyjson_mut_val *o = yyjson_mut_obj(doc), *meta = yyjson_mut_obj(doc);
	yyjson_mut_val *spec = yyjson_mut_val_mut_copy(doc, yyjson_mut_doc_get_root(p->options));
	yyjson_mut_doc_set_root(doc, o);
	const char *slash = strchr(what, '/');
	bool pod = !slash || !strncmp(what, "pod/", 4) || !strncmp(what, "pods/", 5) || !strncmp(what, "po/", 3);
	(void)snprintf(prefix, sizeof(prefix), "%.240s-", slash ? slash + 1 : what);
	yyjson_mut_obj_add_str(doc, o, "apiVersion", "godwit.dev/v1alpha1");
	yyjson_mut_obj_add_str(doc, o, "kind", "Migration");
	yyjson_mut_obj_add_str(doc, meta, "generateName", prefix);
	yyjson_mut_obj_add_str(doc, spec, pod ? "podName" : "target", pod && slash ? slash + 1 : what);
	yyjson_mut_obj_add_str(doc, spec, "to", to);
	if (check_only)
		yyjson_mut_obj_add_bool(doc, spec, "checkOnly", true);
	yyjson_mut_obj_add_val(doc, o, "metadata", meta);
	yyjson_mut_obj_add_val(doc, o, "spec", spec);
	(void)snprintf(path, sizeof(path), "/apis/godwit.dev/v1alpha1/namespaces/%s/migrations", ns);
	int rc = gw_kube_create(p->k, path, doc, &made, e);
	if (rc == -ENOENT)
		return gw_fail_code(e, GW_INPUT, "NotInstalled",
		                    "the cluster knows no Migrations: install godwit (kubectl apply -f deploy/)");
	if (rc == 0)
		gw_migration_parse(yyjson_doc_get_root(made), out);
	return rc;
}

static void show_line(const struct gw_migration *m, yyjson_val *status, bool last)
{
	yyjson_val *g = yyjson_obj_get(status, "progress"), *r = yyjson_obj_get(status, "result");
	bool tty = isatty(STDERR_FILENO);
	(void)fprintf(stderr, "%s%-10s %s", tty ? "\r\033[K" : "", m->phase[0] ? m->phase : "Pending",
	              m->pod[0] ? m->pod : m->workload);
	if (g)
		(void)fprintf(stderr, "  round %" PRIu64 ", %.1f MiB sent, freeze of %" PRIu64 " ms predicted",
		              gw_json_u64(g, "rounds", 0), (double)gw_json_u64(g, "sentBytes", 0) / 1048576,
		              gw_json_u64(g, "predictedFreezeMs", 0));
	if (yyjson_obj_get(r, "freezeMs"))
		(void)fprintf(stderr, "  frozen for %" PRIu64 " ms", gw_json_u64(r, "freezeMs", 0));
	if (!tty || last)
		(void)fputc('\n', stderr);
}

struct waiting {
	const struct gw_migration *m;
	bool show, seen;
	char shown[16];
	uint64_t rounds;
	int done_fd; /* eventfd */
	yyjson_doc *end;
	struct gw_err e;
	int rc;
};

static void stop_waiting(struct waiting *w)
{
	uint64_t one = 1;
	(void)!write(w->done_fd, &one, sizeof(one));
}

static void on_state(struct waiting *w, yyjson_val *object)
{
	struct gw_migration s;
	gw_migration_parse(object, &s);
	yyjson_val *status = yyjson_obj_get(object, "status");
	uint64_t rounds = gw_json_u64(yyjson_obj_get(status, "progress"), "rounds", 0);
	bool over = gw_migration_over(&s);
	if (w->end)
		return;
	if (w->show && (!w->seen || strcmp(w->shown, s.phase) != 0 || rounds != w->rounds))
		show_line(&s, status, over);
	w->seen = true;
	(void)snprintf(w->shown, sizeof(w->shown), "%s", s.phase);
	w->rounds = rounds;
	if (!over)
		return;
	gw_auto(jmut) yyjson_mut_doc *copy = yyjson_mut_doc_new(NULL);
	yyjson_mut_doc_set_root(copy, yyjson_val_mut_copy(copy, object));
	w->end = yyjson_mut_doc_imut_copy(copy, NULL);
	stop_waiting(w);
}

static void on_told(void *arg, enum gw_follow_what what, yyjson_val *object)
{
	struct waiting *w = arg;
	if (what == GW_FOLLOW_LISTING)
		w->seen = false;
	if (object && what != GW_FOLLOW_DELETED) {
		on_state(w, object);
		return;
	}
	if (w->end || (what != GW_FOLLOW_DELETED && (what != GW_FOLLOW_SYNCED || w->seen)))
		return;
	w->rc = gw_fail_code(&w->e, GW_INPUT, "NotFound", "migration %s was deleted", w->m->name);
	stop_waiting(w);
}

/* What asking again does not mend. */
static bool on_failure(void *arg, const struct gw_err *why)
{
	struct waiting *w = arg;
	if (why->err != EACCES && why->err != ENOENT && why->err != EINVAL)
		return false;
	w->e = *why;
	w->rc = -why->err;
	return true;
}

int plugin_wait(struct plugin *p, const struct gw_migration *m, bool show, yyjson_doc **doc, struct gw_err *e)
{
	char path[400], selector[GW_K8S_NAME + 40];
	struct waiting w = {.m = m, .show = show, .shown = "-", .done_fd = eventfd(0, EFD_CLOEXEC)};
	if (w.done_fd < 0)
		return gw_fail(e, GW_SYS, errno, "wait for migration %s", m->name);
	(void)snprintf(path, sizeof(path), "/apis/godwit.dev/v1alpha1/namespaces/%s/migrations", m->namespace);
	(void)snprintf(selector, sizeof(selector), "fieldSelector=metadata.name%%3D%s", m->name);
	const struct gw_follow f = {.path = path,
	                            .selector = selector,
	                            .stop_fd = w.done_fd,
	                            .fn = on_told,
	                            .failed = on_failure,
	                            .ctx = &w};
	gw_kube_follow(p->k, &f);
	(void)close(w.done_fd);
	*doc = w.end;
	if (w.rc < 0)
		*e = w.e;
	return w.rc;
}

static int tell_end(struct plugin *p, yyjson_doc *doc)
{
	struct gw_migration end;
	gw_migration_parse(yyjson_doc_get_root(doc), &end);
	const char *pod = end.pod[0] ? end.pod : end.workload;
	yyjson_val *s = plugin_status(doc), *source = yyjson_obj_get(s, "source"),
	           *target = yyjson_obj_get(s, "target");
	const char *phase = gw_json_str(s, "phase", "");
	bool ok = !strcmp(phase, "Succeeded");
	if (p->json)
		print_json(yyjson_doc_get_root(doc));
	else if (ok)
		(void)printf("%s moved from %s to %s as %s; frozen for %" PRIu64 " ms\n", pod,
		             gw_json_str(source, "node", "?"), gw_json_str(target, "node", "?"),
		             gw_json_str(target, "pod", "?"), gw_json_u64(yyjson_obj_get(s, "result"), "freezeMs", 0));
	else
		(void)fprintf(stderr, "%s stays where it is: %s (%s)\n", pod, gw_json_str(s, "message", phase),
		              gw_json_str(s, "reason", phase));
	return ok ? PLUGIN_OK : PLUGIN_FAILED;
}

int verb_migrate(struct plugin *p)
{
	struct gw_migration m;
	struct gw_err e = {.class = GW_OK};
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	int rc = plugin_make(p, p->namespace, p->what[1], p->to, false, &m, &e);
	if (rc == 0 && !p->watch && !p->json) {
		(void)printf("migration %s of %s to %s (kubectl godwit status %s)\n", m.name, p->what[1], p->to,
		             m.name);
		return PLUGIN_OK;
	}
	if (rc == 0)
		rc = plugin_wait(p, &m, p->watch, &doc, &e);
	return rc < 0 ? plugin_fail(&e) : tell_end(p, doc);
}

int verb_check(struct plugin *p)
{
	char path[700];
	struct gw_migration m;
	struct gw_err e = {.class = GW_OK}, ignored;
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	int rc = plugin_make(p, p->namespace, p->what[1], p->to, true, &m, &e);
	if (rc == 0)
		rc = plugin_wait(p, &m, false, &doc, &e);
	if (rc < 0)
		return plugin_fail(&e);
	gw_migration_path(&m, "", path, sizeof(path));
	(void)gw_kube_delete(p->k, path, m.uid, -1, &ignored);
	yyjson_val *s = plugin_status(doc), *reasons = yyjson_obj_get(yyjson_obj_get(s, "check"), "reasons");
	bool ok = !strcmp(gw_json_str(s, "phase", ""), "Succeeded");
	if (p->json) {
		print_json(s);
		return ok ? PLUGIN_OK : PLUGIN_FAILED;
	}
	(void)printf("%s %s move to %s\n", p->what[1], ok ? "can" : "cannot", p->to);
	yyjson_arr_iter it = yyjson_arr_iter_with(reasons);
	for (yyjson_val *r; (r = yyjson_arr_iter_next(&it));)
		(void)printf("  %s %s: %s\n      way out: %s\n",
		             gw_json_bool(r, "isWarning", false) ? "note  " : "BLOCKS", gw_json_str(r, "code", ""),
		             gw_json_str(r, "text", ""), gw_json_str(r, "wayOut", ""));
	if (!ok && !yyjson_arr_size(reasons))
		(void)printf("  BLOCKS %s: %s\n", gw_json_str(s, "reason", ""), gw_json_str(s, "message", ""));
	return ok ? PLUGIN_OK : PLUGIN_FAILED;
}

/* ---- status, cancel, nodes ---- */

static void status_line(yyjson_val *o)
{
	struct gw_migration m;
	char freeze[24] = "-";
	gw_migration_parse(o, &m);
	yyjson_val *s = yyjson_obj_get(o, "status"), *r = yyjson_obj_get(s, "result");
	if (yyjson_obj_get(r, "freezeMs"))
		(void)snprintf(freeze, sizeof(freeze), "%" PRIu64 " ms", gw_json_u64(r, "freezeMs", 0));
	(void)printf("%-12s %-28s %-28s %-10s %-10s %-10s %-8s %s\n", m.namespace, m.name,
	             m.pod[0] ? m.pod : m.workload, m.source_node[0] ? m.source_node : "-", m.to,
	             m.phase[0] ? m.phase : "Pending", freeze, m.reason);
}

int verb_status(struct plugin *p)
{
	char path[700];
	struct gw_err e = {.class = GW_OK};
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	const char *one = p->nwhat > 1 ? p->what[1] : "";
	if (p->all_namespaces && !*one)
		(void)snprintf(path, sizeof(path), "%s", GW_MIGRATIONS);
	else
		(void)snprintf(path, sizeof(path), "/apis/godwit.dev/v1alpha1/namespaces/%s/migrations%s%s",
		               p->namespace, *one ? "/" : "", one);
	if (gw_kube_get(p->k, path, &doc, &e) < 0)
		return plugin_fail(&e);
	yyjson_val *o = yyjson_doc_get_root(doc);
	if (p->json) {
		print_json(o);
		return PLUGIN_OK;
	}
	(void)printf("%-12s %-28s %-28s %-10s %-10s %-10s %-8s %s\n", "NAMESPACE", "MIGRATION", "POD", "FROM", "TO",
	             "PHASE", "FROZEN", "REASON");
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(o, "items"));
	for (yyjson_val *v; (v = yyjson_arr_iter_next(&it));)
		status_line(v);
	if (*one) {
		status_line(o);
		const char *words = gw_json_str(yyjson_obj_get(o, "status"), "message", "");
		if (*words)
			(void)printf("  %s\n", words);
		yyjson_val *r = yyjson_obj_get(yyjson_obj_get(o, "status"), "result");
		if (r)
			(void)printf("  %" PRIu64 " rounds, %.1f MiB sent, %" PRIu64 " packets held, %" PRIu64
			             " API requests\n",
			             gw_json_u64(r, "rounds", 0), (double)gw_json_u64(r, "sentBytes", 0) / 1048576,
			             gw_json_u64(r, "heldPackets", 0), gw_json_u64(r, "apiRequests", 0));
	}
	return PLUGIN_OK;
}

int verb_cancel(struct plugin *p)
{
	char path[700];
	struct gw_err e = {.class = GW_OK};
	struct gw_migration m = {0};
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	gw_auto(jmut) yyjson_mut_doc *patch = gw_status_new();
	yyjson_mut_val *spec = yyjson_mut_obj(patch);
	yyjson_mut_obj_add_bool(patch, spec, "cancel", true);
	yyjson_mut_obj_add_val(patch, yyjson_mut_doc_get_root(patch), "spec", spec);
	(void)snprintf(m.namespace, sizeof(m.namespace), "%s", p->namespace);
	(void)snprintf(m.name, sizeof(m.name), "%s", p->what[1]);
	gw_migration_path(&m, "", path, sizeof(path));
	int rc = gw_kube_patch(p->k, path, GW_PATCH_MERGE, patch, NULL, &e);
	if (rc == 0)
		rc = plugin_wait(p, &m, false, &doc, &e);
	if (rc < 0)
		return plugin_fail(&e);
	const char *phase = gw_json_str(plugin_status(doc), "phase", "");
	if (p->json)
		print_json(yyjson_doc_get_root(doc));
	else
		(void)printf("%s: %s\n", m.name, phase);
	if (!strcmp(phase, "Succeeded"))
		(void)fprintf(stderr, "kubectl godwit: it had been committed already\n");
	return !strcmp(phase, "Succeeded") ? PLUGIN_FAILED : PLUGIN_OK;
}

int verb_nodes(struct plugin *p)
{
	struct gw_err e = {.class = GW_OK};
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	if (gw_kube_get(p->k, "/api/v1/nodes", &doc, &e) < 0)
		return plugin_fail(&e);
	yyjson_val *o = yyjson_doc_get_root(doc);
	if (p->json) {
		print_json(o);
		return PLUGIN_OK;
	}
	(void)printf("%-30s %-8s %s\n", "NODE", "GODWIT", "SCHEDULABLE");
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(o, "items"));
	for (yyjson_val *v; (v = yyjson_arr_iter_next(&it));) {
		yyjson_val *meta = yyjson_obj_get(v, "metadata");
		bool has = !strcmp(gw_json_str(yyjson_obj_get(meta, "labels"), "live.godwit.dev/node", ""), "true");
		(void)printf("%-30s %-8s %s\n", gw_json_str(meta, "name", ""), has ? "yes" : "no",
		             gw_json_bool(yyjson_obj_get(v, "spec"), "unschedulable", false) ? "no" : "yes");
	}
	return PLUGIN_OK;
}
