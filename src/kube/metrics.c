#include "kube/metrics.h"

#include <errno.h>
#include <inttypes.h>
#include <microhttpd.h>
#include <netdb.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/gw_log.h"
#include "base/scope.h"
#include "kube/client.h"

enum { KINDS_MAX = 128, CONNECTIONS_MAX = 16, IDLE_S = 10 };

/* Upper bounds of the histogram, seconds. */
static const double bounds[] = {0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 10};

struct kind {
	char result[16], reason[64];
	uint64_t n;
};

struct gw_metrics {
	struct gw_metrics_opts o;
	struct MHD_Daemon *http;
	pthread_mutex_t lock;         /* of what follows */
	struct kind kinds[KINDS_MAX]; /* the last one: whatever found no place */
	size_t nkinds;
	uint64_t freezes[gw_countof(bounds) + 1], freeze_us, sent_bytes;
};

static struct kind *kind_of(struct gw_metrics *s, const char *result, const char *reason)
{
	for (size_t i = 0; i < s->nkinds; i++)
		if (!strcmp(s->kinds[i].result, result) && !strcmp(s->kinds[i].reason, reason))
			return &s->kinds[i];
	if (s->nkinds == KINDS_MAX)
		return &s->kinds[KINDS_MAX - 1];
	struct kind *k = &s->kinds[s->nkinds++];
	bool last = s->nkinds == KINDS_MAX;
	(void)snprintf(k->result, sizeof(k->result), "%s", last ? "other" : result);
	(void)snprintf(k->reason, sizeof(k->reason), "%s", last ? "" : reason);
	return k;
}

void gw_metrics_ended(struct gw_metrics *s, const char *result, const char *reason, uint64_t freeze_us,
                      uint64_t sent_bytes)
{
	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	kind_of(s, result, reason)->n++;
	if (freeze_us) {
		size_t i = 0;
		while (i < gw_countof(bounds) && (double)freeze_us > bounds[i] * 1e6)
			i++;
		s->freezes[i]++;
		s->freeze_us += freeze_us;
	}
	s->sent_bytes += sent_bytes;
	pthread_mutex_unlock(&s->lock);
}

/* A label's value: what would end it or the line is left out (reasons are words). */
static void put_label(FILE *f, const char *v)
{
	for (; *v; v++)
		if (*v >= ' ' && *v != '"' && *v != '\\')
			(void)fputc(*v, f);
}

