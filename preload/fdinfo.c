/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "godwit-criu.h"

enum { FDINFO_MAX = 4096 };

/* A periodic timerfd that has fired and has not been read shows no time left
 * in fdinfo: the kernel winds it up again when it is read (fs/timerfd.c). CRIU
 * takes that for a timer that is off, and the copy never fires again. Unread
 * ticks tell the two apart: setting a timer, also to off, forgets them. It is
 * due: one nanosecond. */
bool gwc_fdinfo_wind(char *text)
{
	static const char off[] = "\nit_value: (0, 0)";
	unsigned long long ticks, s, ns;
	char *t = strstr(text, "\nticks: "), *v = strstr(text, off), *i = strstr(text, "\nit_interval: (");
	if (!strstr(text, "\nclockid: ") || !t || !v || !i || sscanf(t, "\nticks: %llu", &ticks) != 1 ||
	    sscanf(i, "\nit_interval: (%llu, %llu)", &s, &ns) != 2)
		return false;
	if (!ticks || (!s && !ns))
		return false;
	v[sizeof(off) - 3] = '1';
	return true;
}

int gwc_fdinfo_open(int fd)
{
	char text[FDINFO_MAX];
	ssize_t n = fd < 0 ? -1 : pread(fd, text, sizeof(text) - 1, 0);
	if (n <= 0)
		return fd;
	text[n] = 0;
	if (!gwc_fdinfo_wind(text))
		return fd;
	int m = memfd_create("fdinfo", MFD_CLOEXEC);
	if (m < 0 || pwrite(m, text, (size_t)n, 0) != n) {
		if (m >= 0)
			(void)close(m);
		return fd;
	}
	(void)close(fd);
	return m;
}
