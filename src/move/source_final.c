/* source_final: the freeze and the hand-over, and both ways out of it.
 *
 * Order matters here more than anywhere. What is done between the freezer and
 * "committed" is what clients wait for; everything that can be done before
 * (CRIU started and waiting, restore started and waiting, hold rules in
 * place, guard forked, flags of all mappings read) is done in arm(). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/gw_log.h"
#include "base/io.h"
#include "base/proc.h"
#include "base/scope.h"
#include "ckpt/criu.h"
#include "ckpt/freezer.h"
#include "cni/ipam.h"
#include "mem/calls.h"
#include "move/held.h"
#include "move/msg.h"
#include "move/source_priv.h"
#include "net/handshakes.h"
#include "net/room.h"
#include "net/unread.h"

enum {
	ARM_TIMEOUT_MS = 60000,
	ARM_FILE_MS = 2,
	ARM_FILES_MAX_MS = 600000,
	HOLD_TIMEOUT_MS = 2000,
	FREEZE_TIMEOUT_MS = 2000,
	RESTORE_TIMEOUT_MS = 20000,
	COMMIT_TIMEOUT_MS = 5000,
	DELETE_TIMEOUT_MS = 20000,
	ROUNDS_ARMED = 2,
	BURIAL_AFTER_US = 300000,
	UNREAD_MAX_US = 60000, /* a program that is not given the CPU for so long is frozen all the same */
	UNREAD_TRIES = 3,
	HANDSHAKES_MAX_US = 100000, /* a client farther away than that, or a program that accepts nothing */
};

/* ---- before the freeze ---- */

static int start_guard(struct gw_source *s, struct gw_err *e)
{
	char file[PATH_MAX + 32];
	bool v2 = gw_freezer_is_v2(s->container->freezer_dir);
	gw_path(file, sizeof(file), "%s/%s", s->container->freezer_dir, v2 ? "cgroup.freeze" : "freezer.state");
	struct gw_guard_opts o = {.freezer_file = file,
	                          .thaw_word = v2 ? "0" : "THAWED",
	                          .quota_file = s->journal.cpu_quota_path,
	                          .quota = s->journal.cpu_quota};
	return gw_guard_new(&o, &s->guard, e);
}

static int start_dump(struct gw_source *s, struct gw_err *e)
{
	char images[PATH_MAX + 16], work[PATH_MAX + 16], shim[PATH_MAX + 16], home[PATH_MAX + 16];
	gw_path(images, sizeof(images), "%s/images", s->dir);
	gw_path(work, sizeof(work), "%s/work", s->dir);
	gw_path(shim, sizeof(shim), "%s/shim", s->dir);
	gw_path(home, sizeof(home), "%s/home", s->dir);
	struct gw_dump_opts o = {.container = s->container,
	                         .criu = s->d->cfg.criu[0] ? s->d->cfg.criu : NULL,
	                         .preload = s->d->cfg.preload,
	                         .images_dir = images,
	                         .work_dir = work,
	                         .shim_dir = shim,
	                         .home_path = home,
	                         .cancel_fd = s->cancel_fd};
	return gw_dump_start(&o, &s->dump, e);
}

/* A pod's address goes with it: this host's ranges must not give it out again. */
static int mark_away(struct gw_source *s, struct gw_err *e)
{
	char note[200];
	int rc = gw_held_begin(s->d, s->mig, s->container->id, s->o.same_name, e);
	(void)snprintf(note, sizeof(note), "%s to %s", s->mig, s->peer.name);
	for (unsigned i = 0; rc == 0 && !s->member && i < s->pod.naddrs; i++)
		rc = gw_ipam_away_set(s->d->cfg.cni_dir, &s->pod.addrs[i], note, e);
	return rc;
}

static void unmark_away(struct gw_source *s)
{
	struct gw_err e;
	for (unsigned i = 0; !s->member && i < s->pod.naddrs; i++)
		if (gw_ipam_away_clear(s->d->cfg.cni_dir, &s->pod.addrs[i], &e) < 0)
			gw_error("address still marked as away", kv_str("mig", s->mig), kv_str("reason", e.text));
	/* Its pod's object may be gone: let go, its runtime would end it. Whoever
	 * asked for the move tries again, or ends it (gw_held_end_pod). */
	if (!s->o.same_name)
		gw_held_end(s->d, s->mig);
}

/* Files that cannot be renamed into their places there are copied, one by one. */
static int arm_timeout_ms(struct gw_source *s)
{
	uint64_t v = 0, more;
	struct gw_facts_of_run r;
	gw_progress_get(s->progress, &v, 0, &r);
	more = r.files * ARM_FILE_MS;
	return ARM_TIMEOUT_MS + (int)(more < ARM_FILES_MAX_MS ? more : ARM_FILES_MAX_MS);
}

