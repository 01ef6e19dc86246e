#pragma once
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/gw_err.h"

/* container: what runc knows of one container, as far as moving it needs it.
 *
 * Read from runc's state.json (ROOT/ID/state.json) and the bundle's
 * config.json; runc 1.1 to 1.3 write the fields used here alike. A snapshot:
 * owned by the caller, plain values, any thread. */
struct gw_mount {
	char *dest;   /* in the container */
	char *source; /* on the host */
	char *type;   /* "bind", "tmpfs", "cgroup", ... (runc's "device") */
};

struct gw_container {
	char id[256];
	char runc_root[PATH_MAX];
	char bundle[PATH_MAX];
	char rootfs[PATH_MAX];
	pid_t init_pid;
	char freezer_dir[PATH_MAX]; /* v1 freezer or unified cgroup */
	char cpu_dir[PATH_MAX];     /* v1 cpu or unified cgroup, for throttling; "" if none */
	char memory_dir[PATH_MAX];  /* "" if none */
	char netns_path[PATH_MAX];  /* path given in the config, "" when runc made its own */
	char pidns_path[PATH_MAX];  /* likewise: the pod's (shareProcessNamespace) */
	bool own_netns;             /* has a network namespace at all */
	bool has_terminal;
	char *config_json; /* the bundle's config.json */
	size_t nmounts;
	struct gw_mount *mounts;
	size_t nmasked;
	char **masked; /* masked paths */
	size_t ndevices;
	char **devices;
	char *descriptors_json; /* external_descriptors as runc wrote them: a JSON array of three strings */
};

/* GW_INPUT with code "NoSuchContainer" or "NotRunning" where that is why. */
int gw_container_load(const char *runc_root, const char *id, struct gw_container **out, struct gw_err *e);
void gw_container_free(struct gw_container *c);

/* The ids of all containers under runc_root: a NULL-terminated list, freed by
 * the caller (each string and the list). */
int gw_container_list(const char *runc_root, char ***out, struct gw_err *e);
