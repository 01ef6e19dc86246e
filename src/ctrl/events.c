#include "ctrl/events.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/gw_log.h"
#include "base/scope.h"

enum { NOTE_BYTES = 1024, OBJECT_NAME_BYTES = 190, UID_BYTES = 13 };

unsigned ctrl_events_due(const struct gw_migration *m)
{
	unsigned due = 0;
	if (m->check_only)
		return 0;
	if (m->source_uid[0])
		due |= 1u << CTRL_EVENT_STARTED;
	if (m->target_uid[0])
		due |= 1u << CTRL_EVENT_PRECOPY;
	if (gw_migration_committed(m))
		due |= 1u << CTRL_EVENT_COMMITTED;
	if (gw_migration_over(m))
		due |= 1u << CTRL_EVENT_END;
	return due;
}

void ctrl_event_name(const struct gw_migration *m, const char *object, char role, const char *reason,
                     char out[GW_K8S_NAME])
{
	char low[32];
	size_t i = 0;
	for (; reason[i] && i < sizeof(low) - 1; i++)
		low[i] = (char)tolower((unsigned char)reason[i]);
	low[i] = 0;
	(void)snprintf(out, GW_K8S_NAME, "%.*s.%.*s-%c-%s", OBJECT_NAME_BYTES, object, UID_BYTES, m->uid, role, low);
}

struct about {
	const char *api, *kind, *name, *uid;
	char role; /* in the Event's name: two of them may share a name */
};

static yyjson_mut_val *reference(yyjson_mut_doc *doc, const struct gw_migration *m, const struct about *a)
{
	yyjson_mut_val *o = yyjson_mut_obj(doc);
	yyjson_mut_obj_add_strcpy(doc, o, "apiVersion", a->api);
	yyjson_mut_obj_add_strcpy(doc, o, "kind", a->kind);
	yyjson_mut_obj_add_strcpy(doc, o, "namespace", m->namespace);
	yyjson_mut_obj_add_strcpy(doc, o, "name", a->name);
	yyjson_mut_obj_add_strcpy(doc, o, "uid", a->uid);
	return o;
}

static struct about migration_of(const struct gw_migration *m)
{
	return (struct about){"godwit.dev/v1alpha1", "Migration", m->name, m->uid, 'm'};
}

static void make(struct gw_kube *k, const struct gw_migration *m, const struct about *a, const char *instance,
                 const char *reason, const char *note)
{
	char name[GW_K8S_NAME], path[300], now[64], full[64];
	struct gw_err e;
	const struct about whole = migration_of(m);
	gw_auto(jmut) yyjson_mut_doc *doc = gw_status_new();
	yyjson_mut_val *o = yyjson_mut_doc_get_root(doc), *meta = yyjson_mut_obj(doc);
	ctrl_event_name(m, a->name, a->role, reason, name);
	(void)snprintf(full, sizeof(full), "%s%s", a->role == 'm' ? "" : "Migration", reason);
	gw_k8s_now_us(now);
	yyjson_mut_obj_add_str(doc, o, "apiVersion", "events.k8s.io/v1");
	yyjson_mut_obj_add_str(doc, o, "kind", "Event");
	yyjson_mut_obj_add_str(doc, meta, "name", name);
	yyjson_mut_obj_add_strcpy(doc, meta, "namespace", m->namespace);
	yyjson_mut_obj_add_val(doc, o, "metadata", meta);
	yyjson_mut_obj_add_str(doc, o, "eventTime", now);
	yyjson_mut_obj_add_str(doc, o, "reportingController", "godwit.dev/controller");
	yyjson_mut_obj_add_strcpy(doc, o, "reportingInstance", instance);
	yyjson_mut_obj_add_str(doc, o, "action", "Migrate");
	yyjson_mut_obj_add_str(doc, o, "reason", full);
	yyjson_mut_obj_add_str(doc, o, "note", note);
	yyjson_mut_obj_add_str(doc, o, "type", strcmp(reason, "Failed") != 0 ? "Normal" : "Warning");
	yyjson_mut_obj_add_val(doc, o, "regarding", reference(doc, m, a));
	if (a->role != 'm')
		yyjson_mut_obj_add_val(doc, o, "related", reference(doc, m, &whole));
	(void)snprintf(path, sizeof(path), "/apis/events.k8s.io/v1/namespaces/%s/events", m->namespace);
	int rc = gw_kube_create(k, path, doc, NULL, &e);
	if (rc < 0 && rc != -EEXIST)
		gw_warn("an Event was not made", kv_str("mig", m->uid), kv_str("reason", e.text));
}

/* What happened, as reason and in words. */
static const char *say(const struct gw_migration *m, yyjson_val *status, enum ctrl_event what, char note[NOTE_BYTES])
{
	yyjson_val *result = yyjson_obj_get(status, "result"), *freeze = yyjson_obj_get(result, "freezeMs");
	switch (what) {
	case CTRL_EVENT_STARTED:
		(void)snprintf(note, NOTE_BYTES, "pod %s is to move from %s to %s", m->pod, m->source_node, m->to);
		return "Started";
	case CTRL_EVENT_PRECOPY:
		(void)snprintf(note, NOTE_BYTES, "memory of pod %s is copied to %s while it runs on %s", m->pod, m->to,
		               m->source_node);
		return "PreCopy";
	case CTRL_EVENT_COMMITTED:
		if (freeze)
			(void)snprintf(note, NOTE_BYTES, "pod %s runs on %s; it was frozen for %" PRIu64 " ms", m->pod,
			               m->to, yyjson_get_uint(freeze));
		else
			(void)snprintf(note, NOTE_BYTES, "pod %s runs on %s", m->pod, m->to);
		return "Committed";
	case CTRL_EVENT_END: break;
	}
	const char *words = gw_json_str(status, "message", "");
	if (!strcmp(m->phase, "Succeeded"))
		(void)snprintf(note, NOTE_BYTES, "pod %s has moved to %s", m->pod, m->to);
	else
		(void)snprintf(note, NOTE_BYTES, "pod %s was not moved to %s: %s%s%.400s", m->pod, m->to,
		               m->reason[0] ? m->reason : m->phase, *words ? ": " : "", words);
	return m->phase;
}

void ctrl_events_tell(struct gw_kube *k, const struct gw_migration *m, const struct ctrl_view *v, const char *instance,
                      unsigned told, unsigned due)
{
	yyjson_val *status = yyjson_obj_get(yyjson_doc_get_root(v->migration), "status");
	yyjson_val *target = yyjson_obj_get(v->target ? yyjson_doc_get_root(v->target) : NULL, "metadata");
	const struct about all[] = {
	        migration_of(m),
	        {"v1", "Pod", m->pod, m->source_uid, 's'},
	        {"v1", "Pod", gw_json_str(target, "name", ""), gw_json_str(target, "uid", ""), 't'},
	};
	for (unsigned i = 0; i <= CTRL_EVENT_END; i++) {
		char note[NOTE_BYTES];
		if (!(due & ~told & 1u << i))
			continue;
		const char *reason = say(m, status, (enum ctrl_event)i, note);
		for (size_t n = 0; n < gw_countof(all); n++) {
			bool placeholder =
			        all[n].role == 't' && i < CTRL_EVENT_COMMITTED && !strcmp(m->method, "SameName");
			if (*all[n].uid && !placeholder)
				make(k, m, &all[n], instance, reason, note);
		}
	}
}
