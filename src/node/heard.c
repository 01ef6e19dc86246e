#include "node/heard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/scope.h"

void heard_init(struct heard *h)
{
	*h = (struct heard){0};
	pthread_mutex_init(&h->lock, NULL);
}

void heard_free(struct heard *h)
{
	for (int i = 0; i < HEARD_MAX; i++)
		free(gw_take(h->known[i]));
	pthread_mutex_destroy(&h->lock);
}

/* Where it is, or a place for it; -1: neither. */
static int place_of(const struct heard *h, const char *uid)
{
	int empty = -1;
	for (int i = 0; i < HEARD_MAX; i++) {
		if (h->known[i] && !strcmp(h->known[i]->uid, uid))
			return i;
		if (!h->known[i] && empty < 0)
			empty = i;
	}
	return empty;
}

static bool has_ended_locked(const struct heard *h, const char *uid)
{
	for (unsigned i = 0; i < HEARD_ENDED_MAX; i++)
		if (!strcmp(h->ended[i], uid))
			return true;
	return false;
}

static void end_locked(struct heard *h, const char *uid)
{
	if (!has_ended_locked(h, uid))
		(void)snprintf(h->ended[h->nended++ % HEARD_ENDED_MAX], GW_K8S_UID, "%s", uid);
}

void heard_put(struct heard *h, const struct gw_migration *m, bool gone)
{
	pthread_mutex_lock(&h->lock);
	int at = place_of(h, m->uid);
	if (gone || gw_migration_over(m)) {
		if (at >= 0)
			free(gw_take(h->known[at]));
		end_locked(h, m->uid);
	} else if (at >= 0) {
		if (!h->known[at])
			h->known[at] = malloc(sizeof(*m));
		if (h->known[at])
			*h->known[at] = *m;
		h->told[at] = true;
	}
	pthread_mutex_unlock(&h->lock);
}

void heard_listing(struct heard *h)
{
	pthread_mutex_lock(&h->lock);
	memset(h->told, 0, sizeof(h->told));
	pthread_mutex_unlock(&h->lock);
}

/* One that was not told, taken out; NULL: all were. */
static struct gw_migration *take_untold(struct heard *h)
{
	struct gw_migration *m = NULL;
	pthread_mutex_lock(&h->lock);
	for (int i = 0; i < HEARD_MAX && !m; i++)
		if (h->known[i] && !h->told[i])
			m = gw_take(h->known[i]);
	if (m)
		end_locked(h, m->uid);
	pthread_mutex_unlock(&h->lock);
	return m;
}

void heard_synced(struct heard *h, void (*gone)(void *ctx, const struct gw_migration *m), void *ctx)
{
	for (struct gw_migration *m; (m = take_untold(h)); free(m))
		if (gone)
			gone(ctx, m);
	pthread_mutex_lock(&h->lock);
	h->synced = true;
	pthread_mutex_unlock(&h->lock);
}

bool heard_latest(struct heard *h, const char *uid, struct gw_migration *out)
{
	pthread_mutex_lock(&h->lock);
	int at = place_of(h, uid);
	bool here = at >= 0 && h->known[at];
	if (here)
		*out = *h->known[at];
	pthread_mutex_unlock(&h->lock);
	return here;
}

enum heard_life heard_life(struct heard *h, const char *uid)
{
	pthread_mutex_lock(&h->lock);
	int at = place_of(h, uid);
	enum heard_life life = at >= 0 && h->known[at]    ? HEARD_GOES_ON
	                       : has_ended_locked(h, uid) ? HEARD_ENDED
	                       : h->synced                ? HEARD_UNKNOWN
	                                                  : HEARD_GOES_ON;
	pthread_mutex_unlock(&h->lock);
	return life;
}

bool heard_is_synced(struct heard *h)
{
	pthread_mutex_lock(&h->lock);
	bool is = h->synced;
	pthread_mutex_unlock(&h->lock);
	return is;
}
