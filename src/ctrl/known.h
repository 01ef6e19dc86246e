#pragma once
#include "kube/follow.h"
#include "kube/metrics.h"
#include "kube/migration.h"

/* known: the Migrations, as the watch tells them and the answers to what we write.
 *
 * Of two states the one with the larger resourceVersion counts, wherever it comes
 * from. One that is done with (gone, or over and without our finalizer) is
 * forgotten. Each has a time when it is looked at again at the latest; news of it
 * make that now. All calls from any thread. */
struct ctrl_known;

enum { CTRL_KNOWN_MAX = 4096 };

/* changed_fd: an eventfd that is written when there is something to look at. */
struct ctrl_known *ctrl_known_new(int changed_fd);
void ctrl_known_free(struct ctrl_known *r);

/* of the watch; done (NULL: nobody) is called for each that is done with, under no lock. */
struct ctrl_known_watch {
	struct ctrl_known *r;
	void (*done)(void *ctx, const char *uid);
	void *ctx;
};
void ctrl_known_told(void *watch, enum gw_follow_what what, yyjson_val *object);
void ctrl_known_heard(struct ctrl_known *r, yyjson_val *object); /* of an answer */
void ctrl_known_gone(struct ctrl_known *r, const char *uid);     /* NotFound was the answer */

/* The state now, and the whole object (NULL: not wanted; the caller frees it). false: not known. */
bool ctrl_known_get(struct ctrl_known *r, const char *uid, struct gw_migration *m, yyjson_doc **object);
/* Is number i due? Then its uid, and it is looked at again after every_ms, or when there are news. */
bool ctrl_known_due(struct ctrl_known *r, int i, int every_ms, char uid[GW_K8S_UID]);
int ctrl_known_wait(struct ctrl_known *r, int most_ms); /* until the next one is */
void ctrl_known_within(struct ctrl_known *r, const char *uid, int ms);
void ctrl_known_wake(struct ctrl_known *r, const char *uid);                        /* NULL: all */
bool ctrl_known_is_stale(struct ctrl_known *r, const char *uid, unsigned after_ms); /* true: counted from now on */

/* Requests that were made for it so far. */
uint64_t ctrl_known_asked(struct ctrl_known *r, const char *uid);
void ctrl_known_ask(struct ctrl_known *r, const char *uid, uint64_t requests);
/* Of the Events in due those that nobody has told yet; they are told from now on. */
unsigned ctrl_known_untold(struct ctrl_known *r, const char *uid, unsigned due);

bool ctrl_known_is_synced(struct ctrl_known *r);
/* Those that use a place (begun and not over) besides m, and those of one of its nodes. */
void ctrl_known_active(struct ctrl_known *r, const struct gw_migration *m, const char *source_node, unsigned *all,
                       unsigned *on_nodes);
bool ctrl_known_is_moving(struct ctrl_known *r, const char *ns, const char *pod); /* source or target of one */

/* Ends are counted here while this one leads. */
void ctrl_known_lead(struct ctrl_known *r, bool leading, struct gw_metrics *metrics);
void ctrl_known_count(struct ctrl_known *r, const char *const *phases, size_t n, unsigned *out); /* by phase */
