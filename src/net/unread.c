#include "net/unread.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/scope.h"

enum { TABLE_MAX = 4 << 20, STEP_US = 50 };

/* "  sl  local rem st tx_queue:rx_queue ..." (Linux, Documentation/networking/proc_net_tcp.rst). */
static bool any_in(const char *text)
{
	const char *line = strchr(text, '\n');
	while (line && *++line) {
		unsigned long rx = 0;
		if (sscanf(line, " %*[^:]: %*s %*s %*x %*x:%lx", &rx) == 1 && rx)
			return true;
		line = strchr(line, '\n');
	}
	return false;
}

bool gw_unread_datagrams(pid_t pid)
{
	static const char *const tables[] = {"udp", "udp6"};
	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
		char path[64];
		gw_auto(mem) char *text = NULL;
		gw_path(path, sizeof(path), "/proc/%d/net/%s", pid, tables[i]);
		if (gw_read_file(path, TABLE_MAX, &text, NULL, NULL) == 0 && any_in(text))
			return true;
	}
	return false;
}

void gw_unread_wait(pid_t pid, uint64_t max_us)
{
	uint64_t until = gw_now_us() + max_us;
	while (gw_unread_datagrams(pid) && gw_now_us() < until)
		gw_sleep_us(STEP_US);
}
