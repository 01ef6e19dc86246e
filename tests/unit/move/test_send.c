#include "link.h"

#include <fcntl.h>
#include <stdio.h>

#include "move/batch.h"

/* ---- contents ---- */

static void memory_arrives_as_it_is_in_the_process(void **state)
{
	struct link *l = *state;
	tell(&l->victim, (struct order){FILL_RANDOM, 0, 3000, 7});
	link_receive_all(l);
	link_sender(l, (struct gw_sender_opts){.nice = 5});
	push(l, 0, 3000);
	struct gw_send_stats st = barrier(l);
	stored_as(l, 0, 3000, 7, false);
	assert_int_equal(st.pages, 3000);
	assert_int_equal(st.raw_bytes, 3000 * 4096);
	assert_int_equal(st.zero_pages, 0);
	assert_int_equal(st.skipped_pages, 0);
	assert_true(st.wire_bytes >= st.raw_bytes && st.wire_bytes < st.raw_bytes + st.raw_bytes / 100);
	assert_int_equal(l->counters.pages, 3000);
	assert_int_equal(l->counters.barriers, LINK_CONNS);
	assert_int_equal(l->counters.wire_bytes, st.wire_bytes);
}

static void single_pages_here_and_there_arrive(void **state)
{
	struct link *l = *state;
	struct gw_span spans[800];
	tell(&l->victim, (struct order){FILL_RANDOM, 0, VICTIM_PAGES, 3});
	link_receive_all(l);
	link_sender(l, (struct gw_sender_opts){0});
	for (uint32_t i = 0; i < 800; i++)
		spans[i] = (struct gw_span){.addr = page_addr(i * 5), .npages = 1 + i % 3};
	assert_int_equal(gw_sender_push(l->sender, SPACE, l->victim.pid, -1, spans, 800, NULL), 0);
	struct gw_send_stats st = barrier(l);
	uint64_t pages = 0;
	for (uint32_t i = 0; i < 800; i++) {
		stored_as(l, i * 5, 1 + i % 3, 3, false);
		stored_zero(l, i * 5 + 3, 2);
		pages += spans[i].npages;
	}
	assert_int_equal(st.pages, pages);
	/* Batches are filled up: single pages do not travel in single frames. */
	assert_true(st.frames <= pages / GW_SEND_BATCH_PAGES + 10 + LINK_CONNS);
}

static void zero_pages_travel_without_their_contents(void **state)
{
	struct link *l = *state;
	tell(&l->victim, (struct order){FILL_ZERO, 0, VICTIM_PAGES, 0});
	link_receive_all(l);
	link_sender(l, (struct gw_sender_opts){0});
	push(l, 0, VICTIM_PAGES);
	struct gw_send_stats st = barrier(l);
	assert_int_equal(st.pages, VICTIM_PAGES);
	assert_int_equal(st.zero_pages, VICTIM_PAGES);
	/* One run and two headers a batch, and the barriers. */
	assert_true(st.wire_bytes <= VICTIM_PAGES / GW_SEND_BATCH_PAGES * 48 + LINK_CONNS * 24);
	assert_int_equal(l->counters.zero_pages, VICTIM_PAGES);
	assert_int_equal(gw_store_bytes(l->store), 0);
}

static void zero_pages_between_others_are_taken_out(void **state)
{
	struct link *l = *state;
	tell(&l->victim, (struct order){FILL_RANDOM, 0, 1000, 9});
	for (uint32_t i = 0; i < 1000; i += 7)
		tell(&l->victim, (struct order){FILL_ZERO, i, 1 + i % 2, 0});
	link_receive_all(l);
	link_sender(l, (struct gw_sender_opts){0});
	push(l, 0, 1000);
	struct gw_send_stats st = barrier(l);
	for (uint32_t i = 0; i < 1000; i++)
		if (i % 7 == 0 || (i % 7 == 1 && i % 2 == 0))
			stored_zero(l, i, 1);
		else
			stored_as(l, i, 1, 9, false);
	assert_int_equal(st.pages, 1000);
	assert_int_equal(st.zero_pages, 143 + 71);
}

