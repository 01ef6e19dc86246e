#include "cni/config.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MTU_MIN = 576, MTU_MIN_V6 = 1280, MTU_MAX = 65535, PATH_LEN_MAX = 200 };

/* Where containerd puts the pod's annotations for a plugin with this capability. */
static const char annotations_key[] = "io.kubernetes.cri.pod-annotations";
static const char migration_key[] = "godwit.dev/migration";
static const char network_key[] = "godwit.dev/network";

static const struct {
	const char *name;
	enum gw_cni_command command;
} commands[] = {
        {"ADD", GW_CNI_ADD}, {"DEL", GW_CNI_DEL},       {"CHECK", GW_CNI_CHECK},
        {"GC", GW_CNI_GC},   {"STATUS", GW_CNI_STATUS}, {"VERSION", GW_CNI_VERSION},
};

const char *gw_cni_default_data_dir(void)
{
	return "/var/lib/godwit/cni";
}

bool gw_cni_is_name(const char *text, size_t max)
{
	size_t n = strlen(text);
	if (n == 0 || n > max || !isalnum((unsigned char)text[0]))
		return false;
	for (size_t i = 1; i < n; i++)
		if (!isalnum((unsigned char)text[i]) && !strchr("_.-", text[i]))
			return false;
	return true;
}

static bool is_ifname(const char *s)
{
	size_t n = strlen(s);
	if (n == 0 || n >= IFNAMSIZ || !strcmp(s, ".") || !strcmp(s, "..") || !strcmp(s, "lo"))
		return false;
	for (size_t i = 0; i < n; i++)
		if (s[i] == '/' || s[i] == ':' || !isgraph((unsigned char)s[i]))
			return false;
	return true;
}

static int bad_env(struct gw_err *e, const char *name, const char *value, const char *why)
{
	return gw_fail_code(e, GW_INPUT, "BadEnvironment", "%s=%.100s: %s", name, value, why);
}

static const char *env(const char *name)
{
	const char *v = getenv(name);
	return v ? v : "";
}

int gw_cni_env_read(struct gw_cni_env *out, struct gw_err *e)
{
	struct gw_cni_env v = {
	        .container = env("CNI_CONTAINERID"), .ifname = env("CNI_IFNAME"), .netns = env("CNI_NETNS")};
	const char *command = env("CNI_COMMAND");
	size_t i = 0;
	while (i < gw_countof(commands) && strcmp(commands[i].name, command) != 0)
		i++;
	if (i == gw_countof(commands))
		return bad_env(e, "CNI_COMMAND", command, "must be ADD, DEL, CHECK, GC, STATUS or VERSION");
	v.command = commands[i].command;
	bool add = v.command == GW_CNI_ADD, check = v.command == GW_CNI_CHECK;
	if (add || check || v.command == GW_CNI_DEL) {
		if (!gw_cni_is_name(v.container, GW_CNI_ID_MAX))
			return bad_env(e, "CNI_CONTAINERID", v.container,
			               "must be 1 to 128 letters, digits, \"_\", \".\", \"-\"");
		if (!is_ifname(v.ifname))
			return bad_env(e, "CNI_IFNAME", v.ifname, "is no name for a container's interface");
	}
	if ((add || check) && !v.netns[0])
		return bad_env(e, "CNI_NETNS", "", "must be the path of the container's network namespace");
	*out = v;
	return 0;
}

static int bad(struct gw_err *e, const char *key, const char *why)
{
	return gw_fail_code(e, GW_INPUT, "BadConfig", "configuration: \"%s\" %s", key, why);
}

static int get_version(yyjson_val *obj, struct gw_cni_conf *c, enum gw_cni_command command, struct gw_err *e)
{
	static const char *const known[] = {"0.4.0", "1.0.0", "1.1.0"};
	yyjson_val *v = yyjson_obj_get(obj, "cniVersion");
	/* The specification: one that does not say is of the first version. */
	const char *s = yyjson_is_str(v) ? yyjson_get_str(v) : v ? "" : "0.1.0";
	size_t i = 0;
	while (i < gw_countof(known) && strcmp(s, known[i]) != 0)
		i++;
	if (i == gw_countof(known) && command != GW_CNI_VERSION)
		return gw_fail_code(e, GW_INPUT, "BadVersion",
		                    "configuration: cniVersion \"%.20s\" is not known: 0.4.0, 1.0.0 and 1.1.0 are", s);
	c->version = i < gw_countof(known) ? known[i] : "1.1.0";
	if ((command == GW_CNI_GC || command == GW_CNI_STATUS) && strcmp(c->version, "1.1.0") != 0)
		return gw_fail_code(e, GW_INPUT, "BadVersion",
		                    "configuration: cniVersion %s has no GC and no STATUS: 1.1.0 has", c->version);
	return 0;
}

