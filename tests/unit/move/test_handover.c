#include "test.h"

#include <string.h>

#include "move/handover.h"

/* Every interleaving of both machines over a lossy, repeating link: all
 * reachable pairs of states are visited and each must keep the invariants. */
enum { NS = 5, ND = 5, MSGS = 5 };
enum msg { M_RESTORED, M_COMMIT, M_ABORT, M_COMMITTED, M_ABORTED };

struct world {
	enum gw_source_state s;
	enum gw_dest_state d;
	unsigned in_flight; /* bits of enum msg: sent once, may arrive any number of times, or never */
};

static bool seen[NS][ND][1 << MSGS];
static unsigned visited, both_final;

static void visit(struct world w);

static void source(struct world w, enum gw_source_event e, unsigned sends)
{
	struct world n = w;
	if (gw_source_next(&n.s, e)) {
		n.in_flight |= sends;
		visit(n);
	}
}

static void dest(struct world w, enum gw_dest_event e, unsigned sends)
{
	struct world n = w;
	if (gw_dest_next(&n.d, e)) {
		n.in_flight |= sends;
		visit(n);
	}
}

static void visit(struct world w)
{
	if (seen[w.s][w.d][w.in_flight])
		return;
	seen[w.s][w.d][w.in_flight] = true;
	visited++;
	assert_true(gw_handover_invariant(w.s, w.d));
	if (w.s == S_MOVED)
		assert_int_equal(w.d, D_COMMITTED); /* never none: what is given up here runs there */
	if (w.d == D_COMMITTED)
		assert_true(w.s == S_COMMITTING || w.s == S_MOVED);
	both_final += (w.s == S_MOVED && w.d == D_COMMITTED) || (w.s == S_ABORTED && w.d == D_ABORTED);

	source(w, SE_FREEZE, 0);
	source(w, SE_FAIL, w.s == S_COPYING || w.s == S_FROZEN ? 1u << M_ABORT : 0);
	if (w.in_flight & 1u << M_RESTORED)
		source(w, SE_SEND_COMMIT, 1u << M_COMMIT);
	if (w.in_flight & 1u << M_COMMITTED)
		source(w, SE_HEAR_COMMITTED, 0);
	if (w.in_flight & 1u << M_ABORTED)
		source(w, SE_HEAR_ABORTED, 0);
	/* A query: the destination answers with the truth of now. */
	if (w.s == S_COMMITTING)
		switch (w.d) {
		case D_UNKNOWN: source(w, SE_HEAR_UNKNOWN, 0); break;
		case D_ABORTED: source(w, SE_HEAR_ABORTED, 0); break;
		case D_COMMITTED: source(w, SE_HEAR_COMMITTED, 0); break;
		case D_PREPARED: source(w, SE_HEAR_PREPARED, 1u << M_COMMIT); break;
		case D_RECEIVING: break;
		}
	dest(w, DE_RESTORED, 1u << M_RESTORED);
	dest(w, DE_FAIL, 1u << M_ABORTED);
	dest(w, DE_LINK_LOST, w.d == D_RECEIVING ? 1u << M_ABORTED : 0);
	if (w.in_flight & 1u << M_COMMIT)
		dest(w, DE_COMMIT, 1u << M_COMMITTED);
	if (w.in_flight & 1u << M_ABORT)
		dest(w, DE_ABORT, 1u << M_ABORTED);
	/* The destination asks: the source answers with the truth of now. */
	if (w.d == D_PREPARED && w.s == S_COMMITTING)
		dest(w, DE_COMMIT, 1u << M_COMMITTED);
	if (w.d == D_PREPARED && w.s == S_ABORTED)
		dest(w, DE_ABORT, 1u << M_ABORTED);
	/* The destination host restarts before the commit point: it knows nothing. */
	if (w.d != D_COMMITTED && w.d != D_UNKNOWN) {
		struct world n = w;
		n.d = D_UNKNOWN;
		visit(n);
	}
}

static void no_interleaving_lets_two_run_or_none(void **state)
{
	(void)state;
	visit((struct world){.s = S_COPYING, .d = D_RECEIVING});
	assert_true(visited > 20);
	assert_true(both_final > 0);
}

static void a_failure_in_doubt_decides_nothing(void **state)
{
	(void)state;
	enum gw_source_state s = S_COMMITTING;
	assert_true(gw_source_next(&s, SE_FAIL));
	assert_int_equal(s, S_COMMITTING);
}

static void a_commit_is_refused_before_the_copy_is_whole(void **state)
{
	(void)state;
	enum gw_dest_state d = D_RECEIVING;
	assert_false(gw_dest_next(&d, DE_COMMIT));
	assert_int_equal(d, D_RECEIVING);
	d = D_ABORTED;
	assert_false(gw_dest_next(&d, DE_COMMIT));
}

static void final_states_are_final(void **state)
{
	(void)state;
	for (int e = SE_FREEZE; e <= SE_HEAR_PREPARED; e++) {
		enum gw_source_state s = S_MOVED;
		(void)gw_source_next(&s, (enum gw_source_event)e);
		assert_int_equal(s, S_MOVED);
		s = S_ABORTED;
		(void)gw_source_next(&s, (enum gw_source_event)e);
		assert_int_equal(s, S_ABORTED);
	}
	for (int e = DE_RESTORED; e <= DE_LINK_LOST; e++) {
		enum gw_dest_state d = D_COMMITTED;
		(void)gw_dest_next(&d, (enum gw_dest_event)e);
		assert_int_equal(d, D_COMMITTED);
		d = D_ABORTED;
		(void)gw_dest_next(&d, (enum gw_dest_event)e);
		assert_int_equal(d, D_ABORTED);
	}
}

static void names_are_read_back(void **state)
{
	(void)state;
	for (int i = 0; i < NS; i++) {
		enum gw_source_state s;
		assert_true(gw_source_state_parse(gw_source_state_name((enum gw_source_state)i), &s));
		assert_int_equal(s, i);
		enum gw_dest_state d;
		assert_true(gw_dest_state_parse(gw_dest_state_name((enum gw_dest_state)i), &d));
		assert_int_equal(d, i);
	}
	enum gw_source_state s;
	assert_false(gw_source_state_parse("sleeping", &s));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(no_interleaving_lets_two_run_or_none),
	        cmocka_unit_test(a_failure_in_doubt_decides_nothing),
	        cmocka_unit_test(a_commit_is_refused_before_the_copy_is_whole),
	        cmocka_unit_test(final_states_are_final),
	        cmocka_unit_test(names_are_read_back),
	};
	return cmocka_run_group_tests_name("move/handover", tests, NULL, NULL);
}
