/* source_socks: the unix connections of this container with others of its pod
 * (links.h), in the freeze: CRIU would refuse their ends, since it has one only. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"
#include "base/scope.h"
#include "ckpt/freezer.h"
#include "move/links.h"
#include "move/msg.h"
#include "move/source_priv.h"
#include "net/usock.h"

enum { PEEK_BYTES = 256 << 10, ANSWER_TIMEOUT_MS = 10000, RIGHTS_MAX = 253 };

static bool is_connected(const struct gw_usock *u)
{
	return (u->type == SOCK_STREAM || u->type == SOCK_SEQPACKET) && u->state == TCP_ESTABLISHED && u->peer;
}

/* ---- whose are they ---- */

struct search {
	struct gw_source *s;
	struct gw_usocks t;
	uint32_t *mine; /* that were noted: a socket may have many descriptors */
	size_t nmine;
};

static int note(struct search *f, const struct gw_usock *u, pid_t pid, int fd)
{
	for (size_t i = 0; i < f->nmine; i++)
		if (f->mine[i] == u->ino)
			return 0;
	uint32_t *more = reallocarray(f->mine, f->nmine + 1, sizeof(*more));
	if (!more)
		return -ENOMEM;
	f->mine = more;
	f->mine[f->nmine++] = u->ino;
	return gw_group_add_socket(
	        f->s->group,
	        &(struct gw_group_socket){
	                .ino = u->ino, .peer = u->peer, .type = u->type, .member = f->s->member, .pid = pid, .fd = fd});
}

static int look_process(void *ctx, pid_t pid)
{
	struct search *f = ctx;
	char path[64], to[64];
	int rc = 0;
	gw_path(path, sizeof(path), "/proc/%d/fd", pid);
	gw_auto(dir) DIR *d = opendir(path);
	for (const struct dirent *de; rc == 0 && d && (de = readdir(d));) {
		ssize_t n = readlinkat(dirfd(d), de->d_name, to, sizeof(to) - 1);
		unsigned ino;
		to[n > 0 ? n : 0] = 0;
		if (sscanf(to, "socket:[%u]", &ino) != 1)
			continue;
		const struct gw_usock *u = gw_usocks_find(&f->t, ino);
		if (u && is_connected(u))
			rc = note(f, u, pid, atoi(de->d_name));
	}
	return rc;
}

/* Few pods have a unix connection: then nobody's descriptors are walked. */
static int name_mine(struct gw_source *s, struct gw_err *e)
{
	struct search f = {.s = s};
	gw_auto(nl) struct gw_nl n = {0};
	gw_auto(fd) int netns = open(s->container->netns_path, O_RDONLY | O_CLOEXEC);
	bool any = false;
	if (netns < 0)
		return gw_fail(e, GW_SYS, errno, "open %s", s->container->netns_path);
	int rc = gw_nl_open_in(netns, NETLINK_SOCK_DIAG, &n, e);
	if (rc == 0)
		rc = gw_usocks_read(&n, &f.t, e);
	for (size_t i = 0; rc == 0 && i < f.t.n; i++)
		any |= is_connected(&f.t.s[i]);
	if (any && (rc = gw_freezer_each(s->container->freezer_dir, look_process, &f)) < 0)
		rc = gw_fail(e, GW_SYS, -rc, "look for unix sockets of %s", s->container->id);
	gw_usocks_done(&f.t);
	free(f.mine);
	return rc;
}

/* ---- what waits at them ---- */

static int cannot(struct gw_err *e, const struct gw_group_socket *k, const char *what)
{
	return gw_fail_code(e, GW_RETRY, "UnixSocketBusy",
	                    "a unix socket between two containers of the pod (process %d, fd %d) has unread %s", k->pid,
	                    k->fd, what);
}

/* 0: what was peeked at can be said again by somebody else. */
static int judge(struct msghdr *m, const struct gw_group_socket *k, struct gw_err *e)
{
	int rc = m->msg_flags & (MSG_TRUNC | MSG_CTRUNC) ? cannot(e, k, "messages that are too long") : 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
			rc = rc ?: cannot(e, k, "messages with credentials");
			continue;
		}
		int fds[RIGHTS_MAX];
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(fds, CMSG_DATA(c), (n < RIGHTS_MAX ? n : RIGHTS_MAX) * sizeof(int));
		for (size_t i = 0; i < n && i < RIGHTS_MAX; i++)
			(void)close(fds[i]);
		rc = rc ?: cannot(e, k, "messages with descriptors");
	}
	return rc;
}

static int peek_all(int fd, struct gw_group_socket *k, struct gw_err *e)
{
	union {
		struct cmsghdr h;
		char room[CMSG_SPACE(RIGHTS_MAX * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred)) + 512];
	} *ctl;
	gw_auto(mem) uint8_t *buf = malloc(PEEK_BYTES);
	gw_auto(mem) void *ctl_mem = ctl = malloc(sizeof(*ctl));
	if (!buf || !ctl)
		return gw_fail(e, GW_SYS, ENOMEM, "peek at a unix socket");
	for (;;) {
		struct iovec io = {buf, PEEK_BYTES};
		struct msghdr m = {
		        .msg_iov = &io, .msg_iovlen = 1, .msg_control = ctl_mem, .msg_controllen = sizeof(*ctl)};
		ssize_t n = recvmsg(fd, &m, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0 || (n < 0 && errno == EAGAIN))
			return 0;
		int rc = n < 0 ? gw_fail(e, GW_SYS, errno, "peek at a unix socket") : judge(&m, k, e);
		if (rc == 0 && (rc = gw_queue_add(&k->at, buf, (size_t)n)) < 0)
			rc = gw_fail(e, GW_SYS, -rc, "keep what waits at a unix socket");
		if (rc < 0)
			return rc;
	}
}

