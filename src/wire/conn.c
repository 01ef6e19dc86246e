#include "wire/conn.h"

#include <assert.h>
#include <errno.h>
#include <openssl/err.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
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

enum {
	/* Records in one buffer, to the kernel and from it: few enough to stay in
	 * a core's nearest caches, enough for few system calls. */
	OUT_ROOM = 7 * (GW_RECORD_DATA + GW_RECORD_OVER),
	RAW_ROOM = 4 * (GW_RECORD_DATA + GW_RECORD_OVER),
	IOV_MAX_OURS = 8, /* pieces of a frame, its header with them */
	KEY_UPDATE_BYTES = 5
};
static_assert((int)RAW_ROOM >= (int)GW_RECORD_MAX);

enum { ALERT_WARNING = 1, HANDSHAKE_KEY_UPDATE = 24 };

struct gw_conn {
	int fd;
	int wake_fd; /* readable once gw_conn_shutdown was called, never drained */
	_Atomic bool shut;
	_Atomic bool key_asked; /* the peer wants us to change our key */
	_Atomic uint64_t sent_bytes;
	char peer[GW_TLS_NAME_MAX];
	char where[64];

	pthread_mutex_t send_lock; /* one frame at a time; guards what follows */
	struct gw_record *seal;
	uint32_t out_serial;
	bool out_broken; /* part of a frame is out: nothing may follow */
	uint64_t rekey_bytes, under_key_bytes;
	uint8_t *out; /* OUT_ROOM bytes; [0, out_len) are records that wait; NULL: none yet */
	size_t out_len;

