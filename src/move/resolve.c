/* resolve: who has the container, when one side does not know.
 *
 * Three cases: in doubt with both godwitd alive (they ask each other), a
 * godwitd that restarted (it reads its journal), a host that died (its
 * `instance` changed or it does not know the migration: its copy is gone; a
 * person may say so with `godwit resolve` when it cannot be asked). */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/gw_log.h"
#include "base/io.h"
#include "base/proc.h"
#include "base/scope.h"
#include "ckpt/freezer.h"
#include "cni/ipam.h"
#include "move/dest_priv.h"
#include "move/held.h"
#include "move/msg.h"
#include "move/source_priv.h"

enum {
	LEADER_LOOK_MS = 20,
	ASK_EVERY_MS = 500,
	ASK_TIMEOUT_MS = 3000,
	KILL_TIMEOUT_MS = 10000,
	DELETE_TIMEOUT_MS = 20000
};

/* ---- words of a person ---- */

struct gw_word {
	struct gw_word *next;
	char mig[40];
	bool commit;
};

static bool word_of(struct gw_daemon *d, const char *mig, bool *out_commit)
{
	bool hit = false;
	pthread_mutex_lock(&d->lock);
	for (struct gw_word *w = d->words; w && !hit; w = w->next)
		if (!strcmp(w->mig, mig)) {
			*out_commit = w->commit;
			hit = true;
		}
	pthread_mutex_unlock(&d->lock);
	return hit;
}

static bool source_in_doubt(struct gw_daemon *d, const char *mig)
{
	char path[PATH_MAX];
	struct gw_journal j;
	gw_path(path, sizeof(path), "%s/journal/%s.json", d->cfg.state_dir, mig);
	if (gw_journal_read(path, &j, NULL) < 0)
		return false;
	bool yes = j.is_source && j.source == S_COMMITTING;
	gw_journal_done(&j);
	return yes;
}

int gw_resolve_by_hand(struct gw_daemon *d, const char *mig, bool commit, struct gw_err *e)
{
	if (!gw_mig_valid(mig))
		return gw_fail_code(e, GW_INPUT, "NoSuchMigration", "\"%s\" is not a migration id (see: godwit status)",
		                    mig);
	const char *state = gw_dest_decide(d, mig, "", NULL);
	if (state && !strcmp(state, "prepared")) {
		(void)gw_dest_decide(d, mig, commit ? "commit" : "abort", NULL);
		return 0;
	}
	if (!source_in_doubt(d, mig))
		return gw_fail_code(e, GW_INPUT, "NotInDoubt",
		                    "migration %s is not in doubt on this host: nothing to decide", mig);
	struct gw_word *w = calloc(1, sizeof(*w));
	assert(w);
	(void)snprintf(w->mig, sizeof(w->mig), "%s", mig);
	w->commit = commit;
	pthread_mutex_lock(&d->lock);
	w->next = d->words;
	d->words = w;
	pthread_mutex_unlock(&d->lock);
	return 0;
}

/* ---- asking ---- */

static bool pause_or_stop(struct gw_daemon *d, int ms)
{
	struct pollfd p = {.fd = d->stop_fd, .events = POLLIN};
	return poll(&p, 1, ms) > 0;
}

/* One question to the other host: its state of mig, and its instance. */
static int ask(struct gw_daemon *d, const char *peer, const char *mig, const char *question, char *out_state,
               size_t size, char *out_instance, size_t isize, struct gw_err *e)
{
	struct gw_host h;
	struct gw_conn *c = NULL;
	int rc = gw_host_find(d, peer, &h, e);
	if (rc == 0)
		rc = gw_host_dial(d, &h, "query", mig, ASK_TIMEOUT_MS, &c, e);
	if (rc < 0)
		return rc;
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	rc = gw_msg_send_type(c, question, e);
	if (rc == 0)
		rc = gw_msg_expect(c, "state", ASK_TIMEOUT_MS, &doc, e);
	if (rc == 0) {
		yyjson_val *o = yyjson_doc_get_root(doc);
		(void)snprintf(out_state, size, "%s", gw_json_str(o, "state", ""));
		(void)snprintf(out_instance, isize, "%s", gw_json_str(o, "instance", ""));
	}
	gw_conn_free(c);
	return rc;
}

int gw_resolve_ask(struct gw_daemon *d, const char *mig, const char *peer, char *out_state, size_t size,
                   struct gw_err *e)
{
	char instance[40];
	return ask(d, peer, mig, "query", out_state, size, instance, sizeof(instance), e);
}

