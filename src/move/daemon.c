#include "move/daemon.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/gw_log.h"
#include "base/io.h"
#include "base/scope.h"
#include "ckpt/criu.h"
#include "move/msg.h"

enum { HANDSHAKE_TIMEOUT_MS = 5000, BACKLOG = 64, EXIT_SYSTEM = 111 };

void gw_mig_dir(const struct gw_daemon *d, const char *mig, char *out, size_t size)
{
	gw_path(out, size, "%s/mig/%s", d->cfg.state_dir, mig);
}

void gw_daemon_remember(struct gw_daemon *d, struct gw_progress *p)
{
	pthread_mutex_lock(&d->lock);
	struct gw_progress **slot = &d->history[d->nhistory++ % gw_countof(d->history)];
	struct gw_progress *old = *slot;
	*slot = gw_progress_ref(p);
	pthread_mutex_unlock(&d->lock);
	gw_progress_unref(old);
}

/* ---- threads for connections ---- */

struct call {
	struct gw_daemon *d;
	int fd;
};

static void serve_peer(struct gw_daemon *d, struct gw_conn *c)
{
	struct gw_err e = {.class = GW_OK}, ignored;
	char role[16], mig[40];
	int rc = gw_hello_recv(c, HANDSHAKE_TIMEOUT_MS, role, sizeof(role), mig, sizeof(mig), &e);
	if (rc == 0 && !strcmp(role, "control"))
		gw_dest_control(d, c, mig);
	else if (rc == 0 && !strcmp(role, "data"))
		gw_dest_data(d, c, mig);
	else if (rc == 0 && !strcmp(role, "query"))
		gw_resolve_query(d, c, mig);
	else if (rc == 0)
		rc = gw_fail(&e, GW_PEER, EPROTO, "a connection of unknown role \"%s\"", role);
	if (rc < 0) {
		gw_warn("peer refused", kv_str("peer", gw_conn_peer(c)), kv_str("reason", e.text));
		(void)gw_msg_send_error(c, &e, &ignored);
	}
}

static void *peer_main(void *arg)
{
	struct call *k = arg;
	struct gw_conn *c;
	struct gw_err e = {.class = GW_OK};
	if (gw_conn_accept(k->d->tls, k->fd, HANDSHAKE_TIMEOUT_MS, &c, &e) < 0) {
		gw_warn("handshake failed", kv_str("reason", e.text));
	} else {
		serve_peer(k->d, c);
		gw_conn_free(c);
	}
	free(k);
	return NULL;
}

static void *local_main(void *arg)
{
	struct call *k = arg;
	gw_ctl_client(k->d, k->fd);
	free(k);
	return NULL;
}

static void accept_one(struct gw_daemon *d, int listener, void *(*body)(void *))
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		return;
	struct call *k = calloc(1, sizeof(*k));
	pthread_t t;
	if (!k) {
		(void)close(fd);
		return;
	}
	*k = (struct call){.d = d, .fd = fd};
	if (pthread_create(&t, NULL, body, k) != 0) {
		gw_error("no thread for a connection");
		(void)close(fd);
		free(k);
		return;
	}
	pthread_detach(t);
}

/* ---- start ---- */

static int listen_tcp(const char *where, int *out_fd, struct gw_err *e)
{
	char host[160];
	(void)snprintf(host, sizeof(host), "%s", where);
	char *port = strrchr(host, ':');
	if (!port)
		return gw_fail(e, GW_INPUT, EINVAL, "--listen %s: give ADDRESS:PORT, e.g. 0.0.0.0:9460", where);
	*port++ = 0;
	char *name = host;
	if (*name == '[' && name[strlen(name) - 1] == ']') {
		name[strlen(name) - 1] = 0;
		name++;
	}
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICHOST}, *ai;
	int rc = getaddrinfo(name, port, &hints, &ai);
	if (rc != 0)
		return gw_fail(e, GW_INPUT, EINVAL, "--listen %s: %s", where, gai_strerror(rc));
	gw_auto(fd) int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int one = 1;
	bool ok = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0 &&
	          bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0;
	int err = errno;
	freeaddrinfo(ai);
	if (!ok)
		return gw_fail(e, GW_SYS, err, "listen on %s", where);
	*out_fd = gw_take_fd(&fd);
	return 0;
}

/* STATE/instance names this life of the host: STATE is on tmpfs, so the file
 * survives godwitd and not the host. */
static int know_instance(struct gw_daemon *d, struct gw_err *e)
{
	char path[PATH_MAX + 16];
	gw_path(path, sizeof(path), "%s/instance", d->cfg.state_dir);
	gw_auto(mem) char *old = NULL;
	if (gw_read_file(path, sizeof(d->instance) - 1, &old, NULL, NULL) == 0 && strlen(old) == 32) {
		(void)snprintf(d->instance, sizeof(d->instance), "%s", old);
		return 0;
	}
	uint8_t raw[16];
	if (getrandom(raw, sizeof(raw), 0) != sizeof(raw))
		return gw_fail(e, GW_SYS, errno, "random numbers");
	for (size_t i = 0; i < sizeof(raw); i++)
		gw_path(d->instance + 2 * i, sizeof(d->instance) - 2 * i, "%02x", raw[i]);
	return gw_write_file(path, d->instance, 32, e);
}

