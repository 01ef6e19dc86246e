#pragma once
#include <pthread.h>

#include "kube/follow.h"
#include "kube/migration.h"

/* heard: the Migrations that concern this node, as the watch tells them, and those
 * that have ended.
 *
 * What has ended is kept as an id only, the last HEARD_ENDED_MAX of them: a
 * container may still ask for it (move/claim.h). All calls from any thread. */
enum { HEARD_MAX = 512, HEARD_ENDED_MAX = 256 };

struct heard {
	pthread_mutex_t lock;
	struct gw_migration *known[HEARD_MAX];
	bool told[HEARD_MAX]; /* since the list began */
	char ended[HEARD_ENDED_MAX][GW_K8S_UID];
	unsigned nended; /* ring: the newest at (nended - 1) % HEARD_ENDED_MAX */
	bool synced;
};

void heard_init(struct heard *h);
void heard_free(struct heard *h);

/* A Migration that concerns this node; gone: it was deleted. */
void heard_put(struct heard *h, const struct gw_migration *m, bool gone);
/* All are told once more. */
void heard_listing(struct heard *h);
/* They have been. Those that were not are gone: gone (NULL: nobody) is called for each, under no lock. */
void heard_synced(struct heard *h, void (*gone)(void *ctx, const struct gw_migration *m), void *ctx);

/* Its last state, while it has not ended. */
bool heard_latest(struct heard *h, const char *uid, struct gw_migration *out);

/* HEARD_UNKNOWN: the API server has told all that there is, and this was not among it. */
enum heard_life { HEARD_GOES_ON, HEARD_ENDED, HEARD_UNKNOWN };
enum heard_life heard_life(struct heard *h, const char *uid);
bool heard_is_synced(struct heard *h);
