/* dest_socks: the unix connections between a pod's containers are made here, with
 * what was under way in them, and their ends given to the CRIU of each (links.h). */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/io.h"
#include "base/scope.h"
#include "move/dest_priv.h"
#include "move/links.h"
#include "net/netns.h"

enum { ROOM_SPARE = 64 << 10, MESSAGE_COST = 1 << 10 };

struct gw_dest_link {
	uint32_t ino[2];
	int fd[2];
	bool given[2];
};

struct job {
	struct gw_dest_pod *pod;
	const struct gw_links *l;
};

/* Into the other end's queue: `from` is whose peer it waits at. */
static int say(int from, const struct gw_queue *q, struct gw_err *e)
{
	const uint8_t *p;
	size_t at = 0, len, messages = 0;
	while (gw_queue_next(q, &at, &p, &len) > 0)
		messages++;
	size_t room = 2 * q->len + messages * MESSAGE_COST + ROOM_SPARE;
	int bytes = (int)(room < INT32_MAX / 2 ? room : INT32_MAX / 2);
	if (messages && setsockopt(from, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)) < 0)
		return gw_fail(e, GW_SYS, errno, "make room for %zu bytes in a unix socket", q->len);
	at = 0;
	while (gw_queue_next(q, &at, &p, &len) > 0) {
		ssize_t n = send(from, p, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n != (ssize_t)len)
			return gw_fail(e, GW_SYS, n < 0 ? errno : EMSGSIZE, "put %zu bytes into a unix socket", len);
	}
	return 0;
}

/* In the pod's network namespace: a socket belongs to the one it was made in. */
static int make_pairs(void *arg, struct gw_err *e)
{
	struct job *j = arg;
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < j->l->n; i++) {
		const struct gw_link *k = &j->l->v[i];
		struct gw_dest_link *d = &j->pod->links[i];
		if (socketpair(AF_UNIX, (int)k->type | SOCK_CLOEXEC, 0, d->fd) < 0)
			return gw_fail(e, GW_SYS, errno, "make a unix connection between two containers");
		j->pod->nlinks = i + 1;
		memcpy(d->ino, k->ino, sizeof(d->ino));
		for (unsigned end = 0; rc == 0 && end < 2; end++)
			rc = say(d->fd[1 - end], &k->at[end], e);
	}
	return rc;
}

int gw_dest_links(struct gw_dest *s, struct gw_err *e)
{
	char path[PATH_MAX + 32];
	gw_auto(mem) char *bytes = NULL;
	size_t len;
	struct gw_links l;
	if (s->pod_of.members < 2 || s->pod_of.member || !s->restore || s->pod_of.links)
		return gw_fail(e, GW_PEER, EPROTO,
		               "unix connections before arm, for the second time, or of one container");
	gw_path(path, sizeof(path), "%s/images/unix-links", s->dir);
	int rc = gw_read_file(path, GW_LINKS_BYTES_MAX, &bytes, &len, e);
	if (rc == 0)
		rc = gw_links_unpack((const uint8_t *)bytes, len, &l, e);
	if (rc < 0)
		return rc;
	gw_auto(fd) int netns = -1;
	struct gw_dest_link *links = calloc(l.n + 1, sizeof(*links));
	pthread_mutex_lock(&s->lock);
	s->pod_of.links = links;
	if (!links)
		rc = gw_fail(e, GW_SYS, ENOMEM, "make unix connections");
	if (rc == 0)
		rc = gw_netns_open(s->journal.netns_path, &netns, e);
	if (rc == 0)
		rc = gw_netns_run(netns, make_pairs, &(struct job){.pod = &s->pod_of, .l = &l}, e);
	pthread_mutex_unlock(&s->lock);
	gw_links_done(&l);
	return rc;
}

int gw_dest_link_end(struct gw_dest_pod *pod, uint32_t ino)
{
	for (size_t i = 0; i < pod->nlinks; i++)
		for (unsigned end = 0; end < 2; end++)
			if (pod->links[i].ino[end] == ino) {
				pod->links[i].given[end] = true;
				return pod->links[i].fd[end];
			}
	return -ENOENT;
}

bool gw_dest_links_given(const struct gw_dest_pod *pod)
{
	for (size_t i = 0; i < pod->nlinks; i++)
		if (!pod->links[i].given[0] || !pod->links[i].given[1])
			return false;
	return true;
}

void gw_dest_links_drop(struct gw_dest_pod *pod)
{
	for (size_t i = 0; i < pod->nlinks; i++)
		for (unsigned end = 0; end < 2; end++)
			(void)close(pod->links[i].fd[end]);
	pod->nlinks = 0;
}
