#include "world.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "base/clock.h"

/* ---- frames ---- */

static void fill(uint8_t *p, size_t n, uint32_t seed)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)((i * 2654435761u + seed) >> 13);
}

static void send_text(struct gw_conn *c, const char *text)
{
	const struct iovec io = {(void *)(uintptr_t)text, strlen(text)};
	struct gw_err e = {0};
	if (gw_conn_send(c, GW_F_MSG, &io, 1, &e) < 0)
		fail_msg("%s", e.text);
}

static void recv_text(struct gw_conn *c, const char *text)
{
	struct gw_frame f;
	struct gw_err e = {0};
	if (gw_conn_recv(c, 10000, &f, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(f.type, GW_F_MSG);
	assert_int_equal(f.len, strlen(text));
	assert_memory_equal(f.payload, text, f.len);
}

struct shape {
	size_t piece[6];
};

struct sending {
	struct gw_conn *c;
	const struct shape *shapes;
	size_t n;
	uint8_t *data;
	int rc;
	struct gw_err err;
};

static void *send_shapes(void *arg)
{
	struct sending *s = arg;
	for (size_t i = 0; i < s->n && s->rc == 0; i++) {
		struct iovec io[6];
		uint8_t *p = s->data;
		for (unsigned k = 0; k < 6; k++) {
			io[k] = (struct iovec){p, s->shapes[i].piece[k]};
			p += io[k].iov_len;
		}
		s->rc = gw_conn_send(s->c, GW_F_FILE, io, 6, &s->err);
	}
	return NULL;
}

static void frames_of_every_shape_arrive_as_they_were_sent(void **state)
{
	(void)state;
	static const struct shape shapes[] = {
	        {{17}},
	        {{0, 17, 0, 1}},
	        {{16384 - 16}},
	        {{16384 - 16, 1}},
	        {{16384 - 17, 1}},
	        {{16384}},
	        {{16384, 16384, 16384}},
	        {{1, 16384, 1, 16383, 2, 40000}},
	        {{100000, 3, 100000, 5, 100000, 7}},
	        {{4096, 0, 0, 1 << 20}},
	        {{GW_FRAME_DATA_MAX}},
	};
	gw_auto(mem) uint8_t *data = malloc(GW_FRAME_DATA_MAX);
	assert_non_null(data);
	fill(data, GW_FRAME_DATA_MAX, 1);
	struct pki_pair p;
	open_pair(&p);
	struct sending s = {.c = p.dialled, .shapes = shapes, .n = gw_countof(shapes), .data = data};
	pthread_t t;
	assert_int_equal(pthread_create(&t, NULL, send_shapes, &s), 0);
	for (size_t i = 0; i < gw_countof(shapes); i++) {
		size_t len = 0;
		for (unsigned k = 0; k < 6; k++)
			len += shapes[i].piece[k];
		struct gw_frame f;
		assert_int_equal(gw_conn_recv(p.accepted, 10000, &f, NULL), 0);
		assert_int_equal(f.type, GW_F_FILE);
		assert_int_equal(f.len, len);
		assert_memory_equal(f.payload, data, len);
	}
	(void)pthread_join(t, NULL);
	assert_int_equal(s.rc, 0);
	close_pair(&p);
}

static void a_frame_over_its_limit_is_not_sent_and_harms_nothing(void **state)
{
	(void)state;
	gw_auto(mem) uint8_t *data = calloc(1, GW_FRAME_DATA_MAX + 1);
	assert_non_null(data);
	struct pki_pair p;
	struct gw_err e = {0};
	open_pair(&p);
	const struct iovec io = {data, GW_FRAME_DATA_MAX + 1};
	assert_int_equal(gw_conn_send(p.dialled, GW_F_FILE, &io, 1, &e), -EMSGSIZE);
	assert_int_equal(e.class, GW_INPUT);
	send_text(p.dialled, "{}");
	recv_text(p.accepted, "{}");
	close_pair(&p);
}

static void the_sent_bytes_are_those_on_the_wire(void **state)
{
	(void)state;
	gw_auto(mem) uint8_t *data = calloc(1, 1 << 20);
	assert_non_null(data);
	struct pki_pair p;
	open_pair(&p);
	uint64_t before = gw_conn_sent_bytes(p.dialled);
	struct shape one = {{1 << 20}};
	struct sending s = {.c = p.dialled, .shapes = &one, .n = 1, .data = data};
	pthread_t t;
	assert_int_equal(pthread_create(&t, NULL, send_shapes, &s), 0);
	struct gw_frame f;
	assert_int_equal(gw_conn_recv(p.accepted, 10000, &f, NULL), 0);
	(void)pthread_join(t, NULL);
	/* 65 records: each full one costs 22 bytes (5 of header, 1 of type, 16 of tag). */
	assert_int_equal(gw_conn_sent_bytes(p.dialled) - before, (1 << 20) + 16 + 65 * 22);
	close_pair(&p);
}

static void hostile_frames_end_the_connection(void **state)
{
	(void)state;
	static const struct {
		uint8_t type;
		uint32_t length, serial;
		const char *words;
	} t[] = {
	        {GW_F_MSG, UINT32_MAX, 0, "the limit is 1048576"},
	        {0, 10, 0, "unknown type 0"},
	        {GW_F_MSG, 10, 1, "frame 1 came where frame 0 was due"},
	};
	for (size_t i = 0; i < gw_countof(t); i++) {
		struct raw r;
		struct accepting s;
		struct gw_frame f;
		raw_pair(&r, &s, "a", TLS1_3_VERSION);
		assert_int_equal(s.rc, 0);
		raw_header(&r, t[i].type, t[i].length, t[i].serial);
		assert_true(gw_conn_recv(s.conn, 10000, &f, &s.err) < 0);
		assert_int_equal(s.err.class, GW_PEER);
		has_words(&s.err, t[i].words);
		has_words(&s.err, "host-a (local)");
		assert_int_equal(gw_conn_recv(s.conn, 10000, &f, &s.err), -EPIPE);
		gw_conn_free(s.conn);
		raw_close(&r);
	}
}

static void bytes_that_are_no_frame_end_the_connection(void **state)
{
	(void)state;
	struct raw r;
	struct accepting s;
	struct gw_frame f;
	raw_pair(&r, &s, "a", TLS1_3_VERSION);
	assert_int_equal(s.rc, 0);
	raw_send(&r, "POST /migrate HTTP/1.1", 22);
	assert_int_equal(gw_conn_recv(s.conn, 10000, &f, &s.err), -EPROTO);
	has_words(&s.err, "instead of 'GW'");
	gw_conn_free(s.conn);
	raw_close(&r);
}

static void a_record_changed_on_the_way_is_found(void **state)
{
	(void)state;
	struct raw r;
	struct accepting s;
	struct gw_frame f;
	raw_pair(&r, &s, "a", TLS1_3_VERSION);
	assert_int_equal(s.rc, 0);
	/* What an attacker could put on the wire: a record with a wrong tag. */
	uint8_t forged[5 + 64] = {0x17, 0x03, 0x03, 0, 64};
	assert_int_equal(send(r.fd, forged, sizeof(forged), MSG_NOSIGNAL), sizeof(forged));
	assert_int_equal(gw_conn_recv(s.conn, 10000, &f, &s.err), -EPROTO);
	has_words(&s.err, "TLS failed");
	gw_conn_free(s.conn);
	raw_close(&r);
}

static void a_peer_that_closes_inside_a_frame_is_told_from_one_that_ends(void **state)
{
	(void)state;
	struct raw r;
	struct accepting s;
	struct gw_frame f;
	raw_pair(&r, &s, "a", TLS1_3_VERSION);
	assert_int_equal(s.rc, 0);
	raw_header(&r, GW_F_FILE, 1000, 0);
	raw_send(&r, "half", 4);
	raw_close(&r);
	assert_int_equal(gw_conn_recv(s.conn, 10000, &f, &s.err), -EPROTO);
	has_words(&s.err, "closed the connection inside a frame");
	gw_conn_free(s.conn);

	struct pki_pair p;
	open_pair(&p);
	send_text(p.dialled, "{\"last\":1}");
	gw_conn_free(p.dialled);
	p.dialled = NULL;
	recv_text(p.accepted, "{\"last\":1}");
	assert_int_equal(gw_conn_recv(p.accepted, 10000, &f, &p.accept_err), -ECONNRESET);
	assert_int_equal(p.accept_err.class, GW_PEER);
	close_pair(&p);
}

static void sending_to_a_peer_that_has_gone_fails_without_a_signal(void **state)
{
	(void)state;
	gw_auto(mem) uint8_t *data = calloc(1, 1 << 20);
	assert_non_null(data);
	struct pki_pair p;
	open_pair(&p);
	gw_conn_free(p.accepted);
	p.accepted = NULL;
	int rc = 0;
	for (unsigned i = 0; i < 100 && rc == 0; i++)
		rc = gw_conn_send(p.dialled, GW_F_FILE, &(struct iovec){data, 1 << 20}, 1, &p.dial_err);
	assert_int_equal(rc, -ECONNRESET);
	assert_int_equal(p.dial_err.class, GW_PEER);
	assert_int_equal(gw_conn_send(p.dialled, GW_F_FILE, &(struct iovec){data, 100}, 1, NULL), -EPIPE);
	close_pair(&p);
}

/* ---- another one's TLS 1.3 ---- */

static void raw_text(struct raw *r, const char *text)
{
	struct gw_frame_hdr h;
	char got[GW_FRAME_HDR_BYTES + 64];
	int want = (int)(GW_FRAME_HDR_BYTES + strlen(text)), n = 0;
	while (n < want) {
		int k = SSL_read(r->ssl, got + n, want - n);
		assert_true(k > 0);
		n += k;
	}
	assert_int_equal(gw_frame_unpack((uint8_t *)got, &h, NULL), 0);
	assert_memory_equal(got + GW_FRAME_HDR_BYTES, text, strlen(text));
}

/* A frame in two records. */
static void raw_say(struct raw *r, const char *text, uint32_t serial)
{
	raw_header(r, GW_F_MSG, (uint32_t)strlen(text), serial);
	raw_send(r, text, (int)strlen(text));
}

/* Records are ours, their keys OpenSSL's: both ends must agree on each of them. */
static void openssl_understands_our_records_and_we_its_own(void **state)
{
	(void)state;
	static const char *const ciphers[] = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
	                                      "TLS_CHACHA20_POLY1305_SHA256"};
	for (size_t i = 0; i < gw_countof(ciphers); i++) {
		struct raw r;
		struct accepting s;
		raw_cipher = ciphers[i];
		raw_pair(&r, &s, "a", TLS1_3_VERSION);
		raw_cipher = NULL;
		assert_int_equal(s.rc, 0);
		assert_string_equal(SSL_get_cipher(r.ssl), ciphers[i]);
		raw_say(&r, "{\"to\":1}", 0);
		recv_text(s.conn, "{\"to\":1}");
		send_text(s.conn, "{\"fro\":1}");
		raw_text(&r, "{\"fro\":1}");
		gw_conn_rekey_after(s.conn, 1); /* before each record but the first */
		assert_int_equal(SSL_key_update(r.ssl, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
		for (uint32_t k = 1; k < 4; k++) {
			send_text(s.conn, "{\"fro\":2}");
			raw_text(&r, "{\"fro\":2}");
			raw_say(&r, "{\"to\":2}", k);
			recv_text(s.conn, "{\"to\":2}");
		}
		gw_conn_free(s.conn);
		char over;
		assert_int_equal(SSL_get_error(r.ssl, SSL_read(r.ssl, &over, 1)), SSL_ERROR_ZERO_RETURN);
		raw_close(&r);
	}
}

static unsigned keys_changed;
static void count_keys(int is_write, int version, int type, const void *buf, size_t len, SSL *ssl, void *arg)
{
	(void)version, (void)ssl, (void)arg;
	keys_changed +=
	        !is_write && type == SSL3_RT_HANDSHAKE && len == 5 && *(const uint8_t *)buf == SSL3_MT_KEY_UPDATE;
}

static void a_key_is_changed_when_the_peer_asks_for_it(void **state)
{
	(void)state;
	struct raw r;
	struct accepting s;
	raw_pair(&r, &s, "a", TLS1_3_VERSION);
	assert_int_equal(s.rc, 0);
	keys_changed = 0;
	SSL_set_msg_callback(r.ssl, count_keys);
	assert_int_equal(SSL_key_update(r.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
	raw_say(&r, "{}", 0);
	recv_text(s.conn, "{}");
	for (unsigned i = 0; i < 2; i++) {
		send_text(s.conn, "{\"new\":1}");
		raw_text(&r, "{\"new\":1}");
	}
	assert_int_equal(keys_changed, 1);
	gw_conn_free(s.conn);
	raw_close(&r);
}

static void padding_is_taken_off(void **state)
{
	(void)state;
	struct raw r;
	struct accepting s;
	raw_pair(&r, &s, "a", TLS1_3_VERSION);
	assert_int_equal(s.rc, 0);
	assert_int_equal(SSL_set_block_padding(r.ssl, 1024), 1);
	raw_say(&r, "{\"padded\":true}", 0);
	recv_text(s.conn, "{\"padded\":true}");
	gw_conn_free(s.conn);
	raw_close(&r);
}

/* A client has no business sending handshake messages once it is done. */
static void a_record_that_is_neither_data_nor_a_key_nor_an_alert_ends_the_connection(void **state)
{
	(void)state;
	struct raw r;
	struct accepting s;
	struct gw_frame f;
	raw_pair(&r, &s, "a", TLS1_3_VERSION);
	assert_int_equal(s.rc, 0);
	assert_int_equal(send(r.fd, "\x14\x03\x03\x00\x01\x01", 6, MSG_NOSIGNAL), 6);
	assert_int_equal(gw_conn_recv(s.conn, 10000, &f, &s.err), -EPROTO);
	has_words(&s.err, "TLS failed: no record of TLS 1.3");
	gw_conn_free(s.conn);
	raw_close(&r);
}

/* ---- time and waking up ---- */

static void a_timeout_before_a_frame_leaves_the_connection_usable(void **state)
{
	(void)state;
	struct pki_pair p;
	struct gw_frame f;
	open_pair(&p);
	assert_int_equal(gw_conn_recv(p.accepted, 5, &f, &p.accept_err), -ETIMEDOUT);
	assert_int_equal(gw_conn_recv(p.accepted, 0, &f, &p.accept_err), -ETIMEDOUT);
	send_text(p.dialled, "{\"late\":true}");
	recv_text(p.accepted, "{\"late\":true}");
	close_pair(&p);
}

static void a_timeout_inside_a_frame_ends_the_connection(void **state)
{
	(void)state;
	struct raw r;
	struct accepting s;
	struct gw_frame f;
	raw_pair(&r, &s, "a", TLS1_3_VERSION);
	assert_int_equal(s.rc, 0);
	raw_header(&r, GW_F_FILE, 1000, 0);
	assert_int_equal(gw_conn_recv(s.conn, 20, &f, &s.err), -ETIMEDOUT);
	assert_int_equal(gw_conn_recv(s.conn, 20, &f, &s.err), -EPIPE);
	gw_conn_free(s.conn);
	raw_close(&r);
}

struct blocked {
	struct gw_conn *c;
	_Atomic bool started;
	int rc;
	struct gw_err err;
};

static void *recv_main(void *arg)
{
	struct blocked *x = arg;
	struct gw_frame f;
	x->started = true;
	x->rc = gw_conn_recv(x->c, -1, &f, &x->err);
	return NULL;
}

static void *send_main(void *arg)
{
	struct blocked *x = arg;
	gw_auto(mem) uint8_t *data = calloc(1, 1 << 20);
	x->started = true;
	while (data && x->rc == 0)
		x->rc = gw_conn_send(x->c, GW_F_FILE, &(struct iovec){data, 1 << 20}, 1, &x->err);
	return NULL;
}

static void shutdown_wakes_a_blocked_reader(void **state)
{
	(void)state;
	struct pki_pair p;
	pthread_t t;
	open_pair(&p);
	struct blocked x = {.c = p.accepted};
	assert_int_equal(pthread_create(&t, NULL, recv_main, &x), 0);
	while (!x.started)
		gw_sleep_us(100);
	gw_sleep_us(5000);
	gw_conn_shutdown(p.accepted);
	(void)pthread_join(t, NULL);
	assert_int_equal(x.rc, -ECANCELED);
	has_words(&x.err, "receive from host-a");
	close_pair(&p);
}

static void shutdown_wakes_a_blocked_writer_and_one_that_waits_for_its_turn(void **state)
{
	(void)state;
	struct pki_pair p;
	pthread_t t[2];
	open_pair(&p);
	struct blocked x[2] = {{.c = p.dialled}, {.c = p.dialled}};
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&t[i], NULL, send_main, &x[i]), 0);
	WAIT_UNTIL_STILL(gw_conn_sent_bytes(p.dialled));
	gw_conn_shutdown(p.dialled);
	for (unsigned i = 0; i < 2; i++) {
		(void)pthread_join(t[i], NULL);
		assert_int_equal(x[i].rc, -ECANCELED);
	}
	close_pair(&p);
}

static void after_a_shutdown_every_call_fails(void **state)
{
	(void)state;
	struct pki_pair p;
	struct gw_frame f;
	open_pair(&p);
	send_text(p.dialled, "{}");
	gw_conn_shutdown(p.accepted);
	gw_conn_shutdown(p.accepted);
	assert_int_equal(gw_conn_recv(p.accepted, -1, &f, NULL), -ECANCELED);
	assert_int_equal(gw_conn_send(p.accepted, GW_F_MSG, &(struct iovec){(void *)(uintptr_t)"{}", 2}, 1, NULL),
	                 -ECANCELED);
	close_pair(&p);
}

/* ---- many threads ---- */

enum { FLOOD_FRAMES = 60, FLOOD_MAX = 200000 };

struct flood {
	struct gw_conn *c;
	uint8_t mark;
	int rc;
};

static void *flood_main(void *arg)
{
	struct flood *x = arg;
	gw_auto(mem) uint8_t *data = malloc(FLOOD_MAX);
	for (uint32_t i = 0; data && i < FLOOD_FRAMES && x->rc == 0; i++) {
		size_t n = 100 + (i * 7919u * (x->mark + 1u)) % (FLOOD_MAX - 100);
		memset(data, x->mark, n);
		memcpy(data, &i, sizeof(i));
		struct gw_err e = {0};
		x->rc = gw_conn_send(x->c, GW_F_FILE, &(struct iovec){data, n}, 1, &e);
		if (x->rc < 0)
			print_message("%s\n", e.text);
	}
	return NULL;
}

/* Everything of `writers` writers, each one's in order, no frame mixed. */
static int drain(struct gw_conn *c, unsigned writers)
{
	uint32_t next[4] = {0};
	for (unsigned i = 0; i < writers * FLOOD_FRAMES; i++) {
		struct gw_frame f;
		struct gw_err e = {0};
		if (gw_conn_recv(c, 20000, &f, &e) < 0) {
			print_message("%s\n", e.text);
			return -1;
		}
		uint8_t mark = f.payload[4];
		uint32_t k;
		memcpy(&k, f.payload, sizeof(k));
		if (mark >= writers || k != next[mark]++)
			return -2;
		for (size_t at = 4; at < f.len; at++)
			if (f.payload[at] != mark)
				return -3;
	}
	return 0;
}

struct drainer {
	struct gw_conn *c;
	unsigned writers;
	int rc;
};

static void *drain_main(void *arg)
{
	struct drainer *d = arg;
	d->rc = drain(d->c, d->writers);
	return NULL;
}

/* fill_first: nobody reads until both directions are full. */
static void flood_both_ways(uint64_t rekey_bytes, bool fill_first)
{
	struct pki_pair p;
	open_pair(&p);
	if (rekey_bytes) {
		gw_conn_rekey_after(p.dialled, rekey_bytes);
		gw_conn_rekey_after(p.accepted, rekey_bytes);
	}
	struct flood w[6];
	pthread_t wt[6], rt[2];
	struct drainer d[2] = {{.c = p.accepted, .writers = 3}, {.c = p.dialled, .writers = 3}};
	for (unsigned i = 0; i < 6; i++) {
		w[i] = (struct flood){.c = i < 3 ? p.dialled : p.accepted, .mark = (uint8_t)(i % 3)};
		assert_int_equal(pthread_create(&wt[i], NULL, flood_main, &w[i]), 0);
	}
	if (fill_first) {
		WAIT_UNTIL_STILL(gw_conn_sent_bytes(p.dialled));
		WAIT_UNTIL_STILL(gw_conn_sent_bytes(p.accepted));
	}
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&rt[i], NULL, drain_main, &d[i]), 0);
	for (unsigned i = 0; i < 6; i++) {
		(void)pthread_join(wt[i], NULL);
		assert_int_equal(w[i].rc, 0);
	}
	for (unsigned i = 0; i < 2; i++) {
		(void)pthread_join(rt[i], NULL);
		assert_int_equal(d[i].rc, 0);
	}
	close_pair(&p);
}

static void many_writers_in_both_directions_do_not_mix_their_frames(void **state)
{
	(void)state;
	flood_both_ways(0, false);
}

static void keys_change_under_load_in_both_directions(void **state)
{
	(void)state;
	flood_both_ways(50000, false);
}

static void keys_change_while_both_directions_are_full(void **state)
{
	(void)state;
	flood_both_ways(1, true);
}

/* ---- rate ---- */

static void a_rate_makes_takers_wait_for_their_turn(void **state)
{
	(void)state;
	struct gw_rate *r = gw_rate_new(10u << 20);
	assert_non_null(r);
	uint64_t start = gw_now_us();
	for (unsigned i = 0; i < 9; i++)
		gw_rate_take(r, 128 << 10);
	/* The ninth begins when eight times 12.5 ms have gone, less the 10 ms saved up. */
	assert_true(gw_now_us() - start >= 89000);
	gw_rate_free(r);
}

static void no_rate_and_a_rate_of_zero_are_no_limit(void **state)
{
	(void)state;
	struct gw_rate *r = gw_rate_new(0);
	assert_non_null(r);
	gw_rate_take(r, SIZE_MAX);
	gw_rate_take(r, SIZE_MAX);
	gw_rate_take(NULL, SIZE_MAX);
	gw_rate_free(r);
	gw_rate_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(frames_of_every_shape_arrive_as_they_were_sent),
	        cmocka_unit_test(a_frame_over_its_limit_is_not_sent_and_harms_nothing),
	        cmocka_unit_test(the_sent_bytes_are_those_on_the_wire),
	        cmocka_unit_test(hostile_frames_end_the_connection),
	        cmocka_unit_test(bytes_that_are_no_frame_end_the_connection),
	        cmocka_unit_test(a_record_changed_on_the_way_is_found),
	        cmocka_unit_test(a_peer_that_closes_inside_a_frame_is_told_from_one_that_ends),
	        cmocka_unit_test(sending_to_a_peer_that_has_gone_fails_without_a_signal),
	        cmocka_unit_test(openssl_understands_our_records_and_we_its_own),
	        cmocka_unit_test(a_key_is_changed_when_the_peer_asks_for_it),
	        cmocka_unit_test(padding_is_taken_off),
	        cmocka_unit_test(a_record_that_is_neither_data_nor_a_key_nor_an_alert_ends_the_connection),
	        cmocka_unit_test(a_timeout_before_a_frame_leaves_the_connection_usable),
	        cmocka_unit_test(a_timeout_inside_a_frame_ends_the_connection),
	        cmocka_unit_test(shutdown_wakes_a_blocked_reader),
	        cmocka_unit_test(shutdown_wakes_a_blocked_writer_and_one_that_waits_for_its_turn),
	        cmocka_unit_test(after_a_shutdown_every_call_fails),
	        cmocka_unit_test(many_writers_in_both_directions_do_not_mix_their_frames),
	        cmocka_unit_test(keys_change_under_load_in_both_directions),
	        cmocka_unit_test(keys_change_while_both_directions_are_full),
	        cmocka_unit_test(a_rate_makes_takers_wait_for_their_turn),
	        cmocka_unit_test(no_rate_and_a_rate_of_zero_are_no_limit),
	};
	return cmocka_run_group_tests_name("wire/conn", tests, make_world, end_world);
}
