#pragma once
#include "cni/ipam.h"

/* record: what was set up for a container, on disk.
 *
 * DEL and GC must work when the namespace is gone and the configuration has
 * changed. One interface a container, as only such can move. JSON in
 * pod/CONTAINER of the ipam folder; written
 * before anything is made, removed after all of it is gone. Calls take an
 * open gw_ipam, so the lock is held. */
struct gw_record {
	struct gw_ipam_owner owner;
	char netns[256];
	char migration[GW_CNI_ID_MAX + 1]; /* "": an ordinary pod */
	bool dormant;                      /* moves in and has not arrived yet */
	struct gw_pod pod;                 /* host_ifname: this host's end */
};

int gw_record_put(struct gw_ipam *s, const struct gw_record *r, struct gw_err *e);
/* 1: found, 0: none (or what a power cut left of one). */
int gw_record_get(struct gw_ipam *s, const char *container, struct gw_record *out, struct gw_err *e);
int gw_record_drop(struct gw_ipam *s, const char *container, struct gw_err *e);
/* Every one; fn may drop it. Files that are none of ours are removed. Stops at the first failure. */
int gw_record_each(struct gw_ipam *s, int (*fn)(void *arg, const struct gw_record *r, struct gw_err *e), void *arg,
                   struct gw_err *e);

/* Has that migration's pod arrived here once already? */
bool gw_record_is_done(const struct gw_ipam *s, const char *migration);

/* For godwitd, after gw_mover_routed.activate and the freeze: the dormant pod lives here now.
 * Should its sandbox be made again, with the annotations still there, it gets
 * an ordinary address. None of that id: -ENOENT. */
int gw_record_arrived(const char *data_dir, const char *container, struct gw_err *e);
