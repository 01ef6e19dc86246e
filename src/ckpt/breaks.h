#pragma once

/* breaks: hardware breakpoints that are quick when they are needed.
 *
 * CRIU sets one in each task that it dumps or restores, to get it back from its
 * parasite (compel, ptrace_set_breakpoint). The first event of a task on a
 * machine makes the kernel switch its scheduler's hooks on and wait until every
 * core has seen it (synchronize_rcu in account_event(), kernel/events/core.c of
 * Linux 6.18): 10 ms on two cores, in the freeze of the first container that
 * moves; every one restored on the same machine before it hides that. So one
 * event is there before.
 *
 * Returns a descriptor that keeps it, or -1 where the kernel has or allows none
 * (then the freeze is as long as it was). The caller closes it after the dump or
 * restore. Any thread; blocks for that wait. */
int gw_breaks_prepare(void);