void gw_resolve_source(struct gw_daemon *d, const char *mig, const char *peer, struct gw_err *why, bool *out_committed)
{
	for (;;) {
		char state[24] = "", instance[40];
		struct gw_err e = {.class = GW_OK};
		bool by_hand;
		if (word_of(d, mig, &by_hand)) {
			*out_committed = by_hand;
			(void)gw_fail_code(why, GW_INPUT, "DecidedByHand", "decided by hand: %s",
			                   by_hand ? "the destination has it" : "the source keeps it");
			return;
		}
		/* "commit" is repeated: it makes a prepared destination commit. */
		if (ask(d, peer, mig, "commit", state, sizeof(state), instance, sizeof(instance), &e) == 0) {
			if (!strcmp(state, "committed")) {
				*out_committed = true;
				return;
			}
			if (!strcmp(state, "aborted") || !strcmp(state, "unknown")) {
				*out_committed = false;
				(void)gw_fail(why, GW_PEER, 0, "%s says that the migration is %s there", peer, state);
				return;
			}
		}
		if (pause_or_stop(d, ASK_EVERY_MS)) {
			/* godwitd ends in doubt: the journal keeps it, the guard keeps it
			 * frozen; the next godwitd asks on. This thread must not decide. */
			for (;;)
				pause();
		}
	}
}

/* One container of a pod: its leader's session on this host decides. */
static void follow_leader(struct gw_dest *s)
{
	for (;;) {
		bool led = gw_dest_pod_led(s);
		pthread_mutex_lock(&s->lock);
		bool decided = s->state != D_PREPARED;
		pthread_mutex_unlock(&s->lock);
		if (decided)
			return;
		/* A leader that commits commits us before it is anything else. */
		if (!led) {
			gw_dest_abort(s);
			return;
		}
		struct pollfd p[2] = {{.fd = s->wake_fd, .events = POLLIN}, {.fd = s->d->stop_fd, .events = POLLIN}};
		if (poll(p, 2, LEADER_LOOK_MS) > 0 && p[1].revents)
			return;
	}
}

void gw_resolve_dest(struct gw_dest *s)
{
	if (s->pod_of.member) {
		follow_leader(s);
		return;
	}
	for (;;) {
		char state[24] = "", instance[40] = "";
		struct gw_err e = {.class = GW_OK};
		pthread_mutex_lock(&s->lock);
		bool decided = s->state != D_PREPARED;
		pthread_mutex_unlock(&s->lock);
		if (decided)
			return;
		if (ask(s->d, s->peer, s->mig, "query", state, sizeof(state), instance, sizeof(instance), &e) == 0) {
			bool other_life = instance[0] && s->peer_instance[0] && strcmp(instance, s->peer_instance) != 0;
			if (!strcmp(state, "committing") || !strcmp(state, "moved") ||
			    (!strcmp(state, "unknown") && other_life)) {
				/* In its other life the source died with its host: this is the only copy. */
				if (gw_dest_commit(s, &e) < 0)
					gw_error("commit failed", kv_str("mig", s->mig), kv_str("reason", e.text));
				return;
			}
			if (!strcmp(state, "aborted") || !strcmp(state, "unknown")) {
				gw_dest_abort(s);
				return;
			}
		}
		struct pollfd p[2] = {{.fd = s->wake_fd, .events = POLLIN}, {.fd = s->d->stop_fd, .events = POLLIN}};
		if (poll(p, 2, ASK_EVERY_MS) > 0 && p[1].revents)
			return; /* godwitd ends: CRIU, seeing it go, kills the stopped copy */
	}
}

void gw_resolve_gone(struct gw_daemon *d, const char *mig, const char *peer)
{
	char state[24], instance[40];
	struct gw_err e;
	if (ask(d, peer, mig, "gone", state, sizeof(state), instance, sizeof(instance), &e) < 0)
		gw_info("the destination was not told that the source is gone; it keeps a small record",
		        kv_str("mig", mig), kv_str("reason", e.text));
}

/* ---- being asked ---- */

static const char *source_state(struct gw_daemon *d, const char *mig)
{
	const char *state = NULL;
	pthread_mutex_lock(&d->lock);
	for (struct gw_source *s = d->sources; s && !state; s = s->next)
		if (!strcmp(s->mig, mig)) {
			pthread_mutex_lock(&s->lock);
			state = gw_source_state_name(s->state);
			pthread_mutex_unlock(&s->lock);
		}
	pthread_mutex_unlock(&d->lock);
	return state;
}

