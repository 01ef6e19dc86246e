/* Shared memory of four kinds, each written by a parent and a child all the
 * time: anonymous, memfd, /dev/shm, System V. Each side owns every other page. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <unistd.h>

#include "victim.h"

enum { PAGE = 4096, PAGES = 2048, KINDS = 4 };
static const char *const kind_name[KINDS] = {"anonymous", "memfd", "/dev/shm", "System V"};
static uint8_t *mem[KINDS];
struct book {
	uint32_t busy; /* seqlock: odd while writing */
	uint32_t version[KINDS][PAGES];
};
static struct book *book;
static pid_t child;
static uint64_t rnd;

static void write_some(unsigned side)
{
	for (unsigned i = 0; i < 8; i++) {
		unsigned k = (unsigned)(victim_random(&rnd) % KINDS);
		unsigned p = (unsigned)(victim_random(&rnd) % (PAGES / 2)) * 2 + side;
		victim_fill(mem[k] + (size_t)p * PAGE, PAGE,
		            (uint64_t)(k * PAGES + p) << 32 | (book->version[k][p] + 1));
		book->version[k][p]++;
	}
}

static const char *pages_of(unsigned side)
{
	for (unsigned k = 0; k < KINDS; k++)
		for (unsigned p = side; p < PAGES; p += 2)
			if (!victim_filled(mem[k] + (size_t)p * PAGE, PAGE,
			                   (uint64_t)(k * PAGES + p) << 32 | book->version[k][p]))
				return victim_bad("page %u of %s memory does not hold version %u", p, kind_name[k],
				                  book->version[k][p]);
	return NULL;
}

/* The child stops at the end of a write, so that its pages can be read. */
static const char *check(void)
{
	if (kill(child, 0) != 0)
		return "the child is gone";
	__atomic_store_n(&book->busy, 1, __ATOMIC_SEQ_CST);
	for (unsigned i = 0; __atomic_load_n(&book->busy, __ATOMIC_SEQ_CST) != 2; i++) {
		if (i > 2000)
			return "the child does not see what is written to shared memory";
		victim_sleep_ms(1);
	}
	const char *bad = pages_of(0);
	if (!bad)
		bad = pages_of(1);
	__atomic_store_n(&book->busy, 0, __ATOMIC_SEQ_CST);
	return bad;
}

static void parent_writes(void)
{
	write_some(0);
}

[[noreturn]]
static void child_main(void)
{
	rnd = 77;
	for (;;) {
		uint32_t want = 1;
		if (__atomic_compare_exchange_n(&book->busy, &want, 2, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
			while (__atomic_load_n(&book->busy, __ATOMIC_SEQ_CST) == 2)
				victim_sleep_ms(1);
		write_some(1);
		victim_sleep_ms(2);
	}
}

static uint8_t *map_fd(int fd)
{
	VICTIM_MUST(fd >= 0 && ftruncate(fd, (off_t)PAGES * PAGE) == 0);
	return mmap(NULL, (size_t)PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
}

int main(void)
{
	mem[0] = mmap(NULL, (size_t)PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	mem[1] = map_fd(memfd_create("victim", MFD_CLOEXEC));
	mem[2] = map_fd(open("/dev/shm/victim", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
	int id = shmget(IPC_PRIVATE, (size_t)PAGES * PAGE, IPC_CREAT | 0600);
	VICTIM_MUST(id >= 0);
	mem[3] = shmat(id, NULL, 0);
	book = mmap(NULL, sizeof *book, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	VICTIM_MUST(book != MAP_FAILED);
	for (unsigned k = 0; k < KINDS; k++) {
		VICTIM_MUST(mem[k] != MAP_FAILED);
		for (unsigned p = 0; p < PAGES; p++)
			victim_fill(mem[k] + (size_t)p * PAGE, PAGE, (uint64_t)(k * PAGES + p) << 32);
	}
	child = fork();
	VICTIM_MUST(child >= 0);
	if (child == 0)
		child_main();
	victim_serve(check, parent_writes);
}
