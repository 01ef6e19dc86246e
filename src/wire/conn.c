#include "wire/conn.h"

#include <assert.h>
#include <errno.h>
#include <openssl/err.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/scope.h"
#include "wire/dial.h"
#include "wire/tls.h"

/* RFC 8446 5.5: at most 2^24.5 full records under one AES-GCM key. We change
 * ours after a sixth of that. */
static const uint64_t rekey_default_bytes = UINT64_C(64) << 30;
/* Only for a writer that finds OpenSSL in the middle of a handshake message
 * (a key update that came in two pieces): the reader may be the one who
 * takes the rest off the socket, so look again without being told. */
static const uint64_t recheck_ns = 5u * 1000u * 1000u;

struct gw_conn {
	struct gw_tls_io io;
	SSL *ssl;
	int wake_fd; /* readable once gw_conn_shutdown was called, never drained */
	_Atomic bool shut;
	char peer[GW_TLS_NAME_MAX];
	char where[64];

	pthread_mutex_t ssl_lock;  /* every SSL_* call: never held while waiting */
	pthread_mutex_t send_lock; /* one frame at a time; guards the fields below */
	uint32_t out_serial;
	bool out_broken; /* part of a frame is out: nothing may follow */
	uint64_t rekey_bytes, under_key_bytes;
	uint8_t gather[GW_TLS_RECORD];

	/* Of the one reader. */
	uint32_t in_serial;
	bool in_broken;
	uint8_t *in;
	size_t in_room;
};

static int conn_new(int take_fd, struct gw_conn **out, struct gw_err *e)
{
	gw_auto(fd) int fd = take_fd;
	int rc = gw_tcp_tune(fd);
	if (rc < 0)
		return gw_fail(e, GW_SYS, -rc, "set up connection");
	struct gw_conn *c = calloc(1, sizeof(*c));
	if (!c)
		return gw_fail(e, GW_SYS, ENOMEM, "set up connection");
	c->io.fd = gw_take_fd(&fd);
	c->rekey_bytes = rekey_default_bytes;
	gw_tcp_where(c->io.fd, c->where, sizeof(c->where));
	(void)pthread_mutex_init(&c->ssl_lock, NULL);
	(void)pthread_mutex_init(&c->send_lock, NULL);
	c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->wake_fd < 0) {
		rc = gw_fail(e, GW_SYS, errno, "set up connection");
		gw_conn_free(c);
		return rc;
	}
	*out = c;
	return 0;
}

/* One SSL call, and what OpenSSL says about it. */
struct step {
	int ssl_error; /* SSL_ERROR_NONE: done */
	int sys;
};

static struct step judge(const struct gw_conn *c, int ret)
{
	return (struct step){.sys = errno, .ssl_error = ret > 0 ? SSL_ERROR_NONE : SSL_get_error(c->ssl, ret)};
}

static int handshake(struct gw_conn *c, uint64_t deadline_ns, struct gw_err *e)
{
	char what[128];
	(void)snprintf(what, sizeof(what), "TLS handshake with %s", c->where);
	for (;;) {
		ERR_clear_error();
		errno = 0;
		struct step s = judge(c, SSL_do_handshake(c->ssl));
		if (s.ssl_error == SSL_ERROR_NONE)
			return 0;
		if (s.ssl_error != SSL_ERROR_WANT_READ && s.ssl_error != SSL_ERROR_WANT_WRITE)
			return gw_tls_fail(c->ssl, s.ssl_error, s.sys, e, what);
		int rc = gw_wait_fd(c->io.fd, s.ssl_error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, -1, deadline_ns);
		if (rc < 0)
			return gw_fail(e, GW_PEER, -rc, "%s: %s", what,
			               rc == -ETIMEDOUT ? "the peer takes too long" : strerrordesc_np(-rc));
	}
}

static uint64_t deadline_after(int timeout_ms)
{
	return timeout_ms < 0 ? UINT64_MAX : gw_now_ns() + (uint64_t)timeout_ms * 1000000u;
}

static int secure(struct gw_tls *t, int take_fd, const char *want_name, uint64_t deadline_ns, struct gw_conn **out,
                  struct gw_err *e)
{
	struct gw_conn *c = NULL;
	int rc = conn_new(take_fd, &c, e);
	if (rc < 0)
		return rc;
	c->ssl = gw_tls_session(t, &c->io, want_name);
	rc = c->ssl ? handshake(c, deadline_ns, e) : gw_fail(e, GW_SYS, ENOMEM, "set up TLS session");
	if (rc == 0)
		rc = gw_tls_peer_name(c->ssl, c->peer, e);
	if (rc < 0) {
		c->out_broken = true;
		gw_conn_free(c);
		return rc;
	}
	*out = c;
	return 0;
}