/* The last moment at which it can be told what they wait in. */
static int note_calls(struct gw_source *s, struct gw_err *e)
{
	char path[PATH_MAX + 16];
	gw_path(path, sizeof(path), "%s/shim/calls", s->dir);
	return gw_calls_write(s->container->freezer_dir, path, e);
}

static int arm(struct gw_source *s, struct gw_err *e)
{
	gw_progress_phase(s->progress, "Arming");
	int rc = gw_msg_send_type(s->ctl, "arm", e);
	if (rc == 0)
		rc = start_dump(s, e);
	if (rc == 0 && s->o.claim[0])
		rc = mark_away(s, e);
	if (rc == 0 && !s->member)
		rc = gw_mover_routed.ready(s->container->id, &s->pod, s->peer.addrs, e);
	if (rc == 0 && !s->member)
		rc = gw_hold_new(s->container->id, &s->pod, &s->hold, e);
	if (rc == 0)
		rc = start_guard(s, e);
	if (rc == 0)
		rc = gw_msg_expect(s->ctl, "armed", arm_timeout_ms(s), NULL, e);
	if (rc == 0)
		rc = gw_tracker_learn_flags(s->tracker, e);
	gw_conn_hasten(s->ctl);
	for (unsigned i = 0; i < s->ndata; i++)
		gw_conn_hasten(s->data[i]);
	/* What was written while all that went on. */
	for (int i = 0; rc == 0 && i < ROUNDS_ARMED; i++) {
		uint64_t dirty;
		rc = gw_source_files(s, false, e);
		if (rc == 0)
			rc = gw_source_round(s, false, &dirty, e);
	}
	if (rc == 0)
		rc = gw_msg_send_type(s->ctl, "round", e);
	if (rc == 0)
		rc = note_calls(s, e);
	return rc < 0 ? rc : gw_group_meet(s->group, GW_GROUP_ARMED, e);
}

/* ---- in the freeze ---- */

static int write_whole(int dirfd, const char *name, const void *data, size_t len)
{
	gw_auto(fd) int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	return fd < 0 ? -errno : gw_write_full(fd, data, len);
}

struct maps_job {
	struct gw_source *s;
	int dirfd;
};

static int on_smaps(void *ctx, pid_t pid, const char *text, size_t len, const struct gw_lazy_range *lazy, size_t n,
                    struct gw_err *e)
{
	struct maps_job *j = ctx;
	const int *dirfd = &j->dirfd;
	char name[32];
	gw_source_files_mapped(j->s, text, len);
	gw_path(name, sizeof(name), "%d.smaps", pid);
	int rc = write_whole(*dirfd, name, text, len);
	gw_path(name, sizeof(name), "%d.lazy", pid);
	if (rc == 0)
		rc = write_whole(*dirfd, name, lazy, n * sizeof(*lazy));
	return rc < 0 ? gw_fail(e, GW_SYS, -rc, "write the memory map of process %d", pid) : 0;
}

static int write_smaps(struct gw_source *s, struct gw_err *e)
{
	char shim[PATH_MAX + 16];
	gw_path(shim, sizeof(shim), "%s/shim", s->dir);
	gw_auto(fd) int dirfd = open(shim, O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0)
		return gw_fail(e, GW_SYS, errno, "open %s", shim);
	struct maps_job j = {.s = s, .dirfd = dirfd};
	int rc = gw_tracker_smaps(s->tracker, on_smaps, &j, e);
	if (rc == 0)
		rc = gw_source_socks(s, dirfd, e);
	if (rc == 0)
		rc = gw_source_shmem(s, dirfd, e);
	return rc < 0 ? rc : gw_source_links(s, e);
}

/* What the kernel had under way when the hold was shut may come to a socket
 * whose program is stopped already: then it runs for another moment. */
static int stop_tasks(struct gw_source *s, struct gw_err *e)
{
	for (int i = 0;; i++) {
		gw_unread_wait(s->container->init_pid, UNREAD_MAX_US);
		int rc = gw_freezer_freeze(s->container->freezer_dir, FREEZE_TIMEOUT_MS, e);
		if (rc < 0 || i == UNREAD_TRIES || !gw_unread_datagrams(s->container->init_pid))
			return rc;
		rc = gw_freezer_thaw(s->container->freezer_dir, e);
		if (rc < 0)
			return rc;
	}
}

