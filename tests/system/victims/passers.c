/* Shared memory that processes write which live for a moment only: every few
 * milliseconds a child is forked, writes some pages of anonymous memory, a memfd
 * or a System V segment (its own attachment), and ends; some are waited for late.
 * No look at the list of processes sees them. The parent says afterwards which
 * version each page must have. */
#include <stdio.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

#include "victim.h"

enum { PAGE = 4096, KINDS = 3, PAGES = 1024, AT_ONCE = 4, LATE = 5 };
static const char *const kind_name[KINDS] = {"anonymous", "memfd", "System V"};
static uint8_t *mem[KINDS];
static uint32_t version[KINDS][PAGES]; /* the parent's own memory */
static int segment;
static uint64_t rnd;
static unsigned passed, unreaped;

static uint64_t seed_of(unsigned k, unsigned p, uint32_t v)
{
	return (uint64_t)(k * PAGES + p) << 32 | v;
}

/* It ends without a word to anyone; what it has written stays. */
static void pass_by(unsigned k, const unsigned p[AT_ONCE])
{
	pid_t pid = fork();
	VICTIM_MUST(pid >= 0);
	if (pid == 0) {
		uint8_t *to = k == 2 ? shmat(segment, NULL, 0) : mem[k];
		for (unsigned i = 0; i < AT_ONCE; i++)
			victim_fill(to + (size_t)p[i] * PAGE, PAGE, seed_of(k, p[i], version[k][p[i]] + 1));
		_exit(0);
	}
	siginfo_t si;
	VICTIM_MUST(waitid(P_PID, (id_t)pid, &si, WEXITED | WNOWAIT) == 0);
	for (unsigned i = 0; i < AT_ONCE; i++)
		version[k][p[i]]++;
	if (++unreaped < LATE)
		return;
	while (waitpid(-1, NULL, WNOHANG) > 0)
		unreaped--;
}

static void some_pass(void)
{
	unsigned p[AT_ONCE], k = (unsigned)(victim_random(&rnd) % KINDS), at = (unsigned)(victim_random(&rnd) % PAGES);
	for (unsigned i = 0; i < AT_ONCE; i++)
		p[i] = (at + i * 101) % PAGES;
	pass_by(k, p);
	passed++;
}

static const char *check(void)
{
	if (passed < 3)
		return "nobody has passed by";
	for (unsigned k = 0; k < KINDS; k++)
		for (unsigned p = 0; p < PAGES; p++)
			if (!victim_filled(mem[k] + (size_t)p * PAGE, PAGE, seed_of(k, p, version[k][p])))
				return victim_bad("page %u of %s memory does not hold version %u", p, kind_name[k],
				                  version[k][p]);
	return NULL;
}

int main(void)
{
	int fd = memfd_create("passers", MFD_CLOEXEC);
	VICTIM_MUST(fd >= 0 && ftruncate(fd, (off_t)PAGES * PAGE) == 0);
	segment = shmget(IPC_PRIVATE, (size_t)PAGES * PAGE, IPC_CREAT | 0600);
	VICTIM_MUST(segment >= 0);
	mem[0] = mmap(NULL, (size_t)PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	mem[1] = mmap(NULL, (size_t)PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	mem[2] = shmat(segment, NULL, 0);
	(void)close(fd);
	for (unsigned k = 0; k < KINDS; k++) {
		VICTIM_MUST(mem[k] != MAP_FAILED);
		for (unsigned p = 0; p < PAGES; p++)
			victim_fill(mem[k] + (size_t)p * PAGE, PAGE, seed_of(k, p, 0));
	}
	victim_serve(check, some_pass);
}
