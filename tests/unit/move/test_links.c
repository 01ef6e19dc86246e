/* links: what is packed comes back, and nothing else is taken. */
#include "move/links.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/scope.h"
#include "test.h"

static struct gw_links two(void)
{
	struct gw_links l = {0};
	struct gw_link a = {.type = SOCK_STREAM, .ino = {7, 4000000000u}}, b = {.type = SOCK_SEQPACKET, .ino = {9, 10}};
	assert_int_equal(gw_queue_add(&a.at[0], "hello", 5), 0);
	assert_int_equal(gw_queue_add(&b.at[1], "one", 3), 0);
	assert_int_equal(gw_queue_add(&b.at[1], "", 0), 0);
	assert_int_equal(gw_queue_add(&b.at[1], "three", 5), 0);
	assert_int_equal(gw_links_add(&l, &a), 0);
	assert_int_equal(gw_links_add(&l, &b), 0);
	return l;
}

static void record_is(const struct gw_queue *q, size_t *at, const char *want)
{
	const uint8_t *p;
	size_t len;
	assert_int_equal(gw_queue_next(q, at, &p, &len), 1);
	assert_int_equal(len, strlen(want));
	assert_memory_equal(p, want, len);
}

static void what_is_packed_comes_back(void **state)
{
	(void)state;
	struct gw_links l = two(), back;
	struct gw_err e;
	uint8_t *p;
	size_t len, at = 0;
	assert_int_equal(gw_links_pack(&l, &p, &len, &e), 0);
	assert_int_equal(gw_links_unpack(p, len, &back, &e), 0);
	assert_int_equal(back.n, 2);
	assert_int_equal(back.v[0].type, SOCK_STREAM);
	assert_int_equal(back.v[0].ino[1], 4000000000u);
	record_is(&back.v[0].at[0], &at, "hello");
	assert_int_equal(back.v[0].at[1].len, 0);
	at = 0;
	record_is(&back.v[1].at[1], &at, "one");
	record_is(&back.v[1].at[1], &at, "");
	record_is(&back.v[1].at[1], &at, "three");
	assert_int_equal(gw_queue_next(&back.v[1].at[1], &at, &(const uint8_t *){NULL}, &len), 0);
	free(p);
	gw_links_done(&l);
	gw_links_done(&back);
}

static void the_bytes_are_these(void **state)
{
	(void)state;
	static const uint8_t want[] = {'G', 'W', 'L', 'K', 1,   0,  0, 0, 1, 0, 0, 0, /* one link */
	                               1,   0,   0,   0,   7,   0,  0, 0, 8, 0, 0, 0, /* a stream, two inodes */
	                               6,   0,   0,   0,   0,   0,  0, 0,             /* six bytes at 7 */
	                               2,   0,   0,   0,   'h', 'i'};
	struct gw_links l = {0};
	struct gw_link a = {.type = SOCK_STREAM, .ino = {7, 8}};
	struct gw_err e;
	uint8_t *p;
	size_t len;
	assert_int_equal(gw_queue_add(&a.at[0], "hi", 2), 0);
	assert_int_equal(gw_links_add(&l, &a), 0);
	assert_int_equal(gw_links_pack(&l, &p, &len, &e), 0);
	assert_int_equal(len, sizeof(want));
	assert_memory_equal(p, want, len);
	free(p);
	gw_links_done(&l);
}

/* Cut anywhere, or longer by a byte: refused with words, nothing leaks. */
static void no_other_length_is_taken(void **state)
{
	(void)state;
	struct gw_links l = two(), back;
	struct gw_err e;
	uint8_t *p;
	size_t len;
	assert_int_equal(gw_links_pack(&l, &p, &len, &e), 0);
	for (size_t n = 0; n < len; n++) {
		assert_int_equal(gw_links_unpack(p, n, &back, &e), -EPROTO);
		assert_int_equal(e.class, GW_PEER);
	}
	uint8_t *more = calloc(1, len + 1);
	memcpy(more, p, len);
	assert_int_equal(gw_links_unpack(more, len + 1, &back, &e), -EPROTO);
	free(more);
	free(p);
	gw_links_done(&l);
}

static void wrong_numbers_are_refused(void **state)
{
	(void)state;
	static const size_t at[] = {0, 4, 8, 11, 12, 16, 24, 27, 32};
	struct gw_links l = two(), back;
	struct gw_err e;
	uint8_t *p;
	size_t len;
	assert_int_equal(gw_links_pack(&l, &p, &len, &e), 0);
	for (size_t i = 0; i < gw_countof(at); i++) {
		uint8_t was = p[at[i]];
		p[at[i]] = at[i] == 16 ? 0 : (uint8_t)(was + 0x70);
		assert_int_equal(gw_links_unpack(p, len, &back, &e), -EPROTO);
		p[at[i]] = was;
	}
	assert_int_equal(gw_links_unpack(p, len, &back, &e), 0);
	gw_links_done(&back);
	free(p);
	gw_links_done(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(what_is_packed_comes_back),
	        cmocka_unit_test(the_bytes_are_these),
	        cmocka_unit_test(no_other_length_is_taken),
	        cmocka_unit_test(wrong_numbers_are_refused),
	};
	return cmocka_run_group_tests_name("move/links", tests, NULL, NULL);
}
