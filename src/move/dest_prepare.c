/* dest_prepare: what an incoming container needs before it can be restored:
 * its network (dormant), its bundle, its runc restore (waiting), its page server. */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>

#include "base/fault.h"
#include "base/gw_log.h"
#include "base/io.h"
#include "base/proc.h"
#include "base/scope.h"
#include "move/check.h"
#include "move/dest_priv.h"

enum { READY_TIMEOUT_MS = 30000 };

static yyjson_mut_val *member(yyjson_mut_doc *doc, yyjson_mut_val *obj, const char *key)
{
	yyjson_mut_val *v = yyjson_mut_obj_get(obj, key);
	if (!v) {
		v = yyjson_mut_obj(doc);
		yyjson_mut_obj_add_val(doc, obj, key, v);
	}
	return v;
}

static void put_str(yyjson_mut_doc *doc, yyjson_mut_val *obj, const char *key, const char *val)
{
	yyjson_mut_obj_remove_key(obj, key);
	yyjson_mut_obj_add_strcpy(doc, obj, key, val);
}

static void point_network(struct gw_dest *s, yyjson_mut_doc *doc, yyjson_mut_val *namespaces)
{
	yyjson_mut_arr_iter it = yyjson_mut_arr_iter_with(namespaces);
	for (yyjson_mut_val *v; (v = yyjson_mut_arr_iter_next(&it));) {
		const char *type = yyjson_mut_get_str(yyjson_mut_obj_get(v, "type"));
		if (type && !strcmp(type, "network"))
			put_str(doc, v, "path", s->netns);
	}
}

/* A root given relative to the bundle is relative to the source's bundle. */
static void absolute_root(yyjson_mut_doc *doc, yyjson_mut_val *root, const char *old_bundle)
{
	const char *path = yyjson_mut_get_str(yyjson_mut_obj_get(root, "path"));
	if (path && path[0] != '/') {
		char abs[PATH_MAX * 2];
		gw_path(abs, sizeof(abs), "%s/%s", old_bundle, path);
		put_str(doc, root, "path", abs);
	}
}

/* The source's config.json with this host's network and CRIU's options. */
static int write_bundle(struct gw_dest *s, const char *config, const char *old_bundle, struct gw_err *e)
{
	char path[PATH_MAX + 32];
	gw_auto(jdoc) yyjson_doc *in = NULL;
	int rc = gw_json_parse(config, strlen(config), "config.json of the source", &in, e);
	if (rc == 0)
		rc = gw_mkdirs(s->bundle, e);
	gw_path(path, sizeof(path), "%s/criu.conf", s->bundle);
	if (rc == 0)
		rc = gw_restore_write_config(path, e);
	if (rc < 0)
		return rc;
	gw_auto(jmut) yyjson_mut_doc *doc = yyjson_doc_mut_copy(in, NULL);
	yyjson_mut_val *o = yyjson_mut_doc_get_root(doc);
	if (!yyjson_mut_is_obj(o))
		return gw_fail(e, GW_PEER, EINVAL, "config.json of the source is not an object");
	put_str(doc, member(doc, o, "annotations"), "org.criu.config", path);
	point_network(s, doc, yyjson_mut_obj_get(member(doc, o, "linux"), "namespaces"));
	absolute_root(doc, member(doc, o, "root"), old_bundle);
	gw_auto(mem) char *text = gw_json_text_pretty(doc);
	gw_path(path, sizeof(path), "%s/config.json", s->bundle);
	return gw_write_file(path, text, strlen(text), e);
}

static int check_arrival(struct gw_dest *s, const char *config, uint64_t memory, struct gw_err *e)
{
	struct gw_reasons rs = {.n = 0};
	int rc = gw_check_arrival(s->claim_name[0] ? NULL : s->container, s->d->cfg.runc_root, config, memory, &rs, e);
	for (size_t i = 0; rc == 0 && i < rs.n; i++)
		if (!rs.r[i].is_warning)
			rc = gw_fail_code(e, GW_INPUT, rs.r[i].code, "%s. %s", rs.r[i].text, rs.r[i].way_out);
	return rc;
}

