#include "test.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/json.h"
#include "base/scope.h"
#include "confine.h"

#define ALLOWED                                                                                                        \
	"{\"names\":[\"read\",\"io_uring_enter\",\"io_uring_setup\",\"write\",\"io_uring_register\"],\"action\":"      \
	"\"SCMP_ACT_ALLOW\"}"
#define CONFIG(DEFAULT, RULES, NOTES)                                                                                  \
	"{\"linux\":{\"resources\":{\"memory\":{\"limit\":9223372036854771712}},\"seccomp\":{\"defaultAction\":"       \
	"\"" DEFAULT "\",\"syscalls\":[" RULES "]}},\"annotations\":{" NOTES "}}"

/* NULL: nothing was changed. */
static char *confined(const char *text)
{
	struct gw_err e;
	gw_auto(jdoc) yyjson_doc *in = NULL;
	assert_int_equal(gw_json_parse(text, strlen(text), "config", &in, &e), 0);
	gw_auto(jmut) yyjson_mut_doc *doc = yyjson_doc_mut_copy(in, NULL);
	return confine_config(doc) ? gw_json_text(doc, NULL) : NULL;
}

static void io_uring_is_struck_and_all_else_stays(void **state)
{
	(void)state;
	gw_auto(mem) char *out = confined(CONFIG("SCMP_ACT_ERRNO", ALLOWED, ""));
	assert_string_equal(
	        out, CONFIG("SCMP_ACT_ERRNO", "{\"names\":[\"write\",\"read\"],\"action\":\"SCMP_ACT_ALLOW\"}", ""));
}

static void a_rule_of_nothing_else_goes(void **state)
{
	(void)state;
	gw_auto(mem) char *out = confined(CONFIG("SCMP_ACT_ERRNO",
	                                         "{\"names\":[\"io_uring_setup\"],\"action\":\"SCMP_ACT_ALLOW\"},"
	                                         "{\"names\":[\"clone\"],\"action\":\"SCMP_ACT_ALLOW\"}",
	                                         ""));
	assert_string_equal(out, CONFIG("SCMP_ACT_ERRNO", "{\"names\":[\"clone\"],\"action\":\"SCMP_ACT_ALLOW\"}", ""));
}

static void what_refuses_otherwise_is_left_alone(void **state)
{
	(void)state;
	assert_null(confined(CONFIG("SCMP_ACT_KILL_PROCESS", ALLOWED, "")));
	assert_null(confined(CONFIG("SCMP_ACT_ALLOW", ALLOWED, "")));
	assert_null(confined(
	        CONFIG("SCMP_ACT_ERRNO", "{\"names\":[\"io_uring_setup\"],\"action\":\"SCMP_ACT_ERRNO\"}", "")));
	assert_null(confined(CONFIG("SCMP_ACT_ERRNO", "{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ALLOW\"}", "")));
	assert_null(confined("{\"linux\":{}}"));
	assert_null(confined("{\"linux\":{\"seccomp\":{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":3}}}"));
	assert_null(confined("[]"));
}

static void an_annotation_leaves_it_in(void **state)
{
	(void)state;
	assert_null(confined(CONFIG("SCMP_ACT_ERRNO", ALLOWED, "\"live.godwit.dev/io-uring\":\"allow\"")));
	gw_auto(mem) char *out = confined(CONFIG("SCMP_ACT_ERRNO", ALLOWED, "\"live.godwit.dev/io-uring\":\"deny\""));
	assert_non_null(out);
}

static void a_bundle_is_changed_in_place(void **state)
{
	(void)state;
	char dir[] = "/tmp/confine-XXXXXX", path[64];
	struct gw_err e;
	gw_auto(mem) char *got = NULL;
	const char before[] = CONFIG("SCMP_ACT_ERRNO", ALLOWED, "");
	assert_non_null(mkdtemp(dir));
	gw_path(path, sizeof(path), "%s/config.json", dir);
	struct cmdline c = {.bundle = dir};
	assert_int_equal(confine(&c, &e), 0); /* there is none: runc says so */
	assert_int_equal(gw_write_file(path, before, strlen(before), &e), 0);
	assert_int_equal(confine(&c, &e), 0);
	assert_int_equal(gw_read_file(path, 4096, &got, NULL, &e), 0);
	assert_null(strstr(got, "io_uring"));
	assert_non_null(strstr(got, "9223372036854771712"));
	(void)unlink(path);
	(void)rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(io_uring_is_struck_and_all_else_stays), cmocka_unit_test(a_rule_of_nothing_else_goes),
	        cmocka_unit_test(what_refuses_otherwise_is_left_alone),  cmocka_unit_test(an_annotation_leaves_it_in),
	        cmocka_unit_test(a_bundle_is_changed_in_place),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
