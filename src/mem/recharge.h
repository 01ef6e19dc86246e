#pragma once
#include "base/gw_err.h"

/* recharge: memory of a file is charged to the cgroup of whoever writes it
 * first. What becomes the container's for good must not stay with godwitd, so
 * a process in the container's cgroup moves it from one memfd to another.
 *
 * Owner: none. Any thread. The work is godwit-pages', called with
 * "recharge DIR", the old file as descriptor 3 and the new one as 4. */

/* Everything of old_fd into new_fd (of the same size, empty), charged to the
 * memory cgroup (v1) or unified one (v2) in dir. old_fd is emptied piece by
 * piece: after a failure what it held is in neither. */
int gw_recharge(const char *program, const char *dir, int old_fd, int new_fd, struct gw_err *e);

/* godwit-pages' side: its exit code. */
int gw_recharge_main(const char *dir);
