/* source: the life of one outgoing migration, and the calls from outside. */
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/gw_log.h"
#include "base/io.h"
#include "base/scope.h"
#include "base/trim.h"
#include "move/check.h"
#include "move/msg.h"
#include "move/source_priv.h"

enum { WANT_FREEZE_US = 0, MAX_FREEZE_US = 1000000, ROUNDS_MAX = 30 };

void gw_move_defaults(struct gw_move_opts *o)
{
	*o = (struct gw_move_opts){
	        .want_freeze_us = WANT_FREEZE_US, .max_freeze_us = MAX_FREEZE_US, .rounds_max = ROUNDS_MAX};
}

int gw_source_journal(struct gw_source *s, struct gw_err *e)
{
	s->journal.source = s->state;
	return gw_journal_write(s->d->cfg.state_dir, &s->journal, e);
}

void gw_source_step_time(struct gw_source *s, enum gw_step step, uint64_t since_us)
{
	struct gw_facts_of_run *f = gw_progress_edit(s->progress);
	f->step_us[step] = gw_now_us() - since_us;
	gw_progress_done(s->progress);
}

bool gw_source_step(struct gw_source *s, enum gw_source_event ev)
{
	pthread_mutex_lock(&s->lock);
	bool ok = gw_source_next(&s->state, ev);
	pthread_mutex_unlock(&s->lock);
	return ok;
}

static void list_add(struct gw_source *s)
{
	pthread_mutex_lock(&s->d->lock);
	s->next = s->d->sources;
	s->d->sources = s;
	pthread_mutex_unlock(&s->d->lock);
}

static void list_remove(struct gw_source *s)
{
	pthread_mutex_lock(&s->d->lock);
	for (struct gw_source **p = &s->d->sources; *p; p = &(*p)->next)
		if (*p == s) {
			*p = s->next;
			break;
		}
	pthread_mutex_unlock(&s->d->lock);
}

static void drop_conns(struct gw_source *s)
{
	pthread_mutex_lock(&s->lock);
	struct gw_sender *sender = gw_take(s->sender);
	struct gw_conn *ctl = gw_take(s->ctl);
	pthread_mutex_unlock(&s->lock);
	gw_sender_free(sender);
	for (unsigned i = 0; i < s->ndata; i++)
		gw_conn_free(s->data[i]);
	s->ndata = 0;
	gw_conn_free(ctl);
}

