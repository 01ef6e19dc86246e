#pragma once
#include <stddef.h>

/* What the two files of the victim share. */
enum { PAGE = 4096 };

[[gnu::format(printf, 1, 2)]]
void victim_say(const char *fmt, ...);
char victim_step(void);
char *victim_map(size_t len, int prot);
void victim_fill(char *m, size_t len);
void victim_mark(unsigned add); /* what it fills in from now on differs from others' */

/* Those of track_victim_shm.c. */
void victim_more(const char *what);
