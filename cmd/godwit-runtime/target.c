#include "target.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/cgroups.h"
#include "base/clock.h"
#include "base/fate.h"
#include "base/io.h"
#include "base/json.h"
#include "base/scope.h"
#include "hooks.h"
#include "keeper.h"

enum { CONFIG_MAX = 8 << 20, ANSWER_MAX = 16384, FREEZE_NICE = -10, ARGS_MAX = 64, START_WITHIN_MS = 60000 };

const char *state_dir(void)
{
	const char *s = getenv("GODWIT_STATE");
	return s && *s ? s : "/run/godwit";
}

bool state_path(char *out, size_t size, const char *kind, const char *id)
{
	if (!*id || *id == '.' || strchr(id, '/'))
		return false;
	int n = snprintf(out, size, "%s/%s/%s", state_dir(), kind, id);
	return n > 0 && (size_t)n < size;
}

bool marked(const char *kind, const char *id)
{
	char path[PATH_MAX];
	return state_path(path, sizeof(path), kind, id) && access(path, F_OK) == 0;
}

int mark(const char *kind, const char *id, const char *text, struct gw_err *e)
{
	char dir[PATH_MAX], path[PATH_MAX];
	(void)snprintf(dir, sizeof(dir), "%s/%s", state_dir(), kind);
	int rc = gw_mkdirs(dir, e);
	if (rc < 0)
		return rc;
	if (!state_path(path, sizeof(path), kind, id))
		return gw_fail(e, GW_INPUT, EINVAL, "\"%s\" is no container's id", id);
	return gw_write_file(path, text, strlen(text), e);
}

void unmark(const char *kind, const char *id)
{
	char path[PATH_MAX];
	if (state_path(path, sizeof(path), kind, id))
		(void)unlink(path);
}

int write_pid(const char *path, pid_t pid, struct gw_err *e)
{
	char text[32];
	int n = snprintf(text, sizeof(text), "%d", pid);
	return gw_write_file(path, text, (size_t)n, e);
}

static int ask(yyjson_mut_doc *req, yyjson_doc **out, struct gw_err *e)
{
	char path[PATH_MAX], line[ANSWER_MAX];
	gw_auto(fd) int fd = -1;
	gw_path(path, sizeof(path), "%s/godwit.sock", state_dir());
	int rc = gw_unix_connect(path, &fd, e);
	if (rc < 0)
		return gw_wrap(e, "this container is the target of a migration, and godwitd cannot be reached");
	size_t len, n = 0;
	gw_auto(mem) char *text = gw_json_text(req, &len);
	rc = gw_write_full(fd, text, len);
	if (rc == 0)
		rc = gw_write_full(fd, "\n", 1);
	if (rc < 0)
		return gw_fail(e, GW_SYS, -rc, "ask godwitd");
	while (n < sizeof(line)) {
		ssize_t k = read(fd, line + n, 1);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return gw_fail(e, GW_PEER, ECONNRESET, "godwitd ended before it had answered");
		if (line[n] == '\n')
			return gw_json_parse(line, n, "godwitd's answer", out, e);
		n++;
	}
	return gw_fail(e, GW_PEER, EMSGSIZE, "godwitd's answer is too long");
}

