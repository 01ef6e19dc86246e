#include "ckpt/dump.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/scope.h"
#include "ckpt/breaks.h"
#include "ckpt/bury.h"
#include "ckpt/criu.h"
#include "ckpt/freezer.h"
#include "criu.pb-c.h"

enum {
	ARM_TIMEOUT_MS = 20000,
	DUMP_TIMEOUT_MS = 30000,
	KILL_TIMEOUT_MS = 10000,
	EXT_MAX = 256,
	GHOST_LIMIT = 64 << 20 /* bytes of a deleted, still open file */,
	SEIZE_TIMEOUT_S = 10
};

struct gw_dump {
	const struct gw_container *c;
	struct gw_criu *criu;
	struct gw_home *home;
	int breaks;
	char log[PATH_MAX];
	enum { ARMED, DUMPED, OVER } state;
};

/* The mounts that runc calls external: same keys as `runc checkpoint`. */
struct ext {
	size_t n;
	CriuExtMount m[EXT_MAX];
	CriuExtMount *p[EXT_MAX];
	char *owned[EXT_MAX];
	size_t nowned;
};

static void ext_add(struct ext *x, const char *key, const char *val)
{
	if (x->n == EXT_MAX)
		return;
	x->m[x->n] = (CriuExtMount)CRIU_EXT_MOUNT__INIT;
	/* protobuf-c has no const strings; it does not write to them. */
	x->m[x->n].key = (char *)(uintptr_t)key;
	x->m[x->n].val = (char *)(uintptr_t)val;
	x->p[x->n] = &x->m[x->n];
	x->n++;
}

/* cgroup v1: a tmpfs with one bind mount a hierarchy. Read from the
 * container's own mount table, so that no layout is assumed. */
static void ext_add_cgroups(struct ext *x, const struct gw_container *c)
{
	char path[64], line[4096];
	gw_path(path, sizeof(path), "/proc/%d/mountinfo", c->init_pid);
	gw_auto(file) FILE *f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		char point[1024], type[64];
		const char *dash = strstr(line, " - ");
		if (!dash || sscanf(line, "%*d %*d %*s %*s %1023s", point) != 1 || sscanf(dash, " - %63s", type) != 1)
			continue;
		bool v1 = !strcmp(type, "cgroup");
		if (!v1 && !(strcmp(type, "cgroup2") == 0 && strstr(point, "/unified")))
			continue;
		if (x->nowned < EXT_MAX && (x->owned[x->nowned] = strdup(point))) {
			ext_add(x, x->owned[x->nowned], x->owned[x->nowned]);
			x->nowned++;
		}
	}
}

static void ext_fill(struct ext *x, const struct gw_container *c)
{
	for (size_t i = 0; i < c->nmounts; i++) {
		if (!strcmp(c->mounts[i].type, "bind"))
			ext_add(x, c->mounts[i].dest, c->mounts[i].dest);
		else if (!strcmp(c->mounts[i].type, "cgroup"))
			ext_add_cgroups(x, c);
	}
	for (size_t i = 0; i < c->nmasked; i++) {
		char path[PATH_MAX];
		struct stat st;
		gw_path(path, sizeof(path), "/proc/%d/root/%s", c->init_pid, c->masked[i]);
		if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode))
			ext_add(x, c->masked[i], "/dev/null");
	}
	for (size_t i = 0; i < c->ndevices; i++)
		ext_add(x, c->devices[i], c->devices[i]);
}

static void ext_done(struct ext *x)
{
	for (size_t i = 0; i < x->nowned; i++)
		free(x->owned[i]);
}

/* "net[INODE]:extRootNetNS": how runc names a namespace it did not make. UTS and
 * IPC namespaces that it did not make it joins at the restore, without such a name. */
struct ext_ns {
	char text[2][64];
	char *list[2];
	size_t n;
};

static int ext_ns_add(struct ext_ns *x, const char *path, const char *type, const char *key, struct gw_err *e)
{
	struct stat st;
	if (!path[0])
		return 0;
	if (stat(path, &st) < 0)
		return gw_fail(e, GW_SYS, errno, "%s namespace %s", type, path);
	gw_path(x->text[x->n], sizeof(x->text[0]), "%s[%lu]:%s", type, (unsigned long)st.st_ino, key);
	x->list[x->n] = x->text[x->n];
	x->n++;
	return 0;
}

static int ext_ns_fill(struct ext_ns *x, const struct gw_container *c, struct gw_err *e)
{
	int rc = ext_ns_add(x, c->netns_path, "net", "extRootNetNS", e);
	if (rc == 0)
		rc = ext_ns_add(x, c->pidns_path, "pid", "extRootPidNS", e);
	return rc < 0 ? gw_wrap(e, "dump %s", c->id) : 0;
}