/* What the journal says, for a migration that no thread is busy with. */
static const char *journal_state(struct gw_daemon *d, const char *mig)
{
	char path[PATH_MAX];
	struct gw_journal j;
	gw_path(path, sizeof(path), "%s/journal/%s.json", d->cfg.state_dir, mig);
	if (gw_journal_read(path, &j, NULL) < 0)
		return "unknown";
	const char *name = j.is_source ? gw_source_state_name(j.source) : gw_dest_state_name(j.dest);
	/* Nobody holds the stopped copy any more: it died with the godwitd before. */
	if (!j.is_source && j.dest != D_COMMITTED)
		name = gw_dest_state_name(D_ABORTED);
	gw_journal_done(&j);
	return name;
}

/* A copy of a pod's leader is committed by its file, even when its entry is not yet written. */
bool gw_resolve_deny(struct gw_daemon *d, const char *mig)
{
	char path[PATH_MAX];
	const char *state = gw_dest_deny(d, mig);
	if (!state)
		state = journal_state(d, mig);
	gw_commit_path(d->cfg.state_dir, mig, path, sizeof(path));
	return !strcmp(state, "committed") || access(path, F_OK) == 0;
}

static void forget_committed(struct gw_daemon *d, const char *mig)
{
	char path[PATH_MAX];
	gw_commit_path(d->cfg.state_dir, mig, path, sizeof(path));
	(void)unlink(path);
	gw_journal_remove(d->cfg.state_dir, mig);
}

void gw_resolve_query(struct gw_daemon *d, struct gw_conn *c, const char *mig)
{
	struct gw_err e;
	struct gw_frame f;
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	const char *word;
	int rc = gw_hello_send(c, "query", mig, &e);
	if (rc == 0)
		rc = gw_conn_recv(c, ASK_TIMEOUT_MS, &f, &e);
	if (rc == 0)
		rc = gw_msg_parse(&f, &doc, &word, &e);
	if (rc < 0)
		return;
	const char *state = source_state(d, mig);
	if (!state)
		state = gw_dest_decide(d, mig, word, gw_conn_peer(c));
	if (!state)
		state = journal_state(d, mig);
	if (!strcmp(word, "gone") && !strcmp(state, "committed"))
		forget_committed(d, mig);
	struct gw_msg m = gw_msg_new("state");
	yyjson_mut_obj_add_str(m.doc, m.root, "state", state);
	yyjson_mut_obj_add_str(m.doc, m.root, "instance", d->instance);
	(void)gw_msg_send(c, &m, &e);
}

/* ---- after a restart ---- */

/* The dead copy of a pod's container stays until the pod's object has gone. */
static void end_of_claimed(struct gw_daemon *d, struct gw_journal *j)
{
	struct gw_err e;
	if (gw_held_begin(d, j->mig, j->container, true, &e) < 0)
		gw_error("the dead copy is not kept from its runtime", kv_str("mig", j->mig), kv_str("reason", e.text));
	if (gw_held_wait(d, j->mig) < 0)
		for (;;)
			pause();
	gw_held_end(d, j->mig);
	if (gw_freezer_kill(j->freezer_dir, KILL_TIMEOUT_MS, &e) < 0)
		gw_error("moved container not killed", kv_str("mig", j->mig), kv_str("reason", e.text));
	gw_resolve_gone(d, j->mig, j->peer);
}

/* Its network is open and its runtime has its way again. */
static void unmark(struct gw_daemon *d, const struct gw_journal *j, const struct gw_pod *pod)
{
	struct gw_err e;
	for (unsigned i = 0; i < pod->naddrs; i++)
		if (gw_ipam_away_clear(d->cfg.cni_dir, &pod->addrs[i], &e) < 0)
			gw_error("address still marked as away", kv_str("mig", j->mig), kv_str("reason", e.text));
}

static void unhold(struct gw_daemon *d, const struct gw_journal *j)
{
	char path[PATH_MAX + 300];
	gw_path(path, sizeof(path), "%s/held/%s", d->cfg.state_dir, j->container);
	(void)unlink(path);
}

