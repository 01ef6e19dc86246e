/* What the controller knows: pods (cluster.h) and Migrations (known.h), told by
 * watches and by answers, in any order. */
#include "test.h"

#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/scope.h"
#include "ctrl/cluster.h"
#include "ctrl/known.h"
#include "ctrl/observe.h"

static unsigned woken;

static void on_changed(void *ctx, const char *uid)
{
	(void)ctx;
	assert_true(!uid || !strcmp(uid, "u-1"));
	woken++;
}

static yyjson_doc *parse(const char *text)
{
	yyjson_doc *doc = NULL;
	assert_int_equal(gw_json_parse(text, strlen(text), "test", &doc, NULL), 0);
	return doc;
}

static yyjson_doc *pod(unsigned version, const char *phase)
{
	char text[300];
	(void)snprintf(text, sizeof(text),
	               "{\"kind\":\"Pod\",\"metadata\":{\"namespace\":\"n\",\"name\":\"p\",\"uid\":\"x\","
	               "\"resourceVersion\":\"%u\"},\"status\":{\"phase\":\"%s\"}}",
	               version, phase);
	return parse(text);
}

static void tell(struct ctrl_cluster *c, unsigned version, const char *phase, bool deleted)
{
	gw_auto(jdoc) yyjson_doc *doc = pod(version, phase);
	ctrl_cluster_told(c, yyjson_doc_get_root(doc), deleted);
}

static void hear(struct ctrl_cluster *c, unsigned version, const char *phase)
{
	gw_auto(jdoc) yyjson_doc *doc = pod(version, phase);
	ctrl_cluster_heard(c, yyjson_doc_get_root(doc));
}

/* An API server that nobody reaches: "asked" is what it would have been asked for. */
static struct gw_kube *nobody(void)
{
	static const char text[] =
	        "{\"current-context\":\"x\",\"contexts\":[{\"name\":\"x\",\"context\":{\"cluster\":\"k\","
	        "\"user\":\"u\"}}],\"clusters\":[{\"name\":\"k\",\"cluster\":{\"server\":"
	        "\"https://127.0.0.1:1\"}}],\"users\":[{\"name\":\"u\",\"user\":{}}]}";
	struct gw_kube_config c;
	struct gw_kube *k;
	assert_int_equal(gw_kube_config_parse(text, strlen(text), &c, NULL), 0);
	assert_int_equal(gw_kube_open(&c, &k, NULL), 0);
	gw_kube_config_done(&c);
	gw_kube_patience(k, false);
	return k;
}

struct rig {
	struct ctrl_cluster *c;
	struct gw_kube *k;
};

/* The phase that is known; "" when there is no pod; "?" when the API server has to be asked. */
static const char *known(struct rig *r)
{
	static char phase[20];
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	struct gw_err e;
	if (ctrl_cluster_get(r->c, r->k, "u-1", "/api/v1/namespaces/n/pods/p", &doc, &e) < 0)
		return "?";
	(void)snprintf(phase, sizeof(phase), "%s",
	               doc ? gw_json_str(yyjson_obj_get(yyjson_doc_get_root(doc), "status"), "phase", "") : "");
	return phase;
}

static struct rig begin(void)
{
	const struct ctrl_cluster_opts o = {.changed = on_changed};
	struct rig r = {.c = ctrl_cluster_new(&o), .k = nobody()};
	woken = 0;
	assert_string_equal(known(&r), "?"); /* looked at: of interest from now on */
	return r;
}

static void end(struct rig *r)
{
	gw_kube_close(r->k);
	ctrl_cluster_free(r->c);
}

static void a_pod_is_known_by_its_watch(void **state)
{
	(void)state;
	struct rig r = begin();
	tell(r.c, 10, "Pending", false);
	assert_string_equal(known(&r), "Pending");
	tell(r.c, 11, "Running", false);
	assert_string_equal(known(&r), "Running");
	assert_int_equal(woken, 2);
	tell(r.c, 12, "Running", true);
	assert_string_equal(known(&r), "");
	assert_int_equal(woken, 3);
	end(&r);
}

static void an_answer_counts_before_the_watch_tells_it(void **state)
{
	(void)state;
	struct rig r = begin();
	tell(r.c, 10, "Pending", false);
	hear(r.c, 20, "Running");
	assert_string_equal(known(&r), "Running");
	woken = 0;
	tell(r.c, 15, "Failed", false); /* on its way when we wrote */
	assert_string_equal(known(&r), "Running");
	tell(r.c, 20, "Running", false); /* our own doing */
	assert_int_equal(woken, 0);
	tell(r.c, 25, "Succeeded", false);
	hear(r.c, 20, "Running");
	assert_string_equal(known(&r), "Succeeded");
	end(&r);
}