static int write_descriptors(const struct gw_dump_opts *o, struct gw_err *e)
{
	char path[PATH_MAX];
	gw_path(path, sizeof(path), "%s/descriptors.json", o->images_dir);
	return gw_write_file(path, o->container->descriptors_json, strlen(o->container->descriptors_json), e);
}

/* What is asked of CRIU, and why: docs/criu.md. protobuf-c has no const
 * strings; it does not write to them. */
static void fill_opts(CriuOpts *opts, const struct gw_dump_opts *o)
{
	const struct gw_container *c = o->container;
	opts->has_pid = true;
	opts->pid = c->init_pid;
	opts->has_log_level = true;
	opts->log_level = o->log_level ?: 2;
	opts->log_file = (char *)(uintptr_t)"dump.log";
	opts->root = (char *)(uintptr_t)c->rootfs;
	opts->has_notify_scripts = true;
	opts->notify_scripts = true;
	opts->has_tcp_established = true;
	opts->tcp_established = true;
	opts->has_file_locks = true;
	opts->file_locks = true;
	opts->has_link_remap = true;
	opts->link_remap = true;
	opts->has_orphan_pts_master = true;
	opts->orphan_pts_master = true;
	opts->has_ghost_limit = true;
	opts->ghost_limit = GHOST_LIMIT;
	opts->has_manage_cgroups_mode = true;
	opts->manage_cgroups_mode = CRIU_CG_MODE__CG_IGNORE;
	opts->has_network_lock = true;
	opts->network_lock = CRIU_NET_LOCK__NET_LOCK_SKIP;
	opts->freeze_cgroup = (char *)(uintptr_t)c->freezer_dir;
	opts->has_timeout = true;
	opts->timeout = SEIZE_TIMEOUT_S;
}

/* CRIU's first word: it has understood, and is about to begin. */
static int await_begin(struct gw_dump *d, struct gw_err *e)
{
	CriuResp *r;
	int rc = gw_criu_recv(d->criu, ARM_TIMEOUT_MS, &r, e);
	if (rc < 0)
		return rc;
	if (r->success && r->type == CRIU_REQ_TYPE__NOTIFY) {
		rc = gw_criu_answer(d->criu, true, e);
	} else {
		char why[200];
		gw_criu_log_reason(d->log, r->cr_errmsg ?: "no reason given", why, sizeof(why));
		rc = gw_fail(e, GW_INPUT, EIO, "criu refuses the dump: %s", why);
	}
	criu_resp__free_unpacked(r, NULL);
	return rc;
}

static int send_request(struct gw_dump *d, const struct gw_dump_opts *o, struct gw_err *e)
{
	struct ext_ns ns = {.n = 0};
	int rc = ext_ns_fill(&ns, o->container, e);
	if (rc < 0)
		return rc;
	/* CRIU opens both through /proc/OUR-PID/fd: they must live until it has begun. */
	gw_auto(fd) int images = open(o->images_dir, O_DIRECTORY | O_CLOEXEC);
	gw_auto(fd) int work = open(o->work_dir, O_DIRECTORY | O_CLOEXEC);
	if (images < 0 || work < 0)
		return gw_fail(e, GW_SYS, errno, "open %s", images < 0 ? o->images_dir : o->work_dir);
	gw_auto(mem) struct ext *x = calloc(1, sizeof(*x));
	if (!x)
		return gw_fail(e, GW_SYS, ENOMEM, "dump %s", o->container->id);
	ext_fill(x, o->container);
	CriuOpts opts = CRIU_OPTS__INIT;
	fill_opts(&opts, o);
	opts.images_dir_fd = images;
	opts.has_work_dir_fd = true;
	opts.work_dir_fd = work;
	opts.n_ext_mnt = x->n;
	opts.ext_mnt = x->p;
	opts.n_external = ns.n;
	opts.external = ns.list;
	CriuReq req = CRIU_REQ__INIT;
	req.type = CRIU_REQ_TYPE__DUMP;
	req.opts = &opts;
	rc = gw_criu_send(d->criu, &req, e);
	ext_done(x);
	return rc < 0 ? rc : await_begin(d, e);
}

