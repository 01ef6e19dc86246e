/* SPDX-License-Identifier: MIT
 *
 * Unix stream sockets whose other end is in another container of the pod.
 *
 * CRIU takes half of a connection only from a plugin. This library is one as well:
 * CRIU finds it as the only one in the folder "plugins" beside godwit's socket.
 *
 *   dump     the sockets in DIR/unix (their inodes, u32 each) are godwit's
 *   restore  godwit is asked for the socket by its inode ("unix PID INODE\n") and
 *            gives it, connected and with what was unread in it
 *
 * The layout of a plugin's description: CRIU's plugin interface, version 0.2. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "godwit-criu.h"

enum { DUMP_UNIX_SK = 0, RESTORE_UNIX_SK = 1, HOOKS = 2, VERSION_0_2 = 2 << 8 };

struct plugin {
	const char *name;
	int (*init)(int stage);
	void (*exit)(int stage, int ret);
	unsigned version, max_hooks;
	void *hooks[HOOKS];
};

/* CRIU's; absent in any other program that this is loaded into. */
extern int criu_get_image_dir(void) __attribute__((weak));

static int begin(int stage)
{
	(void)stage;
	return 0;
}

static void end(int stage, int ret)
{
	(void)stage;
	(void)ret;
}

static bool is_listed(uint32_t ino)
{
	const char *dir = getenv("GODWIT_CRIU_DIR");
	char path[512];
	uint32_t v;
	bool found = false;
	if (!dir)
		return false;
	snprintf(path, sizeof(path), "%s/unix", dir);
	int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && !found && read(fd, &v, sizeof(v)) == sizeof(v))
		found = v == ino;
	if (fd >= 0)
		close(fd);
	return found;
}

static int dump_unix(int fd, int ino)
{
	(void)fd;
	return is_listed((uint32_t)ino) ? 0 : -ENOTSUP;
}

static int restore_unix(int ino)
{
	int fd = -1;
	if (!criu_get_image_dir || gwc_ask(criu_get_image_dir(), "unix", (uint32_t)ino, &fd) != 'g')
		return -1;
	return fd;
}

extern struct plugin CR_PLUGIN_DESC;
struct plugin CR_PLUGIN_DESC = {.name = "godwit",
                                .init = begin,
                                .exit = end,
                                .version = VERSION_0_2,
                                .max_hooks = HOOKS,
                                .hooks = {(void *)dump_unix, (void *)restore_unix}};

/* Before CRIU reads it. */
__attribute__((constructor)) static void point_to_plugins(void)
{
	const char *home = getenv("GODWIT_CRIU_HOME");
	const char *slash = home ? strrchr(home, '/') : NULL;
	char path[512];
	if (slash && (gwc_mode_is("dump") || gwc_mode_is("restore")) &&
	    snprintf(path, sizeof(path), "%.*s/plugins", (int)(slash - home), home) < (int)sizeof(path) &&
	    access(path, F_OK) == 0)
		setenv("CRIU_LIBS_DIR", path, 1);
}
