/* agent_nodes: the other nodes, as the Node objects name them: addresses of
 * their godwitd (the hosts file) and routes to their pods. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/gw_log.h"
#include "base/io.h"
#include "base/scope.h"
#include "cni/fabric.h"
#include "node/agent_priv.h"

enum { NODES_MAX = 5000, CIDRS_MAX = 2 };

struct node {
	char name[128];
	char addrs[128]; /* InternalIP, one a family, comma between */
	char cidrs[CIDRS_MAX][64];
};

struct nodes {
	struct agent *a;
	struct node *n;
	size_t count, cap;
	bool synced;
};

static void parse(yyjson_val *object, struct node *out)
{
	*out = (struct node){0};
	(void)snprintf(out->name, sizeof(out->name), "%s", gw_json_str(yyjson_obj_get(object, "metadata"), "name", ""));
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(yyjson_obj_get(object, "status"), "addresses"));
	for (yyjson_val *v; (v = yyjson_arr_iter_next(&it));) {
		size_t len = strlen(out->addrs);
		if (!strcmp(gw_json_str(v, "type", ""), "InternalIP"))
			(void)snprintf(out->addrs + len, sizeof(out->addrs) - len, "%s%s", len ? "," : "",
			               gw_json_str(v, "address", ""));
	}
	yyjson_val *cidrs = yyjson_obj_get(yyjson_obj_get(object, "spec"), "podCIDRs");
	for (size_t i = 0; i < CIDRS_MAX; i++)
		(void)snprintf(out->cidrs[i], sizeof(out->cidrs[i]), "%s",
		               yyjson_get_str(yyjson_arr_get(cidrs, i)) ?: "");
}

static struct node *find(struct nodes *s, const char *name)
{
	for (size_t i = 0; i < s->count; i++)
		if (!strcmp(s->n[i].name, name))
			return &s->n[i];
	return NULL;
}

static void write_hosts(struct nodes *s)
{
	char *text = NULL;
	size_t size;
	struct gw_err e;
	FILE *f = open_memstream(&text, &size);
	if (!f)
		return;
	for (size_t i = 0; i < s->count; i++)
		if (s->n[i].addrs[0])
			(void)fprintf(f, "%s %s %u\n", s->n[i].name, s->n[i].addrs, s->a->port);
	(void)fclose(f);
	gw_auto(mem) char *mine = text;
	if (gw_write_file(s->a->d->cfg.hosts_path, mine, size, &e) < 0)
		gw_error("the other nodes are not on file", kv_str("reason", e.text));
}

/* The node's address of the range's family. */
static bool address_for(const struct node *n, int family, struct gw_addr *out)
{
	char list[sizeof(n->addrs)], *save = NULL;
	(void)snprintf(list, sizeof(list), "%s", n->addrs);
	for (char *one = strtok_r(list, ",", &save); one; one = strtok_r(NULL, ",", &save))
		if (gw_addr_parse(one, out) == 0 && out->family == family)
			return true;
	return false;
}

static void set_routes(struct nodes *s, const struct node *n, bool gone)
{
	struct gw_addr range, via;
	struct gw_err e;
	if (!strcmp(n->name, s->a->node))
		return;
	for (size_t i = 0; i < CIDRS_MAX; i++) {
		if (!n->cidrs[i][0] || gw_addr_parse(n->cidrs[i], &range) < 0)
			continue;
		int rc = 0;
		if (gone)
			rc = gw_fabric_remove(&range, &e);
		else if (address_for(n, range.family, &via))
			rc = gw_fabric_put(&range, &via, &e);
		if (rc < 0)
			gw_error("no route to a node's pods", kv_str("node", n->name), kv_str("range", n->cidrs[i]),
			         kv_str("reason", e.text));
	}
}

static void put(struct nodes *s, const struct node *n)
{
	struct node *old = find(s, n->name);
	if (old && !memcmp(old, n, sizeof(*n)))
		return; /* its heartbeat */
	if (!old && s->count == s->cap) {
		size_t cap = s->cap ? s->cap * 2 : 16;
		struct node *more = cap <= NODES_MAX * 2 ? realloc(s->n, cap * sizeof(*more)) : NULL;
		if (!more) {
			gw_error("too many nodes", kv_str("node", n->name));
			return;
		}
		s->n = more;
		s->cap = cap;
	}
	if (!old)
		old = &s->n[s->count++];
	*old = *n;
	set_routes(s, n, false);
	if (s->synced)
		write_hosts(s);
}

static void on_node(void *arg, enum gw_follow_what what, yyjson_val *object)
{
	struct nodes *s = arg;
	struct node n;
	if (what == GW_FOLLOW_SYNCED) {
		s->synced = true;
		agent_knows(s->a, &s->a->knows_nodes);
		write_hosts(s);
	}
	if (!object)
		return;
	parse(object, &n);
	if (what != GW_FOLLOW_DELETED) {
		put(s, &n);
		return;
	}
	struct node *old = find(s, n.name);
	if (old) {
		set_routes(s, old, true);
		*old = s->n[--s->count];
		write_hosts(s);
	}
}

void *agent_nodes(void *arg)
{
	struct nodes s = {.a = arg};
	struct gw_kube *k;
	struct gw_err e;
	if (gw_kube_open(&s.a->config, &k, &e) < 0) {
		gw_error("no Nodes can be followed", kv_str("reason", e.text));
		return NULL;
	}
	const struct gw_follow f = {.path = "/api/v1/nodes", .stop_fd = s.a->d->stop_fd, .fn = on_node, .ctx = &s};
	gw_kube_follow(k, &f);
	gw_kube_close(k);
	free(s.n);
	return NULL;
}
