#include "ctrl/cluster.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/gw_log.h"
#include "base/scope.h"
#include "kube/follow.h"

enum { PATH_BYTES = 700 };
enum knowledge { UNKNOWN, HERE, ABSENT };

struct item {
	struct item *next;
	char uid[GW_K8S_UID]; /* of the migration */
	char path[PATH_BYTES];
	enum knowledge is;
	yyjson_doc *doc;  /* when HERE */
	uint64_t version; /* of the last state that is known, also when it is gone */
	uint64_t told;    /* how often it changed here */
};

struct known_node {
	struct ctrl_node n;
	uint64_t listing;
};

struct ctrl_cluster {
	struct ctrl_cluster_opts o;
	pthread_t threads[2];
	pthread_mutex_t lock; /* of what follows */
	struct item *items;
	uint64_t epoch; /* one more whenever the watch may have missed something */
	struct known_node *nodes;
	size_t nnodes, cap;
	uint64_t listing; /* number of the list of nodes */
	bool pods_synced, nodes_synced;
};

static yyjson_doc *copy_of(yyjson_val *object)
{
	gw_auto(jmut) yyjson_mut_doc *m = yyjson_mut_doc_new(NULL);
	yyjson_mut_doc_set_root(m, yyjson_val_mut_copy(m, object));
	yyjson_doc *doc = yyjson_mut_doc_imut_copy(m, NULL);
	assert(doc);
	return doc;
}

/* ---- pods, and what else has a path ---- */

static bool path_of(yyjson_val *o, char *out, size_t size)
{
	const char *kind = gw_json_str(o, "kind", "Pod"); /* a list's items have none */
	yyjson_val *meta = yyjson_obj_get(o, "metadata");
	const char *ns = gw_json_str(meta, "namespace", ""), *name = gw_json_str(meta, "name", "");
	bool pod = !strcmp(kind, "Pod");
	if (!*name || (!pod && strcmp(kind, "Job") != 0))
		return false;
	(void)snprintf(out, size, "/%s/namespaces/%s/%s/%s", pod ? "api/v1" : "apis/batch/v1", ns,
	               pod ? "pods" : "jobs", name);
	return true;
}

static struct item *find(struct ctrl_cluster *c, const char *uid, const char *path)
{
	for (struct item *i = c->items; i; i = i->next)
		if (!strcmp(i->path, path) && !strcmp(i->uid, uid))
			return i;
	return NULL;
}

static void set(struct item *i, enum knowledge is, yyjson_val *object)
{
	yyjson_doc_free(gw_take(i->doc));
	i->is = is;
	i->told++;
	if (is == HERE)
		i->doc = copy_of(object);
	if (object)
		i->version = gw_kube_version(object);
}

static void put_answer(struct item *i, int rc, yyjson_doc *doc)
{
	yyjson_val *object = doc ? yyjson_doc_get_root(doc) : NULL;
	if (rc == 0 && gw_kube_version(object) >= i->version)
		set(i, HERE, object);
	else if (rc == -ENOENT)
		set(i, ABSENT, NULL);
}

/* Asks. What the watch has told meanwhile is as new as the answer, or newer. */
static int ask(struct ctrl_cluster *c, struct gw_kube *k, const char *uid, const char *path, yyjson_doc **out,
               struct gw_err *e)
{
	struct gw_err mine;
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	pthread_mutex_lock(&c->lock);
	const struct item *before = find(c, uid, path);
	uint64_t epoch = c->epoch, told = before ? before->told : 0;
	pthread_mutex_unlock(&c->lock);
	int rc = gw_kube_get(k, path, &doc, &mine);
	if (rc < 0 && rc != -ENOENT) {
		*e = mine;
		return rc;
	}
	pthread_mutex_lock(&c->lock);
	struct item *i = find(c, uid, path);
	if (i && i->told == told && c->epoch == epoch)
		put_answer(i, rc, doc);
	if (i && i->is != UNKNOWN)
		*out = i->is == HERE ? copy_of(yyjson_doc_get_root(i->doc)) : NULL;
	else
		*out = gw_take(doc);
	pthread_mutex_unlock(&c->lock);
	return 0;
}

int ctrl_cluster_get(struct ctrl_cluster *c, struct gw_kube *k, const char *uid, const char *path, yyjson_doc **out,
                     struct gw_err *e)
{
	*out = NULL;
	pthread_mutex_lock(&c->lock);
	struct item *i = find(c, uid, path);
	if (!i) {
		i = calloc(1, sizeof(*i));
		assert(i);
		(void)snprintf(i->uid, sizeof(i->uid), "%s", uid);
		(void)snprintf(i->path, sizeof(i->path), "%s", path);
		i->next = c->items;
		c->items = i;
	}
	bool known = i->is != UNKNOWN;
	if (i->is == HERE)
		*out = copy_of(yyjson_doc_get_root(i->doc));
	pthread_mutex_unlock(&c->lock);
	return known ? 0 : ask(c, k, uid, path, out, e);
}

