#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/gw_log.h"
#include "base/scope.h"
#include "mem/pages_priv.h"

enum { PIDS_MAX = 1 << 16 };

static int note_pid(void *ctx, pid_t pid)
{
	struct wipe_scan *w = ctx;
	if (w->n == w->cap) {
		size_t cap = w->cap ? w->cap * 2 : 64;
		pid_t *more = cap <= PIDS_MAX ? realloc(w->pids, cap * sizeof(*more)) : NULL;
		if (!more)
			return -ENOMEM;
		w->pids = more;
		w->cap = cap;
	}
	w->pids[w->n++] = pid;
	return 0;
}

/* The pid that the process has in its own, innermost pid namespace. */
static pid_t vpid_of(pid_t pid)
{
	char path[64], text[4096];
	(void)snprintf(path, sizeof(path), "/proc/%d/status", pid);
	gw_auto(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return -1;
	text[n] = 0;
	char *line = strstr(text, "\nNSpid:");
	if (!line)
		return -1;
	line[1 + strcspn(line + 1, "\n")] = 0;
	char *last = strrchr(line, '\t');
	return last ? (pid_t)strtol(last + 1, NULL, 10) : -1;
}

static void open_next(struct server *s, struct wipe_scan *w)
{
	char path[64];
	pid_t pid = w->pids[w->at++], vpid = vpid_of(pid);
	w->space = NULL;
	for (struct consumer *c = s->consumers; c; c = c->next)
		if (c->vpid == vpid && c->uffd >= 0)
			w->space = c->space;
	if (!w->space)
		return;
	(void)snprintf(path, sizeof(path), "/proc/%d/smaps", pid);
	w->smaps = open(path, O_RDONLY | O_CLOEXEC);
	w->len = 0;
	w->start = w->end = 0;
	if (w->smaps < 0)
		gw_debug("smaps not readable", kv_i64("pid", pid), kv_i64("errno", errno));
}

static void add(struct server *s, struct wipe_scan *w)
{
	struct space *sp = w->space;
	struct wipe *more = realloc(sp->wipe, (sp->nwipe + 1) * sizeof(*more));
	if (!more) {
		pages_fail(s, ENOMEM, "wipe-on-fork mappings of process %d", sp->vpid);
		return;
	}
	sp->wipe = more;
	/* The map is still the identity: nothing of the container has run. */
	sp->wipe[sp->nwipe++] =
	        (struct wipe){.page = w->start / GW_PAGE_BYTES, .n = (w->end - w->start) / GW_PAGE_BYTES};
}

/* "start-end perms ..." begins a mapping, "VmFlags: rd wr wf ..." ends it. */
static void take_line(struct server *s, struct wipe_scan *w, const char *line)
{
	unsigned long long a, b;
	if (sscanf(line, "%llx-%llx ", &a, &b) == 2) {
		w->start = a;
		w->end = b < GW_ADDR_END ? b : GW_ADDR_END;
		return;
	}
	if (!strncmp(line, "VmFlags:", 8) && strstr(line, " wf") && w->start < w->end)
		add(s, w);
}

static void read_some(struct server *s, struct wipe_scan *w)
{
	ssize_t n = read(w->smaps, w->text + w->len, sizeof(w->text) - 1 - w->len);
	if (n < 0 && errno == EINTR)
		return;
	if (n <= 0) {
		(void)close(gw_take_fd(&w->smaps));
		return;
	}
	w->len += (size_t)n;
	w->text[w->len] = 0;
	char *p = w->text, *nl;
	while ((nl = memchr(p, '\n', w->len - (size_t)(p - w->text)))) {
		*nl = 0;
		take_line(s, w, p);
		p = nl + 1;
	}
	w->len -= (size_t)(p - w->text);
	memmove(w->text, p, w->len);
	if (w->len == sizeof(w->text) - 1)
		w->len = 0; /* a line longer than any path: not one of ours */
}

bool wipe_step(struct server *s)
{
	struct wipe_scan *w = &s->wipe;
	if (w->done)
		return false;
	if (!w->begun) {
		w->begun = true;
		w->smaps = -1;
		int rc = cgroup_each(s->cgroup_dir, note_pid, w);
		if (rc < 0)
			gw_warn("wipe-on-fork mappings not known", kv_str("mig", s->label),
			        kv_str("cgroup", s->cgroup_dir), kv_str("error", strerrordesc_np(-rc)));
		return true;
	}
	if (w->smaps >= 0)
		read_some(s, w);
	else if (w->at < w->n)
		open_next(s, w);
	else
		w->done = true;
	return !w->done;
}

void wipe_finish(struct server *s)
{
	while (wipe_step(s))
		;
}

void wipe_forget(struct server *s)
{
	if (s->wipe.begun && s->wipe.smaps >= 0)
		(void)close(s->wipe.smaps);
	free(s->wipe.pids);
	s->wipe = (struct wipe_scan){.done = true};
}
