#include "ctrl/plan.h"

#include <string.h>

enum {
	CHECK_TAKES_S = 60,
	PLACING_TAKES_S = 300,
	READY_TAKES_S = 60,
	START_TAKES_S = 30,
	TIMEOUT_S = 600,
	SLACK_S = 60
};

static struct ctrl_plan act(enum ctrl_action a)
{
	return (struct ctrl_plan){.action = a};
}

static struct ctrl_plan fail(const char *reason, const char *words)
{
	return (struct ctrl_plan){.action = CTRL_FAIL, .reason = reason, .words = words};
}

static bool is(const struct ctrl_seen *s, const char *phase)
{
	return !strcmp(s->m->phase, phase);
}

static bool unwanted(const struct ctrl_seen *s)
{
	return s->m->cancel || s->m->deleting;
}

static bool same_name(const struct ctrl_seen *s)
{
	return !strcmp(s->m->method, "SameName");
}

static bool ours(const struct ctrl_seen *s, const struct ctrl_pod *p)
{
	return p->exists && !strcmp(p->migration, s->m->uid);
}

/* What can be said of the pod itself, before any node is asked. */
static struct ctrl_plan judge(const struct ctrl_seen *s)
{
	const struct ctrl_pod *p = &s->source;
	if (!p->exists)
		return fail("NoSuchPod", "there is no such pod in this namespace");
	if (p->mirror)
		return fail("StaticPod", "a static pod belongs to its node: its manifest lies there");
	if (!strcmp(p->owner_kind, "DaemonSet"))
		return fail("DaemonSet", "a DaemonSet's pod belongs to its node; the other node has one of its own");
	bool renamed = !strcmp(p->owner_kind, "ReplicaSet") || !strcmp(p->owner_kind, "Job");
	if (p->owner_kind[0] && !renamed && strcmp(p->owner_kind, "StatefulSet") != 0)
		return fail("UnknownOwner", "the pod's controller is neither a ReplicaSet nor a StatefulSet nor a Job");
	if (p->host_network)
		return fail("HostNetwork", "the pod uses its node's network: its address belongs to the node");
	if (p->http_hook)
		return fail("HttpHook", "a postStart or preStop hook is an HTTP request: kubelet would send it to the "
		                        "moved pod, which has the address; let it be an exec");
	if (p->terminating || !p->running)
		return fail("NotRunning", "the pod is not running (or is being deleted)");
	if (p->running_containers != p->containers || p->running_sidecars != p->sidecars)
		return fail("NotRunning", "not every container of the pod is running");
	if (p->containers + p->sidecars > GW_CONTAINERS_MAX)
		return fail("SeveralContainers", "a pod of more than 16 containers");
	if (!strcmp(p->node, s->m->to))
		return fail("SameNode", "the pod is on that node already");
	if (!s->to_exists)
		return fail("NoSuchNode", "there is no node of that name (spec.to)");
	if (!s->to_has_godwit)
		return fail("NodeWithoutGodwit", "godwitd is not on that node: label it live.godwit.dev/node=true");
	return act(CTRL_NOTHING);
}

/* Pending, for that reason. */
static struct ctrl_plan queue(const struct ctrl_seen *s, const char *reason, const char *words)
{
	return is(s, "Pending") && !strcmp(s->m->reason, reason)
	               ? act(CTRL_NOTHING)
	               : (struct ctrl_plan){.action = CTRL_QUEUE, .reason = reason, .words = words};
}

/* A pod that starts, or a container that starts anew, or kubelet has not said yet that
 * it runs: that passes, if it is given a moment. */
static bool may_start_yet(const struct ctrl_seen *s, const struct ctrl_plan *bad)
{
	if (bad->action != CTRL_FAIL || strcmp(bad->reason, "NotRunning") != 0 || s->m->check_only)
		return false;
	bool waited = is(s, "Pending") && !strcmp(s->m->reason, "NotRunning") && s->phase_age_s > START_TAKES_S;
	return !s->source.terminating && !s->source.ended && !waited;
}

