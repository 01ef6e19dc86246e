#pragma once
#include <stdint.h>

#include "base/gw_err.h"
#include "ckpt/container.h"

/* throttle: slow a container down by its cgroup's CPU quota, and put it back.
 *
 * The share is of what it used before the first step (measured), so 50 means
 * half as fast, whatever limit it had. cgroup v1 cpu.cfs_quota_us, v2 cpu.max.
 * Owner: the migration; one thread. The old value is told so that a journal
 * can hold it: whoever finds it there puts it back. */
struct gw_throttle {
	char path[PATH_MAX]; /* "" when this container cannot be slowed */
	char old[64];
	uint64_t usage_us_per_s; /* CPU time it took per second, before */
	bool active;
};

/* Measures for ~50 ms. GW_INPUT when there is no CPU cgroup. */
int gw_throttle_init(const struct gw_container *c, struct gw_throttle *out, struct gw_err *e);
int gw_throttle_set(struct gw_throttle *t, uint32_t percent, struct gw_err *e);
int gw_throttle_undo(struct gw_throttle *t, struct gw_err *e);
