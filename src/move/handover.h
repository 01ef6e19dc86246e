#pragma once
#include <stdbool.h>

/* handover: who may run the container, at every instant.
 *
 *            source                                    destination
 *   S_COPYING ──freeze──▶ S_FROZEN                D_RECEIVING
 *       │                    │  ◀─── restored ───     │ restored
 *       │ fail               │ fail                   ▼
 *       ▼                    ▼                    D_PREPARED ──fail, abort──▶ D_ABORTED
 *   S_ABORTED ◀──────── S_FROZEN                      │
 *       ▲                    │ commit sent            │ commit received:
 *       │                    ▼                        │ THE COMMIT POINT
 *       └─dest: aborted─ S_COMMITTING                 ▼
 *                            │  ◀── committed ──  D_COMMITTED
 *                            ▼
 *                        S_MOVED
 *
 * The commit point is one event on one host: the destination makes the file
 * MIG.commit (rename on tmpfs). Before it the copy cannot run: CRIU waits for
 * that file, and kills its tasks if godwitd goes away without it. After it
 * the copy runs, whatever happens to either godwitd.
 *
 * Invariants (checked by gw_handover_invariant, tests/unit/move):
 *   1  The source may run only in S_COPYING and S_ABORTED.
 *   2  The copy may run only in D_COMMITTED.
 *   3  Not both of 1 and 2.
 *   4  D_COMMITTED is entered only from D_PREPARED, by the source's commit
 *      (its own message, or its answer "committing" when asked).
 *   5  S_ABORTED is entered from S_COMMITTING only by the destination's word
 *      that it aborted, or that it never knew of the migration (a host that
 *      restarted has no copy and can never make one).
 *   6  S_MOVED is entered only by the destination's word that it committed.
 *   7  D_COMMITTED, D_ABORTED, S_MOVED, S_ABORTED are final.
 *   8  A state that the other side may have acted upon is in the journal
 *      before the message that tells it is sent (S_COMMITTING before commit,
 *      D_COMMITTED before committed, D_ABORTED before aborted).
 *
 * In doubt are S_COMMITTING without an answer and D_PREPARED without a
 * commit: both sides stay stopped and ask each other until one answers, or a
 * person who knows that the other host is dead decides (godwit resolve).
 *
 * Pure: states in, state out. No I/O, any thread. */
enum gw_source_state { S_COPYING, S_FROZEN, S_COMMITTING, S_MOVED, S_ABORTED };
enum gw_dest_state { D_UNKNOWN, D_RECEIVING, D_PREPARED, D_COMMITTED, D_ABORTED };

enum gw_source_event {
	SE_FREEZE,         /* the tasks are stopped */
	SE_FAIL,           /* anything went wrong, or someone cancelled */
	SE_SEND_COMMIT,    /* restored was heard */
	SE_HEAR_COMMITTED, /* answer to commit or to a query */
	SE_HEAR_ABORTED,
	SE_HEAR_UNKNOWN,
	SE_HEAR_PREPARED, /* answer to a query: commit did not arrive; send it again */
};
enum gw_dest_event {
	DE_RESTORED,
	DE_FAIL,      /* restore failed, or the link broke before DE_RESTORED */
	DE_COMMIT,    /* the source's commit, or "committing" as its answer */
	DE_ABORT,     /* the source's abort, or "aborted", "unknown" as its answer */
	DE_LINK_LOST, /* while prepared: stay and ask */
};

/* Next state. false: this event cannot happen in this state and is refused
 * (the message of a peer that broke the protocol); *s is unchanged. */
bool gw_source_next(enum gw_source_state *s, enum gw_source_event e);
bool gw_dest_next(enum gw_dest_state *s, enum gw_dest_event e);

bool gw_source_may_run(enum gw_source_state s); /* invariant 1 */
bool gw_copy_may_run(enum gw_dest_state s);     /* invariant 2 */
bool gw_handover_invariant(enum gw_source_state s, enum gw_dest_state d);

const char *gw_source_state_name(enum gw_source_state s); /* "copying", ... as in the journal */
const char *gw_dest_state_name(enum gw_dest_state s);
bool gw_source_state_parse(const char *name, enum gw_source_state *out);
bool gw_dest_state_parse(const char *name, enum gw_dest_state *out);