static void a_page_is_zero_only_when_every_byte_is(void **state)
{
	(void)state;
	gw_auto(mem) uint8_t *p = aligned_alloc(4096, 4096);
	assert_non_null(p);
	memset(p, 0, 4096);
	assert_true(gw_page_is_zero(p));
	for (unsigned i = 0; i < 4096; i++) {
		p[i] = 1;
		assert_false(gw_page_is_zero(p));
		p[i] = 0;
	}
}

static void a_page_that_becomes_zero_is_zero_in_the_store_too(void **state)
{
	struct link *l = *state;
	link_receive_all(l);
	link_sender(l, (struct gw_sender_opts){0});
	tell(&l->victim, (struct order){FILL_RANDOM, 0, 64, 1});
	push(l, 0, 64);
	(void)barrier(l);
	tell(&l->victim, (struct order){FILL_ZERO, 10, 20, 0});
	push(l, 10, 20);
	(void)barrier(l);
	stored_as(l, 0, 10, 1, false);
	stored_zero(l, 10, 20);
	stored_as(l, 30, 34, 1, false);
	assert_int_equal(gw_store_bytes(l->store), 44 * 4096);
}

static void the_last_round_wins(void **state)
{
	struct link *l = *state;
	link_receive_all(l);
	link_sender(l, (struct gw_sender_opts){0});
	for (uint32_t round = 1; round <= 5; round++) {
		tell(&l->victim, (struct order){FILL_RANDOM, 0, 500, round});
		push(l, 0, 500);
		struct gw_send_stats st = barrier(l);
		assert_int_equal(st.pages, 500);
		stored_as(l, 0, 500, round, false);
	}
	struct gw_send_stats all;
	gw_sender_total(l->sender, &all);
	assert_int_equal(all.pages, 2500);
}

static void dropped_pages_are_zero_and_cost_nothing(void **state)
{
	struct link *l = *state;
	link_receive_all(l);
	link_sender(l, (struct gw_sender_opts){0});
	tell(&l->victim, (struct order){FILL_RANDOM, 0, 300, 1});
	push(l, 0, 300);
	(void)barrier(l);
	drop(l, 100, 150);
	drop(l, 299, 1);
	(void)barrier(l);
	stored_as(l, 0, 100, 1, false);
	stored_zero(l, 100, 150);
	stored_as(l, 250, 49, 1, false);
	stored_zero(l, 299, 1);
	assert_int_equal(l->counters.dropped_pages, 151);
	assert_int_equal(gw_store_bytes(l->store), 149 * 4096);
}

/* ---- zstd ---- */

static void what_can_be_compressed_is(void **state)
{
	struct link *l = *state;
	tell(&l->victim, (struct order){FILL_TEXT, 0, 2000, 4});
	tell(&l->victim, (struct order){FILL_ZERO, 500, 3, 0});
	link_receive_all(l);
	link_sender(l, (struct gw_sender_opts){.zstd = true});
	push(l, 0, 2000);
	struct gw_send_stats st = barrier(l);
	assert_true(st.wire_bytes < st.raw_bytes / 3);
	stored_as(l, 0, 500, 4, true);
	stored_zero(l, 500, 3);
	stored_as(l, 503, 1497, 4, true);
}

static void what_cannot_be_compressed_travels_plain(void **state)
{
	struct link *l = *state;
	tell(&l->victim, (struct order){FILL_RANDOM, 0, 2000, 4});
	link_receive_all(l);
	link_sender(l, (struct gw_sender_opts){.zstd = true});
	push(l, 0, 2000);
	struct gw_send_stats st = barrier(l);
	assert_true(st.wire_bytes >= st.raw_bytes);
	stored_as(l, 0, 2000, 4, false);
}

static void compression_is_tried_again_after_something_that_would_not_shrink(void **state)
{
	struct link *l = *state;
	tell(&l->victim, (struct order){FILL_RANDOM, 0, 512, 4});
	tell(&l->victim, (struct order){FILL_TEXT, 512, VICTIM_PAGES - 512, 4});
	link_receive_all(l);
	link_sender(l, (struct gw_sender_opts){.zstd = true});
	push(l, 0, 512);
	(void)barrier(l);
	for (unsigned i = 0; i < 3; i++)
		push(l, 512, VICTIM_PAGES - 512);
	struct gw_send_stats st = barrier(l);
	assert_true(st.wire_bytes < st.raw_bytes * 2 / 3);
	stored_as(l, 512, VICTIM_PAGES - 512, 4, true);
}

