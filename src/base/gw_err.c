#include "base/gw_err.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void fill(struct gw_err *e, enum gw_class c, int err, const char *fmt, va_list ap)
{
	int n = vsnprintf(e->text, sizeof(e->text), fmt, ap);
	if (c == GW_SYS && n >= 0 && (size_t)n < sizeof(e->text))
		(void)snprintf(e->text + n, sizeof(e->text) - (size_t)n, ": %s",
		               strerrordesc_np(err) ?: "unknown error");
	e->class = c;
	e->err = err;
	e->code[0] = 0;
}

int gw_fail(struct gw_err *e, enum gw_class c, int err, const char *fmt, ...)
{
	assert(c != GW_OK);
	assert(err >= 0);
	if (e) {
		va_list ap;
		va_start(ap, fmt);
		fill(e, c, err, fmt, ap);
		va_end(ap);
	}
	return err ? -err : -EIO;
}

int gw_fail_code(struct gw_err *e, enum gw_class c, const char *code, const char *fmt, ...)
{
	assert(c != GW_OK && c != GW_SYS);
	if (e) {
		va_list ap;
		va_start(ap, fmt);
		fill(e, c, 0, fmt, ap);
		va_end(ap);
		(void)snprintf(e->code, sizeof(e->code), "%s", code);
	}
	return -EIO;
}

int gw_wrap(struct gw_err *e, const char *fmt, ...)
{
	if (!e)
		return -EIO;
	char front[sizeof(e->text)];
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(front, sizeof(front), fmt, ap);
	va_end(ap);
	size_t cause = strlen(e->text);
	size_t room = sizeof(e->text) - 1 - cause;
	if (n >= 0 && (size_t)n < sizeof(front) && (size_t)n + 2 <= room) {
		memmove(e->text + n + 2, e->text, cause + 1);
		memcpy(e->text, front, (size_t)n);
		memcpy(e->text + n, ": ", 2);
	}
	return e->err ? -e->err : -EIO;
}

const char *gw_class_name(enum gw_class c)
{
	switch (c) {
	case GW_OK: return "ok";
	case GW_SYS: return "system";
	case GW_INPUT: return "input";
	case GW_PEER: return "peer";
	case GW_RETRY: return "retry";
	case GW_LOST: return "lost";
	}
	return "unknown";
}
