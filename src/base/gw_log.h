#pragma once
#include <stdint.h>

/* gw_log: an event and its facts, one line each, to stderr.
 *
 *   gw_info("round done", kv_str("mig", id), kv_u64("pages", n));
 *   ts=2026-11-25T02:30:11.041Z level=info comp=godwitd event="round done" mig=7f3a pages=18211
 *
 * Event names are constants one can grep; values are never glued into them.
 * Library code logs at debug only; the task that gives up logs once.
 * No secrets, no memory contents. Any thread; a line is one write(2). */
enum gw_level { GW_DEBUG, GW_INFO, GW_WARN, GW_ERROR };
enum gw_log_format { GW_LOG_TEXT, GW_LOG_JSON };

struct gw_kv {
	const char *key;
	enum { KV_END, KV_STR, KV_U64, KV_I64, KV_F64 } type;
	union {
		const char *str;
		uint64_t u64;
		int64_t i64;
		double f64;
	} v;
};

static inline struct gw_kv kv_str(const char *k, const char *s)
{
	return (struct gw_kv){.key = k, .type = KV_STR, .v.str = s};
}
static inline struct gw_kv kv_u64(const char *k, uint64_t n)
{
	return (struct gw_kv){.key = k, .type = KV_U64, .v.u64 = n};
}
static inline struct gw_kv kv_i64(const char *k, int64_t n)
{
	return (struct gw_kv){.key = k, .type = KV_I64, .v.i64 = n};
}
static inline struct gw_kv kv_f64(const char *k, double n)
{
	return (struct gw_kv){.key = k, .type = KV_F64, .v.f64 = n};
}

/* comp must live as long as the process. Call before the first thread. */
void gw_log_init(const char *comp, enum gw_level min, enum gw_log_format format);
void gw_log(enum gw_level lv, const char *event, const struct gw_kv *kv);

#define GW_LOG_AT(lv, event, ...) gw_log(lv, event, (const struct gw_kv[]){__VA_ARGS__ __VA_OPT__(, ){.type = KV_END}})
#define gw_debug(event, ...)      GW_LOG_AT(GW_DEBUG, event, __VA_ARGS__)
#define gw_info(event, ...)       GW_LOG_AT(GW_INFO, event, __VA_ARGS__)
#define gw_warn(event, ...)       GW_LOG_AT(GW_WARN, event, __VA_ARGS__)
#define gw_error(event, ...)      GW_LOG_AT(GW_ERROR, event, __VA_ARGS__)
