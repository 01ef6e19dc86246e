/* check_reasons: the list of reasons: adding, merging, to and from JSON. */
#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "move/check.h"

enum { CASES_PER_CODE = 3, FULL_TEXT_MAX = 1024 };

static const struct gw_reason_row *row_of(const char *code)
{
	for (const struct gw_reason_row *r = gw_reason_table; r->code; r++)
		if (!strcmp(r->code, code))
			return r;
	return NULL;
}

/* Length of the well-formed, printable UTF-8 character at s; 0: none. */
static size_t printable(const unsigned char *s)
{
	if (s[0] < 0x80)
		return s[0] >= 0x20 && s[0] != 0x7f;
	size_t n = s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : s[0] >= 0xe0 ? 3 : s[0] >= 0xc2 ? 2 : 0;
	if (n == 0 || s[0] >= 0xf5)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	/* C1 controls, overlong forms, surrogates, beyond the last plane. */
	bool bad = (s[0] == 0xc2 && s[1] < 0xa0) || (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] >= 0xa0) ||
	           (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] >= 0x90);
	return bad ? 0 : n;
}

static void copy_clean(char *out, size_t size, const char *s)
{
	size_t at = 0;
	for (const unsigned char *p = (const unsigned char *)s; *p;) {
		size_t n = printable(p);
		if (at + (n ?: 1) >= size)
			break;
		if (n)
			memcpy(out + at, p, n);
		else
			out[at] = '?';
		at += n ?: 1;
		p += n ?: 1;
	}
	out[at] = 0;
}

/* A free place, or a warning's: one that blocks must not be lost for a warning. */
static struct gw_reason *slot(struct gw_reasons *rs, bool is_warning)
{
	if (rs->n < GW_REASONS_MAX)
		return &rs->r[rs->n++];
	for (size_t i = 0; !is_warning && i < rs->n; i++)
		if (rs->r[i].is_warning)
			return &rs->r[i];
	return NULL;
}

static void add_text(struct gw_reasons *rs, const struct gw_reason_row *row, const char *full)
{
	char text[sizeof(rs->r[0].text)];
	copy_clean(text, sizeof(text), full);
	struct gw_reason *last = NULL;
	unsigned same = 0;
	for (size_t i = 0; i < rs->n; i++) {
		if (strcmp(rs->r[i].code, row->code) != 0)
			continue;
		if (!strcmp(rs->r[i].text, text))
			return;
		last = &rs->r[i];
		same++;
	}
	if (last && (same >= CASES_PER_CODE || rs->n == GW_REASONS_MAX)) {
		last->more++;
		return;
	}
	last = slot(rs, row->is_warning);
	if (!last)
		return;
	*last = (struct gw_reason){.is_warning = row->is_warning};
	copy_clean(last->code, sizeof(last->code), row->code);
	copy_clean(last->text, sizeof(last->text), text);
	copy_clean(last->way_out, sizeof(last->way_out), row->way_out);
}

void gw_reasons_add(struct gw_reasons *rs, const char *code, const char *fmt, ...)
{
	char full[FULL_TEXT_MAX];
	const struct gw_reason_row *row = row_of(code);
	assert(row);
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(full, sizeof(full), fmt, ap);
	va_end(ap);
	add_text(rs, row, full);
}

bool gw_reasons_add_err(struct gw_reasons *rs, const struct gw_err *e)
{
	const struct gw_reason_row *row = e->code[0] ? row_of(e->code) : NULL;
	if (!row)
		return false;
	add_text(rs, row, e->text);
	return true;
}

void gw_reasons_merge(struct gw_reasons *into, const struct gw_reasons *from)
{
	for (size_t i = 0; i < from->n; i++) {
		const struct gw_reason *r = &from->r[i];
		bool have = false;
		for (size_t k = 0; k < into->n; k++)
			have |= !strcmp(into->r[k].code, r->code) && !strcmp(into->r[k].text, r->text);
		struct gw_reason *to = have ? NULL : slot(into, r->is_warning);
		if (to)
			*to = *r;
	}
}

bool gw_reasons_blocked(const struct gw_reasons *rs)
{
	for (size_t i = 0; i < rs->n; i++)
		if (!rs->r[i].is_warning)
			return true;
	return false;
}

void gw_reasons_to_json(const struct gw_reasons *rs, yyjson_mut_doc *doc, yyjson_mut_val *arr)
{
	for (size_t i = 0; i < rs->n; i++) {
		const struct gw_reason *r = &rs->r[i];
		yyjson_mut_val *o = yyjson_mut_arr_add_obj(doc, arr);
		yyjson_mut_obj_add_strcpy(doc, o, "code", r->code);
		yyjson_mut_obj_add_strcpy(doc, o, "text", r->text);
		yyjson_mut_obj_add_strcpy(doc, o, "way_out", r->way_out);
		yyjson_mut_obj_add_bool(doc, o, "is_warning", r->is_warning);
		yyjson_mut_obj_add_uint(doc, o, "more", r->more);
	}
}

static bool code_is_word(const char *s)
{
	size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789");
	return n > 0 && !s[n];
}

int gw_reasons_from_json(yyjson_val *arr, struct gw_reasons *out, struct gw_err *e)
{
	if (!yyjson_is_arr(arr) || yyjson_arr_size(arr) > GW_REASONS_MAX)
		return gw_fail(e, GW_PEER, EPROTO, "reasons are not a list of at most %d", GW_REASONS_MAX);
	yyjson_arr_iter it = yyjson_arr_iter_with(arr);
	size_t n = 0;
	for (yyjson_val *v; (v = yyjson_arr_iter_next(&it)); n++) {
		const char *code = gw_json_str(v, "code", ""), *text = gw_json_str(v, "text", NULL);
		if (!code_is_word(code) || strlen(code) >= sizeof(out->r[0].code) || !text)
			return gw_fail(e, GW_PEER, EPROTO, "reason %zu has no code or no text", n);
	}
	*out = (struct gw_reasons){.n = n};
	it = yyjson_arr_iter_with(arr);
	for (struct gw_reason *r = out->r; r < out->r + n; r++) {
		yyjson_val *v = yyjson_arr_iter_next(&it);
		copy_clean(r->code, sizeof(r->code), gw_json_str(v, "code", ""));
		copy_clean(r->text, sizeof(r->text), gw_json_str(v, "text", ""));
		copy_clean(r->way_out, sizeof(r->way_out), gw_json_str(v, "way_out", ""));
		/* What a newer peer does not call a warning blocks. */
		r->is_warning = gw_json_bool(v, "is_warning", false);
		uint64_t more = gw_json_u64(v, "more", 0);
		r->more = more > UINT32_MAX ? UINT32_MAX : (uint32_t)more;
	}
	return 0;
}
