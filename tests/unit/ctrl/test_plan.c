#include "test.h"

#include <stdio.h>
#include <string.h>

#include "base/scope.h"
#include "ctrl/events.h"
#include "ctrl/plan.h"
#include "ctrl/target.h"
#include "ctrl/workload.h"

static const char *const PHASES[] = {"",         "Pending",   "Checking",  "Placing", "PreCopy",  "HandOver",
                                     "Freezing", "Committed", "Succeeded", "Failed",  "Cancelled"};
static const char *const METHODS[] = {"", "Clone", "SameName"};

static bool in(const char *phase, const char *words)
{
	return *phase && strstr(words, phase);
}

/* Every combination of what the plan looks at. */
struct sweep {
	struct gw_migration m;
	struct ctrl_seen s;
};

static void set(struct sweep *w, unsigned bits, const char *phase, const char *method)
{
	*w = (struct sweep){.s = {.m = &w->m, .max_active = 4, .max_per_node = 2}};
	(void)snprintf(w->m.uid, sizeof(w->m.uid), "u-1");
	(void)snprintf(w->m.pod, sizeof(w->m.pod), "p");
	(void)snprintf(w->m.to, sizeof(w->m.to), "node-b");
	(void)snprintf(w->m.phase, sizeof(w->m.phase), "%s", phase);
	(void)snprintf(w->m.method, sizeof(w->m.method), "%s", method);
	w->m.finalized = bits & 1;
	w->m.cancel = bits & 2;
	w->m.deleting = bits & 4;
	w->m.source_gone = bits & 8;
	w->s.source = (struct ctrl_pod){.exists = bits & 16,
	                                .terminating = bits & 32,
	                                .running = true,
	                                .containers = 1,
	                                .running_containers = 1};
	w->s.target = (struct ctrl_pod){.exists = bits & 64, .ready = bits & 128, .unschedulable = bits & 256};
	if (bits & 512)
		(void)snprintf(w->s.target.migration, sizeof(w->s.target.migration), "u-1");
	if (bits & 1024)
		(void)snprintf(w->s.target.node, sizeof(w->s.target.node), "node-b");
	if (bits & 2048)
		(void)snprintf(w->s.target.owner_kind, sizeof(w->s.target.owner_kind), "ReplicaSet");
	w->s.phase_age_s = bits & 4096 ? 100000 : 1;
	w->s.agent_told = bits & 8192;
	w->s.to_exists = w->s.to_has_godwit = true;
}

/* From PreCopy on it matters who is alive. */
static const struct {
	enum ctrl_life source, to;
	bool lost;
} LIVES[] = {{CTRL_LIVES, CTRL_LIVES, false}, {CTRL_SILENT, CTRL_LIVES, false}, {CTRL_SILENT, CTRL_LIVES, true},
             {CTRL_OFF, CTRL_LIVES, false},   {CTRL_OFF, CTRL_LIVES, true},     {CTRL_OFF, CTRL_OFF, true}};

static void each(void (*fn)(const struct sweep *w, enum ctrl_action a))
{
	for (size_t p = 0; p < gw_countof(PHASES); p++)
		for (size_t k = 0; k < gw_countof(METHODS); k++)
			for (size_t l = 0; l < (p < 4 ? 1 : gw_countof(LIVES)); l++)
				for (unsigned bits = 0; bits < 1u << 14; bits++) {
					struct sweep w;
					set(&w, bits, PHASES[p], METHODS[k]);
					w.s.source_life = LIVES[l].source;
					w.s.to_life = LIVES[l].to;
					w.m.source_lost = LIVES[l].lost;
					w.s.m = &w.m;
					fn(&w, ctrl_plan(&w.s).action);
				}
}

static void one_may_only_ask(const struct sweep *w, enum ctrl_action a)
{
	if (!in(w->m.phase, "PreCopy HandOver Freezing"))
		return;
	bool off = w->s.source_life == CTRL_OFF && w->s.to_life == CTRL_OFF;
	bool asks = a == CTRL_NOTHING || a == CTRL_ABORT || a == CTRL_ASK_TARGET || a == CTRL_TELL;
	assert_true(asks || a == (off ? CTRL_FAIL : CTRL_HAND_OVER));
	if (w->s.source_life != CTRL_LIVES)
		assert_true(a != CTRL_HAND_OVER);
}
static void from_pre_copy_to_the_agents_word_the_controller_only_asks(void **s)
{
	(void)s;
	each(one_may_only_ask);
}

