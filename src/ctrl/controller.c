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
#include "ctrl/leases.h"
#include "kube/follow.h"
#include "kube/lease.h"
#include "kube/metrics.h"

enum {
	KNOWN_MAX = 4096,
	ROUNDS_MAX = 8,
	ACTIVE_LOOK_MS = 300,
	PLACING_LOOK_MS = 50,
	QUIET_LOOK_MS = 2000,
	IDLE_LOOK_MS = 10000,
	ALIVE_MS = 60000,
	EXIT_SYSTEM = 111
};

struct ctrl {
	struct ctrl_opts o;
	struct gw_kube_config config;
	struct ctrl_certs certs;
	int stop_fd, changed_fd;
	pthread_mutex_t lock; /* of what follows */
	struct gw_migration *known[KNOWN_MAX];
	bool synced, leading;
	uint64_t alive_ms; /* the last round */
	struct gw_metrics *metrics;
	struct ctrl_lease_sweep sweep;
	uint64_t asked[KNOWN_MAX];   /* requests made for each known one */
	unsigned told[KNOWN_MAX];    /* Events made */
	bool begun[KNOWN_MAX];       /* seen before its end, which is still to be counted */
	uint64_t look_ms[KNOWN_MAX]; /* when each is looked at again at the latest */
};

static struct gw_migration **slot_of(struct ctrl *c, const char *uid)
{
	struct gw_migration **none = NULL;
	for (int i = 0; i < KNOWN_MAX; i++) {
		if (c->known[i] && !strcmp(c->known[i]->uid, uid))
			return &c->known[i];
		if (!c->known[i] && !none)
			none = &c->known[i];
	}
	return none;
}

/* Under the lock, whenever a state is known. */
static void count_end(struct ctrl *c, size_t slot, const struct gw_migration *m)
{
	if (!gw_migration_over(m)) {
		c->begun[slot] = true;
	} else if (c->begun[slot]) {
		c->begun[slot] = false;
		if (c->leading)
			gw_metrics_ended(c->metrics, m->phase, !strcmp(m->phase, "Succeeded") ? "" : m->reason,
			                 m->freeze_us, m->sent_bytes);
	}
}

static void on_migration(void *arg, enum gw_follow_what what, yyjson_val *object)
{
	struct ctrl *c = arg;
	struct gw_migration m;
	uint64_t one = 1;
	pthread_mutex_lock(&c->lock);
	if (what == GW_FOLLOW_SYNCED)
		c->synced = true;
	if (object) {
		gw_migration_parse(object, &m);
		struct gw_migration **s = slot_of(c, m.uid);
		if (s && what != GW_FOLLOW_DELETED)
			count_end(c, (size_t)(s - c->known), &m);
		bool done = what == GW_FOLLOW_DELETED || (gw_migration_over(&m) && !m.finalized);
		if (s && done) {
			free(gw_take(*s));
			c->asked[s - c->known] = c->told[s - c->known] = 0;
			c->begun[s - c->known] = false;
		} else if (s) {
			if (!*s)
				*s = malloc(sizeof(**s));
			if (*s)
				**s = m;
			c->look_ms[s - c->known] = 0;
		}
		for (int i = 0; done && i < KNOWN_MAX; i++) /* whose turn it may be */
			if (c->known[i] && !strcmp(c->known[i]->phase, "Pending"))
				c->look_ms[i] = 0;
	}
	pthread_mutex_unlock(&c->lock);
	(void)!write(c->changed_fd, &one, sizeof(one));
}

static void *follow_main(void *arg)
{
	struct ctrl *c = arg;
	struct gw_kube *k;
	struct gw_err e;
	if (gw_kube_open(&c->config, &k, &e) < 0) {
		gw_error("no Migrations can be followed", kv_str("reason", e.text));
		return NULL;
	}
	const struct gw_follow f = {.path = GW_MIGRATIONS, .stop_fd = c->stop_fd, .fn = on_migration, .ctx = c};
	gw_kube_follow(k, &f);
	gw_kube_close(k);
	return NULL;
}

