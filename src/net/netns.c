#include "net/netns.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/nsfs.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/scope.h"

int gw_netns_open(const char *path, int *out_fd, struct gw_err *e)
{
	gw_auto(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return gw_fail(e, GW_SYS, errno, "open network namespace %s", path);
	int type = ioctl(fd, NS_GET_NSTYPE);
	if (type != CLONE_NEWNET)
		return gw_fail(e, GW_INPUT, EINVAL, "%s is not a network namespace", path);
	*out_fd = gw_take_fd(&fd);
	return 0;
}

int gw_netns_is_ours(int fd)
{
	struct stat there, here;
	if (fstat(fd, &there) < 0 || stat("/proc/thread-self/ns/net", &here) < 0)
		return -errno;
	return there.st_dev == here.st_dev && there.st_ino == here.st_ino;
}

struct call {
	int fd;
	int (*fn)(void *arg, struct gw_err *e);
	void *arg;
	struct gw_err err;
	int rc;
};

static void *call_there(void *arg)
{
	struct call *c = arg;
	if (setns(c->fd, CLONE_NEWNET) < 0)
		c->rc = gw_fail(&c->err, GW_SYS, errno, "enter a network namespace");
	else
		c->rc = c->fn(c->arg, &c->err);
	return NULL;
}

/* Run body in a thread that takes no signals, and wait for its end. */
static int in_thread(void *(*body)(void *), void *arg, struct gw_err *e)
{
	pthread_t t;
	sigset_t all, old;
	sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	int rc = pthread_create(&t, NULL, body, arg);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc != 0)
		return gw_fail(e, GW_SYS, rc, "start a thread");
	(void)pthread_join(t, NULL);
	return 0;
}

int gw_netns_run(int fd, int (*fn)(void *arg, struct gw_err *e), void *arg, struct gw_err *e)
{
	struct call c = {.fd = fd, .fn = fn, .arg = arg};
	int rc = in_thread(call_there, &c, e);
	if (rc < 0)
		return rc;
	if (c.rc < 0 && e)
		*e = c.err;
	return c.rc;
}

/* A bind mount of a namespace must be seen by the mount namespaces of
 * runtimes started earlier, so its directory has to propagate. */
static int shared_directory(const char *dir, struct gw_err *e)
{
	int rc = gw_mkdirs(dir, e);
	if (rc < 0)
		return rc;
	if (mount("", dir, "none", MS_SHARED | MS_REC, NULL) == 0)
		return 0;
	/* EINVAL: not a mount point yet. */
	if (errno != EINVAL || mount(dir, dir, "none", MS_BIND | MS_REC, NULL) < 0 ||
	    mount("", dir, "none", MS_SHARED | MS_REC, NULL) < 0)
		return gw_fail(e, GW_SYS, errno, "make %s a shared mount", dir);
	return 0;
}

struct make {
	const char *path;
	int err;
};

static void *make_there(void *arg)
{
	struct make *m = arg;
	if (unshare(CLONE_NEWNET) < 0 || mount("/proc/thread-self/ns/net", m->path, "none", MS_BIND, NULL) < 0)
		m->err = errno;
	return NULL;
}

int gw_netns_make(const char *path, struct gw_err *e)
{
	char dir[PATH_MAX];
	gw_path(dir, sizeof(dir), "%s", path);
	char *slash = strrchr(dir, '/');
	if (!slash || slash == dir)
		return gw_fail(e, GW_INPUT, EINVAL, "%s is no place for a network namespace", path);
	*slash = 0;
	int rc = shared_directory(dir, e);
	if (rc < 0)
		return rc;
	gw_auto(fd) int fd = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
	if (fd < 0)
		return gw_fail(e, GW_SYS, errno, "create %s", path);
	struct make m = {.path = path};
	rc = in_thread(make_there, &m, e);
	if (rc == 0 && m.err)
		rc = gw_fail(e, GW_SYS, m.err, "make network namespace %s", path);
	if (rc < 0)
		(void)unlink(path);
	return rc;
}

int gw_netns_drop(const char *path, struct gw_err *e)
{
	/* EINVAL: a file left by a crash between its creation and the mount. */
	if (umount2(path, MNT_DETACH) < 0 && errno != EINVAL && errno != ENOENT)
		return gw_fail(e, GW_SYS, errno, "unmount network namespace %s", path);
	if (unlink(path) < 0 && errno != ENOENT)
		return gw_fail(e, GW_SYS, errno, "remove %s", path);
	return 0;
}