static int make_state(struct gw_daemon *d, struct gw_err *e)
{
	static const char *const subs[] = {"journal", "mig", "bundles"};
	for (size_t i = 0; i < gw_countof(subs); i++) {
		char path[PATH_MAX + 16];
		gw_path(path, sizeof(path), "%s/%s", d->cfg.state_dir, subs[i]);
		int rc = gw_mkdirs(path, e);
		if (rc < 0)
			return rc;
	}
	return know_instance(d, e);
}

static int start(struct gw_daemon *d, int *out_local, int *out_peers, struct gw_err *e)
{
	int rc = make_state(d, e);
	if (rc == 0)
		rc = gw_tls_new(d->cfg.ca, d->cfg.cert, d->cfg.key, &d->tls, e);
	if (rc == 0)
		rc = listen_tcp(d->cfg.listen, out_peers, e);
	if (rc < 0)
		return rc;
	/* What waited for a place waits for nobody any more. */
	if (d->cfg.files_dir[0] && gw_remove_tree(d->cfg.files_dir, e) < 0)
		gw_warn("files of another life are still there", kv_str("reason", e->text));
	gw_resolve_recover(d);
	return gw_unix_listen(d->cfg.socket, out_local, e);
}

static int watch_signals(int *out_fd, struct gw_err *e)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	(void)signal(SIGPIPE, SIG_IGN);
	if (pthread_sigmask(SIG_BLOCK, &set, NULL) != 0)
		return gw_fail(e, GW_SYS, errno, "block signals");
	*out_fd = signalfd(-1, &set, SFD_CLOEXEC);
	return *out_fd < 0 ? gw_fail(e, GW_SYS, errno, "signalfd") : 0;
}

/* What is running before its commit is undone; what is in doubt stays. */
static void stop(struct gw_daemon *d)
{
	uint64_t one = 1;
	(void)!write(d->stop_fd, &one, sizeof(one));
	uint64_t end = gw_now_ms() + 10000;
	for (;;) {
		pthread_mutex_lock(&d->lock);
		bool busy = d->sources != NULL;
		pthread_mutex_unlock(&d->lock);
		if (!busy || gw_now_ms() > end)
			return;
		gw_source_cancel_all(d);
		gw_sleep_us(10000);
	}
}

int gw_daemon_run(const struct gw_config *cfg, int (*begin)(struct gw_daemon *d, void *ctx, struct gw_err *e),
                  void *ctx)
{
	static struct gw_daemon d;
	struct gw_err e = {.class = GW_OK};
	d.cfg = *cfg;
	pthread_mutex_init(&d.lock, NULL);
	d.stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	gw_auto(fd) int local = -1;
	gw_auto(fd) int peers = -1;
	gw_auto(fd) int signals = -1;
	/* Threads inherit it; those that only copy memory give it back. */
	(void)setpriority(PRIO_PROCESS, 0, GW_FREEZE_NICE);
	(void)mallopt(M_MMAP_THRESHOLD, 128 << 10); /* given, it stays there: large buffers go when they are freed */
	(void)mallopt(M_ARENA_MAX, 2);              /* an idle godwitd stays below 10 MiB */
	char fault[PATH_MAX + 16];
	gw_path(fault, sizeof(fault), "%s/fault", cfg->state_dir);
	gw_fault_init(fault);
	int rc = watch_signals(&signals, &e);
	if (rc == 0)
		rc = start(&d, &local, &peers, &e);
	if (rc == 0 && begin)
		rc = begin(&d, ctx, &e);
	if (rc < 0) {
		gw_error("cannot start", kv_str("reason", e.text));
		return e.class == GW_INPUT ? 2 : EXIT_SYSTEM;
	}
	gw_info("ready", kv_str("name", cfg->name), kv_str("listen", cfg->listen), kv_str("socket", cfg->socket),
	        kv_str("version", GODWIT_VERSION));
	struct pollfd p[3] = {
	        {.fd = local, .events = POLLIN}, {.fd = peers, .events = POLLIN}, {.fd = signals, .events = POLLIN}};
	for (;;) {
		if (poll(p, 3, -1) < 0 && errno != EINTR)
			break;
		if (p[2].revents)
			break;
		if (p[0].revents)
			accept_one(&d, local, local_main);
		if (p[1].revents)
			accept_one(&d, peers, peer_main);
	}
	gw_info("ending");
	stop(&d);
	(void)unlink(cfg->socket);
	return 0;
}
