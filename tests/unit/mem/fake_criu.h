#pragma once
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "mem/pages.h"
#include "mem/store.h"

/* fake_criu: a process that is "restored" with userfaultfd, as CRIU does it.
 *
 * A victim is a child of the test in a freezer cgroup of its own (one for the
 * scene). It makes a userfaultfd with CRIU's features, maps and registers
 * memory, sends pid and descriptor over the lazy-pages socket, and then
 * checks what it reads. In a victim nothing of cmocka may be called: V_CHECK
 * reports to the test and ends it. */
enum { PAGE = 4096, VICTIMS_MAX = 64, AREA_PAGES = 8192 };

static const uint64_t AREA = 0x200000000000u; /* where ASan has no shadow of its own */

struct report {
	atomic_uint wrong;   /* pages that were read with wrong contents */
	atomic_uint checked; /* pages that were right */
	atomic_uint stage;   /* for the test to wait on */
	atomic_uint stop;
	char text[300];
};

struct victim {
	pid_t pid;
	int ctl; /* test's end; in the victim: its own */
	int uffd, sock;
	struct report *rep;
	atomic_uint *turn; /* to speak on the socket */
};

struct scene {
	char dir[64], socket[128], reason[128], cgroup[128];
	struct gw_store *store;
	struct gw_pages *pages;
	struct victim v[VICTIMS_MAX];
	unsigned nv;
	atomic_uint *turn;
	int sock; /* as CRIU, connected to the page server */
};

typedef void victim_fn(struct victim *v, void *arg);

struct scene *scene_new(void);    /* NULL: see stderr */
void scene_free(struct scene *s); /* kills and removes everything, also half built */
struct victim *scene_victim(struct scene *s, victim_fn *body, void *arg);
/* A space for a victim, its pages [page, page + n) of AREA filled with their pattern. */
void scene_space(struct scene *s, const struct victim *v, uint32_t id);
void scene_pages(struct scene *s, uint32_t id, uint64_t page, uint32_t n);
/* The same for `pages` from 0, but every fourth 64 pages are a hole. */
struct area {
	uint32_t space;
	uint64_t pages;
};
void scene_area(struct scene *s, uint32_t id, uint64_t pages);
void scene_start(struct scene *s); /* page server up, its socket connected */
void scene_give(struct scene *s);
void scene_go(struct scene *s);     /* the victims get the socket and begin */
void scene_run(struct scene *s);    /* all three */
void scene_finish(struct scene *s); /* "the restore is whole" */
void scene_wait_done(struct scene *s);
void scene_wait_stage(struct scene *s, unsigned stage); /* of every victim */
/* Exit status must be 0 and nothing read wrong; returns pages checked. */
unsigned victim_wait(struct victim *v);
int victim_wait_status(struct victim *v); /* as waitpid's, whatever it is */
pid_t keeper_of(const struct scene *s);
bool is_gone(pid_t pid); /* or dead and not waited for */
void wait_gone(pid_t pid);

/* In the victim. */
void v_begin(struct victim *v);                           /* waits for scene_go, makes the userfaultfd */
char *v_map(struct victim *v, uint64_t page, uint64_t n); /* pages of AREA, registered */
void v_hand_over(struct victim *v);
void v_stage(struct victim *v, unsigned stage);
void v_fail(struct victim *v, const char *fmt, ...) __attribute__((format(printf, 2, 3), noreturn));
#define V_CHECK(v, cond)                                                                                               \
	do {                                                                                                           \
		if (!(cond))                                                                                           \
			v_fail(v, "%s:%d: %s: errno %d", __func__, __LINE__, #cond, errno);                            \
	} while (0)
/* The page at p must be the one that image page `page` of space had; 0 right. */
void page_fill(void *p, uint32_t space, uint64_t page);
bool page_is(const void *p, uint32_t space, uint64_t page);
bool page_is_zero(const void *p);
void v_is(struct victim *v, const void *p, uint32_t space, uint64_t page);
/* A page of scene_area. */
void v_expect(struct victim *v, const void *p, uint32_t space, uint64_t page);
void v_is_zero(struct victim *v, const void *p);
uint64_t v_random(uint64_t *state);
