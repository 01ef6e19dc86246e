#include "test.h"

#include <stdlib.h>
#include <string.h>

#include "mem/bits.h"
#include "mem/pages_map.h"

static uint64_t find(const struct gw_map *m, uint64_t addr)
{
	struct gw_map_range r;
	return gw_map_next(m, addr, addr + 1, &r) ? r.img : UINT64_MAX;
}

static void a_fresh_map_is_the_identity(void **state)
{
	(void)state;
	struct gw_map m;
	assert_int_equal(gw_map_init(&m), 0);
	assert_int_equal(find(&m, 0), 0);
	assert_int_equal(find(&m, GW_ADDR_END - 1), GW_ADDR_END - 1);
	assert_int_equal(find(&m, GW_ADDR_END), UINT64_MAX);
	gw_map_done(&m);
}

static void a_moved_range_keeps_its_image_and_leaves_nothing_behind(void **state)
{
	(void)state;
	struct gw_map m;
	assert_int_equal(gw_map_init(&m), 0);
	assert_int_equal(gw_map_move(&m, 100, 5000, 50), 0);
	assert_int_equal(find(&m, 99), 99);
	assert_int_equal(find(&m, 100), UINT64_MAX);
	assert_int_equal(find(&m, 149), UINT64_MAX);
	assert_int_equal(find(&m, 150), 150);
	assert_int_equal(find(&m, 5000), 100);
	assert_int_equal(find(&m, 5049), 149);
	assert_int_equal(find(&m, 5050), 5050);
	uint64_t addr, len;
	assert_true(gw_map_where(&m, 110, &addr, &len));
	assert_int_equal(addr, 5010);
	assert_int_equal(len, 40);
	assert_false(gw_map_where(&m, 5010, &addr, &len));
	gw_map_done(&m);
}

static void moving_there_and_back_does_not_grow_the_table(void **state)
{
	(void)state;
	struct gw_map m;
	assert_int_equal(gw_map_init(&m), 0);
	assert_int_equal(gw_map_cut(&m, 5000, 5050), 0);
	for (int i = 0; i < 1000; i++) {
		assert_int_equal(gw_map_move(&m, 100, 5000, 50), 0);
		assert_int_equal(gw_map_move(&m, 5000, 100, 50), 0);
	}
	assert_int_equal(m.n, 2);
	gw_map_done(&m);
}

enum { MODEL = 300 };

/* Every answer of the table against an array that does the same the slow way. */
static void compare(const struct gw_map *m, const uint64_t *model)
{
	for (uint64_t a = 0; a < MODEL; a++) {
		if (find(m, a) != model[a])
			fail_msg("address %d: table %lld, model %lld", (int)a, (long long)find(m, a),
			         (long long)model[a]);
		uint64_t addr, len;
		if (model[a] != UINT64_MAX && (!gw_map_where(m, model[a], &addr, &len) || addr != a))
			fail_msg("image %lld is not found at %d", (long long)model[a], (int)a);
	}
	for (size_t i = 0; i < m->n; i++) {
		assert_true(m->r[i].start < m->r[i].end);
		assert_true(i == 0 || m->r[i - 1].end <= m->r[i].start);
	}
}

static void ten_thousand_random_moves_and_cuts_agree_with_a_plain_array(void **state)
{
	(void)state;
	struct gw_map m;
	uint64_t model[MODEL], tmp[MODEL];
	assert_int_equal(gw_map_init(&m), 0);
	assert_int_equal(gw_map_cut(&m, MODEL, GW_ADDR_END), 0);
	for (uint64_t i = 0; i < MODEL; i++)
		model[i] = i;
	srand(1);
	for (int round = 0; round < 10000; round++) {
		uint64_t len = 1 + (uint64_t)rand() % 20, a = (uint64_t)rand() % (MODEL - len),
		         b = (uint64_t)rand() % (MODEL - len);
		if (rand() % 40 == 0) {
			assert_int_equal(gw_map_cut(&m, a, a + len), 0);
			for (uint64_t i = a; i < a + len; i++)
				model[i] = UINT64_MAX;
		} else if (a + len <= b || b + len <= a) {
			assert_int_equal(gw_map_move(&m, a, b, len), 0);
			memcpy(tmp, model + a, len * sizeof(*tmp));
			for (uint64_t i = 0; i < len; i++)
				model[a + i] = UINT64_MAX;
			memcpy(model + b, tmp, len * sizeof(*tmp));
		}
		if (round % 50 == 0)
			compare(&m, model);
	}
	compare(&m, model);
	struct gw_map c;
	assert_int_equal(gw_map_copy(&c, &m), 0);
	compare(&c, model);
	gw_map_done(&c);
	gw_map_done(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(a_fresh_map_is_the_identity),
	        cmocka_unit_test(a_moved_range_keeps_its_image_and_leaves_nothing_behind),
	        cmocka_unit_test(moving_there_and_back_does_not_grow_the_table),
	        cmocka_unit_test(ten_thousand_random_moves_and_cuts_agree_with_a_plain_array),
	};
	return cmocka_run_group_tests_name("mem/pages_map", tests, NULL, NULL);
}