/* There first: what its clients send from now on must not come here to wait. */
static int hold_there(struct gw_source *s, const char *what, struct gw_err *e)
{
	struct gw_msg m = gw_msg_new("hold");
	yyjson_mut_obj_add_str(m.doc, m.root, "what", what);
	int rc = gw_msg_send(s->ctl, &m, e);
	return rc < 0 ? rc : gw_msg_expect(s->ctl, "held", HOLD_TIMEOUT_MS, NULL, e);
}

/* The container still runs: connections that have begun are taken by it, new ones wait. */
static int end_handshakes(struct gw_source *s, struct gw_err *e)
{
	unsigned left = 0;
	int rc = hold_there(s, "new", e);
	if (rc < 0)
		return rc;
	gw_hold_shut_new(s->hold);
	rc = gw_handshakes_wait(s->container->init_pid, HANDSHAKES_MAX_US, &left, e);
	if (rc == 0 && left)
		gw_warn("connections that nobody has accepted will be lost", kv_str("mig", s->mig),
		        kv_u64("connections", left));
	return rc < 0 ? rc : hold_there(s, "all", e);
}

static int freeze(struct gw_source *s, struct gw_err *e)
{
	gw_progress_phase(s->progress, "Freezing");
	int rc = gw_source_journal(s, e);
	if (rc == 0 && !s->member)
		rc = end_handshakes(s, e);
	if (rc < 0)
		return rc;
	/* Now, and only now, our senders may take the CPU. */
	(void)gw_sender_set_nice(s->sender, GW_FREEZE_NICE);
	s->frozen_us = gw_now_us();
	if (!s->member) {
		gw_hold_shut(s->hold);
		gw_group_arrive(s->group, GW_GROUP_SHUT);
	} else if ((rc = gw_group_wait(s->group, GW_GROUP_SHUT, 1, e)) < 0) {
		return rc;
	}
	rc = stop_tasks(s, e);
	if (rc == 0)
		rc = gw_group_meet(s->group, GW_GROUP_FROZEN, e);
	if (rc < 0)
		return rc;
	if (!s->member)
		gw_hold_mute(s->hold);
	(void)gw_source_step(s, SE_FREEZE);
	gw_source_step_time(s, GW_STEP_STOP, s->frozen_us);
	rc = gw_source_pids(s, e);
	return rc < 0 ? rc : write_smaps(s, e);
}

static int wait_restored(struct gw_source *s, struct gw_err *e)
{
	uint64_t t0 = gw_now_us();
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	int rc = gw_msg_expect(s->ctl, "restored", RESTORE_TIMEOUT_MS, &doc, e);
	gw_source_step_time(s, GW_STEP_RESTORE, t0);
	return rc;
}

/* From the commit on packets must not reach the frozen copy whatever becomes
 * of us: its kernel side would acknowledge them, and they would die with it. */
static int seal(struct gw_source *s, struct gw_err *e)
{
	s->sealed = true;
	return gw_mover_routed.seal(s->container->id, &s->pod, e);
}

/* The leader commits for all of the pod: its outcome is ours. */
static int with_leader(struct gw_source *s, struct gw_err *e)
{
	gw_group_arrive(s->group, GW_GROUP_COMMITTING);
	bool committed = gw_group_outcome(s->group);
	(void)gw_source_step(s, committed ? SE_HEAR_COMMITTED : SE_HEAR_ABORTED);
	struct gw_facts_of_run *f = gw_progress_edit(s->progress);
	f->resumed_at_us = gw_now_us();
	f->frozen_at_us = s->frozen_us;
	f->freeze_us = f->resumed_at_us - s->frozen_us;
	gw_progress_done(s->progress);
	return committed ? 0 : gw_fail_code(e, GW_RETRY, "PodNotMoved", "the pod was not moved");
}

