#include "ctrl/controller.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/gw_log.h"
#include "base/scope.h"
#include "ctrl/act.h"
#include "ctrl/certs.h"
#include "ctrl/events.h"
#include "ctrl/known.h"
#include "ctrl/leases.h"
#include "kube/lease.h"
#include "kube/metrics.h"

enum {
	ROUNDS_MAX = 8,
	LOOK_MS = 2000,   /* what passes without any news: time */
	AGAIN_MS = 500,   /* what has to wait, or failed */
	FRESH_MS = 30000, /* what a watch has kept to itself is found after so long */
	IDLE_LOOK_MS = 10000,
	ALIVE_MS = 60000,
	EXIT_SYSTEM = 111
};

struct ctrl {
	struct ctrl_opts o;
	struct gw_kube_config config;
	struct ctrl_certs certs;
	int stop_fd, changed_fd;
	struct ctrl_known *known;
	struct ctrl_known_watch watch;
	struct ctrl_cluster *cluster;
	struct gw_metrics *metrics;
	struct ctrl_lease_sweep sweep;
	pthread_mutex_t lock; /* of what follows */
	bool leading;
	uint64_t alive_ms; /* the last round */
};

static void *follow_main(void *arg)
{
	struct ctrl *c = arg;
	struct gw_kube *k;
	struct gw_err e;
	if (gw_kube_open(&c->config, &k, &e) < 0) {
		gw_error("no Migrations can be followed", kv_str("reason", e.text));
		return NULL;
	}
	const struct gw_follow f = {
	        .path = GW_MIGRATIONS, .stop_fd = c->stop_fd, .fn = ctrl_known_told, .ctx = &c->watch};
	gw_kube_follow(k, &f);
	gw_kube_close(k);
	return NULL;
}

static void on_done(void *arg, const char *uid)
{
	struct ctrl *c = arg;
	ctrl_cluster_forget(c->cluster, uid);
}

static void on_changed(void *arg, const char *uid)
{
	struct ctrl *c = arg;
	ctrl_known_wake(c->known, uid);
}

/* What we write is known before the watch tells it. */
static void on_answer(void *arg, yyjson_val *object)
{
	struct ctrl *c = arg;
	ctrl_known_heard(c->known, object);
	ctrl_cluster_heard(c->cluster, object);
}

/* ---- one Migration ---- */

static yyjson_val *status_of(const struct ctrl_view *v)
{
	return yyjson_obj_get(yyjson_doc_get_root(v->migration), "status");
}

/* What must not follow from news that are late: it is looked at once more, at the API server. */
static bool is_grave(const struct ctrl_plan *p, const struct ctrl_view *v)
{
	enum ctrl_action a = p->action;
	if (a == CTRL_HAND_OVER) /* the source's object is about to go */
		return v->seen.source.exists && yyjson_obj_get(status_of(v), "successor");
	return a == CTRL_FAIL || a == CTRL_CANCELLED || a == CTRL_ABORT || a == CTRL_ASK_TARGET;
}

static int refresh(struct ctrl *c, struct gw_kube *k, const struct gw_migration *m, bool pods, struct gw_err *e)
{
	char path[700];
	gw_migration_path(m, "", path, sizeof(path));
	int rc = gw_kube_get(k, path, NULL, e); /* on_answer takes it */
	if (rc == -ENOENT)
		ctrl_known_gone(c->known, m->uid);
	if (pods)
		ctrl_cluster_doubt(c->cluster, m->uid);
	return rc == -ENOENT ? 0 : rc;
}

/* A controller before this one has counted too: what it told is in the object. */
static void open_account(struct ctrl *c, struct gw_kube *k, const struct gw_migration *m)
{
	uint64_t spent = ctrl_known_asked(c->known, m->uid);
	gw_kube_account(k, GW_BY_CONTROLLER, spent > m->asked_controller ? spent : m->asked_controller);
}

static void tell_events(struct ctrl *c, struct gw_kube *k, const struct gw_migration *m, const struct ctrl_view *v)
{
	unsigned due = ctrl_known_untold(c->known, m->uid, ctrl_events_due(m));
	if (due)
		ctrl_events_tell(k, m, v, c->o.identity, 0, due);
}