	/* Of the one reader. */
	struct gw_record *open;
	uint32_t in_serial;
	bool in_broken;
	uint8_t *raw;                /* RAW_ROOM bytes; NULL: none */
	size_t raw_from, raw_to;     /* came from the socket, not opened yet */
	size_t plain_from, plain_to; /* in raw, below raw_from: opened, not handed on yet */
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
	c->fd = gw_take_fd(&fd);
	c->rekey_bytes = rekey_default_bytes;
	gw_tcp_where(c->fd, c->where, sizeof(c->where));
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

static int handshake(struct gw_conn *c, SSL *ssl, uint64_t deadline_ns, struct gw_err *e)
{
	char what[128];
	(void)snprintf(what, sizeof(what), "TLS handshake with %s", c->where);
	for (;;) {
		ERR_clear_error();
		errno = 0;
		int ret = SSL_do_handshake(ssl), sys = errno;
		if (ret > 0)
			return 0;
		int error = SSL_get_error(ssl, ret);
		if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
			return gw_tls_fail(ssl, error, sys, e, what);
		int rc = gw_wait_fd(c->fd, error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, -1, deadline_ns);
		if (rc < 0)
			return gw_fail(e, GW_PEER, -rc, "%s: %s", what,
			               rc == -ETIMEDOUT ? "the peer takes too long" : strerrordesc_np(-rc));
	}
}

/* From here on records are ours. */
static int take_over(struct gw_conn *c, const SSL *ssl, struct gw_tls_io *io, struct gw_err *e)
{
	int rc = gw_tls_secrets(ssl, io, e);
	if (rc < 0)
		return rc;
	c->seal = gw_record_new(&io->sending, true);
	c->open = gw_record_new(&io->receiving, false);
	return c->seal && c->open ? 0 : gw_fail(e, GW_SYS, ENOMEM, "set up TLS session");
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
	struct gw_tls_io io = {.fd = c->fd};
	SSL *ssl = gw_tls_session(t, &io, want_name);
	rc = ssl ? handshake(c, ssl, deadline_ns, e) : gw_fail(e, GW_SYS, ENOMEM, "set up TLS session");
	if (rc == 0)
		rc = gw_tls_peer_name(ssl, c->peer, e);
	if (rc == 0)
		rc = take_over(c, ssl, &io, e);
	SSL_free(ssl);
	ERR_clear_error();
	OPENSSL_cleanse(&io, sizeof(io));
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

/* close_notify, if the socket takes it: nobody waits for it. */
static void say_goodbye(struct gw_conn *c)
{
	static const uint8_t alert[2] = {ALERT_WARNING, SSL_AD_CLOSE_NOTIFY};
	uint8_t rec[sizeof(alert) + GW_RECORD_OVER];
	const struct iovec v = {(void *)(uintptr_t)alert, sizeof(alert)};
	if (gw_record_seal(c->seal, GW_RECORD_ALERT, &v, 1, rec) == 0)
		(void)send(c->fd, rec, sizeof(rec), MSG_NOSIGNAL);
}

void gw_conn_free(struct gw_conn *c)
{
	if (!c)
		return;
	/* Unless that would look like the rest of a frame. */
	if (!c->out_broken)
		say_goodbye(c);
	gw_record_free(c->seal);
	gw_record_free(c->open);
	(void)close(c->fd);
	if (c->wake_fd >= 0)
		(void)close(c->wake_fd);
	(void)pthread_mutex_destroy(&c->send_lock);
	free(c->out);
	free(c->raw);
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
	return atomic_load_explicit(&c->sent_bytes, memory_order_relaxed);
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

static int fail_io(struct gw_conn *c, int sys, struct gw_err *e, const char *verb)
{
	char what[GW_TLS_NAME_MAX + 100];
	(void)snprintf(what, sizeof(what), "%s %s (%s)", verb, c->peer, c->where);
	return gw_tls_fail(NULL, SSL_ERROR_SYSCALL, sys, e, what);
}

static int fail_wait(struct gw_conn *c, int rc, struct gw_err *e, const char *verb)
{
	if (rc == -ECANCELED)
		return gw_fail(e, GW_SYS, ECANCELED, "%s %s (%s)", verb, c->peer, c->where);
	if (rc == -ETIMEDOUT)
		return gw_fail(e, GW_PEER, ETIMEDOUT, "%s %s (%s): nothing came in time", verb, c->peer, c->where);
	return gw_fail(e, GW_SYS, -rc, "%s %s (%s)", verb, c->peer, c->where);
}

/* ---- writing ---- */

/* All records that wait on their way. more: of this frame others follow. */
static int flush(struct gw_conn *c, bool more, struct gw_err *e)
{
	for (size_t at = 0; at < c->out_len;) {
		if (atomic_load_explicit(&c->shut, memory_order_relaxed))
			return fail_wait(c, -ECANCELED, e, "send to");
		ssize_t n = send(c->fd, c->out + at, c->out_len - at, MSG_NOSIGNAL | (more ? MSG_MORE : 0));
		if (n >= 0) {
			at += (size_t)n;
			atomic_fetch_add_explicit(&c->sent_bytes, (uint64_t)n, memory_order_relaxed);
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return fail_io(c, errno, e, "send to");
		int rc = gw_wait_fd(c->fd, POLLOUT, c->wake_fd, UINT64_MAX);
		if (rc < 0)
			return fail_wait(c, rc, e, "send to");
	}
	c->out_len = 0;
	return 0;
}

static int put_record(struct gw_conn *c, uint8_t type, const struct iovec *iov, unsigned niov, size_t len,
                      struct gw_err *e)
{
	if (c->out_len + len + GW_RECORD_OVER > OUT_ROOM) {
		int rc = flush(c, true, e);
		if (rc < 0)
			return rc;
	}
	if (gw_record_seal(c->seal, type, iov, niov, c->out + c->out_len) < 0)
		return gw_fail(e, GW_SYS, EIO, "send to %s (%s): encryption failed", c->peer, c->where);
	c->out_len += len + GW_RECORD_OVER;
	return 0;
}

static int change_key(struct gw_conn *c, struct gw_err *e)
{
	static const uint8_t update[KEY_UPDATE_BYTES] = {HANDSHAKE_KEY_UPDATE, 0, 0, 1, SSL_KEY_UPDATE_NOT_REQUESTED};
	const struct iovec v = {(void *)(uintptr_t)update, sizeof(update)};
	int rc = put_record(c, GW_RECORD_HANDSHAKE, &v, 1, sizeof(update), e);
	if (rc == 0 && gw_record_next_key(c->seal) < 0)
		rc = gw_fail(e, GW_SYS, EIO, "change key with %s (%s)", c->peer, c->where);
	c->under_key_bytes = 0;
	return rc;
}

/* What is left of a frame. */
struct cursor {
	const struct iovec *iov;
	size_t at; /* in iov[0] */
	size_t left;
};

/* The pieces of the next record, as they lie in the caller's memory. */
static unsigned next_pieces(struct cursor *cur, struct iovec out[IOV_MAX_OURS], size_t *out_len)
{
	unsigned k = 0;
	size_t room = cur->left < GW_RECORD_DATA ? cur->left : GW_RECORD_DATA;
	*out_len = room;
	while (room) {
		size_t n = cur->iov->iov_len - cur->at;
		n = n < room ? n : room;
		if (n)
			out[k++] = (struct iovec){(uint8_t *)cur->iov->iov_base + cur->at, n};
		cur->at += n;
		cur->left -= n;
		room -= n;
		if (cur->at == cur->iov->iov_len) {
			cur->iov++;
			cur->at = 0;
		}
	}
	return k;
}

static int send_pieces(struct gw_conn *c, struct cursor cur, struct gw_err *e)
{
	while (cur.left) {
		struct iovec v[IOV_MAX_OURS];
		size_t n;
		int rc = 0;
		if (c->under_key_bytes >= c->rekey_bytes || atomic_exchange(&c->key_asked, false))
			rc = change_key(c, e);
		unsigned k = next_pieces(&cur, v, &n);
		if (rc == 0)
			rc = put_record(c, GW_RECORD_APP, v, k, n, e);
		if (rc < 0)
			return rc;
		c->under_key_bytes += n;
	}
	return flush(c, false, e);
}

static int send_locked(struct gw_conn *c, const struct iovec *frame, size_t len, struct gw_err *e)
{
	if (atomic_load(&c->shut))
		return fail_wait(c, -ECANCELED, e, "send to");
	if (c->out_broken)
		return gw_fail(e, GW_PEER, EPIPE, "send to %s (%s): the connection has failed before", c->peer,
		               c->where);
	if (!c->out && !(c->out = malloc(OUT_ROOM)))
		return gw_fail(e, GW_SYS, ENOMEM, "send to %s (%s)", c->peer, c->where);
	int rc = send_pieces(c, (struct cursor){.iov = frame, .left = len}, e);
	if (rc < 0)
		c->out_broken = true;
	else
		c->out_serial++;
	return rc;
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
	assert(niov < IOV_MAX_OURS);
	uint8_t head[GW_FRAME_HDR_BYTES];
	struct iovec frame[IOV_MAX_OURS] = {{head, sizeof(head)}};
	memcpy(frame + 1, iov, niov * sizeof(*iov));
	(void)pthread_mutex_lock(&c->send_lock);
	gw_frame_pack(&(struct gw_frame_hdr){.type = (uint8_t)type, .length = (uint32_t)len, .serial = c->out_serial},
	              head);
	int rc = send_locked(c, frame, sizeof(head) + len, e);
	(void)pthread_mutex_unlock(&c->send_lock);
	return rc;
}

/* ---- reading ---- */

static int fail_rules(struct gw_conn *c, struct gw_err *e, const char *words)
{
	return gw_fail(e, GW_PEER, EPROTO, "receive from %s (%s): TLS failed: %s", c->peer, c->where, words);
}

/* At least need bytes in raw from raw_from on. Opened bytes must have been handed on. */
static int fill_raw(struct gw_conn *c, size_t need, uint64_t deadline_ns, struct gw_err *e)
{
	if (!c->raw && !(c->raw = malloc(RAW_ROOM)))
		return gw_fail(e, GW_SYS, ENOMEM, "receive from %s (%s)", c->peer, c->where);
	if (c->raw_from == c->raw_to || RAW_ROOM - c->raw_from < need) {
		memmove(c->raw, c->raw + c->raw_from, c->raw_to - c->raw_from);
		c->raw_to -= c->raw_from;
		c->raw_from = 0;
	}
	while (c->raw_to - c->raw_from < need) {
		if (atomic_load_explicit(&c->shut, memory_order_relaxed))
			return fail_wait(c, -ECANCELED, e, "receive from");
		ssize_t n = recv(c->fd, c->raw + c->raw_to, RAW_ROOM - c->raw_to, 0);
		if (n > 0) {
			c->raw_to += (size_t)n;
			continue;
		}
		if (n == 0 || (errno != EAGAIN && errno != EINTR))
			return fail_io(c, n == 0 ? 0 : errno, e, "receive from");
		int rc = errno == EINTR ? 0 : gw_wait_fd(c->fd, POLLIN, c->wake_fd, deadline_ns);
		if (rc < 0)
			return fail_wait(c, rc, e, "receive from");
	}
	return 0;
}

/* A record that is not data: an alert, or a new key. */
static int take_other(struct gw_conn *c, uint8_t type, const uint8_t *p, size_t len, struct gw_err *e)
{
	static const uint8_t update[KEY_UPDATE_BYTES - 1] = {HANDSHAKE_KEY_UPDATE, 0, 0, 1};
	char what[GW_TLS_NAME_MAX + 100];
	(void)snprintf(what, sizeof(what), "receive from %s (%s)", c->peer, c->where);
	if (type == GW_RECORD_ALERT && len == 2)
		return gw_tls_alert(p[1], e, what);
	if (type != GW_RECORD_HANDSHAKE || len != KEY_UPDATE_BYTES || memcmp(p, update, sizeof(update)) != 0 ||
	    p[KEY_UPDATE_BYTES - 1] > SSL_KEY_UPDATE_REQUESTED)
		return fail_rules(c, e, "neither data nor a change of key nor an alert");
	if (p[KEY_UPDATE_BYTES - 1] == SSL_KEY_UPDATE_REQUESTED)
		atomic_store(&c->key_asked, true);
	if (gw_record_next_key(c->open) < 0)
		return gw_fail(e, GW_SYS, EIO, "change key with %s (%s)", c->peer, c->where);
	return 0;
}

/* Opens the next record: straight to p when all of it has room there, else
 * within raw. *out_n: bytes of data at p. */
static int next_record(struct gw_conn *c, uint8_t *p, size_t room, uint64_t deadline_ns, size_t *out_n,
                       struct gw_err *e)
{
	*out_n = 0;
	int rc = fill_raw(c, GW_RECORD_HEAD, deadline_ns, e);
	int len = rc < 0 ? 0 : gw_record_length(c->raw + c->raw_from);
	if (rc == 0)
		rc = len < 0 ? fail_rules(c, e, "no record of TLS 1.3") : fill_raw(c, (size_t)len, deadline_ns, e);
	if (rc < 0)
		return rc;
	size_t at = c->raw_from, n;
	bool is_direct = gw_record_room((size_t)len) <= room;
	uint8_t *to = is_direct ? p : c->raw + at + GW_RECORD_HEAD, type;
	rc = gw_record_open(c->open, c->raw + at, (size_t)len, to, &n, &type);
	if (rc < 0)
		return fail_rules(c, e, "a record that the peer has not sealed so");
	c->raw_from = at + (size_t)len;
	if (type != GW_RECORD_APP)
		return take_other(c, type, to, n, e);
	if (is_direct) {
		*out_n = n;
	} else {
		c->plain_from = at + GW_RECORD_HEAD;
		c->plain_to = c->plain_from + n;
	}
	return 0;
}

/* Exactly len bytes. *inout_got counts what has come, also on failure. */
static int recv_full(struct gw_conn *c, uint8_t *p, size_t len, uint64_t deadline_ns, size_t *inout_got,
                     struct gw_err *e)
{
	while (len) {
		if (atomic_load_explicit(&c->shut, memory_order_relaxed))
			return fail_wait(c, -ECANCELED, e, "receive from");
		size_t n = c->plain_to - c->plain_from;
		n = n < len ? n : len;
		if (n) {
			memcpy(p, c->raw + c->plain_from, n);
			c->plain_from += n;
		} else {
			int rc = next_record(c, p, len, deadline_ns, &n, e);
			if (rc < 0)
				return rc;
		}
		p += n;
		len -= n;
		*inout_got += n;
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
	gw_tcp_hasten(c->fd);
}

void gw_conn_drop_room(struct gw_conn *c)
{
	free(c->in);
	c->in = NULL;
	c->in_room = 0;
	if (c->raw_from == c->raw_to && c->plain_from == c->plain_to) {
		free(c->raw);
		c->raw = NULL;
		c->raw_from = c->raw_to = c->plain_from = c->plain_to = 0;
	}
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
