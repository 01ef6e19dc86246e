#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/gw_err.h"
#include "mem/bits.h"
#include "mem/store.h"

enum { PAGE = 4096 };

static const struct gw_space proc = {.id = 1, .kind = GW_SPACE_PROC, .pid = 100, .vpid = 1};
static const struct gw_space shm = {.id = 2, .kind = GW_SPACE_SHMEM, .shmid = 7, .size_bytes = 10 * PAGE};
static const uint64_t high = 0x7fff00000000u;

static int make(void **state)
{
	struct gw_store *s = gw_store_new();
	struct gw_err e;
	if (!s || gw_store_add(s, &proc, &e) < 0 || gw_store_add(s, &shm, &e) < 0)
		return -1;
	*state = s;
	return 0;
}

static int unmake(void **state)
{
	gw_store_free(*state);
	return 0;
}

struct seen {
	int memfd;
	size_t n;
	struct gw_span recent[8];
};

static int look(void *ctx, const struct gw_space *space, int memfd, const struct gw_span *recent, size_t n)
{
	struct seen *v = ctx;
	if (space->id != 1)
		return 0;
	v->memfd = memfd;
	v->n = n;
	for (size_t i = 0; i < n && i < 8; i++)
		v->recent[i] = recent[i];
	return 0;
}

static struct seen seen_of(struct gw_store *s)
{
	struct seen v = {.memfd = -1};
	assert_int_equal(gw_store_each(s, look, &v), 0);
	return v;
}

static void write_pages(struct gw_store *s, uint64_t addr, uint32_t n, int fill)
{
	struct gw_err e = {0};
	char *p = malloc((size_t)n * PAGE);
	assert_non_null(p);
	memset(p, fill, (size_t)n * PAGE);
	if (gw_store_write(s, 1, addr, n, p, &e) < 0)
		fail_msg("%s", e.text);
	free(p);
}

static void assert_page(struct gw_store *s, uint64_t addr, int fill)
{
	char got[PAGE], want[PAGE];
	memset(want, fill, PAGE);
	assert_int_equal(pread(seen_of(s).memfd, got, PAGE, (off_t)addr), PAGE);
	assert_memory_equal(got, want, PAGE);
}

static bool in_map(struct gw_store *s, uint64_t addr)
{
	struct gw_bits b;
	assert_int_equal(gw_bits_open(dup(gw_store_bits_fd(s, 1)), &b), 0);
	bool is = gw_bits_test(&b, addr / PAGE);
	gw_bits_done(&b);
	return is;
}

static void a_page_is_read_back_from_its_own_address(void **state)
{
	write_pages(*state, high, 2, 'a');
	write_pages(*state, high + PAGE, 1, 'b');
	assert_page(*state, high, 'a');
	assert_page(*state, high + PAGE, 'b');
	assert_page(*state, high + 2 * PAGE, 0);
	assert_true(in_map(*state, high + PAGE));
	assert_false(in_map(*state, high + 2 * PAGE));
}

static void memory_is_held_only_for_what_was_written(void **state)
{
	assert_int_equal(gw_store_bytes(*state), 0);
	write_pages(*state, high, 3, 'x');
	write_pages(*state, 0x10000, 1, 'y');
	assert_int_equal(gw_store_bytes(*state), 4 * PAGE);
}

static void a_dropped_span_reads_as_zero_and_costs_nothing(void **state)
{
	struct gw_err e;
	write_pages(*state, high, 3, 'x');
	assert_int_equal(gw_store_drop(*state, 1, high + PAGE, 1, &e), 0);
	assert_page(*state, high, 'x');
	assert_page(*state, high + PAGE, 0);
	assert_page(*state, high + 2 * PAGE, 'x');
	assert_false(in_map(*state, high + PAGE));
	assert_int_equal(gw_store_bytes(*state), 2 * PAGE);
	assert_int_equal(gw_store_drop(*state, 1, 0, UINT32_MAX, &e), 0);
	assert_int_equal(gw_store_bytes(*state), 2 * PAGE);
}