/* ---- memory that changes under our hands ---- */

static int collect(void *ctx, uint32_t space, const struct gw_span *span)
{
	uint8_t *seen = ctx;
	assert_int_equal(space, SPACE);
	for (uint32_t i = 0; i < span->npages; i++)
		seen[(span->addr - victim_at) / 4096 + i]++;
	return 0;
}

static void pages_unmapped_before_they_are_read_are_skipped_and_noted(void **state)
{
	struct link *l = *state;
	static uint8_t seen[VICTIM_PAGES];
	tell(&l->victim, (struct order){FILL_RANDOM, 0, 1000, 2});
	tell(&l->victim, (struct order){UNMAP, 100, 1, 0});
	tell(&l->victim, (struct order){UNMAP, 200, 150, 0});
	tell(&l->victim, (struct order){UNMAP, 999, 1, 0});
	link_receive_all(l);
	link_sender(l, (struct gw_sender_opts){0});
	push(l, 0, 1000);
	struct gw_send_stats st = barrier(l);
	assert_int_equal(st.pages, 1000 - 152);
	assert_int_equal(st.skipped_pages, 152);
	stored_as(l, 0, 100, 2, false);
	stored_zero(l, 100, 1);
	stored_as(l, 101, 99, 2, false);
	stored_zero(l, 200, 150);
	stored_as(l, 350, 649, 2, false);
	memset(seen, 0, sizeof(seen));
	assert_int_equal(gw_sender_skipped(l->sender, collect, seen), 0);
	for (uint32_t i = 0; i < 1000; i++)
		assert_int_equal(seen[i], i == 100 || (i >= 200 && i < 350) || i == 999);
	memset(seen, 0, sizeof(seen));
	assert_int_equal(gw_sender_skipped(l->sender, collect, seen), 0);
	assert_null(memchr(seen, 1, sizeof(seen)));
}

static void a_process_that_has_died_is_skipped(void **state)
{
	struct link *l = *state;
	tell(&l->victim, (struct order){FILL_RANDOM, 0, 500, 2});
	pid_t pid = l->victim.pid;
	assert_int_equal(kill(pid, SIGKILL), 0);
	/* A zombie first, then nobody. */
	siginfo_t si;
	assert_int_equal(waitid(P_PID, (id_t)pid, &si, WEXITED | WNOWAIT), 0);
	link_receive_all(l);
	link_sender(l, (struct gw_sender_opts){0});
	push(l, 0, 500);
	struct gw_send_stats st = barrier(l);
	assert_int_equal(st.pages, 0);
	assert_int_equal(st.skipped_pages, 500);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	push(l, 0, 500);
	st = barrier(l);
	assert_int_equal(st.skipped_pages, 500);
	l->victim.pid = 0;
	(void)close(l->victim.order_fd);
	(void)close(l->victim.answer_fd);
	assert_int_equal(gw_store_bytes(l->store), 0);
}

static void pages_that_may_not_be_read_have_contents_all_the_same(void **state)
{
	struct link *l = *state;
	tell(&l->victim, (struct order){FILL_RANDOM, 0, 300, 8});
	tell(&l->victim, (struct order){PROT_OFF, 90, 100, 0});
	link_receive_all(l);
	link_sender(l, (struct gw_sender_opts){0});
	push(l, 0, 300);
	struct gw_send_stats st = barrier(l);
	assert_int_equal(st.skipped_pages, 0);
	stored_as(l, 0, 300, 8, false);
}

/* Pages of the victim that it shares with its child: pagemap bit 56 clear. */
static uint32_t count_shared(pid_t pid, uint32_t npages)
{
	char path[64];
	gw_path(path, sizeof(path), "/proc/%d/pagemap", (int)pid);
	gw_auto(file) FILE *f = fopen(path, "re");
	assert_non_null(f);
	assert_int_equal(fseeko(f, (off_t)(victim_at / 4096 * 8), SEEK_SET), 0);
	uint32_t n = 0;
	for (uint32_t i = 0; i < npages; i++) {
		uint64_t entry;
		assert_int_equal(fread(&entry, sizeof(entry), 1, f), 1);
		n += entry >> 63 && !(entry >> 56 & 1);
	}
	return n;
}

