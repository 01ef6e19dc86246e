#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/scope.h"
#include "wire/frame.h"

/* tests/golden/NAME.hex: bytes as hex, '#' begins a comment. */
static size_t golden(const char *name, uint8_t *out, size_t room)
{
	char path[512];
	gw_path(path, sizeof(path), "%s/%s.hex", GOLDEN_DIR, name);
	gw_auto(file) FILE *f = fopen(path, "re");
	assert_non_null(f);
	size_t n = 0;
	char line[256];
	while (fgets(line, sizeof(line), f)) {
		if (line[0] == '#')
			continue;
		for (char *p = line, *end; *p && *p != '\n'; p = end) {
			assert_true(n < room);
			out[n++] = (uint8_t)strtoul(p, &end, 16);
			assert_ptr_not_equal(p, end);
			while (*end == ' ')
				end++;
		}
	}
	return n;
}

static void same(const char *name, enum gw_frame_type type, uint32_t serial, const uint8_t *payload, size_t len)
{
	static uint8_t want[8192], got[8192];
	size_t n = golden(name, want, sizeof(want));
	const struct gw_frame_hdr h = {.type = (uint8_t)type, .length = (uint32_t)len, .serial = serial};
	gw_frame_pack(&h, got);
	memcpy(got + GW_FRAME_HDR_BYTES, payload, len);
	assert_int_equal(n, GW_FRAME_HDR_BYTES + len);
	assert_memory_equal(got, want, n);
	struct gw_frame_hdr back;
	assert_int_equal(gw_frame_unpack(want, &back, NULL), 0);
	assert_int_equal(back.type, type);
	assert_int_equal(back.length, len);
	assert_int_equal(back.serial, serial);
}

static void json_frames_equal_their_golden_files(void **state)
{
	(void)state;
	const char hello[] = "{\"from\":\"host-a\",\"kind\":\"control\",\"mig\":\"7f3a\"}";
	const char msg[] = "{\"type\":\"ping\",\"n\":1}";
	same("hello", GW_F_HELLO, 0, (const uint8_t *)hello, strlen(hello));
	same("msg", GW_F_MSG, 258, (const uint8_t *)msg, strlen(msg));
}

static void pages_frames_equal_their_golden_files(void **state)
{
	(void)state;
	static uint8_t p[8192];
	const struct gw_run two[] = {{0x7f0012345000, 1, 0}, {0x7f0012346000, 512, GW_RUN_ZERO}};
	size_t n = gw_pages_pack(&(struct gw_pages_hdr){3, 2, GW_CODEC_PLAIN, 4096}, two, p);
	for (unsigned i = 0; i < 4096; i++)
		p[n++] = (uint8_t)(7 * i + i / 256);
	same("pages_plain", GW_F_PAGES, 1, p, n);

	const struct gw_run zero = {0x1000, UINT32_MAX, GW_RUN_ZERO};
	n = gw_pages_pack(&(struct gw_pages_hdr){3, 1, GW_CODEC_PLAIN, 0}, &zero, p);
	same("pages_zero", GW_F_PAGES, 2, p, n);

	const uint8_t z[] = {0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x48, 0x4d, 0x00, 0x00,
	                     0x10, 0xab, 0xab, 0x01, 0x00, 0xfb, 0xdf, 0x03, 0x2c};
	const struct gw_run high = {(UINT64_C(1) << 57) - 8192, 2, 0};
	n = gw_pages_pack(&(struct gw_pages_hdr){UINT32_MAX, 1, GW_CODEC_ZSTD, 8192}, &high, p);
	memcpy(p + n, z, sizeof(z));
	same("pages_zstd", GW_F_PAGES, 3, p, n + sizeof(z));
}

static void drop_and_barrier_frames_equal_their_golden_files(void **state)
{
	(void)state;
	uint8_t p[64];
	const struct gw_run runs[] = {{0x400000, 1, 0}, {0x800000, 3, 0}};
	same("drop", GW_F_DROP, 4, p, gw_drop_pack(7, runs, 2, p));
	gw_barrier_pack(0x0102030405060708, p);
	same("barrier", GW_F_BARRIER, 5, p, GW_BARRIER_BYTES);
	same("barrier_ack", GW_F_BARRIER_ACK, 0, p, GW_BARRIER_BYTES);
}