int gw_conn_dial(struct gw_tls *t, const char *host, uint16_t port, const char *peer_name, int timeout_ms,
                 struct gw_conn **out, struct gw_err *e)
{
	/* OpenSSL takes an empty name for "do not check", and a leading dot
	 * for "any host below". */
	if (!peer_name[0] || peer_name[0] == '.')
		return gw_fail(e, GW_INPUT, EINVAL, "connect to %s: '%s' is no name of a host", host, peer_name);
	uint64_t deadline = deadline_after(timeout_ms);
	int fd;
	int rc = gw_tcp_connect(host, port, deadline, &fd, e);
	if (rc == 0)
		rc = secure(t, fd, peer_name, deadline, out, e);
	if (rc < 0)
		(void)gw_wrap(e, "connect to %s", peer_name);
	return rc;
}

int gw_conn_accept(struct gw_tls *t, int take_fd, int timeout_ms, struct gw_conn **out, struct gw_err *e)
{
	return secure(t, take_fd, NULL, deadline_after(timeout_ms), out, e);
}

void gw_conn_free(struct gw_conn *c)
{
	if (!c)
		return;
	/* Say good-bye, unless that would look like the rest of a frame. */
	if (c->ssl && !c->out_broken) {
		c->io.more = false;
		ERR_clear_error();
		(void)SSL_shutdown(c->ssl);
	}
	SSL_free(c->ssl);
	ERR_clear_error();
	(void)close(c->io.fd);
	free(c->io.out);
	if (c->wake_fd >= 0)
		(void)close(c->wake_fd);
	(void)pthread_mutex_destroy(&c->ssl_lock);
	(void)pthread_mutex_destroy(&c->send_lock);
	free(c->in);
	free(c);
}

const char *gw_conn_peer(const struct gw_conn *c)
{
	return c->peer;
}

const char *gw_conn_where(const struct gw_conn *c)
{
	return c->where;
}

uint64_t gw_conn_sent_bytes(const struct gw_conn *c)
{
	return atomic_load_explicit(&c->io.sent_bytes, memory_order_relaxed);
}

void gw_conn_rekey_after(struct gw_conn *c, uint64_t bytes)
{
	(void)pthread_mutex_lock(&c->send_lock);
	c->rekey_bytes = bytes;
	(void)pthread_mutex_unlock(&c->send_lock);
}

void gw_conn_shutdown(struct gw_conn *c)
{
	/* Only atomics and write(2): also right in a signal handler. It cannot
	 * fail before 2^64 - 1 calls. */
	atomic_store(&c->shut, true);
	(void)eventfd_write(c->wake_fd, 1);
}

static int fail_io(struct gw_conn *c, struct step s, struct gw_err *e, const char *verb)
{
	char what[GW_TLS_NAME_MAX + 100];
	(void)snprintf(what, sizeof(what), "%s %s (%s)", verb, c->peer, c->where);
	return gw_tls_fail(c->ssl, s.ssl_error, s.sys, e, what);
}

static int fail_wait(struct gw_conn *c, int rc, struct gw_err *e, const char *verb)
{
	if (rc == -ECANCELED)
		return gw_fail(e, GW_SYS, ECANCELED, "%s %s (%s)", verb, c->peer, c->where);
	if (rc == -ETIMEDOUT)
		return gw_fail(e, GW_PEER, ETIMEDOUT, "%s %s (%s): nothing came in time", verb, c->peer, c->where);
	return gw_fail(e, GW_SYS, -rc, "%s %s (%s)", verb, c->peer, c->where);
}

/* Wait for what the step wants. */
static int wait_step(struct gw_conn *c, struct step s, bool is_writer, uint64_t deadline_ns)
{
	if (s.ssl_error == SSL_ERROR_WANT_WRITE)
		return gw_wait_fd(c->io.fd, POLLOUT, c->wake_fd, deadline_ns);
	if (!is_writer)
		return gw_wait_fd(c->io.fd, POLLIN, c->wake_fd, deadline_ns);
	int rc = gw_wait_fd(c->io.fd, POLLIN, c->wake_fd, gw_now_ns() + recheck_ns);
	return rc == -ETIMEDOUT ? 0 : rc;
}

/* ---- writing ---- */

/* Everything that OpenSSL has written on its way. */
static int flush(struct gw_conn *c, struct gw_err *e)
{
	for (;;) {
		(void)pthread_mutex_lock(&c->ssl_lock);
		errno = 0;
		c->io.more = false;
		bool all = gw_tls_flush(&c->io);
		struct step s = {.ssl_error = errno == EAGAIN ? SSL_ERROR_WANT_WRITE : SSL_ERROR_SYSCALL, .sys = errno};
		(void)pthread_mutex_unlock(&c->ssl_lock);
		if (all)
			return 0;
		if (s.ssl_error != SSL_ERROR_WANT_WRITE)
			return fail_io(c, s, e, "send to");
		int rc = wait_step(c, s, true, UINT64_MAX);
		if (rc < 0)
			return fail_wait(c, rc, e, "send to");
	}
}

