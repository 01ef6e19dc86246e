/* A process that forks all the time: children that share its pages, write
 * their own copies, live a while, answer, and end; and a family that stays. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "victim.h"

enum { PAGE = 4096, PAGES = 2000, STAY = 6, SHORT = 4 };
static uint8_t *mem;
static struct member {
	pid_t pid, ppid, pgid, sid;
	uint32_t beats, bad;
} *family; /* shared */
static unsigned born, died, died_badly;
static pid_t shorts[SHORT];

static bool mine(uint64_t who)
{
	for (unsigned p = 0; p < PAGES; p++)
		if (!victim_filled(mem + (size_t)p * PAGE, PAGE, p % 3 ? p : who << 32 | p))
			return false;
	return true;
}
static void claim(uint64_t who)
{
	for (unsigned p = 0; p < PAGES; p += 3)
		victim_fill(mem + (size_t)p * PAGE, PAGE, who << 32 | p);
}

[[noreturn]]
static void stay(unsigned i)
{
	claim(i + 1);
	if (i == 2)
		(void)setsid();
	if (i == 3)
		(void)setpgid(0, 0);
	family[i] = (struct member){.pid = getpid(), .ppid = getppid(), .pgid = getpgid(0), .sid = getsid(0)};
	for (;;) {
		if (!mine(i + 1))
			family[i].bad++;
		family[i].beats++;
		victim_sleep_ms(100);
	}
}

static void fork_short(unsigned slot)
{
	pid_t p = fork();
	if (p == 0) {
		uint64_t who = 1000 + born;
		claim(who);
		victim_sleep_ms(50 + born % 7 * 40);
		_exit(mine(who) ? 0 : 1);
	}
	if (p > 0) {
		shorts[slot] = p;
		born++;
	}
}

static void tick(void)
{
	int status;
	for (unsigned i = 0; i < SHORT; i++) {
		if (shorts[i] && waitpid(shorts[i], &status, WNOHANG) == shorts[i]) {
			died++;
			if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
				died_badly++;
			shorts[i] = 0;
		}
		if (!shorts[i])
			fork_short(i);
	}
}

static const char *check(void)
{
	uint32_t before[STAY];
	if (died_badly)
		return victim_bad("%u of %u short-lived children found wrong memory or did not end well", died_badly,
		                  died);
	if (!mine(0))
		return "the parent's own memory is not what it was";
	for (unsigned i = 0; i < STAY; i++)
		before[i] = family[i].beats;
	victim_sleep_ms(300);
	for (unsigned i = 0; i < STAY; i++) {
		struct member *m = &family[i];
		if (m->beats == before[i])
			return victim_bad("child %u does not run", i);
		if (m->bad)
			return victim_bad("child %u found wrong memory", i);
		if (getpgid(m->pid) != m->pgid || getsid(m->pid) != m->sid || m->ppid != getpid())
			return victim_bad("child %u lost its group, session or parent", i);
	}
	return NULL;
}

int main(void)
{
	family = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	mem = mmap(NULL, (size_t)PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	VICTIM_MUST(family != MAP_FAILED && mem != MAP_FAILED);
	for (unsigned p = 0; p < PAGES; p++)
		victim_fill(mem + (size_t)p * PAGE, PAGE, p);
	for (unsigned i = 0; i < STAY; i++) {
		pid_t p = fork();
		VICTIM_MUST(p >= 0);
		if (p == 0)
			stay(i);
	}
	claim(0);
	for (unsigned i = 0; i < STAY; i++)
		while (!__atomic_load_n(&family[i].beats, __ATOMIC_SEQ_CST))
			victim_sleep_ms(1);
	victim_serve(check, tick);
}