static bool only_prefix(const struct gw_addr *a)
{
	for (unsigned bit = a->prefix; bit < (a->family == AF_INET ? 32u : 128u); bit++)
		if (a->bytes[bit / 8] & (0x80u >> bit % 8))
			return false;
	return true;
}

static bool overlap(const struct gw_addr *a, const struct gw_addr *b)
{
	if (a->family != b->family)
		return false;
	unsigned bits = a->prefix < b->prefix ? a->prefix : b->prefix;
	for (unsigned i = 0; i < bits; i++)
		if ((a->bytes[i / 8] ^ b->bytes[i / 8]) & (0x80u >> i % 8))
			return false;
	return true;
}

static int get_ranges(yyjson_val *obj, struct gw_cni_conf *c, struct gw_err *e)
{
	static const uint8_t zero[15];
	yyjson_val *arr = yyjson_obj_get(obj, "ranges"), *v;
	size_t i, max;
	if (arr && !yyjson_is_arr(arr))
		return bad(e, "ranges", "is no list");
	if (yyjson_arr_size(arr) > GW_CNI_RANGES_MAX)
		return bad(e, "ranges", "has more than 8 entries");
	yyjson_arr_foreach(arr, i, max, v)
	{
		struct gw_addr a;
		if (!yyjson_is_str(v) || !strchr(yyjson_get_str(v), '/') || gw_addr_parse(yyjson_get_str(v), &a) < 0)
			return bad(e, "ranges",
			           "holds something that is no range like 10.244.1.0/24 or fd44:0:0:1::/64");
		if (!only_prefix(&a))
			return bad(e, "ranges", "holds a range with bits set behind its prefix");
		bool v4 = a.family == AF_INET;
		if (v4 ? a.prefix < 8 || a.bytes[0] == 0 || a.bytes[0] == 127 || a.bytes[0] >= 224
		       : a.prefix < 16 || !memcmp(a.bytes, zero, 10) || a.bytes[0] == 0xff || a.bytes[0] == 0xfe)
			return bad(e, "ranges", "holds a range that is no range for pods");
		for (unsigned k = 0; k < c->nranges; k++)
			if (overlap(&a, &c->ranges[k]))
				return bad(e, "ranges", "holds ranges that overlap");
		c->ranges[c->nranges++] = a;
	}
	return 0;
}

static int get_data_dir(yyjson_val *obj, struct gw_cni_conf *c, struct gw_err *e)
{
	yyjson_val *v = yyjson_obj_get(obj, "dataDir");
	if (v && !yyjson_is_str(v))
		return bad(e, "dataDir", "is no string");
	c->data_dir = gw_json_str(obj, "dataDir", gw_cni_default_data_dir());
	if (c->data_dir[0] != '/' || strlen(c->data_dir) > PATH_LEN_MAX)
		return bad(e, "dataDir", "must be an absolute path of at most 200 bytes");
	return 0;
}

static int get_link(yyjson_val *obj, struct gw_cni_conf *c, struct gw_err *e)
{
	yyjson_val *mtu = yyjson_obj_get(obj, "mtu"), *uplink = yyjson_obj_get(obj, "uplink");
	uint64_t min = MTU_MIN;
	for (unsigned i = 0; i < c->nranges; i++)
		if (c->ranges[i].family == AF_INET6)
			min = MTU_MIN_V6;
	if (mtu) {
		uint64_t n = yyjson_is_uint(mtu) ? yyjson_get_uint(mtu) : 1;
		if (n != 0 && (n < min || n > MTU_MAX))
			return bad(e, "mtu", "must be 0 (the uplink's), or 576 (1280 with IPv6) to 65535");
		c->mtu = (uint32_t)n;
	}
	c->uplink = gw_json_str(obj, "uplink", NULL);
	if (uplink && (!c->uplink || !is_ifname(c->uplink)))
		return bad(e, "uplink", "is no name of an interface");
	return 0;
}

/* What would have no effect must not look as if it had. */
static int refuse_unsupported(yyjson_val *obj, enum gw_cni_command command, struct gw_err *e)
{
	if (yyjson_obj_size(yyjson_obj_get(obj, "ipam")))
		return gw_fail_code(
		        e, GW_INPUT, "UnsupportedField",
		        "configuration: \"ipam\": {...}: godwit-cni gives out addresses itself; use \"ranges\"");
	if (gw_json_bool(obj, "ipMasq", false))
		return gw_fail_code(
		        e, GW_INPUT, "UnsupportedField",
		        "configuration: \"ipMasq\": true: a masqueraded connection can't move with its pod; "
		        "masquerade on the cluster's edge");
	if (command == GW_CNI_ADD && yyjson_is_obj(yyjson_obj_get(obj, "prevResult")))
		return gw_fail_code(
		        e, GW_INPUT, "UnsupportedField",
		        "configuration: \"prevResult\": {...}: godwit-cni makes the pod's interface and must be "
		        "the first plugin of its list");
	return 0;
}

