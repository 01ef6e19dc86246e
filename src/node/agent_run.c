/* agent_run: the check and the move of one Migration whose source is here. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/gw_log.h"
#include "base/io.h"
#include "base/scope.h"
#include "move/held.h"
#include "node/agent_priv.h"

enum {
	TELL_EVERY_MS = 1000,
	LOOK_MS = 200,
	TELL_MOVED_AFTER_US = 100000,
	TIMEOUT_S = 600,
	RECOVER_LOOK_US = 200000,
	FEW_TRIES = 4, /* after so many it may be given up, if somebody says so */
	AGAIN_AFTER_US = 2000000,
	AGAIN_MAX_US = 30000000
};

struct job {
	struct agent *a;
	struct gw_migration m;
	struct gw_kube *k;
};

static void launch(struct agent *a, const struct gw_migration *m, void *(*body)(void *))
{
	if (!agent_begin(a, m->uid))
		return;
	struct job *j = calloc(1, sizeof(*j));
	struct gw_err e;
	pthread_t t;
	bool ok = j != NULL;
	if (ok) {
		*j = (struct job){.a = a, .m = *m};
		ok = gw_kube_open(&a->config, &j->k, &e) == 0;
		if (ok)
			gw_kube_account(j->k, GW_BY_AGENTS, m->asked_agents);
	}
	if (ok && pthread_create(&t, NULL, body, j) == 0) {
		pthread_detach(t);
		return;
	}
	gw_error("no thread for a migration", kv_str("mig", m->uid));
	if (j)
		gw_kube_close(j->k);
	free(j);
	agent_end(a, m->uid);
}

static void job_end(struct job *j)
{
	agent_end(j->a, j->m.uid);
	gw_kube_close(j->k);
	free(j);
}

/* Does the migration still wait for a word of ours? */
static bool is_awaited(struct job *j)
{
	struct gw_migration now;
	struct pollfd p = {.fd = j->a->d->stop_fd, .events = POLLIN};
	return heard_latest(&j->a->heard, j->m.uid, &now) && !gw_migration_committed(&now) && poll(&p, 1, 0) == 0;
}

/* Where a migration has come to: nobody else can say it, and the watch asks for it
 * only once. So it is said until it is heard, or no longer asked. Frees doc. */
static int tell(struct job *j, yyjson_mut_doc *doc)
{
	gw_auto(jmut) yyjson_mut_doc *mine = doc;
	const char *phase = yyjson_mut_get_str(yyjson_mut_obj_get(yyjson_mut_doc_get_root(mine), "phase"));
	for (;;) {
		struct gw_err e;
		int rc = gw_migration_patch_status(j->k, &j->m, yyjson_mut_doc_mut_copy(mine, NULL), &e);
		if (rc == 0)
			return 0;
		gw_error("the API server was not told", kv_str("mig", j->m.uid), kv_str("phase", phase ?: ""),
		         kv_str("reason", e.text));
		if (rc == -ENOENT || rc == -EINVAL || !is_awaited(j))
			return rc;
		gw_sleep_us(AGAIN_AFTER_US);
	}
}

static void tell_phase(struct job *j, const char *phase, const char *reason, const char *words)
{
	(void)tell(j, gw_migration_phase_doc(phase, reason, words));
}

static void fill_opts(const struct job *j, struct gw_move_opts *o)
{
	const struct gw_migration *m = &j->m;
	gw_move_defaults(o);
	(void)snprintf(o->container, sizeof(o->container), "%s", m->containers[0].id);
	(void)snprintf(o->to, sizeof(o->to), "%.127s", m->target_node);
	(void)snprintf(o->runc_root, sizeof(o->runc_root), "%s", j->a->d->cfg.runc_root);
	(void)snprintf(o->claim, sizeof(o->claim), "%s", m->containers[0].name);
	(void)snprintf(o->mig, sizeof(o->mig), "%s", m->uid);
	o->same_name = !strcmp(m->method, "SameName");
	if (m->max_freeze_ms)
		o->max_freeze_us = m->max_freeze_ms * 1000;
	if (m->want_freeze_ms)
		o->want_freeze_us = m->want_freeze_ms * 1000;
	o->bandwidth = m->bandwidth;
	o->throttle = m->throttle;
	o->zstd = m->zstd;
	o->timeout_ms = (m->timeout_s ? m->timeout_s : TIMEOUT_S) * 1000;
}