static void reading_does_not_give_forked_processes_pages_of_their_own(void **state)
{
	struct link *l = *state;
	tell(&l->victim, (struct order){FILL_RANDOM, 0, 1000, 6});
	tell(&l->victim, (struct order){SHARE_WITH_CHILD, 0, 0, 0});
	/* Every third page is the victim's own again. */
	for (uint32_t i = 0; i < 1000; i += 3)
		tell(&l->victim, (struct order){FILL_RANDOM, i, 1, 6});
	uint32_t before = count_shared(l->victim.pid, 1000);
	assert_int_equal(before, 666);
	link_receive_all(l);
	link_sender(l, (struct gw_sender_opts){0});
	push(l, 0, 1000);
	(void)barrier(l);
	stored_as(l, 0, 1000, 6, false);
	assert_int_equal(count_shared(l->victim.pid, 1000), before);
}

static void a_shared_object_is_read_from_its_file(void **state)
{
	struct link *l = *state;
	victim_end(&l->victim);
	victim_start(&l->victim, MAP_SHARED);
	tell(&l->victim, (struct order){FILL_RANDOM, 16, 100, 5});
	const struct gw_space sp = {.id = 2, .kind = GW_SPACE_SHMEM, .size_bytes = (uint64_t)VICTIM_PAGES * 4096};
	assert_int_equal(gw_store_add(l->store, &sp, NULL), 0);
	link_receive_all(l);
	link_sender(l, (struct gw_sender_opts){0});
	char path[96];
	(void)snprintf(path, sizeof(path), "/proc/%d/map_files/%llx-%llx", l->victim.pid, (unsigned long long)victim_at,
	               (unsigned long long)victim_at + VICTIM_PAGES * 4096ull);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	/* The last span ends where the object does: what is beyond is skipped. */
	const struct gw_span spans[] = {{.addr = 16 * 4096, .npages = 100},
	                                {.addr = (VICTIM_PAGES - 2) * 4096ull, .npages = 4}};
	assert_int_equal(gw_sender_push(l->sender, 2, l->victim.pid, fd, spans, 2, NULL), 0);
	struct gw_send_stats st = barrier(l);
	(void)close(fd);
	assert_int_equal(st.pages, 102);
	assert_int_equal(st.skipped_pages, 2);
	for (uint32_t i = 16; i < 116; i++) {
		struct want w = {.space = 2, .addr = (uint64_t)i * 4096};
		make_page(w.page, i, 5, false);
		stored_is(l, &w, i);
	}
}

/* ---- barrier, cancel, failures ---- */

struct waiting {
	struct link *l;
	_Atomic bool done;
	int rc;
	struct gw_err err;
};

static void *barrier_main(void *arg)
{
	struct waiting *w = arg;
	w->rc = gw_sender_barrier(w->l->sender, NULL, &w->err);
	w->done = true;
	return NULL;
}

static void *push_main(void *arg)
{
	struct waiting *w = arg;
	const struct gw_span all = {.addr = victim_at, .npages = VICTIM_PAGES};
	while (w->rc == 0)
		w->rc = gw_sender_push(w->l->sender, SPACE, w->l->victim.pid, -1, &all, 1, &w->err);
	w->done = true;
	return NULL;
}

static uint64_t sent_bytes(const struct link *l)
{
	uint64_t n = 0;
	for (unsigned i = 0; i < LINK_CONNS; i++)
		n += gw_conn_sent_bytes(l->src[i]);
	return n;
}

static void a_barrier_waits_for_the_store_and_not_for_the_socket(void **state)
{
	struct link *l = *state;
	pthread_t t;
	tell(&l->victim, (struct order){FILL_RANDOM, 0, 10, 1});
	link_sender(l, (struct gw_sender_opts){0});
	/* Small enough to lie in the sockets: nobody has received it. */
	push(l, 0, 10);
	struct waiting w = {.l = l};
	assert_int_equal(pthread_create(&t, NULL, barrier_main, &w), 0);
	WAIT_UNTIL_STILL(sent_bytes(l));
	assert_true(sent_bytes(l) > 10 * 4096);
	assert_false(w.done);
	link_receive_all(l);
	(void)pthread_join(t, NULL);
	assert_int_equal(w.rc, 0);
	stored_as(l, 0, 10, 1, false);
}

