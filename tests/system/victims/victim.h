#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* victim: a program that is moved and then says whether it is still itself.
 *
 * It sets something up, calls victim_serve, is migrated, and is asked on TCP
 * port 7100: "ping" answers "ready", "check" answers "ok" or "bad: WORDS".
 * The idea is CRIU's ZDTM: each victim knows best what must have survived.
 * Set-up that fails ends the program with words in its "ping" answer. */
enum { VICTIM_PORT = 7100 };

/* NULL: all is as it was; otherwise words (victim_bad makes them). */
typedef const char *(*victim_check)(void);

/* Between questions, about every 10 ms; NULL is fine. */
typedef void (*victim_tick)(void);

[[noreturn]]
void victim_serve(victim_check check, victim_tick tick);

[[gnu::format(printf, 1, 2)]]
const char *victim_bad(const char *fmt, ...);

/* Set-up steps: on failure the victim serves the words instead of checking. */
#define VICTIM_MUST(cond)                                                                                              \
	do {                                                                                                           \
		if (!(cond))                                                                                           \
			victim_broken(#cond, __FILE__, __LINE__);                                                      \
	} while (0)
[[noreturn]]
void victim_broken(const char *what, const char *file, int line);

/* A pattern that tells one page, one owner and one version from another. */
void victim_fill(void *page, size_t len, uint64_t seed);
bool victim_filled(const void *page, size_t len, uint64_t seed);
uint64_t victim_random(uint64_t *state);
void victim_sleep_ms(unsigned ms);
uint64_t victim_now_ms(void); /* CLOCK_MONOTONIC */
