#include "ctrl/known.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/gw_log.h"
#include "base/scope.h"

struct one {
	struct gw_migration m;
	yyjson_doc *doc; /* NULL: done with, of which the watch has still to tell */
	uint64_t version, listing;
	uint64_t asked;    /* requests made for it */
	unsigned told;     /* Events made */
	bool begun;        /* seen before its end, which is still to be counted */
	uint64_t look_ms;  /* when it is looked at again at the latest */
	uint64_t fresh_ms; /* ctrl_known_is_stale */
};

struct ctrl_known {
	int changed_fd;
	pthread_mutex_t lock; /* of what follows */
	struct one *all[CTRL_KNOWN_MAX];
	uint64_t listing; /* number of the list */
	bool synced, leading;
	struct gw_metrics *metrics;
};

struct ctrl_known *ctrl_known_new(int changed_fd)
{
	struct ctrl_known *r = calloc(1, sizeof(*r));
	assert(r);
	r->changed_fd = changed_fd;
	pthread_mutex_init(&r->lock, NULL);
	return r;
}

static void drop(struct one **s)
{
	yyjson_doc_free((*s)->doc);
	free(gw_take(*s));
}

void ctrl_known_free(struct ctrl_known *r)
{
	for (int i = 0; i < CTRL_KNOWN_MAX; i++)
		if (r->all[i])
			drop(&r->all[i]);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

static struct one **slot_of(struct ctrl_known *r, const char *uid, bool make)
{
	struct one **none = NULL;
	for (int i = 0; i < CTRL_KNOWN_MAX; i++) {
		if (r->all[i] && !strcmp(r->all[i]->m.uid, uid))
			return &r->all[i];
		if (!r->all[i] && !none)
			none = &r->all[i];
	}
	if (make && !none)
		gw_warn("too many Migrations: one is left out", kv_str("mig", uid));
	return make ? none : NULL;
}

static void ring(const struct ctrl_known *r)
{
	uint64_t one = 1;
	(void)!write(r->changed_fd, &one, sizeof(one));
}

/* ---- news ---- */

/* What is over at first sight was counted by whoever led then. */
static void count_end(struct ctrl_known *r, struct one *o)
{
	if (!gw_migration_over(&o->m)) {
		o->begun = true;
	} else if (o->begun) {
		o->begun = false;
		if (r->leading)
			gw_metrics_ended(r->metrics, o->m.phase, !strcmp(o->m.phase, "Succeeded") ? "" : o->m.reason,
			                 o->m.freeze_us, o->m.sent_bytes);
	}
}

static void put(struct ctrl_known *r, struct one *o, const struct gw_migration *m, yyjson_val *object)
{
	gw_auto(jmut) yyjson_mut_doc *copy = yyjson_mut_doc_new(NULL);
	yyjson_mut_doc_set_root(copy, yyjson_val_mut_copy(copy, object));
	yyjson_doc_free(gw_take(o->doc));
	o->doc = yyjson_mut_doc_imut_copy(copy, NULL);
	assert(o->doc);
	o->m = *m;
	o->version = gw_kube_version(object);
	count_end(r, o);
}

/* A place is free. */
static void wake_pending(struct ctrl_known *r)
{
	for (int i = 0; i < CTRL_KNOWN_MAX; i++)
		if (r->all[i] && !strcmp(r->all[i]->m.phase, "Pending"))
			r->all[i]->look_ms = 0;
}

static bool is_done(const struct gw_migration *m)
{
	return gw_migration_over(m) && !m->finalized;
}

/* Locked. true: it is done with, and its slot free. */
static bool take(struct ctrl_known *r, yyjson_val *object, bool deleted)
{
	struct gw_migration m;
	gw_migration_parse(object, &m);
	struct one **s = slot_of(r, m.uid, !deleted && !is_done(&m));
	if (!s)
		return deleted || is_done(&m);
	if (!*s) {
		*s = calloc(1, sizeof(**s));
		assert(*s);
		(*s)->fresh_ms = gw_now_ms();
	}
	struct one *o = *s;
	o->listing = r->listing;
	bool news = gw_kube_version(object) > o->version, done = deleted || (news && is_done(&m));
	if (news) {
		put(r, o, &m, object);
		o->look_ms = 0;
	}
	/* Without doc: the answer that said so came before this. */
	done |= !o->doc && gw_kube_version(object) >= o->version;
	if (gw_migration_over(&m) || done)
		wake_pending(r);
	if (done)
		drop(s);
	return done;
}

static void end_list(struct ctrl_known *r, const struct ctrl_known_watch *w)
{
	for (int i = 0; i < CTRL_KNOWN_MAX; i++) {
		char uid[GW_K8S_UID] = "";
		pthread_mutex_lock(&r->lock);
		if (r->all[i] && r->all[i]->listing != r->listing) {
			(void)snprintf(uid, sizeof(uid), "%s", r->all[i]->m.uid);
			drop(&r->all[i]);
			wake_pending(r);
		}
		pthread_mutex_unlock(&r->lock);
		if (uid[0] && w->done)
			w->done(w->ctx, uid);
	}
	pthread_mutex_lock(&r->lock);
	r->synced = true;
	pthread_mutex_unlock(&r->lock);
}

void ctrl_known_told(void *watch, enum gw_follow_what what, yyjson_val *object)
{
	const struct ctrl_known_watch *w = watch;
	struct ctrl_known *r = w->r;
	bool done = false;
	pthread_mutex_lock(&r->lock);
	if (what == GW_FOLLOW_LISTING)
		r->listing++;
	if (object)
		done = take(r, object, what == GW_FOLLOW_DELETED);
	pthread_mutex_unlock(&r->lock);
	if (done && w->done)
		w->done(w->ctx, gw_json_str(yyjson_obj_get(object, "metadata"), "uid", ""));
	if (what == GW_FOLLOW_SYNCED)
		end_list(r, w);
	ring(r);
}

void ctrl_known_heard(struct ctrl_known *r, yyjson_val *object)
{
	struct gw_migration m;
	if (strcmp(gw_json_str(object, "kind", ""), "Migration") != 0)
		return;
	gw_migration_parse(object, &m);
	pthread_mutex_lock(&r->lock);
	struct one **s = slot_of(r, m.uid, false);
	if (s && *s && (*s)->doc && gw_kube_version(object) > (*s)->version) {
		put(r, *s, &m, object);
		/* The watch is behind: what it tells until it says so too must not make it anew. */
		if (is_done(&m))
			yyjson_doc_free(gw_take((*s)->doc));
	}
	pthread_mutex_unlock(&r->lock);
}

void ctrl_known_gone(struct ctrl_known *r, const char *uid)
{
	pthread_mutex_lock(&r->lock);
	struct one **s = slot_of(r, uid, false);
	if (s && *s)
		yyjson_doc_free(gw_take((*s)->doc));
	pthread_mutex_unlock(&r->lock);
}

/* ---- looking ---- */

bool ctrl_known_get(struct ctrl_known *r, const char *uid, struct gw_migration *m, yyjson_doc **object)
{
	pthread_mutex_lock(&r->lock);
	struct one **s = slot_of(r, uid, false);
	bool here = s && *s && (*s)->doc;
	if (here)
		*m = (*s)->m;
	if (here && object) {
		gw_auto(jmut) yyjson_mut_doc *copy = yyjson_doc_mut_copy((*s)->doc, NULL);
		*object = yyjson_mut_doc_imut_copy(copy, NULL);
		assert(*object);
	}
	pthread_mutex_unlock(&r->lock);
	return here;
}

bool ctrl_known_due(struct ctrl_known *r, int i, int every_ms, char uid[GW_K8S_UID])
{
	pthread_mutex_lock(&r->lock);
	struct one *o = r->all[i];
	uint64_t now = gw_now_ms();
	bool due = o && o->doc && now >= o->look_ms;
	if (due) {
		(void)snprintf(uid, GW_K8S_UID, "%s", o->m.uid);
		o->look_ms = now + (uint64_t)every_ms;
	}
	pthread_mutex_unlock(&r->lock);
	return due;
}

int ctrl_known_wait(struct ctrl_known *r, int most_ms)
{
	pthread_mutex_lock(&r->lock);
	uint64_t now = gw_now_ms(), first = now + (uint64_t)most_ms;
	for (int i = 0; i < CTRL_KNOWN_MAX; i++)
		if (r->all[i] && r->all[i]->doc && r->all[i]->look_ms < first)
			first = r->all[i]->look_ms;
	pthread_mutex_unlock(&r->lock);
	return first > now ? (int)(first - now) : 0;
}

/* Until release: the one that has this uid, NULL for none. */
static struct one *hold(struct ctrl_known *r, const char *uid)
{
	pthread_mutex_lock(&r->lock);
	struct one **s = slot_of(r, uid, false);
	return s ? *s : NULL;
}

static void release(struct ctrl_known *r)
{
	pthread_mutex_unlock(&r->lock);
}

void ctrl_known_within(struct ctrl_known *r, const char *uid, int ms)
{
	struct one *o = hold(r, uid);
	uint64_t at = gw_now_ms() + (uint64_t)ms;
	if (o && o->look_ms > at)
		o->look_ms = at;
	release(r);
}

void ctrl_known_wake(struct ctrl_known *r, const char *uid)
{
	pthread_mutex_lock(&r->lock);
	for (int i = 0; i < CTRL_KNOWN_MAX; i++)
		if (r->all[i] && (!uid || !strcmp(r->all[i]->m.uid, uid)))
			r->all[i]->look_ms = 0;
	pthread_mutex_unlock(&r->lock);
	ring(r);
}

bool ctrl_known_is_stale(struct ctrl_known *r, const char *uid, unsigned after_ms)
{
	struct one *o = hold(r, uid);
	uint64_t now = gw_now_ms();
	bool stale = o && now - o->fresh_ms > after_ms;
	if (stale)
		o->fresh_ms = now;
	release(r);
	return stale;
}

uint64_t ctrl_known_asked(struct ctrl_known *r, const char *uid)
{
	const struct one *o = hold(r, uid);
	uint64_t n = o ? o->asked : 0;
	release(r);
	return n;
}

void ctrl_known_ask(struct ctrl_known *r, const char *uid, uint64_t requests)
{
	struct one *o = hold(r, uid);
	if (o)
		o->asked = requests;
	release(r);
}

unsigned ctrl_known_untold(struct ctrl_known *r, const char *uid, unsigned due)
{
	struct one *o = hold(r, uid);
	unsigned untold = o ? due & ~o->told : 0;
	if (o)
		o->told |= due;
	release(r);
	return untold;
}

bool ctrl_known_is_synced(struct ctrl_known *r)
{
	pthread_mutex_lock(&r->lock);
	bool synced = r->synced;
	pthread_mutex_unlock(&r->lock);
	return synced;
}

void ctrl_known_active(struct ctrl_known *r, const struct gw_migration *m, const char *source_node, unsigned *all,
                       unsigned *on_nodes)
{
	*all = *on_nodes = 0;
	pthread_mutex_lock(&r->lock);
	for (int i = 0; i < CTRL_KNOWN_MAX; i++) {
		const struct gw_migration *o = r->all[i] ? &r->all[i]->m : NULL;
		if (!o || !strcmp(o->uid, m->uid) || !o->phase[0] || !strcmp(o->phase, "Pending") ||
		    gw_migration_over(o))
			continue;
		(*all)++;
		*on_nodes += !strcmp(o->to, m->to) || !strcmp(o->source_node, source_node) ||
		             !strcmp(o->to, source_node) || !strcmp(o->source_node, m->to);
	}
	pthread_mutex_unlock(&r->lock);
}

bool ctrl_known_is_moving(struct ctrl_known *r, const char *ns, const char *pod)
{
	bool moving = false;
	pthread_mutex_lock(&r->lock);
	for (int i = 0; i < CTRL_KNOWN_MAX && !moving; i++)
		moving = r->all[i] && r->all[i]->doc && !strcmp(r->all[i]->m.namespace, ns) &&
		         (!strcmp(r->all[i]->m.pod, pod) || !strcmp(r->all[i]->m.target_pod, pod));
	pthread_mutex_unlock(&r->lock);
	return moving;
}

void ctrl_known_lead(struct ctrl_known *r, bool leading, struct gw_metrics *metrics)
{
	pthread_mutex_lock(&r->lock);
	r->leading = leading;
	r->metrics = metrics;
	pthread_mutex_unlock(&r->lock);
}

void ctrl_known_count(struct ctrl_known *r, const char *const *phases, size_t n, unsigned *out)
{
	pthread_mutex_lock(&r->lock);
	for (int i = 0; i < CTRL_KNOWN_MAX; i++)
		for (size_t p = 0; r->all[i] && r->all[i]->doc && p < n; p++)
			out[p] += !strcmp(r->all[i]->m.phase[0] ? r->all[i]->m.phase : "Pending", phases[p]);
	pthread_mutex_unlock(&r->lock);
}