static void head(FILE *f, const char *name, const char *type, const char *help)
{
	(void)fprintf(f, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void put_all(struct gw_metrics *s, FILE *f)
{
	uint64_t sum = 0;
	head(f, "godwit_build_info", "gauge", "Always 1.");
	(void)fprintf(f, "godwit_build_info{version=\"%s\"} 1\n", GODWIT_VERSION);
	head(f, "godwit_api_requests_total", "counter",
	     "Requests to the API server, watches and tries again included.");
	(void)fprintf(f, "godwit_api_requests_total %" PRIu64 "\n", gw_kube_requests());
	pthread_mutex_lock(&s->lock);
	head(f, "godwit_migrations_total", "counter", "Migrations that ended, by result and reason.");
	for (size_t i = 0; i < s->nkinds; i++) {
		(void)fputs("godwit_migrations_total{result=\"", f);
		put_label(f, s->kinds[i].result);
		(void)fputs("\",reason=\"", f);
		put_label(f, s->kinds[i].reason);
		(void)fprintf(f, "\"} %" PRIu64 "\n", s->kinds[i].n);
	}
	head(f, "godwit_sent_bytes_total", "counter", "Bytes of memory that migrations sent.");
	(void)fprintf(f, "godwit_sent_bytes_total %" PRIu64 "\n", s->sent_bytes);
	head(f, "godwit_freeze_seconds", "histogram", "How long containers stood still.");
	for (size_t i = 0; i < gw_countof(bounds); i++) {
		sum += s->freezes[i];
		(void)fprintf(f, "godwit_freeze_seconds_bucket{le=\"%g\"} %" PRIu64 "\n", bounds[i], sum);
	}
	sum += s->freezes[gw_countof(bounds)];
	(void)fprintf(f,
	              "godwit_freeze_seconds_bucket{le=\"+Inf\"} %" PRIu64 "\ngodwit_freeze_seconds_sum %.6f\n"
	              "godwit_freeze_seconds_count %" PRIu64 "\n",
	              sum, (double)s->freeze_us / 1e6, sum);
	pthread_mutex_unlock(&s->lock);
	if (s->o.more)
		s->o.more(s->o.ctx, f);
}

static enum MHD_Result answer(struct MHD_Connection *c, unsigned code, const char *type, char *take_text, size_t len)
{
	struct MHD_Response *r = MHD_create_response_from_buffer(len, take_text, MHD_RESPMEM_MUST_FREE);
	if (!r) {
		free(take_text);
		return MHD_NO;
	}
	(void)MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	enum MHD_Result rc = MHD_queue_response(c, code, r);
	MHD_destroy_response(r);
	return rc;
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *c, const char *url, const char *method,
                                  const char *version, const char *upload, size_t *upload_len, void **state)
{
	struct gw_metrics *s = arg;
	static int seen;
	(void)version, (void)upload;
	if (!*state) { /* the headers; what is sent along is read and thrown away */
		*state = &seen;
		return MHD_YES;
	}
	if (*upload_len) {
		*upload_len = 0;
		return MHD_YES;
	}
	char *text = NULL, why[200] = "";
	const char *type = "text/plain; charset=utf-8";
	size_t len = 0;
	unsigned code = MHD_HTTP_OK;
	FILE *f = open_memstream(&text, &len);
	if (!f)
		return MHD_NO;
	if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
		code = MHD_HTTP_METHOD_NOT_ALLOWED;
		(void)fputs("GET only\n", f);
	} else if (!strcmp(url, "/metrics")) {
		type = "text/plain; version=0.0.4; charset=utf-8";
		put_all(s, f);
	} else if (!strcmp(url, "/healthz")) {
		bool well = !s->o.well || s->o.well(s->o.ctx, why, sizeof(why));
		code = well ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
		(void)fprintf(f, "%s\n", well ? "ok" : why);
	} else {
		code = MHD_HTTP_NOT_FOUND;
		(void)fputs("/metrics and /healthz are here\n", f);
	}
	(void)fclose(f);
	return answer(c, code, type, text, len);
}

static int parse_listen(const char *text, struct addrinfo **out, struct gw_err *e)
{
	char host[100];
	const char *colon = strrchr(text, ':');
	const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
	                               .ai_socktype = SOCK_STREAM};
	char *end = NULL;
	unsigned long port = colon ? strtoul(colon + 1, &end, 10) : 0;
	size_t n = colon && end > colon + 1 && !*end && port <= UINT16_MAX ? (size_t)(colon - text) : 0;
	if (n >= 2 && text[0] == '[' && text[n - 1] == ']') {
		text++;
		n -= 2;
	}
	(void)snprintf(host, sizeof(host), "%.*s", (int)n, text);
	int rc = colon && n ? getaddrinfo(host, colon + 1, &hints, out) : EAI_NONAME;
	return rc == 0 ? 0
	               : gw_fail(e, GW_INPUT, EINVAL,
	                         "--metrics is ADDR:PORT with an address in numbers, as 127.0.0.1:9461");
}

int gw_metrics_start(const struct gw_metrics_opts *o, struct gw_metrics **out, struct gw_err *e)
{
	struct addrinfo *at = NULL;
	int rc = parse_listen(o->listen, &at, e);
	if (rc < 0)
		return rc;
	struct gw_metrics *s = calloc(1, sizeof(*s));
	if (s) {
		s->o = *o;
		pthread_mutex_init(&s->lock, NULL);
		unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL;
		if (at->ai_family == AF_INET6)
			flags |= MHD_USE_IPv6;
		errno = 0;
		s->http = MHD_start_daemon(flags, 0, NULL, NULL, on_request, s, MHD_OPTION_SOCK_ADDR, at->ai_addr,
		                           MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX,
		                           MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_S, MHD_OPTION_END);
	}
	freeaddrinfo(at);
	if (!s || !s->http) {
		rc = gw_fail(e, GW_INPUT, errno ? errno : EADDRINUSE, "listen for /metrics on %s", o->listen);
		free(s);
		return rc;
	}
	gw_info("metrics", kv_str("listen", o->listen), kv_u64("port", gw_metrics_port(s)));
	*out = s;
	return 0;
}

void gw_metrics_stop(struct gw_metrics *s)
{
	if (!s)
		return;
	MHD_stop_daemon(s->http);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

uint16_t gw_metrics_port(const struct gw_metrics *s)
{
	const union MHD_DaemonInfo *i = s ? MHD_get_daemon_info(s->http, MHD_DAEMON_INFO_BIND_PORT) : NULL;
	return i ? i->port : 0;
}
