/* Open files: offsets, shared descriptions, flags, a deleted file, a
 * directory, a device, locks, a changed working directory. */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "victim.h"

static int offset, shared_a, shared_b, appending, deleted, dir, zero, locked, ranged;

static bool has(int fd, off_t at, const char *text)
{
	char buf[64] = "";
	return pread(fd, buf, strlen(text), at) == (ssize_t)strlen(text) && memcmp(buf, text, strlen(text)) == 0;
}

static int make(const char *path, const char *text, int flags)
{
	int fd = open(path, O_RDWR | O_CREAT | flags, 0640);
	VICTIM_MUST(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	return fd;
}

/* Locks are seen by others only. */
static const char *check_locks(void)
{
	pid_t p = fork();
	if (p == 0) {
		struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 5};
		int fd = open("/tmp/locked", O_RDWR);
		int rg = open("/tmp/ranged", O_RDWR);
		int rc = fd < 0 || rg < 0                    ? 1
		         : flock(fd, LOCK_EX | LOCK_NB) == 0 ? 2
		         : fcntl(rg, F_SETLK, &l) == 0       ? 3
		                                             : 0;
		_exit(rc);
	}
	int st = 0;
	if (p < 0 || waitpid(p, &st, 0) != p || !WIFEXITED(st))
		return "can't look at the locks";
	static const char *const words[] = {NULL, "a locked file can't be opened", "a flock is lost",
	                                    "a range lock is lost"};
	return WEXITSTATUS(st) < 4 ? words[WEXITSTATUS(st)] : "the look at the locks failed";
}

static const char *check_offsets(void)
{
	if (lseek(offset, 0, SEEK_CUR) != 7)
		return "a file's offset changed";
	off_t at = lseek(shared_a, 1, SEEK_CUR);
	if (lseek(shared_b, 0, SEEK_CUR) != at)
		return "two descriptors no longer share their offset";
	off_t before = lseek(appending, 0, SEEK_END);
	(void)lseek(appending, 0, SEEK_SET);
	if (write(appending, "+", 1) != 1 || lseek(appending, 0, SEEK_END) != before + 1 ||
	    !has(appending, 0, "append"))
		return "O_APPEND is forgotten";
	if (fcntl(offset, F_GETFD) != FD_CLOEXEC || fcntl(shared_a, F_GETFD) != 0)
		return "close-on-exec changed";
	return NULL;
}

static const char *check(void)
{
	char cwd[PATH_MAX] = "";
	char byte = 1;
	struct stat st;
	const char *bad = check_offsets();
	if (bad)
		return bad;
	if (!has(deleted, 0, "deleted but open") || fstat(deleted, &st) != 0 || st.st_nlink != 0)
		return "a deleted file lost its contents, or came back";
	if (!getcwd(cwd, sizeof cwd) || strcmp(cwd, "/tmp/place") != 0)
		return "the working directory changed";
	if (openat(dir, "inside", O_RDONLY | O_CLOEXEC) < 0)
		return "an open directory lost its contents";
	if (read(zero, &byte, 1) != 1 || byte != 0)
		return "/dev/zero is broken";
	if (umask(027) != 027)
		return "the umask changed";
	if (stat("/tmp/link", &st) != 0 || lstat("/tmp/link", &st) != 0 || !S_ISLNK(st.st_mode))
		return "a symbolic link is lost";
	if (stat("/tmp/mode", &st) != 0 || (st.st_mode & 07777) != 04711 || st.st_uid != 1234 || st.st_gid != 4321)
		return "owner or mode of a file changed";
	return check_locks();
}

int main(void)
{
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 5};
	offset = make("/tmp/offset", "0123456789", O_CLOEXEC);
	VICTIM_MUST(lseek(offset, 7, SEEK_SET) == 7);
	shared_a = make("/tmp/shared", "0123456789", 0);
	shared_b = dup(shared_a);
	appending = make("/tmp/append", "append", O_APPEND);
	deleted = make("/tmp/deleted", "deleted but open", 0);
	VICTIM_MUST(unlink("/tmp/deleted") == 0);
	VICTIM_MUST(mkdir("/tmp/place", 0755) == 0 && chdir("/tmp/place") == 0);
	(void)close(make("inside", "x", 0));
	dir = open(".", O_RDONLY | O_DIRECTORY);
	zero = open("/dev/zero", O_RDONLY);
	locked = make("/tmp/locked", "x", 0);
	ranged = make("/tmp/ranged", "01234567890123456789", 0);
	VICTIM_MUST(flock(locked, LOCK_EX) == 0 && fcntl(ranged, F_SETLK, &l) == 0);
	VICTIM_MUST(symlink("/tmp/append", "/tmp/link") == 0);
	int m = make("/tmp/mode", "x", 0);
	VICTIM_MUST(fchown(m, 1234, 4321) == 0 && fchmod(m, 04711) == 0);
	(void)close(m);
	(void)umask(027);
	victim_serve(check, NULL);
}