static int claim(const struct cmdline *c, yyjson_val *annotations, const char *bundle, bool kept, yyjson_doc **out,
                 struct gw_err *e)
{
	gw_auto(jmut) yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *o = yyjson_mut_obj(doc);
	yyjson_mut_doc_set_root(doc, o);
	yyjson_mut_obj_add_str(doc, o, "cmd", "claim");
	yyjson_mut_obj_add_strcpy(doc, o, "mig", gw_json_str(annotations, "godwit.dev/migration", ""));
	yyjson_mut_obj_add_strcpy(doc, o, "name", gw_json_str(annotations, "io.kubernetes.cri.container-name", c->id));
	yyjson_mut_obj_add_strcpy(doc, o, "sandbox", gw_json_str(annotations, "io.kubernetes.cri.sandbox-id", c->id));
	yyjson_mut_obj_add_str(doc, o, "id", c->id);
	yyjson_mut_obj_add_str(doc, o, "root", c->root);
	yyjson_mut_obj_add_str(doc, o, "bundle", bundle);
	yyjson_mut_obj_add_bool(doc, o, "kept", kept);
	int rc = ask(doc, out, e);
	if (rc < 0)
		return rc;
	yyjson_val *err = yyjson_obj_get(yyjson_doc_get_root(*out), "error");
	if (err)
		return gw_fail_code(e, GW_RETRY, gw_json_str(err, "code", ""), "%s",
		                    gw_json_str(err, "text", "godwitd refuses, without a reason"));
	return 0;
}

/* runc hands CRIU the file that this annotation names. */
static int point_criu(const char *config_path, yyjson_doc *in, const char *criu_conf, struct gw_err *e)
{
	gw_auto(jmut) yyjson_mut_doc *doc = yyjson_doc_mut_copy(in, NULL);
	yyjson_mut_val *a = yyjson_mut_obj_get(yyjson_mut_doc_get_root(doc), "annotations");
	yyjson_mut_obj_remove_key(a, "org.criu.config");
	yyjson_mut_obj_add_str(doc, a, "org.criu.config", criu_conf);
	size_t len;
	gw_auto(mem) char *text = gw_json_text(doc, &len);
	return gw_write_file(config_path, text, len, e);
}

/* runc looks for criu in PATH: the one that came with us before any other. */
static int prefer_our_criu(struct gw_err *e)
{
	char here[PATH_MAX], criu[PATH_MAX + 16];
	ssize_t n = readlink("/proc/self/exe", here, sizeof(here) - 1);
	here[n > 0 ? n : 0] = 0;
	char *slash = strrchr(here, '/');
	if (!slash)
		return 0;
	*slash = 0;
	gw_path(criu, sizeof(criu), "%s/criu", here);
	if (access(criu, X_OK) < 0)
		return 0;
	gw_auto(mem) char *path = NULL;
	const char *old = getenv("PATH");
	if (asprintf(&path, "%s:%s", here, old && *old ? old : "/usr/sbin:/usr/bin:/sbin:/bin") < 0 ||
	    setenv("PATH", path, 1) < 0)
		return gw_fail(e, GW_SYS, ENOMEM, "set PATH");
	return 0;
}

static int set_env(yyjson_val *go, struct gw_err *e)
{
	const struct {
		const char *name, *value;
	} env[] = {{"LD_PRELOAD", gw_json_str(go, "preload", "")},
	           {"GODWIT_CRIU_HOME", gw_json_str(go, "home", "")},
	           {"GODWIT_CRIU_COMMIT", gw_json_str(go, "commit", "")},
	           {"GODWIT_CRIU_MODE", "restore"}};
	for (size_t i = 0; i < gw_countof(env); i++)
		if (!env[i].value[0] || setenv(env[i].name, env[i].value, 1) < 0)
			return gw_fail(e, GW_PEER, EPROTO, "godwitd's answer lacks something for %s", env[i].name);
	return prefer_our_criu(e);
}

