#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/gw_log.h"
#include "base/io.h"
#include "base/proc.h"
#include "base/scope.h"
#include "install/files.h"
#include "install/host.h"
#include "install/install.h"
#include "install/places.h"
#include "install/record.h"
#include "install/settings.h"

enum { SETTINGS_MAX = 4 << 20, OPTIONS_MAX = 65536, IP_MS = 10000 };

/* ---- does anybody need it? ---- */

/* Containers that containerd started with our runtime handler: their shims
 * call it again for exec, kill and delete. */
static size_t count_containers(const char *state)
{
	char dir[PATH_MAX], path[PATH_MAX * 2];
	size_t n = 0;
	gw_path(dir, sizeof(dir), "%.200s/io.containerd.runtime.v2.task/k8s.io", state);
	gw_auto(dir) DIR *d = opendir(dir);
	for (struct dirent *f; d && (f = readdir(d));) {
		gw_auto(mem) char *text = NULL;
		size_t len;
		gw_path(path, sizeof(path), "%s/%s/options.json", dir, f->d_name);
		if (f->d_name[0] != '.' && gw_read_file(path, OPTIONS_MAX, &text, &len, NULL) == 0)
			n += memmem(text, len, "godwit-runtime", 14) != NULL;
	}
	return n;
}

/* Every node reserves every address that lives away from home; its note says whether
 * it is of this node's range (src/node/agent_leases.c). */
static bool of_this_node(const char *dir, const char *address)
{
	char path[200];
	gw_auto(mem) char *note = NULL;
	gw_path(path, sizeof(path), "%s/%.60s", dir, address);
	return gw_read_file(path, OPTIONS_MAX, &note, NULL, NULL) == 0 && !strncmp(note, "home", 4);
}

static int check_away(bool (*away)(void *ctx, const char *address), void *ctx, struct gw_err *e)
{
	static const char *const kinds[] = {"away", "reserved"};
	for (size_t i = 0; i < gw_countof(kinds); i++) {
		char dir[100];
		gw_path(dir, sizeof(dir), STATE_CNI "/cni/%s", kinds[i]);
		gw_auto(dir) DIR *d = opendir(dir);
		for (struct dirent *f; d && (f = readdir(d));)
			if (f->d_name[0] != '.' && away && (i == 0 || of_this_node(dir, f->d_name)) &&
			    away(ctx, f->d_name))
				return gw_fail_code(
				        e, GW_RETRY, "InUse",
				        "a pod that moved from here runs on another node with the address %s of this "
				        "node's range: end it, or move it back and drain this node",
				        f->d_name);
	}
	return 0;
}

static int check_unused(const char *state, struct gw_err *e)
{
	gw_auto(fd) int fd = -1;
	if (gw_unix_connect(STATE_RUN "/godwit.sock", &fd, NULL) == 0)
		return gw_fail_code(e, GW_RETRY, "InUse", "godwitd still runs here");
	size_t containers = count_containers(state), addresses = gw_fs_count(STATE_CNI "/cni/addr");
	if (containers || addresses)
		return gw_fail_code(
		        e, GW_RETRY, "InUse",
		        "%zu containers run under godwit's runtime, %zu addresses are given to pods by its network "
		        "plugin: kubectl drain --ignore-daemonsets this node",
		        containers, addresses);
	return 0;
}

/* ---- undoing ---- */

static int undo_block(struct gw_record *r, const char *kind, const char *path, struct gw_err *e)
{
	gw_auto(mem) char *text = NULL;
	int rc = gw_read_file(path, SETTINGS_MAX, &text, NULL, e);
	if (rc == -ENOENT)
		return 0;
	if (rc < 0)
		return rc;
	gw_auto(mem) char *without = gw_settings_without(text);
	if (!without || !strcmp(text, without))
		return without ? 0 : gw_fail(e, GW_SYS, ENOMEM, "containerd's settings");
	rc = gw_record_note(r, "restart", "needed", e);
	if (rc == 0 && !strcmp(kind, "block-file") && !*without)
		return unlink(path) == 0 ? 0 : gw_fail(e, GW_SYS, errno, "remove %s", path);
	return rc < 0 ? rc : gw_fs_put(path, without, strlen(without), 0644, e);
}

