/* ctl: the local socket. One JSON object a line, both ways (docs/ctl.md). */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/gw_log.h"
#include "base/io.h"
#include "base/scope.h"
#include "ckpt/container.h"
#include "move/check.h"
#include "move/claim.h"
#include "move/daemon.h"
#include "move/held.h"

enum { REQUEST_MAX = 65536, PROGRESS_EVERY_MS = 200 };

static int reply(int fd, yyjson_mut_doc *doc)
{
	size_t len;
	gw_auto(mem) char *text = gw_json_text(doc, &len);
	int rc = gw_write_full(fd, text, len);
	return rc < 0 ? rc : gw_write_full(fd, "\n", 1);
}

static void reply_error(int fd, const struct gw_err *e)
{
	gw_auto(jmut) yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *o = yyjson_mut_obj(doc), *x = yyjson_mut_obj(doc);
	yyjson_mut_doc_set_root(doc, o);
	yyjson_mut_obj_add_strcpy(doc, x, "code", e->code);
	yyjson_mut_obj_add_strcpy(doc, x, "class", gw_class_name(e->class));
	yyjson_mut_obj_add_strcpy(doc, x, "text", e->text);
	yyjson_mut_obj_add_val(doc, o, "error", x);
	(void)reply(fd, doc);
}

static void reply_ok(int fd)
{
	(void)gw_write_full(fd, "{\"ok\":true}\n", 12);
}

static int read_options(struct gw_daemon *d, yyjson_val *req, struct gw_move_opts *o, struct gw_err *e)
{
	const char *container, *to;
	gw_move_defaults(o);
	int rc = gw_json_need_str(req, "container", &container, e);
	if (rc == 0)
		rc = gw_json_need_str(req, "to", &to, e);
	if (rc < 0)
		return rc;
	(void)snprintf(o->container, sizeof(o->container), "%s", container);
	(void)snprintf(o->to, sizeof(o->to), "%s", to);
	(void)snprintf(o->runc_root, sizeof(o->runc_root), "%s", gw_json_str(req, "runc_root", d->cfg.runc_root));
	(void)snprintf(o->backend, sizeof(o->backend), "%s", gw_json_str(req, "backend", ""));
	o->want_freeze_us = gw_json_u64(req, "want_freeze_ms", o->want_freeze_us / 1000) * 1000;
	o->max_freeze_us = gw_json_u64(req, "max_freeze_ms", o->max_freeze_us / 1000) * 1000;
	o->bandwidth = gw_json_u64(req, "bandwidth", 0);
	o->rounds_max = (uint32_t)gw_json_u64(req, "rounds_max", o->rounds_max);
	o->timeout_ms = gw_json_u64(req, "timeout_ms", 0);
	o->throttle = gw_json_bool(req, "throttle", false);
	o->zstd = gw_json_bool(req, "zstd", false);
	o->same_name = gw_json_bool(req, "same_name", false);
	(void)snprintf(o->claim, sizeof(o->claim), "%s", gw_json_str(req, "claim", ""));
	(void)snprintf(o->mig, sizeof(o->mig), "%s", gw_json_str(req, "mig", ""));
	return 0;
}

static int send_run(int fd, const struct gw_facts_of_run *r)
{
	gw_auto(jmut) yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *o = yyjson_mut_obj(doc);
	yyjson_mut_doc_set_root(doc, o);
	gw_run_to_json(r, doc, o);
	return reply(fd, doc);
}

/* Until the migration ends, or the client goes (the migration goes on). */
static void follow(int fd, struct gw_progress *p)
{
	uint64_t version = 0;
	struct gw_facts_of_run r;
	do {
		gw_progress_get(p, &version, PROGRESS_EVERY_MS, &r);
		if (send_run(fd, &r) < 0)
			return;
		if (!r.ended_ms)
			gw_sleep_us(20000); /* at most 50 lines a second */
	} while (!r.ended_ms);
}

static int do_migrate(struct gw_daemon *d, int fd, yyjson_val *req, struct gw_err *e)
{
	struct gw_move_opts o;
	struct gw_progress *p;
	int rc = read_options(d, req, &o, e);
	if (rc == 0)
		rc = gw_source_start(d, &o, &p, e);
	if (rc < 0)
		return rc;
	follow(fd, p);
	gw_progress_unref(p);
	return 0;
}

