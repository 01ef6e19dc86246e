#include "kube/client.h"

#include <curl/curl.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/scope.h"

enum {
	ANSWER_MAX = 64 << 20,
	TOKEN_MAX = 65536,
	CONNECT_TIMEOUT_MS = 5000,
	CALL_TIMEOUT_MS = 30000,
	TRY_FOR_MS = 15000,
	PAUSE_FIRST_MS = 50,
	PAUSE_MAX_MS = 2000
};

struct gw_kube {
	struct gw_kube_config c;
	CURL *curl;
	char error[CURL_ERROR_SIZE];
	const char *who; /* of the account */
	uint64_t spent;
	uint64_t try_for_ms;
	void (*hear)(void *ctx, yyjson_val *object); /* NULL: nobody does */
	void *hear_ctx;
};

static atomic_uint_fast64_t requests;

uint64_t gw_kube_requests(void)
{
	return atomic_load(&requests);
}

void gw_kube_account(struct gw_kube *k, const char *who, uint64_t spent)
{
	k->who = who;
	k->spent = spent;
}

void gw_kube_patience(struct gw_kube *k, bool patient)
{
	k->try_for_ms = patient ? TRY_FOR_MS : 0;
}

void gw_kube_hear(struct gw_kube *k, void (*fn)(void *ctx, yyjson_val *object), void *ctx)
{
	k->hear = fn;
	k->hear_ctx = ctx;
}

uint64_t gw_kube_version(yyjson_val *object)
{
	const char *text = gw_json_str(yyjson_obj_get(object, "metadata"), "resourceVersion", "");
	return strtoull(text, NULL, 10);
}

uint64_t gw_kube_spent(const struct gw_kube *k, const char **who)
{
	if (who)
		*who = k->who;
	return k->spent;
}

static void init_curl(void)
{
	(void)curl_global_init(CURL_GLOBAL_DEFAULT);
}

static char *copy(const char *s)
{
	return s ? strdup(s) : NULL;
}

int gw_kube_open(const struct gw_kube_config *c, struct gw_kube **out, struct gw_err *e)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	(void)pthread_once(&once, init_curl);
	struct gw_kube *k = calloc(1, sizeof(*k));
	if (k) {
		k->c = *c;
		k->try_for_ms = TRY_FOR_MS;
		k->c.ca = copy(c->ca);
		k->c.cert = copy(c->cert);
		k->c.key = copy(c->key);
		k->c.token = copy(c->token);
		k->curl = curl_easy_init();
	}
	if (!k || !k->curl) {
		gw_kube_close(k);
		return gw_fail(e, GW_SYS, ENOMEM, "talk to %s", c->server);
	}
	*out = k;
	return 0;
}

void gw_kube_close(struct gw_kube *k)
{
	if (!k)
		return;
	curl_easy_cleanup(k->curl);
	gw_kube_config_done(&k->c);
	free(k);
}

const char *gw_kube_namespace(const struct gw_kube *k)
{
	return k->c.namespace;
}

/* ---- errors ---- */

static const struct {
	long http;
	const char *reason; /* of the Status; "": any */
	const char *code;
	enum gw_class class;
	int err;
} kinds[] = {
        {404, "", "NotFound", GW_INPUT, ENOENT},       {409, "AlreadyExists", "AlreadyExists", GW_INPUT, EEXIST},
        {409, "", "Conflict", GW_RETRY, ESTALE},       {401, "", "Unauthorized", GW_INPUT, EACCES},
        {403, "", "Forbidden", GW_INPUT, EACCES},      {400, "", "Invalid", GW_INPUT, EINVAL},
        {422, "", "Invalid", GW_INPUT, EINVAL},        {410, "", "Gone", GW_RETRY, EKEYEXPIRED},
        {429, "", "TooManyRequests", GW_RETRY, EBUSY},
};