/* ---- the check ---- */

static void put_reasons(yyjson_mut_doc *doc, yyjson_mut_val *check, yyjson_val *result)
{
	yyjson_mut_val *arr = yyjson_mut_arr(doc);
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(result, "reasons"));
	for (yyjson_val *v; (v = yyjson_arr_iter_next(&it));) {
		yyjson_mut_val *o = yyjson_mut_arr_add_obj(doc, arr);
		yyjson_mut_obj_add_strcpy(doc, o, "code", gw_json_str(v, "code", ""));
		yyjson_mut_obj_add_strcpy(doc, o, "text", gw_json_str(v, "text", ""));
		yyjson_mut_obj_add_strcpy(doc, o, "wayOut", gw_json_str(v, "way_out", ""));
		yyjson_mut_obj_add_bool(doc, o, "isWarning", gw_json_bool(v, "is_warning", false));
	}
	yyjson_mut_obj_add_bool(doc, check, "ok", gw_json_bool(result, "ok", false));
	yyjson_mut_obj_add_val(doc, check, "reasons", arr);
}

static yyjson_val *first_blocker(yyjson_val *result)
{
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(result, "reasons"));
	for (yyjson_val *v; (v = yyjson_arr_iter_next(&it));)
		if (!gw_json_bool(v, "is_warning", false))
			return v;
	return NULL;
}

static void tell_check(struct job *j, yyjson_val *result)
{
	char words[900], now[32];
	yyjson_mut_doc *doc = gw_status_new();
	yyjson_mut_val *o = yyjson_mut_doc_get_root(doc), *check = yyjson_mut_obj(doc);
	yyjson_val *why = first_blocker(result);
	put_reasons(doc, check, result);
	yyjson_mut_obj_add_val(doc, o, "check", check);
	yyjson_mut_obj_add_strcpy(doc, o, "network", gw_json_str(result, "network", ""));
	yyjson_mut_obj_add_str(doc, o, "phase", why ? "Failed" : j->m.check_only ? "Succeeded" : "Placing");
	gw_k8s_now(now);
	if (!why && j->m.check_only)
		yyjson_mut_obj_add_str(doc, o, "reason", "CanMove");
	if (why) {
		(void)snprintf(words, sizeof(words), "%s. %s", gw_json_str(why, "text", ""),
		               gw_json_str(why, "way_out", ""));
		yyjson_mut_obj_add_strcpy(doc, o, "reason", gw_json_str(why, "code", ""));
		yyjson_mut_obj_add_str(doc, o, "message", words);
		yyjson_mut_obj_add_str(doc, o, "completionTime", now);
	}
	(void)tell(j, doc);
}

/* Each container of the pod is looked at; what is said of one is said of the pod. */
static int check_all(struct job *j, yyjson_mut_doc *doc, struct gw_err *e)
{
	struct gw_move_opts o;
	int rc = 0;
	bool ok = true;
	yyjson_mut_val *root = yyjson_mut_doc_get_root(doc), *all = yyjson_mut_arr(doc);
	fill_opts(j, &o);
	for (unsigned i = 0; rc == 0 && i < j->m.ncontainers; i++) {
		yyjson_mut_val *one = yyjson_mut_obj(doc);
		(void)snprintf(o.container, sizeof(o.container), "%s", j->m.containers[i].id);
		(void)snprintf(o.claim, sizeof(o.claim), "%s", j->m.containers[i].name);
		rc = gw_source_check(j->a->d, &o, doc, one, e);
		if (rc < 0)
			break;
		ok &= yyjson_mut_get_bool(yyjson_mut_obj_get(one, "ok"));
		yyjson_mut_val *reasons = yyjson_mut_obj_get(one, "reasons"), *r;
		while ((r = yyjson_mut_arr_remove_first(reasons)))
			yyjson_mut_arr_append(all, r);
		if (i == 0)
			yyjson_mut_obj_add_val(doc, root, "network", yyjson_mut_obj_remove_key(one, "network"));
	}
	yyjson_mut_obj_add_bool(doc, root, "ok", ok);
	yyjson_mut_obj_add_val(doc, root, "reasons", all);
	return rc;
}