static void exactly_the_spans_of_the_last_round_are_recent(void **state)
{
	write_pages(*state, high, 1, 'x');
	gw_store_new_round(*state);
	assert_int_equal(seen_of(*state).n, 0);
	write_pages(*state, 0x20000, 2, 'x');
	write_pages(*state, 0x22000, 1, 'x');
	write_pages(*state, 0x40000, 1, 'x');
	struct seen v = seen_of(*state);
	assert_int_equal(v.n, 2);
	assert_int_equal(v.recent[0].addr, 0x20000);
	assert_int_equal(v.recent[0].npages, 3);
	assert_int_equal(v.recent[1].addr, 0x40000);
}

static void what_the_peer_gets_wrong_is_refused_in_words(void **state)
{
	struct gw_store *s = *state;
	struct gw_err e = {0};
	static const char page[2 * PAGE];
	assert_int_equal(gw_store_write(s, 3, 0, 1, page, &e), -ENOENT);
	assert_int_equal(e.class, GW_PEER);
	assert_non_null(strstr(e.text, "never announced"));
	assert_int_equal(gw_store_write(s, 1, 12, 1, page, &e), -EINVAL);
	assert_int_equal(gw_store_write(s, 1, GW_ADDR_END, 1, page, &e), -EINVAL);
	assert_int_equal(gw_store_write(s, 1, UINT64_MAX - PAGE + 1, 2, page, &e), -EINVAL);
	assert_int_equal(gw_store_write(s, 2, 9 * PAGE, 2, page, &e), -EINVAL);
	assert_int_equal(gw_store_drop(s, 2, 11 * PAGE, 1, &e), -EINVAL);
	assert_int_equal(gw_store_add(s, &proc, &e), -EEXIST);
	struct gw_space bad = proc;
	bad.id = UINT32_MAX;
	assert_int_equal(gw_store_add(s, &bad, &e), -ERANGE);
	bad.id = 5;
	bad.kind = 9;
	assert_int_equal(gw_store_add(s, &bad, &e), -EINVAL);
	assert_int_equal(gw_store_bits_fd(s, 5), -1);
	assert_int_equal(gw_store_bytes(s), 0);
}

struct job {
	struct gw_store *s;
	int fill;
};

static void *write_many(void *arg)
{
	const struct job *j = arg;
	char page[PAGE];
	memset(page, j->fill, PAGE);
	for (uint64_t i = 0; i < 2000; i++)
		if (gw_store_write(j->s, 1, high + (i * 4 + (uint64_t)j->fill) * PAGE, 1, page, NULL) < 0)
			return arg;
	return NULL;
}

static void several_threads_may_write_side_by_side(void **state)
{
	struct job j[4];
	pthread_t t[4];
	for (int i = 0; i < 4; i++) {
		j[i] = (struct job){.s = *state, .fill = i};
		assert_int_equal(pthread_create(&t[i], NULL, write_many, &j[i]), 0);
	}
	for (int i = 0; i < 4; i++) {
		void *bad;
		assert_int_equal(pthread_join(t[i], &bad), 0);
		assert_null(bad);
	}
	struct gw_bits b;
	assert_int_equal(gw_bits_open(dup(gw_store_bits_fd(*state, 1)), &b), 0);
	assert_int_equal(gw_bits_count(&b), 8000);
	gw_bits_done(&b);
	for (uint64_t i = 0; i < 8000; i += 777)
		assert_page(*state, high + i * PAGE, (int)(i % 4));
}

