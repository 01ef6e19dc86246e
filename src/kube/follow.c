#include "kube/follow.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/gw_log.h"
#include "base/scope.h"

enum {
	PAGE = 500,
	WATCH_S = 240,
	IDLE_S = 300,
	LINE_MAX_BYTES = 16 << 20,
	PAUSE_FIRST_MS = 100,
	PAUSE_MAX_MS = 10000,
	VERSION_MAX = 64
};

struct follower {
	struct gw_kube *k;
	const struct gw_follow *f;
	char version[VERSION_MAX]; /* "": list first */
	char *line;
	size_t len, cap;
	bool heard; /* the watch told something: the server is well */
};

static void keep_version(struct follower *w, yyjson_val *object)
{
	const char *v = gw_json_str(yyjson_obj_get(object, "metadata"), "resourceVersion", "");
	if (*v)
		(void)snprintf(w->version, sizeof(w->version), "%s", v);
}

static int list_page(struct follower *w, char *token, size_t size, struct gw_err *e)
{
	char path[4096];
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	(void)snprintf(path, sizeof(path), "%s?limit=%d%s%s%s%s", w->f->path, w->f->tail ? 1 : PAGE,
	               w->f->selector ? "&" : "", w->f->selector ?: "", *token ? "&continue=" : "", token);
	int rc = gw_kube_get(w->k, path, &doc, e);
	if (rc < 0)
		return rc;
	yyjson_val *o = yyjson_doc_get_root(doc), *meta = yyjson_obj_get(o, "metadata");
	yyjson_arr_iter it = yyjson_arr_iter_with(w->f->tail ? NULL : yyjson_obj_get(o, "items"));
	for (yyjson_val *v; (v = yyjson_arr_iter_next(&it));)
		w->f->fn(w->f->ctx, GW_FOLLOW_ADDED, v);
	(void)snprintf(token, size, "%s", w->f->tail ? "" : gw_json_str(meta, "continue", ""));
	if (!*token)
		keep_version(w, o);
	return 0;
}

static int list_all(struct follower *w, struct gw_err *e)
{
	char token[2048] = "";
	w->f->fn(w->f->ctx, GW_FOLLOW_LISTING, NULL);
	do {
		int rc = list_page(w, token, sizeof(token), e);
		if (rc < 0)
			return rc;
	} while (*token);
	w->f->fn(w->f->ctx, GW_FOLLOW_SYNCED, NULL);
	return 0;
}

static bool wait_or_stop(const struct gw_follow *f, uint64_t ms)
{
	struct pollfd p = {.fd = f->stop_fd, .events = POLLIN};
	return poll(&p, 1, (int)ms) > 0;
}

static int on_event(struct follower *w, struct gw_err *e)
{
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	int rc = gw_json_parse(w->line, w->len, "an event of a watch", &doc, e);
	if (rc < 0)
		return rc;
	yyjson_val *o = yyjson_doc_get_root(doc), *object = yyjson_obj_get(o, "object");
	const char *type = gw_json_str(o, "type", "");
	if (!strcmp(type, "ERROR"))
		return gw_kube_fail(e, 0, object, w->f->path);
	w->heard = true;
	keep_version(w, object);
	if (!strcmp(type, "ADDED"))
		w->f->fn(w->f->ctx, GW_FOLLOW_ADDED, object);
	else if (!strcmp(type, "MODIFIED"))
		w->f->fn(w->f->ctx, GW_FOLLOW_MODIFIED, object);
	else if (!strcmp(type, "DELETED"))
		w->f->fn(w->f->ctx, GW_FOLLOW_DELETED, object);
	/* BOOKMARK: its version is all it says */
	return wait_or_stop(w->f, 0) ? gw_fail_code(e, GW_RETRY, "Cancelled", "cancelled") : 0;
}

static int on_piece(void *ctx, const char *data, size_t len, struct gw_err *e)
{
	struct follower *w = ctx;
	while (len) {
		const char *end = memchr(data, '\n', len);
		size_t n = end ? (size_t)(end - data) : len;
		if (w->len + n + 1 > w->cap) {
			size_t cap = (w->len + n + 1) * 2;
			char *more = cap <= LINE_MAX_BYTES ? realloc(w->line, cap) : NULL;
			if (!more)
				return gw_fail(e, GW_PEER, EMSGSIZE, "an event of a watch is too large");
			w->line = more;
			w->cap = cap;
		}
		memcpy(w->line + w->len, data, n);
		w->len += n;
		if (!end)
			return 0;
		int rc = w->len ? on_event(w, e) : 0;
		w->len = 0;
		if (rc < 0)
			return rc;
		data += n + 1;
		len -= n + 1;
	}
	return 0;
}

static int watch(struct follower *w, struct gw_err *e)
{
	char path[4096];
	w->len = 0;
	(void)snprintf(path, sizeof(path),
	               "%s?watch=1&allowWatchBookmarks=true&timeoutSeconds=%d&resourceVersion=%s%s%s", w->f->path,
	               WATCH_S, w->version, w->f->selector ? "&" : "", w->f->selector ?: "");
	return gw_kube_stream(w->k, path, IDLE_S, w->f->stop_fd, on_piece, w, e);
}

void gw_kube_follow(struct gw_kube *k, const struct gw_follow *f)
{
	struct follower w = {.k = k, .f = f};
	uint64_t pause = PAUSE_FIRST_MS;
	while (!wait_or_stop(f, 0)) {
		struct gw_err e = {.class = GW_OK};
		w.heard = false;
		int rc = w.version[0] ? watch(&w, &e) : list_all(&w, &e);
		if (rc == 0 || w.heard)
			pause = PAUSE_FIRST_MS;
		if (rc == 0)
			continue;
		if (wait_or_stop(f, 0))
			break;
		/* Whatever it is, beginning anew helps; a connection that broke need not. */
		if (rc != -EHOSTUNREACH)
			w.version[0] = 0;
		if (f->failed && f->failed(f->ctx, &e))
			break;
		if (rc != -EKEYEXPIRED)
			gw_warn("watch interrupted", kv_str("path", f->path), kv_str("reason", e.text));
		uint64_t jitter = gw_now_ns() % (pause / 2 + 1);
		if (wait_or_stop(f, pause / 2 + jitter))
			break;
		pause = pause * 2 < PAUSE_MAX_MS ? pause * 2 : PAUSE_MAX_MS;
	}
	free(w.line);
}