int gw_dump_start(const struct gw_dump_opts *o, struct gw_dump **out, struct gw_err *e)
{
	struct gw_dump *d = calloc(1, sizeof(*d));
	if (!d)
		return gw_fail(e, GW_SYS, ENOMEM, "dump %s", o->container->id);
	d->c = o->container;
	d->breaks = gw_breaks_prepare();
	gw_path(d->log, sizeof(d->log), "%s/dump.log", o->work_dir);
	char preload[PATH_MAX + 16], home[PATH_MAX + 32], dir[PATH_MAX + 32];
	gw_path(preload, sizeof(preload), "LD_PRELOAD=%s", o->preload);
	gw_path(home, sizeof(home), "GODWIT_CRIU_HOME=%s", o->home_path);
	gw_path(dir, sizeof(dir), "GODWIT_CRIU_DIR=%s", o->shim_dir);
	const char *const env[] = {preload,
	                           home,
	                           dir,
	                           "GODWIT_CRIU_MODE=dump",
	                           o->container->netns_path[0] ? "GODWIT_CRIU_EXTERNAL_NET=1" : NULL,
	                           NULL};
	int rc = gw_mkdirs(o->images_dir, e);
	if (rc == 0)
		rc = gw_mkdirs(o->work_dir, e);
	if (rc == 0)
		rc = gw_mkdirs(o->shim_dir, e);
	if (rc == 0)
		rc = write_descriptors(o, e);
	if (rc == 0)
		rc = gw_home_plugin(o->home_path, o->preload, e);
	if (rc == 0)
		rc = gw_home_open(o->home_path, &d->home, e);
	if (rc == 0)
		rc = gw_criu_open(&(struct gw_criu_opts){.program = o->criu, .nice = GW_FREEZE_NICE, .env = env},
		                  &d->criu, e);
	if (rc == 0)
		rc = send_request(d, o, e);
	if (rc == 0)
		rc = gw_home_wait(d->home, "freeze", ARM_TIMEOUT_MS, gw_criu_pid(d->criu), o->cancel_fd, NULL, NULL, e);
	if (rc < 0) {
		d->state = OVER;
		gw_dump_close(d);
		return rc;
	}
	*out = d;
	return 0;
}

int gw_dump_go(struct gw_dump *d, struct gw_err *e)
{
	gw_home_go(d->home);
	for (;;) {
		CriuResp *r;
		int rc = gw_criu_recv(d->criu, DUMP_TIMEOUT_MS, &r, e);
		if (rc < 0)
			return rc;
		bool notify = r->success && r->type == CRIU_REQ_TYPE__NOTIFY && r->notify;
		bool whole = notify && r->notify->script && !strcmp(r->notify->script, "post-dump");
		if (!notify) {
			char why[300];
			gw_criu_log_reason(d->log, r->cr_errmsg ?: "no reason given", why, sizeof(why));
			rc = gw_fail(e, GW_INPUT, EIO, "criu could not dump %s: %s", d->c->id, why);
		}
		criu_resp__free_unpacked(r, NULL);
		if (rc < 0)
			return rc;
		if (whole) {
			d->state = DUMPED;
			return gw_freezer_freeze_soon(d->c->freezer_dir, e);
		}
		rc = gw_criu_answer(d->criu, true, e);
		if (rc < 0)
			return rc;
	}
}

int gw_dump_abandon(struct gw_dump *d, struct gw_err *e)
{
	if (d->state == DUMPED) {
		/* "no" to post-dump: CRIU unlocks the sockets and lets the tasks
		 * go (into the freezer). It ends by itself then. */
		CriuResp *r;
		struct gw_err ignored;
		if (gw_criu_answer(d->criu, false, &ignored) == 0 &&
		    gw_criu_recv(d->criu, DUMP_TIMEOUT_MS, &r, &ignored) == 0)
			criu_resp__free_unpacked(r, NULL);
	}
	d->state = OVER;
	gw_criu_close(gw_take(d->criu));
	return gw_freezer_thaw(d->c->freezer_dir, e);
}

/* SIGKILL is pending for all before CRIU's hold or the freezer lets go. */
static int kill_all(struct gw_dump *d, struct gw_err *e)
{
	d->state = OVER;
	int rc = gw_freezer_each(d->c->freezer_dir, gw_kill_pid, NULL);
	return rc < 0 ? gw_fail(e, GW_SYS, -rc, "list the processes of %s", d->c->id) : 0;
}

int gw_dump_doom(struct gw_dump *d, struct gw_err *e)
{
	int rc = kill_all(d, e);
	if (rc == 0)
		gw_bury(d->c->freezer_dir);
	return rc;
}

int gw_dump_kill(struct gw_dump *d, struct gw_err *e)
{
	int rc = kill_all(d, e);
	if (rc < 0)
		return rc;
	gw_criu_close(gw_take(d->criu));
	return gw_freezer_kill(d->c->freezer_dir, KILL_TIMEOUT_MS, e);
}

void gw_dump_close(struct gw_dump *d)
{
	if (!d)
		return;
	if (d->state != OVER) {
		struct gw_err ignored;
		(void)gw_dump_abandon(d, &ignored);
	}
	gw_criu_close(d->criu);
	gw_home_close(d->home);
	gw_end_fd(&d->breaks);
	free(d);
}
