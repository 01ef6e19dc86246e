/* source_copy: everything before the freeze. The container runs all the time. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/fate.h"
#include "base/fault.h"
#include "base/gw_log.h"
#include "base/io.h"
#include "base/scope.h"
#include "move/check.h"
#include "move/held.h"
#include "move/msg.h"
#include "move/source_priv.h"

enum {
	DIAL_TIMEOUT_MS = 10000,
	PREPARE_TIMEOUT_MS = 30000,
	FILL_TIMEOUT_MS = 120000,
	FIXED_US = 40000,
	CLAIM_ASK_MS = 100,
	REAL_WITHIN_MS = 10000,
	NICE_WHILE_RUNNING = 5
};

static int still_wanted(struct gw_source *s, struct gw_err *e)
{
	if (s->cancelled)
		return gw_fail_code(e, GW_RETRY, "Cancelled", "cancelled");
	if (s->deadline_ms && gw_now_ms() > s->deadline_ms)
		return gw_fail_code(e, GW_RETRY, "Timeout", "not ready to freeze within %lu ms (--timeout)",
		                    (unsigned long)s->o.timeout_ms);
	return 0;
}

static uint64_t memory_of(const struct gw_container *c)
{
	char path[PATH_MAX + 32];
	gw_auto(mem) char *text = NULL;
	struct gw_err ignored;
	gw_path(path, sizeof(path), "%s/memory.usage_in_bytes", c->memory_dir);
	if (gw_read_file(path, 64, &text, NULL, &ignored) < 0) {
		gw_path(path, sizeof(path), "%s/memory.current", c->memory_dir);
		if (gw_read_file(path, 64, &text, NULL, &ignored) < 0)
			return 0;
	}
	return strtoull(text, NULL, 10);
}

/* The destination makes everything ready that can be ready. */
static int ask_to_prepare(struct gw_source *s, struct gw_err *e)
{
	const struct gw_container *c = s->container;
	struct gw_msg m = gw_msg_new("prepare");
	yyjson_mut_obj_add_str(m.doc, m.root, "container", c->id);
	yyjson_mut_obj_add_str(m.doc, m.root, "instance", s->d->instance);
	yyjson_mut_obj_add_str(m.doc, m.root, "bundle", c->bundle);
	yyjson_mut_obj_add_str(m.doc, m.root, "config_json", c->config_json);
	yyjson_mut_obj_add_str(m.doc, m.root, "descriptors_json", c->descriptors_json);
	yyjson_mut_obj_add_uint(m.doc, m.root, "memory_bytes", memory_of(c));
	if (s->o.claim[0])
		yyjson_mut_obj_add_str(m.doc, m.root, "claim", s->o.claim);
	if (s->group) {
		yyjson_mut_obj_add_str(m.doc, m.root, "leader", s->group->leader);
		yyjson_mut_obj_add_uint(m.doc, m.root, "members", s->group->members);
		yyjson_mut_obj_add_uint(m.doc, m.root, "member", s->member);
	}
	yyjson_mut_val *trees = yyjson_mut_arr(m.doc);
	for (size_t i = 0; i < s->trees.n; i++) {
		yyjson_mut_val *t = yyjson_mut_arr_add_obj(m.doc, trees);
		yyjson_mut_obj_add_str(m.doc, t, "name", s->trees.v[i].name);
		yyjson_mut_obj_add_bool(m.doc, t, "layer", s->trees.v[i].view[0]);
	}
	yyjson_mut_obj_add_val(m.doc, m.root, "trees", trees);
	yyjson_mut_val *pod = yyjson_mut_obj(m.doc);
	gw_pod_to_json(&s->pod, m.doc, pod);
	yyjson_mut_obj_add_val(m.doc, m.root, "pod", pod);
	int rc = gw_msg_send(s->ctl, &m, e);
	if (rc == 0)
		rc = gw_msg_expect(s->ctl, "prepared", PREPARE_TIMEOUT_MS, NULL, e);
	return rc;
}