/* Those that use a place: begun and not over. */
static bool is_active(const struct gw_migration *m)
{
	return m->phase[0] && strcmp(m->phase, "Pending") != 0 && !gw_migration_over(m);
}

static void count_active(struct ctrl *c, const struct gw_migration *m, struct ctrl_seen *s)
{
	s->max_active = c->o.max_active;
	s->max_per_node = c->o.max_per_node;
	pthread_mutex_lock(&c->lock);
	for (int i = 0; i < KNOWN_MAX; i++) {
		const struct gw_migration *other = c->known[i];
		if (!other || !strcmp(other->uid, m->uid) || !is_active(other))
			continue;
		s->active++;
		bool shared = !strcmp(other->to, m->to) || !strcmp(other->source_node, s->source.node) ||
		              !strcmp(other->to, s->source.node) || !strcmp(other->source_node, m->to);
		s->active_on_nodes += shared;
	}
	pthread_mutex_unlock(&c->lock);
}

/* What we did to it, before the watch tells: the next one's limits depend on it. */
static void remember(struct ctrl *c, struct gw_kube *k, const struct gw_migration *m)
{
	pthread_mutex_lock(&c->lock);
	struct gw_migration **s = slot_of(c, m->uid);
	if (s && *s) {
		count_end(c, (size_t)(s - c->known), m);
		**s = *m;
		c->asked[s - c->known] = gw_kube_spent(k, NULL);
	}
	pthread_mutex_unlock(&c->lock);
}

/* A controller before this one has counted too: what it told is in the object. */
static void open_account(struct ctrl *c, struct gw_kube *k, const struct gw_migration *m)
{
	pthread_mutex_lock(&c->lock);
	struct gw_migration **s = slot_of(c, m->uid);
	uint64_t spent = s && *s ? c->asked[s - c->known] : 0;
	pthread_mutex_unlock(&c->lock);
	gw_kube_account(k, GW_BY_CONTROLLER, spent > m->asked_controller ? spent : m->asked_controller);
}

/* After what is urgent, and before what is over loses its finalizer. */
static void tell_events(struct ctrl *c, struct gw_kube *k, const struct gw_migration *m, const struct ctrl_view *v)
{
	unsigned due = ctrl_events_due(m), told = ~0u;
	pthread_mutex_lock(&c->lock);
	struct gw_migration **s = slot_of(c, m->uid);
	if (s && *s) {
		told = c->told[s - c->known];
		c->told[s - c->known] |= due;
	}
	pthread_mutex_unlock(&c->lock);
	if (due & ~told)
		ctrl_events_tell(k, m, v, c->o.identity, told, due);
}

/* As many actions as there are to do at once. */
static void reconcile(struct ctrl *c, struct gw_kube *k, struct gw_migration *m)
{
	for (int i = 0; i < ROUNDS_MAX; i++) {
		struct ctrl_view v = {.seen = {.m = m}};
		struct gw_err e = {.class = GW_OK};
		int rc = ctrl_observe(k, m, &v, &e);
		if (rc == 0 && !v.migration) {
			ctrl_view_done(&v);
			return;
		}
		struct ctrl_plan p = {.action = CTRL_NOTHING};
		if (rc == 0) {
			/* What the watch has not told yet is in the observation. */
			struct gw_migration now;
			gw_migration_parse(yyjson_doc_get_root(v.migration), &now);
			bool stale = strcmp(now.phase, m->phase) != 0 || now.source_gone != m->source_gone ||
			             strcmp(now.pod, m->pod) != 0 || now.finalized != m->finalized;
			*m = now;
			remember(c, k, m);
			if (stale) {
				ctrl_view_done(&v);
				continue;
			}
			count_active(c, m, &v.seen);
			p = ctrl_plan(&v.seen);
			if (p.action != CTRL_NOTHING)
				gw_info("migration", kv_str("name", m->name), kv_str("phase", m->phase),
				        kv_str("action", ctrl_action_name(p.action)), kv_str("reason", p.reason ?: ""));
			if (gw_migration_over(m) && m->finalized)
				tell_events(c, k, m, &v);
			rc = ctrl_act(k, m, &v, &p, c->o.port, &e);
			if (rc == 0 && !gw_migration_over(m))
				tell_events(c, k, m, &v);
		}
		ctrl_view_done(&v);
		if (rc < 0)
			gw_warn("not done; tried again", kv_str("name", m->name),
			        kv_str("action", ctrl_action_name(p.action)), kv_str("reason", e.text));
		if (rc != 0 || p.action == CTRL_NOTHING || p.action == CTRL_QUEUE)
			return;
	}
}

