#include "test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/scope.h"
#include "install/settings.h"

#define RUNTIME "/opt/godwit/bin/godwit-runtime"

/* As containerd 1.7 writes it. */
static const char DUMP[] = "disabled_plugins = []\n"
                           "root = \"/var/lib/containerd\"\n"
                           "state = \"/run/containerd\"\n"
                           "version = 2\n"
                           "\n"
                           "[plugins]\n"
                           "\n"
                           "  [plugins.\"io.containerd.grpc.v1.cri\"]\n"
                           "    sandbox_image = \"pause:1\"\n"
                           "    [plugins.\"io.containerd.grpc.v1.cri\".containerd]\n"
                           "      default_runtime_name = \"runc\"\n"
                           "      [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes]\n"
                           "        [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n"
                           "          base_runtime_spec = \"\"\n"
                           "          container_annotations = [\"nvidia/*\"]\n"
                           "          privileged_without_host_devices = true\n"
                           "          runtime_type = \"io.containerd.runc.v2\"\n"
                           "          snapshotter = \"overlayfs\"\n"
                           "          [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\n"
                           "            BinaryName = \"/usr/sbin/runc\"\n"
                           "            IoGid = 0\n"
                           "            Root = \"/run/other/runc\"\n"
                           "            SystemdCgroup = true\n"
                           "    [plugins.\"io.containerd.grpc.v1.cri\".cni]\n"
                           "      bin_dir = \"/opt/cni/bin\"\n";

static const char FILE2[] = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\n  sandbox_image = \"pause:1\"\n";

static void has(const char *text, const char *words)
{
	if (!strstr(text, words))
		fail_msg("'%s' is not in:\n%s", words, text);
}

static void has_not(const char *text, const char *words)
{
	if (strstr(text, words))
		fail_msg("'%s' is in:\n%s", words, text);
}

static void the_default_runtime_may_be_ours(void **state)
{
	(void)state;
	assert_false(gw_settings_is_default(""));
	assert_false(gw_settings_is_default("  default_runtime_name = \"runc\"\n"));
	assert_false(gw_settings_is_default("  # default_runtime_name = \"godwit\"\n"));
	assert_true(gw_settings_is_default("[x]\n  default_runtime_name = 'godwit'\n"));
}

static void the_handler_is_as_the_default_runtime(void **state)
{
	(void)state;
	gw_auto(mem) char *out = NULL;
	struct gw_err e;
	assert_int_equal(gw_settings_with(FILE2, DUMP, RUNTIME, &out, &e), 0);
	has(out, "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.godwit.options]\n");
	has(out, "BinaryName = \"" RUNTIME "\"");
	has(out, "pod_annotations = [\"godwit.dev/*\"");
	has(out, "SystemdCgroup = true");
	has(out, "Root = \"/run/other/runc\"");
	has(out, "snapshotter = \"overlayfs\"");
	has(out, "privileged_without_host_devices = true");
	has_not(out, "/usr/sbin/runc");
	has_not(out, "nvidia");
	has_not(out, "IoGid");
	has_not(out, "base_runtime_spec");
	has_not(out, "bin_dir");
}

static void taken_away_the_file_is_letter_for_letter_what_it_was(void **state)
{
	(void)state;
	static const char *const files[] = {FILE2,
	                                    "",
	                                    "version = 2",
	                                    "version = 3\n\n",
	                                    "\n",
	                                    "# version 1\n",
	                                    "version = 2\r\n[plugins]\r\n\r\n  # end without a new line"};
	for (size_t i = 0; i < gw_countof(files); i++) {
		gw_auto(mem) char *out = NULL, *back = NULL, *again = NULL;
		struct gw_err e;
		assert_int_equal(gw_settings_with(files[i], DUMP, RUNTIME, &out, &e), 0);
		assert_true(gw_settings_has(out));
		back = gw_settings_without(out);
		assert_string_equal(back, files[i]);
		assert_false(gw_settings_has(back));
		/* Twice is as once. */
		assert_int_equal(gw_settings_with(out, DUMP, RUNTIME, &again, &e), 0);
		assert_string_equal(again, out);
	}
}