static int dial_data(struct gw_source *s, struct gw_err *e)
{
	unsigned n = s->d->cfg.data_conns;
	for (unsigned i = 0; i < n && i < GW_DATA_CONNS_MAX; i++) {
		int rc = gw_host_dial(s->d, &s->peer, "data", s->mig, DIAL_TIMEOUT_MS, &s->data[i], e);
		if (rc < 0)
			return rc;
		s->ndata++;
	}
	struct gw_sender *sender;
	if (s->o.bandwidth)
		s->rate = gw_rate_new(s->o.bandwidth);
	struct gw_sender_opts so = {.zstd = s->o.zstd, .rate = s->rate, .nice = NICE_WHILE_RUNNING};
	int rc = gw_sender_new(s->data, s->ndata, &so, &sender, e);
	if (rc < 0)
		return rc;
	pthread_mutex_lock(&s->lock);
	s->sender = sender;
	pthread_mutex_unlock(&s->lock);
	return 0;
}

static int pod_to_journal(struct gw_source *s, struct gw_err *e)
{
	gw_auto(jmut) yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *o = yyjson_mut_obj(doc);
	yyjson_mut_doc_set_root(doc, o);
	gw_pod_to_json(&s->pod, doc, o);
	if (!s->member) /* the network is the leader's to look after */
		s->journal.pod_json = gw_json_text(doc, NULL);
	(void)snprintf(s->journal.freezer_dir, sizeof(s->journal.freezer_dir), "%s", s->container->freezer_dir);
	(void)snprintf(s->journal.netns_path, sizeof(s->journal.netns_path), "%s", s->container->netns_path);
	return gw_source_journal(s, e);
}

static int load(struct gw_source *s, struct gw_err *e)
{
	int rc = gw_host_find(s->d, s->o.to, &s->peer, e);
	/* One that has just arrived is its runtime's as soon as runc restore has ended. */
	for (uint64_t end = gw_now_ms() + REAL_WITHIN_MS;
	     gw_fate_stands(s->d->cfg.state_dir, s->o.container) && gw_now_ms() < end;)
		gw_sleep_us(5000);
	if (rc == 0)
		rc = gw_container_load(s->o.runc_root, s->o.container, &s->container, e);
	if (rc < 0)
		return rc;
	if (!s->container->own_netns || !s->container->netns_path[0])
		return gw_fail_code(e, GW_INPUT, "HostNetwork",
		                    "container %s has no network namespace given by path: give it one (config.json, "
		                    "linux.namespaces, type network, path), so that its address can be moved",
		                    s->container->id);
	return gw_pod_inspect(s->container->netns_path, &s->pod, e);
}

/* The check of a pod's container is about a move by claim, whoever asks. */
static bool is_pods(const struct gw_container *c)
{
	return strstr(c->config_json, "\"io.kubernetes.cri.container-type\"") != NULL;
}

int gw_source_look(struct gw_source *s, struct gw_reasons *out, struct gw_err *e)
{
	int rc = load(s, e);
	if (rc < 0)
		return rc;
	struct gw_conn *ctl;
	rc = gw_host_dial(s->d, &s->peer, "control", s->mig, DIAL_TIMEOUT_MS, &ctl, e);
	if (rc < 0)
		return rc;
	pthread_mutex_lock(&s->lock);
	s->ctl = ctl;
	pthread_mutex_unlock(&s->lock);
	rc = gw_check_both(s->d, s->ctl, s->container, memory_of(s->container), s->o.claim[0] || is_pods(s->container),
	                   out, e);
	if (rc == 0 && s->o.same_name)
		gw_check_runtime(s->container, out);
	return rc < 0 ? gw_wrap(e, "check") : 0;
}

static int refuse_blocked(struct gw_source *s, const struct gw_reasons *rs, struct gw_err *e)
{
	for (size_t i = 0; i < rs->n; i++) {
		const struct gw_reason *r = &rs->r[i];
		if (!r->is_warning)
			return gw_fail_code(e, GW_INPUT, r->code, "%s cannot move to %s: %s. %s", s->container->id,
			                    s->o.to, r->text, r->way_out);
		gw_info("check warns", kv_str("mig", s->mig), kv_str("code", r->code), kv_str("text", r->text));
	}
	return 0;
}

/* Its pages may still be coming in from the last migration: that takes
 * seconds at most, and then it can move again. */
static int wait_until_filled(struct gw_source *s, struct gw_err *e)
{
	uint64_t end = gw_now_ms() + FILL_TIMEOUT_MS;
	while (gw_dest_filling(s->d, s->o.container)) {
		gw_progress_phase(s->progress, "Settling");
		int rc = still_wanted(s, e);
		if (rc < 0)
			return rc;
		if (gw_now_ms() > end)
			return gw_fail_code(e, GW_RETRY, "StillFilling",
			                    "%s is still taking in the memory of its last migration after %d s",
			                    s->o.container, FILL_TIMEOUT_MS / 1000);
		gw_sleep_us(20000);
	}
	return 0;
}