/* One action, if there is one to do. 1: there may be another. */
static int step(struct ctrl *c, struct gw_kube *k, const struct gw_migration *m, struct ctrl_view *v, bool *live,
                struct gw_err *e)
{
	int rc = ctrl_observe(k, m, v, *live, e);
	if (rc < 0)
		return rc;
	v->seen.max_active = c->o.max_active;
	v->seen.max_per_node = c->o.max_per_node;
	ctrl_known_active(c->known, m, v->seen.source.node, &v->seen.active, &v->seen.active_on_nodes);
	struct ctrl_plan p = ctrl_plan(&v->seen);
	if (is_grave(&p, v) && !*live) {
		*live = true;
		rc = refresh(c, k, m, p.action != CTRL_HAND_OVER, e);
		return rc < 0 ? rc : 1;
	}
	*live = false;
	if (p.action != CTRL_NOTHING)
		gw_info("migration", kv_str("name", m->name), kv_str("phase", m->phase),
		        kv_str("action", ctrl_action_name(p.action)), kv_str("reason", p.reason ?: ""));
	/* After what is urgent, and before what is over loses its finalizer. */
	if (p.action == CTRL_NOTHING || gw_migration_over(m))
		tell_events(c, k, m, v);
	rc = ctrl_act(k, m, v, &p, c->o.port, e);
	if (rc < 0 || (rc > 0 && !gw_migration_over(m)))
		ctrl_cluster_doubt(c->cluster, m->uid);
	if (rc != 0)
		ctrl_known_within(c->known, m->uid, AGAIN_MS);
	if (rc < 0)
		gw_warn("not done; tried again", kv_str("name", m->name), kv_str("action", ctrl_action_name(p.action)),
		        kv_str("reason", e->text));
	return rc == 0 && p.action != CTRL_NOTHING && p.action != CTRL_QUEUE;
}

/* As many actions as there are to do at once. */
static void reconcile(struct ctrl *c, struct gw_kube *k, const char *uid)
{
	struct gw_migration m;
	struct gw_err e = {.class = GW_OK};
	bool live = false;
	if (!ctrl_known_get(c->known, uid, &m, NULL))
		return;
	open_account(c, k, &m);
	bool active = m.phase[0] && strcmp(m.phase, "Pending") != 0;
	int again = 1;
	if (active && ctrl_known_is_stale(c->known, uid, FRESH_MS) && refresh(c, k, &m, true, &e) < 0)
		again = 0;
	for (int i = 0; again == 1 && i < ROUNDS_MAX; i++) {
		struct ctrl_view v = {.cluster = c->cluster, .seen = {.m = &m}};
		if (!ctrl_known_get(c->known, uid, &m, &v.migration))
			break;
		again = step(c, k, &m, &v, &live, &e);
		ctrl_view_done(&v);
	}
	ctrl_known_ask(c->known, uid, gw_kube_spent(k, NULL));
	gw_kube_account(k, NULL, 0);
	if (!ctrl_known_get(c->known, uid, &m, NULL))
		ctrl_cluster_forget(c->cluster, uid); /* it may have been told before the last look */
}

/* One look at all that are due. Returns how long to wait for the next. */
static int round_of_all(struct ctrl *c, struct gw_kube *k)
{
	char uid[GW_K8S_UID];
	for (int i = 0; i < CTRL_KNOWN_MAX; i++)
		if (ctrl_known_due(c->known, i, LOOK_MS, uid))
			reconcile(c, k, uid);
	return ctrl_known_wait(c->known, IDLE_LOOK_MS);
}

/* Of its own accord nobody's address is freed while it is on its way. */
static bool is_moving(void *arg, const char *ns, const char *pod)
{
	const struct ctrl *c = arg;
	return ctrl_known_is_moving(c->known, ns, pod);
}

static void lead(struct ctrl *c, struct gw_kube *k, struct gw_lease *lease, int signals)
{
	int wait = 0;
	for (;;) {
		struct pollfd p[2] = {{.fd = signals, .events = POLLIN}, {.fd = c->changed_fd, .events = POLLIN}};
		if (poll(p, 2, wait) > 0 && p[0].revents)
			return;
		uint64_t times;
		(void)!read(c->changed_fd, &times, sizeof(times));
		wait = gw_lease_hold(lease, k);
		bool leads = gw_lease_is_held(lease);
		pthread_mutex_lock(&c->lock);
		c->leading = leads;
		c->alive_ms = gw_now_ms();
		pthread_mutex_unlock(&c->lock);
		ctrl_known_lead(c->known, leads, c->metrics);
		if (!leads || !ctrl_known_is_synced(c->known) || !ctrl_cluster_is_synced(c->cluster))
			continue;
		ctrl_leases_sweep(&c->sweep, k, is_moving, c);
		int next = round_of_all(c, k);
		wait = next < wait ? next : wait;
	}
}

/* ---- what /metrics and /healthz say ---- */

