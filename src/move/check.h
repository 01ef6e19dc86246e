#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/gw_err.h"
#include "base/json.h"
#include "ckpt/container.h"

/* check: can this container move to that host? Answered without freezing.
 *
 * Every reason has a stable code, words for this case, and a way out; all
 * possible ones stand in one table (gw_reason_table), from which
 * docs/limits.md is generated. What passes the check moves; what would fail
 * in the freeze must be found here.
 * Pure of state; any thread. Takes milliseconds, reads /proc of the
 * container's processes. */
enum { GW_REASONS_MAX = 64 };

struct gw_reason {
	char code[40];
	char text[300];    /* this case: which process, which file */
	char way_out[300]; /* what to do about it */
	bool is_warning;   /* moves all the same, but slower or with a difference */
	uint32_t more;     /* further cases of this code that were left out */
};

struct gw_reasons {
	size_t n;
	struct gw_reason r[GW_REASONS_MAX];
};

/* Add a case of a row of the table. Past three of a code only `more` grows;
 * bytes that are not printable UTF-8 become '?' (paths and process names are
 * the container's to choose). */
[[gnu::format(printf, 3, 4)]]
void gw_reasons_add(struct gw_reasons *rs, const char *code, const char *fmt, ...);
/* An error of another layer with a code of the table. false: not of that kind. */
bool gw_reasons_add_err(struct gw_reasons *rs, const struct gw_err *e);
void gw_reasons_merge(struct gw_reasons *into, const struct gw_reasons *from); /* without what is there already */
bool gw_reasons_blocked(const struct gw_reasons *rs);                          /* any that is no warning */
void gw_reasons_to_json(const struct gw_reasons *rs, yyjson_mut_doc *doc, yyjson_mut_val *arr);
int gw_reasons_from_json(yyjson_val *arr, struct gw_reasons *out, struct gw_err *e);

/* What one host can do; each godwitd collects its own and sends it. */
struct gw_facts {
	char host[128];
	char kernel[128];
	char arch[16];
	int criu_version; /* major * 10000 + minor * 100 + sub, 0: none */
	int runc_version; /* the same, 0: none */
	bool criu_lazy_pages;
	char criu_why[200]; /* what CRIU says when it can't look at its kernel */
	bool userfaultfd;
	bool track_uffd, track_soft_dirty; /* as a source */
	bool can_hold;                     /* nfqueue, with nft or iptables */
	char hold_why[200];
	bool cgroup_v2;
	bool selinux; /* on: every process has a label that CRIU gives back */
	uint64_t mem_available_bytes;
	char cpu_vendor[32];
	char *cpu_flags; /* as in /proc/cpuinfo, sorted, owned */
};
int gw_facts_collect(const char *host, const char *criu, const char *runc, struct gw_facts *out, struct gw_err *e);
void gw_facts_done(struct gw_facts *f);
void gw_facts_to_json(const struct gw_facts *f, yyjson_mut_doc *doc, yyjson_mut_val *obj);
int gw_facts_from_json(yyjson_val *obj, struct gw_facts *out, struct gw_err *e); /* a peer's: all checked */

/* The source's own view plus the comparison of both hosts; there NULL: only
 * the former. Waits some 20 ms when it has to look twice (a connection not
 * yet accepted, a task in the kernel). */
int gw_check(const struct gw_container *c, const struct gw_facts *here, const struct gw_facts *there,
             struct gw_reasons *out, struct gw_err *e);
/* Memory the destination will need for it: anonymous and shared pages. */
int gw_check_memory(const struct gw_container *c, uint64_t *out_bytes, struct gw_err *e);

/* The destination's view of a container that wants to come: rootfs and bind
 * sources exist, no container of that name, room. config_json: its bundle's;
 * a root.path relative to the bundle can't be looked for and is passed over.
 * id NULL: a container runtime makes it here (move/claim.h), with a name, a root
 * and mounts of its own. */
int gw_check_arrival(const char *id, const char *runc_root, const char *config_json, uint64_t rss_bytes,
                     struct gw_reasons *out, struct gw_err *e);

/* Of a pod whose name stays: only under godwit's runtime is it out of kubelet's reach
 * while its object is replaced. Asked of containerd's shim, so that it does not
 * matter whether the pod names the runtime or the node has it as its default. */
void gw_check_runtime(const struct gw_container *c, struct gw_reasons *out);

struct gw_reason_row {
	const char *group; /* a heading of docs/limits.md */
	const char *code, *what, *way_out;
	bool is_warning;
};
extern const struct gw_reason_row gw_reason_table[]; /* ends with code NULL */
