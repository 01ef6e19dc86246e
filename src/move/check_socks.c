/* check_socks: sockets whose other end or place is outside the container.
 *
 * Unix sockets by net/usock.h in the container's network namespace: the peer's
 * inode must be one that the container's processes hold, or others of its pod. What
 * waits in accept queues is looked at several times: a server that is busy for a
 * moment is no reason. */
#include <errno.h>
#include <fcntl.h>
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/scope.h"
#include "ckpt/freezer.h"
#include "move/check_look.h"
#include "net/netns.h"
#include "net/usock.h"

/* A server on a busy machine may not run for a while: a quarter of a second is no slowness any more. */
enum { LOOKS = 5, PLAIN_LOOKS = 60, LOOK_AGAIN_US = 4000, SHUT_BOTH = 3 };

static int sock_by_ino(const void *a, const void *b)
{
	const struct gw_look_sock *x = a, *y = b;
	return (x->ino > y->ino) - (x->ino < y->ino);
}

static const struct gw_look_sock *held(const struct gw_look *l, uint64_t ino)
{
	const struct gw_look_sock key = {.ino = ino};
	return l->nsocks ? bsearch(&key, l->socks, l->nsocks, sizeof(key), sock_by_ino) : NULL;
}

/* The other end's name, by the tables of the container and of the host. */
static const char *name_of(const struct gw_usocks *t, const struct gw_usocks *host, const struct gw_usock *u)
{
	const struct gw_usock *p = gw_usocks_find(t, u->peer) ?: gw_usocks_find(host, u->peer);
	return p && p->name[0] ? p->name : u->name[0] ? u->name : "one without a name";
}

static void outside(struct gw_look *l, const struct gw_look_sock *s, const char *name)
{
	gw_reasons_add(l->out, "UnixSocketOutside",
	               "%s is connected to a unix socket outside the container: %s (fd %d)", l->procs[s->proc].who,
	               name, s->fd);
}

/* CRIU makes a waiting connection again, but can't get at what it sent. */
static void look_listener(struct gw_look *l, const struct gw_usocks *t, const struct gw_look_sock *s,
                          const struct gw_usock *u)
{
	const char *who = l->procs[s->proc].who;
	for (uint32_t i = 0; i < u->nicons; i++) {
		const struct gw_usock *client = gw_usocks_find(t, u->icons[i]);
		if (u->icons[i] == 0)
			gw_reasons_add(l->out, "PendingConnections",
			               "%s does not accept a connection to %s that was closed (fd %d)", who, u->name,
			               s->fd);
		else if (!held(l, u->icons[i]))
			gw_reasons_add(l->out, "PendingConnections",
			               "%s does not accept a connection to %s from outside (fd %d)", who, u->name,
			               s->fd);
		else if (client && client->unread)
			gw_reasons_add(l->out, "PendingConnections",
			               "%s does not accept a connection to %s that has sent data (fd %d)", who, u->name,
			               s->fd);
	}
}

/* In a listener's queue? Then its peer has no inode yet. */
static const struct gw_usock *waits_at(const struct gw_look *l, const struct gw_usocks *t, uint32_t ino)
{
	for (size_t i = 0; i < t->n; i++)
		for (uint32_t k = 0; k < t->s[i].nicons; k++)
			if (t->s[i].icons[k] == ino && held(l, t->s[i].ino))
				return &t->s[i];
	return NULL;
}

struct pod_search {
	uint32_t ino;
	bool found;
};

static int look_for_ino(void *ctx, pid_t pid)
{
	struct pod_search *f = ctx;
	char path[64], to[64], want[64];
	gw_path(path, sizeof(path), "/proc/%d/fd", pid);
	gw_path(want, sizeof(want), "socket:[%u]", f->ino);
	gw_auto(dir) DIR *d = opendir(path);
	for (const struct dirent *de; !f->found && d && (de = readdir(d));) {
		ssize_t n = readlinkat(dirfd(d), de->d_name, to, sizeof(to) - 1);
		to[n > 0 ? n : 0] = 0;
		f->found = !strcmp(to, want);
	}
	return 0;
}

/* Is a process of another container of the pod at the other end of a stream? The
 * containers move together (links.h); the pod's cgroup is above the container's. */
static bool is_in_pod(const struct gw_look *l, const struct gw_usock *u)
{
	char dir[PATH_MAX];
	struct pod_search f = {.ino = u->peer};
	if (!gw_look_is_pods(l) || (u->type != SOCK_STREAM && u->type != SOCK_SEQPACKET))
		return false;
	(void)snprintf(dir, sizeof(dir), "%s", l->c->freezer_dir);
	char *slash = strrchr(dir, '/');
	if (!slash || slash == dir)
		return false;
	*slash = 0;
	return gw_freezer_each(dir, look_for_ino, &f) == 0 && f.found;
}