/* Global options as they were, then restore's own. */
static int become_restore(const struct cmdline *c, const char *runc, yyjson_val *go, const char *bundle,
                          const char *pid_file, struct gw_err *e)
{
	const char *argv[ARGS_MAX] = {runc};
	int n = 1;
	const char *const own[] = {"restore",
	                           "--detach",
	                           "--lazy-pages",
	                           "--tcp-established",
	                           "--file-locks",
	                           "--manage-cgroups-mode",
	                           "ignore",
	                           "--bundle",
	                           bundle,
	                           "--image-path",
	                           gw_json_str(go, "images", ""),
	                           "--work-path",
	                           gw_json_str(go, "work", ""),
	                           pid_file ? "--pid-file" : c->id,
	                           pid_file,
	                           c->id};
	if (c->at_command + (int)gw_countof(own) >= ARGS_MAX)
		return gw_fail(e, GW_INPUT, E2BIG, "too many global options");
	for (int i = 1; i < c->at_command; i++)
		argv[n++] = c->argv[i];
	for (size_t i = 0; i < gw_countof(own) && (i == 0 || own[i - 1] != c->id); i++)
		argv[n++] = own[i];
	argv[n] = NULL;
	if (chdir(gw_json_str(go, "work", "/")) < 0)
		return gw_fail(e, GW_SYS, errno, "enter %s", gw_json_str(go, "work", ""));
	(void)setpriority(PRIO_PROCESS, 0, FREEZE_NICE);
	(void)execv(runc, (char **)(uintptr_t)argv);
	return gw_fail(e, GW_SYS, errno, "run %s", runc);
}

/* One container that a migration fills. */
struct target {
	const struct cmdline *c;
	const char *runc;
	char bundle[PATH_MAX], config_path[PATH_MAX + 16];
	yyjson_doc *config;
	char pid_file[PATH_MAX * 2]; /* "": none asked for */
};

static yyjson_val *notes_of(const struct target *t)
{
	return yyjson_obj_get(yyjson_doc_get_root(t->config), "annotations");
}

static int restore(const struct target *t, yyjson_val *go, const char *pid_file, struct gw_err *e)
{
	int rc = point_criu(t->config_path, t->config, gw_json_str(go, "criu_conf", ""), e);
	if (rc == 0)
		rc = set_env(go, e);
	if (rc == 0)
		rc = become_restore(t->c, t->runc, go, t->bundle, pid_file, e);
	return rc;
}

static void real_pid_file(const struct target *t, char *out, size_t size)
{
	(void)snprintf(out, size, "%s/godwit.pid", t->bundle);
}

/* What its container runtime has not started yet it may still take back: only from
 * then on can a migration count on it. */
static int wait_started(const struct target *t, struct gw_err *e)
{
	char mark[PATH_MAX];
	if (!state_path(mark, sizeof(mark), "restored", t->c->id))
		return gw_fail(e, GW_INPUT, EINVAL, "\"%s\" is no container's id", t->c->id);
	for (uint64_t end = gw_now_ms() + START_WITHIN_MS; access(mark, F_OK) == 0; gw_sleep_us(2000))
		if (gw_now_ms() > end)
			return gw_fail(e, GW_PEER, ETIMEDOUT, "container %s was created, but not started", t->c->id);
	return 0;
}

/* The keeper's child: claims again, for itself. */
static int body(void *ctx)
{
	const struct target *t = ctx;
	char pid_file[PATH_MAX + 16];
	gw_auto(jdoc) yyjson_doc *answer = NULL;
	struct gw_err e = {.class = GW_OK};
	real_pid_file(t, pid_file, sizeof(pid_file));
	int rc = wait_started(t, &e);
	/* runc wants the container's cgroup empty. */
	gw_cgroups_leave(getppid());
	gw_cgroups_leave(getpid());
	if (rc == 0)
		rc = claim(t->c, notes_of(t), t->bundle, true, &answer, &e);
	if (rc == 0)
		rc = restore(t, yyjson_doc_get_root(answer), pid_file, &e);
	(void)cmdline_complain(t->c, &e);
	return rc;
}