void ctrl_cluster_heard(struct ctrl_cluster *c, yyjson_val *object)
{
	char path[PATH_BYTES];
	if (!gw_json_str(object, "kind", "")[0] || !path_of(object, path, sizeof(path)))
		return;
	uint64_t version = gw_kube_version(object);
	pthread_mutex_lock(&c->lock);
	/* What is unknown will be asked for: an answer may be older than what was missed. */
	for (struct item *i = c->items; i; i = i->next)
		if (i->is != UNKNOWN && version > i->version && !strcmp(i->path, path))
			set(i, HERE, object);
	pthread_mutex_unlock(&c->lock);
}

void ctrl_cluster_told(struct ctrl_cluster *c, yyjson_val *pod, bool deleted)
{
	char path[PATH_BYTES];
	if (!path_of(pod, path, sizeof(path)))
		return;
	uint64_t version = gw_kube_version(pod);
	pthread_mutex_lock(&c->lock);
	for (struct item *i = c->items; i; i = i->next) {
		if (version < i->version || strcmp(i->path, path) != 0)
			continue;
		if (i->is == HERE && version == i->version && !deleted)
			continue; /* our own doing, heard before */
		set(i, deleted ? ABSENT : HERE, pod);
		c->o.changed(c->o.ctx, i->uid);
	}
	pthread_mutex_unlock(&c->lock);
}

void ctrl_cluster_doubt(struct ctrl_cluster *c, const char *uid)
{
	pthread_mutex_lock(&c->lock);
	for (struct item *i = c->items; i; i = i->next)
		if (!strcmp(i->uid, uid))
			i->is = UNKNOWN;
	pthread_mutex_unlock(&c->lock);
}

void ctrl_cluster_missed(struct ctrl_cluster *c)
{
	pthread_mutex_lock(&c->lock);
	c->pods_synced = true;
	c->epoch++; /* what is asked right now may be older */
	for (struct item *i = c->items; i; i = i->next) {
		i->is = UNKNOWN;
		c->o.changed(c->o.ctx, i->uid);
	}
	pthread_mutex_unlock(&c->lock);
}

void ctrl_cluster_forget(struct ctrl_cluster *c, const char *uid)
{
	pthread_mutex_lock(&c->lock);
	for (struct item **p = &c->items; *p;) {
		struct item *i = *p;
		if (strcmp(i->uid, uid) != 0) {
			p = &i->next;
			continue;
		}
		*p = i->next;
		yyjson_doc_free(i->doc);
		free(i);
	}
	pthread_mutex_unlock(&c->lock);
}

static void on_pod(void *arg, enum gw_follow_what what, yyjson_val *object)
{
	struct ctrl_cluster *c = arg;
	if (what == GW_FOLLOW_SYNCED)
		ctrl_cluster_missed(c);
	else if (object)
		ctrl_cluster_told(c, object, what == GW_FOLLOW_DELETED);
}

/* ---- nodes ---- */

void ctrl_node_parse(yyjson_val *object, struct ctrl_node *out)
{
	yyjson_val *meta = yyjson_obj_get(object, "metadata"), *spec = yyjson_obj_get(object, "spec"),
	           *status = yyjson_obj_get(object, "status");
	*out = (struct ctrl_node){.exists = true};
	(void)snprintf(out->name, sizeof(out->name), "%s", gw_json_str(meta, "name", ""));
	out->has_godwit = !strcmp(gw_json_str(yyjson_obj_get(meta, "labels"), "live.godwit.dev/node", ""), "true");
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(status, "addresses"));
	for (yyjson_val *v; (v = yyjson_arr_iter_next(&it));) {
		size_t n = strlen(out->addresses);
		if (!strcmp(gw_json_str(v, "type", ""), "InternalIP"))
			(void)snprintf(out->addresses + n, sizeof(out->addresses) - n, "%s%s", n ? "," : "",
			               gw_json_str(v, "address", ""));
	}
	for (size_t i = 0; i < gw_countof(out->ranges); i++)
		(void)snprintf(out->ranges[i], sizeof(out->ranges[i]), "%s",
		               yyjson_get_str(yyjson_arr_get(yyjson_obj_get(spec, "podCIDRs"), i)) ?: "");
	it = yyjson_arr_iter_with(yyjson_obj_get(status, "conditions"));
	for (yyjson_val *v; (v = yyjson_arr_iter_next(&it));)
		if (!strcmp(gw_json_str(v, "type", ""), "Ready")) {
			out->ready = !strcmp(gw_json_str(v, "status", ""), "True");
			out->ready_since_s = gw_k8s_time(gw_json_str(v, "lastTransitionTime", ""));
		}
	it = yyjson_arr_iter_with(yyjson_obj_get(spec, "taints"));
	for (yyjson_val *v; (v = yyjson_arr_iter_next(&it));)
		out->out_of_service |= !strcmp(gw_json_str(v, "key", ""), "node.kubernetes.io/out-of-service");
}

static struct known_node *find_node(struct ctrl_cluster *c, const char *name)
{
	for (size_t i = 0; i < c->nnodes; i++)
		if (!strcmp(c->nodes[i].n.name, name))
			return &c->nodes[i];
	return NULL;
}