int gw_source_prepare(struct gw_source *s, struct gw_err *e)
{
	struct gw_reasons rs = {.n = 0};
	int settled = wait_until_filled(s, e);
	if (settled < 0)
		return settled;
	gw_progress_phase(s->progress, "Checking");
	int rc = gw_source_look(s, &rs, e);
	if (rc == 0)
		rc = refuse_blocked(s, &rs, e);
	if (rc < 0)
		return rc;
	gw_progress_phase(s->progress, "Preparing");
	rc = pod_to_journal(s, e);
	if (rc == 0)
		rc = gw_source_files_list(s, e);
	if (rc == 0 && s->member)
		rc = gw_group_wait(s->group, GW_GROUP_PREPARED, 1, e);
	if (rc == 0)
		rc = ask_to_prepare(s, e);
	if (rc == 0 && !s->member)
		gw_group_arrive(s->group, GW_GROUP_PREPARED);
	if (rc == 0)
		rc = dial_data(s, e);
	if (rc == 0)
		rc = still_wanted(s, e);
	return rc;
}

/* ---- rounds ---- */

static struct gw_space *known_space(struct gw_source *s, uint32_t id)
{
	for (size_t i = s->nspaces; i-- > 0;)
		if (s->spaces[i].id == id)
			return &s->spaces[i];
	return NULL;
}

static int on_space(void *ctx, const struct gw_space *sp, struct gw_err *e)
{
	struct gw_source *s = ctx;
	struct gw_space *known = known_space(s, sp->id);
	struct gw_msg m = gw_msg_new("space");
	yyjson_mut_obj_add_uint(m.doc, m.root, "id", sp->id);
	yyjson_mut_obj_add_uint(m.doc, m.root, "kind", (uint64_t)sp->kind);
	yyjson_mut_obj_add_int(m.doc, m.root, "pid", sp->pid);
	yyjson_mut_obj_add_int(m.doc, m.root, "vpid", sp->vpid);
	yyjson_mut_obj_add_uint(m.doc, m.root, "shmid", sp->shmid);
	yyjson_mut_obj_add_uint(m.doc, m.root, "size_bytes", sp->size_bytes);
	if (sp->kind == GW_SPACE_SHMEM) {
		yyjson_mut_obj_add_bool(m.doc, m.root, "sysv", sp->sysv);
		yyjson_mut_obj_add_strcpy(m.doc, m.root, "name", sp->name);
	}
	int rc = gw_msg_send(s->ctl, &m, e);
	if (rc == 0)
		rc = gw_msg_expect(s->ctl, "space-made", PREPARE_TIMEOUT_MS, NULL, e);
	if (rc < 0)
		return rc;
	if (known) {
		*known = *sp;
		return 0;
	}
	if (s->nspaces == s->spaces_cap) {
		size_t cap = s->spaces_cap ? s->spaces_cap * 2 : 16;
		struct gw_space *more = realloc(s->spaces, cap * sizeof(*more));
		if (!more)
			return gw_fail(e, GW_SYS, ENOMEM, "remember a memory space");
		s->spaces = more;
		s->spaces_cap = cap;
	}
	s->spaces[s->nspaces++] = *sp;
	return 0;
}

static int on_dirty(void *ctx, uint32_t space, const struct gw_span *spans, size_t n, struct gw_err *e)
{
	struct gw_source *s = ctx;
	const struct gw_space *sp = known_space(s, space);
	if (!sp)
		return gw_fail(e, GW_SYS, EINVAL, "pages of memory space %u, which was never announced", space);
	int object = sp->kind == GW_SPACE_SHMEM ? sp->fd : -1;
	return gw_sender_push(s->sender, space, sp->pid, object, spans, n, e);
}

static int on_drop(void *ctx, uint32_t space, const struct gw_span *spans, size_t n, struct gw_err *e)
{
	struct gw_source *s = ctx;
	return gw_sender_drop(s->sender, space, spans, n, e);
}