/* From here on a failure is doubt: only the destination's word ends it. */
static int commit(struct gw_source *s, struct gw_err *e)
{
	pthread_mutex_lock(&s->lock);
	bool ok = !s->cancelled && gw_source_next(&s->state, SE_SEND_COMMIT);
	pthread_mutex_unlock(&s->lock);
	if (!ok)
		return gw_fail_code(e, GW_RETRY, "Cancelled", "cancelled");
	/* In this order: a guard that thaws while the journal says committing
	 * would let the source run beside a copy that is asked to. */
	gw_guard_phase(s->guard, GUARD_STAY);
	int rc = gw_source_journal(s, e);
	if (rc < 0) { /* nothing was said yet: still ours to undo */
		gw_guard_phase(s->guard, GUARD_THAW);
		return rc;
	}
	if (s->member)
		return with_leader(s, e);
	rc = gw_group_meet(s->group, GW_GROUP_COMMITTING, e);
	if (rc < 0) { /* nothing was said for anyone */
		(void)gw_source_step(s, SE_HEAR_ABORTED);
		gw_guard_phase(s->guard, GUARD_THAW);
		return rc;
	}
	uint64_t t0 = gw_now_us();
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	struct gw_err why;
	rc = gw_fault("source-committing", &why);
	if (rc == 0)
		rc = gw_msg_send_type(s->ctl, "commit", &why);
	if (rc == 0)
		rc = gw_fault("source-commit-sent", &why);
	if (rc == 0)
		rc = gw_msg_expect(s->ctl, "committed", COMMIT_TIMEOUT_MS, &doc, &why);
	bool committed = rc == 0;
	if (rc < 0) {
		s->was_in_doubt = true;
		gw_progress_phase(s->progress, "InDoubt");
		gw_warn("in doubt", kv_str("mig", s->mig), kv_str("peer", s->peer.name), kv_str("reason", why.text));
		gw_resolve_source(s->d, s->mig, s->peer.name, &why, &committed);
	}
	(void)gw_source_step(s, committed ? SE_HEAR_COMMITTED : SE_HEAR_ABORTED);
	if (!committed)
		gw_group_fail(s->group, &why);
	gw_group_decide(s->group, committed);
	struct gw_facts_of_run *f = gw_progress_edit(s->progress);
	f->resumed_at_us = gw_now_us();
	f->frozen_at_us = s->frozen_us;
	f->freeze_us = f->resumed_at_us - s->frozen_us;
	f->step_us[GW_STEP_COMMIT] = f->resumed_at_us - t0;
	if (doc)
		f->step_us[GW_STEP_RESUME] = gw_json_u64(yyjson_doc_get_root(doc), "resume_us", 0);
	gw_progress_done(s->progress);
	if (!committed) {
		*e = why;
		return gw_wrap(e, "the destination gave up before the commit");
	}
	return 0;
}

int gw_source_handover(struct gw_source *s, struct gw_err *e)
{
	int rc = arm(s, e);
	if (rc == 0) {
		struct gw_facts_of_run *f = gw_progress_edit(s->progress);
		f->precopy_us = gw_now_us() - s->precopy_from_us;
		gw_progress_done(s->progress);
		rc = freeze(s, e);
	}
	if (rc == 0)
		rc = gw_fault("source-frozen", e);
	if (rc == 0)
		rc = gw_source_dump(s, e);
	if (rc == 0)
		rc = gw_fault("source-dumped", e);
	uint64_t t0 = gw_now_us();
	if (rc == 0)
		rc = gw_source_images(s, e);
	if (rc == 0) {
		gw_source_step_time(s, GW_STEP_IMAGES, t0);
		rc = wait_restored(s, e);
	}
	if (rc == 0)
		rc = gw_fault("source-restored", e);
	if (rc == 0)
		rc = gw_group_meet(s->group, GW_GROUP_RESTORED, e);
	if (rc == 0) {
		gw_progress_phase(s->progress, "Committing");
		rc = s->member ? 0 : seal(s, e);
	}
	if (rc == 0)
		rc = commit(s, e);
	if (rc < 0 && s->cancelled && e->code[0] == 0)
		rc = gw_fail_code(e, GW_RETRY, "Cancelled", "cancelled");
	return rc;
}

/* ---- after the freeze ---- */

void gw_source_undo(struct gw_source *s)
{
	struct gw_err e;
	/* First of all the container runs again, with its way out open, then its packets come. */
	if (s->sealed && gw_mover_routed.unseal(s->container->id, &s->pod, &e) < 0)
		gw_error("network not opened again", kv_str("mig", s->mig), kv_str("reason", e.text));
	if (s->dump && gw_dump_abandon(s->dump, &e) < 0)
		gw_error("thaw failed", kv_str("mig", s->mig), kv_str("reason", e.text));
	else if (!s->dump && s->container && s->frozen_us && gw_freezer_thaw(s->container->freezer_dir, &e) < 0)
		gw_error("thaw failed", kv_str("mig", s->mig), kv_str("reason", e.text));
	struct gw_room *room = s->frozen_us ? gw_room_make(s->container->freezer_dir) : NULL;
	if (s->hold)
		gw_hold_release(s->hold);
	gw_guard_free(gw_take(s->guard));
	if (s->o.claim[0])
		unmark_away(s);
	if (gw_throttle_undo(&s->throttle, &e) < 0)
		gw_error("cpu quota not put back", kv_str("mig", s->mig), kv_str("reason", e.text));
	(void)gw_source_step(s, SE_FAIL);
	if (s->ctl && !s->cancelled)
		(void)gw_msg_send_type(s->ctl, "abort", &e);
	gw_room_end(room);
}

