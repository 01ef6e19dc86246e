#include "test.h"

#include <errno.h>
#include <string.h>

#include "base/scope.h"
#include "wire/record.h"

/* RFC 8448, 3: the client's application traffic, and its first record. */
static const struct gw_secret client = {.cipher = "AES-128-GCM",
                                        .digest = "SHA256",
                                        .len = 32,
                                        .bytes = {0x9e, 0x40, 0x64, 0x6c, 0xe7, 0x9a, 0x7f, 0x9d, 0xc0, 0x5a, 0xf8,
                                                  0x88, 0x9b, 0xce, 0x65, 0x52, 0x87, 0x5a, 0xfa, 0x0b, 0x06, 0xdf,
                                                  0x00, 0x87, 0xf7, 0x92, 0xeb, 0xb7, 0xc1, 0x75, 0x04, 0xa5}};
static const uint8_t first[] = {
        0x17, 0x03, 0x03, 0x00, 0x43, 0xa2, 0x3f, 0x70, 0x54, 0xb6, 0x2c, 0x94, 0xd0, 0xaf, 0xfa, 0xfe, 0x82, 0x28,
        0xba, 0x55, 0xcb, 0xef, 0xac, 0xea, 0x42, 0xf9, 0x14, 0xaa, 0x66, 0xbc, 0xab, 0x3f, 0x2b, 0x98, 0x19, 0xa8,
        0xa5, 0xb4, 0x6b, 0x39, 0x5b, 0xd5, 0x4a, 0x9a, 0x20, 0x44, 0x1e, 0x2b, 0x62, 0x97, 0x4e, 0x1f, 0x5a, 0x62,
        0x92, 0xa2, 0x97, 0x70, 0x14, 0xbd, 0x1e, 0x3d, 0xea, 0xe6, 0x3a, 0xee, 0xbb, 0x21, 0x69, 0x49, 0x15, 0xe4};
enum { CONTENT = 50 };

struct pair {
	struct gw_record *seal, *open;
	uint8_t rec[GW_RECORD_MAX], out[GW_RECORD_MAX];
	size_t len;
	uint8_t type;
};

static int pair_start(void **state)
{
	static struct pair p;
	p = (struct pair){.seal = gw_record_new(&client, true), .open = gw_record_new(&client, false)};
	assert_non_null(p.seal);
	assert_non_null(p.open);
	*state = &p;
	return 0;
}

static int pair_end(void **state)
{
	struct pair *p = *state;
	gw_record_free(p->seal);
	gw_record_free(p->open);
	return 0;
}

static void seal(struct pair *p, const void *data, size_t len)
{
	assert_int_equal(
	        gw_record_seal(p->seal, GW_RECORD_APP, &(struct iovec){(void *)(uintptr_t)data, len}, 1, p->rec), 0);
	assert_int_equal(gw_record_length(p->rec), len + GW_RECORD_OVER);
}

static int open_to(struct pair *p, size_t record_len, uint8_t *out)
{
	return gw_record_open(p->open, p->rec, record_len, out, &p->len, &p->type);
}

static void a_record_is_sealed_as_rfc_8448_has_it(void **state)
{
	struct pair *p = *state;
	uint8_t text[CONTENT];
	for (unsigned i = 0; i < CONTENT; i++)
		text[i] = (uint8_t)i;
	/* In pieces of every kind: the same record. */
	const struct iovec v[] = {{text, 1}, {text, 0}, {text + 1, 16}, {text + 17, 33}};
	assert_int_equal(gw_record_seal(p->seal, GW_RECORD_APP, v, gw_countof(v), p->rec), 0);
	assert_memory_equal(p->rec, first, sizeof(first));
	assert_int_equal(gw_record_length(p->rec), sizeof(first));
	assert_int_equal(open_to(p, sizeof(first), p->out), 0);
	assert_int_equal(p->type, GW_RECORD_APP);
	assert_int_equal(p->len, CONTENT);
	assert_memory_equal(p->out, text, CONTENT);
}

static void a_record_opens_in_its_own_place(void **state)
{
	struct pair *p = *state;
	uint8_t text[GW_RECORD_DATA];
	memset(text, 'x', sizeof(text));
	for (size_t len = 0; len <= sizeof(text);
	     len = len * 3 + 5 > sizeof(text) && len < sizeof(text) ? sizeof(text) : len * 3 + 5) {
		seal(p, text, len);
		assert_int_equal(open_to(p, len + GW_RECORD_OVER, p->rec + GW_RECORD_HEAD), 0);
		assert_int_equal(p->len, len);
		assert_memory_equal(p->rec + GW_RECORD_HEAD, text, len);
	}
}

