#include "test.h"

#include <stdlib.h>
#include <string.h>

#include "mem/pageset.h"

enum { CHUNK = 32768 };

static void adding_a_page_twice_counts_it_once(void **state)
{
	(void)state;
	struct gw_pageset s = {0};
	assert_int_equal(gw_pageset_add(&s, 7, 1), 0);
	assert_int_equal(gw_pageset_add(&s, 7, 1), 0);
	assert_int_equal(s.count, 1);
	assert_true(gw_pageset_has(&s, 7));
	assert_false(gw_pageset_has(&s, 6));
	assert_false(gw_pageset_has(&s, 7 + CHUNK));
	gw_pageset_done(&s);
	assert_int_equal(s.count, 0);
}

static void a_run_may_cross_words_and_chunks(void **state)
{
	(void)state;
	struct gw_pageset s = {0};
	assert_int_equal(gw_pageset_add(&s, CHUNK - 70, 2 * CHUNK + 140), 0);
	assert_int_equal(s.count, 2 * CHUNK + 140);
	assert_int_equal(s.n, 4);
	assert_false(gw_pageset_has(&s, CHUNK - 71));
	assert_true(gw_pageset_has(&s, CHUNK - 70));
	assert_true(gw_pageset_has(&s, 3 * CHUNK + 69));
	assert_false(gw_pageset_has(&s, 3 * CHUNK + 70));
	gw_pageset_done(&s);
}

static void a_page_at_the_end_of_a_57_bit_space_fits(void **state)
{
	(void)state;
	struct gw_pageset s = {0};
	uint64_t last = ((uint64_t)1 << 45) - 1, got = 0;
	assert_int_equal(gw_pageset_add(&s, last, 1), 0);
	assert_int_equal(gw_pageset_add(&s, 0, 1), 0);
	assert_int_equal(gw_pageset_next(&s, 1, ~(uint64_t)0, &got), 1);
	assert_true(got == last);
	assert_int_equal(s.n, 2);
	gw_pageset_done(&s);
}

struct got {
	uint64_t page[16], n[16];
	size_t k;
	int stop_after;
};

static int collect(void *ctx, uint64_t page, uint64_t n)
{
	struct got *g = ctx;
	g->page[g->k] = page;
	g->n[g->k++] = n;
	return g->stop_after && (int)g->k == g->stop_after ? -5 : 0;
}

static void taking_a_range_names_it_and_leaves_the_rest(void **state)
{
	(void)state;
	struct gw_pageset s = {0};
	struct got g = {0};
	assert_int_equal(gw_pageset_add(&s, 10, 10), 0);
	assert_int_equal(gw_pageset_add(&s, 5 * CHUNK, 3), 0);
	assert_int_equal(gw_pageset_take(&s, 15, 5 * CHUNK + 1, collect, &g), 0);
	assert_int_equal(g.k, 2);
	assert_int_equal(g.page[0], 15);
	assert_int_equal(g.n[0], 5);
	assert_int_equal(g.page[1], 5 * CHUNK);
	assert_int_equal(g.n[1], 1);
	assert_int_equal(s.count, 7);
	assert_true(gw_pageset_has(&s, 14));
	assert_false(gw_pageset_has(&s, 15));
	assert_true(gw_pageset_has(&s, 5 * CHUNK + 1));
	gw_pageset_done(&s);
}

static void an_emptied_chunk_is_freed(void **state)
{
	(void)state;
	struct gw_pageset s = {0};
	assert_int_equal(gw_pageset_add(&s, CHUNK - 1, 2), 0);
	assert_int_equal(s.n, 2);
	assert_int_equal(gw_pageset_take(&s, CHUNK, CHUNK + 1, NULL, NULL), 0);
	assert_int_equal(s.n, 1);
	gw_pageset_done(&s);
}

static void a_callback_that_fails_ends_the_walk_with_its_number(void **state)
{
	(void)state;
	struct gw_pageset s = {0};
	struct got g = {.stop_after = 1};
	assert_int_equal(gw_pageset_add(&s, 1, 1), 0);
	assert_int_equal(gw_pageset_add(&s, 3, 1), 0);
	assert_int_equal(gw_pageset_take(&s, 0, 100, collect, &g), -5);
	assert_int_equal(s.count, 1);
	assert_true(gw_pageset_has(&s, 3));
	gw_pageset_done(&s);
}

static void work_is_cut_where_there_are_pages(void **state)
{
	(void)state;
	struct gw_pageset s = {0};
	assert_int_equal(gw_pageset_cut(&s, 0, 1 << 30, 100), 1 << 30);
	assert_int_equal(gw_pageset_add(&s, 0, 4 * CHUNK), 0);
	assert_int_equal(gw_pageset_cut(&s, 0, 1 << 30, 2 * CHUNK), 2 * CHUNK);
	assert_int_equal(gw_pageset_cut(&s, 2 * CHUNK, 1 << 30, 2 * CHUNK), 4 * CHUNK);
	assert_int_equal(gw_pageset_cut(&s, 4 * CHUNK, 1 << 30, 2 * CHUNK), 1 << 30);
	assert_int_equal(gw_pageset_cut(&s, 0, CHUNK, 10), CHUNK);
	gw_pageset_done(&s);
}

static void it_agrees_with_a_plain_array_on_random_work(void **state)
{
	(void)state;
	enum { PAGES = 4 * CHUNK };
	static unsigned char plain[PAGES];
	struct gw_pageset s = {0};
	unsigned seed = 20251125;
	memset(plain, 0, sizeof(plain));
	for (int step = 0; step < 4000; step++) {
		uint64_t at = (uint64_t)rand_r(&seed) % PAGES, n = 1 + (uint64_t)rand_r(&seed) % 300;
		n = at + n > PAGES ? PAGES - at : n;
		if (rand_r(&seed) & 1) {
			assert_int_equal(gw_pageset_add(&s, at, n), 0);
			memset(plain + at, 1, n);
		} else {
			assert_int_equal(gw_pageset_take(&s, at, at + n, NULL, NULL), 0);
			memset(plain + at, 0, n);
		}
	}
	uint64_t count = 0;
	for (uint64_t p = 0; p < PAGES; p++) {
		count += plain[p];
		assert_int_equal(gw_pageset_has(&s, p), plain[p]);
	}
	assert_int_equal(s.count, count);
	gw_pageset_done(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(adding_a_page_twice_counts_it_once),
	        cmocka_unit_test(a_run_may_cross_words_and_chunks),
	        cmocka_unit_test(a_page_at_the_end_of_a_57_bit_space_fits),
	        cmocka_unit_test(taking_a_range_names_it_and_leaves_the_rest),
	        cmocka_unit_test(an_emptied_chunk_is_freed),
	        cmocka_unit_test(a_callback_that_fails_ends_the_walk_with_its_number),
	        cmocka_unit_test(work_is_cut_where_there_are_pages),
	        cmocka_unit_test(it_agrees_with_a_plain_array_on_random_work),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