static void page_maps_find_what_is_set_across_the_whole_address_space(void **state)
{
	(void)state;
	struct gw_bits b, c;
	assert_int_equal(gw_bits_new(&b), 0);
	assert_int_equal(gw_bits_next(&b, 0, GW_BITS_PAGES), GW_BITS_PAGES);
	assert_int_equal(gw_bits_set(&b, 60, 10), 10);
	assert_int_equal(gw_bits_set(&b, 65, 10), 5);
	assert_int_equal(gw_bits_set(&b, GW_BITS_PAGES - 1, 1), 1);
	assert_int_equal(gw_bits_next(&b, 0, GW_BITS_PAGES), 60);
	assert_int_equal(gw_bits_run(&b, 60, 100, true), 15);
	assert_int_equal(gw_bits_run(&b, 60, 7, true), 7);
	assert_int_equal(gw_bits_run(&b, 75, 100, false), 100);
	assert_int_equal(gw_bits_next(&b, 75, GW_BITS_PAGES), GW_BITS_PAGES - 1);
	assert_int_equal(gw_bits_next(&b, 75, 100), 100);
	assert_int_equal(gw_bits_copy(&c, &b), 0);
	assert_int_equal(gw_bits_clear(&b, 0, GW_BITS_PAGES - 1), 15);
	assert_int_equal(gw_bits_count(&b), 1);
	assert_int_equal(gw_bits_count(&c), 16);
	gw_bits_done(&b);
	gw_bits_done(&c);
	int other[2];
	assert_int_equal(pipe(other), 0);
	assert_int_equal(gw_bits_open(other[0], &b), -EINVAL);
	(void)close(other[1]);
}

static void a_shared_object_can_be_given_away_and_resized(void **state)
{
	struct gw_store *s = *state;
	struct gw_err e = {0};
	static char page[PAGE] = "kept", back[PAGE];
	page[PAGE - 1] = 7;
	struct gw_space big = shm;
	struct stat st;
	int fd;
	big.size_bytes = 12 * PAGE + 100;
	assert_int_equal(gw_store_write(s, 2, 9 * PAGE, 1, page, &e), 0);
	assert_int_equal(gw_store_add(s, &big, &e), 0);
	assert_int_equal(gw_store_write(s, 2, 12 * PAGE, 1, page, &e), 0);
	assert_int_equal(gw_store_write(s, 2, 13 * PAGE, 1, page, &e), -EINVAL);
	assert_int_equal(gw_store_object(s, 2, 12 * PAGE + 100, &fd, &e), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 12 * PAGE + 100);
	assert_int_equal(pread(fd, back, PAGE, 9 * PAGE), PAGE);
	assert_memory_equal(back, page, PAGE);
	/* The end of the last page is beyond the end of the object, and in every mapping. */
	char *last = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 12 * PAGE);
	assert_ptr_not_equal(last, MAP_FAILED);
	assert_memory_equal(last, page, PAGE);
	assert_int_equal(munmap(last, PAGE), 0);
	assert_int_equal(gw_store_object(s, 1, PAGE, &fd, &e), -ENOENT);
	assert_int_equal(gw_store_object(s, 7, PAGE, &fd, &e), -ENOENT);
	big.shmid++;
	assert_int_equal(gw_store_add(s, &big, &e), -EEXIST);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(a_page_is_read_back_from_its_own_address, make, unmake),
	        cmocka_unit_test_setup_teardown(memory_is_held_only_for_what_was_written, make, unmake),
	        cmocka_unit_test_setup_teardown(a_dropped_span_reads_as_zero_and_costs_nothing, make, unmake),
	        cmocka_unit_test_setup_teardown(exactly_the_spans_of_the_last_round_are_recent, make, unmake),
	        cmocka_unit_test_setup_teardown(what_the_peer_gets_wrong_is_refused_in_words, make, unmake),
	        cmocka_unit_test_setup_teardown(several_threads_may_write_side_by_side, make, unmake),
	        cmocka_unit_test_setup_teardown(a_shared_object_can_be_given_away_and_resized, make, unmake),
	        cmocka_unit_test(page_maps_find_what_is_set_across_the_whole_address_space),
	};
	return cmocka_run_group_tests_name("mem/store", tests, NULL, NULL);
}