/* A KeyUpdate is sent by OpenSSL's handshake code, and while that cannot
 * write, SSL_read does not read either: with both directions full, both ends
 * would wait for ever. So it is begun only when there is room for it. */
static int change_key(struct gw_conn *c, struct gw_err *e)
{
	int flushed = flush(c, e);
	if (flushed < 0)
		return flushed;
	for (bool asked = false;;) {
		int rc = gw_wait_fd(c->io.fd, POLLOUT, c->wake_fd, UINT64_MAX);
		if (rc < 0)
			return fail_wait(c, rc, e, "send to");
		(void)pthread_mutex_lock(&c->ssl_lock);
		ERR_clear_error();
		errno = 0;
		int ret = asked ? 1 : SSL_key_update(c->ssl, SSL_KEY_UPDATE_NOT_REQUESTED);
		asked = true;
		if (ret == 1)
			ret = SSL_do_handshake(c->ssl);
		struct step s = judge(c, ret);
		(void)pthread_mutex_unlock(&c->ssl_lock);
		if (s.ssl_error == SSL_ERROR_NONE) {
			c->under_key_bytes = 0;
			return 0;
		}
		if (s.ssl_error != SSL_ERROR_WANT_READ && s.ssl_error != SSL_ERROR_WANT_WRITE)
			return fail_io(c, s, e, "change key with");
	}
}

static int send_record(struct gw_conn *c, const uint8_t *p, size_t n, bool more, struct gw_err *e)
{
	int rc = c->under_key_bytes >= c->rekey_bytes ? change_key(c, e) : 0;
	while (rc == 0) {
		if (atomic_load_explicit(&c->shut, memory_order_relaxed))
			return fail_wait(c, -ECANCELED, e, "send to");
		size_t done;
		(void)pthread_mutex_lock(&c->ssl_lock);
		ERR_clear_error();
		errno = 0;
		c->io.more = more;
		struct step s = judge(c, SSL_write_ex(c->ssl, p, n, &done));
		(void)pthread_mutex_unlock(&c->ssl_lock);
		if (s.ssl_error == SSL_ERROR_NONE) {
			c->under_key_bytes += n;
			return more ? 0 : flush(c, e);
		}
		if (s.ssl_error != SSL_ERROR_WANT_READ && s.ssl_error != SSL_ERROR_WANT_WRITE)
			return fail_io(c, s, e, "send to");
		int waited = wait_step(c, s, true, UINT64_MAX);
		if (waited < 0)
			return fail_wait(c, waited, e, "send to");
	}
	return rc;
}

/* What is left of a frame. */
struct cursor {
	const struct iovec *iov;
	unsigned niov;
	size_t at; /* in iov[0] */
	size_t left;
};

/* The next record: straight from the caller's memory when one piece fills
 * it, else gathered, so that small pieces do not become small records. */
static size_t next_record(struct gw_conn *c, struct cursor *cur, size_t head, const uint8_t **out)
{
	size_t have = head;
	while (cur->left && have < GW_TLS_RECORD) {
		size_t n = cur->iov->iov_len - cur->at;
		const uint8_t *p = (const uint8_t *)cur->iov->iov_base + cur->at;
		if (n > GW_TLS_RECORD - have)
			n = GW_TLS_RECORD - have;
		cur->at += n;
		cur->left -= n;
		if (n == GW_TLS_RECORD) {
			*out = p;
			return n;
		}
		if (n)
			memcpy(c->gather + have, p, n);
		have += n;
		if (cur->at == cur->iov->iov_len) {
			cur->iov++;
			cur->niov--;
			cur->at = 0;
		}
	}
	*out = c->gather;
	return have;
}

static int send_locked(struct gw_conn *c, const struct gw_frame_hdr *h, struct cursor cur, struct gw_err *e)
{
	if (atomic_load(&c->shut))
		return fail_wait(c, -ECANCELED, e, "send to");
	if (c->out_broken)
		return gw_fail(e, GW_PEER, EPIPE, "send to %s (%s): the connection has failed before", c->peer,
		               c->where);
	gw_frame_pack(h, c->gather);
	size_t head = GW_FRAME_HDR_BYTES;
	do {
		const uint8_t *p;
		size_t n = next_record(c, &cur, head, &p);
		int rc = send_record(c, p, n, cur.left > 0, e);
		if (rc < 0) {
			c->out_broken = true;
			return rc;
		}
		head = 0;
	} while (cur.left);
	c->out_serial++;
	return 0;
}