static void what_others_wrote_behind_it_stays(void **state)
{
	(void)state;
	gw_auto(mem) char *out = NULL, *more = NULL, *back = NULL;
	struct gw_err e;
	assert_int_equal(gw_settings_with(FILE2, DUMP, RUNTIME, &out, &e), 0);
	assert_true(asprintf(&more, "%s[metrics]\n", out) > 0);
	back = gw_settings_without(more);
	assert_int_equal(strncmp(back, FILE2, strlen(FILE2)), 0);
	assert_string_equal(back + strlen(FILE2), "[metrics]\n");
}

static void tables_are_named_as_the_files_version_wants_it(void **state)
{
	(void)state;
	static const struct {
		const char *text, *table;
	} cases[] = {{"", "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.godwit]"},
	             {"# old\n", "[plugins.cri.containerd.runtimes.godwit]"},
	             {"version = 1\n", "[plugins.cri.containerd.runtimes.godwit]"},
	             {"version=3\n", "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.godwit]"}};
	for (size_t i = 0; i < gw_countof(cases); i++) {
		gw_auto(mem) char *out = NULL;
		struct gw_err e;
		assert_int_equal(gw_settings_with(cases[i].text, DUMP, RUNTIME, &out, &e), 0);
		has(out, cases[i].table);
	}
	char *none = NULL;
	struct gw_err e;
	assert_int_equal(gw_settings_with("version = 4\n", DUMP, RUNTIME, &none, &e), -EINVAL);
}

static void somebody_elses_handler_of_that_name_is_left_alone(void **state)
{
	(void)state;
	char *none = NULL;
	struct gw_err e;
	assert_int_equal(
	        gw_settings_with("version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.godwit]\n",
	                         DUMP, RUNTIME, &none, &e),
	        -EEXIST);
	assert_null(none);
}

static void a_dump_says_whether_it_was_taken(void **state)
{
	(void)state;
	assert_false(gw_settings_taken(DUMP, RUNTIME));
	assert_true(gw_settings_taken("[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.godwit.options]\n"
	                              "  BinaryName = '/opt/godwit/bin/godwit-runtime'\n",
	                              RUNTIME));
	assert_false(gw_settings_taken("[a.runtimes.godwit.options]\n  BinaryName = \"/other\"\n", RUNTIME));
	assert_false(gw_settings_taken("[a.runtimes.godwit.options]\n[b]\n  BinaryName = \"" RUNTIME "\"\n", RUNTIME));
}

static void values_are_found_where_they_are(void **state)
{
	(void)state;
	char v[100];
	gw_settings_value(DUMP, "state", v, sizeof(v));
	assert_string_equal(v, "/run/containerd");
	gw_settings_value(DUMP, "options/Root", v, sizeof(v));
	assert_string_equal(v, "/run/other/runc");
	gw_settings_value(DUMP, "options/ShimCgroup", v, sizeof(v));
	assert_string_equal(v, "");
	gw_settings_value(DUMP, "bin_dir", v, sizeof(v));
	assert_string_equal(v, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(the_default_runtime_may_be_ours),
	        cmocka_unit_test(the_handler_is_as_the_default_runtime),
	        cmocka_unit_test(taken_away_the_file_is_letter_for_letter_what_it_was),
	        cmocka_unit_test(what_others_wrote_behind_it_stays),
	        cmocka_unit_test(tables_are_named_as_the_files_version_wants_it),
	        cmocka_unit_test(somebody_elses_handler_of_that_name_is_left_alone),
	        cmocka_unit_test(a_dump_says_whether_it_was_taken),
	        cmocka_unit_test(values_are_found_where_they_are),
	};
	return cmocka_run_group_tests_name("settings", tests, NULL, NULL);
}
