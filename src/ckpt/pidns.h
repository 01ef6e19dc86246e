#pragma once
#include <sys/types.h>

#include "base/gw_err.h"

/* pidns: a process namespace that several containers share.
 *
 * Its processes are restored under the numbers they had. Whatever else is started
 * in it meanwhile (helpers of CRIU, one container's beside another's tasks) must
 * not take one of these: so the namespace is made to count from where a stretch of
 * numbers is free. Any thread. */

/* After the largest number in use under proc_dir (a /proc of the namespace), or the
 * beginning of the longest stretch of free ones when there is not room enough above:
 * threads count as well. The processes should stand still. */
int gw_pidns_gap(const char *proc_dir, pid_t *out_from, struct gw_err *e);

/* The namespace at ns_path gives out numbers from `from` on. One process is started
 * in it for a moment, under a number of the kernel's choice. */
int gw_pidns_count_from(const char *ns_path, pid_t from, struct gw_err *e);
