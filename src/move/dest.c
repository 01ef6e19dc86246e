/* dest: one incoming migration, from hello to "gone". */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/gw_log.h"
#include "base/io.h"
#include "base/scope.h"
#include "base/trim.h"
#include "cni/ipam.h"
#include "cni/record.h"
#include "move/dest_priv.h"
#include "move/msg.h"

enum {
	RESTORE_TIMEOUT_MS = 20000,
	RUNC_END_TIMEOUT_MS = 60000,
	IDLE_TIMEOUT_MS = 600000, /* a source that says nothing for so long is gone */
	FILL_LOOK_MS = 100,
};

/* ---- registry ---- */

static struct gw_dest *find_locked(struct gw_daemon *d, const char *mig)
{
	for (struct gw_dest *s = d->dests; s; s = s->next)
		if (!strcmp(s->mig, mig))
			return s;
	return NULL;
}

static struct gw_dest *session_new(struct gw_daemon *d, struct gw_conn *c, const char *mig)
{
	struct gw_dest *s = calloc(1, sizeof(*s));
	assert(s);
	s->d = d;
	(void)snprintf(s->mig, sizeof(s->mig), "%s", mig);
	(void)snprintf(s->peer, sizeof(s->peer), "%s", gw_conn_peer(c));
	(void)snprintf(s->claim_mig, sizeof(s->claim_mig), "%s", mig);
	gw_mig_dir(d, mig, s->dir, sizeof(s->dir));
	gw_commit_path(d->cfg.state_dir, mig, s->commit_file, sizeof(s->commit_file));
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->data_idle, NULL);
	s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->state = D_RECEIVING;
	for (int i = 0; i < 3; i++)
		s->stdio[i] = -1;
	(void)snprintf(s->journal.mig, sizeof(s->journal.mig), "%s", mig);
	(void)snprintf(s->journal.peer, sizeof(s->journal.peer), "%s", s->peer);
	(void)snprintf(s->journal.runc_root, sizeof(s->journal.runc_root), "%s", d->cfg.runc_root);
	s->progress = gw_progress_new(mig, "?", s->peer, d->cfg.name, true);
	return s;
}

