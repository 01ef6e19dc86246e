#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/scope.h"
#include "install/files.h"

static char dir[] = "/tmp/files-XXXXXX", a[64], b[64];

static int make(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(dir));
	(void)snprintf(a, sizeof(a), "%s/a", dir);
	(void)snprintf(b, sizeof(b), "%s/b", dir);
	return 0;
}

static int drop(void **state)
{
	(void)state;
	return gw_remove_tree(dir, NULL);
}

static mode_t mode_of(const char *path)
{
	struct stat st;
	assert_int_equal(lstat(path, &st), 0);
	return st.st_mode & 07777;
}

static void a_file_that_is_replaced_keeps_its_mode(void **state)
{
	(void)state;
	struct gw_err e;
	gw_auto(mem) char *text = NULL;
	assert_int_equal(gw_fs_put(a, "one", 3, 0644, &e), 0);
	assert_int_equal(mode_of(a), 0644);
	assert_int_equal(chmod(a, 0600), 0);
	assert_int_equal(gw_fs_put(a, "two!", 4, 0644, &e), 0);
	assert_int_equal(mode_of(a), 0600);
	assert_int_equal(gw_read_file(a, 100, &text, NULL, &e), 0);
	assert_string_equal(text, "two!");
	assert_int_equal(gw_fs_count(dir), 1);
	assert_int_equal(gw_fs_put("/nonexistent/x", "", 0, 0644, &e), -ENOENT);
}

static void a_link_is_turned_in_place(void **state)
{
	(void)state;
	struct gw_err e;
	assert_int_equal(gw_fs_link("x", b, &e), 0);
	assert_int_equal(gw_fs_link("y", b, &e), 0);
	assert_true(gw_fs_leads_to(b, "y"));
	assert_false(gw_fs_leads_to(b, "x"));
	assert_false(gw_fs_leads_to(a, "x"));
}

static void a_tree_comes_whole_with_its_modes(void **state)
{
	(void)state;
	struct gw_err e;
	char from[80], to[80], path[100];
	gw_auto(mem) char *text = NULL;
	(void)snprintf(from, sizeof(from), "%s/from", dir);
	(void)snprintf(to, sizeof(to), "%s/to", dir);
	(void)snprintf(path, sizeof(path), "%s/sub", from);
	assert_int_equal(gw_mkdirs(path, &e), 0);
	(void)snprintf(path, sizeof(path), "%s/sub/program", from);
	assert_int_equal(gw_fs_put(path, "#!", 2, 0755, &e), 0);
	(void)snprintf(path, sizeof(path), "%s/now", from);
	assert_int_equal(symlink("sub", path), 0);
	/* What an earlier, killed call has left is no hindrance. */
	(void)snprintf(path, sizeof(path), "%s.godwit-new/sub", to);
	assert_int_equal(gw_mkdirs(path, &e), 0);
	gw_auto(fd) int fd = open(from, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(gw_fs_copy_tree(fd, to, &e), 0);
	(void)snprintf(path, sizeof(path), "%s/now/program", to);
	assert_int_equal(gw_read_file(path, 100, &text, NULL, &e), 0);
	assert_string_equal(text, "#!");
	assert_int_equal(mode_of(path), 0755);
	assert_int_equal(mode_of(to), 0755);
	assert_int_equal(gw_fs_count(to), 2);
	/* A second time there is something in the way. */
	assert_true(gw_fs_copy_tree(fd, to, &e) < 0);
	(void)snprintf(path, sizeof(path), "%s.godwit-new", to);
	assert_false(gw_fs_exists(path));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(a_file_that_is_replaced_keeps_its_mode),
	        cmocka_unit_test(a_link_is_turned_in_place),
	        cmocka_unit_test(a_tree_comes_whole_with_its_modes),
	};
	return cmocka_run_group_tests_name("files", tests, make, drop);
}
