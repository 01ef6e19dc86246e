/* agent_leases: addresses of pods that live away from their range, as the
 * AddressLease objects name them: not given out here, and routes to where they are. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/gw_log.h"
#include "base/io.h"
#include "base/scope.h"
#include "cni/fabric.h"
#include "cni/ipam.h"
#include "kube/address_lease.h"
#include "node/agent_priv.h"

enum { LEASES_MAX = 65536, AWAY_WITHOUT_LEASE_S = 600 };

struct leases {
	struct agent *a;
	struct gw_kube *ask; /* the other one is busy with the watch */
	struct gw_address_lease *l;
	size_t count, cap;
	bool *told;               /* since the last list began */
	struct gw_addr ranges[2]; /* this node's podCIDRs */
	unsigned nranges;
};

static size_t find(const struct leases *s, const char *name)
{
	size_t i = 0;
	while (i < s->count && strcmp(s->l[i].name, name) != 0)
		i++;
	return i;
}

static bool address_of(const char *list, int family, struct gw_addr *out)
{
	char all[160], *save = NULL;
	(void)snprintf(all, sizeof(all), "%s", list);
	for (char *one = strtok_r(all, ",", &save); one; one = strtok_r(NULL, ",", &save))
		if (gw_addr_parse(one, out) == 0 && out->family == family)
			return true;
	return false;
}

static bool in_own_range(const struct leases *s, const struct gw_addr *a)
{
	for (unsigned i = 0; i < s->nranges; i++) {
		const struct gw_addr *r = &s->ranges[i];
		unsigned whole = r->prefix / 8, rest = r->prefix % 8;
		uint8_t mask = (uint8_t)(0xff00u >> rest);
		if (r->family == a->family && !memcmp(a->bytes, r->bytes, whole) &&
		    (rest == 0 || (a->bytes[whole] & mask) == (r->bytes[whole] & mask)))
			return true;
	}
	return false;
}

/* Of this node, which may be so new that it has none yet. */
static void learn_ranges(struct leases *s)
{
	char path[400];
	struct gw_err e;
	gw_auto(jdoc) yyjson_doc *node = NULL;
	(void)snprintf(path, sizeof(path), "/api/v1/nodes/%s", s->a->node);
	if (gw_kube_get(s->ask, path, &node, &e) < 0) {
		gw_warn("this node's ranges are not known", kv_str("reason", e.text));
		return;
	}
	yyjson_val *cidrs = yyjson_obj_get(yyjson_obj_get(yyjson_doc_get_root(node), "spec"), "podCIDRs");
	yyjson_arr_iter it = yyjson_arr_iter_with(cidrs);
	s->nranges = 0;
	for (yyjson_val *v; s->nranges < gw_countof(s->ranges) && (v = yyjson_arr_iter_next(&it));)
		if (gw_addr_parse(yyjson_get_str(v) ?: "", &s->ranges[s->nranges]) == 0)
			s->nranges++;
}

/* Reserved everywhere, whatever the plugin's ranges are. The note says whether the
 * address is of this node's range: then godwit cannot leave this node before the
 * address is free (src/install). */
static void apply(struct leases *s, const struct gw_address_lease *l)
{
	struct gw_addr a, via;
	struct gw_err e;
	const char *dir = s->a->d->cfg.cni_dir;
	if (gw_addr_parse(l->address, &a) < 0) {
		gw_warn("an AddressLease without an address", kv_str("name", l->name));
		return;
	}
	/* On the node that it has left its pod's record is still there: AddressInUse. */
	char note[300];
	if (!s->nranges)
		learn_ranges(s);
	(void)snprintf(note, sizeof(note), "%s%s", in_own_range(s, &a) ? "home, lives on " : "lives on ", l->node);
	if (gw_ipam_reserve(dir, &a, note, &e) < 0)
		gw_debug("address reserved, but in use", kv_str("address", l->address), kv_str("reason", e.text));
	if (!strcmp(l->node, s->a->node) || !address_of(l->node_addresses, a.family, &via))
		return;
	if (gw_fabric_pod_put(&a, &via, &e) < 0)
		gw_error("no route to a pod that has moved", kv_str("address", l->address), kv_str("node", l->node),
		         kv_str("reason", e.text));
}