static void session_free(struct gw_dest *s)
{
	struct gw_err ignored;
	gw_hold_free(s->hold);
	gw_room_free(s->room);
	gw_restore_close(s->restore);
	gw_pages_free(s->pages, false);
	gw_store_free(s->store);
	gw_dest_files_done(s);
	gw_journal_done(&s->journal);
	free(s->descriptors);
	free(s->shmem);
	gw_dest_links_drop(&s->pod_of);
	free(s->pod_of.links);
	for (int i = 0; i < 3; i++)
		if (s->stdio[i] >= 0)
			(void)close(s->stdio[i]);
	(void)close(s->wake_fd);
	(void)gw_remove_tree(s->dir, &ignored);
	gw_progress_unref(s->progress);
	pthread_cond_destroy(&s->data_idle);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

bool gw_dest_filling(struct gw_daemon *d, const char *container)
{
	bool hit = false;
	pthread_mutex_lock(&d->lock);
	for (struct gw_dest *s = d->dests; s && !hit; s = s->next)
		hit = !strcmp(s->container, container);
	pthread_mutex_unlock(&d->lock);
	return hit;
}

/* ---- data connections ---- */

static bool data_enter(struct gw_daemon *d, struct gw_conn *c, const char *mig, struct gw_dest **out)
{
	pthread_mutex_lock(&d->lock);
	struct gw_dest *s = find_locked(d, mig);
	bool ok = false;
	if (s && !strcmp(s->peer, gw_conn_peer(c))) {
		pthread_mutex_lock(&s->lock);
		ok = s->store && s->state == D_RECEIVING && s->data_active < gw_countof(s->data);
		if (ok)
			s->data[s->data_active++] = c;
		pthread_mutex_unlock(&s->lock);
	}
	pthread_mutex_unlock(&d->lock);
	*out = s;
	return ok;
}

static void data_leave(struct gw_dest *s, struct gw_conn *c)
{
	pthread_mutex_lock(&s->lock);
	for (unsigned i = 0; i < s->data_active; i++)
		if (s->data[i] == c) {
			s->data[i] = s->data[--s->data_active];
			break;
		}
	pthread_cond_broadcast(&s->data_idle);
	pthread_mutex_unlock(&s->lock);
}

void gw_dest_data(struct gw_daemon *d, struct gw_conn *c, const char *mig)
{
	struct gw_dest *s;
	struct gw_err e = {.class = GW_OK}, ignored;
	if (!data_enter(d, c, mig, &s)) {
		(void)gw_fail(&e, GW_PEER, EPROTO, "no migration %s is being received", mig);
		(void)gw_msg_send_error(c, &e, &ignored);
		return;
	}
	int rc = gw_hello_send(c, "data", mig, &e);
	if (rc == 0)
		rc = gw_recv_data(c, s->store, &s->counters, &e);
	if (rc < 0 && rc != -ECANCELED) {
		gw_warn("data connection lost", kv_str("mig", mig), kv_str("reason", e.text));
		(void)gw_msg_send_error(c, &e, &ignored);
	}
	data_leave(s, c);
}

static void data_stop(struct gw_dest *s)
{
	pthread_mutex_lock(&s->lock);
	for (unsigned i = 0; i < s->data_active; i++)
		gw_conn_shutdown(s->data[i]);
	while (s->data_active)
		pthread_cond_wait(&s->data_idle, &s->lock);
	pthread_mutex_unlock(&s->lock);
}

/* ---- decisions ---- */

static bool dest_step(struct gw_dest *s, enum gw_dest_event ev)
{
	pthread_mutex_lock(&s->lock);
	bool ok = gw_dest_next(&s->state, ev);
	pthread_mutex_unlock(&s->lock);
	return ok;
}

int gw_dest_commit(struct gw_dest *s, struct gw_err *e)
{
	pthread_mutex_lock(&s->lock);
	bool first = s->state == D_PREPARED;
	/* Of a pod it is the leader who is told: whoever tells another one changes nothing. */
	if (first && s->pod_of.member) {
		pthread_mutex_unlock(&s->lock);
		return gw_fail(e, GW_PEER, EPROTO, "a commit for one container of a pod");
	}
	int rc = first ? gw_dest_pod_bind(s, e) : 0;
	/* The commit point: this file. Everything after it only follows. */
	if (rc == 0 && first) {
		rc = gw_write_file(s->commit_file, s->peer, strlen(s->peer), e);
		if (rc < 0)
			gw_dest_pod_unbind(s);
	}
	/* Refused, that is for good: a source that asks again must not wait for a target that cannot be. */
	if (rc < 0)
		(void)gw_dest_next(&s->state, DE_FAIL);
	if (rc == 0 && !gw_dest_next(&s->state, DE_COMMIT))
		rc = gw_fail(e, GW_PEER, EPROTO, "commit of migration %s, which is %s", s->mig,
		             gw_dest_state_name(s->state));
	if (rc == 0 && first) {
		uint64_t t0 = gw_now_us();
		struct gw_err why;
		(void)gw_fault("dest-commit-point", &why);
		if (gw_mover_routed.activate(gw_dest_net_id(s), &s->pod, &why) < 0)
			gw_error("route to the arrived container not set", kv_str("mig", s->mig),
			         kv_str("reason", why.text));
		gw_restore_resume(s->restore);
		gw_dest_pod_commit(s);
		if (s->hold)
			gw_hold_release(s->hold);
		s->resume_us = gw_now_us() - t0;
		s->journal.dest = s->state;
		if (gw_journal_write(s->d->cfg.state_dir, &s->journal, &why) < 0)
			gw_error("journal not written", kv_str("mig", s->mig), kv_str("reason", why.text));
	}
	pthread_mutex_unlock(&s->lock);
	return rc;
}

void gw_dest_abort(struct gw_dest *s)
{
	(void)dest_step(s, DE_ABORT);
}

const char *gw_dest_decide(struct gw_daemon *d, const char *mig, const char *word, const char *peer)
{
	const char *answer = NULL;
	pthread_mutex_lock(&d->lock);
	struct gw_dest *s = find_locked(d, mig);
	if (s && (!peer || !strcmp(s->peer, peer))) {
		struct gw_err e;
		uint64_t one = 1;
		if (!strcmp(word, "commit") && gw_dest_commit(s, &e) < 0)
			gw_warn("commit refused", kv_str("mig", mig), kv_str("reason", e.text));
		if (!strcmp(word, "abort"))
			gw_dest_abort(s);
		pthread_mutex_lock(&s->lock);
		answer = gw_dest_state_name(s->state);
		if (s->state == D_COMMITTED || s->state == D_ABORTED) {
			(void)!write(s->wake_fd, &one, sizeof(one));
			if (s->ctl && *word)
				gw_conn_shutdown(s->ctl); /* it may hang on a dead link */
		}
		pthread_mutex_unlock(&s->lock);
	}
	pthread_mutex_unlock(&d->lock);
	return answer;
}

struct gw_denied {
	struct gw_denied *next;
	char mig[40];
};

static bool denied_locked(const struct gw_daemon *d, const char *mig)
{
	for (const struct gw_denied *n = d->denied; n; n = n->next)
		if (gw_group_is_of(mig, n->mig))
			return true;
	return false;
}

/* Under d's lock. A session that hangs on a dead link hears of it. */
static const char *end_session(struct gw_dest *s)
{
	uint64_t one = 1;
	gw_dest_abort(s);
	pthread_mutex_lock(&s->lock);
	const char *state = gw_dest_state_name(s->state);
	(void)!write(s->wake_fd, &one, sizeof(one));
	if (s->ctl && s->state == D_ABORTED)
		gw_conn_shutdown(s->ctl);
	pthread_mutex_unlock(&s->lock);
	return state;
}

const char *gw_dest_deny(struct gw_daemon *d, const char *mig)
{
	const char *answer = NULL;
	pthread_mutex_lock(&d->lock);
	if (!denied_locked(d, mig)) {
		struct gw_denied *n = calloc(1, sizeof(*n));
		assert(n);
		(void)snprintf(n->mig, sizeof(n->mig), "%s", mig);
		n->next = d->denied;
		d->denied = n;
	}
	/* The leader first: when it has committed, the others have. */
	struct gw_dest *leader = find_locked(d, mig);
	if (leader)
		answer = end_session(leader);
	if (!answer || strcmp(answer, gw_dest_state_name(D_COMMITTED)) != 0)
		for (struct gw_dest *s = d->dests; s; s = s->next)
			if (s != leader && gw_group_is_of(s->mig, mig))
				(void)end_session(s);
	pthread_mutex_unlock(&d->lock);
	return answer;
}

/* ---- the control connection ---- */

static int restore(struct gw_dest *s, struct gw_conn *c, yyjson_val *msg, struct gw_err *e)
{
	pid_t pids_from = (pid_t)gw_json_i64(msg, "pids_from", 0);
	if (!s->restore || !s->pages)
		return gw_fail(e, GW_PEER, EPROTO, "images without arm");
	int rc = pids_from > 0 ? gw_dest_pod_pids(s, pids_from, e) : 0;
	if (rc < 0)
		return rc;
	uint64_t t0 = gw_now_us();
	rc = gw_pages_give(s->pages, s->store, e);
	uint64_t t1 = gw_now_us();
	if (rc == 0)
		rc = gw_fault("dest-images", e);
	if (rc == 0)
		rc = gw_restore_go(s->restore, RESTORE_TIMEOUT_MS, e);
	if (rc == 0)
		rc = gw_dest_shmem_taken(s, e);
	if (rc == 0 && s->claim_name[0])
		rc = gw_claim_wanted(&s->claim, e);
	if (rc == 0)
		rc = gw_fault("dest-restored", e);
	if (rc < 0)
		return rc;
	if (!dest_step(s, DE_RESTORED))
		return gw_fail(e, GW_PEER, EPROTO, "restored while %s", gw_dest_state_name(s->state));
	s->journal.dest = s->state;
	rc = gw_journal_write(s->d->cfg.state_dir, &s->journal, e);
	if (rc < 0)
		return rc;
	gw_info("restored, waiting for the commit", kv_str("mig", s->mig), kv_u64("give_us", t1 - t0),
	        kv_u64("restore_us", gw_now_us() - t1));
	struct gw_msg m = gw_msg_new("restored");
	yyjson_mut_obj_add_uint(m.doc, m.root, "give_us", t1 - t0);
	yyjson_mut_obj_add_uint(m.doc, m.root, "restore_us", gw_now_us() - t1);
	rc = gw_msg_send(c, &m, e);
	/* While the source makes ready to commit. */
	s->room = gw_room_make(gw_restore_cgroup(s->restore));
	return rc;
}

static int add_space(struct gw_dest *s, yyjson_val *o, struct gw_err *e)
{
	struct gw_space sp = {.id = (uint32_t)gw_json_u64(o, "id", 0),
	                      .kind = (enum gw_space_kind)gw_json_u64(o, "kind", 0),
	                      .pid = (pid_t)gw_json_i64(o, "pid", 0),
	                      .vpid = (pid_t)gw_json_i64(o, "vpid", 0),
	                      .shmid = gw_json_u64(o, "shmid", 0),
	                      .size_bytes = gw_json_u64(o, "size_bytes", 0),
	                      .sysv = yyjson_get_bool(yyjson_obj_get(o, "sysv")),
	                      .name = gw_json_str(o, "name", "")};
	if (!s->store || sp.id == 0 || (sp.kind != GW_SPACE_PROC && sp.kind != GW_SPACE_SHMEM))
		return gw_fail(e, GW_PEER, EPROTO, "a memory space before prepare, or a bad one");
	return gw_store_add(s->store, &sp, e);
}

/* A pod that came home: its address is no longer away. */
static void put_on_record(struct gw_dest *s)
{
	struct gw_err e;
	if (gw_record_arrived(s->d->cfg.cni_dir, s->claim.sandbox, &e) < 0)
		gw_error("the arrived pod's network is not on record", kv_str("mig", s->mig), kv_str("reason", e.text));
	for (unsigned i = 0; i < s->pod.naddrs; i++)
		if (gw_ipam_away_clear(s->d->cfg.cni_dir, &s->pod.addrs[i], &e) < 0)
			gw_error("address still marked as away", kv_str("mig", s->mig), kv_str("reason", e.text));
}

static void settle(struct gw_dest *s)
{
	struct gw_err e;
	if (s->pod_of.member)
		return; /* the network is the leader's to look after */
	if (gw_mover_routed.settle(gw_dest_net_id(s), &s->pod, &e) < 0)
		gw_error("the arrived container cannot end connections", kv_str("mig", s->mig),
		         kv_str("reason", e.text));
	gw_dest_end_hold(s);
	gw_dest_pod_talk(s->journal.netns_path, s->mig);
	if (s->claim_name[0])
		put_on_record(s);
}

/* The source stops its container next. Kept from here to the commit, or to the end of the session. */
static int on_hold(struct gw_dest *s, struct gw_conn *c, yyjson_val *o, struct gw_err *e)
{
	const char *what = gw_json_str(o, "what", "");
	bool is_new = !strcmp(what, "new");
	pthread_mutex_lock(&s->lock);
	bool ok = s->hold && s->state == D_RECEIVING && (is_new || !strcmp(what, "all"));
	if (ok)
		(is_new ? gw_hold_shut_new : gw_hold_shut)(s->hold);
	pthread_mutex_unlock(&s->lock);
	return ok ? gw_msg_send_type(c, "held", e) : gw_fail(e, GW_PEER, EPROTO, "hold without arm, or too late");
}

static int on_commit(struct gw_dest *s, struct gw_conn *c, struct gw_err *e)
{
	int rc = gw_dest_commit(s, e);
	if (rc < 0)
		return rc;
	rc = gw_fault("dest-committed", e);
	if (rc < 0)
		return rc;
	struct gw_msg m = gw_msg_new("committed");
	yyjson_mut_obj_add_uint(m.doc, m.root, "resume_us", s->resume_us);
	rc = gw_msg_send(c, &m, e);
	settle(s);
	return rc;
}

/* 1: the conversation is over. */
static int on_msg(struct gw_dest *s, struct gw_conn *c, const char *type, yyjson_val *o, struct gw_err *e)
{
	int rc;
	if (!strcmp(type, "check"))
		return gw_check_answer(s->d, c, o, e);
	if (!strcmp(type, "prepare"))
		return gw_daemon_remember(s->d, s->progress),
		       (rc = gw_dest_prepare(s, o, e)) < 0 ? rc : gw_msg_send_type(c, "prepared", e);
	if (!strcmp(type, "space"))
		return (rc = add_space(s, o, e)) < 0 ? rc : gw_msg_send_type(c, "space-made", e);
	if (!strcmp(type, "round")) {
		if (s->store)
			gw_store_new_round(s->store);
		return 0;
	}
	if (!strcmp(type, "shmem"))
		return gw_dest_shmem(s, o, e);
	if (!strcmp(type, "links"))
		return (rc = gw_dest_links(s, e)) < 0 ? rc : gw_msg_send_type(c, "linked", e);
	if (!strcmp(type, "claims?")) {
		struct gw_msg m = gw_msg_new("claims");
		gw_claim_keep(s->d, s->claim_mig, s->claim_name);
		yyjson_mut_obj_add_bool(m.doc, m.root, "here", gw_claim_here(s->d, s->claim_mig, s->claim_name));
		return gw_msg_send(c, &m, e);
	}
	if (!strcmp(type, "files?"))
		return gw_msg_send_type(c, "files", e);
	if (!strcmp(type, "arm"))
		return gw_conn_hasten(c), (rc = gw_dest_arm(s, e)) < 0 ? rc : gw_msg_send_type(c, "armed", e);
	if (!strcmp(type, "hold"))
		return on_hold(s, c, o, e);
	if (!strcmp(type, "images-whole")) {
		gw_conn_drop_room(c); /* of the images; memory is scarcest from here on */
		return restore(s, c, o, e);
	}
	if (!strcmp(type, "commit"))
		return on_commit(s, c, e);
	if (!strcmp(type, "abort")) {
		gw_dest_abort(s);
		return 1;
	}
	if (!strcmp(type, "gone"))
		return 1;
	return gw_fail(e, GW_PEER, EPROTO, "unknown message \"%s\"", type);
}

static int converse(struct gw_dest *s, struct gw_conn *c, struct gw_err *e)
{
	for (;;) {
		struct gw_frame f;
		gw_auto(jdoc) yyjson_doc *doc = NULL;
		const char *type;
		int rc = gw_conn_recv(c, IDLE_TIMEOUT_MS, &f, e);
		if (rc < 0)
			return rc;
		if (f.type == GW_F_FILE) {
			rc = gw_dest_image(s, &f, e);
		} else if (f.type == GW_F_TREE) {
			rc = gw_dest_files_frame(s, &f, e);
		} else {
			rc = gw_msg_parse(&f, &doc, &type, e);
			if (rc == 0)
				rc = on_msg(s, c, type, yyjson_doc_get_root(doc), e);
		}
		if (rc != 0)
			return rc;
	}
}

/* Prepared, and the link is gone: stay stopped, ask, wait for a word. */
static void ask_until_decided(struct gw_dest *s)
{
	gw_warn("in doubt", kv_str("mig", s->mig), kv_str("peer", s->peer));
	gw_progress_phase(s->progress, "InDoubt");
	gw_dest_end_hold(s); /* for long, perhaps, and it may be the source that runs */
	(void)dest_step(s, DE_LINK_LOST);
	gw_resolve_dest(s);
}

/* Committed: the container runs; see it filled, and runc ended well. */
static void finish(struct gw_dest *s)
{
	struct gw_err e;
	gw_progress_phase(s->progress, "Filling");
	settle(s); /* again, for a commit that came another way */
	if (gw_restore_finish(s->restore, RUNC_END_TIMEOUT_MS, &e) < 0)
		gw_error("runc restore did not end well", kv_str("mig", s->mig), kv_str("reason", e.text));
	gw_store_free(gw_take(s->store));
	struct gw_pages_status st = {0};
	while (gw_pages_status(s->pages, &st, &e) == 0 && !st.done) {
		struct gw_facts_of_run *f = gw_progress_edit(s->progress);
		f->dest_left_bytes = st.left_bytes;
		f->faults = st.faults;
		gw_progress_done(s->progress);
		struct pollfd p = {.fd = s->d->stop_fd, .events = POLLIN};
		if (poll(&p, 1, FILL_LOOK_MS) > 0)
			break; /* we end; the page server goes on by itself */
	}
	gw_info("container arrived", kv_str("mig", s->mig), kv_str("container", s->container), kv_str("from", s->peer),
	        kv_u64("faults", st.faults), kv_u64("fill_us", st.fill_us), kv_u64("fault_us_max", st.fault_us_max));
	gw_progress_end(s->progress, "Done", NULL);
	gw_room_end(gw_take(s->room));
}

static void tell_failure(struct gw_dest *s, struct gw_conn *c, const struct gw_err *why)
{
	struct gw_err ignored;
	gw_warn("incoming migration failed", kv_str("mig", s->mig), kv_str("container", s->container),
	        kv_str("reason", why->text));
	(void)gw_msg_send_error(c, why, &ignored);
}

/* Whoever still waits to create the target waits for nothing. */
static void refuse_claims(struct gw_dest *s, const struct gw_err *e)
{
	struct gw_err why = *e;
	if (why.class == GW_OK)
		(void)gw_fail_code(&why, GW_RETRY, "Aborted", "migration %s was called off by its source", s->mig);
	gw_claim_refuse(s->d, s->claim_mig, &why);
}

static void session_run(struct gw_dest *s, struct gw_conn *c)
{
	struct gw_err e = {.class = GW_OK};
	s->ctl = c;
	int rc = converse(s, c, &e);
	if (rc == -ECONNRESET && !s->container[0])
		rc = 1; /* a check: it asked, and went */
	pthread_mutex_lock(&s->lock);
	s->ctl = NULL;
	pthread_mutex_unlock(&s->lock);
	bool gone = rc == 1 && s->state == D_COMMITTED;
	if (rc < 0 && (s->state == D_RECEIVING || s->state == D_ABORTED)) {
		/* Undone before it is told: the source may try again at once. */
		(void)dest_step(s, DE_FAIL);
		data_stop(s);
		gw_claim_say_why(s->d, &s->claim, &e);
		gw_dest_discard(s);
		gw_claim_refuse(s->d, s->claim_mig, &e);
		tell_failure(s, c, &e);
	} else if (rc < 0 && s->state == D_PREPARED) {
		ask_until_decided(s);
	}
	data_stop(s);
	if (s->state == D_COMMITTED) {
		finish(s);
		/* Kept until the source has said that it is gone: asked again,
		 * "unknown" would let it thaw. */
		if (gone) {
			if (!s->pod_of.member)
				(void)unlink(s->commit_file);
			gw_journal_remove(s->d->cfg.state_dir, s->mig);
		}
	} else {
		(void)dest_step(s, DE_FAIL);
		gw_dest_discard(s);
		refuse_claims(s, &e);
		gw_journal_remove(s->d->cfg.state_dir, s->mig);
		gw_progress_end(s->progress, "Failed", &e);
	}
}

void gw_dest_control(struct gw_daemon *d, struct gw_conn *c, const char *mig)
{
	struct gw_err e = {.class = GW_OK}, ignored;
	struct gw_dest *s = session_new(d, c, mig);
	pthread_mutex_lock(&d->lock);
	bool taken = find_locked(d, mig) != NULL, denied = denied_locked(d, mig);
	if (!taken && !denied) {
		s->next = d->dests;
		d->dests = s;
	}
	pthread_mutex_unlock(&d->lock);
	int rc = taken    ? gw_fail(&e, GW_PEER, EEXIST, "migration %s is known already", mig)
	         : denied ? gw_fail_code(&e, GW_INPUT, "SourceLost", "migration %s was ended while its source was away",
	                                 mig)
	                  : gw_mkdirs(s->dir, &e);
	if (rc == 0)
		rc = gw_hello_send(c, "control", mig, &e);
	if (rc == 0) {
		session_run(s, c);
	} else {
		(void)gw_msg_send_error(c, &e, &ignored);
	}
	gw_dest_pod_leave(s);
	if (!taken && !denied) {
		pthread_mutex_lock(&d->lock);
		for (struct gw_dest **p = &d->dests; *p; p = &(*p)->next)
			if (*p == s) {
				*p = s->next;
				break;
			}
		pthread_mutex_unlock(&d->lock);
	}
	session_free(s);
	gw_trim();
}
