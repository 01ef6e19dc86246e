#pragma once
#include "kube/migration.h"

/* plan: what the controller does next about one Migration.
 *
 *   "" ─▶ Checking ─▶ Placing ─▶ PreCopy ─▶ (HandOver) ─▶ Freezing ─▶ Committed ─▶ Succeeded
 *             │           │          │           │            │
 *             └───────────┴──────────┴───────────┴────────────┴─▶ Failed, Cancelled
 *
 * The node agent of the source (src/node) takes it from Checking to Placing and
 * from PreCopy to Committed; the controller does the rest. Level-triggered: the
 * same observation gives the same action, and an action that was done changes
 * the observation. So a controller may die anywhere.
 *
 * Invariants (tests/unit/ctrl):
 *   1  From PreCopy until the agent says Failed, Cancelled or Committed the
 *      controller ends nothing: it can only ask (ABORT). It cannot know whether
 *      the commit has been. When the source's node is lost it asks the
 *      destination instead (ASK_TARGET), which says Committed or, when it can
 *      never be committed any more, Failed; only when both nodes are off nothing
 *      runs that could say it.
 *   2  A target pod is deleted only when the agent has said Failed or Cancelled,
 *      or before PreCopy.
 *   3  A source pod's object is deleted only after Committed, or in HandOver.
 *   4  source.gone, which ends the dead copy, is said only when the source's
 *      object is gone or going.
 *   5  The target gets its owner only after Committed, and the source is deleted
 *      only when it has it: the ReplicaSet never counts one too few.
 *      A Job's pod changes places in another order: job.h.
 *   6  One action at a time; none for what is over and has no finalizer.
 *
 * Pure. Any thread. */
enum ctrl_action {
	CTRL_NOTHING,
	CTRL_FINALIZE,    /* our finalizer, so that a deletion is seen */
	CTRL_FAIL,        /* reason and words below; nothing was begun on the nodes */
	CTRL_CANCELLED,   /* likewise */
	CTRL_CHOOSE,      /* spec.target: this is the pod */
	CTRL_QUEUE,       /* Pending: other migrations first, or the pod is only starting */
	CTRL_RESOLVE,     /* source, target, method: Checking */
	CTRL_MAKE_TARGET, /* Clone: the target pod; SameName: a placeholder */
	CTRL_PLACED,      /* it has its node: PreCopy */
	CTRL_ABORT,       /* ask the agent to end it */
	CTRL_ASK_TARGET,  /* ask the destination's agent whether there was a commit */
	CTRL_TELL,        /* why it does not go on */
	CTRL_HAND_OVER,   /* SameName: placeholder and source's object go, the target comes */
	CTRL_ADOPT,       /* owner and labels */
	CTRL_DELETE_SOURCE,
	CTRL_UNVEIL,    /* SameName: labels and owner it was made without (services.h) */
	CTRL_JOB_NOTE,  /* job.h: 1 */
	CTRL_JOB_WAIT,  /* 1 */
	CTRL_JOB_LEAVE, /* 2 */
	CTRL_JOB_ADOPT, /* 3 */
	CTRL_JOB_FREE,  /* 4 */
	CTRL_SOURCE_GONE,
	CTRL_SUCCEED,
	CTRL_CLEAN, /* after a failure: target or placeholder go; what was asked for instead */
	CTRL_UNFINALIZE,
};
const char *ctrl_action_name(enum ctrl_action a);

struct ctrl_pod {
	bool exists, terminating, running, ready, ended;
	char uid[GW_K8S_UID], node[GW_K8S_NAME];
	char migration[GW_K8S_UID]; /* annotation godwit.dev/migration */
	char owner_kind[64];        /* of the controller; "" for none */
	bool mirror, host_network;
	bool http_hook;                          /* a lifecycle hook that is a request to its address */
	unsigned containers, running_containers; /* of the spec; those that run */
	unsigned sidecars, running_sidecars;     /* native ones */
	bool unschedulable;                      /* and why: */
	char words[300];
};

/* What is known of a node's life. */
enum ctrl_life {
	CTRL_LIVES,
	CTRL_SILENT, /* not Ready for longer than a migration may take: off, or cut off */
	CTRL_OFF,    /* there is no such Node, or somebody has said that it is off (taint out-of-service) */
};

struct ctrl_seen {
	const struct gw_migration *m;
	struct ctrl_pod source; /* what has the source's name, when it is the source (uid), or before that is known */
	struct ctrl_pod target; /* target, or placeholder */
	/* while spec.target is not resolved: its pod, or why there is none */
	char chosen[GW_K8S_NAME];
	const char *unchosen;
	char unchosen_words[500];
	bool to_exists, to_has_godwit;
	enum ctrl_life source_life, to_life; /* from PreCopy on */
	unsigned active, active_on_nodes, max_active, max_per_node;
	/* after the commit: the source is a Job's, whose podReplacementPolicy is now */
	bool of_job;
	bool veiled; /* SameName: the target lacks labels it is to have */
	/* SameName, the source's object is gone and so is the target's: does the owner still want a pod
	 * of that name? "" it does, or why not */
	char unwanted_words[300];
	char job_policy[32];
	int64_t phase_age_s; /* since the last change */
	bool agent_told;     /* ABORT was said */
};

struct ctrl_plan {
	enum ctrl_action action;
	const char *reason; /* of FAIL, QUEUE, ABORT, ASK_TARGET and TELL */
	const char *words;
};

struct ctrl_plan ctrl_plan(const struct ctrl_seen *s);
