/* A file that is open by a name that is gone, while another name is left. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "victim.h"

static int fd;

static const char *check(void)
{
	char buf[32] = "";
	struct stat a;
	struct stat b;
	if (pread(fd, buf, 16, 0) != 16 || memcmp(buf, "one name is left", 16) != 0)
		return "the file lost its contents";
	if (access("/tmp/first", F_OK) == 0)
		return "the deleted name is back";
	if (fstat(fd, &a) != 0 || stat("/tmp/second", &b) != 0 || a.st_ino != b.st_ino || a.st_nlink != 1)
		return "descriptor and name are no longer one file";
	return NULL;
}

int main(void)
{
	fd = open("/tmp/first", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	VICTIM_MUST(fd >= 0 && write(fd, "one name is left", 16) == 16);
	VICTIM_MUST(link("/tmp/first", "/tmp/second") == 0 && unlink("/tmp/first") == 0);
	victim_serve(check, NULL);
}
