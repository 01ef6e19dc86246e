/* dest_pod: the containers of one pod arrive in sessions of their own and are
 * committed by one file, the leader's (group.h). */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fate.h"
#include "base/gw_log.h"
#include "base/io.h"
#include "base/scope.h"
#include "ckpt/pidns.h"
#include "move/dest_priv.h"
#include "move/msg.h"
#include "net/destroy.h"
#include "net/dormant.h"
#include "net/netns.h"

enum { CONFIG_MAX = 16 << 20, IMAGE_HEAD = 8 /* bytes */, IPC_WITHIN_MS = 20000 };

static struct gw_dest *leader_locked(struct gw_daemon *d, const char *leader)
{
	for (struct gw_dest *s = d->dests; s; s = s->next)
		if (!strcmp(s->mig, leader))
			return s;
	return NULL;
}

static int join_leader(struct gw_dest *s, struct gw_err *e)
{
	pthread_mutex_lock(&s->d->lock);
	struct gw_dest *l = leader_locked(s->d, s->pod_of.leader);
	bool ok = l && l != s && !strcmp(l->peer, s->peer);
	if (ok) {
		pthread_mutex_lock(&l->lock);
		ok = l->pod_of.members && l->pod_of.nothers + 1 < l->pod_of.members && l->state == D_RECEIVING;
		if (ok)
			l->pod_of.others[l->pod_of.nothers++] = s;
		pthread_mutex_unlock(&l->lock);
	}
	pthread_mutex_unlock(&s->d->lock);
	return ok ? 0
	          : gw_fail(e, GW_PEER, EPROTO, "a container of pod migration %s, which does not wait for it",
	                    s->pod_of.leader);
}

int gw_dest_pod_join(struct gw_dest *s, yyjson_val *msg, struct gw_err *e)
{
	const char *leader = gw_json_str(msg, "leader", "");
	uint64_t members = gw_json_u64(msg, "members", 0), member = gw_json_u64(msg, "member", 0);
	(void)snprintf(s->claim_mig, sizeof(s->claim_mig), "%s", *leader ? leader : s->mig);
	if (!*leader)
		return 0;
	bool first = !strcmp(leader, s->mig);
	if (!gw_mig_valid(leader) || members < 2 || members > GW_GROUP_MAX || member >= members ||
	    first != (member == 0) || !gw_group_is_of(s->mig, leader))
		return gw_fail(e, GW_PEER, EPROTO, "container %lu of %lu of pod migration %.40s", member, members,
		               leader);
	pthread_mutex_lock(&s->lock);
	s->pod_of.members = (unsigned)members;
	s->pod_of.member = (unsigned)member;
	(void)snprintf(s->pod_of.leader, sizeof(s->pod_of.leader), "%s", leader);
	pthread_mutex_unlock(&s->lock);
	if (first)
		return 0;
	(void)snprintf(s->journal.leader, sizeof(s->journal.leader), "%s", leader);
	gw_commit_path(s->d->cfg.state_dir, leader, s->commit_file, sizeof(s->commit_file));
	return join_leader(s, e);
}

void gw_dest_pod_leave(struct gw_dest *s)
{
	if (!s->pod_of.member)
		return;
	pthread_mutex_lock(&s->d->lock);
	struct gw_dest *l = leader_locked(s->d, s->pod_of.leader);
	if (l) {
		pthread_mutex_lock(&l->lock);
		for (unsigned i = 0; i < l->pod_of.nothers; i++)
			if (l->pod_of.others[i] == s) {
				l->pod_of.others[i] = l->pod_of.others[--l->pod_of.nothers];
				break;
			}
		pthread_mutex_unlock(&l->lock);
	}
	pthread_mutex_unlock(&s->d->lock);
}

bool gw_dest_pod_led(struct gw_dest *s)
{
	pthread_mutex_lock(&s->d->lock);
	struct gw_dest *l = leader_locked(s->d, s->pod_of.leader);
	bool led = false;
	if (l) {
		pthread_mutex_lock(&l->lock);
		led = l->state == D_RECEIVING || l->state == D_PREPARED;
		pthread_mutex_unlock(&l->lock);
	}
	pthread_mutex_unlock(&s->d->lock);
	return led;
}

static int all_ready(struct gw_dest *s, struct gw_err *e)
{
	unsigned ready = 1;
	for (unsigned i = 0; i < s->pod_of.nothers; i++) {
		struct gw_dest *o = s->pod_of.others[i];
		pthread_mutex_lock(&o->lock);
		ready += o->state == D_PREPARED;
		pthread_mutex_unlock(&o->lock);
	}
	if (ready < s->pod_of.members)
		return gw_fail(e, GW_PEER, EPROTO, "commit of a pod with %u of %u containers ready", ready,
		               s->pod_of.members);
	if (!gw_dest_links_given(&s->pod_of))
		return gw_fail(e, GW_SYS, EPROTO, "a unix connection between two containers has an end that none took");
	gw_dest_links_drop(&s->pod_of);
	return 0;
}