static bool name_is_safe(const char *s)
{
	return *s && *s != '.' && !strchr(s, '/') && strlen(s) < 200;
}

int gw_dest_prepare(struct gw_dest *s, yyjson_val *msg, struct gw_err *e)
{
	const char *id, *config, *bundle, *fds;
	int rc = gw_json_need_str(msg, "container", &id, e);
	if (rc == 0)
		rc = gw_json_need_str(msg, "config_json", &config, e);
	if (rc == 0)
		rc = gw_json_need_str(msg, "bundle", &bundle, e);
	if (rc == 0)
		rc = gw_json_need_str(msg, "descriptors_json", &fds, e);
	if (rc == 0)
		rc = gw_pod_from_json(yyjson_obj_get(msg, "pod"), &s->pod, e);
	if (rc < 0)
		return gw_wrap(e, "prepare");
	rc = gw_dest_pod_join(s, msg, e);
	if (rc < 0)
		return gw_wrap(e, "prepare");
	if (s->d->may_come && !s->d->may_come(s->d->may_come_ctx, s->claim_mig, s->peer))
		return gw_fail_code(e, GW_INPUT, "UnknownMigration",
		                    "the API server knows of no migration %s from %s to this node", s->mig, s->peer);
	if (!name_is_safe(id) || s->store)
		return gw_fail(e, GW_PEER, EINVAL, "prepare with a bad container id, or for the second time");
	(void)snprintf(s->container, sizeof(s->container), "%s", id);
	(void)snprintf(s->claim_name, sizeof(s->claim_name), "%s", gw_json_str(msg, "claim", ""));
	rc = check_arrival(s, config, gw_json_u64(msg, "memory_bytes", 0), e);
	if (rc < 0)
		return rc;
	if (!s->claim_name[0])
		gw_path(s->bundle, sizeof(s->bundle), "%s/bundles/%s", s->d->cfg.state_dir, id);
	s->descriptors = strdup(fds);
	s->store = gw_store_new();
	if (!s->descriptors || !s->store)
		return gw_fail(e, GW_SYS, ENOMEM, "prepare %s", id);
	(void)snprintf(s->journal.container, sizeof(s->journal.container), "%s", id);
	(void)snprintf(s->peer_instance, sizeof(s->peer_instance), "%s", gw_json_str(msg, "instance", ""));
	if (!s->pod_of.member)
		s->journal.pod_json = yyjson_val_write(yyjson_obj_get(msg, "pod"), 0, NULL);
	s->journal.dest = s->state;
	s->journal.is_claimed = s->claim_name[0];
	rc = gw_journal_write(s->d->cfg.state_dir, &s->journal, e);
	if (rc == 0 && !s->claim_name[0]) {
		rc = gw_mover_routed.prepare(id, &s->pod, s->netns, sizeof(s->netns), e);
		s->net_ready = rc == 0;
	}
	if (rc == 0 && !s->claim_name[0])
		rc = write_bundle(s, config, bundle, e);
	if (rc == 0)
		rc = gw_dest_files_prepare(s, yyjson_obj_get(msg, "trees"), e);
	struct gw_facts_of_run *f = gw_progress_edit(s->progress);
	(void)snprintf(f->container, sizeof(f->container), "%s", id);
	gw_progress_done(s->progress);
	return rc;
}

/* Standard streams that were pipes become a pipe again, read by a `cat` into
 * a log file of ours; it ends when the container's last writer does. */
static int give_stdio(struct gw_dest *s, struct gw_err *e)
{
	if (!strstr(s->descriptors, "pipe:"))
		return 0;
	char dir[PATH_MAX], path[PATH_MAX + 300];
	gw_path(dir, sizeof(dir), "%s/logs", s->d->cfg.state_dir);
	int rc = gw_mkdirs(dir, e);
	if (rc < 0)
		return rc;
	gw_path(path, sizeof(path), "%s/%s.log", dir, s->container);
	gw_auto(fd) int log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	int p[2];
	if (log < 0 || pipe2(p, O_CLOEXEC) < 0)
		return gw_fail(e, GW_SYS, errno, "open %s", path);
	gw_auto(fd) int reader = p[0];
	s->stdio[1] = p[1];
	s->stdio[2] = fcntl(p[1], F_DUPFD_CLOEXEC, 3);
	const char *const argv[] = {"cat", NULL};
	struct gw_spawn sp = {.argv = argv, .stdio = {reader, log, -1}, .new_session = true};
	pid_t pid;
	return gw_proc_start(&sp, &pid, e);
}

