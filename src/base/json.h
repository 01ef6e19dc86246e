#pragma once
#include <stdint.h>
#include <yyjson.h>

#include "base/gw_err.h"
#include "base/scope.h"

/* json: checked reading and easy building on yyjson.
 *
 * Readers never return NULL strings: a missing key or a wrong type gives the
 * fallback. `need` variants fail with words instead. A returned string lives
 * as long as its document. One thread per document. */
static inline void gw_end_jdoc(yyjson_doc **d)
{
	yyjson_doc_free(*d);
}
static inline void gw_end_jmut(yyjson_mut_doc **d)
{
	yyjson_mut_doc_free(*d);
}

/* Parse text of len bytes; `what` names it in the error. Caller frees. */
int gw_json_parse(const char *text, size_t len, const char *what, yyjson_doc **out, struct gw_err *e);
/* A file of at most max_bytes. Caller frees. */
int gw_json_file(const char *path, size_t max_bytes, yyjson_doc **out, struct gw_err *e);

const char *gw_json_str(yyjson_val *obj, const char *key, const char *fallback);
uint64_t gw_json_u64(yyjson_val *obj, const char *key, uint64_t fallback);
int64_t gw_json_i64(yyjson_val *obj, const char *key, int64_t fallback);
double gw_json_f64(yyjson_val *obj, const char *key, double fallback);
bool gw_json_bool(yyjson_val *obj, const char *key, bool fallback);
int gw_json_need_str(yyjson_val *obj, const char *key, const char **out, struct gw_err *e);

/* Serialise; the caller frees. Asserts memory. *out_len may be NULL. */
char *gw_json_text(yyjson_mut_doc *doc, size_t *out_len);
char *gw_json_text_pretty(yyjson_mut_doc *doc);
