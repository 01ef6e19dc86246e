#pragma once
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Open `path` below the directory `fd`, through no symbolic link and into no
 * other mount, whatever a container makes of its names meanwhile. -1 with errno. */
static inline int gw_beneath(int fd, const char *path, int flags)
{
	struct open_how how = {.flags = (unsigned)(flags | O_CLOEXEC | O_NOFOLLOW),
	                       .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV};
	return (int)syscall(SYS_openat2, fd, path, &how, sizeof(how));
}