static void a_barrier_with_nothing_to_send_is_answered_by_every_connection(void **state)
{
	struct link *l = *state;
	link_receive_all(l);
	link_sender(l, (struct gw_sender_opts){0});
	struct gw_send_stats st = barrier(l);
	assert_int_equal(st.pages, 0);
	assert_int_equal(st.send_us, 0);
	(void)barrier(l);
	assert_int_equal(l->counters.barriers, 2 * LINK_CONNS);
}

static void cancelling_wakes_a_blocked_push(void **state)
{
	struct link *l = *state;
	pthread_t t;
	tell(&l->victim, (struct order){FILL_RANDOM, 0, VICTIM_PAGES, 1});
	link_sender(l, (struct gw_sender_opts){0});
	struct waiting w = {.l = l};
	assert_int_equal(pthread_create(&t, NULL, push_main, &w), 0);
	WAIT_UNTIL_STILL(sent_bytes(l));
	assert_false(w.done);
	gw_sender_cancel(l->sender);
	(void)pthread_join(t, NULL);
	assert_int_equal(w.rc, -ECANCELED);
	assert_int_equal(w.err.err, ECANCELED);
	assert_int_equal(gw_sender_barrier(l->sender, NULL, NULL), -ECANCELED);
	assert_int_equal(gw_sender_drop(l->sender, SPACE, &(struct gw_span){victim_at, 1, 0}, 1, NULL), -ECANCELED);
}

static void cancelling_wakes_a_blocked_barrier(void **state)
{
	struct link *l = *state;
	pthread_t t;
	link_sender(l, (struct gw_sender_opts){0});
	struct waiting w = {.l = l};
	assert_int_equal(pthread_create(&t, NULL, barrier_main, &w), 0);
	WAIT_UNTIL_STILL(sent_bytes(l));
	assert_false(w.done);
	gw_sender_cancel(l->sender);
	(void)pthread_join(t, NULL);
	assert_int_equal(w.rc, -ECANCELED);
}

static void a_sender_can_be_freed_with_a_full_queue(void **state)
{
	struct link *l = *state;
	tell(&l->victim, (struct order){FILL_RANDOM, 0, VICTIM_PAGES, 1});
	link_sender(l, (struct gw_sender_opts){0});
	/* Nobody receives: more than the sockets hold, which the kernel decides. */
	for (uint64_t pushed = 0; sent_bytes(l) >= pushed * GW_PAGE;) {
		push(l, 0, 1000);
		pushed += 1000;
		WAIT_UNTIL_STILL(sent_bytes(l));
	}
	gw_sender_free(l->sender);
	l->sender = NULL;
	assert_int_equal(gw_conn_send(l->src[0], GW_F_MSG, &(struct iovec){(void *)(uintptr_t)"{}", 2}, 1, NULL),
	                 -ECANCELED);
}

static void after_a_barrier_the_connections_outlive_the_sender(void **state)
{
	struct link *l = *state;
	link_receive_all(l);
	link_sender(l, (struct gw_sender_opts){0});
	tell(&l->victim, (struct order){FILL_RANDOM, 0, 100, 1});
	push(l, 0, 50);
	(void)barrier(l);
	gw_sender_free(l->sender);
	link_sender(l, (struct gw_sender_opts){.zstd = true});
	push(l, 50, 50);
	(void)barrier(l);
	stored_as(l, 0, 100, 1, false);
}

static void a_peer_that_dies_fails_the_sender_with_its_name(void **state)
{
	struct link *l = *state;
	pthread_t t;
	tell(&l->victim, (struct order){FILL_RANDOM, 0, VICTIM_PAGES, 1});
	link_sender(l, (struct gw_sender_opts){0});
	struct waiting w = {.l = l};
	assert_int_equal(pthread_create(&t, NULL, push_main, &w), 0);
	WAIT_UNTIL_STILL(sent_bytes(l));
	gw_conn_free(l->dst[1].conn);
	l->dst[1].conn = NULL;
	(void)pthread_join(t, NULL);
	assert_int_equal(w.rc, -ECONNRESET);
	assert_int_equal(w.err.class, GW_PEER);
	assert_non_null(strstr(w.err.text, "host-b (127.0.0.1:"));
	struct gw_err e = {0};
	assert_int_equal(gw_sender_barrier(l->sender, NULL, &e), -ECONNRESET);
	assert_string_equal(e.text, w.err.text);
}

