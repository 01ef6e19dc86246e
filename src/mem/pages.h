#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/gw_err.h"
#include "mem/store.h"

/* pages: the page server of a restored container.
 *
 * Its own process (libexec/godwit/godwit-pages), so that it outlives a
 * godwitd that is restarted. It speaks CRIU's lazy-pages socket (criu/uffd.c
 * of CRIU 4.2: an int pid, negated for a zombie; then the userfaultfd as
 * SCM_RIGHTS; at the end of the restore the word 0x52535446) and serves:
 *   1. page faults, at once;
 *   2. the spans written in the last round;
 *   3. the rest in address order, in small pieces, faults in between.
 * It frees the store behind itself, follows fork, remap, unmap and remove
 * events, and ends when every space is drained or its process is gone.
 *
 * A second process, the keeper, holds a copy of every userfaultfd. When the
 * page server dies before the end, the keeper kills the container (a missing
 * page would otherwise read as zero: wrong memory) and leaves the reason in
 * `reason_path`. When the keeper dies, the page server starts another.
 *
 * Handle: owned by the migration on the destination. One thread. */
struct gw_pages;

struct gw_pages_opts {
	const char *program;     /* path of godwit-pages */
	const char *socket_path; /* where CRIU will connect: WORKDIR/lazy-pages.socket */
	const char *cgroup_dir;  /* whom the keeper kills: all processes of this cgroup (freezer v1 or v2) */
	const char *reason_path; /* written when the container had to be killed */
	const char *label;       /* migration id, for logs */
};

/* Start it with the spaces the store has by now. Returns when the socket is
 * listening. */
int gw_pages_start(const struct gw_pages_opts *o, struct gw_store *s, struct gw_pages **out, struct gw_err *e);
/* Hand over all memfds and recent spans. Afterwards it may serve; before it,
 * faults wait. The store may be freed after this returns. */
int gw_pages_give(struct gw_pages *p, struct gw_store *s, struct gw_err *e);

struct gw_pages_status {
	bool connected; /* CRIU has come */
	bool restored;  /* CRIU has said that the restore is whole */
	bool done;      /* everything is in the processes */
	uint64_t faults;
	uint64_t copied_bytes;
	uint64_t left_bytes; /* still in the store */
	uint64_t fill_us;    /* from restored to done */
	uint64_t fault_us_max;
};
int gw_pages_status(struct gw_pages *p, struct gw_pages_status *out, struct gw_err *e);
pid_t gw_pages_pid(const struct gw_pages *p);
/* kill: end the page server and its keeper (the container is being
 * discarded). Otherwise only forget the handle; it works on by itself. */
void gw_pages_free(struct gw_pages *p, bool kill);

/* main() of godwit-pages. */
int gw_pages_main(int argc, char **argv);