static void an_answer_does_not_bring_back_what_is_gone(void **state)
{
	(void)state;
	struct rig r = begin();
	tell(r.c, 10, "Running", false);
	tell(r.c, 30, "Running", true);
	hear(r.c, 30, "Running"); /* of the DELETE */
	assert_string_equal(known(&r), "");
	hear(r.c, 31, "Pending"); /* another one of the name */
	assert_string_equal(known(&r), "Pending");
	tell(r.c, 30, "Running", true);
	assert_string_equal(known(&r), "Pending");
	end(&r);
}

static void what_may_have_been_missed_is_asked_for(void **state)
{
	(void)state;
	struct rig r = begin();
	tell(r.c, 10, "Running", false);
	woken = 0;
	ctrl_cluster_missed(r.c);
	assert_int_equal(woken, 1);
	assert_string_equal(known(&r), "?");
	hear(r.c, 11, "Failed"); /* an answer to what was written before: something may have come after it */
	assert_string_equal(known(&r), "?");
	tell(r.c, 12, "Succeeded", false);
	assert_string_equal(known(&r), "Succeeded");
	ctrl_cluster_doubt(r.c, "u-2");
	assert_string_equal(known(&r), "Succeeded");
	ctrl_cluster_doubt(r.c, "u-1");
	assert_string_equal(known(&r), "?");
	end(&r);
}

static void nobody_hears_of_pods_that_no_migration_looks_at(void **state)
{
	(void)state;
	struct rig r = begin();
	tell(r.c, 10, "Running", false);
	ctrl_cluster_forget(r.c, "u-1");
	woken = 0;
	tell(r.c, 11, "Running", false);
	assert_int_equal(woken, 0);
	assert_string_equal(known(&r), "?");
	end(&r);
}

static void a_node_is_read(void **state)
{
	(void)state;
	struct ctrl_node n;
	gw_auto(jdoc) yyjson_doc *doc = parse(
	        "{\"metadata\":{\"name\":\"a\",\"labels\":{\"live.godwit.dev/node\":\"true\"}},\"spec\":{\"podCIDRs\":"
	        "[\"10.1.0.0/24\",\"fd00::/64\"],\"taints\":[{\"key\":\"node.kubernetes.io/out-of-service\",\"effect\":"
	        "\"NoExecute\"}]},\"status\":{\"addresses\":[{\"type\":\"Hostname\",\"address\":\"a\"},{\"type\":"
	        "\"InternalIP\",\"address\":\"10.9.0.2\"},{\"type\":\"InternalIP\",\"address\":\"fd09::2\"}],"
	        "\"conditions\":"
	        "[{\"type\":\"Ready\",\"status\":\"Unknown\",\"lastTransitionTime\":\"2026-01-01T00:00:00Z\"}]}}");
	ctrl_node_parse(yyjson_doc_get_root(doc), &n);
	assert_true(n.exists && n.has_godwit && n.out_of_service && !n.ready);
	assert_int_equal(n.ready_since_s, 1767225600);
	assert_string_equal(n.addresses, "10.9.0.2,fd09::2");
	assert_string_equal(n.ranges[1], "fd00::/64");
}

/* ---- Migrations ---- */

static yyjson_doc *migration(unsigned version, const char *phase, bool finalized)
{
	char text[400];
	(void)snprintf(
	        text, sizeof(text),
	        "{\"kind\":\"Migration\",\"metadata\":{\"namespace\":\"n\",\"name\":\"m\",\"uid\":\"u-1\",%s"
	        "\"resourceVersion\":\"%u\"},\"spec\":{\"podName\":\"p\",\"to\":\"b\"},\"status\":{\"phase\":\"%s\"}}",
	        finalized ? "\"finalizers\":[\"" GW_FINALIZER "\"]," : "", version, phase);
	return parse(text);
}

static unsigned done;
static void on_done(void *ctx, const char *uid)
{
	(void)ctx;
	assert_string_equal(uid, "u-1");
	done++;
}

struct migrations {
	struct ctrl_known *r;
	struct ctrl_known_watch w;
	int fd;
};

static void told(struct migrations *t, enum gw_follow_what what, unsigned version, const char *phase, bool finalized)
{
	gw_auto(jdoc) yyjson_doc *doc = migration(version, phase, finalized);
	ctrl_known_told(&t->w, what, yyjson_doc_get_root(doc));
}

static void heard(struct migrations *t, unsigned version, const char *phase, bool finalized)
{
	gw_auto(jdoc) yyjson_doc *doc = migration(version, phase, finalized);
	ctrl_known_heard(t->r, yyjson_doc_get_root(doc));
}

static const char *phase_of(struct migrations *t)
{
	static struct gw_migration m;
	return ctrl_known_get(t->r, "u-1", &m, NULL) ? m.phase : "-";
}

static struct migrations begin_known(void)
{
	struct migrations t = {.fd = eventfd(0, EFD_NONBLOCK)};
	t.r = ctrl_known_new(t.fd);
	t.w = (struct ctrl_known_watch){.r = t.r, .done = on_done};
	done = 0;
	return t;
}

