#include "test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/io.h"
#include "godwit-criu.h"

struct dirs {
	char top[64], from[80], to[80], image[80];
	int from_fd, to_fd, image_fd;
};

static int setup(void **state)
{
	static struct dirs d;
	strcpy(d.top, "/tmp/gw-tmpfs-XXXXXX");
	assert_non_null(mkdtemp(d.top));
	snprintf(d.from, sizeof(d.from), "%s/from", d.top);
	snprintf(d.to, sizeof(d.to), "%s/to", d.top);
	snprintf(d.image, sizeof(d.image), "%s/image.tar.gz", d.top);
	assert_int_equal(mkdir(d.from, 0755) | mkdir(d.to, 0755), 0);
	d.from_fd = open(d.from, O_DIRECTORY);
	d.to_fd = open(d.to, O_DIRECTORY);
	d.image_fd = open(d.image, O_RDWR | O_CREAT, 0600);
	*state = &d;
	return d.from_fd < 0 || d.to_fd < 0 || d.image_fd < 0;
}

static int teardown(void **state)
{
	struct dirs *d = *state;
	close(d->from_fd);
	close(d->to_fd);
	close(d->image_fd);
	return gw_remove_tree(d->top, NULL);
}

static void put_file(int dirfd, const char *name, mode_t mode, const char *text)
{
	int fd = openat(dirfd, name, O_WRONLY | O_CREAT, mode);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

/* What runc makes in /dev, and a little more. */
static void fill(int fd)
{
	assert_int_equal(mkdirat(fd, "pts", 0755), 0);
	assert_int_equal(mkdirat(fd, "deep", 01777), 0);
	assert_int_equal(fchmodat(fd, "deep", 01777, 0), 0);
	assert_int_equal(mknodat(fd, "null", S_IFCHR | 0666, makedev(1, 3)), 0);
	assert_int_equal(fchmodat(fd, "null", 0666, 0), 0);
	assert_int_equal(symlinkat("/proc/self/fd", fd, "fd"), 0);
	assert_int_equal(mkfifoat(fd, "deep/pipe", 0640), 0);
	put_file(fd, "deep/text", 04755, "hello\n");
	put_file(fd, "empty", 0600, "");
	assert_int_equal(fchownat(fd, "empty", 1000, 1001, 0), 0);
}

static void assert_same(int a, int b, const char *name)
{
	struct stat x, y;
	assert_int_equal(fstatat(a, name, &x, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(fstatat(b, name, &y, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(x.st_mode, y.st_mode);
	assert_int_equal(x.st_uid, y.st_uid);
	assert_int_equal(x.st_gid, y.st_gid);
	assert_int_equal(x.st_rdev, y.st_rdev);
	assert_int_equal(x.st_size, y.st_size);
	if (!S_ISDIR(x.st_mode))
		assert_int_equal(x.st_mtime, y.st_mtime);
}

static void assert_all_same(struct dirs *d)
{
	static const char *const names[] = {"pts", "deep", "null", "fd", "deep/pipe", "deep/text", "empty"};
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		assert_same(d->from_fd, d->to_fd, names[i]);
	char target[32] = "";
	assert_true(readlinkat(d->to_fd, "fd", target, sizeof(target) - 1) > 0);
	assert_string_equal(target, "/proc/self/fd");
}

static void what_is_packed_is_unpacked_the_same(void **state)
{
	struct dirs *d = *state;
	fill(d->from_fd);
	assert_int_equal(gwc_pack(d->from_fd, d->image_fd), 0);
	assert_int_equal(lseek(d->image_fd, 0, SEEK_SET), 0);
	assert_int_equal(gwc_unpack(d->image_fd, d->to_fd), 0);
	assert_all_same(d);
}

static void the_real_tar_reads_our_image(void **state)
{
	struct dirs *d = *state;
	char cmd[300];
	fill(d->from_fd);
	assert_int_equal(gwc_pack(d->from_fd, d->image_fd), 0);
	snprintf(cmd, sizeof(cmd), "tar --extract --gzip --no-unquote --no-wildcards --directory %s < %s", d->to,
	         d->image);
	assert_int_equal(system(cmd), 0);
	assert_all_same(d);
}

static void an_image_of_the_real_tar_is_left_to_the_real_tar(void **state)
{
	struct dirs *d = *state;
	char cmd[300];
	fill(d->from_fd);
	snprintf(cmd, sizeof(cmd), "tar --create --gzip --directory %s . > %s", d->from, d->image);
	assert_int_equal(system(cmd), 0);
	assert_int_equal(lseek(d->image_fd, 0, SEEK_SET), 0);
	assert_int_equal(gwc_unpack(d->image_fd, d->to_fd), -1);
	assert_int_equal(lseek(d->image_fd, 0, SEEK_CUR), 0);
}

static void a_hard_link_is_left_to_the_real_tar(void **state)
{
	struct dirs *d = *state;
	put_file(d->from_fd, "a", 0600, "x");
	assert_int_equal(linkat(d->from_fd, "a", d->from_fd, "b", 0), 0);
	assert_int_equal(gwc_pack(d->from_fd, d->image_fd), -1);
	assert_int_equal(lseek(d->image_fd, 0, SEEK_END), 0);
}

static void a_socket_is_left_to_the_real_tar(void **state)
{
	struct dirs *d = *state;
	struct sockaddr_un su = {.sun_family = AF_UNIX};
	int s = socket(AF_UNIX, SOCK_STREAM, 0);
	snprintf(su.sun_path, sizeof(su.sun_path), "%s/s", d->from);
	assert_int_equal(bind(s, (struct sockaddr *)&su, sizeof(su)), 0);
	assert_int_equal(gwc_pack(d->from_fd, d->image_fd), -1);
	close(s);
}

static void a_truncated_image_is_refused(void **state)
{
	struct dirs *d = *state;
	fill(d->from_fd);
	assert_int_equal(gwc_pack(d->from_fd, d->image_fd), 0);
	off_t size = lseek(d->image_fd, 0, SEEK_END);
	assert_int_equal(ftruncate(d->image_fd, size / 2), 0);
	assert_int_equal(lseek(d->image_fd, 0, SEEK_SET), 0);
	assert_int_equal(gwc_unpack(d->image_fd, d->to_fd), -1);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
	        T(what_is_packed_is_unpacked_the_same),
	        T(the_real_tar_reads_our_image),
	        T(an_image_of_the_real_tar_is_left_to_the_real_tar),
	        T(a_hard_link_is_left_to_the_real_tar),
	        T(a_socket_is_left_to_the_real_tar),
	        T(a_truncated_image_is_refused),
	};
	return cmocka_run_group_tests_name("preload/tmpfs", tests, NULL, NULL);
}