static void an_answer_to_another_barrier_is_refused(void **state)
{
	struct link *l = *state;
	pthread_t t;
	uint8_t other[GW_BARRIER_BYTES];
	link_sender(l, (struct gw_sender_opts){0});
	struct waiting w = {.l = l};
	assert_int_equal(pthread_create(&t, NULL, barrier_main, &w), 0);
	gw_barrier_pack(77, other);
	assert_int_equal(gw_conn_send(l->dst[0].conn, GW_F_BARRIER_ACK, &(struct iovec){other, sizeof(other)}, 1, NULL),
	                 0);
	(void)pthread_join(t, NULL);
	assert_int_equal(w.rc, -EPROTO);
	assert_non_null(strstr(w.err.text, "answered barrier 77, asked was 1"));
}

static void a_rate_holds_the_sender_back(void **state)
{
	struct link *l = *state;
	tell(&l->victim, (struct order){FILL_RANDOM, 0, 512, 1});
	link_receive_all(l);
	struct gw_rate *rate = gw_rate_new(16u << 20);
	link_sender(l, (struct gw_sender_opts){.rate = rate});
	push(l, 0, 512);
	struct gw_send_stats st = barrier(l);
	stored_as(l, 0, 512, 1, false);
	gw_sender_free(l->sender);
	l->sender = NULL;
	gw_rate_free(rate);
	/* 2 MiB at 16 MiB/s are 125 ms, less the 10 ms saved up and the last
	 * pieces of three connections, which need not be waited for. */
	assert_true(st.send_us >= 95000);
}

static void the_priority_can_be_changed_while_sending(void **state)
{
	struct link *l = *state;
	link_receive_all(l);
	link_sender(l, (struct gw_sender_opts){.nice = 10});
	assert_int_equal(gw_sender_set_nice(l->sender, 0), 0);
	(void)barrier(l);
	assert_int_equal(gw_sender_set_nice(l->sender, 3), 0);
}

#define LINK_TEST(f) cmocka_unit_test_setup_teardown(f, link_setup, link_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	        LINK_TEST(memory_arrives_as_it_is_in_the_process),
	        LINK_TEST(single_pages_here_and_there_arrive),
	        LINK_TEST(zero_pages_travel_without_their_contents),
	        LINK_TEST(zero_pages_between_others_are_taken_out),
	        cmocka_unit_test(a_page_is_zero_only_when_every_byte_is),
	        LINK_TEST(a_page_that_becomes_zero_is_zero_in_the_store_too),
	        LINK_TEST(the_last_round_wins),
	        LINK_TEST(dropped_pages_are_zero_and_cost_nothing),
	        LINK_TEST(what_can_be_compressed_is),
	        LINK_TEST(what_cannot_be_compressed_travels_plain),
	        LINK_TEST(compression_is_tried_again_after_something_that_would_not_shrink),
	        LINK_TEST(pages_unmapped_before_they_are_read_are_skipped_and_noted),
	        LINK_TEST(a_process_that_has_died_is_skipped),
	        LINK_TEST(pages_that_may_not_be_read_have_contents_all_the_same),
	        LINK_TEST(reading_does_not_give_forked_processes_pages_of_their_own),
	        LINK_TEST(a_shared_object_is_read_from_its_file),
	        LINK_TEST(a_barrier_waits_for_the_store_and_not_for_the_socket),
	        LINK_TEST(a_barrier_with_nothing_to_send_is_answered_by_every_connection),
	        LINK_TEST(cancelling_wakes_a_blocked_push),
	        LINK_TEST(cancelling_wakes_a_blocked_barrier),
	        LINK_TEST(a_sender_can_be_freed_with_a_full_queue),
	        LINK_TEST(after_a_barrier_the_connections_outlive_the_sender),
	        LINK_TEST(a_peer_that_dies_fails_the_sender_with_its_name),
	        LINK_TEST(an_answer_to_another_barrier_is_refused),
	        LINK_TEST(a_rate_holds_the_sender_back),
	        LINK_TEST(the_priority_can_be_changed_while_sending),
	};
	return cmocka_run_group_tests_name("move/send", tests, NULL, NULL);
}
