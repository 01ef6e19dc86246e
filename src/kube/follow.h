#pragma once
#include "kube/client.h"

/* follow: what the API server has of one kind, kept up to date.
 *
 * Lists in pages, then watches from there with bookmarks; a watch that ends is
 * resumed at the last resourceVersion, one that is too old (410) is listed
 * anew, one that cannot be reached is tried again with growing pauses (jitter;
 * at most 10 s). fn sees ADDED, MODIFIED and DELETED as the watch tells them,
 * and after every list ADDED for each object, then SYNCED with NULL: what was
 * known before and not told again since is gone.
 *
 * A tail lists nothing: SYNCED says that what happens from now on will be told,
 * and that something may have been missed before.
 *
 * Runs in the calling thread until stop_fd is readable. */
enum gw_follow_what { GW_FOLLOW_ADDED, GW_FOLLOW_MODIFIED, GW_FOLLOW_DELETED, GW_FOLLOW_LISTING, GW_FOLLOW_SYNCED };

struct gw_follow {
	const char *path;     /* "/apis/godwit.dev/v1alpha1/migrations" */
	const char *selector; /* query, encoded: "fieldSelector=spec.nodeName%3Da"; NULL for none */
	bool tail;
	int stop_fd;
	void (*fn)(void *ctx, enum gw_follow_what what, yyjson_val *object);
	/* Something failed: true ends it. NULL: it is tried again, for ever. */
	bool (*failed)(void *ctx, const struct gw_err *why);
	void *ctx;
};

void gw_kube_follow(struct gw_kube *k, const struct gw_follow *f);