static int get_migration(yyjson_val *obj, struct gw_cni_conf *c, struct gw_err *e)
{
	yyjson_val *notes = yyjson_obj_get(yyjson_obj_get(obj, "runtimeConfig"), annotations_key);
	const char *id = gw_json_str(notes, migration_key, NULL);
	const char *text = gw_json_str(notes, network_key, NULL);
	if (!id)
		return 0;
	if (!gw_cni_is_name(id, GW_CNI_ID_MAX))
		return gw_fail_code(e, GW_INPUT, "BadMigration", "annotation %s: \"%.100s\" is no migration's id",
		                    migration_key, id);
	if (!text)
		return gw_fail_code(e, GW_INPUT, "BadMigration", "annotation %s of migration %s is missing",
		                    network_key, id);
	yyjson_doc *d = NULL;
	int rc = gw_json_parse(text, strlen(text), network_key, &d, e);
	if (rc == 0)
		rc = gw_pod_from_json(yyjson_doc_get_root(d), &c->arriving, e);
	yyjson_doc_free(d);
	if (rc < 0) {
		struct gw_err why = {0};
		if (e)
			why = *e;
		return gw_fail_code(e, GW_INPUT, "BadMigration", "annotation %s of migration %s: %.300s", network_key,
		                    id, why.text);
	}
	c->migration = id;
	return 0;
}

static int get_all(yyjson_val *obj, struct gw_cni_conf *c, enum gw_cni_command command, struct gw_err *e)
{
	c->name = gw_json_str(obj, "name", "");
	if (!gw_cni_is_name(c->name, GW_CNI_ID_MAX))
		return bad(e, "name", "is missing or no network's name: letters, digits, \"_\", \".\", \"-\"");
	int rc = get_data_dir(obj, c, e);
	if (rc == 0 && command != GW_CNI_DEL && command != GW_CNI_GC) {
		rc = refuse_unsupported(obj, command, e);
		if (rc == 0)
			rc = get_ranges(obj, c, e);
		if (rc == 0)
			rc = get_link(obj, c, e);
	}
	if (rc == 0 && command == GW_CNI_ADD)
		rc = get_migration(obj, c, e);
	if (rc < 0)
		return rc;
	/* A pod that moves in has its address. */
	if (!c->nranges && !c->migration && (command == GW_CNI_ADD || command == GW_CNI_STATUS))
		return bad(e, "ranges", "is missing: the node's podCIDRs, like [\"10.244.1.0/24\"]");
	yyjson_val *dns = yyjson_obj_get(obj, "dns"), *prev = yyjson_obj_get(obj, "prevResult");
	c->dns = yyjson_is_obj(dns) ? dns : NULL;
	c->prev = yyjson_is_obj(prev) ? prev : NULL;
	/* The first release of libcni with GC and the specification differ in the name. */
	c->valid = yyjson_obj_get(obj, "cni.dev/valid-attachments");
	if (!c->valid)
		c->valid = yyjson_obj_get(obj, "cni.dev/attachments");
	if (command == GW_CNI_GC && !yyjson_is_arr(c->valid))
		return bad(e, "cni.dev/valid-attachments", "is missing or no list");
	if (command == GW_CNI_CHECK && !c->prev)
		return bad(e, "prevResult", "is missing: CHECK compares with what ADD gave");
	return 0;
}

int gw_cni_conf_parse(const char *text, size_t len, enum gw_cni_command command, struct gw_cni_conf *out,
                      struct gw_err *e)
{
	gw_auto(cni_conf) struct gw_cni_conf c = {0};
	struct gw_err mine = {0};
	if (gw_json_parse(text, len, "the configuration on stdin", &c.doc, &mine) < 0)
		return gw_fail_code(e, GW_INPUT, "BadJson", "%.400s", mine.text);
	yyjson_val *obj = yyjson_doc_get_root(c.doc);
	if (!yyjson_is_obj(obj))
		return gw_fail_code(e, GW_INPUT, "BadJson", "the configuration on stdin is no JSON object");
	int rc = get_version(obj, &c, command, e);
	if (rc == 0 && command != GW_CNI_VERSION)
		rc = get_all(obj, &c, command, e);
	if (rc < 0)
		return rc;
	*out = c;
	c.doc = NULL;
	return 0;
}