/* The container that its runtime is creating: from here on its id is ours. */
static int take_claim(struct gw_dest *s, struct gw_err *e)
{
	struct gw_claim c;
	int rc = gw_claim_take(s->d, s->claim_mig, s->claim_name, &c, e);
	if (rc < 0)
		return rc;
	pthread_mutex_lock(&s->lock);
	s->claim = c;
	pthread_mutex_unlock(&s->lock);
	(void)snprintf(s->container, sizeof(s->container), "%s", s->claim.id);
	(void)snprintf(s->journal.container, sizeof(s->journal.container), "%s", s->claim.id);
	(void)snprintf(s->journal.sandbox, sizeof(s->journal.sandbox), "%s", s->claim.sandbox);
	(void)snprintf(s->journal.runc_root, sizeof(s->journal.runc_root), "%s", s->claim.root);
	return gw_journal_write(s->d->cfg.state_dir, &s->journal, e);
}

/* Folders of one restore. */
struct places {
	char images[PATH_MAX + 16], work[PATH_MAX + 16], home[PATH_MAX + 16], pid_file[PATH_MAX + 16],
	        criu_conf[PATH_MAX + 16];
};

static int make_places(struct gw_dest *s, struct places *p, struct gw_err *e)
{
	char path[PATH_MAX + 64];
	gw_path(p->images, sizeof(p->images), "%s/images", s->dir);
	gw_path(p->work, sizeof(p->work), "%s/work", s->dir);
	gw_path(p->home, sizeof(p->home), "%s/home", s->dir);
	gw_path(p->pid_file, sizeof(p->pid_file), "%s/pid", s->dir);
	gw_path(p->criu_conf, sizeof(p->criu_conf), "%s/criu.conf", s->dir);
	int rc = gw_mkdirs(p->images, e);
	if (rc == 0)
		rc = gw_mkdirs(p->work, e);
	gw_path(path, sizeof(path), "%s/descriptors.json", p->images);
	if (rc == 0)
		rc = gw_write_file(path, s->descriptors, strlen(s->descriptors), e);
	if (rc == 0 && s->claim_name[0])
		rc = gw_restore_write_config(p->criu_conf, e);
	return rc;
}

/* The runtime's process becomes runc when it hears where everything is. */
static void answer_claim(struct gw_dest *s, const struct places *p)
{
	const struct gw_claim_folders f = {.images = p->images,
	                                   .work = p->work,
	                                   .preload = s->d->cfg.preload,
	                                   .home = p->home,
	                                   .commit = s->commit_file,
	                                   .criu_conf = p->criu_conf};
	gw_claim_go(s->d, &s->claim, &f);
}

static int start_restore(struct gw_dest *s, const struct places *p, struct gw_err *e)
{
	bool claimed = s->claim_name[0];
	struct gw_restore_opts ro = {.id = s->container,
	                             .runc_pid = claimed ? s->claim.pid : 0,
	                             .runc = s->d->cfg.runc[0] ? s->d->cfg.runc : NULL,
	                             .runc_root = claimed ? s->claim.root : s->d->cfg.runc_root,
	                             .bundle = s->bundle,
	                             .images_dir = p->images,
	                             .work_dir = p->work,
	                             .preload = s->d->cfg.preload,
	                             .home_path = p->home,
	                             .commit_path = s->commit_file,
	                             .pid_file = p->pid_file,
	                             .stdio = {s->stdio[0], s->stdio[1], s->stdio[2]},
	                             .answer = gw_dest_answer,
	                             .answer_ctx = s,
	                             .cancel_fd = s->wake_fd};
	int rc = gw_restore_start(&ro, &s->restore, e);
	if (rc == 0 && claimed)
		answer_claim(s, p);
	return rc < 0 ? rc : gw_restore_wait_ready(s->restore, READY_TIMEOUT_MS, e);
}