/* Its process may run on, cut off, when nobody has said that its node is off. */
static void lost_once(const struct sweep *w, enum ctrl_action a)
{
	if (!in(w->m.phase, "PreCopy HandOver Freezing"))
		return;
	bool same = !strcmp(w->m.method, "SameName"), handed = !strcmp(w->m.phase, "HandOver");
	if (a == CTRL_ASK_TARGET)
		assert_true(w->s.source_life != CTRL_LIVES && !w->m.source_lost &&
		            (w->s.source_life == CTRL_OFF || !same || !handed));
	if (w->s.source_life == CTRL_OFF && !w->m.source_lost)
		assert_int_equal(a, w->s.to_life == CTRL_OFF ? CTRL_FAIL : CTRL_ASK_TARGET);
}
static void the_destination_is_asked_once_when_the_source_is_lost(void **s)
{
	(void)s;
	each(lost_once);
}

static void two_clean(const struct sweep *w, enum ctrl_action a)
{
	if (a == CTRL_CLEAN)
		assert_true(in(w->m.phase, "Failed Cancelled"));
}
static void a_target_is_deleted_only_after_a_failure(void **s)
{
	(void)s;
	each(two_clean);
}

static void three_source(const struct sweep *w, enum ctrl_action a)
{
	if (a == CTRL_DELETE_SOURCE)
		assert_string_equal(w->m.phase, "Committed");
	if (a == CTRL_HAND_OVER)
		assert_string_equal(w->m.phase, "HandOver");
}
static void a_source_is_deleted_only_after_the_commit_or_in_the_hand_over(void **s)
{
	(void)s;
	each(three_source);
}

static void four_gone(const struct sweep *w, enum ctrl_action a)
{
	if (a == CTRL_SOURCE_GONE)
		assert_true(!strcmp(w->m.phase, "Committed") &&
		            (!w->s.source.exists || w->s.source.terminating || !strcmp(w->m.method, "SameName")));
	if (a == CTRL_SUCCEED)
		assert_true(w->m.source_gone &&
		            (!w->s.source.exists || (w->s.source.terminating && w->s.source_life != CTRL_LIVES)));
}
static void the_dead_copy_ends_only_when_its_object_is_gone_or_going(void **s)
{
	(void)s;
	each(four_gone);
}

static void five_owner(const struct sweep *w, enum ctrl_action a)
{
	if (a == CTRL_ADOPT)
		assert_string_equal(w->m.phase, "Committed");
	/* Its target may have been deleted by somebody; then there is nothing to wait for. */
	if (a == CTRL_DELETE_SOURCE && w->s.target.exists && !strcmp(w->s.target.migration, "u-1"))
		assert_true(w->s.target.owner_kind[0] != 0);
}
static void the_target_has_its_owner_before_the_source_goes(void **s)
{
	(void)s;
	each(five_owner);
}

static void six_over(const struct sweep *w, enum ctrl_action a)
{
	if (gw_migration_over(&w->m) && !w->m.finalized)
		assert_int_equal(a, CTRL_NOTHING);
	if (gw_migration_over(&w->m))
		assert_true(a == CTRL_NOTHING || a == CTRL_CLEAN || a == CTRL_UNFINALIZE);
}
static void what_is_over_is_left_alone(void **s)
{
	(void)s;
	each(six_over);
}

static struct ctrl_plan judge(struct sweep *w)
{
	w->m.finalized = true;
	w->s.m = &w->m;
	return ctrl_plan(&w->s);
}