int gw_kube_fail(struct gw_err *e, long http, yyjson_val *status, const char *what)
{
	const char *reason = gw_json_str(status, "reason", ""), *message = gw_json_str(status, "message", "");
	if (http == 0)
		http = (long)gw_json_i64(status, "code", 500);
	char bare[40];
	(void)snprintf(bare, sizeof(bare), "HTTP %ld", http);
	for (size_t i = 0; i < gw_countof(kinds); i++) {
		if (kinds[i].http != http || (*kinds[i].reason && strcmp(kinds[i].reason, reason) != 0))
			continue;
		(void)gw_fail_code(e, kinds[i].class, kinds[i].code, "%s: %s", what, *message ? message : bare);
		if (e)
			e->err = kinds[i].err;
		return -kinds[i].err;
	}
	(void)gw_fail_code(e, GW_RETRY, "ApiError", "%s: %s", what, *message ? message : bare);
	if (e)
		e->err = EIO;
	return -EIO;
}

/* ---- one request ---- */

struct sink {
	char *text;
	size_t len, cap;
	bool too_big;
	gw_kube_piece *fn; /* instead of text, for a good answer */
	void *ctx;
	struct gw_err *e;
	int rc;
	CURL *curl;
	int stop_fd;
};

static size_t take(char *data, size_t one, size_t n, void *arg)
{
	struct sink *s = arg;
	size_t len = one * n;
	long http = 0;
	(void)curl_easy_getinfo(s->curl, CURLINFO_RESPONSE_CODE, &http);
	if (s->fn && http == 200) {
		s->rc = s->fn(s->ctx, data, len, s->e);
		return s->rc < 0 ? 0 : len;
	}
	if (s->len + len >= s->cap) {
		size_t cap = (s->len + len + 1) * 2;
		char *more = cap <= ANSWER_MAX ? realloc(s->text, cap) : NULL;
		if (!more) {
			s->too_big = true;
			return 0;
		}
		s->text = more;
		s->cap = cap;
	}
	memcpy(s->text + s->len, data, len);
	s->len += len;
	s->text[s->len] = 0;
	return len;
}

static int look_stop(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	const struct sink *s = arg;
	struct pollfd p = {.fd = s->stop_fd, .events = POLLIN};
	(void)a, (void)b, (void)c, (void)d;
	return poll(&p, 1, 0) > 0;
}

static void blob(CURL *c, CURLoption option, char *pem)
{
	struct curl_blob b = {.data = pem, .len = pem ? strlen(pem) : 0, .flags = CURL_BLOB_NOCOPY};
	if (pem)
		(void)curl_easy_setopt(c, option, &b);
}

static struct curl_slist *headers(struct gw_kube *k, const char *content_type)
{
	char line[TOKEN_MAX + 64];
	struct curl_slist *h = curl_slist_append(NULL, "Accept: application/json");
	gw_auto(mem) char *fresh = NULL;
	const char *token = k->c.token;
	if (k->c.token_path[0] && gw_read_file(k->c.token_path, TOKEN_MAX, &fresh, NULL, NULL) == 0)
		token = fresh;
	if (token) {
		(void)snprintf(line, sizeof(line), "Authorization: Bearer %.*s", (int)strcspn(token, "\r\n "), token);
		h = curl_slist_append(h, line);
	}
	if (content_type) {
		(void)snprintf(line, sizeof(line), "Content-Type: %s", content_type);
		h = curl_slist_append(h, line);
	}
	return curl_slist_append(h, "Expect:");
}

struct call {
	const char *method, *path, *content_type, *body;
	int timeout_ms; /* of the whole; 0: none, but idle_s */
	int idle_s;
};