static int undo(struct gw_record *r, const char *kind, const char *path, struct gw_err *e)
{
	static const char *const halves[] = {".godwit-new", ".godwit-try"}; /* of a kill */
	for (size_t i = 0; i < gw_countof(halves); i++) {
		char half[PATH_MAX];
		gw_path(half, sizeof(half), "%s%s", path, halves[i]);
		(void)unlink(half);
	}
	if (!strncmp(kind, "block", 5))
		return undo_block(r, kind, path, e);
	if (!strcmp(kind, "tree"))
		return gw_remove_tree(path, e);
	int rc = !strcmp(kind, "dir") ? rmdir(path) : unlink(path);
	if (rc < 0 && errno != ENOENT && errno != ENOTEMPTY)
		return gw_fail(e, GW_SYS, errno, "remove %s", path);
	return 0;
}

/* Routes of ours carry the protocol number 71 (net/rtnl.h). */
static void drop_routes(void)
{
	static const char *const families[] = {"-4", "-6"};
	for (size_t i = 0; i < gw_countof(families); i++) {
		const char *const argv[] = {"ip", families[i], "route", "flush", "proto", "71", NULL};
		struct gw_err e;
		if (gw_proc_run(&(struct gw_spawn){.argv = argv, .stdio = {-1, -1, -1}}, IP_MS, NULL, &e) < 0)
			gw_warn("routes to other nodes' pods stay", kv_str("reason", e.text));
	}
}

static int undo_all(struct gw_record *r, struct gw_containerd *c, struct gw_err *e)
{
	const char *kind, *path;
	int rc = 0;
	/* What containerd reads goes first, while all it leads to is still there. */
	for (size_t i = gw_record_count(r); rc == 0 && i-- > 0;)
		if (gw_record_at(r, i, &kind, &path) && (!strncmp(kind, "block", 5) || !strcmp(path, CONFLIST)))
			rc = undo(r, kind, path, e);
	if (rc == 0 && !strcmp(gw_record_noted(r, "restart"), "needed")) {
		rc = gw_containerd_restart(c, e);
		if (rc == 0)
			rc = gw_record_note(r, "restart", "", e);
	}
	while (rc == 0 && gw_record_count(r) > 0 && gw_record_at(r, gw_record_count(r) - 1, &kind, &path)) {
		char name[PATH_MAX];
		gw_path(name, sizeof(name), "%s", path);
		rc = undo(r, kind, path, e);
		if (rc == 0)
			rc = gw_record_drop(r, name, e);
	}
	return rc;
}

int gw_uninstall(bool (*away)(void *ctx, const char *address), void *ctx, struct gw_err *e)
{
	struct gw_containerd c;
	struct gw_record r;
	gw_auto(mem) char *dump = NULL;
	gw_auto(fd) int lock = -1;
	char state[200] = "";
	int rc = gw_host_lock(&lock, e);
	if (rc < 0)
		return rc;
	if (!gw_is_installed()) {
		(void)rmdir(GW_HOME);
		return 0;
	}
	rc = gw_containerd_find(&c, e);
	if (rc == 0)
		rc = gw_containerd_dump(&c, c.config, &dump, e);
	if (rc < 0)
		return rc;
	gw_settings_value(dump, "state", state, sizeof(state));
	if (gw_settings_is_default(dump))
		return gw_fail_code(e, GW_RETRY, "DefaultRuntime",
		                    "godwit is containerd's default runtime here: name another one "
		                    "(default_runtime_name), restart containerd, drain this node, and delete the "
		                    "godwit-remove pod on it, which runs under it too");
	rc = check_away(away, ctx, e);
	if (rc == 0)
		rc = check_unused(*state ? state : "/run/containerd", e);
	if (rc == 0)
		rc = gw_record_open(RECORD, &r, e);
	if (rc < 0)
		return rc;
	rc = undo_all(&r, &c, e);
	gw_record_done(&r);
	if (rc < 0)
		return rc;
	drop_routes();
	(void)unlink(RECORD ".godwit-new");
	if (unlink(RECORD) < 0 || rmdir(GW_HOME) < 0)
		return errno == ENOTEMPTY ? 0 : gw_fail(e, GW_SYS, errno, "remove " GW_HOME);
	return 0;
}