static void every_refusal_has_its_reason(void **state)
{
	(void)state;
	static const struct {
		const char *reason;
		struct ctrl_pod p;
		bool no_node, no_godwit;
	} cases[] = {
	        {"NoSuchPod", {.exists = false}},
	        {"StaticPod", {.exists = true, .mirror = true}},
	        {"DaemonSet", {.exists = true, .owner_kind = "DaemonSet"}},
	        {"UnknownOwner", {.exists = true, .owner_kind = "Rollout"}},
	        {"HostNetwork", {.exists = true, .host_network = true}},
	        {"HttpHook", {.exists = true, .running = true, .http_hook = true}},
	        {"NotRunning", {.exists = true, .ended = true}},
	        {"NotRunning", {.exists = true, .running = true, .terminating = true}},
	        {"SeveralContainers", {.exists = true, .running = true, .containers = 17, .running_containers = 17}},
	        {"NotRunning", {.exists = true, .running = true, .containers = 2, .running_containers = 1}},
	        {"NotRunning",
	         {.exists = true, .running = true, .containers = 1, .running_containers = 1, .sidecars = 1}},
	        {"SameNode",
	         {.exists = true, .running = true, .containers = 1, .running_containers = 1, .node = "node-b"}},
	        {"NoSuchNode",
	         {.exists = true, .running = true, .containers = 1, .running_containers = 1},
	         .no_node = true},
	        {"NodeWithoutGodwit",
	         {.exists = true, .running = true, .containers = 1, .running_containers = 1},
	         .no_godwit = true},
	};
	for (size_t i = 0; i < gw_countof(cases); i++) {
		struct sweep w;
		set(&w, 0, "", "");
		w.m.check_only = true;
		w.s.source = cases[i].p;
		w.s.to_exists = !cases[i].no_node;
		w.s.to_has_godwit = !cases[i].no_godwit;
		struct ctrl_plan p = judge(&w);
		assert_int_equal(p.action, CTRL_FAIL);
		assert_string_equal(p.reason, cases[i].reason);
		assert_true(strlen(p.words) > 10);
	}
}

static void a_clone_of_plain_runc_may_move(void **state)
{
	(void)state;
	struct sweep w;
	set(&w, 0, "", "");
	w.s.source = (struct ctrl_pod){
	        .exists = true, .running = true, .containers = 1, .running_containers = 1, .owner_kind = "ReplicaSet"};
	assert_int_equal(judge(&w).action, CTRL_RESOLVE);
}

static void those_over_the_limit_wait(void **state)
{
	(void)state;
	struct sweep w;
	set(&w, 1 | 16, "", "");
	w.s.active = 4;
	assert_int_equal(judge(&w).action, CTRL_QUEUE);
	w.s.active = 0;
	w.s.active_on_nodes = 2;
	assert_int_equal(judge(&w).action, CTRL_QUEUE);
	(void)snprintf(w.m.phase, sizeof(w.m.phase), "Pending");
	(void)snprintf(w.m.reason, sizeof(w.m.reason), "Queued");
	assert_int_equal(judge(&w).action, CTRL_NOTHING);
	w.s.active_on_nodes = 1;
	assert_int_equal(judge(&w).action, CTRL_RESOLVE);
}

/* Whoever asks for a move right after a rollout need not wait for the pod himself. */
static void a_pod_that_starts_is_waited_for(void **state)
{
	(void)state;
	struct sweep w;
	set(&w, 1 | 16, "", "");
	w.s.source.running_containers = w.s.source.containers - 1;
	struct ctrl_plan p = judge(&w);
	assert_int_equal(p.action, CTRL_QUEUE);
	assert_string_equal(p.reason, "NotRunning");
	(void)snprintf(w.m.phase, sizeof(w.m.phase), "Pending");
	(void)snprintf(w.m.reason, sizeof(w.m.reason), "Queued");
	w.s.phase_age_s = 1000; /* for another reason */
	assert_int_equal(judge(&w).action, CTRL_QUEUE);
	(void)snprintf(w.m.reason, sizeof(w.m.reason), "NotRunning");
	w.s.phase_age_s = 1;
	assert_int_equal(judge(&w).action, CTRL_NOTHING);
	w.s.phase_age_s = 1000;
	p = judge(&w);
	assert_int_equal(p.action, CTRL_FAIL);
	assert_string_equal(p.reason, "NotRunning");
	w.s.source.running_containers = w.s.source.containers;
	assert_int_equal(judge(&w).action, CTRL_RESOLVE);
	w.s.source.running_containers--;
	w.s.phase_age_s = 1;
	w.s.source.terminating = true;
	assert_int_equal(judge(&w).action, CTRL_FAIL);
	w.s.source.terminating = false;
	w.m.cancel = true;
	assert_int_equal(judge(&w).action, CTRL_CANCELLED);
}