static void look_one(struct gw_look *l, const struct gw_usocks *t, const struct gw_usocks *host,
                     const struct gw_look_sock *s)
{
	const struct gw_usock *u = gw_usocks_find(t, (uint32_t)s->ino);
	const char *who = l->procs[s->proc].who;
	if (!u) {
		const struct gw_usock *there = gw_usocks_find(host, (uint32_t)s->ino);
		gw_reasons_add(l->out, "SocketOutside", "%s has a unix socket of another network namespace: %s (fd %d)",
		               who, there && there->name[0] ? there->name : "one without a name", s->fd);
		return;
	}
	if (u->state == TCP_LISTEN)
		look_listener(l, t, s, u);
	else if (u->peer && !held(l, u->peer) && !is_in_pod(l, u))
		outside(l, s, name_of(t, host, u));
	else if (!u->peer && u->state == TCP_ESTABLISHED && u->type != SOCK_DGRAM && u->shutdown != SHUT_BOTH &&
	         !waits_at(l, t, u->ino))
		outside(l, s, "one that has not accepted it");
}

static bool any_waiting(const struct gw_look *l, const struct gw_usocks *t)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->s[i].state == TCP_LISTEN && t->s[i].nicons && held(l, t->s[i].ino))
			return true;
	return false;
}

static int host_table(struct gw_usocks *t, struct gw_err *e)
{
	gw_auto(nl) struct gw_nl n = {0};
	int rc = gw_nl_open(NETLINK_SOCK_DIAG, &n, e);
	return rc < 0 ? rc : gw_usocks_read(&n, t, e);
}

static int look_unix(struct gw_look *l, int netns, struct gw_err *e)
{
	struct gw_usocks t = {0}, host = {0};
	gw_auto(nl) struct gw_nl n = {0};
	int rc = gw_nl_open_in(netns, NETLINK_SOCK_DIAG, &n, e);
	if (rc == 0)
		rc = host_table(&host, e);
	if (rc == 0)
		rc = gw_usocks_read(&n, &t, e);
	for (unsigned k = 1; rc == 0 && k < LOOKS && any_waiting(l, &t); k++) {
		gw_sleep_us(LOOK_AGAIN_US);
		rc = gw_usocks_read(&n, &t, e);
	}
	for (size_t i = 0; rc == 0 && i < l->nsocks; i++)
		if (l->socks[i].kind == GW_SK_UNIX)
			look_one(l, &t, &host, &l->socks[i]);
	gw_usocks_done(&t);
	gw_usocks_done(&host);
	return rc;
}

/* ---- IP and netlink: the tables in /proc/PID/net ---- */

struct row {
	uint64_t ino;
	unsigned state;   /* TCP */
	uint64_t waiting; /* TCP: a listener's queue; netlink: bytes unread */
	unsigned groups;  /* netlink */
	unsigned portid;
};
typedef bool parse_fn(const char *line, struct row *r);

/* "sl local rem st tx:rx tr:when retrnsmt uid timeout inode" (proc_net_tcp) */
static bool parse_ip(const char *line, struct row *r)
{
	*r = (struct row){0};
	return sscanf(line, "%*d: %*s %*s %x %*x:%lx %*s %*s %*u %*d %lu", &r->state, &r->waiting, &r->ino) == 3;
}

/* "sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode" */
static bool parse_netlink(const char *line, struct row *r)
{
	*r = (struct row){0};
	return sscanf(line, "%*x %*d %u %x %lu %*d %*d %*d %*d %lu", &r->portid, &r->groups, &r->waiting, &r->ino) == 4;
}

/* fn for each row of a socket that the container holds. */
static void each_row(struct gw_look *l, const char *table, parse_fn *parse,
                     void (*fn)(struct gw_look *l, struct gw_look_sock *s, const struct row *r, bool last), bool last)
{
	gw_auto(mem) char *text = gw_look_text("/proc/%d/net/%s", l->c->init_pid, table);
	char *save = NULL;
	for (char *line = text ? strtok_r(text, "\n", &save) : NULL; line; line = strtok_r(NULL, "\n", &save)) {
		struct row r;
		const struct gw_look_sock *s = parse(line, &r) ? held(l, r.ino) : NULL;
		if (s)
			fn(l, &l->socks[s - l->socks], &r, last);
	}
}