static void *check_main(void *arg)
{
	struct job *j = arg;
	struct gw_err e = {.class = GW_OK};
	gw_auto(jmut) yyjson_mut_doc *doc = gw_status_new();
	int rc = check_all(j, doc, &e);
	gw_auto(jdoc) yyjson_doc *result = rc == 0 ? yyjson_mut_doc_imut_copy(doc, NULL) : NULL;
	if (rc == 0 && result)
		tell_check(j, yyjson_doc_get_root(result));
	else
		tell_phase(j, "Failed", e.code[0] ? e.code : "CheckFailed", e.text);
	/* The controller may have answered with PreCopy while this thread was still at
	 * it: the watch told of it once, and found it busy. */
	struct agent *a = j->a;
	struct gw_migration now = j->m;
	job_end(j);
	if (heard_latest(&a->heard, now.uid, &now) && agent_is_moving(&now))
		agent_move(a, &now);
	return NULL;
}

void agent_check(struct agent *a, const struct gw_migration *m)
{
	launch(a, m, check_main);
}

/* ---- the move ---- */

enum agent_engine agent_engine(struct agent *a, const char *uid)
{
	char path[PATH_MAX + 64];
	if (gw_held_moved(a->d, uid))
		return ENGINE_MOVED;
	gw_path(path, sizeof(path), "%s/journal/%s.json", a->d->cfg.state_dir, uid);
	return access(path, F_OK) == 0 ? ENGINE_BUSY : ENGINE_NONE;
}

static void tell_progress(struct job *j, const struct gw_facts_of_run *r)
{
	struct gw_err e;
	yyjson_mut_doc *doc = gw_status_new();
	yyjson_mut_val *p = yyjson_mut_obj(doc);
	yyjson_mut_obj_add_uint(doc, p, "rounds", r->rounds);
	yyjson_mut_obj_add_uint(doc, p, "sentBytes", r->bytes);
	yyjson_mut_obj_add_uint(doc, p, "totalBytes", r->total_pages * 4096);
	yyjson_mut_obj_add_uint(doc, p, "dirtyRateBps", r->dirty_rate_bps);
	yyjson_mut_obj_add_uint(doc, p, "sendRateBps", r->send_rate_bps);
	yyjson_mut_obj_add_uint(doc, p, "predictedFreezeMs", r->predicted_us / 1000);
	yyjson_mut_obj_add_val(doc, yyjson_mut_doc_get_root(doc), "progress", p);
	if (gw_migration_patch_status(j->k, &j->m, doc, &e) < 0)
		gw_warn("progress not told", kv_str("mig", j->m.uid), kv_str("reason", e.text));
}

static int tell_committed(struct job *j, const struct gw_facts_of_run *r)
{
	yyjson_mut_doc *doc = gw_status_new();
	yyjson_mut_val *o = yyjson_mut_doc_get_root(doc);
	yyjson_mut_obj_add_str(doc, o, "phase", "Committed");
	if (r) {
		yyjson_mut_val *res = yyjson_mut_obj(doc), *steps = yyjson_mut_obj(doc);
		for (int i = 0; i < GW_STEPS; i++)
			yyjson_mut_obj_add_uint(doc, steps, gw_step_names[i], r->step_us[i]);
		yyjson_mut_obj_add_uint(doc, res, "freezeMs", (r->freeze_us + 500) / 1000);
		yyjson_mut_obj_add_uint(doc, res, "freezeUs", r->freeze_us);
		yyjson_mut_obj_add_uint(doc, res, "heldPackets", r->held_packets);
		yyjson_mut_obj_add_uint(doc, res, "rounds", r->rounds);
		yyjson_mut_obj_add_uint(doc, res, "sentBytes", r->bytes);
		yyjson_mut_obj_add_val(doc, res, "stepsUs", steps);
		yyjson_mut_obj_add_val(doc, o, "result", res);
	}
	return tell(j, doc);
}

