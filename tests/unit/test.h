#pragma once
/* cmocka needs these before its own header. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* A call that must succeed; its words, in the file's `e`, if it does not. */
#define OK(call)                                                                                                       \
	do {                                                                                                           \
		e = (struct gw_err){0};                                                                                \
		if ((call) < 0)                                                                                        \
			fail_msg("%s: %s", #call, e.text);                                                             \
	} while (0)
