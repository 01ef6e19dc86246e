#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/scope.h"
#include "verbs.h"

const char *client_socket = "/run/godwit/godwit.sock";

static const struct {
	const char *code, *way_out;
} ways_out[] = {
        {"NoSuchContainer", "list them with: runc list"},
        {"NoSuchHost", "name a host of the hosts file"},
        {"NotRunning", "start it first: only a running container has memory to move"},
        {"HostNetwork", "give the container a network namespace of its own"},
        {"NotConverging", "try --throttle, a longer --max-freeze, or a quieter moment"},
        {"AlreadyMoving", "watch it with: godwit status --watch"},
        {"Timeout", "give it more time with --timeout"},
        {"TooLate", "move it back with another migrate"},
        {"VersionMismatch", "install the same version on both hosts"},
};

static const char *way_out(const char *code)
{
	for (size_t i = 0; i < gw_countof(ways_out); i++)
		if (!strcmp(ways_out[i].code, code))
			return ways_out[i].way_out;
	return "";
}

int print_error(yyjson_val *error, enum output out)
{
	const char *code = gw_json_str(error, "code", ""), *text = gw_json_str(error, "text", "no reason given");
	if (out == OUT_TEXT) {
		(void)fprintf(stderr, "godwit: %s%s%s%s\n", text, *code ? " (" : "", code, *code ? ")" : "");
		if (*way_out(code))
			(void)fprintf(stderr, "  way out: %s\n", way_out(code));
		return GODWIT_FAILED;
	}
	gw_auto(jmut) yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *o = yyjson_mut_obj(doc), *x = yyjson_mut_obj(doc);
	yyjson_mut_doc_set_root(doc, o);
	yyjson_mut_obj_add_str(doc, x, "code", code);
	yyjson_mut_obj_add_str(doc, x, "text", text);
	yyjson_mut_obj_add_str(doc, x, "way_out", way_out(code));
	yyjson_mut_obj_add_val(doc, o, "error", x);
	gw_auto(mem) char *s = gw_json_text(doc, NULL);
	(void)puts(s);
	return GODWIT_FAILED;
}

static int no_daemon(const struct gw_err *e, enum output out)
{
	gw_auto(jmut) yyjson_mut_doc *m = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *o = yyjson_mut_obj(m);
	yyjson_mut_doc_set_root(m, o);
	char text[600];
	(void)snprintf(text, sizeof(text), "no godwitd answers at %s: %s", client_socket, e->text);
	yyjson_mut_obj_add_str(m, o, "code", "NoDaemon");
	yyjson_mut_obj_add_str(m, o, "text", text);
	gw_auto(jdoc) yyjson_doc *d = yyjson_mut_doc_imut_copy(m, NULL);
	(void)print_error(yyjson_doc_get_root(d), out);
	return GODWIT_NO_DAEMON;
}

int client_ask(struct client *c, yyjson_mut_doc *doc, enum output out)
{
	struct gw_err e = {.class = GW_OK};
	*c = (struct client){.fd = -1};
	size_t len;
	gw_auto(mem) char *text = gw_json_text(doc, &len);
	yyjson_mut_doc_free(doc);
	if (gw_unix_connect(client_socket, &c->fd, &e) < 0)
		return no_daemon(&e, out);
	if (gw_write_full(c->fd, text, len) < 0 || gw_write_full(c->fd, "\n", 1) < 0) {
		(void)gw_fail(&e, GW_SYS, EPIPE, "send the request");
		return no_daemon(&e, out);
	}
	return 0;
}

yyjson_doc *client_next(struct client *c)
{
	for (;;) {
		char *nl = c->len ? memchr(c->buf, '\n', c->len) : NULL;
		if (nl) {
			size_t n = (size_t)(nl - c->buf);
			yyjson_doc *d = yyjson_read(c->buf, n, 0);
			memmove(c->buf, nl + 1, c->len - n - 1);
			c->len -= n + 1;
			return d;
		}
		if (c->len + 4096 > c->cap) {
			char *more = realloc(c->buf, c->cap += 65536);
			if (!more)
				return NULL;
			c->buf = more;
		}
		ssize_t k = read(c->fd, c->buf + c->len, c->cap - c->len);
		if (k < 0 && errno == EINTR)
			return NULL; /* Ctrl-C: the verb decides */
		if (k <= 0)
			return NULL;
		c->len += (size_t)k;
	}
}

void client_close(struct client *c)
{
	if (c->fd >= 0)
		(void)close(c->fd);
	free(c->buf);
	c->fd = -1;
	c->buf = NULL;
}

bool parse_output(const char *s, enum output *out)
{
	if (!strcmp(s, "text"))
		*out = OUT_TEXT;
	else if (!strcmp(s, "json"))
		*out = OUT_JSON;
	else if (!strcmp(s, "jsonl"))
		*out = OUT_JSONL;
	else
		return fprintf(stderr, "godwit: -o is text, json or jsonl\n"), false;
	return true;
}