/* i 0: s itself. */
static const struct gw_claim *claim_of(const struct gw_dest *s, unsigned i)
{
	return i ? &s->pod_of.others[i - 1]->claim : &s->claim;
}

int gw_dest_pod_bind(struct gw_dest *s, struct gw_err *e)
{
	int rc = s->pod_of.members ? all_ready(s, e) : 0;
	if (rc < 0 || !s->claim_name[0])
		return rc;
	for (unsigned i = 0; i <= s->pod_of.nothers; i++) {
		rc = gw_claim_bind(s->d, claim_of(s, i), e);
		if (rc < 0) {
			while (i-- > 0)
				gw_claim_unbind(s->d, claim_of(s, i));
			return rc;
		}
	}
	return 0;
}

void gw_dest_pod_unbind(struct gw_dest *s)
{
	for (unsigned i = 0; s->claim_name[0] && i <= s->pod_of.nothers; i++)
		gw_claim_unbind(s->d, claim_of(s, i));
}

/* What is being restored for an earlier container of that name is not to be
 * committed: its runtime knows of it no more, or it would not create another. */
void gw_dest_claimed_again(struct gw_daemon *d, const char *mig, const char *name, const char *id)
{
	struct gw_err e;
	pthread_mutex_lock(&d->lock);
	for (struct gw_dest *s = d->dests; s; s = s->next) {
		pthread_mutex_lock(&s->lock);
		bool earlier = !strcmp(s->claim_mig, mig) && !strcmp(s->claim_name, name) && s->claim.id[0] &&
		               strcmp(s->claim.id, id) != 0;
		if (earlier && gw_fate_decide(d->cfg.state_dir, s->claim.id, GW_FATE_END, &e) == 0)
			gw_warn("a container was created again while it was restored", kv_str("mig", s->mig),
			        kv_str("name", name), kv_str("container", s->claim.id));
		pthread_mutex_unlock(&s->lock);
	}
	pthread_mutex_unlock(&d->lock);
}

void gw_dest_pod_commit(struct gw_dest *s)
{
	for (unsigned i = 0; i < s->pod_of.nothers; i++) {
		struct gw_dest *o = s->pod_of.others[i];
		struct gw_err e;
		pthread_mutex_lock(&o->lock);
		if (gw_dest_next(&o->state, DE_COMMIT)) {
			gw_restore_resume(o->restore);
			o->journal.dest = o->state;
			if (gw_journal_write(o->d->cfg.state_dir, &o->journal, &e) < 0)
				gw_error("journal not written", kv_str("mig", o->mig), kv_str("reason", e.text));
		}
		pthread_mutex_unlock(&o->lock);
	}
}

/* Where the target's config.json has a namespace of this type; "": of its own. */
static int namespace_path(const char *bundle, const char *type, char *out, size_t size, struct gw_err *e)
{
	char path[PATH_MAX + 16];
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	gw_path(path, sizeof(path), "%s/config.json", bundle);
	int rc = gw_json_file(path, CONFIG_MAX, &doc, e);
	if (rc < 0)
		return rc;
	yyjson_val *linux_part = yyjson_obj_get(yyjson_doc_get_root(doc), "linux");
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(linux_part, "namespaces"));
	for (yyjson_val *v; (v = yyjson_arr_iter_next(&it));)
		if (!strcmp(gw_json_str(v, "type", ""), type))
			(void)snprintf(out, size, "%s", gw_json_str(v, "path", ""));
	return 0;
}

/* ---- the processes that they see of each other ---- */

/* Before the first of them is restored, and once: it takes a number for a moment. */
int gw_dest_pod_pids(struct gw_dest *s, pid_t from, struct gw_err *e)
{
	char path[PATH_MAX] = "";
	int rc = namespace_path(s->claim.bundle, "pid", path, sizeof(path), e);
	if (rc == 0 && !path[0])
		return gw_fail(
		        e, GW_INPUT, EINVAL,
		        "container %s of the target has a process namespace of its own, the source shares its pod's",
		        s->container);
	if (rc < 0)
		return rc;
	pthread_mutex_lock(&s->d->lock);
	struct gw_dest *l = s->pod_of.member ? leader_locked(s->d, s->pod_of.leader) : s;
	if (!l) {
		rc = gw_fail(e, GW_PEER, ECANCELED, "pod migration %s has ended", s->pod_of.leader);
	} else if (!l->pod_of.counted) {
		rc = gw_pidns_count_from(path, from, e);
		l->pod_of.counted = rc == 0;
	}
	pthread_mutex_unlock(&s->d->lock);
	return rc;
}

/* ---- the IPC namespace ---- */