static void on_inet(struct gw_look *l, struct gw_look_sock *s, const struct row *r, bool last)
{
	s->found = true;
	if (r->state != TCP_LISTEN || !r->waiting)
		return;
	if (last)
		gw_reasons_add(l->out, "PendingConnections", "%s does not accept %lu connections (fd %d)",
		               l->procs[s->proc].who, r->waiting, s->fd);
	else
		l->look_again = true;
}

/* The same bytes at every look: nobody reads. A busy server's queue is another one each time. */
static void on_plain(struct gw_look *l, struct gw_look_sock *s, const struct row *r, bool last)
{
	s->found = true;
	if (!r->waiting || (s->unread && r->waiting != s->unread))
		s->is_read = true;
	if (s->is_read)
		return;
	s->unread = r->waiting;
	l->look_again = true;
	if (last)
		gw_reasons_add(l->out, "UnreadDatagrams", "%s leaves %lu bytes of datagrams unread (fd %d)",
		               l->procs[s->proc].who, r->waiting, s->fd);
}

static void on_netlink(struct gw_look *l, struct gw_look_sock *s, const struct row *r, bool last)
{
	const char *who = l->procs[s->proc].who;
	s->found = true;
	if (r->waiting && last)
		gw_reasons_add(l->out, "NetlinkSocket", "%s has %lu bytes unread in a netlink socket (fd %d)", who,
		               r->waiting, s->fd);
	else if (r->groups && !r->portid && last)
		gw_reasons_add(l->out, "NetlinkSocket", "%s listens to netlink groups %x without an address (fd %d)",
		               who, r->groups, s->fd);
	else if (r->waiting)
		l->look_again = true;
}

/* A socket that no table shows is neither bound nor connected, or of another
 * namespace: asked of the socket itself. */
static bool is_elsewhere(const struct gw_look *l, const struct gw_look_sock *s, int netns)
{
	struct stat ours, theirs;
	gw_auto(fd) int pidfd = (int)syscall(SYS_pidfd_open, l->procs[s->proc].pid, 0);
	gw_auto(fd) int sock = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, s->fd, 0);
	gw_auto(fd) int ns = sock < 0 ? -1 : ioctl(sock, SIOCGSKNS);
	return ns >= 0 && fstat(ns, &theirs) == 0 && fstat(netns, &ours) == 0 && ours.st_ino != theirs.st_ino;
}

static void look_inet(struct gw_look *l, int netns)
{
	static const char *const plain[] = {"udp", "udp6", "udplite", "udplite6", "icmp", "icmp6"};
	for (unsigned k = 1; k <= LOOKS; k++) {
		l->look_again = false;
		each_row(l, "tcp", parse_ip, on_inet, k == LOOKS);
		each_row(l, "tcp6", parse_ip, on_inet, k == LOOKS);
		each_row(l, "netlink", parse_netlink, on_netlink, k == LOOKS);
		if (!l->look_again)
			break;
		gw_sleep_us(LOOK_AGAIN_US);
	}
	each_row(l, "netlink", parse_netlink, on_netlink, true);
	for (unsigned k = 1; k <= PLAIN_LOOKS; k++) {
		l->look_again = false;
		for (size_t i = 0; i < gw_countof(plain); i++)
			each_row(l, plain[i], parse_ip, on_plain, k == PLAIN_LOOKS);
		if (!l->look_again)
			break;
		gw_sleep_us(LOOK_AGAIN_US);
	}
	for (size_t i = 0; i < l->nsocks; i++) {
		const struct gw_look_sock *s = &l->socks[i];
		if (s->kind != GW_SK_UNIX && !s->found && is_elsewhere(l, s, netns))
			gw_reasons_add(l->out, "SocketOutside", "%s has a socket of another network namespace (fd %d)",
			               l->procs[s->proc].who, s->fd);
	}
}

int gw_look_socks(struct gw_look *l, struct gw_err *e)
{
	char path[64];
	size_t n = 0;
	if (!l->nsocks)
		return 0;
	/* One entry a socket, whoever holds it. */
	qsort(l->socks, l->nsocks, sizeof(*l->socks), sock_by_ino);
	for (size_t i = 0; i < l->nsocks; i++)
		if (n == 0 || l->socks[n - 1].ino != l->socks[i].ino)
			l->socks[n++] = l->socks[i];
	l->nsocks = n;
	gw_path(path, sizeof(path), "/proc/%d/ns/net", l->c->init_pid);
	gw_auto(fd) int netns = open(path, O_RDONLY | O_CLOEXEC);
	if (netns < 0)
		return gw_fail(e, GW_SYS, errno, "open %s", path);
	look_inet(l, netns);
	return look_unix(l, netns, e);
}
