#include "net/hold.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/gw_log.h"
#include "base/io.h"
#include "net/nl.h"
#include "net/rules.h"

enum {
	QUEUE_FIRST = 0x4757, /* "GW"; the kernel says which numbers are taken */
	QUEUE_TRIES = 1024,
	SOCKET_BYTES = 32 << 20, /* a message per packet, some 1.3 KiB of the kernel's memory each */
	READ_BATCH = 64,
	READ_BYTES = 1024, /* a message without payload has some 200 */
	GRACE_MS = 2,      /* a packet on another CPU may just have passed a rule that is gone */
	VERDICT_TRIES = 1000,
	MUTE_TAKES_S = 1,
};

/* NEW: what opens a TCP connection to the pod; TO_POD: all else that goes there. */
enum dir { TO_POD, NEW, FROM_POD, DIRS };
enum state { OPEN, NEW_HELD, HELD, MOVED };

struct run {
	uint32_t last; /* id of the newest packet */
	uint64_t n;
	uint64_t since_ns; /* when the first one came */
};

struct gw_hold {
	struct gw_nl nl;
	uint16_t queue[DIRS];
	unsigned nqueues;
	struct gw_rules *rules;
	int wake; /* eventfd: the reader shall look at `stop` and `hush` */
	atomic_bool stop;
	atomic_bool hush; /* mute as soon as the queue is empty */
	pthread_t reader;
	bool has_reader;

	/* Guards all below, and a packet from its message to its verdict: who
	 * holds it knows that none is under way. */
	pthread_mutex_t lock;
	pthread_cond_t hushed;
	enum state state;
	bool muted;
	struct run kept[FROM_POD]; /* of TO_POD and NEW */
	struct gw_hold_stats stats;

	struct mmsghdr msgs[READ_BATCH];
	struct iovec iov[READ_BATCH];
	alignas(8) char buf[READ_BATCH][READ_BYTES];
};

static struct nlmsghdr *queue_start(struct gw_nl_msg *m, unsigned type, uint16_t queue)
{
	struct nlmsghdr *h = gw_nl_start(m, (uint16_t)(NFNL_SUBSYS_QUEUE << 8 | type), 0, sizeof(struct nfgenmsg));
	struct nfgenmsg *g = mnl_nlmsg_get_payload(h);
	g->version = NFNETLINK_V0;
	g->res_id = htons(queue);
	return h;
}

static int queue_bind(struct gw_nl *n, uint16_t queue, struct gw_err *e)
{
	struct gw_nl_msg m;
	struct nlmsghdr *h = queue_start(&m, NFQNL_MSG_CONFIG, queue);
	struct nfqnl_msg_config_cmd cmd = {.command = NFQNL_CFG_CMD_BIND};
	struct nfqnl_msg_config_params params = {.copy_mode = NFQNL_COPY_META};
	mnl_attr_put(h, NFQA_CFG_CMD, sizeof(cmd), &cmd);
	mnl_attr_put(h, NFQA_CFG_PARAMS, sizeof(params), &params);
	mnl_attr_put_u32(h, NFQA_CFG_QUEUE_MAXLEN, htonl(HOLD_PACKETS_MAX));
	/* Large segments stay whole: we never look inside. */
	mnl_attr_put_u32(h, NFQA_CFG_FLAGS, htonl(NFQA_CFG_F_GSO));
	mnl_attr_put_u32(h, NFQA_CFG_MASK, htonl(NFQA_CFG_F_GSO));
	return gw_nl_talk(n, h, e, "open nfqueue %u (CONFIG_NETFILTER_NETLINK_QUEUE, CAP_NET_ADMIN)", queue);
}

/* The first numbers from `from` that nobody has. */
static int queues_bind(struct gw_nl *n, uint16_t *out, unsigned want, unsigned *out_n, struct gw_err *e)
{
	struct gw_err mine = {0};
	int rc = 0;
	for (unsigned i = 0; i < QUEUE_TRIES && *out_n < want; i++) {
		rc = queue_bind(n, (uint16_t)(QUEUE_FIRST + i), &mine);
		if (rc == 0)
			out[(*out_n)++] = (uint16_t)(QUEUE_FIRST + i);
		else if (rc != -EBUSY && rc != -EPERM && rc != -EEXIST)
			break;
	}
	if (*out_n == want)
		return 0;
	if (e)
		*e = mine;
	return rc;
}

