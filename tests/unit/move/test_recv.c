#include "link.h"

/* A sender that need not keep the rules: frames by hand on connection 0. */

static void send_bytes(struct link *l, enum gw_frame_type type, const void *p, size_t len)
{
	struct gw_err e = {0};
	if (gw_conn_send(l->src[0], type, &(struct iovec){(void *)(uintptr_t)p, len}, 1, &e) < 0)
		fail_msg("%s", e.text);
}

static size_t make_pages(uint8_t *out, struct gw_pages_hdr h, const struct gw_run *runs, const void *data, size_t len)
{
	size_t n = gw_pages_pack(&h, runs, out);
	if (len)
		memcpy(out + n, data, len);
	return n + len;
}

/* Closed first, so that a receiver that wrongly goes on comes to an end. */
static struct receiving *ended(struct link *l)
{
	struct receiving *r = &l->dst[0];
	gw_conn_free(l->src[0]);
	l->src[0] = NULL;
	(void)pthread_join(r->thread, NULL);
	r->started = false;
	return r;
}

/* The receiving end ends with these words. */
static void refused(struct link *l, int rc, const char *words)
{
	struct receiving *r = ended(l);
	assert_int_equal(r->rc, rc);
	if (!strstr(r->err.text, words))
		fail_msg("'%s' is not in '%s'", words, r->err.text);
	assert_non_null(strstr(r->err.text, "data from host-b (127.0.0.1:"));
}

/* 8192 bytes of ab: the one of tests/golden/pages_zstd.hex. */
static const uint8_t zstd_ab[] = {0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x48, 0x4d, 0x00, 0x00,
                                  0x10, 0xab, 0xab, 0x01, 0x00, 0xfb, 0xdf, 0x03, 0x2c};

static uint8_t frame[65536];

static void a_compressed_frame_of_the_golden_files_is_stored(void **state)
{
	struct link *l = *state;
	link_receive_all(l);
	const struct gw_run run = {page_addr(5), 2, 0};
	send_bytes(l, GW_F_PAGES, frame,
	           make_pages(frame, (struct gw_pages_hdr){SPACE, 1, GW_CODEC_ZSTD, 8192}, &run, zstd_ab,
	                      sizeof(zstd_ab)));
	link_sender(l, (struct gw_sender_opts){0});
	(void)barrier(l);
	struct want w = {.space = SPACE, .addr = page_addr(6)};
	memset(w.page, 0xab, sizeof(w.page));
	stored_is(l, &w, 6);
}

static void a_frame_that_grows_beyond_what_it_says_is_refused(void **state)
{
	struct link *l = *state;
	link_receive_all(l);
	const struct gw_run run = {page_addr(5), 1, 0};
	send_bytes(l, GW_F_PAGES, frame,
	           make_pages(frame, (struct gw_pages_hdr){SPACE, 1, GW_CODEC_ZSTD, 4096}, &run, zstd_ab,
	                      sizeof(zstd_ab)));
	refused(l, -EPROTO, "decompress pages");
	assert_int_equal(gw_store_bytes(l->store), 0);
}

static void a_frame_that_gives_less_than_it_says_is_refused(void **state)
{
	struct link *l = *state;
	link_receive_all(l);
	const struct gw_run run = {page_addr(5), 3, 0};
	send_bytes(l, GW_F_PAGES, frame,
	           make_pages(frame, (struct gw_pages_hdr){SPACE, 1, GW_CODEC_ZSTD, 12288}, &run, zstd_ab,
	                      sizeof(zstd_ab)));
	refused(l, -EPROTO, "8192 bytes came out, 12288 were announced");
}

static void bytes_that_are_not_zstd_are_refused(void **state)
{
	struct link *l = *state;
	link_receive_all(l);
	const struct gw_run run = {page_addr(5), 1, 0};
	send_bytes(l, GW_F_PAGES, frame,
	           make_pages(frame, (struct gw_pages_hdr){SPACE, 1, GW_CODEC_ZSTD, 4096}, &run,
	                      "these bytes are no zstd", 23));
	refused(l, -EPROTO, "decompress pages: ");
}

static void pages_of_a_space_never_announced_are_refused(void **state)
{
	struct link *l = *state;
	link_receive_all(l);
	const struct gw_run run = {page_addr(5), 1, 0};
	static const uint8_t page[4096] = {1};
	send_bytes(l, GW_F_PAGES, frame,
	           make_pages(frame, (struct gw_pages_hdr){9, 1, GW_CODEC_PLAIN, 4096}, &run, page, sizeof(page)));
	struct receiving *r = ended(l);
	assert_int_equal(r->err.class, GW_PEER);
	assert_non_null(strstr(r->err.text, "memory space 9"));
}

static void a_drop_of_a_space_never_announced_is_refused(void **state)
{
	struct link *l = *state;
	link_receive_all(l);
	send_bytes(l, GW_F_DROP, frame, gw_drop_pack(9, &(struct gw_run){page_addr(1), 1, 0}, 1, frame));
	assert_int_equal(ended(l)->err.class, GW_PEER);
}

static void a_payload_that_does_not_add_up_is_refused(void **state)
{
	struct link *l = *state;
	link_receive_all(l);
	const struct gw_run run = {page_addr(5), 2, 0};
	static const uint8_t page[4096] = {1};
	send_bytes(l, GW_F_PAGES, frame,
	           make_pages(frame, (struct gw_pages_hdr){SPACE, 1, GW_CODEC_PLAIN, 4096}, &run, page, sizeof(page)));
	refused(l, -EPROTO, "need 8192 bytes");
}

static void other_frames_do_not_belong_on_a_data_connection(void **state)
{
	struct link *l = *state;
	link_receive_all(l);
	send_bytes(l, GW_F_MSG, "{\"type\":\"commit\"}", 17);
	refused(l, -EPROTO, "a frame of type 2 does not belong on a data connection");
}

static void a_peer_that_closes_between_frames_is_no_failure(void **state)
{
	struct link *l = *state;
	link_receive_all(l);
	send_bytes(l, GW_F_DROP, frame, gw_drop_pack(SPACE, &(struct gw_run){page_addr(1), 1, 0}, 1, frame));
	assert_int_equal(ended(l)->rc, 0);
	assert_int_equal(l->counters.dropped_pages, 1);
}

static void a_shutdown_ends_the_loop(void **state)
{
	struct link *l = *state;
	link_receive_all(l);
	gw_conn_shutdown(l->dst[0].conn);
	(void)pthread_join(l->dst[0].thread, NULL);
	l->dst[0].started = false;
	assert_int_equal(l->dst[0].rc, -ECANCELED);
}

#define LINK_TEST(f) cmocka_unit_test_setup_teardown(f, link_setup, link_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	        LINK_TEST(a_compressed_frame_of_the_golden_files_is_stored),
	        LINK_TEST(a_frame_that_grows_beyond_what_it_says_is_refused),
	        LINK_TEST(a_frame_that_gives_less_than_it_says_is_refused),
	        LINK_TEST(bytes_that_are_not_zstd_are_refused),
	        LINK_TEST(pages_of_a_space_never_announced_are_refused),
	        LINK_TEST(a_drop_of_a_space_never_announced_is_refused),
	        LINK_TEST(a_payload_that_does_not_add_up_is_refused),
	        LINK_TEST(other_frames_do_not_belong_on_a_data_connection),
	        LINK_TEST(a_peer_that_closes_between_frames_is_no_failure),
	        LINK_TEST(a_shutdown_ends_the_loop),
	};
	return cmocka_run_group_tests_name("move/recv", tests, NULL, NULL);
}