/* Every combination after the commit of a Job's pod. */
static void each_of_a_job(void (*fn)(const struct sweep *w, enum ctrl_action a))
{
	for (unsigned bits = 0; bits < 1u << 14; bits++)
		for (unsigned job = 0; job < 16; job++) {
			struct sweep w;
			set(&w, bits, "Committed", "Clone");
			w.s.m = &w.m;
			w.s.of_job = true;
			w.s.target.ended = job & 1;
			(void)snprintf(w.s.job_policy, sizeof(w.s.job_policy),
			               job & 2 ? "Failed" : "TerminatingOrFailed");
			if (job & 4)
				(void)snprintf(w.m.job_policy, sizeof(w.m.job_policy),
				               job & 8 ? "Failed" : "TerminatingOrFailed");
			fn(&w, ctrl_plan(&w.s).action);
		}
}

static void job_order(const struct sweep *w, enum ctrl_action a)
{
	bool stays = w->s.source.exists && !w->s.source.terminating, waits = !strcmp(w->s.job_policy, "Failed");
	bool joined = w->s.target.owner_kind[0] || !w->s.target.exists || strcmp(w->s.target.migration, "u-1") != 0;
	assert_true(a != CTRL_ADOPT && a != CTRL_DELETE_SOURCE);
	if (a == CTRL_JOB_LEAVE)
		assert_true(stays && waits && w->m.job_policy[0]);
	if (a == CTRL_JOB_ADOPT)
		assert_true(!stays && w->m.job_policy[0]);
	if (a == CTRL_SOURCE_GONE && w->m.job_policy[0])
		assert_true(!stays && joined);
	if (a == CTRL_JOB_FREE)
		assert_true(!w->s.source.exists && joined && w->m.source_gone);
	if (a == CTRL_SUCCEED && w->m.job_policy[0])
		assert_string_equal(w->m.job_policy, w->s.job_policy);
}
static void a_jobs_pod_leaves_while_the_job_waits_and_joins_when_it_has_left(void **state)
{
	(void)state;
	each_of_a_job(job_order);
}

static void a_veil_is_lifted_after_the_commit_when_the_pod_is_ready(void **state)
{
	(void)state;
	struct sweep w;
	set(&w, 1 | 8 | 64 | 512, "Committed", "SameName");
	w.s.m = &w.m;
	w.s.veiled = true;
	assert_int_equal(ctrl_plan(&w.s).action, CTRL_NOTHING);
	w.s.target.ready = true;
	assert_int_equal(ctrl_plan(&w.s).action, CTRL_UNVEIL);
	w.s.veiled = false;
	assert_int_equal(ctrl_plan(&w.s).action, CTRL_SUCCEED);
	(void)snprintf(w.m.phase, sizeof(w.m.phase), "HandOver");
	w.s.veiled = true;
	assert_int_equal(ctrl_plan(&w.s).action, CTRL_NOTHING);
}

static void a_handed_over_name_is_given_up_only_when_it_cannot_move(void **state)
{
	(void)state;
	struct sweep w;
	set(&w, 1 | 64 | 512, "HandOver", "SameName");
	w.s.m = &w.m;
	w.m.timeout_s = 1;
	w.s.phase_age_s = 100000;
	assert_int_equal(ctrl_plan(&w.s).action, CTRL_NOTHING);
	w.m.cancel = true;
	assert_int_equal(ctrl_plan(&w.s).action, CTRL_NOTHING);
	(void)snprintf(w.m.reason, sizeof(w.m.reason), "StillTrying");
	assert_int_equal(ctrl_plan(&w.s).action, CTRL_ABORT);
	w.m.cancel = false;
	assert_int_equal(ctrl_plan(&w.s).action, CTRL_NOTHING);
}