static void any_bit_that_flips_is_found(void **state)
{
	struct pair *p = *state;
	for (size_t bit = 0; bit < sizeof(first) * 8; bit++) {
		gw_auto(mem) uint8_t *copy = malloc(sizeof(first));
		struct gw_record *r = gw_record_new(&client, false);
		assert_non_null(copy);
		assert_non_null(r);
		memcpy(copy, first, sizeof(first));
		copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
		int len = gw_record_length(copy);
		/* Another length: the reader takes as much, the tag is elsewhere. */
		if (len == (int)sizeof(first))
			assert_int_equal(gw_record_open(r, copy, sizeof(first), p->out, &p->len, &p->type), -EPROTO);
		gw_record_free(r);
	}
}

static void a_record_that_comes_again_or_is_left_out_is_found(void **state)
{
	struct pair *p = *state;
	seal(p, "one", 3);
	assert_int_equal(open_to(p, 3 + GW_RECORD_OVER, p->out), 0);
	assert_int_equal(open_to(p, 3 + GW_RECORD_OVER, p->out), -EPROTO);
	pair_end(state);
	pair_start(state);
	seal(p, "one", 3);
	seal(p, "two", 3);
	assert_int_equal(open_to(p, 3 + GW_RECORD_OVER, p->out), -EPROTO);
}

static void what_follows_a_new_key_opens_only_with_it(void **state)
{
	struct pair *p = *state;
	assert_int_equal(gw_record_next_key(p->seal), 0);
	assert_int_equal(gw_record_next_key(p->open), 0);
	seal(p, "one", 3);
	assert_int_equal(open_to(p, 3 + GW_RECORD_OVER, p->out), 0);
	assert_memory_equal(p->out, "one", 3);
	assert_int_equal(gw_record_next_key(p->seal), 0);
	seal(p, "two", 3);
	assert_int_equal(open_to(p, 3 + GW_RECORD_OVER, p->out), -EPROTO);
}

static void headers_of_no_record_are_refused(void **state)
{
	(void)state;
	static const uint8_t bad[][GW_RECORD_HEAD] = {
	        {21, 3, 3, 0, 2},                            /* an alert that nobody sealed */
	        {20, 3, 3, 0, 1},                            /* change_cipher_spec */
	        {23, 2, 3, 0, 30},                           /* SSL 2 */
	        {23, 3, 3, 0, 16},                           /* no room for a type */
	        {23, 3, 3, (16384 + 257) >> 8, 16385 & 0xff} /* over 2^14 + 256 */
	};
	for (size_t i = 0; i < gw_countof(bad); i++)
		assert_int_equal(gw_record_length(bad[i]), -EPROTO);
	assert_int_equal(gw_record_length((uint8_t[]){23, 3, 3, 0x41, 0}), 16384 + 256 + GW_RECORD_HEAD);
	assert_int_equal(gw_record_length((uint8_t[]){23, 3, 3, 0, 17}), GW_RECORD_OVER);
}

static void a_cipher_that_does_not_exist_gives_nothing(void **state)
{
	(void)state;
	struct gw_secret s = client;
	s.cipher = "ROT-13";
	assert_null(gw_record_new(&s, true));
	s = client;
	s.digest = "CRC32";
	assert_null(gw_record_new(&s, true));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(a_record_is_sealed_as_rfc_8448_has_it, pair_start, pair_end),
	        cmocka_unit_test_setup_teardown(a_record_opens_in_its_own_place, pair_start, pair_end),
	        cmocka_unit_test_setup_teardown(any_bit_that_flips_is_found, pair_start, pair_end),
	        cmocka_unit_test_setup_teardown(a_record_that_comes_again_or_is_left_out_is_found, pair_start,
	                                        pair_end),
	        cmocka_unit_test_setup_teardown(what_follows_a_new_key_opens_only_with_it, pair_start, pair_end),
	        cmocka_unit_test(headers_of_no_record_are_refused),
	        cmocka_unit_test(a_cipher_that_does_not_exist_gives_nothing),
	};
	return cmocka_run_group_tests_name("wire/record", tests, NULL, NULL);
}