static void end_known(struct migrations *t)
{
	ctrl_known_free(t->r);
	(void)close(t->fd);
}

static void of_two_states_the_newer_one_counts(void **state)
{
	(void)state;
	struct migrations t = begin_known();
	told(&t, GW_FOLLOW_ADDED, 10, "Placing", true);
	heard(&t, 20, "PreCopy", true);
	assert_string_equal(phase_of(&t), "PreCopy");
	told(&t, GW_FOLLOW_MODIFIED, 15, "Placing", true);
	assert_string_equal(phase_of(&t), "PreCopy");
	told(&t, GW_FOLLOW_MODIFIED, 30, "Committed", true);
	heard(&t, 25, "PreCopy", true);
	assert_string_equal(phase_of(&t), "Committed");
	end_known(&t);
}

static void what_we_ended_is_not_made_anew_by_a_watch_that_is_behind(void **state)
{
	(void)state;
	struct migrations t = begin_known();
	told(&t, GW_FOLLOW_ADDED, 10, "Committed", true);
	heard(&t, 20, "Succeeded", true);
	heard(&t, 21, "Succeeded", false);
	assert_string_equal(phase_of(&t), "-");
	told(&t, GW_FOLLOW_MODIFIED, 20, "Succeeded", true);
	assert_string_equal(phase_of(&t), "-");
	assert_int_equal(done, 0);
	told(&t, GW_FOLLOW_MODIFIED, 21, "Succeeded", false);
	assert_string_equal(phase_of(&t), "-");
	assert_int_equal(done, 1);
	end_known(&t);
}

static void one_that_a_new_list_lacks_is_gone(void **state)
{
	(void)state;
	struct migrations t = begin_known();
	ctrl_known_told(&t.w, GW_FOLLOW_LISTING, NULL);
	told(&t, GW_FOLLOW_ADDED, 10, "PreCopy", true);
	ctrl_known_told(&t.w, GW_FOLLOW_SYNCED, NULL);
	assert_string_equal(phase_of(&t), "PreCopy");
	ctrl_known_told(&t.w, GW_FOLLOW_LISTING, NULL);
	told(&t, GW_FOLLOW_ADDED, 10, "PreCopy", true); /* the same as before */
	ctrl_known_told(&t.w, GW_FOLLOW_SYNCED, NULL);
	assert_string_equal(phase_of(&t), "PreCopy");
	ctrl_known_told(&t.w, GW_FOLLOW_LISTING, NULL);
	ctrl_known_told(&t.w, GW_FOLLOW_SYNCED, NULL);
	assert_string_equal(phase_of(&t), "-");
	assert_int_equal(done, 1);
	end_known(&t);
}

static void news_make_it_due_and_our_own_writes_do_not(void **state)
{
	(void)state;
	enum { LONG_MS = 3600000 };
	struct migrations t = begin_known();
	char uid[GW_K8S_UID];
	told(&t, GW_FOLLOW_ADDED, 10, "PreCopy", true);
	assert_true(ctrl_known_due(t.r, 0, LONG_MS, uid));
	assert_string_equal(uid, "u-1");
	assert_false(ctrl_known_due(t.r, 0, LONG_MS, uid));
	heard(&t, 20, "PreCopy", true);
	told(&t, GW_FOLLOW_MODIFIED, 20, "PreCopy", true);
	assert_false(ctrl_known_due(t.r, 0, LONG_MS, uid));
	told(&t, GW_FOLLOW_MODIFIED, 21, "Committed", true);
	assert_true(ctrl_known_due(t.r, 0, LONG_MS, uid));
	ctrl_known_wake(t.r, "u-2");
	assert_false(ctrl_known_due(t.r, 0, LONG_MS, uid));
	ctrl_known_wake(t.r, NULL);
	assert_true(ctrl_known_due(t.r, 0, LONG_MS, uid));
	ctrl_known_within(t.r, "u-1", 0);
	assert_true(ctrl_known_due(t.r, 0, LONG_MS, uid));
	assert_true(ctrl_known_wait(t.r, 1000) == 1000);
	end_known(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(a_pod_is_known_by_its_watch),
	        cmocka_unit_test(an_answer_counts_before_the_watch_tells_it),
	        cmocka_unit_test(an_answer_does_not_bring_back_what_is_gone),
	        cmocka_unit_test(what_may_have_been_missed_is_asked_for),
	        cmocka_unit_test(nobody_hears_of_pods_that_no_migration_looks_at),
	        cmocka_unit_test(a_node_is_read),
	        cmocka_unit_test(of_two_states_the_newer_one_counts),
	        cmocka_unit_test(what_we_ended_is_not_made_anew_by_a_watch_that_is_behind),
	        cmocka_unit_test(one_that_a_new_list_lacks_is_gone),
	        cmocka_unit_test(news_make_it_due_and_our_own_writes_do_not),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