static struct ctrl_plan first(const struct ctrl_seen *s)
{
	if (unwanted(s))
		return act(CTRL_CANCELLED);
	if (!s->m->finalized)
		return act(CTRL_FINALIZE);
	if (!s->m->pod[0])
		return s->chosen[0] ? act(CTRL_CHOOSE) : fail(s->unchosen, s->unchosen_words);
	struct ctrl_plan bad = judge(s);
	if (may_start_yet(s, &bad))
		return queue(s, "NotRunning", "the pod does not run yet; waiting 30 s for all its containers");
	if (bad.action != CTRL_NOTHING)
		return bad;
	if (s->active >= s->max_active || s->active_on_nodes >= s->max_per_node)
		return queue(s, "Queued", "other migrations come first (limits of the cluster or of a node)");
	return act(CTRL_RESOLVE);
}

static struct ctrl_plan place(const struct ctrl_seen *s)
{
	if (unwanted(s))
		return act(CTRL_CANCELLED);
	if (!ours(s, &s->target))
		return s->target.exists ? fail("NameTaken", "there is another pod of the target's name")
		                        : act(CTRL_MAKE_TARGET);
	if (s->target.node[0])
		return act(CTRL_PLACED);
	if (s->target.unschedulable)
		return fail("NoCapacity", s->target.words);
	if (s->phase_age_s > PLACING_TAKES_S)
		return fail("NotPlaced", "the scheduler has not placed the target pod within 5 minutes");
	return act(CTRL_NOTHING);
}

static struct ctrl_plan ask_end(const struct ctrl_seen *s, const char *reason, const char *words)
{
	return s->agent_told ? act(CTRL_NOTHING)
	                     : (struct ctrl_plan){.action = CTRL_ABORT, .reason = reason, .words = words};
}

/* The source's node is off, or silent: then its godwitd says nothing, and only the
 * destination's can. A name whose object is gone must not start a second time while
 * its process may run on a node that is only cut off. */
static struct ctrl_plan lost(const struct ctrl_seen *s)
{
	if (s->source_life == CTRL_OFF && s->to_life == CTRL_OFF)
		return fail("SourceLost", "both nodes are off");
	if (s->source_life == CTRL_SILENT && same_name(s) && is(s, "HandOver"))
		return !strcmp(s->m->reason, "SourceSilent")
		               ? act(CTRL_NOTHING)
		               : (struct ctrl_plan){.action = CTRL_TELL,
		                                    .reason = "SourceSilent",
		                                    .words = "the source's node is not ready: when it is off, delete "
		                                             "its Node or taint it node.kubernetes.io/out-of-service"};
	if (s->m->source_lost)
		return act(CTRL_NOTHING);
	return (struct ctrl_plan){.action = CTRL_ASK_TARGET,
	                          .reason = "SourceLost",
	                          .words = "the source's node is lost; godwitd of the destination has not yet said "
	                                   "whether there was a commit"};
}

static struct ctrl_plan under_way(const struct ctrl_seen *s)
{
	if (s->source_life != CTRL_LIVES)
		return lost(s);
	int64_t timeout = s->m->timeout_s ? (int64_t)s->m->timeout_s : TIMEOUT_S;
	/* A pod whose name stays has no object to go back to once that is gone: it moves on,
	 * unless it cannot and somebody gives its memory up. */
	bool handed = is(s, "HandOver") && same_name(s) && !s->source.exists;
	if (unwanted(s) && !handed)
		return ask_end(s, "Cancelled", "cancelled");
	if (unwanted(s) && !strcmp(s->m->reason, "StillTrying"))
		return ask_end(s, "GivenUp", "its memory was given up, as nothing else was left");
	if (handed && s->unwanted_words[0])
		return ask_end(s, "OwnerGone", s->unwanted_words);
	if (is(s, "HandOver") && (s->source.exists || !ours(s, &s->target)))
		return act(CTRL_HAND_OVER);
	if (is(s, "PreCopy") && !ours(s, &s->target))
		return ask_end(s, "TargetGone", "the target pod was deleted");
	if (is(s, "PreCopy") && (!s->source.exists || s->source.terminating))
		return ask_end(s, "SourceGone", "the pod was deleted while it was being moved");
	if (s->phase_age_s > timeout + SLACK_S && !handed)
		return ask_end(s, "Timeout", "not moved in time");
	return act(CTRL_NOTHING);
}

