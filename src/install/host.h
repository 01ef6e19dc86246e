#pragma once
#include <limits.h>
#include <sys/types.h>

#include "base/gw_err.h"

/* host: out of our container, into the host; and its containerd. */

/* All namespaces of process 1 but the user namespace, and its root. Needs
 * hostPID and privileged. Single-threaded. Descriptors opened before stay
 * those of the container. */
int gw_host_enter(struct gw_err *e);

/* One installer at a time on a host: an address that only one can have, until
 * the descriptor is closed. Waits for the other; "Busy". */
int gw_host_lock(int *out_fd, struct gw_err *e);

struct gw_containerd {
	pid_t pid;
	char program[PATH_MAX], config[PATH_MAX];
};
#define GW_CONTAINERD_SOCKET "/run/containerd/containerd.sock"

/* Who listens on its socket, with which settings. "NoContainerd". */
int gw_containerd_find(struct gw_containerd *out, struct gw_err *e);
/* What it makes of this file of settings; freed by the caller. */
int gw_containerd_dump(const struct gw_containerd *c, const char *config, char **out, struct gw_err *e);
/* End it and wait until it has been started again: by systemd where there is
 * one, else by whoever looks after it. Containers run on. "NoRestart". */
int gw_containerd_restart(struct gw_containerd *c, struct gw_err *e);