/* Everything there is, message by message; the socket is as it was after that. */
static int peek(struct gw_group_socket *k, struct gw_err *e)
{
	const int from_start = 0;
	int before = -1;
	socklen_t len = sizeof(before);
	gw_auto(fd) int pidfd = (int)syscall(SYS_pidfd_open, k->pid, 0);
	gw_auto(fd) int fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, k->fd, 0);
	if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &before, &len) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &from_start, sizeof(from_start)) < 0)
		return gw_fail(e, GW_SYS, errno, "take hold of fd %d of process %d", k->fd, k->pid);
	int rc = peek_all(fd, k, e);
	if (setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &before, sizeof(before)) < 0 && rc == 0)
		rc = gw_fail(e, GW_SYS, errno, "let go of fd %d of process %d", k->fd, k->pid);
	return rc;
}

static struct gw_group_socket *end_of(const struct gw_group *g, uint32_t ino)
{
	for (size_t i = 0; i < g->nsockets; i++)
		if (g->sockets[i].ino == ino)
			return &g->sockets[i];
	return NULL;
}

static bool is_link(const struct gw_group *g, const struct gw_group_socket *k)
{
	const struct gw_group_socket *peer = end_of(g, k->peer);
	return peer && peer->member != k->member;
}

/* One socket, and processes of two containers have it: each would get one of its own. */
static int refuse_shared(const struct gw_group *g, const struct gw_group_socket *k, struct gw_err *e)
{
	for (size_t i = 0; i < g->nsockets; i++)
		if (g->sockets[i].ino == k->ino && g->sockets[i].member != k->member)
			return gw_fail_code(e, GW_INPUT, "UnixSocketShared",
			                    "processes %d and %d of two containers have the same unix socket (fd %d)",
			                    k->pid, g->sockets[i].pid, k->fd);
	return 0;
}

int gw_source_socks(struct gw_source *s, int shim_dirfd, struct gw_err *e)
{
	struct gw_group *g = s->group;
	if (!g)
		return 0;
	int rc = name_mine(s, e);
	if (rc == 0)
		rc = gw_group_meet(g, GW_GROUP_SEEN, e);
	gw_auto(fd) int list = -1;
	for (size_t i = 0; rc == 0 && i < g->nsockets; i++) {
		struct gw_group_socket *k = &g->sockets[i];
		if (k->member != s->member)
			continue;
		rc = refuse_shared(g, k, e);
		if (rc < 0 || !is_link(g, k))
			continue;
		if (list < 0)
			list = openat(shim_dirfd, "unix", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		rc = list < 0 ? -errno : gw_write_full(list, &k->ino, sizeof(k->ino));
		rc = rc < 0 ? gw_fail(e, GW_SYS, -rc, "write the list of unix sockets") : peek(k, e);
	}
	return rc;
}

/* ---- the leader tells ---- */

/* Both queues go into the list. */
static int add_link(struct gw_links *l, struct gw_group_socket *a, struct gw_group_socket *b)
{
	struct gw_link k = {.type = (uint32_t)a->type, .ino = {a->ino, b->ino}, .at = {a->at, b->at}};
	a->at = b->at = (struct gw_queue){0};
	return gw_links_add(l, &k);
}

static int send_bytes(struct gw_source *s, const uint8_t *p, size_t len, struct gw_err *e)
{
	struct gw_file_hdr h = {.mode = 0600, .name = "unix-links"};
	while (h.offset < len) {
		size_t n = len - h.offset < PEEK_BYTES ? len - h.offset : PEEK_BYTES;
		uint8_t head[16 + 256], *data = (uint8_t *)(uintptr_t)p + h.offset;
		h.flags = h.offset + n == len ? GW_FILE_LAST : 0;
		struct iovec v[2] = {{.iov_base = head, .iov_len = gw_file_pack(&h, head)}, {data, n}};
		int rc = gw_conn_send(s->ctl, GW_F_FILE, v, 2, e);
		if (rc < 0)
			return rc;
		h.offset += n;
	}
	return 0;
}

static int send_links(struct gw_source *s, struct gw_links *l, struct gw_err *e)
{
	gw_auto(mem) uint8_t *p = NULL;
	size_t len;
	int rc = gw_links_pack(l, &p, &len, e);
	if (rc == 0)
		rc = send_bytes(s, p, len, e);
	if (rc == 0)
		rc = gw_msg_send_type(s->ctl, "links", e);
	return rc < 0 ? rc : gw_msg_expect(s->ctl, "linked", ANSWER_TIMEOUT_MS, NULL, e);
}

int gw_source_links(struct gw_source *s, struct gw_err *e)
{
	struct gw_group *g = s->group;
	struct gw_links l = {0};
	int rc = 0;
	if (!g || s->member)
		return 0;
	for (size_t i = 0; rc == 0 && i < g->nsockets; i++) {
		struct gw_group_socket *a = &g->sockets[i], *b = end_of(g, a->peer);
		if (is_link(g, a) && a->ino < a->peer && add_link(&l, a, b) < 0)
			rc = gw_fail(e, GW_SYS, ENOMEM, "list unix connections");
	}
	if (rc == 0 && l.n)
		rc = send_links(s, &l, e);
	gw_links_done(&l);
	if (rc == 0)
		gw_group_arrive(g, GW_GROUP_LINKED);
	return rc;
}
