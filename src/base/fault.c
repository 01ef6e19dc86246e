#include "base/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/gw_log.h"
#include "base/io.h"
#include "base/scope.h"

enum { HANG_US = 3000000 };

static char fault_path[PATH_MAX];

void gw_fault_init(const char *path)
{
	gw_path(fault_path, sizeof(fault_path), "%s", path);
}

int gw_fault(const char *point, struct gw_err *e)
{
	char text[128] = "", want[64], action[16];
	gw_auto(fd) int fd = fault_path[0] ? open(fault_path, O_RDONLY | O_CLOEXEC) : -1;
	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0 || sscanf(text, "%63s %15s", want, action) != 2 ||
	    strcmp(want, point) != 0)
		return 0;
	bool stays = !strcmp(action, "failing");
	if (!stays)
		(void)unlink(fault_path);
	gw_warn("fault", kv_str("point", point), kv_str("action", action));
	if (!strcmp(action, "kill"))
		(void)kill(getpid(), SIGKILL);
	if (!strcmp(action, "hang"))
		gw_sleep_us(HANG_US);
	if (stays || !strcmp(action, "fail"))
		return gw_fail(e, GW_SYS, EIO, "fault at %s", point);
	return 0;
}