static void source_free(struct gw_source *s)
{
	struct gw_err ignored;
	gw_tracker_free(s->tracker);
	gw_scan_free(s->scan);
	gw_trees_done(&s->trees);
	drop_conns(s);
	gw_dump_close(s->dump);
	gw_hold_free(s->hold);
	gw_guard_free(s->guard);
	gw_container_free(s->container);
	gw_rate_free(s->rate);
	free(s->spaces);
	free(s->early);
	gw_journal_done(&s->journal);
	(void)gw_remove_tree(s->dir, &ignored);
	if (s->cancel_fd >= 0)
		(void)close(s->cancel_fd);
	gw_group_unref(s->group);
	gw_progress_unref(s->progress);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static int work(struct gw_source *s, struct gw_err *e)
{
	int rc = gw_source_prepare(s, e);
	if (rc == 0)
		rc = gw_source_precopy(s, e);
	if (rc == 0)
		rc = gw_source_handover(s, e);
	return rc;
}

static void wake(struct gw_source *s);

/* One that fails fails all. What it failed with is everybody's reason. */
static void fail_group(struct gw_source *s, struct gw_err *e)
{
	if (!s->group)
		return;
	gw_group_fail(s->group, e);
	if (!s->member)
		gw_group_decide(s->group, false);
	(void)gw_group_failed(s->group, e);
	pthread_mutex_lock(&s->d->lock);
	for (struct gw_source *o = s->d->sources; o; o = o->next) {
		if (o == s || o->group != s->group)
			continue;
		pthread_mutex_lock(&o->lock);
		if (o->state != S_COMMITTING && o->state != S_MOVED)
			wake(o);
		pthread_mutex_unlock(&o->lock);
	}
	pthread_mutex_unlock(&s->d->lock);
}

static void *source_main(void *arg)
{
	struct gw_source *s = arg;
	struct gw_err e = {.class = GW_OK};
	gw_info("migration started", kv_str("mig", s->mig), kv_str("container", s->o.container), kv_str("to", s->o.to));
	if (work(s, &e) == 0) {
		gw_source_moved(s);
		gw_journal_remove(s->d->cfg.state_dir, s->mig);
		struct gw_facts_of_run r;
		uint64_t v = 0;
		gw_progress_get(s->progress, &v, 0, &r);
		gw_info("migration done", kv_str("mig", s->mig), kv_str("container", s->o.container),
		        kv_str("to", s->o.to), kv_f64("freeze_ms", (double)r.freeze_us / 1000.0),
		        kv_u64("rounds", r.rounds), kv_u64("bytes", r.bytes));
		gw_progress_end(s->progress, "Done", NULL);
	} else {
		fail_group(s, &e);
		gw_source_undo(s);
		gw_journal_remove(s->d->cfg.state_dir, s->mig);
		bool off = s->group ? !strcmp(e.code, "Cancelled") : s->cancelled;
		gw_warn("migration failed", kv_str("mig", s->mig), kv_str("container", s->o.container),
		        kv_str("to", s->o.to), kv_str("code", e.code), kv_str("reason", e.text));
		gw_progress_end(s->progress, off ? "Cancelled" : "Failed", &e);
	}
	list_remove(s);
	source_free(s);
	gw_trim();
	return NULL;
}

static void new_id(char *out, size_t size)
{
	uint8_t raw[6];
	if (getrandom(raw, sizeof(raw), 0) != sizeof(raw)) {
		uint64_t now = gw_now_ns();
		memcpy(raw, &now, sizeof(raw));
	}
	for (size_t i = 0; i < sizeof(raw); i++)
		gw_path(out + 2 * i, size - 2 * i, "%02x", raw[i]);
}

static bool is_moving(struct gw_daemon *d, const char *container)
{
	bool hit = false;
	pthread_mutex_lock(&d->lock);
	for (struct gw_source *s = d->sources; s; s = s->next)
		hit |= !strcmp(s->o.container, container);
	pthread_mutex_unlock(&d->lock);
	return hit;
}

static int start(struct gw_daemon *d, const struct gw_move_opts *o, struct gw_group *group, unsigned member,
                 struct gw_progress **out, struct gw_err *e)
{
	if (is_moving(d, o->container))
		return gw_fail_code(e, GW_RETRY, "AlreadyMoving",
		                    "container %s is being migrated already (see: godwit status)", o->container);
	if (o->mig[0] && !gw_mig_valid(o->mig))
		return gw_fail_code(e, GW_INPUT, "BadId", "\"%s\" is no migration's id: hex digits and dashes", o->mig);
	if (!strcmp(o->to, d->cfg.name))
		return gw_fail_code(e, GW_INPUT, "SameHost", "%s is this host: choose another one with --to", o->to);
	struct gw_source *s = calloc(1, sizeof(*s));
	assert(s);
	s->d = d;
	s->o = *o;
	if (o->mig[0])
		(void)snprintf(s->mig, sizeof(s->mig), "%s", o->mig);
	else
		new_id(s->mig, sizeof(s->mig));
	s->journal.is_claimed = o->claim[0];
	s->group = group ? gw_group_ref(group) : NULL;
	s->member = member;
	if (member)
		(void)snprintf(s->journal.leader, sizeof(s->journal.leader), "%s", group->leader);
	gw_mig_dir(d, s->mig, s->dir, sizeof(s->dir));
	pthread_mutex_init(&s->lock, NULL);
	s->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->deadline_ms = o->timeout_ms ? gw_now_ms() + o->timeout_ms : 0;
	s->journal.is_source = true;
	(void)snprintf(s->journal.mig, sizeof(s->journal.mig), "%s", s->mig);
	(void)snprintf(s->journal.container, sizeof(s->journal.container), "%s", o->container);
	(void)snprintf(s->journal.peer, sizeof(s->journal.peer), "%s", o->to);
	(void)snprintf(s->journal.runc_root, sizeof(s->journal.runc_root), "%s", o->runc_root);
	s->progress = gw_progress_new(s->mig, o->container, d->cfg.name, o->to, false);
	int rc = gw_mkdirs(s->dir, e);
	if (rc < 0) {
		source_free(s);
		return rc;
	}
	gw_daemon_remember(d, s->progress);
	struct gw_progress *p = gw_progress_ref(s->progress);
	list_add(s);
	pthread_t t;
	rc = pthread_create(&t, NULL, source_main, s);
	if (rc != 0) {
		list_remove(s);
		source_free(s);
		gw_progress_unref(p);
		return gw_fail(e, GW_SYS, rc, "start the migration's thread");
	}
	pthread_detach(t);
	*out = p;
	return 0;
}

int gw_source_start(struct gw_daemon *d, const struct gw_move_opts *o, struct gw_progress **out, struct gw_err *e)
{
	return start(d, o, NULL, 0, out, e);
}

int gw_source_start_pod(struct gw_daemon *d, const struct gw_move_opts *o, const struct gw_member *m, unsigned n,
                        struct gw_progress **out, struct gw_err *e)
{
	if (n == 0 || n > GW_GROUP_MAX || !o->mig[0])
		return gw_fail(e, GW_INPUT, EINVAL, "a pod of %u containers", n);
	struct gw_group *g = n > 1 ? gw_group_new(o->mig, n) : NULL;
	struct gw_progress *leader = NULL;
	int rc = 0;
	for (unsigned i = 0; rc == 0 && i < n; i++) {
		struct gw_move_opts mine = *o;
		struct gw_progress *p = NULL;
		(void)snprintf(mine.container, sizeof(mine.container), "%s", m[i].container);
		(void)snprintf(mine.claim, sizeof(mine.claim), "%s", m[i].claim);
		if (i)
			gw_group_id(o->mig, i, mine.mig);
		rc = start(d, &mine, g, i, &p, e);
		if (rc == 0 && i == 0)
			leader = p;
		else if (rc == 0)
			gw_progress_unref(p);
	}
	if (rc < 0) {
		/* Those that have begun wait for this one, and hear why it does not come. */
		gw_group_fail(g, e);
		gw_progress_unref(leader);
	}
	gw_group_unref(g);
	if (rc == 0)
		*out = leader;
	return rc;
}

/* Wake every wait of s; its thread undoes. Under s->lock. */
static void wake(struct gw_source *s)
{
	uint64_t one = 1;
	s->cancelled = true;
	(void)!write(s->cancel_fd, &one, sizeof(one));
	if (s->ctl)
		gw_conn_shutdown(s->ctl);
	if (s->sender)
		gw_sender_cancel(s->sender);
}

void gw_source_cancel_all(struct gw_daemon *d)
{
	pthread_mutex_lock(&d->lock);
	for (struct gw_source *s = d->sources; s; s = s->next) {
		pthread_mutex_lock(&s->lock);
		if (s->state != S_COMMITTING && s->state != S_MOVED)
			wake(s);
		pthread_mutex_unlock(&s->lock);
	}
	pthread_mutex_unlock(&d->lock);
}

int gw_source_cancel(struct gw_daemon *d, const char *mig, struct gw_err *e)
{
	int rc = -ENOENT;
	pthread_mutex_lock(&d->lock);
	/* The first of a pod that is woken wakes the others (fail_group). */
	for (struct gw_source *s = d->sources; s && rc == -ENOENT; s = s->next) {
		bool of_pod = s->group && !strcmp(s->group->leader, mig);
		if (!of_pod && strcmp(s->mig, mig) != 0 && strcmp(s->o.container, mig) != 0)
			continue;
		pthread_mutex_lock(&s->lock);
		rc = s->state == S_COMMITTING || s->state == S_MOVED ? -EBUSY : 0;
		if (rc == 0)
			wake(s);
		pthread_mutex_unlock(&s->lock);
	}
	pthread_mutex_unlock(&d->lock);
	if (rc == -ENOENT)
		return gw_fail_code(e, GW_INPUT, "NoSuchMigration",
		                    "no migration %s is running here (see: godwit status)", mig);
	if (rc == -EBUSY)
		return gw_fail_code(e, GW_RETRY, "TooLate",
		                    "migration %s has been committed: it cannot be undone, only done back", mig);
	return 0;
}

/* The pod's network as godwit-cni takes it, in a string. */
static void add_network(const struct gw_pod *pod, yyjson_mut_doc *doc, yyjson_mut_val *obj)
{
	gw_auto(jmut) yyjson_mut_doc *mine = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *o = yyjson_mut_obj(mine);
	yyjson_mut_doc_set_root(mine, o);
	gw_pod_to_json(pod, mine, o);
	gw_auto(mem) char *text = gw_json_text(mine, NULL);
	yyjson_mut_obj_add_strcpy(doc, obj, "network", text);
}

int gw_source_check(struct gw_daemon *d, const struct gw_move_opts *o, yyjson_mut_doc *doc, yyjson_mut_val *obj,
                    struct gw_err *e)
{
	struct gw_source s = {.d = d, .o = *o, .cancel_fd = -1};
	struct gw_reasons rs = {.n = 0};
	new_id(s.mig, sizeof(s.mig));
	int rc = gw_source_look(&s, &rs, e);
	if (rc == 0) {
		yyjson_mut_val *arr = yyjson_mut_arr(doc);
		gw_reasons_to_json(&rs, doc, arr);
		yyjson_mut_obj_add_strcpy(doc, obj, "container", o->container);
		yyjson_mut_obj_add_strcpy(doc, obj, "to", o->to);
		yyjson_mut_obj_add_bool(doc, obj, "ok", !gw_reasons_blocked(&rs));
		yyjson_mut_obj_add_val(doc, obj, "reasons", arr);
		add_network(&s.pod, doc, obj);
	}
	gw_conn_free(s.ctl);
	gw_container_free(s.container);
	return rc;
}
