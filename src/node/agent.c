#include "node/agent.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/gw_log.h"
#include "base/scope.h"
#include "move/held.h"
#include "node/agent_identity.h"
#include "node/agent_priv.h"

/* ---- what /metrics and /healthz say ---- */

void agent_knows(struct agent *a, bool *what)
{
	pthread_mutex_lock(&a->lock);
	*what = true;
	pthread_mutex_unlock(&a->lock);
}

static void put_gauges(void *arg, FILE *f)
{
	struct agent *a = arg;
	unsigned busy = 0;
	pthread_mutex_lock(&a->lock);
	for (int i = 0; i < AGENT_BUSY_MAX; i++)
		busy += a->busy[i][0] != 0;
	pthread_mutex_unlock(&a->lock);
	(void)fprintf(f,
	              "# HELP godwit_outgoing Migrations that this node is checking or sending.\n"
	              "# TYPE godwit_outgoing gauge\ngodwit_outgoing %u\n",
	              busy);
}

static bool is_well(void *arg, char *why, size_t size)
{
	struct agent *a = arg;
	pthread_mutex_lock(&a->lock);
	bool nodes = a->knows_nodes, leases = a->knows_leases, well = nodes && leases && heard_is_synced(&a->heard);
	pthread_mutex_unlock(&a->lock);
	if (!well)
		(void)snprintf(why, size, "the API server has not told the %s yet",
		               !nodes   ? "Nodes"
		               : leases ? "Migrations"
		                        : "AddressLeases");
	return well;
}

/* ---- threads at work ---- */

bool agent_begin(struct agent *a, const char *uid)
{
	int at = -1;
	pthread_mutex_lock(&a->lock);
	for (int i = 0; i < AGENT_BUSY_MAX; i++) {
		if (!strcmp(a->busy[i], uid)) {
			at = -1;
			break;
		}
		if (!a->busy[i][0] && at < 0)
			at = i;
	}
	if (at >= 0)
		(void)snprintf(a->busy[at], sizeof(a->busy[at]), "%s", uid);
	pthread_mutex_unlock(&a->lock);
	return at >= 0;
}

void agent_end(struct agent *a, const char *uid)
{
	pthread_mutex_lock(&a->lock);
	for (int i = 0; i < AGENT_BUSY_MAX; i++)
		if (!strcmp(a->busy[i], uid))
			a->busy[i][0] = 0;
	pthread_mutex_unlock(&a->lock);
}

/* Hook of the engine: may this peer bring this migration? */
static bool may_come(void *arg, const char *mig, const char *peer)
{
	struct agent *a = arg;
	struct gw_migration m;
	return heard_latest(&a->heard, mig, &m) && !strcmp(m.source_node, peer) && !gw_migration_committed(&m) &&
	       !m.source_lost;
}

static enum gw_claim_life life_of(void *arg, const char *mig)
{
	struct agent *a = arg;
	switch (heard_life(&a->heard, mig)) {
	case HEARD_ENDED: return GW_CLAIM_OVER;
	case HEARD_UNKNOWN: return GW_CLAIM_UNKNOWN;
	case HEARD_GOES_ON: break;
	}
	return GW_CLAIM_GOES_ON;
}

/* ---- what a Migration asks for ---- */

bool agent_is_moving(const struct gw_migration *m)
{
	return !strcmp(m->phase, "PreCopy") || !strcmp(m->phase, "HandOver") || !strcmp(m->phase, "Freezing");
}

static void act_as_source(struct agent *a, const struct gw_migration *m)
{
	struct gw_err e;
	/* With its object gone a pod has nowhere to go back to. */
	bool handed = !strcmp(m->method, "SameName") && !strcmp(m->phase, "HandOver");
	if ((((m->cancel || m->deleting) && !handed) || m->abort) && !gw_migration_committed(m))
		(void)gw_source_cancel(a->d, m->uid, &e); /* what is not under way: agent_move */
	if (!strcmp(m->phase, "Checking"))
		agent_check(a, m);
	else if (agent_is_moving(m))
		agent_move(a, m);
	if (m->source_gone && gw_held_release(a->d, m->uid, &e) < 0)
		gw_debug("nothing to release", kv_str("mig", m->uid), kv_str("reason", e.text));
}

static void on_gone(void *arg, const struct gw_migration *m)
{
	struct agent *a = arg;
	struct gw_err e;
	if (strcmp(m->source_node, a->node) != 0)
		return;
	(void)gw_source_cancel(a->d, m->uid, &e);
	(void)gw_held_release(a->d, m->uid, &e);
}

static void on_migration(void *arg, enum gw_follow_what what, yyjson_val *object)
{
	struct agent *a = arg;
	struct gw_migration m;
	if (what == GW_FOLLOW_LISTING)
		heard_listing(&a->heard);
	if (what == GW_FOLLOW_SYNCED)
		heard_synced(&a->heard, on_gone, a);
	if (!object)
		return;
	gw_migration_parse(object, &m);
	bool source = !strcmp(m.source_node, a->node), target = !strcmp(m.target_node, a->node);
	if (!source && !target)
		return;
	heard_put(&a->heard, &m, what == GW_FOLLOW_DELETED);
	if (what == GW_FOLLOW_DELETED) {
		on_gone(a, &m);
		return;
	}
	if (target && m.source_lost && agent_is_moving(&m))
		agent_answer(a, &m);
	if (source)
		act_as_source(a, &m);
}

static void *follow_migrations(void *arg)
{
	struct agent *a = arg;
	struct gw_kube *k;
	struct gw_err e;
	if (gw_kube_open(&a->config, &k, &e) < 0) {
		gw_error("no Migrations can be followed", kv_str("reason", e.text));
		return NULL;
	}
	const struct gw_follow f = {.path = GW_MIGRATIONS, .stop_fd = a->d->stop_fd, .fn = on_migration, .ctx = a};
	gw_kube_follow(k, &f);
	gw_kube_close(k);
	return NULL;
}

int gw_agent_start(struct gw_daemon *d, const struct gw_agent_opts *o, struct gw_err *e)
{
	static struct agent a;
	int rc = gw_kube_config_find(o->kubeconfig, &a.config, e);
	if (rc < 0)
		return gw_wrap(e, "take part in a cluster");
	a.d = d;
	a.port = o->port;
	(void)snprintf(a.node, sizeof(a.node), "%s", o->node);
	pthread_mutex_init(&a.lock, NULL);
	heard_init(&a.heard);
	const struct gw_metrics_opts mo = {.listen = o->metrics, .more = put_gauges, .well = is_well, .ctx = &a};
	rc = o->metrics ? gw_metrics_start(&mo, &a.metrics, e) : 0;
	if (rc < 0)
		return rc;
	d->may_come = may_come;
	d->may_come_ctx = &a;
	d->claim_life = life_of;
	void *(*const threads[])(void *) = {agent_nodes, agent_leases, follow_migrations};
	for (size_t i = 0; i < gw_countof(threads); i++) {
		pthread_t t;
		rc = pthread_create(&t, NULL, threads[i], &a);
		if (rc != 0)
			return gw_fail(e, GW_SYS, rc, "start the agent's threads");
		pthread_detach(t);
	}
	if (*o->tls_dir && (rc = gw_identity_keep(d, &a.config, o, e)) < 0)
		return rc;
	gw_info("part of a cluster", kv_str("server", a.config.server), kv_str("node", a.node));
	return 0;
}