static int socket_open(struct gw_nl *out, struct gw_err *e)
{
	int rc = gw_nl_open(NETLINK_NETFILTER, out, e);
	if (rc < 0)
		return rc;
	int bytes = SOCKET_BYTES, on = 1, fd = mnl_socket_get_fd(out->sock);
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) < 0)
		return gw_fail(e, GW_SYS, errno, "enlarge the nfqueue socket");
	if (mnl_socket_setsockopt(out->sock, NETLINK_NO_ENOBUFS, &on, sizeof(on)) < 0)
		return gw_fail(e, GW_SYS, errno, "set up the nfqueue socket");
	return 0;
}

/* One verdict for all packets of a queue up to r->last, in their order. */
static void verdict(struct gw_hold *h, enum dir d, const struct run *r, uint32_t what)
{
	struct gw_nl_msg m;
	if (!r->n)
		return;
	struct nlmsghdr *msg = queue_start(&m, NFQNL_MSG_VERDICT_BATCH, h->queue[d]);
	struct nfqnl_msg_verdict_hdr v = {.verdict = htonl(what), .id = htonl(r->last)};
	mnl_attr_put(msg, NFQA_VERDICT_HDR, sizeof(v), &v);
	/* Only a moment without memory can make it fail. */
	for (int i = 0; i < VERDICT_TRIES; i++) {
		if (mnl_socket_sendto(h->nl.sock, msg, msg->nlmsg_len) >= 0)
			return;
		gw_sleep_us(100);
	}
	gw_debug("nfqueue verdict failed", kv_u64("queue", h->queue[d]), kv_i64("errno", errno));
}

struct tally {
	struct run pass[DIRS];
	struct run drop;
};

static void take_packet(struct gw_hold *h, const struct nlmsghdr *msg, struct tally *t)
{
	if (msg->nlmsg_type == NLMSG_ERROR) {
		/* Packets we know may be gone: their interface was taken down, or someone's chains. */
		const struct nlmsgerr *err = mnl_nlmsg_get_payload(msg);
		gw_debug("nfqueue verdict refused", kv_i64("errno", -err->error));
		return;
	}
	if (msg->nlmsg_type != (NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_PACKET))
		return;
	const struct nfgenmsg *g = mnl_nlmsg_get_payload(msg);
	enum dir d = TO_POD;
	while (d + 1 < h->nqueues && ntohs(g->res_id) != h->queue[d])
		d++;
	struct run *to = &t->pass[d];
	if ((h->state == HELD && d != FROM_POD) || (h->state == NEW_HELD && d == NEW))
		to = &h->kept[d];
	if (d == FROM_POD && h->muted)
		to = &t->drop;
	gw_nl_each(a, msg, sizeof(*g)) if (mnl_attr_get_type(a) == NFQA_PACKET_HDR)
	{
		const struct nfqnl_msg_packet_hdr *p = mnl_attr_get_payload(a);
		if (!to->n++)
			to->since_ns = gw_now_ns();
		to->last = ntohl(p->packet_id);
	}
}

static void take_batch(struct gw_hold *h, unsigned n)
{
	struct tally t = {0};
	(void)pthread_mutex_lock(&h->lock);
	for (unsigned i = 0; i < n; i++) {
		int left = (int)h->msgs[i].msg_len;
		for (const struct nlmsghdr *m = (const struct nlmsghdr *)h->buf[i]; mnl_nlmsg_ok(m, left);
		     m = mnl_nlmsg_next(m, &left))
			take_packet(h, m, &t);
	}
	for (enum dir d = 0; d < DIRS; d++) {
		verdict(h, d, &t.pass[d], NF_ACCEPT);
		h->stats.passed += t.pass[d].n;
	}
	verdict(h, FROM_POD, &t.drop, NF_DROP);
	h->stats.dropped_out += t.drop.n;
	(void)pthread_mutex_unlock(&h->lock);
}

/* Returns false when there was nothing to read. */
static bool read_some(struct gw_hold *h)
{
	int n = recvmmsg(mnl_socket_get_fd(h->nl.sock), h->msgs, READ_BATCH, MSG_DONTWAIT, NULL);
	if (n > 0)
		take_batch(h, (unsigned)n);
	return n > 0 || (n < 0 && errno == EINTR);
}