static void delete_container(struct gw_source *s)
{
	struct gw_err e;
	const char *const argv[] = {s->d->cfg.runc[0] ? s->d->cfg.runc : "runc",
	                            "--root",
	                            s->container->runc_root,
	                            "delete",
	                            "--force",
	                            s->container->id,
	                            NULL};
	struct gw_spawn sp = {.argv = argv, .stdio = {-1, -1, -1}};
	if (gw_proc_run(&sp, DELETE_TIMEOUT_MS, NULL, &e) < 0)
		gw_warn("moved container not deleted", kv_str("mig", s->mig), kv_str("reason", e.text));
}

/* What stayed frozen apart from memory: the next prediction starts from it. */
static void learn_fixed(struct gw_source *s)
{
	uint64_t v = 0;
	struct gw_facts_of_run r;
	gw_progress_get(s->progress, &v, 0, &r);
	uint64_t pages = r.step_us[GW_STEP_LAST_PAGES], dump = r.step_us[GW_STEP_DUMP];
	uint64_t fixed = r.freeze_us - (pages > dump ? pages - dump : 0);
	pthread_mutex_lock(&s->d->lock);
	s->d->fixed_us = s->d->fixed_us ? (s->d->fixed_us + fixed) / 2 : fixed;
	pthread_mutex_unlock(&s->d->lock);
}

/* The dead copy of a pod's container outlives its pod's object (move/held.h). */
static void keep_until_released(struct gw_source *s)
{
	struct gw_err e;
	/* For long, perhaps: packets on their way through us would be lost with us. */
	gw_hold_free(gw_take(s->hold));
	if (gw_source_journal(s, &e) < 0)
		gw_error("journal not written", kv_str("mig", s->mig), kv_str("reason", e.text));
	if (gw_held_wait(s->d, s->mig) < 0)
		for (;;)
			pause(); /* godwitd ends: the guard keeps it frozen, the next one waits on */
}

/* The pod's packets go where it is now. */
static void turn(struct gw_source *s)
{
	struct gw_err e;
	uint64_t t0 = gw_now_us();
	if (gw_mover_routed.turn(s->container->id, &s->pod, s->peer.addrs, &e) < 0)
		gw_error("route not turned", kv_str("mig", s->mig), kv_str("reason", e.text));
	gw_hold_release_moved(s->hold);
	gw_source_step_time(s, GW_STEP_ROUTE, t0);
	struct gw_hold_stats hs;
	gw_hold_stats(s->hold, &hs);
	struct gw_facts_of_run *f = gw_progress_edit(s->progress);
	f->held_packets = hs.held;
	gw_progress_done(s->progress);
	if (!s->was_in_doubt)
		learn_fixed(s);
}

void gw_source_moved(struct gw_source *s)
{
	struct gw_err e;
	(void)gw_fault("source-moved", &e);
	if (!s->member)
		turn(s);
	gw_progress_phase(s->progress, "Moved");
	/* Freeing its memory is work for a core and can wait: clients are
	 * catching up now, here too when they are on this host. */
	gw_sleep_us(BURIAL_AFTER_US);
	if (s->o.claim[0])
		keep_until_released(s);
	/* Before its runtime may end it, which would let it free its memory itself. */
	if (gw_dump_doom(s->dump, &e) < 0)
		gw_error("moved container not killed", kv_str("mig", s->mig), kv_str("reason", e.text));
	/* Only now: with memory still there the kernel walks all of it to take the marks away. */
	gw_tracker_free(gw_take(s->tracker));
	if (s->o.claim[0])
		gw_held_end(s->d, s->mig);
	if (gw_dump_kill(s->dump, &e) < 0)
		gw_error("moved container not killed", kv_str("mig", s->mig), kv_str("reason", e.text));
	if (!s->o.claim[0] && gw_mover_routed.discard(s->container->id, &s->pod, s->container->netns_path, &e) < 0)
		gw_warn("network of the moved container not removed", kv_str("mig", s->mig), kv_str("reason", e.text));
	gw_guard_free(gw_take(s->guard));
	if (!s->o.claim[0])
		delete_container(s);
	if (s->was_in_doubt || gw_msg_send_type(s->ctl, "gone", &e) < 0)
		gw_resolve_gone(s->d, s->mig, s->peer.name);
}