static void end_of_source(struct gw_daemon *d, struct gw_journal *j, bool moved)
{
	struct gw_err e;
	struct gw_pod pod;
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	struct gw_host h;
	bool have_pod = j->pod_json && gw_json_parse(j->pod_json, strlen(j->pod_json), "journal", &doc, &e) == 0 &&
	                gw_pod_from_json(yyjson_doc_get_root(doc), &pod, &e) == 0;
	if (!moved) {
		/* Sealed or not: godwitd may have died anywhere. */
		if (have_pod && gw_mover_routed.unseal(j->container, &pod, &e) < 0)
			gw_warn("network not opened again", kv_str("mig", j->mig), kv_str("reason", e.text));
		if (have_pod && j->is_claimed)
			unmark(d, j, &pod);
		if (j->is_claimed)
			unhold(d, j);
		if (j->cpu_quota_path[0])
			(void)gw_write_knob(j->cpu_quota_path, j->cpu_quota);
		if (j->freezer_dir[0] && gw_freezer_thaw(j->freezer_dir, &e) < 0 && e.err != ENOENT)
			gw_error("thaw failed", kv_str("mig", j->mig), kv_str("reason", e.text));
		return;
	}
	/* The network goes before the processes: their sockets may have left
	 * repair mode with the godwitd that died, and would say FIN. */
	if (have_pod && gw_host_find(d, j->peer, &h, &e) == 0 &&
	    gw_mover_routed.turn(j->container, &pod, h.addrs, &e) < 0)
		gw_error("route not turned", kv_str("mig", j->mig), kv_str("reason", e.text));
	if (j->is_claimed) {
		end_of_claimed(d, j);
		return;
	}
	if (have_pod && gw_mover_routed.discard(j->container, &pod, j->netns_path, &e) < 0)
		gw_warn("network of the moved container not removed", kv_str("mig", j->mig), kv_str("reason", e.text));
	if (gw_freezer_kill(j->freezer_dir, KILL_TIMEOUT_MS, &e) < 0)
		gw_error("moved container not killed", kv_str("mig", j->mig), kv_str("reason", e.text));
	const char *const argv[] = {
	        d->cfg.runc[0] ? d->cfg.runc : "runc", "--root", j->runc_root, "delete", "--force", j->container, NULL};
	struct gw_spawn sp = {.argv = argv, .stdio = {-1, -1, -1}};
	if (gw_proc_run(&sp, DELETE_TIMEOUT_MS, NULL, &e) < 0)
		gw_warn("moved container not deleted", kv_str("mig", j->mig), kv_str("reason", e.text));
	gw_resolve_gone(d, j->mig, j->peer);
}

struct recovery {
	struct gw_daemon *d;
	struct gw_journal j;
};

/* Had the leader said commit, or may it have? Its entry tells. */
static bool leader_has_committed(struct gw_daemon *d, const char *leader)
{
	char path[PATH_MAX];
	struct gw_journal j;
	gw_path(path, sizeof(path), "%s/journal/%s.json", d->cfg.state_dir, leader);
	if (gw_journal_read(path, &j, NULL) < 0)
		return false;
	bool yes = j.is_source && (j.source == S_COMMITTING || j.source == S_MOVED);
	gw_journal_done(&j);
	return yes;
}

/* In doubt, or moved and kept. */
static void *doubt_main(void *arg)
{
	struct recovery *r = arg;
	struct gw_err why = {.class = GW_OK};
	bool committed = false;
	if (r->j.source == S_MOVED)
		committed = true;
	else if (!r->j.leader[0] || leader_has_committed(r->d, r->j.leader))
		gw_resolve_source(r->d, r->j.leader[0] ? r->j.leader : r->j.mig, r->j.peer, &why, &committed);
	if (committed && r->j.source == S_COMMITTING && r->j.is_claimed) {
		struct gw_err e;
		r->j.source = S_MOVED; /* its leader's entry may be gone before ours */
		if (gw_journal_write(r->d->cfg.state_dir, &r->j, &e) < 0)
			gw_error("journal not written", kv_str("mig", r->j.mig), kv_str("reason", e.text));
	}
	gw_info("doubt resolved", kv_str("mig", r->j.mig), kv_str("container", r->j.container),
	        kv_str("outcome", committed ? "moved" : "kept"));
	end_of_source(r->d, &r->j, committed);
	gw_journal_remove(r->d->cfg.state_dir, r->j.mig);
	gw_journal_done(&r->j);
	free(r);
	return NULL;
}

