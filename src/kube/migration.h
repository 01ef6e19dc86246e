#pragma once
#include "kube/client.h"

/* migration: the Migration object (deploy/crds, docs/kube.md), as the programs
 * that meet in it read and write it. Plain values, fixed sizes (an API server
 * refuses longer names); owned by the caller. */
enum { GW_K8S_NAME = 254, GW_K8S_NS = 64, GW_K8S_UID = 40, GW_K8S_LABEL = 64, GW_CONTAINERS_MAX = 16 };

struct gw_migration {
	char namespace[GW_K8S_NS], name[GW_K8S_NAME], uid[GW_K8S_UID];
	bool deleting, finalized; /* deletionTimestamp is set; our finalizer is on it */
	int64_t created_s;        /* since 1970 */
	/* spec */
	char pod[GW_K8S_NAME]; /* podName, or what the controller found for the target */
	char workload[340];    /* target: KIND/NAME; "": podName */
	char to[GW_K8S_NAME];
	bool cancel, fallback_evict, check_only;
	uint64_t max_freeze_ms, want_freeze_ms, bandwidth, timeout_s; /* 0: the default */
	bool throttle, zstd;
	/* status */
	char phase[16], reason[64], method[16];
	char source_uid[GW_K8S_UID], source_node[GW_K8S_NAME], source_address[128];
	unsigned ncontainers; /* status.source.containers, in the order in which they are started */
	struct gw_k8s_container {
		char name[GW_K8S_LABEL], id[128];
	} containers[GW_CONTAINERS_MAX];
	char target_pod[GW_K8S_NAME], target_uid[GW_K8S_UID], target_node[GW_K8S_NAME], target_address[128];
	bool checked;          /* status.network is there */
	bool abort;            /* the controller asks the agent to end it */
	bool source_gone;      /* the source pod's object is gone or going */
	bool source_lost;      /* its node is: the destination is asked whether there was a commit */
	char job[GW_K8S_NAME]; /* status.job: the source's, and its podReplacementPolicy before */
	char job_policy[32];
	/* requests to the API server made for it so far, by whom */
	uint64_t asked_controller, asked_agents;
	uint64_t freeze_us, sent_bytes; /* status.result */
};

#define GW_MIGRATIONS "/apis/godwit.dev/v1alpha1/migrations"
#define GW_FINALIZER  "godwit.dev/migration"

void gw_migration_parse(yyjson_val *object, struct gw_migration *out);
/* The path of one, "" or "/status" behind it. */
void gw_migration_path(const struct gw_migration *m, const char *sub, char *out, size_t size);
bool gw_migration_over(const struct gw_migration *m); /* Succeeded, Failed or Cancelled */
/* From Freezing's end on nobody may undo it. */
bool gw_migration_committed(const struct gw_migration *m);

/* Accounts (gw_kube_account) whose state every patch of a status takes along. */
#define GW_BY_CONTROLLER "controller"
#define GW_BY_AGENTS     "agents"
/* Merge {"status": *status} into it. status is freed. */
int gw_migration_patch_status(struct gw_kube *k, const struct gw_migration *m, yyjson_mut_doc *status,
                              struct gw_err *e);
/* The usual one: a phase with its reason and words (NULL: none). */
int gw_migration_phase(struct gw_kube *k, const struct gw_migration *m, const char *phase, const char *reason,
                       const char *message, struct gw_err *e);
yyjson_mut_doc *gw_migration_phase_doc(const char *phase, const char *reason, const char *message);
/* A status to add to: doc with an object as root. */
yyjson_mut_doc *gw_status_new(void);

/* RFC 3339, as the API writes times; 0 when it is none. And now, as text. */
int64_t gw_k8s_time(const char *text);
void gw_k8s_now(char out[32]);
void gw_k8s_now_us(char out[64]); /* with microseconds: a MicroTime */
