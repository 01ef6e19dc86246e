#pragma once
#include <net/if.h>
#include <stdbool.h>

#include "base/gw_err.h"
#include "base/scope.h"
#include "cni/config.h"
#include "net/pod.h"

/* ipam: which address of this host is given to whom. Files below one folder:
 *
 *   lock                      flock(2)ed for the whole of every call
 *   addr/ADDRESS              "NETWORK CONTAINER IFNAME": given out here
 *   pod/CONTAINER             what was set up, see cni/record.h
 *   last/RANGE                the address given out last: the search goes on behind it
 *   reserved/ADDRESS          must not be given out: an AddressLease says it lives elsewhere
 *   away/ADDRESS              was given out here and moved to another host with its pod
 *   done/MIGRATION            that migration's pod has arrived: its annotations mean nothing any more
 *
 * The addresses stay across a reboot; the interfaces don't, so an owner whose
 * interface is gone loses its address when nothing else is free (or by DEL or
 * GC). `away`, `reserved` and an entry for the very address in the host's
 * tables hold against that too. Owner of the folder: this host. Threads and
 * processes: any, the lock orders them; waiting for it ends after 30 s with
 * the reason TryAgain. */
struct gw_ipam {
	int lock; /* descriptor; the lock is held as long as it is open */
	char dir[256];
};

struct gw_ipam_owner {
	char network[GW_CNI_ID_MAX + 1];
	char container[GW_CNI_ID_MAX + 1];
	char ifname[IFNAMSIZ];
};

/* Makes the folders and takes the lock. */
int gw_ipam_open(const char *data_dir, struct gw_ipam *out, struct gw_err *e);
static inline void gw_end_ipam(struct gw_ipam *s)
{
	gw_end_fd(&s->lock);
	s->lock = -1;
}

void gw_ipam_owner(struct gw_ipam_owner *o, const char *network, const char *container, const char *ifname);
bool gw_ipam_same(const struct gw_ipam_owner *a, const struct gw_ipam_owner *b);

/* The next free address of a range. usable is asked last about each (1, 0 or
 * -errno with *e filled): what the host's tables say. NoFreeAddress when there is none. */
typedef int (*gw_ipam_usable)(void *arg, const struct gw_addr *a, struct gw_err *e);
int gw_ipam_take(struct gw_ipam *s, const struct gw_addr *range, const struct gw_ipam_owner *o, gw_ipam_usable usable,
                 void *arg, struct gw_addr *out, struct gw_err *e);
/* This one, for a pod that brings it along. Somebody else's only when it is
 * marked away, for then that pod has left it: AddressInUse otherwise. */
int gw_ipam_take_this(struct gw_ipam *s, const struct gw_addr *a, const struct gw_ipam_owner *o, struct gw_err *e);
/* Not the owner's, or nobody's: fine, and stays as it is. */
int gw_ipam_give_back(struct gw_ipam *s, const struct gw_addr *a, const struct gw_ipam_owner *o, struct gw_err *e);
/* 1: *out is the owner, 0: nobody (or a file that a power cut left empty). */
int gw_ipam_who(struct gw_ipam *s, const struct gw_addr *a, struct gw_ipam_owner *out, struct gw_err *e);
bool gw_ipam_marked(const struct gw_ipam *s, const char *kind, const struct gw_addr *a);
/* Every address that is given out; fn must not keep the pointers. Stops at the first failure. */
typedef int (*gw_ipam_visit)(void *arg, const struct gw_addr *a, const struct gw_ipam_owner *o, struct gw_err *e);
int gw_ipam_each(struct gw_ipam *s, gw_ipam_visit fn, void *arg, struct gw_err *e);

/* For godwitd. On disk (fsync) when they return. `note` is for people.
 *
 * away: before the source's route turns, cleared when the address is home
 * again or its lease is over. reserved: for a lease whose address falls into
 * this host's range, AddressInUse when a pod of this host has it (marked all
 * the same). Clearing what is not there is fine. */
int gw_ipam_away_set(const char *data_dir, const struct gw_addr *a, const char *note, struct gw_err *e);
int gw_ipam_away_clear(const char *data_dir, const struct gw_addr *a, struct gw_err *e);
int gw_ipam_reserve(const char *data_dir, const struct gw_addr *a, const char *note, struct gw_err *e);
int gw_ipam_unreserve(const char *data_dir, const struct gw_addr *a, struct gw_err *e);