static void a_file_frame_equals_its_golden_file(void **state)
{
	(void)state;
	uint8_t p[512];
	const struct gw_file_hdr h = {"pages-1.img", 0600, UINT64_C(1) << 33, GW_FILE_LAST};
	size_t n = gw_file_pack(&h, p);
	memcpy(p + n, "image bytes", 11);
	same("file", GW_F_FILE, UINT32_MAX, p, n + 11);
}

static void golden_payloads_are_read_back_to_what_was_packed(void **state)
{
	(void)state;
	static uint8_t b[8192];
	struct gw_pages_hdr h;
	struct gw_run r;
	size_t n = golden("pages_plain", b, sizeof(b)), at;
	assert_int_equal(gw_pages_unpack(b + 16, n - 16, &h, &at, NULL), 0);
	assert_int_equal(h.space, 3);
	assert_int_equal(h.nruns, 2);
	assert_int_equal(h.codec, GW_CODEC_PLAIN);
	assert_int_equal(h.raw_bytes, 4096);
	assert_int_equal(at, 16 + 32);
	assert_int_equal(b[16 + at + 257], (uint8_t)(7 * 257 + 1));
	gw_run_unpack(b + 16 + GW_PAGES_HDR_BYTES, 1, &r);
	assert_int_equal(r.addr, 0x7f0012346000);
	assert_int_equal(r.npages, 512);
	assert_int_equal(r.flags, GW_RUN_ZERO);

	n = golden("drop", b, sizeof(b));
	assert_int_equal(gw_drop_unpack(b + 16, n - 16, &h, NULL), 0);
	assert_int_equal(h.space, 7);
	gw_run_unpack(b + 16 + 8, 1, &r);
	assert_int_equal(r.addr, 0x800000);
	assert_int_equal(r.npages, 3);

	uint64_t number;
	n = golden("barrier", b, sizeof(b));
	assert_int_equal(gw_barrier_unpack(b + 16, n - 16, &number, NULL), 0);
	assert_int_equal(number, 0x0102030405060708);

	struct gw_file_hdr f;
	n = golden("file", b, sizeof(b));
	assert_int_equal(gw_file_unpack(b + 16, n - 16, &f, &at, NULL), 0);
	assert_string_equal(f.name, "pages-1.img");
	assert_int_equal(f.mode, 0600);
	assert_int_equal(f.offset, UINT64_C(1) << 33);
	assert_int_equal(f.flags, GW_FILE_LAST);
	assert_memory_equal(b + 16 + at, "image bytes", 11);
}

/* ---- headers that must be refused ---- */

static void hdr(uint8_t *b, uint8_t type, uint32_t length)
{
	gw_frame_pack(&(struct gw_frame_hdr){.type = type, .length = length, .serial = 9}, b);
}