int gw_conn_send(struct gw_conn *c, enum gw_frame_type type, const struct iovec *iov, unsigned niov, struct gw_err *e)
{
	size_t len = 0;
	for (unsigned i = 0; i < niov; i++)
		len += iov[i].iov_len;
	assert(len >= gw_frame_min((uint8_t)type));
	if (len > gw_frame_max((uint8_t)type))
		return gw_fail(e, GW_INPUT, EMSGSIZE,
		               "send to %s: a frame of type %d of %zu bytes is over the limit of %u", c->peer, type,
		               len, gw_frame_max((uint8_t)type));
	(void)pthread_mutex_lock(&c->send_lock);
	struct gw_frame_hdr h = {.type = (uint8_t)type, .length = (uint32_t)len, .serial = c->out_serial};
	int rc = send_locked(c, &h, (struct cursor){.iov = iov, .niov = niov, .left = len}, e);
	(void)pthread_mutex_unlock(&c->send_lock);
	return rc;
}

/* ---- reading ---- */

/* Exactly len bytes. *inout_got counts what has come, also on failure. */
static int recv_full(struct gw_conn *c, uint8_t *p, size_t len, uint64_t deadline_ns, size_t *inout_got,
                     struct gw_err *e)
{
	while (len) {
		if (atomic_load_explicit(&c->shut, memory_order_relaxed))
			return fail_wait(c, -ECANCELED, e, "receive from");
		size_t n = 0;
		(void)pthread_mutex_lock(&c->ssl_lock);
		ERR_clear_error();
		errno = 0;
		struct step s = judge(c, SSL_read_ex(c->ssl, p, len, &n));
		(void)pthread_mutex_unlock(&c->ssl_lock);
		if (s.ssl_error == SSL_ERROR_NONE) {
			p += n;
			len -= n;
			*inout_got += n;
			continue;
		}
		if (s.ssl_error != SSL_ERROR_WANT_READ && s.ssl_error != SSL_ERROR_WANT_WRITE)
			return fail_io(c, s, e, "receive from");
		int rc = wait_step(c, s, false, deadline_ns);
		if (rc < 0)
			return fail_wait(c, rc, e, "receive from");
	}
	return 0;
}

static int make_room(struct gw_conn *c, size_t len, struct gw_err *e)
{
	if (len <= c->in_room)
		return 0;
	/* Not realloc: the old payload need not be copied. */
	free(c->in);
	size_t room = len < 4096 ? 4096 : len;
	c->in = malloc(room);
	c->in_room = c->in ? room : 0;
	return c->in ? 0 : gw_fail(e, GW_SYS, ENOMEM, "receive a frame of %zu bytes from %s", len, c->peer);
}

void gw_conn_hasten(struct gw_conn *c)
{
	gw_tcp_hasten(c->io.fd);
}

void gw_conn_drop_room(struct gw_conn *c)
{
	free(c->in);
	c->in = NULL;
	c->in_room = 0;
}

static int recv_frame(struct gw_conn *c, uint64_t deadline_ns, size_t *inout_got, struct gw_frame *out,
                      struct gw_err *e)
{
	uint8_t raw[GW_FRAME_HDR_BYTES];
	struct gw_frame_hdr h;
	int rc = recv_full(c, raw, sizeof(raw), deadline_ns, inout_got, e);
	if (rc < 0)
		return rc;
	rc = gw_frame_unpack(raw, &h, e);
	if (rc < 0) {
		(void)gw_wrap(e, "receive from %s (%s)", c->peer, c->where);
		return rc;
	}
	if (h.serial != c->in_serial)
		return gw_fail(e, GW_PEER, EPROTO, "receive from %s (%s): frame %u came where frame %u was due",
		               c->peer, c->where, h.serial, c->in_serial);
	rc = make_room(c, h.length, e);
	if (rc == 0)
		rc = recv_full(c, c->in, h.length, deadline_ns, inout_got, e);
	if (rc < 0)
		return rc;
	c->in_serial++;
	*out = (struct gw_frame){.type = h.type, .payload = c->in, .len = h.length};
	return 0;
}

int gw_conn_recv(struct gw_conn *c, int timeout_ms, struct gw_frame *out, struct gw_err *e)
{
	if (atomic_load(&c->shut))
		return fail_wait(c, -ECANCELED, e, "receive from");
	if (c->in_broken)
		return gw_fail(e, GW_PEER, EPIPE, "receive from %s (%s): the connection has failed before", c->peer,
		               c->where);
	size_t got = 0;
	int rc = recv_frame(c, deadline_after(timeout_ms), &got, out, e);
	if (rc == 0 || (rc == -ETIMEDOUT && got == 0))
		return rc;
	c->in_broken = true;
	if (got && rc == -ECONNRESET)
		return gw_fail(e, GW_PEER, EPROTO,
		               "receive from %s (%s): the peer closed the connection inside a frame", c->peer,
		               c->where);
	return rc;
}
