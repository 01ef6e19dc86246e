#include "ckpt/breaks.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/gw_log.h"

int gw_breaks_prepare(void)
{
	struct perf_event_attr a = {
	        .type = PERF_TYPE_SOFTWARE,
	        .size = sizeof(a),
	        .config = PERF_COUNT_SW_DUMMY,
	        .disabled = 1,
	        .exclude_kernel = 1,
	};
	/* Of this thread on any core: what matters is that it is of a task. */
	int fd = (int)syscall(SYS_perf_event_open, &a, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
	if (fd < 0)
		gw_debug("no event before the freeze", kv_i64("errno", errno));
	return fd;
}
