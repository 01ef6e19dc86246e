#pragma once
#include <stddef.h>

/* gw_err: why something failed, in words and in a class the caller can act on.
 *
 * The caller owns the storage (usually its stack), so reporting an error
 * never allocates: it works after fork(), with all memory gone, and in a
 * thread that holds a frozen container.
 *
 * Contract for every function that takes `struct gw_err *e`:
 *   success   returns 0 (or a count), *e and every out_ untouched
 *   failure   returns -errno, *e filled in, every out_ untouched
 * Passing NULL means "I only want the number". Any thread. */
enum gw_class {
	GW_OK = 0,
	GW_SYS,   /* the kernel said no: errno holds */
	GW_INPUT, /* the user or the cluster gave us something wrong */
	GW_PEER,  /* the other host broke, or broke the protocol */
	GW_RETRY, /* nothing is broken: try again later */
	GW_LOST,  /* the container can't be shown to run on either side */
};

struct gw_err {
	enum gw_class class;
	int err;        /* positive errno, 0 if none fits */
	char code[32];  /* stable reason code (docs/errors.md), "" if none */
	char text[480]; /* "outermost: ...: root cause" */
};

/* Fill *e and return -err (-EIO when err is 0). For GW_SYS the words of
 * errno are appended. */
[[gnu::format(printf, 4, 5)]]
int gw_fail(struct gw_err *e, enum gw_class c, int err, const char *fmt, ...);

/* The same with a stable reason code, e.g. "NotConverging". */
[[gnu::format(printf, 4, 5)]]
int gw_fail_code(struct gw_err *e, enum gw_class c, const char *code, const char *fmt, ...);

/* Put words in front of an error that is passing through. Returns -e->err.
 * When the text is full the front is dropped, never the root cause. */
[[gnu::format(printf, 2, 3)]]
int gw_wrap(struct gw_err *e, const char *fmt, ...);

/* "system", "input", "peer", "retry", "lost": for logs and JSON. */
const char *gw_class_name(enum gw_class c);