static void recover_source(struct gw_daemon *d, struct gw_journal *j)
{
	if (j->source != S_COMMITTING && !(j->source == S_MOVED && j->is_claimed)) {
		end_of_source(d, j, j->source == S_MOVED);
		gw_journal_remove(d->cfg.state_dir, j->mig);
		return;
	}
	struct recovery *r = calloc(1, sizeof(*r));
	assert(r);
	*r = (struct recovery){.d = d, .j = *j};
	j->pod_json = NULL; /* r owns it now */
	pthread_t t;
	int rc = pthread_create(&t, NULL, doubt_main, r);
	assert(rc == 0);
	pthread_detach(t);
}

static void recover_dest(struct gw_daemon *d, struct gw_journal *j)
{
	char path[PATH_MAX];
	struct gw_err e;
	struct gw_pod pod;
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	bool have_pod = j->pod_json && gw_json_parse(j->pod_json, strlen(j->pod_json), "journal", &doc, &e) == 0 &&
	                gw_pod_from_json(yyjson_doc_get_root(doc), &pod, &e) == 0;
	gw_commit_path(d->cfg.state_dir, j->leader[0] ? j->leader : j->mig, path, sizeof(path));
	if (j->dest == D_COMMITTED || access(path, F_OK) == 0) {
		if (have_pod && gw_mover_routed.activate(j->is_claimed ? j->sandbox : j->container, &pod, &e) < 0)
			gw_error("route to the arrived container not set", kv_str("mig", j->mig),
			         kv_str("reason", e.text));
		if (have_pod && gw_mover_routed.settle(j->container, &pod, &e) < 0)
			gw_error("the arrived container cannot end connections", kv_str("mig", j->mig),
			         kv_str("reason", e.text));
		gw_dest_pod_talk(j->netns_path, j->mig);
		j->dest = D_COMMITTED;
		if (gw_journal_write(d->cfg.state_dir, j, &e) < 0)
			gw_error("journal not written", kv_str("mig", j->mig), kv_str("reason", e.text));
		return; /* kept until the source says that it is gone */
	}
	const char *const argv[] = {
	        d->cfg.runc[0] ? d->cfg.runc : "runc", "--root", j->runc_root, "delete", "--force", j->container, NULL};
	struct gw_spawn sp = {.argv = argv, .stdio = {-1, -1, -1}};
	if (j->container[0])
		(void)gw_proc_run(&sp, DELETE_TIMEOUT_MS, NULL, &e);
	if (have_pod && !j->is_claimed)
		(void)gw_mover_routed.discard(j->container, &pod, NULL, &e);
	if (j->container[0]) {
		gw_path(path, sizeof(path), "%s/bundles/%s", d->cfg.state_dir, j->container);
		(void)gw_remove_tree(path, &e);
	}
	gw_journal_remove(d->cfg.state_dir, j->mig);
}

static void recover_one(void *ctx, struct gw_journal *j)
{
	struct gw_daemon *d = ctx;
	char dir[PATH_MAX];
	struct gw_err e;
	gw_info("found an unfinished migration", kv_str("mig", j->mig), kv_str("container", j->container),
	        kv_str("role", j->is_source ? "source" : "destination"),
	        kv_str("state", j->is_source ? gw_source_state_name(j->source) : gw_dest_state_name(j->dest)));
	if (j->is_source)
		recover_source(d, j);
	else
		recover_dest(d, j);
	gw_mig_dir(d, j->mig, dir, sizeof(dir));
	(void)gw_remove_tree(dir, &e);
}

/* Work files of migrations that had not come so far as to be in the journal. */
static void sweep_work(struct gw_daemon *d)
{
	char path[PATH_MAX + 300];
	struct gw_err e;
	gw_path(path, sizeof(path), "%s/mig", d->cfg.state_dir);
	gw_auto(dir) DIR *dir = opendir(path);
	for (struct dirent *de; dir && (de = readdir(dir));) {
		if (!gw_mig_valid(de->d_name))
			continue; /* ".", and MIG.commit */
		gw_path(path, sizeof(path), "%s/journal/%s.json", d->cfg.state_dir, de->d_name);
		if (access(path, F_OK) == 0)
			continue;
		gw_path(path, sizeof(path), "%s/mig/%s", d->cfg.state_dir, de->d_name);
		if (gw_remove_tree(path, &e) < 0)
			gw_warn("work files not removed", kv_str("path", path), kv_str("reason", e.text));
	}
}

void gw_resolve_recover(struct gw_daemon *d)
{
	struct gw_err e;
	if (gw_hold_sweep(&e) < 0)
		gw_warn("rules of an earlier godwitd not removed", kv_str("reason", e.text));
	gw_journal_each(d->cfg.state_dir, recover_one, d);
	sweep_work(d);
}