static void a_handed_over_name_that_nobody_wants_is_not_made_again(void **state)
{
	(void)state;
	struct sweep w;
	set(&w, 0, "HandOver", "SameName");
	w.s.m = &w.m;
	w.m.finalized = true;
	assert_int_equal(ctrl_plan(&w.s).action, CTRL_HAND_OVER);
	(void)snprintf(w.s.unwanted_words, sizeof(w.s.unwanted_words), "it was deleted");
	assert_int_equal(ctrl_plan(&w.s).action, CTRL_ABORT);
	assert_string_equal(ctrl_plan(&w.s).reason, "OwnerGone");
	w.s.agent_told = true;
	assert_int_equal(ctrl_plan(&w.s).action, CTRL_NOTHING);
	/* The source still has its object: nothing has been handed over. */
	w.s.agent_told = false;
	w.s.source.exists = true;
	assert_int_equal(ctrl_plan(&w.s).action, CTRL_HAND_OVER);
}

static void a_workloads_pod_is_chosen_before_it_is_judged(void **state)
{
	(void)state;
	struct sweep w;
	set(&w, 0, "", "");
	w.m.pod[0] = 0;
	w.s.unchosen = "WhichPod";
	struct ctrl_plan p = judge(&w);
	assert_int_equal(p.action, CTRL_FAIL);
	assert_string_equal(p.reason, "WhichPod");
	(void)snprintf(w.s.chosen, sizeof(w.s.chosen), "web-x");
	assert_int_equal(judge(&w).action, CTRL_CHOOSE);
}

static bool selects(const char *json, char *out, size_t size)
{
	gw_auto(jdoc) yyjson_doc *doc = yyjson_read(json, strlen(json), 0);
	assert_non_null(doc);
	return ctrl_selector(yyjson_doc_get_root(doc), out, size);
}
static void a_selector_is_written_as_a_list_asks_for_it(void **state)
{
	(void)state;
	char out[300];
	assert_true(
	        selects("{\"matchLabels\":{\"a\":\"1\",\"x.io/b\":\"2\"},\"matchExpressions\":[{\"key\":\"c\","
	                "\"operator\":\"In\",\"values\":[\"3\",\"4\"]},{\"key\":\"d\",\"operator\":\"DoesNotExist\"},"
	                "{\"key\":\"e\",\"operator\":\"Exists\"}]}",
	                out, sizeof(out)));
	assert_string_equal(out, "a%3D1%2Cx.io/b%3D2%2Cc%20in%20%283%2C4%29%2C%21d%2Ce");
	/* Nothing asked for would be every pod there is. */
	assert_false(selects("{}", out, sizeof(out)));
	assert_false(selects("{\"matchExpressions\":[{\"key\":\"c\",\"operator\":\"Gt\"}]}", out, sizeof(out)));
	assert_false(selects("{\"matchLabels\":{\"a\":\"1\"}}", out, 5));
}

/* ---- Events ---- */

static void events_follow_from_the_status_alone(void **state)
{
	(void)state;
	struct gw_migration m = {.phase = "Checking", .source_uid = "s"};
	assert_int_equal(ctrl_events_due(&m), 1u << CTRL_EVENT_STARTED);
	(void)snprintf(m.target_uid, sizeof(m.target_uid), "t");
	(void)snprintf(m.phase, sizeof(m.phase), "Committed");
	assert_int_equal(ctrl_events_due(&m), 7);
	(void)snprintf(m.phase, sizeof(m.phase), "Succeeded");
	assert_int_equal(ctrl_events_due(&m), 15);
	(void)snprintf(m.phase, sizeof(m.phase), "Failed");
	assert_int_equal(ctrl_events_due(&m), 11);
	m.check_only = true;
	assert_int_equal(ctrl_events_due(&m), 0);
}

