#pragma once
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* scope: resources end with the scope that got them.
 *
 *   gw_auto(fd) int fd = open(...);     closed on every way out
 *   *out_fd = gw_take_fd(&fd);          handed on, slot emptied
 *
 * Owner: the scope. Threads: none of its business. */
#define gw_auto(kind) __attribute__((cleanup(gw_end_##kind)))

static inline void gw_end_fd(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
}
static inline void gw_end_mem(void *p)
{
	free(*(void **)p);
}
static inline void gw_end_file(FILE **f)
{
	if (*f)
		(void)fclose(*f);
}
static inline void gw_end_dir(DIR **d)
{
	if (*d)
		(void)closedir(*d);
}
static inline int gw_take_fd(int *fd)
{
	int out = *fd;
	*fd = -1;
	return out;
}
#define gw_take(p)                                                                                                     \
	({                                                                                                             \
		typeof(p) out_ = (p);                                                                                  \
		(p) = NULL;                                                                                            \
		out_;                                                                                                  \
	})
#define gw_countof(a) (sizeof(a) / sizeof((a)[0]))