/* Of an image that holds nothing there are only the eight bytes that say what it is. */
static bool has_ipc_objects(const struct gw_dest *s)
{
	static const char *const kinds[] = {"ipcns-shm-", "ipcns-msg-", "ipcns-sem-"};
	char path[PATH_MAX + 16];
	bool any = false;
	gw_path(path, sizeof(path), "%s/images", s->dir);
	gw_auto(dir) DIR *d = opendir(path);
	for (const struct dirent *de; d && !any && (de = readdir(d));)
		for (size_t i = 0; i < gw_countof(kinds); i++) {
			struct stat st;
			if (!strncmp(de->d_name, kinds[i], strlen(kinds[i])))
				any |= fstatat(dirfd(d), de->d_name, &st, 0) < 0 || st.st_size > IMAGE_HEAD;
		}
	return any || !d;
}

/* 1: made, 0: not yet, < 0: there will be none. */
static int is_ipc_made(struct gw_dest *s)
{
	int rc = -ECANCELED;
	pthread_mutex_lock(&s->d->lock);
	struct gw_dest *l = leader_locked(s->d, s->pod_of.leader);
	if (l) {
		pthread_mutex_lock(&l->lock);
		rc = l->state == D_RECEIVING || l->state == D_PREPARED ? l->pod_of.ipc_made : -ECANCELED;
		pthread_mutex_unlock(&l->lock);
	}
	pthread_mutex_unlock(&s->d->lock);
	return rc;
}

int gw_dest_pod_ipc(struct gw_dest *s)
{
	if (!s->pod_of.member)
		return s->pod_of.members ? GW_HOME_SEGMENT : GW_HOME_GIVEN;
	if (!has_ipc_objects(s))
		return GW_HOME_NOT_OURS;
	for (uint64_t end = gw_now_ms() + IPC_WITHIN_MS; gw_now_ms() < end;) {
		int rc = is_ipc_made(s);
		if (rc != 0)
			return rc < 0 ? rc : GW_HOME_NOT_OURS;
		struct pollfd p = {.fd = s->wake_fd, .events = POLLIN};
		if (poll(&p, 1, 1) > 0)
			return -ECANCELED;
	}
	return -ETIMEDOUT;
}

int gw_dest_pod_socket(struct gw_dest *s, uint32_t ino, int *out_fd)
{
	int fd = -ECANCELED;
	pthread_mutex_lock(&s->d->lock);
	struct gw_dest *l = s->pod_of.members ? leader_locked(s->d, s->pod_of.leader) : NULL;
	if (l) {
		pthread_mutex_lock(&l->lock);
		fd = gw_dest_link_end(&l->pod_of, ino);
		pthread_mutex_unlock(&l->lock);
	}
	pthread_mutex_unlock(&s->d->lock);
	*out_fd = fd;
	return fd < 0 ? fd : GW_HOME_GIVEN;
}

void gw_dest_pod_ipc_made(struct gw_dest *s)
{
	pthread_mutex_lock(&s->lock);
	s->pod_of.ipc_made = true;
	pthread_mutex_unlock(&s->lock);
}

/* ---- what they say to each other over loopback ---- */

static int begin_quiet(void *arg, struct gw_err *e)
{
	(void)arg;
	return gw_dormant_begin("lo", e);
}

static int end_quiet(void *arg, struct gw_err *e)
{
	(void)arg;
	return gw_dormant_end("lo", e);
}

int gw_dest_pod_quiet(struct gw_dest *s, struct gw_err *e)
{
	gw_auto(fd) int fd = -1;
	if (s->pod_of.members < 2 || s->pod_of.member)
		return 0;
	int rc = namespace_path(s->claim.bundle, "network", s->journal.netns_path, sizeof(s->journal.netns_path), e);
	if (rc == 0)
		rc = gw_journal_write(s->d->cfg.state_dir, &s->journal, e);
	if (rc == 0)
		rc = gw_netns_open(s->journal.netns_path, &fd, e);
	return rc < 0 ? rc : gw_netns_run(fd, begin_quiet, NULL, e);
}

void gw_dest_forget_connections(struct gw_dest *s)
{
	char path[PATH_MAX] = "";
	gw_auto(fd) int fd = -1;
	struct gw_err e;
	if (!s->claim.bundle[0] || namespace_path(s->claim.bundle, "network", path, sizeof(path), &e) < 0)
		return;
	int rc = gw_netns_open(path, &fd, &e);
	if (rc == 0)
		rc = gw_tcp_destroy_all(fd, &e);
	if (rc < 0)
		gw_warn("connections of a discarded copy are still there: another try would miss them",
		        kv_str("mig", s->mig), kv_str("reason", e.text));
}

void gw_dest_pod_talk(const char *netns_path, const char *mig)
{
	gw_auto(fd) int fd = -1;
	struct gw_err e;
	if (!netns_path[0])
		return;
	int rc = gw_netns_open(netns_path, &fd, &e);
	if (rc == 0)
		rc = gw_netns_run(fd, end_quiet, NULL, &e);
	if (rc < 0)
		gw_error("the pod's containers cannot end connections between them", kv_str("mig", mig),
		         kv_str("reason", e.text));
}