/* To where kubelet looks for what a container says at its end. */
static void say_why(void *ctx)
{
	const struct target *t = ctx;
	gw_auto(mem) char *why = gw_fate_why(state_dir(), t->c->id), *text = NULL;
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(yyjson_doc_get_root(t->config), "mounts"));
	for (yyjson_val *m; (m = yyjson_arr_iter_next(&it));) {
		if (strcmp(gw_json_str(m, "destination", ""), "/dev/termination-log") != 0)
			continue;
		gw_auto(fd) int fd = open(gw_json_str(m, "source", ""), O_WRONLY | O_TRUNC | O_NOFOLLOW | O_CLOEXEC);
		if (fd >= 0 &&
		    asprintf(&text, "godwit: migration %s did not fill this container: %s",
		             gw_json_str(notes_of(t), "godwit.dev/migration", ""), why ?: "it was called off") > 0)
			(void)gw_write_full(fd, text, strlen(text));
		return;
	}
}

/* The cgroup of the pid that it is given is the container's for its runtime from
 * then on: where it asks what the container uses, and hears of its memory's end. */
static void enter_cgroup(const struct target *t)
{
	const char *path = gw_json_str(yyjson_obj_get(yyjson_doc_get_root(t->config), "linux"), "cgroupsPath", "");
	if (path[0] == '/') /* systemd's own words are for runc */
		gw_cgroups_enter(getpid(), path);
}

static int leave_keeper(const struct target *t, struct gw_err *e)
{
	char dir[PATH_MAX], pid_file[PATH_MAX + 16];
	const struct keeper_does does = {.body = body, .failed = say_why, .ctx = (void *)(uintptr_t)t};
	(void)snprintf(dir, sizeof(dir), "%s/kept", state_dir());
	real_pid_file(t, pid_file, sizeof(pid_file));
	int rc = gw_mkdirs(dir, e);
	if (rc == 0)
		rc = hooks_expect(t->c->id, notes_of(t), e);
	if (rc == 0)
		rc = mark("restored", t->c->id, "", e);
	if (rc == 0)
		enter_cgroup(t);
	pid_t keeper = rc < 0 ? rc : keeper_start(&does, t->c->id, pid_file, e);
	if (keeper < 0)
		return keeper;
	rc = t->pid_file[0] ? write_pid(t->pid_file, keeper, e) : 0;
	if (rc == 0)
		_exit(0);
	return rc;
}

/* false: an ordinary container. */
static bool is_target(const struct cmdline *c, const char *runc, struct target *t)
{
	gw_auto(mem) char *text = NULL;
	size_t len;
	struct gw_err ignored;
	*t = (struct target){.c = c, .runc = runc};
	if (!realpath(c->bundle, t->bundle))
		return false; /* runc says it better */
	gw_path(t->config_path, sizeof(t->config_path), "%s/config.json", t->bundle);
	if (gw_read_file(t->config_path, CONFIG_MAX, &text, &len, &ignored) < 0 ||
	    !strstr(text, "\"godwit.dev/migration\"") ||
	    gw_json_parse(text, len, t->config_path, &t->config, &ignored) < 0)
		return false;
	return gw_json_str(notes_of(t), "godwit.dev/migration", "")[0] &&
	       strcmp(gw_json_str(notes_of(t), "io.kubernetes.cri.container-type", ""), "sandbox") != 0;
}

static void gw_end_target(struct target *t)
{
	yyjson_doc_free(t->config);
}

int target_create(const struct cmdline *c, const char *runc, struct gw_err *e)
{
	char here[PATH_MAX];
	gw_auto(target) struct target t = {0};
	gw_auto(jdoc) yyjson_doc *answer = NULL;
	if (!is_target(c, runc, &t))
		return 0;
	if (c->pid_file && c->pid_file[0] != '/' && getcwd(here, sizeof(here)))
		gw_path(t.pid_file, sizeof(t.pid_file), "%s/%s", here, c->pid_file);
	else if (c->pid_file)
		gw_path(t.pid_file, sizeof(t.pid_file), "%s", c->pid_file);
	int rc = claim(c, notes_of(&t), t.bundle, false, &answer, e);
	if (rc < 0)
		return rc;
	const char *what = gw_json_str(yyjson_doc_get_root(answer), "go", "");
	if (!strcmp(what, "create"))
		return 0;
	return leave_keeper(&t, e);
}