/* All that was sent before the pod's tasks stopped has passed. */
static void hush(struct gw_hold *h)
{
	if (!atomic_exchange(&h->hush, false))
		return;
	(void)pthread_mutex_lock(&h->lock);
	if (h->state == HELD)
		h->muted = true;
	(void)pthread_cond_signal(&h->hushed);
	(void)pthread_mutex_unlock(&h->lock);
}

static void *read_queues(void *arg)
{
	struct gw_hold *h = arg;
	(void)pthread_setname_np(pthread_self(), "gw-hold");
	/* Every packet waits for this thread: it goes before those that compress
	 * memory. Refused (no CAP_SYS_NICE), it is only slower. */
	(void)setpriority(PRIO_PROCESS, (id_t)gettid(), -20);
	struct pollfd p[2] = {{.fd = mnl_socket_get_fd(h->nl.sock), .events = POLLIN},
	                      {.fd = h->wake, .events = POLLIN}};
	for (;;) {
		if (read_some(h))
			continue;
		if (atomic_load(&h->stop))
			break;
		hush(h);
		if (poll(p, 2, -1) > 0 && p[1].revents) {
			uint64_t times;
			(void)!read(h->wake, &times, sizeof(times));
		}
	}
	while (poll(p, 1, GRACE_MS) > 0)
		(void)read_some(h);
	return NULL;
}

static int reader_start(struct gw_hold *h, struct gw_err *e)
{
	for (unsigned i = 0; i < READ_BATCH; i++) {
		h->iov[i] = (struct iovec){.iov_base = h->buf[i], .iov_len = READ_BYTES};
		h->msgs[i].msg_hdr = (struct msghdr){.msg_iov = &h->iov[i], .msg_iovlen = 1};
	}
	h->wake = eventfd(0, EFD_CLOEXEC);
	if (h->wake < 0)
		return gw_fail(e, GW_SYS, errno, "eventfd");
	sigset_t all, old;
	sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	int rc = pthread_create(&h->reader, NULL, read_queues, h);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc != 0)
		return gw_fail(e, GW_SYS, rc, "start the thread that reads nfqueues");
	h->has_reader = true;
	return 0;
}

static int hold_new(const char *id, const struct gw_pod *p, unsigned dirs, struct gw_hold **out, struct gw_err *e)
{
	struct gw_hold *h = calloc(1, sizeof(*h));
	if (!h)
		return gw_fail(e, GW_SYS, ENOMEM, "hold the packets of %s", id);
	h->wake = -1;
	(void)pthread_mutex_init(&h->lock, NULL);
	(void)pthread_cond_init(&h->hushed, NULL);
	int rc = socket_open(&h->nl, e);
	if (rc == 0)
		rc = queues_bind(&h->nl, h->queue, dirs, &h->nqueues, e);
	/* The rules last: from then on every packet waits for the reader. */
	if (rc == 0)
		rc = reader_start(h, e);
	if (rc == 0)
		rc = gw_rules_add(id, p, &(struct gw_rules_queues){h->queue[TO_POD], h->queue[NEW], h->queue[FROM_POD]},
		                  &h->rules, e);
	if (rc < 0) {
		gw_hold_free(h);
		return gw_wrap(e, "hold the packets of %s", id);
	}
	*out = h;
	return 0;
}

int gw_hold_new(const char *id, const struct gw_pod *p, struct gw_hold **out, struct gw_err *e)
{
	return hold_new(id, p, DIRS, out, e);
}

int gw_hold_new_there(const char *id, const struct gw_pod *p, struct gw_hold **out, struct gw_err *e)
{
	return hold_new(id, p, FROM_POD, out, e);
}

static void set_state(struct gw_hold *h, enum state state)
{
	(void)pthread_mutex_lock(&h->lock);
	h->state = state;
	(void)pthread_mutex_unlock(&h->lock);
}

void gw_hold_shut_new(struct gw_hold *h)
{
	set_state(h, NEW_HELD);
}

void gw_hold_shut(struct gw_hold *h)
{
	set_state(h, HELD);
}

static void wake_reader(struct gw_hold *h)
{
	uint64_t one = 1;
	(void)!write(h->wake, &one, sizeof(one)); /* an eventfd that is nearly zero takes it */
}