static void an_events_name_is_one_of_kubernetes_and_its_own(void **state)
{
	(void)state;
	struct gw_migration m = {.uid = "01234567-89ab-cdef"};
	char a[GW_K8S_NAME], b[GW_K8S_NAME], pod[GW_K8S_NAME];
	ctrl_event_name(&m, "db-0", 's', "Committed", a);
	assert_string_equal(a, "db-0.01234567-89ab-s-committed");
	ctrl_event_name(&m, "db-0", 't', "Committed", b);
	assert_string_not_equal(a, b);
	memset(pod, 'x', sizeof(pod));
	pod[sizeof(pod) - 1] = 0;
	ctrl_event_name(&m, pod, 's', "Committed", a);
	assert_true(strlen(a) < 254);
	assert_non_null(strstr(a, "-s-committed"));
}

/* ---- the pods it makes ---- */

static const char POD[] =
        "{\"metadata\":{\"name\":\"web-5d-x\",\"labels\":{\"app\":\"web\",\"pod-template-hash\":\"5d\"},"
        "\"annotations\":{\"a\":\"1\","
        "\"godwit.dev/migration\":\"old\"},\"ownerReferences\":[{\"kind\":\"ReplicaSet\",\"controller\":true}]},"
        "\"spec\":{\"nodeName\":\"node-a\",\"hostname\":\"h\",\"initContainers\":[{\"name\":\"i\"}],"
        "\"affinity\":{\"nodeAffinity\":{\"requiredDuringSchedulingIgnoredDuringExecution\":{\"nodeSelectorTerms\":["
        "{\"matchExpressions\":[{\"key\":\"disk\",\"operator\":\"Exists\"}]},{\"matchFields\":[{\"key\":\"metadata."
        "name\"}]}]}}},"
        "\"containers\":[{\"name\":\"c\",\"image\":\"i\",\"args\":[\"x\"],\"resources\":{\"requests\":{\"cpu\":\"1\"}},"
        "\"volumeMounts\":[{\"name\":\"kube-api-access-1\"},{\"name\":\"data\"}]}],"
        "\"volumes\":[{\"name\":\"kube-api-access-1\"},{\"name\":\"data\"}]}}";

static char *made(bool same_name, bool placeholder)
{
	struct gw_migration m = {.namespace = "ns", .pod = "web-5d-x", .uid = "abcdef12-0000", .to = "node-b"};
	gw_auto(jdoc) yyjson_doc *pod = yyjson_read(POD, strlen(POD), 0);
	assert_non_null(pod);
	yyjson_val *o = yyjson_doc_get_root(pod);
	gw_auto(jmut) yyjson_mut_doc *doc =
	        placeholder ? ctrl_placeholder(&m, o) : ctrl_target(&m, o, "{\"ifname\":\"eth0\"}", same_name);
	return gw_json_text(doc, NULL);
}

static void a_clone_has_no_owner_and_no_template_hash(void **state)
{
	(void)state;
	gw_auto(mem) char *t = made(false, false);
	assert_null(strstr(t, "ownerReferences"));
	assert_null(strstr(t, "pod-template-hash"));
	assert_non_null(strstr(t, "\"name\":\"web-5d-x-mabcde\""));
	assert_non_null(strstr(t, "\"app\":\"web\""));
	assert_non_null(strstr(t, "\"godwit.dev/migration\":\"abcdef12-0000\""));
	assert_null(strstr(t, "\"old\""));
	assert_null(strstr(t, "nodeName"));
	assert_null(strstr(t, "initContainers"));
	assert_null(strstr(t, "kube-api-access"));
	assert_non_null(strstr(t, "\"name\":\"data\""));
	assert_non_null(strstr(t, "\"runtimeClassName\":\"godwit\""));
}

/* The target of a pod that is written out here. */
static char *target_of(const char *pod, bool same_name)
{
	struct gw_migration m = {.namespace = "ns", .pod = "p", .uid = "abcdef12-0000", .to = "node-b"};
	gw_auto(jdoc) yyjson_doc *doc = yyjson_read(pod, strlen(pod), 0);
	assert_non_null(doc);
	gw_auto(jmut) yyjson_mut_doc *target = ctrl_target(&m, yyjson_doc_get_root(doc), "{}", same_name);
	return gw_json_text(target, NULL);
}

