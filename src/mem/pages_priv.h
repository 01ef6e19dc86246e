#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/gw_err.h"
#include "mem/bits.h"
#include "mem/pages_link.h"
#include "mem/pages_map.h"

/* The inside of godwit-pages. One process, one thread:
 *
 *   pages_main.c   arguments, event loop, godwitd's socket, CRIU's socket
 *   pages_serve.c  consumers: page faults and events of one userfaultfd
 *   pages_fill.c   everything that nobody has asked for yet, and freeing
 *   pages_wipe.c   MADV_WIPEONFORK mappings, which a child must not inherit
 *   pages_keep.c   the keeper, a second process
 *   pages_self.c   what the process does to itself at its start
 *
 * A space is memory as it came; a consumer is a process that gets it. A fork
 * makes one more consumer of the same space. Rules that keep memory right:
 *
 *  1. `left` of a consumer has a bit for each page it still must get. A bit is
 *     cleared only by a copy that succeeded (or EEXIST), by an event that says
 *     the page is gone, or, after the restore, by ENOENT (not registered) while
 *     no event is on its way.
 *  2. A fault on a page without a bit is answered with zero.
 *  3. A page of the store is freed only when no consumer has its bit.
 *  4. The kernel refuses every copy (EAGAIN) from the moment a mapping changes
 *     until its event was read. So when a FORK event is read, `left` and map of
 *     the parent are those of the moment of the fork. */
enum {
	PIECE_PAGES = 16, /* one copy: 20-25 us with its read */
	CHUNK_PAGES = 32, /* one freeing: 18 us */
	MOVES_KEPT = 8,
	/* After the restore come what was written last and what is asked for, and for
	 * so long nothing else: the clients that were held are answered now. */
	REST_AFTER_US = 50000,
};

struct consumer {
	int uffd; /* -1: drained or gone, to be freed */
	pid_t vpid;
	struct space *space;
	struct consumer *next;    /* of all */
	struct consumer *sibling; /* of its space */
	struct consumer *parent;  /* until the fork is settled (see settle) */
	struct gw_bits *left;     /* the space's own map, or `mine` after a fork */
	struct gw_bits mine;
	uint64_t left_pages;
	struct gw_map map;
	bool changing;     /* the last copy said EAGAIN */
	uint64_t *waiting; /* addresses of page faults to be tried again */
	size_t nwaiting, cap_waiting;
	struct move {
		uint64_t from, to, len;
	} moves[MOVES_KEPT]; /* remaps since the last copy that succeeded */
	unsigned nmoves;
};

struct space {
	uint32_t id;
	pid_t vpid;
	int memfd;
	struct gw_bits data;
	uint64_t total_pages; /* as they came */
	struct consumer *first;
	struct space *next;
	struct wipe {
		uint64_t page, n;
	} *wipe; /* image pages of MADV_WIPEONFORK mappings */
	size_t nwipe;
};

struct release {
	struct space *space;
	uint64_t page, n;
};

struct server {
	const char *socket_path, *cgroup_dir, *reason_path, *label;
	struct link_shared *shared;
	int epoll, link, listener, criu, signals, self_pidfd, keeper_pidfd;
	pid_t keeper;
	struct space *spaces;
	struct consumer *consumers;
	bool given, restored, refused;
	/* CRIU's side: what has come of the next word; its pid, while the descriptor is still to come. */
	unsigned char word[4];
	unsigned nword;
	pid_t pending_vpid;
	/* filling */
	struct link_span *recent;
	uint64_t nrecent, at_recent, recent_page;
	size_t recent_bytes;
	struct space *fill_space;
	uint64_t fill_page;
	struct hot {
		struct space *space;
		uint64_t piece; /* its first page */
		uint64_t page;  /* the next to be filled */
		bool is_urgent;
	} hot[64], through; /* around the last faults; the last urgent one */
	unsigned nhot, nurgent;
	struct release *release;
	size_t nrelease, cap_release, at_release;
	bool pass_skipped;
	/* pages_wipe.c */
	struct wipe_scan {
		pid_t *pids;
		size_t n, cap, at;
		int smaps; /* of the process being read, -1: the next one */
		struct space *space;
		uint64_t start, end; /* of the mapping being read */
		char text[8192];
		size_t len;
		bool begun, done;
	} wipe;
	uint64_t restored_us, asked_ns, event_us, pause_us;
	/* Background work: done of this turn, not before, last done (pages_main.c). */
	uint64_t turn_us, sleep_until_us, worked_us, faults_seen;
	unsigned nwaiting, nunsettled;
	bool sweep;
	char *buf, *zero; /* PIECE_PAGES; one page */
	/* Why it cannot go on. */
	bool failed;
	struct gw_err why;
};

/* Give up: the reason goes to the keeper and to godwitd. First one wins. */
[[gnu::format(printf, 3, 4)]]
void pages_fail(struct server *s, int err, const char *fmt, ...);

/* pages_serve.c */
struct consumer *consumer_new(struct server *s, int take_uffd, pid_t vpid, struct gw_err *e);
/* Find its space and begin to answer its faults. */
void consumer_attach(struct server *s, struct consumer *c);
/* Closes; the kernel makes what is still missing zero. Freed by consumers_sweep. */
void consumer_end(struct server *s, struct consumer *c);
void consumers_sweep(struct server *s); /* ends the drained ones, frees the ended ones */
void consumer_read(struct server *s, struct consumer *c);
void consumers_retry(struct server *s); /* faults and forks that had to wait */
bool consumer_blocked(struct consumer *c);
/* Give it those of the image pages [page, page + n) that it has left; buf
 * holds them all. False: some have to be tried again later. */
bool consumer_fill(struct server *s, struct consumer *c, uint64_t page, uint64_t n, char *buf);

/* pages_fill.c */
/* One piece of what will be wanted at once. False: there is none. */
bool fill_soon(struct server *s);
/* One piece of what nobody waits for. */
enum fill_state { FILL_WORKED, FILL_BLOCKED, FILL_LATER, FILL_EMPTY };
enum fill_state fill_step(struct server *s);
void fill_hot(struct server *s, struct space *sp, uint64_t page);
/* Free these pages of the store, as far as nobody has them left then. */
void release_later(struct server *s, struct space *sp, uint64_t page, uint64_t n);
bool release_step(struct server *s, bool is_idle); /* false: nothing to do */
void space_free(struct space *sp);
int space_read(struct server *s, const struct space *sp, uint64_t page, uint64_t n, char *buf);

/* pages_wipe.c: learn `wipe` of every space, once, when the restore is whole
 * and page tables are still nearly empty (smaps of a large process is slow
 * later). In steps of some 30 us; finish does what is left at once. */
bool wipe_step(struct server *s); /* false: done */
void wipe_finish(struct server *s);
void wipe_forget(struct server *s);

/* pages_keep.c: start the keeper. It shares our descriptor table, so that
 * there is no moment at which only one of us holds a userfaultfd. */
int keeper_start(struct server *s);
/* fn for each process of the cgroup and of those below it; the first < 0, or 0. */
typedef int cgroup_fn(void *ctx, pid_t pid);
int cgroup_each(const char *dir, cgroup_fn *fn, void *ctx);

/* pages_self.c: priority, limits, out of godwitd's cgroups. Best effort. */
void self_prepare(void);