/* job.h: the source is terminating before the target is the Job's. */
static struct ctrl_plan committed_job(const struct ctrl_seen *s)
{
	bool begun = s->target.ready || s->target.ended || s->phase_age_s > READY_TAKES_S;
	bool waits = !strcmp(s->job_policy, "Failed");
	if (s->source.exists && !s->source.terminating) {
		if (ours(s, &s->target) && !begun)
			return act(CTRL_NOTHING);
		if (!s->m->job_policy[0])
			return act(CTRL_JOB_NOTE);
		return act(waits ? CTRL_JOB_LEAVE : CTRL_JOB_WAIT);
	}
	if (ours(s, &s->target) && !s->target.owner_kind[0] && s->m->job_policy[0])
		return act(CTRL_JOB_ADOPT);
	if (!s->m->source_gone)
		return act(CTRL_SOURCE_GONE);
	if (s->source.exists)
		return act(CTRL_NOTHING);
	if (s->m->job_policy[0] && strcmp(s->m->job_policy, s->job_policy) != 0)
		return act(CTRL_JOB_FREE);
	return act(CTRL_SUCCEED);
}

static struct ctrl_plan committed(const struct ctrl_seen *s)
{
	if (s->of_job)
		return committed_job(s);
	if (!same_name(s)) {
		bool owned = s->target.owner_kind[0];
		if (s->source.exists && !s->source.terminating && !owned && ours(s, &s->target) &&
		    (s->target.ready || s->phase_age_s > READY_TAKES_S))
			return act(CTRL_ADOPT);
		if (s->source.exists && !s->source.terminating)
			return owned || !ours(s, &s->target) ? act(CTRL_DELETE_SOURCE) : act(CTRL_NOTHING);
	}
	if (!s->m->source_gone)
		return act(CTRL_SOURCE_GONE);
	bool begun = s->target.ready || s->target.ended || s->phase_age_s > READY_TAKES_S;
	/* On a node that is off nobody ends what is terminating. */
	bool ends = s->source.exists && !(s->source.terminating && s->source_life != CTRL_LIVES);
	if (ends || (ours(s, &s->target) && !begun))
		return act(CTRL_NOTHING);
	if (s->veiled && ours(s, &s->target))
		return act(CTRL_UNVEIL);
	return act(CTRL_SUCCEED);
}

struct ctrl_plan ctrl_plan(const struct ctrl_seen *s)
{
	if (gw_migration_over(s->m)) {
		if (!s->m->finalized)
			return act(CTRL_NOTHING);
		return is(s, "Succeeded") ? act(CTRL_UNFINALIZE) : act(CTRL_CLEAN);
	}
	if (is(s, "") || is(s, "Pending"))
		return first(s);
	if (is(s, "Checking")) {
		if (unwanted(s))
			return act(CTRL_CANCELLED);
		return s->phase_age_s > CHECK_TAKES_S
		               ? fail("NodeSilent", "godwitd of the source node has not answered within a minute")
		               : act(CTRL_NOTHING);
	}
	if (is(s, "Placing"))
		return place(s);
	if (is(s, "Committed"))
		return committed(s);
	return under_way(s);
}

const char *ctrl_action_name(enum ctrl_action a)
{
	static const char *const names[] = {[CTRL_NOTHING] = "nothing",
	                                    [CTRL_FINALIZE] = "finalize",
	                                    [CTRL_FAIL] = "fail",
	                                    [CTRL_CANCELLED] = "cancelled",
	                                    [CTRL_CHOOSE] = "choose",
	                                    [CTRL_QUEUE] = "queue",
	                                    [CTRL_RESOLVE] = "resolve",
	                                    [CTRL_MAKE_TARGET] = "make target",
	                                    [CTRL_PLACED] = "placed",
	                                    [CTRL_ABORT] = "abort",
	                                    [CTRL_ASK_TARGET] = "ask the target",
	                                    [CTRL_TELL] = "tell",
	                                    [CTRL_HAND_OVER] = "hand over",
	                                    [CTRL_ADOPT] = "adopt",
	                                    [CTRL_DELETE_SOURCE] = "delete source",
	                                    [CTRL_UNVEIL] = "unveil",
	                                    [CTRL_JOB_NOTE] = "note the job",
	                                    [CTRL_JOB_WAIT] = "let the job wait",
	                                    [CTRL_JOB_LEAVE] = "source leaves the job",
	                                    [CTRL_JOB_ADOPT] = "target joins the job",
	                                    [CTRL_JOB_FREE] = "the job is as before",
	                                    [CTRL_SOURCE_GONE] = "source gone",
	                                    [CTRL_SUCCEED] = "succeed",
	                                    [CTRL_CLEAN] = "clean",
	                                    [CTRL_UNFINALIZE] = "unfinalize"};
	return names[a];
}