static int do_check(struct gw_daemon *d, int fd, yyjson_val *req, struct gw_err *e)
{
	struct gw_move_opts o;
	gw_auto(jmut) yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *root = yyjson_mut_obj(doc);
	yyjson_mut_doc_set_root(doc, root);
	int rc = read_options(d, req, &o, e);
	if (rc == 0)
		rc = gw_source_check(d, &o, doc, root, e);
	if (rc == 0)
		(void)reply(fd, doc);
	return rc;
}

static int do_status(struct gw_daemon *d, int fd)
{
	gw_auto(jmut) yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *root = yyjson_mut_obj(doc), *list = yyjson_mut_arr(doc);
	yyjson_mut_doc_set_root(doc, root);
	yyjson_mut_obj_add_str(doc, root, "host", d->cfg.name);
	yyjson_mut_obj_add_str(doc, root, "version", GODWIT_VERSION);
	struct gw_progress *all[gw_countof(d->history)];
	size_t n = 0;
	pthread_mutex_lock(&d->lock);
	for (unsigned i = 0; i < gw_countof(d->history); i++) {
		struct gw_progress *p = d->history[(d->nhistory + i) % gw_countof(d->history)];
		if (p)
			all[n++] = gw_progress_ref(p);
	}
	pthread_mutex_unlock(&d->lock);
	for (size_t i = 0; i < n; i++) {
		struct gw_facts_of_run r;
		uint64_t v = 0;
		gw_progress_get(all[i], &v, 0, &r);
		yyjson_mut_val *o = yyjson_mut_obj(doc);
		gw_run_to_json(&r, doc, o);
		yyjson_mut_arr_append(list, o);
		gw_progress_unref(all[i]);
	}
	yyjson_mut_obj_add_val(doc, root, "migrations", list);
	return reply(fd, doc);
}

static int do_claim(struct gw_daemon *d, int fd, yyjson_val *req, struct gw_err *e)
{
	gw_auto(jmut) yyjson_mut_doc *doc = NULL;
	int rc = gw_claim_serve(d, fd, req, &doc, e);
	return rc < 0 ? rc : reply(fd, doc);
}

static int dispatch(struct gw_daemon *d, int fd, yyjson_val *req, struct gw_err *e)
{
	const char *cmd, *mig;
	int rc = gw_json_need_str(req, "cmd", &cmd, e);
	if (rc < 0)
		return rc;
	if (!strcmp(cmd, "migrate"))
		return do_migrate(d, fd, req, e);
	if (!strcmp(cmd, "check"))
		return do_check(d, fd, req, e);
	if (!strcmp(cmd, "status"))
		return do_status(d, fd);
	if (!strcmp(cmd, "claim"))
		return do_claim(d, fd, req, e);
	if (!strcmp(cmd, "cancel") || !strcmp(cmd, "resolve") || !strcmp(cmd, "release")) {
		rc = gw_json_need_str(req, "id", &mig, e);
		if (rc == 0 && !strcmp(cmd, "cancel"))
			rc = gw_source_cancel(d, mig, e);
		else if (rc == 0 && !strcmp(cmd, "release"))
			rc = gw_held_release(d, mig, e);
		else if (rc == 0)
			rc = gw_resolve_by_hand(d, mig, gw_json_bool(req, "commit", false), e);
		if (rc == 0)
			reply_ok(fd);
		return rc;
	}
	return gw_fail(e, GW_INPUT, EINVAL, "unknown command \"%s\"", cmd);
}

/* One line of at most REQUEST_MAX bytes. 0 at the end of the stream. */
static ssize_t read_line(int fd, char *buf)
{
	size_t n = 0;
	while (n < REQUEST_MAX) {
		ssize_t k = read(fd, buf + n, 1);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return k;
		if (buf[n] == '\n')
			return (ssize_t)n;
		n++;
	}
	return -EMSGSIZE;
}

void gw_ctl_client(struct gw_daemon *d, int take_fd)
{
	gw_auto(fd) int fd = take_fd;
	gw_auto(mem) char *line = malloc(REQUEST_MAX);
	for (ssize_t n; line && (n = read_line(fd, line)) > 0;) {
		gw_auto(jdoc) yyjson_doc *doc = NULL;
		struct gw_err e = {.class = GW_OK};
		int rc = gw_json_parse(line, (size_t)n, "request", &doc, &e);
		if (rc == 0)
			rc = dispatch(d, fd, yyjson_doc_get_root(doc), &e);
		if (rc < 0 && e.class != GW_OK)
			reply_error(fd, &e);
	}
}