static void any_flipped_bit_of_a_header_is_found(void **state)
{
	(void)state;
	for (unsigned bit = 0; bit < GW_FRAME_HDR_BYTES * 8; bit++) {
		uint8_t b[GW_FRAME_HDR_BYTES];
		struct gw_frame_hdr h = {.type = 99};
		struct gw_err e = {0};
		hdr(b, GW_F_PAGES, 4096);
		b[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_true(gw_frame_unpack(b, &h, &e) < 0);
		assert_int_equal(e.class, GW_PEER);
		assert_int_not_equal(e.text[0], 0);
		assert_int_equal(h.type, 99);
	}
}

static void another_version_is_named_as_such(void **state)
{
	(void)state;
	uint8_t b[GW_FRAME_HDR_BYTES];
	struct gw_frame_hdr h;
	struct gw_err e = {0};
	hdr(b, GW_F_PAGES, 4096);
	b[2] = 2;
	assert_int_equal(gw_frame_unpack(b, &h, &e), -EPROTONOSUPPORT);
	assert_non_null(strstr(e.text, "version 2, we speak 1"));
}

static void unknown_types_are_refused(void **state)
{
	(void)state;
	uint8_t b[GW_FRAME_HDR_BYTES];
	struct gw_frame_hdr h;
	for (unsigned t = 0; t < 256; t++) {
		hdr(b, (uint8_t)t, t == GW_F_BARRIER || t == GW_F_BARRIER_ACK ? 8 : 100);
		bool known = t >= GW_F_HELLO && t <= GW_F_TREE;
		assert_int_equal(gw_frame_unpack(b, &h, NULL), known ? 0 : -EPROTO);
		assert_int_equal(gw_frame_max((uint8_t)t) != 0, known);
	}
}

static void a_length_outside_the_limits_of_its_type_is_refused(void **state)
{
	(void)state;
	static const struct {
		uint8_t type;
		uint32_t min, max;
	} t[] = {
	        {GW_F_HELLO, 2, 1 << 20},           {GW_F_MSG, 2, 1 << 20}, {GW_F_PAGES, 32, (1 << 20) + 65536},
	        {GW_F_DROP, 24, 8 + 4096 * 16},     {GW_F_BARRIER, 8, 8},   {GW_F_BARRIER_ACK, 8, 8},
	        {GW_F_FILE, 17, (1 << 20) + 65536},
	};
	for (size_t i = 0; i < gw_countof(t); i++) {
		uint8_t b[GW_FRAME_HDR_BYTES];
		struct gw_frame_hdr h;
		hdr(b, t[i].type, t[i].min);
		assert_int_equal(gw_frame_unpack(b, &h, NULL), 0);
		hdr(b, t[i].type, t[i].max);
		assert_int_equal(gw_frame_unpack(b, &h, NULL), 0);
		hdr(b, t[i].type, t[i].min - 1);
		assert_int_equal(gw_frame_unpack(b, &h, NULL), -EPROTO);
		hdr(b, t[i].type, t[i].max + 1);
		assert_int_equal(gw_frame_unpack(b, &h, NULL), -EMSGSIZE);
		hdr(b, t[i].type, UINT32_MAX);
		assert_int_equal(gw_frame_unpack(b, &h, NULL), -EMSGSIZE);
	}
}

/* ---- payloads that must be refused ---- */

/* Packs without the checks of gw_pages_pack, and expects these words. */
static void pages_refused(struct gw_pages_hdr h, const struct gw_run *runs, size_t data, const char *words)
{
	gw_auto(mem) uint8_t *p = calloc(1, 16 + (size_t)h.nruns * 16 + data + 1);
	uint32_t head[4] = {h.space, h.nruns, h.codec, h.raw_bytes};
	assert_non_null(p);
	memcpy(p, head, 16);
	for (uint32_t i = 0; i < h.nruns; i++)
		memcpy(p + 16 + i * 16, runs ? &runs[i] : &(struct gw_run){0x1000, 1, GW_RUN_ZERO}, 16);
	struct gw_err e = {0};
	struct gw_pages_hdr out = {.space = 77};
	size_t at = 77;
	assert_true(gw_pages_unpack(p, 16 + (size_t)h.nruns * 16 + data, &out, &at, &e) < 0);
	assert_int_equal(e.class, GW_PEER);
	if (!strstr(e.text, words))
		fail_msg("'%s' is not in '%s'", words, e.text);
	assert_int_equal(out.space, 77);
	assert_int_equal(at, 77);
}

static void pages_with_runs_that_cannot_be_are_refused(void **state)
{
	(void)state;
	const uint64_t top = UINT64_C(1) << 57;
	const struct gw_pages_hdr h = {1, 1, GW_CODEC_PLAIN, 4096};
	pages_refused(h, &(struct gw_run){0x1001, 1, 0}, 4096, "inside a page");
	pages_refused(h, &(struct gw_run){0x1000, 0, 0}, 4096, "no pages");
	pages_refused(h, &(struct gw_run){top, 1, 0}, 4096, "above 2^57");
	pages_refused(h, &(struct gw_run){top - 4096, 2, 0}, 8192, "above 2^57");
	pages_refused(h, &(struct gw_run){UINT64_MAX - 4095, UINT32_MAX, 0}, 4096, "above 2^57");
	pages_refused(h, &(struct gw_run){0x1000, 1, 2}, 4096, "unknown flags 0x2");
	pages_refused(h, &(struct gw_run){0x1000, 1, UINT32_MAX}, 4096, "unknown flags 0xfffffffe");
}

static void pages_whose_numbers_disagree_are_refused(void **state)
{
	(void)state;
	const struct gw_run one = {0x1000, 1, 0}, zero = {0x1000, 1, GW_RUN_ZERO}, big = {0, 257, 0},
	                    huge = {0, 1 << 20, 0};
	pages_refused((struct gw_pages_hdr){0, 1, 0, 4096}, &one, 4096, "space 0");
	pages_refused((struct gw_pages_hdr){1, 0, 0, 0}, NULL, 100, "0 runs");
	pages_refused((struct gw_pages_hdr){1, 4097, 0, 0}, NULL, 0, "4097 runs");
	pages_refused((struct gw_pages_hdr){1, 1, 0, 8192}, &one, 8192, "need 4096 bytes");
	pages_refused((struct gw_pages_hdr){1, 1, 0, 4096}, &zero, 4096, "need 0 bytes");
	pages_refused((struct gw_pages_hdr){1, 1, 0, 257 * 4096}, &big, 1 << 20, "limit 1048576");
	/* 2^20 pages of 4 KiB are 2^32: 0 in 32 bits. */
	pages_refused((struct gw_pages_hdr){1, 1, 0, 0}, &huge, 0, "need 4294967296 bytes");
	pages_refused((struct gw_pages_hdr){1, 1, 0, 4096}, &one, 4095, "4095 bytes of data");
	pages_refused((struct gw_pages_hdr){1, 1, 0, 4096}, &one, 4097, "4097 bytes of data");
	pages_refused((struct gw_pages_hdr){1, 1, 1, 4096}, &one, 0, "0 compressed bytes");
	pages_refused((struct gw_pages_hdr){1, 1, 1, 4096}, &one, 4096, "4096 compressed bytes");
	pages_refused((struct gw_pages_hdr){1, 1, 1, 0}, &zero, 1, "1 compressed bytes");
	pages_refused((struct gw_pages_hdr){1, 1, 2, 4096}, &one, 4096, "unknown codec 2");
}

static void every_truncation_of_a_good_payload_is_refused(void **state)
{
	(void)state;
	static const char *const names[] = {"pages_plain", "pages_zero", "drop", "file"};
	for (size_t i = 0; i < gw_countof(names); i++) {
		static uint8_t b[8192];
		size_t n = golden(names[i], b, sizeof(b)) - 16;
		/* A file's data may be any length: only its head is tried. */
		size_t until = i == 3 ? 16 + 11 : n;
		for (size_t len = 0; len < until; len++) {
			/* An exact allocation, so that the sanitizer sees a read past it. */
			gw_auto(mem) uint8_t *p = malloc(len ? len : 1);
			assert_non_null(p);
			memcpy(p, b + 16, len);
			struct gw_pages_hdr h;
			struct gw_file_hdr f;
			size_t at;
			int rc = i == 3   ? gw_file_unpack(p, len, &f, &at, NULL)
			         : i == 2 ? gw_drop_unpack(p, len, &h, NULL)
			                  : gw_pages_unpack(p, len, &h, &at, NULL);
			assert_int_equal(rc, -EPROTO);
		}
	}
}

static void payloads_over_the_limit_are_refused_before_they_are_read(void **state)
{
	(void)state;
	struct gw_pages_hdr h;
	struct gw_file_hdr f;
	size_t at;
	uint8_t p[1] = {0};
	assert_int_equal(gw_pages_unpack(p, (size_t)GW_FRAME_DATA_MAX + 1, &h, &at, NULL), -EPROTO);
	assert_int_equal(gw_file_unpack(p, SIZE_MAX, &f, &at, NULL), -EPROTO);
}

static void drops_that_cannot_be_are_refused(void **state)
{
	(void)state;
	uint8_t p[64];
	struct gw_pages_hdr h;
	struct gw_err e = {0};
	const struct gw_run good = {0x1000, 1, 0}, flagged = {0x1000, 1, GW_RUN_ZERO}, askew = {0x1234, 1, 0};
	size_t n = gw_drop_pack(1, &good, 1, p);
	assert_int_equal(gw_drop_unpack(p, n, &h, NULL), 0);
	assert_int_equal(gw_drop_unpack(p, n + 1, &h, &e), -EPROTO);
	assert_non_null(strstr(e.text, "does not fit its 1 runs"));
	n = gw_drop_pack(0, &good, 1, p);
	assert_int_equal(gw_drop_unpack(p, n, &h, NULL), -EPROTO);
	n = gw_drop_pack(1, &flagged, 1, p);
	assert_int_equal(gw_drop_unpack(p, n, &h, NULL), -EPROTO);
	n = gw_drop_pack(1, &askew, 1, p);
	assert_int_equal(gw_drop_unpack(p, n, &h, &e), -EPROTO);
	assert_non_null(strstr(e.text, "DROP: run 0 starts inside a page"));
	memset(p, 0xff, sizeof(p));
	assert_int_equal(gw_drop_unpack(p, sizeof(p), &h, NULL), -EPROTO);
}

static void barriers_of_another_length_are_refused(void **state)
{
	(void)state;
	uint8_t p[9] = {0};
	uint64_t n;
	assert_int_equal(gw_barrier_unpack(p, 7, &n, NULL), -EPROTO);
	assert_int_equal(gw_barrier_unpack(p, 9, &n, NULL), -EPROTO);
}

static int file_named(const char *name, size_t len, uint16_t flags, uint32_t mode, uint64_t offset, size_t data)
{
	gw_auto(mem) uint8_t *p = calloc(1, 16 + len + data);
	assert_non_null(p);
	uint16_t n = (uint16_t)len;
	memcpy(p, &n, 2);
	memcpy(p + 2, &flags, 2);
	memcpy(p + 4, &mode, 4);
	memcpy(p + 8, &offset, 8);
	if (len)
		memcpy(p + 16, name, len);
	struct gw_file_hdr h;
	size_t at;
	return gw_file_unpack(p, 16 + len + data, &h, &at, NULL);
}

static void file_names_that_leave_their_directory_are_refused(void **state)
{
	(void)state;
	char longest[256];
	memset(longest, 'a', sizeof(longest));
	assert_int_equal(file_named("core-1.img", 10, 0, 0, 0, 5), 0);
	assert_int_equal(file_named("...", 3, 0, 0, 0, 5), 0);
	assert_int_equal(file_named(longest, 255, 0, 0, 0, 0), 0);
	assert_int_equal(file_named(longest, 256, 0, 0, 0, 0), -EPROTO);
	assert_int_equal(file_named("", 0, 0, 0, 0, 5), -EPROTO);
	assert_int_equal(file_named(".", 1, 0, 0, 0, 5), -EPROTO);
	assert_int_equal(file_named("..", 2, 0, 0, 0, 5), -EPROTO);
	assert_int_equal(file_named("a/b", 3, 0, 0, 0, 5), -EPROTO);
	assert_int_equal(file_named("/etc", 4, 0, 0, 0, 5), -EPROTO);
	assert_int_equal(file_named("a\0b", 3, 0, 0, 0, 5), -EPROTO);
}

static void file_pieces_with_senseless_numbers_are_refused(void **state)
{
	(void)state;
	assert_int_equal(file_named("a", 1, GW_FILE_LAST, 07777, (uint64_t)INT64_MAX - 5, 5), 0);
	assert_int_equal(file_named("a", 1, 0, 0, (uint64_t)INT64_MAX - 4, 5), -EPROTO);
	assert_int_equal(file_named("a", 1, 0, 0, UINT64_MAX, 0), -EPROTO);
	assert_int_equal(file_named("a", 1, 2, 0, 0, 0), -EPROTO);
	assert_int_equal(file_named("a", 1, 0, 0100600, 0, 0), -EPROTO);
}

static void a_full_st_mode_is_packed_as_its_permission_bits(void **state)
{
	(void)state;
	uint8_t p[16 + 256];
	struct gw_file_hdr h;
	size_t at, n = gw_file_pack(&(struct gw_file_hdr){.name = "x", .mode = 0104755}, p);
	assert_int_equal(gw_file_unpack(p, n, &h, &at, NULL), 0);
	assert_int_equal(h.mode, 04755);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(json_frames_equal_their_golden_files),
	        cmocka_unit_test(pages_frames_equal_their_golden_files),
	        cmocka_unit_test(drop_and_barrier_frames_equal_their_golden_files),
	        cmocka_unit_test(a_file_frame_equals_its_golden_file),
	        cmocka_unit_test(golden_payloads_are_read_back_to_what_was_packed),
	        cmocka_unit_test(any_flipped_bit_of_a_header_is_found),
	        cmocka_unit_test(another_version_is_named_as_such),
	        cmocka_unit_test(unknown_types_are_refused),
	        cmocka_unit_test(a_length_outside_the_limits_of_its_type_is_refused),
	        cmocka_unit_test(pages_with_runs_that_cannot_be_are_refused),
	        cmocka_unit_test(pages_whose_numbers_disagree_are_refused),
	        cmocka_unit_test(every_truncation_of_a_good_payload_is_refused),
	        cmocka_unit_test(payloads_over_the_limit_are_refused_before_they_are_read),
	        cmocka_unit_test(drops_that_cannot_be_are_refused),
	        cmocka_unit_test(barriers_of_another_length_are_refused),
	        cmocka_unit_test(file_names_that_leave_their_directory_are_refused),
	        cmocka_unit_test(file_pieces_with_senseless_numbers_are_refused),
	        cmocka_unit_test(a_full_st_mode_is_packed_as_its_permission_bits),
	};
	return cmocka_run_group_tests_name("wire/frame", tests, NULL, NULL);
}