/* Locked. true: something is new. */
static bool put_node(struct ctrl_cluster *c, const struct ctrl_node *n, bool gone)
{
	struct known_node *old = find_node(c, n->name);
	if (gone) {
		if (old)
			*old = c->nodes[--c->nnodes];
		return old;
	}
	if (!old && c->nnodes == c->cap) {
		size_t cap = c->cap ? c->cap * 2 : 16;
		struct known_node *more = realloc(c->nodes, cap * sizeof(*more));
		assert(more);
		c->nodes = more;
		c->cap = cap;
	}
	bool same = old && !memcmp(&old->n, n, sizeof(*n)); /* its heartbeat */
	if (!old)
		old = &c->nodes[c->nnodes++];
	*old = (struct known_node){.n = *n, .listing = c->listing};
	return !same;
}

static void on_node(void *arg, enum gw_follow_what what, yyjson_val *object)
{
	struct ctrl_cluster *c = arg;
	struct ctrl_node n;
	bool news = what == GW_FOLLOW_SYNCED;
	pthread_mutex_lock(&c->lock);
	if (what == GW_FOLLOW_LISTING)
		c->listing++;
	for (size_t i = 0; what == GW_FOLLOW_SYNCED && i < c->nnodes;)
		if (c->nodes[i].listing != c->listing)
			c->nodes[i] = c->nodes[--c->nnodes];
		else
			i++;
	if (what == GW_FOLLOW_SYNCED)
		c->nodes_synced = true;
	if (object) {
		ctrl_node_parse(object, &n);
		news = put_node(c, &n, what == GW_FOLLOW_DELETED);
	}
	if (news)
		c->o.changed(c->o.ctx, NULL);
	pthread_mutex_unlock(&c->lock);
}

int ctrl_cluster_node(struct ctrl_cluster *c, struct gw_kube *k, const char *name, bool live, struct ctrl_node *out,
                      struct gw_err *e)
{
	*out = (struct ctrl_node){.exists = false};
	if (live) {
		char path[400];
		struct gw_err mine;
		gw_auto(jdoc) yyjson_doc *doc = NULL;
		(void)snprintf(path, sizeof(path), "/api/v1/nodes/%s", name);
		int rc = gw_kube_get(k, path, &doc, &mine);
		if (rc == 0)
			ctrl_node_parse(yyjson_doc_get_root(doc), out);
		if (rc < 0 && rc != -ENOENT)
			*e = mine;
		return rc == -ENOENT ? 0 : rc;
	}
	pthread_mutex_lock(&c->lock);
	const struct known_node *n = find_node(c, name);
	if (n)
		*out = n->n;
	pthread_mutex_unlock(&c->lock);
	return 0;
}

/* ---- threads ---- */

static void follow(struct ctrl_cluster *c, const struct gw_follow *f)
{
	struct gw_kube *k;
	struct gw_err e;
	if (gw_kube_open(c->o.config, &k, &e) < 0) {
		gw_error("cannot be followed", kv_str("path", f->path), kv_str("reason", e.text));
		return;
	}
	gw_kube_follow(k, f);
	gw_kube_close(k);
}

static void *pods_main(void *arg)
{
	struct ctrl_cluster *c = arg;
	follow(c, &(struct gw_follow){
	                  .path = "/api/v1/pods", .tail = true, .stop_fd = c->o.stop_fd, .fn = on_pod, .ctx = c});
	return NULL;
}

static void *nodes_main(void *arg)
{
	struct ctrl_cluster *c = arg;
	follow(c, &(struct gw_follow){.path = "/api/v1/nodes", .stop_fd = c->o.stop_fd, .fn = on_node, .ctx = c});
	return NULL;
}

bool ctrl_cluster_is_synced(struct ctrl_cluster *c)
{
	pthread_mutex_lock(&c->lock);
	bool synced = c->pods_synced && c->nodes_synced;
	pthread_mutex_unlock(&c->lock);
	return synced;
}

struct ctrl_cluster *ctrl_cluster_new(const struct ctrl_cluster_opts *o)
{
	struct ctrl_cluster *c = calloc(1, sizeof(*c));
	assert(c);
	c->o = *o;
	pthread_mutex_init(&c->lock, NULL);
	return c;
}

void ctrl_cluster_free(struct ctrl_cluster *c)
{
	for (struct item *i = c->items, *next; i; i = next) {
		next = i->next;
		yyjson_doc_free(i->doc);
		free(i);
	}
	free(c->nodes);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

int ctrl_cluster_start(const struct ctrl_cluster_opts *o, struct ctrl_cluster **out, struct gw_err *e)
{
	struct ctrl_cluster *c = ctrl_cluster_new(o);
	int rc = pthread_create(&c->threads[0], NULL, pods_main, c);
	if (rc == 0)
		rc = pthread_create(&c->threads[1], NULL, nodes_main, c);
	if (rc != 0)
		return gw_fail(e, GW_SYS, rc, "follow pods and nodes"); /* the process ends */
	*out = c;
	return 0;
}

void ctrl_cluster_join(struct ctrl_cluster *c)
{
	for (size_t i = 0; i < gw_countof(c->threads); i++)
		(void)pthread_join(c->threads[i], NULL);
	ctrl_cluster_free(c);
}