/* Until it ends or has moved. true: it has ended, *out says how. */
static bool accompany(struct job *j, struct gw_progress *p, bool *inout_handed, struct gw_facts_of_run *out)
{
	uint64_t version = 0, told_ms = gw_now_ms();
	for (;;) {
		struct gw_facts_of_run r;
		gw_progress_get(p, &version, LOOK_MS, &r);
		if (!strcmp(r.phase, "Moved") || !strcmp(r.phase, "Done")) {
			gw_metrics_ended(j->a->metrics, "Committed", "", r.freeze_us, r.bytes);
			/* Everybody who watches begins to work then; first its clients catch up. */
			gw_sleep_us(TELL_MOVED_AFTER_US);
			(void)tell_committed(j, &r);
			return false;
		}
		if (r.ended_ms) {
			*out = r;
			return true;
		}
		if (!strcmp(r.phase, "Waiting") && !*inout_handed && !strcmp(j->m.method, "SameName")) {
			*inout_handed = true;
			tell_phase(j, "HandOver", NULL, NULL);
		}
		bool stands = !strcmp(r.phase, "Freezing") || !strcmp(r.phase, "Committing");
		if (gw_now_ms() - told_ms >= TELL_EVERY_MS && r.rounds && !stands) {
			told_ms = gw_now_ms();
			tell_progress(j, &r);
		}
		gw_sleep_us(20000);
	}
}

/* Also when it is over: the destination may have said so, while this node was away. */
static bool is_asked_to_end(struct job *j)
{
	struct gw_migration now;
	return !heard_latest(&j->a->heard, j->m.uid, &now) || now.abort;
}

/* The controller's reason to call it off; "" for none. */
static void called_off(struct job *j, char out[64])
{
	struct gw_migration now;
	bool is = heard_latest(&j->a->heard, j->m.uid, &now) && now.abort;
	(void)snprintf(out, 64, "%s", is ? now.reason : "");
}

/* Does nobody want the process any more, whose object is gone? Then it ends, before that is said:
 * another of its name may begin then. */
static bool give_up(struct job *j, const char *reason)
{
	static const char *const given_up[] = {"OwnerGone", "NamespaceGone", "GivenUp"};
	bool is = false;
	for (size_t i = 0; i < gw_countof(given_up); i++)
		is |= !strcmp(reason, given_up[i]);
	for (unsigned i = 0; is && i < j->m.ncontainers; i++)
		gw_held_kill(j->a->d, j->m.containers[i].id);
	return is;
}

/* A godwitd before this one was at it. */
static bool wait_recovered(struct job *j)
{
	for (;;) {
		enum agent_engine was = agent_engine(j->a, j->m.uid);
		if (was == ENGINE_MOVED)
			(void)tell_committed(j, NULL);
		if (was != ENGINE_BUSY)
			return was == ENGINE_NONE;
		gw_sleep_us(RECOVER_LOOK_US);
	}
}

static int start_all(struct job *j, const struct gw_move_opts *o, struct gw_progress **out, struct gw_err *e)
{
	struct gw_member all[GW_CONTAINERS_MAX];
	for (unsigned i = 0; i < j->m.ncontainers; i++) {
		(void)snprintf(all[i].container, sizeof(all[i].container), "%s", j->m.containers[i].id);
		(void)snprintf(all[i].claim, sizeof(all[i].claim), "%s", j->m.containers[i].name);
	}
	return gw_source_start_pod(j->a->d, o, all, j->m.ncontainers, out, e);
}

/* 2, 4, 8 ... 30 s; false: asked to end meanwhile. */
static bool wait_for_try(struct job *j, unsigned tries)
{
	uint64_t us = AGAIN_AFTER_US;
	for (unsigned i = FEW_TRIES; i <= tries && us < AGAIN_MAX_US; i++)
		us *= 2;
	for (uint64_t end = gw_now_us() + (us < AGAIN_MAX_US ? us : AGAIN_MAX_US); gw_now_us() < end;) {
		if (is_asked_to_end(j))
			return false;
		gw_sleep_us(RECOVER_LOOK_US);
	}
	return true;
}

/* A pod whose name stays has given up its object in the hand-over: its process is
 * kept from kubelet and serves its clients, and to let go of it would be the end of
 * its memory. So what failed is tried again, until it is done or somebody gives it up. */
static bool try_again(struct job *j, const struct gw_facts_of_run *r, bool handed, unsigned tries)
{
	char words[900];
	bool few = tries < FEW_TRIES;
	if (!handed || !strcmp(r->phase, "Cancelled") || is_asked_to_end(j))
		return false;
	(void)snprintf(words, sizeof(words), "try %u failed: %.600s%s%s%s", tries, r->err.text,
	               few ? "" : ". Its process runs on ", few ? "" : j->a->d->cfg.name,
	               few ? ""
	                   : ", and godwit tries on. To give its memory up and start it anew: kubectl godwit cancel");
	gw_warn("the move is tried again", kv_str("mig", j->m.uid), kv_u64("try", tries),
	        kv_str("reason", r->err.text));
	tell_phase(j, "HandOver", few ? "TryingAgain" : "StillTrying", words);
	return wait_for_try(j, tries);
}