static CURLcode perform(struct gw_kube *k, const struct call *r, struct sink *s, long *http)
{
	CURL *c = k->curl;
	char url[2048];
	(void)snprintf(url, sizeof(url), "%s%s", k->c.server, r->path);
	curl_easy_reset(c); /* the connection stays */
	struct curl_slist *h = headers(k, r->content_type);
	s->curl = c;
	k->error[0] = 0;
	(void)curl_easy_setopt(c, CURLOPT_URL, url);
	(void)curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "https");
	(void)curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	(void)curl_easy_setopt(c, CURLOPT_ERRORBUFFER, k->error);
	(void)curl_easy_setopt(c, CURLOPT_USERAGENT, "godwit/" GODWIT_VERSION);
	(void)curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	(void)curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_TIMEOUT_MS);
	(void)curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, (long)r->timeout_ms);
	(void)curl_easy_setopt(c, CURLOPT_BUFFERSIZE, 16384L);
	(void)curl_easy_setopt(c, CURLOPT_TCP_KEEPALIVE, 1L);
	if (r->idle_s) {
		(void)curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
		(void)curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)r->idle_s);
	}
	blob(c, CURLOPT_CAINFO_BLOB, k->c.ca);
	blob(c, CURLOPT_SSLCERT_BLOB, k->c.cert);
	blob(c, CURLOPT_SSLKEY_BLOB, k->c.key);
	(void)curl_easy_setopt(c, CURLOPT_SSLCERTTYPE, "PEM");
	(void)curl_easy_setopt(c, CURLOPT_SSLKEYTYPE, "PEM");
	(void)curl_easy_setopt(c, CURLOPT_HTTPHEADER, h);
	(void)curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, r->method);
	if (r->body)
		(void)curl_easy_setopt(c, CURLOPT_POSTFIELDS, r->body);
	(void)curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, take);
	(void)curl_easy_setopt(c, CURLOPT_WRITEDATA, s);
	if (s->stop_fd >= 0) {
		(void)curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
		(void)curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, look_stop);
		(void)curl_easy_setopt(c, CURLOPT_XFERINFODATA, s);
	}
	(void)atomic_fetch_add(&requests, 1);
	k->spent++;
	CURLcode rc = curl_easy_perform(c);
	(void)curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, http);
	curl_slist_free_all(h);
	return rc;
}

static int not_reached(struct gw_kube *k, CURLcode rc, struct gw_err *e)
{
	(void)gw_fail_code(e, GW_RETRY, "Unreachable", "the API server %s cannot be reached: %s", k->c.server,
	                   k->error[0] ? k->error : curl_easy_strerror(rc));
	if (e)
		e->err = EHOSTUNREACH;
	return -EHOSTUNREACH;
}

static int judge(struct gw_kube *k, const struct call *r, CURLcode rc, long http, struct sink *s, yyjson_doc **out,
                 struct gw_err *e)
{
	char what[300];
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	if (s->too_big)
		return gw_fail(e, GW_PEER, EMSGSIZE, "the answer to %s %s is larger than %d MiB", r->method, r->path,
		               ANSWER_MAX >> 20);
	if (rc != CURLE_OK)
		return not_reached(k, rc, e);
	(void)snprintf(what, sizeof(what), "%s %.200s", r->method, r->path);
	int bad = s->text ? gw_json_parse(s->text, s->len, what, &doc, http < 300 ? e : NULL) : -ENODATA;
	if (http < 200 || http >= 300)
		return gw_kube_fail(e, http, doc ? yyjson_doc_get_root(doc) : NULL, what);
	if (bad < 0)
		return s->text ? bad : gw_fail(e, GW_PEER, ENODATA, "%s: an empty answer", what);
	if (k->hear && doc)
		k->hear(k->hear_ctx, yyjson_doc_get_root(doc));
	if (out)
		*out = gw_take(doc);
	return 0;
}