int gw_source_again(struct gw_source *s, pid_t pid, uint64_t addr, size_t len, struct gw_err *e)
{
	uint64_t first = addr / GW_PAGE * GW_PAGE, end = (addr + len - 1) / GW_PAGE * GW_PAGE + GW_PAGE;
	const struct gw_span span = {.addr = first, .npages = (uint32_t)((end - first) / GW_PAGE)};
	for (size_t i = s->nspaces; i-- > 0;)
		if (s->spaces[i].kind == GW_SPACE_PROC && s->spaces[i].pid == pid)
			return on_dirty(s, s->spaces[i].id, &span, 1, e);
	return gw_fail(e, GW_SYS, ESRCH, "memory of process %d was not followed", pid);
}

static void publish(struct gw_source *s, const struct gw_round *r)
{
	struct gw_send_stats all;
	gw_sender_total(s->sender, &all);
	const struct gw_send_stats *st = &all;
	struct gw_facts_of_run *f = gw_progress_edit(s->progress);
	f->rounds = s->converge.rounds;
	f->processes = r->processes;
	f->threads = r->threads;
	f->total_pages = r->present_pages;
	f->sent_pages = st->pages;
	f->zero_pages = st->zero_pages;
	f->bytes = st->raw_bytes;
	f->wire_bytes = st->wire_bytes;
	f->dirty_rate_bps = s->converge.dirty_rate;
	f->send_rate_bps = s->converge.send_rate;
	f->predicted_us = s->converge.predicted_us;
	f->cpu_percent = gw_converge_cpu_percent(&s->converge);
	gw_progress_done(s->progress);
}

int gw_source_round(struct gw_source *s, bool is_final, uint64_t *out_dirty_bytes, struct gw_err *e)
{
	struct gw_round r = {0};
	struct gw_track_sink sink = {.ctx = s, .space = on_space, .dirty = on_dirty, .drop = on_drop};
	if (!is_final) {
		int rc = gw_msg_send_type(s->ctl, "round", e);
		if (rc < 0)
			return rc;
	}
	int rc = gw_tracker_round(s->tracker, is_final, &sink, &r, e);
	if (rc == 0)
		rc = gw_sender_barrier(s->sender, NULL, e);
	if (rc < 0)
		return rc;
	*out_dirty_bytes = r.dirty_pages * GW_PAGE;
	publish(s, &r);
	gw_debug("round", kv_str("mig", s->mig), kv_u64("pages", r.dirty_pages), kv_u64("scan_us", r.scan_us),
	         kv_u64("stopped_us", r.stopped_us));
	return 0;
}

static int slow_down(struct gw_source *s, struct gw_err *e)
{
	if (!s->can_throttle) {
		int rc = gw_throttle_init(s->container, &s->throttle, e);
		if (rc < 0)
			return rc;
		s->can_throttle = true;
		(void)snprintf(s->journal.cpu_quota_path, sizeof(s->journal.cpu_quota_path), "%s", s->throttle.path);
		(void)snprintf(s->journal.cpu_quota, sizeof(s->journal.cpu_quota), "%s", s->throttle.old);
		rc = gw_source_journal(s, e);
		if (rc < 0)
			return rc;
	}
	uint32_t percent = gw_converge_cpu_percent(&s->converge);
	gw_info("writer slowed", kv_str("mig", s->mig), kv_u64("cpu_percent", percent));
	return gw_throttle_set(&s->throttle, percent, e);
}

static int not_converging(struct gw_source *s, struct gw_err *e)
{
	return gw_fail_code(
	        e, GW_INPUT, "NotConverging",
	        "%s writes %lu MiB/s and %lu MiB/s can be sent: the freeze would take %lu ms, allowed are %lu "
	        "(--max-freeze); let it be slowed (--throttle), move it when it writes less, or allow more",
	        s->container->id, (unsigned long)(s->converge.dirty_rate >> 20),
	        (unsigned long)(s->converge.send_rate >> 20), (unsigned long)(s->converge.predicted_us / 1000),
	        (unsigned long)(s->o.max_freeze_us / 1000));
}

static enum gw_track_backend wanted_backend(const struct gw_source *s)
{
	if (!strcmp(s->o.backend, "uffd"))
		return GW_TRACK_UFFD;
	if (!strcmp(s->o.backend, "soft-dirty"))
		return GW_TRACK_SOFT_DIRTY;
	return GW_TRACK_AUTO;
}

