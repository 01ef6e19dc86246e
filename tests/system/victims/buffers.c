/* The shared buffers of a data base: 256 MiB of anonymous memory, a memfd whose
 * descriptor is closed and a System V segment, all written at random by a
 * parent and three children the whole time, with a version in each page. Each
 * process owns every fourth page; what it has written it notes in shared
 * memory too, so a write that is missed, torn or undone shows. */
#include <signal.h>
#include <stdio.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <unistd.h>

#include "victim.h"

enum { PAGE = 4096, SIDES = 4, KINDS = 3, PAGES_MAX = 65536 };
static const char *const kind_name[KINDS] = {"anonymous", "memfd", "System V"};
static const unsigned pages[KINDS] = {PAGES_MAX, 8192, 8192};
static uint8_t *mem[KINDS];
struct book {
	uint32_t stop, stopped;
	uint32_t version[KINDS][PAGES_MAX];
};
static struct book *book;
static pid_t child[SIDES];
static uint64_t rnd;

static void write_one(unsigned k, unsigned p)
{
	victim_fill(mem[k] + (size_t)p * PAGE, PAGE, (uint64_t)(k * PAGES_MAX + p) << 32 | (book->version[k][p] + 1));
	book->version[k][p]++;
}

static void write_some(unsigned side)
{
	for (unsigned i = 0; i < 16; i++) {
		unsigned k = (unsigned)(victim_random(&rnd) % KINDS);
		write_one(k, (unsigned)(victim_random(&rnd) % (pages[k] / SIDES)) * SIDES + side);
	}
}

/* Children stop between two writes, so that their pages can be read. */
static const char *check(void)
{
	const char *bad = NULL;
	for (unsigned i = 1; i < SIDES; i++)
		if (kill(child[i], 0) != 0)
			return "a child is gone";
	__atomic_store_n(&book->stop, 1, __ATOMIC_SEQ_CST);
	for (unsigned i = 0; __atomic_load_n(&book->stopped, __ATOMIC_SEQ_CST) != SIDES - 1; i++) {
		if (i > 5000)
			return "a child does not see what is written to shared memory";
		victim_sleep_ms(1);
	}
	for (unsigned k = 0; k < KINDS && !bad; k++)
		for (unsigned p = 0; p < pages[k] && !bad; p++)
			if (!victim_filled(mem[k] + (size_t)p * PAGE, PAGE,
			                   (uint64_t)(k * PAGES_MAX + p) << 32 | book->version[k][p]))
				bad = victim_bad("page %u of %s memory does not hold version %u", p, kind_name[k],
				                 book->version[k][p]);
	__atomic_store_n(&book->stop, 0, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&book->stopped, __ATOMIC_SEQ_CST) != 0)
		victim_sleep_ms(1);
	return bad;
}

static void parent_writes(void)
{
	write_some(0);
}

[[noreturn]]
static void child_main(unsigned side)
{
	rnd = 77 + side;
	for (;;) {
		if (__atomic_load_n(&book->stop, __ATOMIC_SEQ_CST)) {
			__atomic_add_fetch(&book->stopped, 1, __ATOMIC_SEQ_CST);
			while (__atomic_load_n(&book->stop, __ATOMIC_SEQ_CST))
				victim_sleep_ms(1);
			__atomic_sub_fetch(&book->stopped, 1, __ATOMIC_SEQ_CST);
		}
		write_some(side);
		victim_sleep_ms(2);
	}
}

static void *shared(size_t len, int fd)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);
	VICTIM_MUST(p != MAP_FAILED);
	return p;
}

int main(void)
{
	int fd = memfd_create("victim buffers", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	VICTIM_MUST(fd >= 0 && ftruncate(fd, (off_t)pages[1] * PAGE - 1000) == 0);
	mem[0] = shared((size_t)pages[0] * PAGE, -1);
	mem[1] = shared((size_t)pages[1] * PAGE, fd);
	(void)close(fd);
	int id = shmget(IPC_PRIVATE, (size_t)pages[2] * PAGE - 100, IPC_CREAT | 0600);
	VICTIM_MUST(id >= 0);
	mem[2] = shmat(id, NULL, 0);
	VICTIM_MUST(mem[2] != (void *)-1);
	book = shared(sizeof *book, -1);
	for (unsigned k = 0; k < KINDS; k++)
		for (unsigned p = 0; p < pages[k]; p++)
			victim_fill(mem[k] + (size_t)p * PAGE, PAGE, (uint64_t)(k * PAGES_MAX + p) << 32);
	for (unsigned i = 1; i < SIDES; i++) {
		child[i] = fork();
		VICTIM_MUST(child[i] >= 0);
		if (child[i] == 0)
			child_main(i);
	}
	victim_serve(check, parent_writes);
}