static void end_of(struct leases *s, const char *address)
{
	struct gw_addr a;
	struct gw_err e;
	const char *dir = s->a->d->cfg.cni_dir;
	if (gw_addr_parse(address, &a) < 0)
		return;
	if (gw_fabric_pod_remove(&a, &e) < 0)
		gw_error("route to a moved pod stays", kv_str("address", address), kv_str("reason", e.text));
	if (gw_ipam_away_clear(dir, &a, &e) < 0 || gw_ipam_unreserve(dir, &a, &e) < 0)
		gw_error("address stays reserved", kv_str("address", address), kv_str("reason", e.text));
}

static void put(struct leases *s, const struct gw_address_lease *l)
{
	size_t i = find(s, l->name);
	if (i == s->cap) {
		size_t cap = s->cap ? s->cap * 2 : 64;
		struct gw_address_lease *more = cap <= LEASES_MAX ? realloc(s->l, cap * sizeof(*more)) : NULL;
		if (more)
			s->l = more;
		bool *told = more ? realloc(s->told, cap * sizeof(*told)) : NULL;
		if (!told) {
			gw_error("too many address leases", kv_str("address", l->address));
			return;
		}
		s->told = told;
		s->cap = cap;
	}
	if (i == s->count)
		s->count++;
	s->l[i] = *l;
	s->told[i] = true;
	apply(s, l);
}

static void drop(struct leases *s, size_t i)
{
	char address[64];
	(void)snprintf(address, sizeof(address), "%s", s->l[i].address);
	s->count--;
	s->l[i] = s->l[s->count];
	s->told[i] = s->told[s->count];
	end_of(s, address);
}

/* What a godwitd before this one knew and is over: its files tell. An address that
 * is away and has no lease for minutes was never leased, or its lease ended. */
static void clean_files(struct leases *s, const char *kind, time_t older_s)
{
	char path[PATH_MAX + 300], name[64];
	gw_path(path, sizeof(path), "%s/%s", s->a->d->cfg.cni_dir, kind);
	DIR *dir = opendir(path);
	for (struct dirent *f; dir && (f = readdir(dir));) {
		struct stat st;
		if (f->d_name[0] == '.' || strlen(f->d_name) >= sizeof(name))
			continue;
		gw_address_lease_name(f->d_name, name);
		if (find(s, name) < s->count)
			continue;
		if (fstatat(dirfd(dir), f->d_name, &st, 0) == 0 && time(NULL) - st.st_mtime >= older_s)
			end_of(s, f->d_name);
	}
	if (dir)
		(void)closedir(dir);
}

static void on_lease(void *arg, enum gw_follow_what what, yyjson_val *object)
{
	struct leases *s = arg;
	struct gw_address_lease l;
	for (size_t i = 0; what == GW_FOLLOW_LISTING && i < s->count; i++)
		s->told[i] = false;
	if (what == GW_FOLLOW_SYNCED) {
		for (size_t i = s->count; i-- > 0;)
			if (!s->told[i])
				drop(s, i);
		clean_files(s, "reserved", 0);
		clean_files(s, "away", AWAY_WITHOUT_LEASE_S);
		agent_knows(s->a, &s->a->knows_leases);
	}
	if (!object || gw_address_lease_parse(object, &l) < 0)
		return;
	if (what != GW_FOLLOW_DELETED) {
		put(s, &l);
		return;
	}
	size_t i = find(s, l.name);
	if (i < s->count)
		drop(s, i);
}

void *agent_leases(void *arg)
{
	struct leases s = {.a = arg};
	struct gw_kube *k;
	struct gw_err e;
	if (gw_kube_open(&s.a->config, &k, &e) < 0 || gw_kube_open(&s.a->config, &s.ask, &e) < 0) {
		gw_error("no AddressLeases can be followed", kv_str("reason", e.text));
		return NULL;
	}
	const struct gw_follow f = {.path = GW_ADDRESS_LEASES, .stop_fd = s.a->d->stop_fd, .fn = on_lease, .ctx = &s};
	gw_kube_follow(k, &f);
	gw_kube_close(k);
	gw_kube_close(s.ask);
	free(s.l);
	free(s.told);
	return NULL;
}