static int start_tracking(struct gw_source *s, struct gw_err *e)
{
	int rc = gw_tracker_new(wanted_backend(s), s->container->freezer_dir, s->container->init_pid, &s->tracker, e);
	if (rc == 0)
		rc = gw_tracker_set_shmem(s->tracker, e);
	if (rc < 0)
		return gw_wrap(e, "track the memory of %s", s->container->id);
	struct gw_facts_of_run *f = gw_progress_edit(s->progress);
	(void)snprintf(f->backend, sizeof(f->backend), "%s", gw_track_backend_name(gw_tracker_backend(s->tracker)));
	gw_progress_done(s->progress);
	struct gw_converge_opts co = {.want_us = s->o.want_freeze_us,
	                              .max_us = s->o.max_freeze_us,
	                              .rounds_max = s->o.rounds_max,
	                              .may_throttle = s->o.throttle,
	                              .fixed_us = s->d->fixed_us ?: FIXED_US};
	gw_converge_init(&s->converge, &co);
	return 0;
}

static int ask_claim(struct gw_source *s, bool *out_here, struct gw_err *e)
{
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	int rc = gw_msg_send_type(s->ctl, "claims?", e);
	if (rc == 0)
		rc = gw_msg_expect(s->ctl, "claims", PREPARE_TIMEOUT_MS, &doc, e);
	if (rc == 0)
		*out_here = gw_json_bool(yyjson_doc_get_root(doc), "here", false);
	return rc;
}

/* The destination's container runtime creates the container: has it come so
 * far? Until then rounds go on, at leisure. */
static int wait_claim(struct gw_source *s, struct gw_err *e)
{
	gw_progress_phase(s->progress, "Waiting");
	if (s->o.same_name) {
		int rc = gw_held_begin(s->d, s->mig, s->container->id, true, e);
		if (rc < 0)
			return rc;
	}
	bool here = false;
	gw_group_arrive(s->group, GW_GROUP_COPIED);
	for (;;) {
		uint64_t dirty;
		int rc = gw_group_failed(s->group, e);
		if (rc == 0 && !here && gw_group_all(s->group, GW_GROUP_COPIED, 0)) {
			rc = ask_claim(s, &here, e);
			if (rc == 0 && here)
				gw_group_arrive(s->group, GW_GROUP_READY);
		}
		if (rc < 0 || (here && gw_group_all(s->group, GW_GROUP_READY, 0)))
			return s->cancelled ? still_wanted(s, e) : rc;
		struct pollfd p = {.fd = s->cancel_fd, .events = POLLIN};
		(void)poll(&p, 1, CLAIM_ASK_MS);
		rc = still_wanted(s, e);
		if (rc == 0)
			rc = gw_source_round(s, false, &dirty, e);
		if (rc == 0)
			rc = gw_source_files(s, false, e);
		if (rc < 0)
			return s->cancelled ? still_wanted(s, e) : rc;
	}
}

int gw_source_precopy(struct gw_source *s, struct gw_err *e)
{
	int rc = start_tracking(s, e);
	if (rc < 0)
		return rc;
	gw_progress_phase(s->progress, "PreCopy");
	rc = gw_fault("source-precopy", e);
	if (rc < 0)
		return rc;
	s->precopy_from_us = s->last_scan_us = gw_now_us();
	for (;;) {
		uint64_t t0 = gw_now_us(), since = t0 - s->last_scan_us, dirty;
		s->last_scan_us = t0;
		rc = gw_source_round(s, false, &dirty, e);
		if (rc == 0)
			rc = still_wanted(s, e);
		if (rc < 0)
			return s->cancelled ? still_wanted(s, e) : rc;
		uint64_t took = gw_now_us() - t0;
		enum gw_converge_step step = gw_converge_round(&s->converge, dirty, since, took);
		if (s->converge.rounds == 1) {
			struct gw_facts_of_run *f = gw_progress_edit(s->progress);
			f->precopy_bytes_per_s = s->converge.send_rate;
			gw_progress_done(s->progress);
		}
		rc = gw_source_files(s, false, e);
		if (rc < 0)
			return s->cancelled ? still_wanted(s, e) : rc;
		if (step == GW_FREEZE)
			return s->o.claim[0] ? wait_claim(s, e) : 0;
		if (step == GW_NOT_CONVERGING)
			return not_converging(s, e);
		if (step == GW_THROTTLE && (rc = slow_down(s, e)) < 0)
			return rc;
	}
}