static void a_sidecar_that_stays_has_started(void **state)
{
	(void)state;
	static const char pod[] = "{\"metadata\":{\"name\":\"p\"},\"spec\":{\"initContainers\":[{\"name\":\"once\"},"
	                          "{\"name\":\"a\",\"restartPolicy\":\"Always\",\"startupProbe\":{\"failureThreshold\":"
	                          "30,\"periodSeconds\":2},"
	                          "\"livenessProbe\":{\"initialDelaySeconds\":5}},"
	                          "{\"name\":\"b\",\"restartPolicy\":\"Always\",\"startupProbe\":{\"periodSeconds\":1},"
	                          "\"livenessProbe\":{\"initialDelaySeconds\":500}}]}}";
	gw_auto(mem) char *t = target_of(pod, true);
	assert_null(strstr(t, "startupProbe"));
	assert_null(strstr(t, "once"));
	assert_non_null(strstr(t, "\"initialDelaySeconds\":60"));
	assert_non_null(strstr(t, "\"initialDelaySeconds\":500"));
}

static void a_clones_name_does_not_grow_with_every_move(void **state)
{
	(void)state;
	struct gw_migration m = {.pod = "web-5d-x-m01abf", .uid = "abcdef12-0000"};
	char name[GW_K8S_NAME];
	ctrl_target_name(&m, "m", name);
	assert_string_equal(name, "web-5d-x-mabcde");
	(void)snprintf(m.pod, sizeof(m.pod), "web-m-mxyz12");
	ctrl_target_name(&m, "m", name);
	assert_string_equal(name, "web-m-mxyz12-mabcde");
	(void)snprintf(m.pod, sizeof(m.pod), "-m01abf");
	ctrl_target_name(&m, "p", name);
	assert_string_equal(name, "-m01abf-pabcde");
	memset(m.pod, 'x', sizeof(m.pod) - 1);
	ctrl_target_name(&m, "m", name);
	assert_int_equal(strlen(name), 252);
}

static void a_pod_that_keeps_its_name_has_its_owner(void **state)
{
	(void)state;
	gw_auto(mem) char *t = made(true, false);
	assert_non_null(strstr(t, "\"name\":\"web-5d-x\""));
	assert_non_null(strstr(t, "ownerReferences"));
	assert_non_null(strstr(t, "pod-template-hash"));
}

static void every_alternative_of_its_affinity_names_the_node(void **state)
{
	(void)state;
	gw_auto(mem) char *t = made(false, false);
	unsigned n = 0;
	for (const char *p = t; (p = strstr(p, "\"values\":[\"node-b\"]")); p++)
		n++;
	assert_int_equal(n, 2);
	assert_non_null(strstr(t, "\"disk\""));
}

static bool spread_ignores_affinity(const char *rest_of_spec)
{
	char pod[600];
	(void)snprintf(pod, sizeof(pod),
	               "{\"metadata\":{\"name\":\"p\"},\"spec\":{%s\"topologySpreadConstraints\":[{\"maxSkew\":1}],"
	               "\"containers\":[]}}",
	               rest_of_spec);
	gw_auto(mem) char *t = target_of(pod, false);
	return strstr(t, "\"nodeAffinityPolicy\":\"Ignore\"");
}

static void a_target_knows_which_hooks_have_run(void **state)
{
	(void)state;
	static const char pod[] = "{\"metadata\":{\"name\":\"p\",\"annotations\":{\"godwit.dev/"
	                          "post-start\":\"old\"}},\"spec\":{\"containers\":["
	                          "{\"name\":\"a\",\"lifecycle\":{\"postStart\":{\"exec\":{\"command\":[\"sh\",\"-c\","
	                          "\"x \\\"y\\\"\"]}}}},"
	                          "{\"name\":\"b\",\"lifecycle\":{\"preStop\":{\"exec\":{\"command\":[\"z\"]}}}}]}}";
	gw_auto(mem) char *with = target_of(pod, true);
	gw_auto(jdoc) yyjson_doc *target = yyjson_read(with, strlen(with), 0);
	yyjson_val *notes = yyjson_obj_get(yyjson_obj_get(yyjson_doc_get_root(target), "metadata"), "annotations");
	assert_string_equal(gw_json_str(notes, "godwit.dev/post-start", ""), "{\"a\":[\"sh\",\"-c\",\"x \\\"y\\\"\"]}");
	gw_auto(mem) char *t = made(true, false);
	assert_null(strstr(t, "post-start"));
}

