#include "move/held.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/gw_log.h"
#include "base/io.h"
#include "base/scope.h"
#include "ckpt/container.h"
#include "ckpt/freezer.h"
#include "move/daemon.h"
#include "move/group.h"

enum { KILL_TIMEOUT_MS = 10000 };

struct gw_held {
	struct gw_held *next;
	char mig[40];
	char container[256];
	int released; /* eventfd */
	bool moved;   /* somebody waits for it */
};

static void file_of(const struct gw_daemon *d, const char *container, char *out, size_t size)
{
	gw_path(out, size, "%s/held/%s", d->cfg.state_dir, container);
}

static struct gw_held *find_locked(struct gw_daemon *d, const char *mig)
{
	for (struct gw_held *h = d->held; h; h = h->next)
		if (!strcmp(h->mig, mig))
			return h;
	return NULL;
}

int gw_held_begin(struct gw_daemon *d, const char *mig, const char *container, bool object_goes, struct gw_err *e)
{
	char path[PATH_MAX + 300], text[64];
	pthread_mutex_lock(&d->lock);
	bool known = find_locked(d, mig);
	pthread_mutex_unlock(&d->lock);
	if (known)
		return 0;
	gw_path(path, sizeof(path), "%s/held", d->cfg.state_dir);
	int rc = gw_mkdirs(path, e);
	file_of(d, container, path, sizeof(path));
	int n = snprintf(text, sizeof(text), "%s%s", mig, object_goes ? GW_HELD_NO_EXEC : "");
	if (rc == 0)
		rc = gw_write_file(path, text, (size_t)n, e);
	struct gw_held *h = rc == 0 ? calloc(1, sizeof(*h)) : NULL;
	if (h)
		h->released = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (rc == 0 && (!h || h->released < 0)) {
		free(h);
		(void)unlink(path);
		return gw_fail(e, GW_SYS, ENOMEM, "hold %s", container);
	}
	if (rc < 0)
		return rc;
	(void)snprintf(h->mig, sizeof(h->mig), "%s", mig);
	(void)snprintf(h->container, sizeof(h->container), "%s", container);
	pthread_mutex_lock(&d->lock);
	h->next = d->held;
	d->held = h;
	pthread_mutex_unlock(&d->lock);
	return 0;
}

/* The first whose id is mig's own, or of its pod. */
static bool end_one(struct gw_daemon *d, const char *mig, bool of_pod)
{
	char path[PATH_MAX + 300];
	struct gw_held *gone = NULL;
	pthread_mutex_lock(&d->lock);
	for (struct gw_held **p = &d->held; *p; p = &(*p)->next)
		if (of_pod ? gw_group_is_of((*p)->mig, mig) : !strcmp((*p)->mig, mig)) {
			gone = *p;
			*p = gone->next;
			break;
		}
	pthread_mutex_unlock(&d->lock);
	if (!gone)
		return false;
	file_of(d, gone->container, path, sizeof(path));
	(void)unlink(path);
	(void)close(gone->released);
	free(gone);
	return true;
}

void gw_held_end(struct gw_daemon *d, const char *mig)
{
	(void)end_one(d, mig, false);
}

void gw_held_end_pod(struct gw_daemon *d, const char *mig)
{
	while (end_one(d, mig, true))
		;
}

void gw_held_kill(struct gw_daemon *d, const char *container)
{
	struct gw_container *c = NULL;
	struct gw_err e;
	int rc = gw_container_load(d->cfg.runc_root, container, &c, &e);
	bool is_over = rc < 0 && (!strcmp(e.code, "NoSuchContainer") || !strcmp(e.code, "NotRunning"));
	if (rc == 0)
		rc = gw_freezer_kill(c->freezer_dir, KILL_TIMEOUT_MS, &e);
	if (rc < 0 && !is_over)
		gw_warn("container not ended", kv_str("container", container), kv_str("reason", e.text));
	gw_container_free(c);
}

int gw_held_release(struct gw_daemon *d, const char *mig, struct gw_err *e)
{
	uint64_t one = 1;
	pthread_mutex_lock(&d->lock);
	bool any = false;
	for (struct gw_held *h = d->held; h; h = h->next)
		if (gw_group_is_of(h->mig, mig)) {
			(void)!write(h->released, &one, sizeof(one));
			any = true;
		}
	pthread_mutex_unlock(&d->lock);
	return any ? 0
	           : gw_fail_code(e, GW_INPUT, "NoSuchMigration", "no container is held for migration %s on this host",
	                          mig);
}

bool gw_held_moved(struct gw_daemon *d, const char *mig)
{
	pthread_mutex_lock(&d->lock);
	struct gw_held *h = find_locked(d, mig);
	bool moved = h && h->moved;
	pthread_mutex_unlock(&d->lock);
	return moved;
}

int gw_held_wait(struct gw_daemon *d, const char *mig)
{
	pthread_mutex_lock(&d->lock);
	struct gw_held *h = find_locked(d, mig);
	int fd = h ? h->released : -1;
	if (h)
		h->moved = true;
	pthread_mutex_unlock(&d->lock);
	/* Only the migration's own thread ends the record, so fd stays. */
	struct pollfd p[2] = {{.fd = fd, .events = POLLIN}, {.fd = d->stop_fd, .events = POLLIN}};
	while (fd >= 0 && poll(p, 2, -1) <= 0)
		;
	return fd >= 0 && p[0].revents ? 0 : -ECANCELED;
}
