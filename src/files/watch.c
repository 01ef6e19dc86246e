#include "files/watch.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/io.h"

enum { QUEUE_BYTES = 64 * 1024 };
static const uint32_t NAMES = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB;
static const uint32_t CONTENTS = IN_MODIFY | IN_CLOSE_WRITE;

struct dir {
	char *path; /* NULL: not in use */
	uint32_t tree;
};

struct gw_watch {
	int fd, stop_fd;
	pthread_t thread;
	pthread_mutex_t lock; /* all below, and reading fd */
	struct dir *dirs;     /* by watch number */
	size_t ndirs;
	struct gw_names names;
	bool lost;
	char queue[QUEUE_BYTES] __attribute__((aligned(__alignof__(struct inotify_event))));
};

static void on_event(struct gw_watch *w, const struct inotify_event *ev)
{
	char path[PATH_MAX];
	if (ev->mask & IN_Q_OVERFLOW)
		w->lost = true;
	if (ev->wd < 0 || (size_t)ev->wd >= w->ndirs || !w->dirs[ev->wd].path)
		return;
	struct dir *d = &w->dirs[ev->wd];
	if (ev->mask & IN_IGNORED) {
		free(d->path);
		d->path = NULL;
		return;
	}
	bool is_root = !strcmp(d->path, ".");
	int n = ev->len == 0 ? snprintf(path, sizeof(path), "%s", d->path)
	        : is_root    ? snprintf(path, sizeof(path), "%s", ev->name)
	                     : snprintf(path, sizeof(path), "%s/%s", d->path, ev->name);
	if (n >= (int)sizeof(path) || gw_names_add(&w->names, d->tree, path) < 0)
		w->lost = true;
}

/* Under lock. */
static void drain(struct gw_watch *w)
{
	ssize_t n;
	while ((n = read(w->fd, w->queue, sizeof(w->queue))) > 0)
		for (char *p = w->queue; p < w->queue + n;) {
			const struct inotify_event *ev = (const void *)p;
			on_event(w, ev);
			p += sizeof(*ev) + ev->len;
		}
}

static void *watch_main(void *arg)
{
	struct gw_watch *w = arg;
	struct pollfd p[2] = {{.fd = w->fd, .events = POLLIN}, {.fd = w->stop_fd, .events = POLLIN}};
	while (!p[1].revents) {
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			break;
		pthread_mutex_lock(&w->lock);
		drain(w);
		pthread_mutex_unlock(&w->lock);
	}
	return NULL;
}

int gw_watch_new(struct gw_watch **out, struct gw_err *e)
{
	struct gw_watch *w = calloc(1, sizeof(*w));
	assert(w);
	w->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (w->fd < 0) {
		int err = errno;
		free(w);
		return gw_fail(e, GW_SYS, err, "watch files (fs.inotify.max_user_instances)");
	}
	w->stop_fd = eventfd(0, EFD_CLOEXEC);
	pthread_mutex_init(&w->lock, NULL);
	int rc = pthread_create(&w->thread, NULL, watch_main, w);
	if (rc != 0) {
		(void)close(w->fd);
		(void)close(w->stop_fd);
		free(w);
		return gw_fail(e, GW_SYS, rc, "start the thread that watches files");
	}
	*out = w;
	return 0;
}

void gw_watch_free(struct gw_watch *w)
{
	uint64_t one = 1;
	if (!w)
		return;
	(void)!write(w->stop_fd, &one, sizeof(one));
	pthread_join(w->thread, NULL);
	(void)close(w->fd);
	(void)close(w->stop_fd);
	for (size_t i = 0; i < w->ndirs; i++)
		free(w->dirs[i].path);
	free(w->dirs);
	gw_changes_free(gw_names_take(&w->names));
	pthread_mutex_destroy(&w->lock);
	free(w);
}

static int remember(struct gw_watch *w, int wd, uint32_t tree, const char *path)
{
	if ((size_t)wd >= w->ndirs) {
		size_t n = w->ndirs ? w->ndirs * 2 : 256;
		if (n <= (size_t)wd)
			n = (size_t)wd + 1;
		struct dir *more = realloc(w->dirs, n * sizeof(*more));
		if (!more)
			return -ENOMEM;
		memset(more + w->ndirs, 0, (n - w->ndirs) * sizeof(*more));
		w->dirs = more;
		w->ndirs = n;
	}
	char *copy = strdup(path);
	if (!copy)
		return -ENOMEM;
	free(w->dirs[wd].path);
	w->dirs[wd] = (struct dir){.path = copy, .tree = tree};
	return 0;
}

int gw_watch_dir(struct gw_watch *w, uint32_t tree, const char *path, int fd, bool contents_only)
{
	char link[32];
	gw_path(link, sizeof(link), "/proc/self/fd/%d", fd);
	pthread_mutex_lock(&w->lock); /* its first event must find it remembered */
	int wd = inotify_add_watch(w->fd, link, IN_ONLYDIR | CONTENTS | (contents_only ? 0 : NAMES));
	int rc = wd < 0 ? -errno : remember(w, wd, tree, path);
	pthread_mutex_unlock(&w->lock);
	return rc;
}

struct gw_change *gw_watch_take(struct gw_watch *w, bool *out_lost)
{
	pthread_mutex_lock(&w->lock);
	drain(w);
	struct gw_change *first = gw_names_take(&w->names);
	*out_lost = w->lost;
	w->lost = false;
	pthread_mutex_unlock(&w->lock);
	return first;
}