/* While the scheduler, kubelet or the deletion of a pod is waited for, pods are
 * looked at; else the watch tells when there is something to do, and a pod that
 * somebody deletes is noticed a little later. */
static unsigned look_every_ms(const struct gw_migration *m)
{
	if (!strcmp(m->phase, "Placing"))
		return PLACING_LOOK_MS;
	static const char *const busy[] = {"", "HandOver", "Committed", "Succeeded"};
	for (size_t i = 0; i < gw_countof(busy); i++)
		if (!strcmp(m->phase, busy[i]))
			return ACTIVE_LOOK_MS;
	return QUIET_LOOK_MS;
}

/* One look at all that are due. Returns how long to wait for the next. */
static int round_of_all(struct ctrl *c, struct gw_kube *k)
{
	int wait = IDLE_LOOK_MS;
	for (int i = 0; i < KNOWN_MAX; i++) {
		struct gw_migration m;
		pthread_mutex_lock(&c->lock);
		bool here = c->known[i] != NULL;
		uint64_t now = gw_now_ms(), at = c->look_ms[i];
		if (here && now >= at) {
			m = *c->known[i];
			c->look_ms[i] = at = now + look_every_ms(&m);
		} else if (here) {
			wait = (int)(at - now) < wait ? (int)(at - now) : wait;
			here = false;
		}
		pthread_mutex_unlock(&c->lock);
		if (!here)
			continue;
		open_account(c, k, &m);
		reconcile(c, k, &m);
		remember(c, k, &m);
		gw_kube_account(k, NULL, 0);
		int every = (int)look_every_ms(&m);
		wait = every < wait ? every : wait;
	}
	return wait;
}

/* Of its own accord nobody's address is freed while it is on its way. */
static bool is_moving(void *arg, const char *ns, const char *pod)
{
	struct ctrl *c = arg;
	bool moving = false;
	pthread_mutex_lock(&c->lock);
	for (int i = 0; i < KNOWN_MAX && !moving; i++)
		moving = c->known[i] && !strcmp(c->known[i]->namespace, ns) &&
		         (!strcmp(c->known[i]->pod, pod) || !strcmp(c->known[i]->target_pod, pod));
	pthread_mutex_unlock(&c->lock);
	return moving;
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
		pthread_mutex_lock(&c->lock);
		bool synced = c->synced;
		pthread_mutex_unlock(&c->lock);
		wait = gw_lease_hold(lease, k);
		pthread_mutex_lock(&c->lock);
		c->leading = gw_lease_is_held(lease);
		c->alive_ms = gw_now_ms();
		pthread_mutex_unlock(&c->lock);
		if (!gw_lease_is_held(lease) || !synced)
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
	pthread_mutex_lock(&c->lock);
	for (int i = 0; i < KNOWN_MAX; i++)
		for (size_t p = 0; c->known[i] && p < gw_countof(phases); p++)
			n[p] += !strcmp(c->known[i]->phase[0] ? c->known[i]->phase : "Pending", phases[p]);
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
	int rc = gw_kube_config_find(c->o.kubeconfig, &c->config, e);
	if (rc == 0)
		rc = open_metrics(c, e);
	if (rc == 0)
		rc = gw_kube_open(&c->config, k, e);
	if (rc < 0)
		return rc;
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
	ctrl_certs_join(&c.certs);
	gw_metrics_stop(c.metrics);
	gw_kube_close(k);
	gw_kube_config_done(&c.config);
	return 0;
}
