#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/gw_err.h"
#include "base/json.h"
#include "net/pod.h"

/* config: what a container runtime says to a CNI plugin.
 *
 * The environment (CNI_COMMAND and the like) and the network configuration
 * on stdin, checked and turned into plain values. Source: the CNI
 * specification 1.1.0 (and 0.4.0, 1.0.0). Errors carry a reason code of the
 * table in cni/result.h. Limits: 1 MiB of configuration. Pure but for getenv. */
enum { GW_CNI_RANGES_MAX = 8, GW_CNI_ID_MAX = 128, GW_CNI_CONF_MAX = 1 << 20 };

enum gw_cni_command {
	GW_CNI_ADD,
	GW_CNI_DEL,
	GW_CNI_CHECK,
	GW_CNI_GC,
	GW_CNI_STATUS,
	GW_CNI_VERSION,
};

struct gw_cni_env {
	enum gw_cni_command command;
	const char *container; /* "" where the command takes none */
	const char *ifname;
	const char *netns; /* "": not given, which DEL may do */
};

/* Strings belong to the environment. */
int gw_cni_env_read(struct gw_cni_env *out, struct gw_err *e);

struct gw_cni_conf {
	yyjson_doc *doc; /* owns every string below */
	const char *version;
	const char *name; /* of the network */
	const char *data_dir;
	const char *uplink; /* NULL: the link of the default route */
	uint32_t mtu;       /* 0: the uplink's */
	unsigned nranges;
	struct gw_addr ranges[GW_CNI_RANGES_MAX];
	yyjson_val *dns;        /* handed through, NULL: none */
	yyjson_val *prev;       /* prevResult, NULL: none */
	yyjson_val *valid;      /* GC's list of attachments, NULL: none */
	const char *migration;  /* NULL: an ordinary pod */
	struct gw_pod arriving; /* with migration: the pod's network as it is on its source */
};
static inline void gw_end_cni_conf(struct gw_cni_conf *c)
{
	yyjson_doc_free(c->doc);
	c->doc = NULL;
}

/* What the command does not need is not asked for: DEL and GC work without ranges. */
int gw_cni_conf_parse(const char *text, size_t len, enum gw_cni_command command, struct gw_cni_conf *out,
                      struct gw_err *e);

/* As containers and networks are named: a letter or digit, then those and "_.-". */
bool gw_cni_is_name(const char *text, size_t max);

const char *gw_cni_default_data_dir(void);
