#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "ckpt/container.h"

static char root[64];

static uint64_t my_start(void)
{
	char *text;
	assert_int_equal(gw_read_file("/proc/self/stat", 4096, &text, NULL, NULL), 0);
	const char *p = strrchr(text, ')') + 2;
	for (int field = 3; field < 22; field++)
		p = strchr(p, ' ') + 1;
	uint64_t v = strtoull(p, NULL, 10);
	free(text);
	return v;
}

static void write_state(pid_t pid, uint64_t start)
{
	char path[200], text[2000];
	snprintf(path, sizeof(path), "%s/web", root);
	assert_int_equal(gw_mkdirs(path, NULL), 0);
	int n = snprintf(text, sizeof(text),
	                 "{\"id\":\"web\",\"init_process_pid\":%d,\"init_process_start\":%lu,"
	                 "\"config\":{\"rootfs\":\"/r\",\"labels\":[\"bundle=%s\"],\"mask_paths\":[\"/proc/keys\"],"
	                 "\"devices\":[{\"path\":\"/dev/null\"}],"
	                 "\"mounts\":[{\"source\":\"/etc/hosts\",\"destination\":\"/etc/hosts\",\"device\":\"bind\"}],"
	                 "\"namespaces\":[{\"type\":\"NEWPID\",\"path\":\"\"},{\"type\":\"NEWNET\",\"path\":\"/run/"
	                 "netns/web\"}]},"
	                 "\"cgroup_paths\":{\"\":\"/u\",\"freezer\":\"/f\",\"cpu\":\"/c\"},"
	                 "\"external_descriptors\":[\"/dev/null\",\"pipe:[12]\",\"pipe:[12]\"]}",
	                 pid, (unsigned long)start, root);
	snprintf(path, sizeof(path), "%s/web/state.json", root);
	assert_int_equal(gw_write_file(path, text, (size_t)n, NULL), 0);
	snprintf(path, sizeof(path), "%s/config.json", root);
	assert_int_equal(gw_write_file(path, "{\"process\":{\"terminal\":false}}", 30, NULL), 0);
}

static int setup(void **state)
{
	(void)state;
	strcpy(root, "/tmp/gw-cont-XXXXXX");
	return mkdtemp(root) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	return gw_remove_tree(root, NULL);
}

static void a_running_container_is_read_whole(void **state)
{
	(void)state;
	struct gw_container *c;
	write_state(getpid(), my_start());
	assert_int_equal(gw_container_load(root, "web", &c, NULL), 0);
	assert_int_equal(c->init_pid, getpid());
	assert_string_equal(c->netns_path, "/run/netns/web");
	assert_string_equal(c->freezer_dir, "/f");
	assert_string_equal(c->memory_dir, "/u");
	assert_string_equal(c->bundle, root);
	assert_int_equal(c->nmounts, 1);
	assert_string_equal(c->mounts[0].type, "bind");
	assert_int_equal(c->nmasked, 1);
	assert_string_equal(c->devices[0], "/dev/null");
	assert_string_equal(c->descriptors_json, "[\"/dev/null\",\"pipe:[12]\",\"pipe:[12]\"]");
	gw_container_free(c);
}

static void another_process_with_the_same_pid_is_not_it(void **state)
{
	(void)state;
	struct gw_container *c;
	struct gw_err e;
	write_state(getpid(), my_start() + 1);
	assert_true(gw_container_load(root, "web", &c, &e) < 0);
	assert_string_equal(e.code, "NotRunning");
}

static void an_unknown_name_says_where_it_was_looked_for(void **state)
{
	(void)state;
	struct gw_container *c;
	struct gw_err e;
	assert_true(gw_container_load(root, "nope", &c, &e) < 0);
	assert_string_equal(e.code, "NoSuchContainer");
	assert_non_null(strstr(e.text, root));
}

static void a_name_that_is_a_path_is_refused(void **state)
{
	(void)state;
	struct gw_container *c;
	static const char *const bad[] = {"", "..", "../web", "a/b", ".hidden"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct gw_err e;
		assert_true(gw_container_load(root, bad[i], &c, &e) < 0);
		assert_string_equal(e.code, "NoSuchContainer");
	}
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
	        T(a_running_container_is_read_whole),
	        T(another_process_with_the_same_pid_is_not_it),
	        T(an_unknown_name_says_where_it_was_looked_for),
	        T(a_name_that_is_a_path_is_refused),
	};
	return cmocka_run_group_tests_name("ckpt/container", tests, NULL, NULL);
}
