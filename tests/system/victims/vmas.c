/* Mappings that come, go, move, grow, shrink and change protection all the
 * time, with contents that say what they are. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "victim.h"

enum { PAGE = 4096, REGIONS = 48, MAX_PAGES = 256 };
static struct region {
	uint8_t *at;
	size_t pages;
	uint64_t seed;
	int prot;
} r[REGIONS];
static uint64_t rnd = 5;
static uint64_t next_seed = 1000000;

static void make(struct region *g)
{
	g->pages = 1 + victim_random(&rnd) % MAX_PAGES;
	g->seed = next_seed += MAX_PAGES;
	g->prot = PROT_READ | PROT_WRITE;
	g->at = mmap(NULL, g->pages * PAGE, g->prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (g->at == MAP_FAILED)
		abort();
	for (size_t p = 0; p < g->pages; p++)
		victim_fill(g->at + p * PAGE, PAGE, g->seed + p);
}

static void grow(struct region *g)
{
	size_t want = 1 + victim_random(&rnd) % MAX_PAGES;
	uint8_t *at = mremap(g->at, g->pages * PAGE, want * PAGE, MREMAP_MAYMOVE);
	if (at == MAP_FAILED)
		abort();
	g->at = at;
	for (size_t p = g->pages; p < want; p++)
		victim_fill(at + p * PAGE, PAGE, g->seed + p);
	g->pages = want;
}

static void move_away(struct region *g)
{
	uint8_t *place = mmap(NULL, g->pages * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (place == MAP_FAILED ||
	    mremap(g->at, g->pages * PAGE, g->pages * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, place) != place)
		abort();
	g->at = place;
}

static void protect(struct region *g, int prot)
{
	if (mprotect(g->at, g->pages * PAGE, prot) != 0)
		abort();
	g->prot = prot;
}

static void change(void)
{
	struct region *g = &r[victim_random(&rnd) % REGIONS];
	if (g->prot != (PROT_READ | PROT_WRITE)) {
		protect(g, PROT_READ | PROT_WRITE);
		return;
	}
	switch (victim_random(&rnd) % 6) {
	case 0:
		(void)munmap(g->at, g->pages * PAGE);
		make(g);
		break;
	case 1: grow(g); break;
	case 2: move_away(g); break;
	case 3: protect(g, PROT_READ); break;
	case 4: protect(g, PROT_NONE); break;
	default: /* emptied, as allocators do, and filled again */
		(void)madvise(g->at, g->pages * PAGE, MADV_DONTNEED);
		g->seed = next_seed += MAX_PAGES;
		for (size_t p = 0; p < g->pages; p++)
			victim_fill(g->at + p * PAGE, PAGE, g->seed + p);
	}
}

static const char *check(void)
{
	for (unsigned i = 0; i < REGIONS; i++) {
		int prot = r[i].prot;
		if (prot == PROT_NONE)
			protect(&r[i], PROT_READ);
		for (size_t p = 0; p < r[i].pages; p++)
			if (!victim_filled(r[i].at + p * PAGE, PAGE, r[i].seed + p))
				return victim_bad("page %zu of %zu of region %u (protection %d) is not what it was", p,
				                  r[i].pages, i, prot);
		if (prot == PROT_NONE)
			protect(&r[i], prot);
	}
	return NULL;
}

static void tick(void)
{
	for (int i = 0; i < 4; i++)
		change();
}

int main(void)
{
	for (unsigned i = 0; i < REGIONS; i++)
		make(&r[i]);
	victim_serve(check, tick);
}
