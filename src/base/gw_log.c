#include "base/gw_log.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *comp_name = "godwit";
static enum gw_level level_min = GW_INFO;
static enum gw_log_format log_format = GW_LOG_TEXT;

struct line {
	char text[2048];
	size_t len;
};

[[gnu::format(printf, 2, 3)]]
static void put(struct line *l, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	size_t room = sizeof(l->text) - l->len;
	int n = vsnprintf(l->text + l->len, room, fmt, ap);
	va_end(ap);
	if (n > 0)
		l->len += (size_t)n < room ? (size_t)n : room - 1;
}

/* Quoted with JSON's escapes, which logfmt readers take too. */
static void put_quoted(struct line *l, const char *s)
{
	put(l, "\"");
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;
		if (c == '"' || c == '\\')
			put(l, "\\%c", c);
		else if (c < 0x20)
			put(l, "\\u%04x", c);
		else
			put(l, "%c", c);
	}
	put(l, "\"");
}

static void put_value(struct line *l, const struct gw_kv *kv)
{
	switch (kv->type) {
	case KV_STR: {
		const char *s = kv->v.str ? kv->v.str : "";
		if (log_format == GW_LOG_TEXT && *s && !strpbrk(s, " \"=\\\n\t"))
			put(l, "%s", s);
		else
			put_quoted(l, s);
		break;
	}
	case KV_U64: put(l, "%" PRIu64, kv->v.u64); break;
	case KV_I64: put(l, "%" PRId64, kv->v.i64); break;
	case KV_F64: put(l, "%.3f", kv->v.f64); break;
	case KV_END: break;
	}
}

static void put_pair(struct line *l, const struct gw_kv *kv)
{
	if (log_format == GW_LOG_TEXT) {
		put(l, " %s=", kv->key);
	} else {
		put(l, ",");
		put_quoted(l, kv->key);
		put(l, ":");
	}
	put_value(l, kv);
}

void gw_log_init(const char *comp, enum gw_level min, enum gw_log_format format)
{
	comp_name = comp;
	level_min = min;
	log_format = format;
}

void gw_log(enum gw_level lv, const char *event, const struct gw_kv *kv)
{
	static const char *const names[] = {"debug", "info", "warn", "error"};
	if (lv < level_min)
		return;
	struct timespec now;
	struct tm tm;
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	char ts[40];
	size_t n = strftime(ts, sizeof(ts), "%Y-%m-%dT%H:%M:%S", &tm);
	(void)snprintf(ts + n, sizeof(ts) - n, ".%03ldZ", now.tv_nsec / 1000000);
	struct line l = {.len = 0};
	if (log_format == GW_LOG_TEXT)
		put(&l, "ts=%s level=%s comp=%s event=\"%s\"", ts, names[lv], comp_name, event);
	else
		put(&l, "{\"ts\":\"%s\",\"level\":\"%s\",\"comp\":\"%s\",\"event\":\"%s\"", ts, names[lv], comp_name,
		    event);
	for (; kv->type != KV_END; kv++)
		put_pair(&l, kv);
	if (log_format == GW_LOG_JSON)
		put(&l, "}");
	if (l.len > sizeof(l.text) - 2)
		l.len = sizeof(l.text) - 2;
	l.text[l.len++] = '\n';
	(void)!write(STDERR_FILENO, l.text, l.len);
}
