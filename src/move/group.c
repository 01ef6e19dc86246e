#include "move/group.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct gw_group *gw_group_new(const char *leader, unsigned members)
{
	struct gw_group *g = calloc(1, sizeof(*g));
	assert(g && members <= GW_GROUP_MAX);
	pthread_mutex_init(&g->lock, NULL);
	pthread_cond_init(&g->changed, NULL);
	g->refs = 1;
	g->members = members;
	(void)snprintf(g->leader, sizeof(g->leader), "%s", leader);
	return g;
}

struct gw_group *gw_group_ref(struct gw_group *g)
{
	pthread_mutex_lock(&g->lock);
	g->refs++;
	pthread_mutex_unlock(&g->lock);
	return g;
}

void gw_group_unref(struct gw_group *g)
{
	if (!g)
		return;
	pthread_mutex_lock(&g->lock);
	bool last = --g->refs == 0;
	pthread_mutex_unlock(&g->lock);
	if (!last)
		return;
	pthread_cond_destroy(&g->changed);
	pthread_mutex_destroy(&g->lock);
	free(g->segments);
	for (size_t i = 0; i < g->nsockets; i++)
		free(g->sockets[i].at.v);
	free(g->sockets);
	free(g);
}

void gw_group_arrive(struct gw_group *g, enum gw_group_stage s)
{
	if (!g)
		return;
	pthread_mutex_lock(&g->lock);
	g->at[s]++;
	pthread_cond_broadcast(&g->changed);
	pthread_mutex_unlock(&g->lock);
}

static bool all_locked(const struct gw_group *g, enum gw_group_stage s, unsigned n)
{
	return g->at[s] >= (n ?: g->members);
}

bool gw_group_all(struct gw_group *g, enum gw_group_stage s, unsigned n)
{
	if (!g)
		return true;
	pthread_mutex_lock(&g->lock);
	bool all = all_locked(g, s, n);
	pthread_mutex_unlock(&g->lock);
	return all;
}

static int failure_locked(const struct gw_group *g, struct gw_err *e)
{
	if (!g->failed)
		return 0;
	*e = g->why;
	return e->err ? -e->err : -ECANCELED;
}

int gw_group_wait(struct gw_group *g, enum gw_group_stage s, unsigned n, struct gw_err *e)
{
	if (!g)
		return 0;
	pthread_mutex_lock(&g->lock);
	while (!g->failed && !all_locked(g, s, n))
		pthread_cond_wait(&g->changed, &g->lock);
	int rc = failure_locked(g, e);
	pthread_mutex_unlock(&g->lock);
	return rc;
}

int gw_group_meet(struct gw_group *g, enum gw_group_stage s, struct gw_err *e)
{
	gw_group_arrive(g, s);
	return gw_group_wait(g, s, 0, e);
}

int gw_group_add_segment(struct gw_group *g, const struct gw_group_segment *s)
{
	pthread_mutex_lock(&g->lock);
	struct gw_group_segment *more = reallocarray(g->segments, g->nsegments + 1, sizeof(*more));
	if (more) {
		g->segments = more;
		g->segments[g->nsegments++] = *s;
	}
	pthread_mutex_unlock(&g->lock);
	return more ? 0 : -ENOMEM;
}

int gw_group_add_socket(struct gw_group *g, const struct gw_group_socket *s)
{
	pthread_mutex_lock(&g->lock);
	struct gw_group_socket *more = reallocarray(g->sockets, g->nsockets + 1, sizeof(*more));
	if (more) {
		g->sockets = more;
		g->sockets[g->nsockets++] = *s;
	}
	pthread_mutex_unlock(&g->lock);
	return more ? 0 : -ENOMEM;
}

void gw_group_fail(struct gw_group *g, const struct gw_err *why)
{
	if (!g)
		return;
	pthread_mutex_lock(&g->lock);
	if (!g->failed)
		g->why = *why;
	g->failed = true;
	pthread_cond_broadcast(&g->changed);
	pthread_mutex_unlock(&g->lock);
}

int gw_group_failed(struct gw_group *g, struct gw_err *e)
{
	if (!g)
		return 0;
	pthread_mutex_lock(&g->lock);
	int rc = failure_locked(g, e);
	pthread_mutex_unlock(&g->lock);
	return rc;
}

void gw_group_decide(struct gw_group *g, bool committed)
{
	if (!g)
		return;
	pthread_mutex_lock(&g->lock);
	if (!g->decided)
		g->committed = committed;
	g->decided = true;
	pthread_cond_broadcast(&g->changed);
	pthread_mutex_unlock(&g->lock);
}

bool gw_group_outcome(struct gw_group *g)
{
	pthread_mutex_lock(&g->lock);
	while (!g->decided)
		pthread_cond_wait(&g->changed, &g->lock);
	bool committed = g->committed;
	pthread_mutex_unlock(&g->lock);
	return committed;
}

void gw_group_id(const char *leader, unsigned i, char out[40])
{
	unsigned first = 0;
	(void)sscanf(leader, "%2x", &first);
	(void)snprintf(out, 40, "%02x%.37s", (first ^ i) & 0xff, leader + 2);
}

bool gw_group_is_of(const char *id, const char *leader)
{
	enum { UUID_BYTES = 36 };
	return !strcmp(id, leader) || (strlen(id) == UUID_BYTES && !strcmp(id + 2, leader + 2));
}