/* This host's own clients wait here, as the others do at the source. */
static int make_hold(struct gw_dest *s, struct gw_err *e)
{
	struct gw_hold *h = NULL;
	int rc = s->pod_of.member ? 0 : gw_hold_new_there(s->mig, &s->pod, &h, e);
	pthread_mutex_lock(&s->lock);
	s->hold = h;
	pthread_mutex_unlock(&s->lock);
	return rc;
}

void gw_dest_end_hold(struct gw_dest *s)
{
	pthread_mutex_lock(&s->lock);
	struct gw_hold *h = gw_take(s->hold);
	pthread_mutex_unlock(&s->lock);
	gw_hold_free(h);
}

int gw_dest_arm(struct gw_dest *s, struct gw_err *e)
{
	struct places p;
	char path[PATH_MAX + 64], reason[PATH_MAX + 64];
	if (!s->store || s->restore)
		return gw_fail(e, GW_PEER, EPROTO, "arm before prepare, or for the second time");
	int rc = s->claim_name[0] ? take_claim(s, e) : 0;
	if (rc == 0)
		rc = gw_dest_pod_quiet(s, e);
	if (rc == 0)
		rc = gw_dest_files_place(s, e);
	if (rc == 0)
		rc = make_places(s, &p, e);
	if (rc == 0 && !s->claim_name[0])
		rc = give_stdio(s, e);
	if (rc == 0)
		rc = start_restore(s, &p, e);
	if (rc == 0)
		rc = gw_store_recharge(s->store, s->d->cfg.pages, gw_restore_memory_cgroup(s->restore), e);
	if (rc == 0)
		rc = make_hold(s, e);
	if (rc == 0)
		rc = gw_fault("dest-armed", e);
	if (rc < 0)
		return rc;
	(void)malloc_trim(0); /* what the rounds left: from here on memory is scarcest */
	gw_path(path, sizeof(path), "%s/lazy-pages.socket", p.work);
	gw_path(reason, sizeof(reason), "%s/killed-%s", s->d->cfg.state_dir, s->container);
	struct gw_pages_opts po = {.program = s->d->cfg.pages,
	                           .socket_path = path,
	                           .cgroup_dir = gw_restore_cgroup(s->restore),
	                           .reason_path = reason,
	                           .label = s->mig};
	return gw_pages_start(&po, s->store, &s->pages, e);
}

int gw_dest_image(struct gw_dest *s, const struct gw_frame *f, struct gw_err *e)
{
	struct gw_file_hdr h;
	size_t at;
	char path[PATH_MAX + 300];
	int rc = gw_file_unpack(f->payload, f->len, &h, &at, e);
	if (rc < 0)
		return rc;
	if (!s->restore)
		return gw_fail(e, GW_PEER, EPROTO, "image %s before arm", h.name);
	gw_path(path, sizeof(path), "%s/images/%s", s->dir, h.name);
	gw_auto(fd) int fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, h.mode & 0777);
	if (fd < 0 || lseek(fd, (off_t)h.offset, SEEK_SET) < 0)
		return gw_fail(e, GW_SYS, errno, "create image %s", path);
	rc = gw_write_full(fd, f->payload + at, f->len - at);
	return rc < 0 ? gw_fail(e, GW_SYS, -rc, "write image %s", path) : 0;
}

void gw_dest_discard(struct gw_dest *s)
{
	struct gw_err e;
	gw_dest_end_hold(s); /* first: its source runs */
	gw_restore_close(gw_take(s->restore));
	gw_pages_free(gw_take(s->pages), true);
	gw_dest_forget_connections(s);
	if (s->net_ready && gw_mover_routed.discard(s->container, &s->pod, s->netns, &e) < 0)
		gw_warn("network of a discarded container not removed", kv_str("mig", s->mig),
		        kv_str("reason", e.text));
	s->net_ready = false;
	if (s->bundle[0] && gw_remove_tree(s->bundle, &e) < 0)
		gw_warn("bundle of a discarded container not removed", kv_str("mig", s->mig), kv_str("reason", e.text));
}