void gw_hold_mute(struct gw_hold *h)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += MUTE_TAKES_S;
	(void)pthread_mutex_lock(&h->lock);
	atomic_store(&h->hush, true);
	wake_reader(h);
	while (!h->muted && h->state == HELD)
		if (pthread_cond_timedwait(&h->hushed, &h->lock, &until) != 0)
			break; /* a flood that never lets the queue be empty: all of it passes */
	(void)pthread_mutex_unlock(&h->lock);
}

static void note_kept(const struct run *r, struct gw_hold_stats *s)
{
	uint64_t us = r->n ? (gw_now_ns() - r->since_ns) / 1000 : 0;
	if (us > s->held_us_max)
		s->held_us_max = us;
	s->held += r->n;
}

static void let_run_go(struct gw_hold *h, enum dir d)
{
	verdict(h, d, &h->kept[d], NF_ACCEPT);
	note_kept(&h->kept[d], &h->stats);
	h->kept[d] = (struct run){0};
}

static void let_go(struct gw_hold *h, enum state state, bool muted)
{
	(void)pthread_mutex_lock(&h->lock);
	h->state = state;
	h->muted = muted;
	let_run_go(h, TO_POD);
	let_run_go(h, NEW);
	(void)pthread_mutex_unlock(&h->lock);
}

void gw_hold_release(struct gw_hold *h)
{
	let_go(h, OPEN, false);
}

void gw_hold_release_moved(struct gw_hold *h)
{
	let_go(h, MOVED, true);
}

/* What the kernel itself dropped, queue by queue: columns 6 (queue full) and
 * 7 (socket full) of nfnetlink_queue in procfs; netlink does not tell. */
static uint64_t kernel_drops(const struct gw_hold *h)
{
	gw_auto(mem) char *text = NULL;
	uint64_t sum = 0;
	if (gw_read_file("/proc/thread-self/net/netfilter/nfnetlink_queue", 1 << 20, &text, NULL, NULL) < 0)
		return 0;
	for (const char *line = text; line && *line; line = strchr(line, '\n')) {
		unsigned long num, full, lost;
		line += *line == '\n';
		if (sscanf(line, "%lu %*u %*u %*u %*u %lu %lu", &num, &full, &lost) != 3)
			continue;
		for (unsigned i = 0; i < h->nqueues; i++)
			sum += num == h->queue[i] ? full + lost : 0;
	}
	return sum;
}

void gw_hold_stats(struct gw_hold *h, struct gw_hold_stats *out)
{
	uint64_t drops = kernel_drops(h);
	(void)pthread_mutex_lock(&h->lock);
	*out = h->stats;
	note_kept(&h->kept[TO_POD], out);
	note_kept(&h->kept[NEW], out);
	(void)pthread_mutex_unlock(&h->lock);
	out->overflow = drops;
}

static void reader_stop(struct gw_hold *h)
{
	atomic_store(&h->stop, true);
	wake_reader(h);
	(void)pthread_join(h->reader, NULL);
}

void gw_hold_free(struct gw_hold *h)
{
	struct gw_err e = {0};
	if (!h)
		return;
	/* A pod that has left stays mute to the end. */
	let_go(h, h->state == MOVED ? MOVED : OPEN, h->state == MOVED);
	if (h->rules && gw_rules_remove(h->rules, &e) < 0)
		gw_debug("rules of a hold not removed", kv_str("error", e.text));
	if (h->has_reader)
		reader_stop(h);
	gw_end_fd(&h->wake);
	gw_end_nl(&h->nl);
	(void)pthread_cond_destroy(&h->hushed);
	(void)pthread_mutex_destroy(&h->lock);
	free(h);
}

int gw_hold_sweep(struct gw_err *e)
{
	return gw_rules_sweep(e);
}

int gw_hold_supported(struct gw_err *e)
{
	gw_auto(nl) struct gw_nl n = {0};
	uint16_t queue;
	unsigned got = 0;
	int rc = socket_open(&n, e);
	if (rc == 0)
		rc = queues_bind(&n, &queue, 1, &got, e);
	if (rc == 0)
		rc = gw_rules_supported(e);
	return rc < 0 ? gw_wrap(e, "hold packets on this host") : 0;
}
