#pragma once
#include <stdbool.h>

#include "base/gw_err.h"

/* held: source containers that their container runtime must leave alone.
 *
 * A pod's container is not ours to delete: kubelet does that when the pod's
 * object goes. Between the freeze (for a pod whose name stays: between the
 * deletion of its object) and the release, kubelet may ask its runtime to kill
 * or delete it, because a probe failed or the object is gone. godwit-runtime
 * looks for STATE/held/CONTAINER and then answers that all is well.
 *
 * It may also ask it to run something in it: a preStop hook, when the object goes. In
 * one that runs (its name stays, and the commit is still to come) that would end what is
 * on its way, so nothing is run in such a container.
 *
 * After the commit the dead copy stays frozen and sealed until the release: if
 * its processes ended while the pod's object is there, kubelet would start the
 * container anew, a second copy. Release: its object is gone or going.
 *
 * Records are the daemon's, under its lock. Any thread. */
struct gw_daemon;

/* In a record after the migration's id: see object_goes. */
#define GW_HELD_NO_EXEC "\nno exec\n"

/* object_goes: before the commit; nothing is run in it any more. */
int gw_held_begin(struct gw_daemon *d, const char *mig, const char *container, bool object_goes, struct gw_err *e);
void gw_held_end(struct gw_daemon *d, const char *mig);     /* the runtime has its way again; none is fine */
void gw_held_end_pod(struct gw_daemon *d, const char *mig); /* of all containers of its pod */
/* End a container whose object is gone and that nobody wants any more. kubelet has had its answer
 * to a kill, and comes back for what still runs after a minute or so; meanwhile another pod of
 * that name may have begun. Also one that a godwitd before this one has held. Blocks until it has
 * ended; it is fine if it had. */
void gw_held_kill(struct gw_daemon *d, const char *container);
/* "NoSuchMigration" when nothing is held for it. May be repeated. */
int gw_held_release(struct gw_daemon *d, const char *mig, struct gw_err *e);
/* Is there a dead copy of this migration that waits for its release? */
bool gw_held_moved(struct gw_daemon *d, const char *mig);
/* Until it is released. -ECANCELED: godwitd ends, and must not touch the copy. */
int gw_held_wait(struct gw_daemon *d, const char *mig);