static int request(struct gw_kube *k, const struct call *r, yyjson_doc **out, struct gw_err *e)
{
	uint64_t end = gw_now_ms() + k->try_for_ms, pause = PAUSE_FIRST_MS;
	for (;;) {
		struct sink s = {.stop_fd = -1};
		struct gw_err mine = {.class = GW_OK};
		long http = 0;
		CURLcode rc = perform(k, r, &s, &http);
		int res = judge(k, r, rc, http, &s, out, &mine);
		free(s.text);
		bool again = res == -EHOSTUNREACH || res == -EBUSY || (res == -EIO && http >= 500);
		if (res == 0 || !again || gw_now_ms() + pause > end) {
			if (res < 0 && e)
				*e = mine;
			return res;
		}
		curl_off_t after = 0;
		(void)curl_easy_getinfo(k->curl, CURLINFO_RETRY_AFTER, &after);
		gw_sleep_us((after > 0 && after < 10 ? (uint64_t)after * 1000 : pause) * 1000);
		pause = pause * 2 < PAUSE_MAX_MS ? pause * 2 : PAUSE_MAX_MS;
	}
}

int gw_kube_get(struct gw_kube *k, const char *path, yyjson_doc **out, struct gw_err *e)
{
	return request(k, &(struct call){.method = "GET", .path = path, .timeout_ms = CALL_TIMEOUT_MS}, out, e);
}

static int with_body(struct gw_kube *k, const char *method, const char *path, const char *type, yyjson_mut_doc *body,
                     yyjson_doc **out, struct gw_err *e)
{
	gw_auto(mem) char *text = gw_json_text(body, NULL);
	return request(k,
	               &(struct call){.method = method,
	                              .path = path,
	                              .content_type = type,
	                              .body = text,
	                              .timeout_ms = CALL_TIMEOUT_MS},
	               out, e);
}

int gw_kube_create(struct gw_kube *k, const char *path, yyjson_mut_doc *body, yyjson_doc **out, struct gw_err *e)
{
	return with_body(k, "POST", path, "application/json", body, out, e);
}

int gw_kube_patch(struct gw_kube *k, const char *path, enum gw_kube_patch kind, yyjson_mut_doc *body, yyjson_doc **out,
                  struct gw_err *e)
{
	static const char *const types[] = {[GW_PATCH_MERGE] = "application/merge-patch+json",
	                                    [GW_PATCH_JSON] = "application/json-patch+json",
	                                    [GW_PATCH_STRATEGIC] = "application/strategic-merge-patch+json"};
	return with_body(k, "PATCH", path, types[kind], body, out, e);
}

int gw_kube_delete(struct gw_kube *k, const char *path, const char *uid, int grace_s, struct gw_err *e)
{
	gw_auto(jmut) yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *o = yyjson_mut_obj(doc);
	yyjson_mut_doc_set_root(doc, o);
	yyjson_mut_obj_add_str(doc, o, "apiVersion", "v1");
	yyjson_mut_obj_add_str(doc, o, "kind", "DeleteOptions");
	yyjson_mut_obj_add_str(doc, o, "propagationPolicy", "Background");
	if (grace_s >= 0)
		yyjson_mut_obj_add_int(doc, o, "gracePeriodSeconds", grace_s);
	if (uid) {
		yyjson_mut_val *p = yyjson_mut_obj(doc);
		yyjson_mut_obj_add_str(doc, p, "uid", uid);
		yyjson_mut_obj_add_val(doc, o, "preconditions", p);
	}
	return with_body(k, "DELETE", path, "application/json", doc, NULL, e);
}

int gw_kube_stream(struct gw_kube *k, const char *path, int idle_s, int stop_fd, gw_kube_piece *fn, void *ctx,
                   struct gw_err *e)
{
	struct sink s = {.fn = fn, .ctx = ctx, .e = e, .stop_fd = stop_fd};
	const struct call r = {.method = "GET", .path = path, .idle_s = idle_s};
	long http = 0;
	CURLcode rc = perform(k, &r, &s, &http);
	gw_auto(mem) char *text = s.text;
	if (s.rc < 0)
		return s.rc;
	if (rc == CURLE_ABORTED_BY_CALLBACK)
		return gw_fail_code(e, GW_RETRY, "Cancelled", "cancelled");
	if (rc == CURLE_OK && http == 200)
		return 0;
	return judge(k, &r, rc, http, &s, NULL, e);
}
