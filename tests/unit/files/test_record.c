/* record: what is packed comes out again; what is wrong is refused in words. */
#include "files/record.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "test.h"

static uint8_t buf[1 << 20];

static struct gw_rec rec(enum gw_rec_op op, const char *path, const char *body)
{
	struct gw_rec r = {.op = op,
	                   .tree = 3,
	                   .mode = S_IFREG | 04751,
	                   .uid = 1000,
	                   .gid = 4000000000,
	                   .size = 1,
	                   .rdev = 7,
	                   .mtime_s = -5,
	                   .mtime_ns = 999999999,
	                   .atime_s = INT64_C(1) << 40,
	                   .body = (const uint8_t *)body,
	                   .body_len = body ? (uint32_t)strlen(body) : 0};
	(void)snprintf(r.path, sizeof(r.path), "%s", path);
	return r;
}

static void round_trip(void **state)
{
	struct gw_rec in = rec(GW_REC_DATA, "a/b", "hello"), out;
	struct gw_err e;
	size_t at = 0;
	(void)state;
	size_t n = gw_rec_pack(&in, buf);
	assert_int_equal(n, gw_rec_bytes(&in));
	assert_int_equal(gw_rec_unpack(buf, n, &at, &out, &e), 0);
	assert_int_equal(at, n);
	assert_string_equal(out.path, "a/b");
	assert_int_equal(out.op, in.op);
	assert_int_equal(out.tree, in.tree);
	assert_int_equal(out.mode, in.mode);
	assert_int_equal(out.uid, in.uid);
	assert_int_equal(out.gid, in.gid);
	assert_int_equal(out.mtime_s, in.mtime_s);
	assert_int_equal(out.mtime_ns, in.mtime_ns);
	assert_int_equal(out.atime_s, in.atime_s);
	assert_int_equal(out.body_len, 5);
	assert_memory_equal(out.body, "hello", 5);
	assert_int_equal(gw_rec_unpack(buf, n, &at, &out, &e), 1);
}

static void refused(const struct gw_rec *r)
{
	struct gw_rec out;
	struct gw_err e = {.class = GW_OK};
	size_t at = 0;
	assert_int_equal(gw_rec_unpack(buf, gw_rec_pack(r, buf), &at, &out, &e), -EPROTO);
	assert_int_equal(e.class, GW_PEER);
	assert_int_not_equal(e.text[0], 0);
}

static void paths_that_lead_out(void **state)
{
	static const char *const bad[] = {"..", "../x", "a/../../x", "/etc", "a//b", "a/", "./a", "a/.", "", "a/./b"};
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct gw_rec r = rec(GW_REC_DATA, bad[i], "x");
		refused(&r);
		struct gw_rec l = rec(GW_REC_LINK, "a", bad[i]);
		refused(&l);
	}
}

static void records_without_sense(void **state)
{
	(void)state;
	struct gw_rec r = rec((enum gw_rec_op)9, "a", NULL);
	refused(&r);
	r = rec(GW_REC_DATA, "a", NULL);
	refused(&r);
	r = rec(GW_REC_DATA, "a", "x");
	r.size = INT64_MAX;
	refused(&r);
	r = rec(GW_REC_REMOVE, ".", NULL);
	refused(&r);
	r = rec(GW_REC_MAKE, "a", "target of a file");
	refused(&r);
	r = rec(GW_REC_END, "a", NULL);
	r.mtime_ns = 1000000000;
	refused(&r);
	r = rec(GW_REC_MAKE, "a", NULL);
	r.tree = GW_REC_TREES_MAX;
	refused(&r);
}

static void every_cut_is_noticed(void **state)
{
	struct gw_rec in = rec(GW_REC_DATA, "a/b", "hello"), out;
	struct gw_err e;
	(void)state;
	size_t n = gw_rec_pack(&in, buf);
	for (size_t cut = 1; cut < n; cut++) {
		size_t at = 0;
		assert_int_equal(gw_rec_unpack(buf, cut, &at, &out, &e), -EPROTO);
	}
}

static void attributes(void **state)
{
	struct gw_xattr x;
	struct gw_err e;
	size_t at = 0, n = gw_xattr_pack("user.a", "1", 1, buf);
	(void)state;
	n += gw_xattr_pack("security.capability", "", 0, buf + n);
	assert_int_equal(gw_xattr_unpack(buf, n, &at, &x, &e), 0);
	assert_string_equal(x.name, "user.a");
	assert_int_equal(x.value_len, 1);
	assert_int_equal(gw_xattr_unpack(buf, n, &at, &x, &e), 0);
	assert_string_equal(x.name, "security.capability");
	assert_int_equal(x.value_len, 0);
	assert_int_equal(gw_xattr_unpack(buf, n, &at, &x, &e), 1);
	at = 0;
	assert_int_equal(gw_xattr_unpack(buf, 8, &at, &x, &e), -EPROTO);
}

/* tests/golden/tree.hex: bytes as hex, '#' begins a comment. */
static size_t golden(uint8_t *out, size_t room)
{
	FILE *f = fopen(GOLDEN_DIR "/tree.hex", "re");
	char line[256];
	size_t n = 0;
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		for (char *at = line, *end; *line != '#' && *at && *at != '\n'; at = end) {
			assert_true(n < room);
			out[n++] = (uint8_t)strtoul(at, &end, 16);
		}
	}
	(void)fclose(f);
	return n;
}

static void records_equal_the_golden_file(void **state)
{
	static uint8_t want[4096];
	uint8_t attributes[16];
	(void)state;
	size_t n = golden(want, sizeof(want)), at = 0;
	struct gw_rec r[3] = {
	        {.op = GW_REC_MAKE,
	         .tree = 1,
	         .mode = S_IFREG | 0640,
	         .uid = 1000,
	         .gid = 100,
	         .size = 5,
	         .path = "d/f"},
	        {.op = GW_REC_DATA, .tree = 1, .path = "d/f", .body = (const uint8_t *)"hello", .body_len = 5},
	        {.op = GW_REC_END,
	         .tree = 1,
	         .mode = S_IFREG | 0640,
	         .uid = 1000,
	         .gid = 100,
	         .mtime_s = 1700000000,
	         .mtime_ns = 5,
	         .atime_s = -1,
	         .atime_ns = 999999999,
	         .path = "d/f",
	         .body = attributes,
	         .body_len = (uint32_t)gw_xattr_pack("user.a", "v", 1, attributes)}};
	for (size_t i = 0; i < 3; i++)
		at += gw_rec_pack(&r[i], buf + at);
	assert_int_equal(at, n);
	assert_memory_equal(buf, want, n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(round_trip),
	        cmocka_unit_test(paths_that_lead_out),
	        cmocka_unit_test(records_without_sense),
	        cmocka_unit_test(every_cut_is_noticed),
	        cmocka_unit_test(attributes),
	        cmocka_unit_test(records_equal_the_golden_file),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
