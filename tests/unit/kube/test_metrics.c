#include "test.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

#include "base/scope.h"
#include "kube/metrics.h"

struct got {
	char text[16384];
	size_t len;
	long code;
};

static size_t take(char *data, size_t one, size_t n, void *arg)
{
	struct got *g = arg;
	size_t len = one * n;
	assert_true(g->len + len < sizeof(g->text));
	memcpy(g->text + g->len, data, len);
	g->len += len;
	g->text[g->len] = 0;
	return len;
}

static void get(const struct gw_metrics *s, const char *path, const char *method, struct got *g)
{
	char url[100];
	CURL *c = curl_easy_init();
	*g = (struct got){0};
	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u%s", gw_metrics_port(s), path);
	(void)curl_easy_setopt(c, CURLOPT_URL, url);
	(void)curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, method);
	(void)curl_easy_setopt(c, CURLOPT_NOPROXY, "*");
	(void)curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, take);
	(void)curl_easy_setopt(c, CURLOPT_WRITEDATA, g);
	assert_int_equal(curl_easy_perform(c), CURLE_OK);
	(void)curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &g->code);
	curl_easy_cleanup(c);
}

static struct gw_metrics *start(struct gw_metrics_opts o)
{
	struct gw_metrics *s = NULL;
	struct gw_err e = {0};
	o.listen = "127.0.0.1:0";
	assert_int_equal(gw_metrics_start(&o, &s, &e), 0);
	assert_true(gw_metrics_port(s) > 0);
	return s;
}

static void freezes_are_counted_into_buckets_that_contain_each_other(void **state)
{
	(void)state;
	struct got g;
	struct gw_metrics *s = start((struct gw_metrics_opts){0});
	gw_metrics_ended(s, "Succeeded", "", 10000, 100);
	gw_metrics_ended(s, "Succeeded", "", 42000, 11);
	gw_metrics_ended(s, "Succeeded", "", 20000000, 0);
	gw_metrics_ended(s, "Failed", "NoCapacity", 0, 0);
	get(s, "/metrics", "GET", &g);
	assert_int_equal(g.code, 200);
	static const char *const lines[] = {"\ngodwit_freeze_seconds_bucket{le=\"0.01\"} 1\n",
	                                    "\ngodwit_freeze_seconds_bucket{le=\"0.03\"} 1\n",
	                                    "\ngodwit_freeze_seconds_bucket{le=\"0.05\"} 2\n",
	                                    "\ngodwit_freeze_seconds_bucket{le=\"10\"} 2\n",
	                                    "\ngodwit_freeze_seconds_bucket{le=\"+Inf\"} 3\n",
	                                    "\ngodwit_freeze_seconds_sum 20.052000\n",
	                                    "\ngodwit_freeze_seconds_count 3\n",
	                                    "\ngodwit_sent_bytes_total 111\n",
	                                    "\ngodwit_migrations_total{result=\"Succeeded\",reason=\"\"} 3\n",
	                                    "\ngodwit_migrations_total{result=\"Failed\",reason=\"NoCapacity\"} 1\n"};
	for (size_t i = 0; i < gw_countof(lines); i++)
		assert_non_null(strstr(g.text, lines[i]));
	gw_metrics_stop(s);
}

static void however_many_reasons_there_are_the_page_stays_small(void **state)
{
	(void)state;
	struct got g;
	char reason[64];
	struct gw_metrics *s = start((struct gw_metrics_opts){0});
	for (int i = 0; i < 1000; i++) {
		(void)snprintf(reason, sizeof(reason), "R%d", i);
		gw_metrics_ended(s, "Failed", reason, 0, 0);
	}
	gw_metrics_ended(s, "Failed", "a\"b\nc\\", 0, 0);
	get(s, "/metrics", "GET", &g);
	assert_non_null(strstr(g.text, "{result=\"Failed\",reason=\"R5\"} 1\n"));
	assert_non_null(strstr(g.text, "{result=\"other\",reason=\"\"} 874\n"));
	gw_metrics_stop(s);
}

static void what_would_break_a_label_is_left_out(void **state)
{
	(void)state;
	struct got g;
	struct gw_metrics *s = start((struct gw_metrics_opts){0});
	gw_metrics_ended(s, "Failed", "a\"b\nc\\", 0, 0);
	get(s, "/metrics", "GET", &g);
	assert_non_null(strstr(g.text, "reason=\"abc\"} 1\n"));
	gw_metrics_stop(s);
}

static bool ill(void *ctx, char *why, size_t size)
{
	(void)snprintf(why, size, "a leg is missing");
	return *(bool *)ctx;
}

static void health_says_why_not(void **state)
{
	(void)state;
	bool well = false;
	struct got g;
	struct gw_metrics *s = start((struct gw_metrics_opts){.well = ill, .ctx = &well});
	get(s, "/healthz", "GET", &g);
	assert_int_equal(g.code, 503);
	assert_string_equal(g.text, "a leg is missing\n");
	well = true;
	get(s, "/healthz", "GET", &g);
	assert_int_equal(g.code, 200);
	get(s, "/", "GET", &g);
	assert_int_equal(g.code, 404);
	get(s, "/metrics", "DELETE", &g);
	assert_int_equal(g.code, 405);
	gw_metrics_stop(s);
}

static void a_bad_address_is_refused_with_words(void **state)
{
	(void)state;
	static const char *const bad[] = {"", "9461", ":9461", "host.example:1", "1.2.3.4:x", "127.0.0.1:99999"};
	for (size_t i = 0; i < gw_countof(bad); i++) {
		struct gw_metrics *s = NULL;
		struct gw_err e = {0};
		assert_true(gw_metrics_start(&(struct gw_metrics_opts){.listen = bad[i]}, &s, &e) < 0);
		assert_null(s);
		assert_true(e.text[0] != 0);
	}
}

static void one_that_is_off_counts_nothing(void **state)
{
	(void)state;
	gw_metrics_ended(NULL, "Failed", "x", 1, 1);
	gw_metrics_stop(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(freezes_are_counted_into_buckets_that_contain_each_other),
	        cmocka_unit_test(however_many_reasons_there_are_the_page_stays_small),
	        cmocka_unit_test(what_would_break_a_label_is_left_out),
	        cmocka_unit_test(health_says_why_not),
	        cmocka_unit_test(a_bad_address_is_refused_with_words),
	        cmocka_unit_test(one_that_is_off_counts_nothing),
	};
	return cmocka_run_group_tests_name("kube/metrics", tests, NULL, NULL);
}