/* There is no container here to move. That it is not there may be because it was
 * moved, by a godwitd whose host lost its power before it could say so: then the
 * destination knows, and only its answer counts. */
static bool has_moved_before(struct job *j, const struct gw_facts_of_run *r)
{
	struct gw_err e;
	char state[24] = "";
	bool said = false;
	if (strcmp(r->err.code, "NoSuchContainer") != 0 && strcmp(r->err.code, "NotRunning") != 0)
		return false;
	while (gw_resolve_ask(j->a->d, j->m.uid, j->m.target_node, state, sizeof(state), &e) < 0 ||
	       !strcmp(state, "prepared")) {
		if (!said)
			gw_warn("the container is gone, and whether it was moved is not known", kv_str("mig", j->m.uid),
			        kv_str("peer", j->m.target_node), kv_str("reason", e.text));
		said = true;
		gw_sleep_us(AGAIN_AFTER_US);
	}
	if (strcmp(state, "committed") != 0)
		return false;
	gw_info("it was moved before this host lost its memory of it", kv_str("mig", j->m.uid));
	/* The destination's record is the only one: it stays until the commit is told. */
	if (tell_committed(j, NULL) == 0)
		gw_resolve_gone(j->a->d, j->m.uid, j->m.target_node);
	return true;
}

static void move_until_it_ends(struct job *j)
{
	struct gw_move_opts o;
	struct gw_progress *p;
	struct gw_err e = {.class = GW_OK};
	struct gw_facts_of_run r;
	bool handed = !strcmp(j->m.phase, "HandOver");
	unsigned tries = 0;
	fill_opts(j, &o);
	do {
		if (start_all(j, &o, &p, &e) < 0) {
			tell_phase(j, "Failed", e.code[0] ? e.code : "MigrationFailed", e.text);
			gw_held_end_pod(j->a->d, j->m.uid);
			return;
		}
		bool ended = accompany(j, p, &handed, &r);
		gw_progress_unref(p);
		if (!ended || has_moved_before(j, &r))
			return;
	} while (try_again(j, &r, handed, ++tries));
	char off[64];
	called_off(j, off);
	bool cancelled = give_up(j, off) || !strcmp(r.phase, "Cancelled");
	const char *end = cancelled ? "Cancelled" : "Failed", *reason = cancelled && off[0] ? off
	                                                                : r.err.code[0]     ? r.err.code
	                                                                                    : "MigrationFailed";
	gw_metrics_ended(j->a->metrics, end, reason, 0, r.bytes);
	tell_phase(j, end, reason, r.err.text);
	gw_held_end_pod(j->a->d, j->m.uid);
}

static void *move_main(void *arg)
{
	struct job *j = arg;
	bool free_hand = wait_recovered(j);
	if (free_hand && (j->m.cancel || j->m.deleting || j->m.abort)) {
		char off[64];
		called_off(j, off);
		(void)give_up(j, off);
		tell_phase(j, "Cancelled", off[0] ? off : "Cancelled", "called off before pre-copy began");
		gw_held_end_pod(j->a->d, j->m.uid);
	} else if (free_hand) {
		move_until_it_ends(j);
	}
	job_end(j);
	return NULL;
}

void agent_move(struct agent *a, const struct gw_migration *m)
{
	launch(a, m, move_main);
}

/* ---- the destination's word, when the source is lost ---- */

/* First it can never be committed any more, then that is said. */
static void *answer_main(void *arg)
{
	struct job *j = arg;
	bool committed = gw_resolve_deny(j->a->d, j->m.uid);
	gw_info("the source is lost", kv_str("mig", j->m.uid),
	        kv_str("outcome", committed ? "committed" : "discarded"));
	if (committed)
		(void)tell_committed(j, NULL);
	else
		tell_phase(j, "Failed", "SourceLost", "the source's node was lost before the commit");
	job_end(j);
	return NULL;
}

void agent_answer(struct agent *a, const struct gw_migration *m)
{
	launch(a, m, answer_main);
}
