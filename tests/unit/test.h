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

/* Until a number has not changed for a fifth of a second: what makes it change may only be
 * waiting for a core. Needs base/clock.h. */
#define WAIT_UNTIL_STILL(number)                                                                                       \
	do {                                                                                                           \
		uint64_t last_ = (number);                                                                             \
		for (int same_ = 0; same_ < 10; same_++) {                                                             \
			gw_sleep_us(20000);                                                                            \
			uint64_t now_ = (number);                                                                      \
			if (now_ != last_)                                                                             \
				same_ = 0;                                                                             \
			last_ = now_;                                                                                  \
		}                                                                                                      \
	} while (0)
