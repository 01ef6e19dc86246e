#include "ckpt/throttle.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/scope.h"
#include "ckpt/freezer.h"

enum { MEASURE_US = 50000, PERIOD_US = 100000, QUOTA_MIN_US = 1000 /* the kernel's own minimum */ };

/* utime + stime of one process, all threads, in clock ticks (proc(5)). */
static int add_ticks(void *ctx, pid_t pid)
{
	uint64_t *sum = ctx;
	char path[64], text[1024];
	gw_path(path, sizeof(path), "/proc/%d/stat", pid);
	gw_auto(file) FILE *f = fopen(path, "re");
	if (!f || !fgets(text, sizeof(text), f))
		return 0;
	const char *p = strrchr(text, ')');
	unsigned long u, s;
	if (p && sscanf(p + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &u, &s) == 2)
		*sum += u + s;
	return 0;
}

int gw_throttle_init(const struct gw_container *c, struct gw_throttle *out, struct gw_err *e)
{
	struct gw_throttle t = {.active = false};
	if (!c->cpu_dir[0])
		return gw_fail(e, GW_INPUT, ENOENT, "container %s has no cpu cgroup to slow it by", c->id);
	gw_path(t.path, sizeof(t.path), "%s/cpu.cfs_quota_us", c->cpu_dir);
	if (access(t.path, W_OK) < 0)
		gw_path(t.path, sizeof(t.path), "%s/cpu.max", c->cpu_dir);
	gw_auto(mem) char *old = NULL;
	int rc = gw_read_file(t.path, sizeof(t.old) - 1, &old, NULL, e);
	if (rc < 0)
		return gw_wrap(e, "slow container %s", c->id);
	old[strcspn(old, "\n")] = 0;
	(void)snprintf(t.old, sizeof(t.old), "%s", old);
	uint64_t before = 0, after = 0, t0 = gw_now_us();
	(void)gw_freezer_each(c->freezer_dir, add_ticks, &before);
	gw_sleep_us(MEASURE_US);
	(void)gw_freezer_each(c->freezer_dir, add_ticks, &after);
	uint64_t took = gw_now_us() - t0;
	uint64_t tick_us = 1000000u / (uint64_t)sysconf(_SC_CLK_TCK);
	t.usage_us_per_s = after > before ? (after - before) * tick_us * 1000000u / took : tick_us * 1000000u / took;
	*out = t;
	return 0;
}

static bool is_v2(const struct gw_throttle *t)
{
	return strstr(t->path, "/cpu.max") != NULL;
}

int gw_throttle_set(struct gw_throttle *t, uint32_t percent, struct gw_err *e)
{
	uint64_t quota = t->usage_us_per_s * PERIOD_US / 1000000u * percent / 100u;
	if (quota < QUOTA_MIN_US)
		quota = QUOTA_MIN_US;
	char text[64];
	if (is_v2(t))
		gw_path(text, sizeof(text), "%" PRIu64 " %d", quota, PERIOD_US);
	else
		gw_path(text, sizeof(text), "%" PRIu64, quota);
	int rc = gw_write_knob(t->path, text);
	if (rc < 0)
		return gw_fail(e, GW_SYS, -rc, "write %s to %s", text, t->path);
	t->active = true;
	return 0;
}

int gw_throttle_undo(struct gw_throttle *t, struct gw_err *e)
{
	if (!t->active)
		return 0;
	t->active = false;
	int rc = gw_write_knob(t->path, t->old);
	return rc < 0 ? gw_fail(e, GW_SYS, -rc, "write %s to %s", t->old, t->path) : 0;
}