static void put_gauges(void *arg, FILE *f)
{
	static const char *const phases[] = {"Pending",  "Checking",  "Placing",   "PreCopy", "HandOver",
	                                     "Freezing", "Committed", "Succeeded", "Failed",  "Cancelled"};
	struct ctrl *c = arg;
	unsigned n[gw_countof(phases)] = {0};
	ctrl_known_count(c->known, phases, gw_countof(phases), n);
	pthread_mutex_lock(&c->lock);
	bool leading = c->leading;
	pthread_mutex_unlock(&c->lock);
	(void)fprintf(f,
	              "# HELP godwit_leader Whether this controller is the one that acts.\n"
	              "# TYPE godwit_leader gauge\ngodwit_leader %d\n"
	              "# HELP godwit_migrations Migrations that are not done with, by phase.\n"
	              "# TYPE godwit_migrations gauge\n",
	              leading);
	for (size_t p = 0; p < gw_countof(phases); p++)
		(void)fprintf(f, "godwit_migrations{phase=\"%s\"} %u\n", phases[p], n[p]);
}

static bool is_well(void *arg, char *why, size_t size)
{
	struct ctrl *c = arg;
	pthread_mutex_lock(&c->lock);
	bool alive = gw_now_ms() - c->alive_ms < ALIVE_MS;
	pthread_mutex_unlock(&c->lock);
	if (!alive)
		(void)snprintf(why, size, "no round has ended for %d s: the API server does not answer, or this hangs",
		               ALIVE_MS / 1000);
	return alive;
}

static int open_metrics(struct ctrl *c, struct gw_err *e)
{
	const struct gw_metrics_opts o = {.listen = c->o.metrics, .more = put_gauges, .well = is_well, .ctx = c};
	c->alive_ms = gw_now_ms();
	return c->o.metrics ? gw_metrics_start(&o, &c->metrics, e) : 0;
}

static int begin(struct ctrl *c, int *signals, struct gw_kube **k, struct gw_err *e)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)pthread_sigmask(SIG_BLOCK, &set, NULL);
	*signals = signalfd(-1, &set, SFD_CLOEXEC);
	c->stop_fd = eventfd(0, EFD_CLOEXEC);
	c->changed_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (*signals < 0 || c->stop_fd < 0 || c->changed_fd < 0)
		return gw_fail(e, GW_SYS, errno, "start the controller");
	c->known = ctrl_known_new(c->changed_fd);
	c->watch = (struct ctrl_known_watch){.r = c->known, .done = on_done, .ctx = c};
	int rc = gw_kube_config_find(c->o.kubeconfig, &c->config, e);
	if (rc == 0)
		rc = open_metrics(c, e);
	if (rc == 0)
		rc = gw_kube_open(&c->config, k, e);
	const struct ctrl_cluster_opts co = {
	        .config = &c->config, .stop_fd = c->stop_fd, .changed = on_changed, .ctx = c};
	if (rc == 0)
		rc = ctrl_cluster_start(&co, &c->cluster, e);
	if (rc < 0)
		return rc;
	gw_kube_hear(*k, on_answer, c);
	c->certs = (struct ctrl_certs){.config = &c->config, .namespace = c->o.lease_namespace, .stop_fd = c->stop_fd};
	return ctrl_certs_start(&c->certs, e);
}

int ctrl_run(const struct ctrl_opts *o)
{
	static struct ctrl c;
	struct gw_err e = {.class = GW_OK};
	struct gw_kube *k = NULL;
	pthread_t follower;
	int signals = -1;
	c.o = *o;
	pthread_mutex_init(&c.lock, NULL);
	if (begin(&c, &signals, &k, &e) < 0 || pthread_create(&follower, NULL, follow_main, &c) != 0) {
		gw_error("cannot start", kv_str("reason", e.text));
		return e.class == GW_INPUT ? 2 : EXIT_SYSTEM;
	}
	gw_info("ready", kv_str("server", c.config.server), kv_str("identity", o->identity),
	        kv_str("version", GODWIT_VERSION));
	struct gw_lease lease;
	gw_lease_init(&lease, o->lease_namespace, "godwit-controller", o->identity);
	lead(&c, k, &lease, signals);
	gw_info("ending");
	gw_lease_release(&lease, k);
	uint64_t one = 1;
	(void)!write(c.stop_fd, &one, sizeof(one));
	(void)pthread_join(follower, NULL);
	ctrl_cluster_join(c.cluster);
	ctrl_certs_join(&c.certs);
	gw_metrics_stop(c.metrics);
	ctrl_known_free(c.known);
	gw_kube_close(k);
	gw_kube_config_done(&c.config);
	return 0;
}