static void a_pinned_pod_is_spread_over_all_nodes(void **state)
{
	(void)state;
#define TERMS(t)                                                                                                       \
	"\"affinity\":{\"nodeAffinity\":{\"requiredDuringSchedulingIgnoredDuringExecution\":{\"nodeSelectorTerms\":"   \
	"[" t "]"                                                                                                      \
	"}}},"
	assert_true(spread_ignores_affinity(""));
	assert_true(spread_ignores_affinity(TERMS("{\"matchFields\":[{\"key\":\"metadata.name\"}]}")));
	assert_false(spread_ignores_affinity(TERMS("{\"matchExpressions\":[{\"key\":\"disk\"}]}")));
	assert_false(spread_ignores_affinity("\"nodeSelector\":{\"disk\":\"fast\"},"));
	assert_true(spread_ignores_affinity("\"nodeSelector\":{\"live.godwit.dev/node\":\"true\"},"));
	assert_false(spread_ignores_affinity("\"nodeSelector\":{\"live.godwit.dev/node\":\"true\",\"a\":\"b\"},"));
}

static void a_placeholder_asks_for_the_room_and_runs_nothing(void **state)
{
	(void)state;
	gw_auto(mem) char *t = made(true, true);
	assert_non_null(strstr(t, "\"cpu\":\"1\""));
	assert_non_null(strstr(t, "\"name\":\"web-5d-x-pabcde\""));
	assert_null(strstr(t, "\"args\""));
	assert_null(strstr(t, "\"app\":\"web\""));
	assert_null(strstr(t, "volumes"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(from_pre_copy_to_the_agents_word_the_controller_only_asks),
	        cmocka_unit_test(the_destination_is_asked_once_when_the_source_is_lost),
	        cmocka_unit_test(a_target_is_deleted_only_after_a_failure),
	        cmocka_unit_test(a_source_is_deleted_only_after_the_commit_or_in_the_hand_over),
	        cmocka_unit_test(the_dead_copy_ends_only_when_its_object_is_gone_or_going),
	        cmocka_unit_test(the_target_has_its_owner_before_the_source_goes),
	        cmocka_unit_test(what_is_over_is_left_alone),
	        cmocka_unit_test(every_refusal_has_its_reason),
	        cmocka_unit_test(a_clone_of_plain_runc_may_move),
	        cmocka_unit_test(those_over_the_limit_wait),
	        cmocka_unit_test(a_pod_that_starts_is_waited_for),
	        cmocka_unit_test(a_jobs_pod_leaves_while_the_job_waits_and_joins_when_it_has_left),
	        cmocka_unit_test(a_veil_is_lifted_after_the_commit_when_the_pod_is_ready),
	        cmocka_unit_test(a_handed_over_name_is_given_up_only_when_it_cannot_move),
	        cmocka_unit_test(a_handed_over_name_that_nobody_wants_is_not_made_again),
	        cmocka_unit_test(a_workloads_pod_is_chosen_before_it_is_judged),
	        cmocka_unit_test(a_selector_is_written_as_a_list_asks_for_it),
	        cmocka_unit_test(events_follow_from_the_status_alone),
	        cmocka_unit_test(an_events_name_is_one_of_kubernetes_and_its_own),
	        cmocka_unit_test(a_clone_has_no_owner_and_no_template_hash),
	        cmocka_unit_test(a_sidecar_that_stays_has_started),
	        cmocka_unit_test(a_clones_name_does_not_grow_with_every_move),
	        cmocka_unit_test(a_pod_that_keeps_its_name_has_its_owner),
	        cmocka_unit_test(every_alternative_of_its_affinity_names_the_node),
	        cmocka_unit_test(a_pinned_pod_is_spread_over_all_nodes),
	        cmocka_unit_test(a_target_knows_which_hooks_have_run),
	        cmocka_unit_test(a_placeholder_asks_for_the_room_and_runs_nothing),
	};
	return cmocka_run_group_tests_name("ctrl/plan", tests, NULL, NULL);
}
