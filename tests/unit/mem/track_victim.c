/* track_victim WHAT: a process with a memory worth tracking.
 *
 * It sets something up, says "ready", and then does one step for each letter
 * it reads, answering with one line ("done", or what the test wants to know).
 * Built without sanitizers: its mappings must be those that it makes. */
#include "track_victim.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

void victim_say(const char *fmt, ...)
{
	char line[256];
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(line, sizeof(line) - 1, fmt, ap);
	va_end(ap);
	line[n++] = '\n';
	if (write(1, line, (size_t)n) != n)
		_exit(1);
}

char victim_step(void)
{
	char c;
	ssize_t n;
	do
		n = read(0, &c, 1);
	while (n < 0 && errno == EINTR);
	if (n != 1)
		_exit(0);
	return c;
}

char *victim_map(size_t len, int prot)
{
	char *m = mmap(NULL, len, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m == MAP_FAILED)
		_exit(2);
	return m;
}

static unsigned mark;

void victim_mark(unsigned add)
{
	mark += add;
}

/* Something else in every page and at every call. */
void victim_fill(char *m, size_t len)
{
	for (size_t i = 0; i < len; i += PAGE)
		*(unsigned *)(m + i) = ++mark;
}

/* A big one, of which steps write a little. */
static void plain(void)
{
	enum { PAGES = 4096 };
	char *m = victim_map(PAGES * PAGE, PROT_READ | PROT_WRITE);
	/* Soft-dirty is one bit for a huge page. */
	(void)madvise(m, PAGES * PAGE, MADV_NOHUGEPAGE);
	victim_fill(m, PAGES * PAGE);
	victim_say("ready");
	for (;;)
		switch (victim_step()) {
		case 'a': /* where */ victim_say("%lx", (unsigned long)m); break;
		case 'w': /* ten pages */
			for (int i = 0; i < 10; i++)
				victim_fill(m + i * 100 * PAGE, PAGE);
			victim_say("done");
			break;
		case 'r': /* read only */ {
			volatile char sum = 0;
			for (int i = 0; i < PAGES; i++)
				sum = (char)(sum + m[i * PAGE]);
			victim_say("done");
			break;
		}
		case 'd':
			(void)madvise(m + 64 * PAGE, 64 * PAGE, MADV_DONTNEED);
			victim_say("done");
			break;
		case 'z': /* the zero page in their place */ {
			volatile char sum = 0;
			(void)madvise(m + 256 * PAGE, 64 * PAGE, MADV_DONTNEED);
			for (int i = 256; i < 320; i++)
				sum = (char)(sum + m[i * PAGE]);
			victim_say("done");
			break;
		}
		case 'u':
			(void)munmap(m + 512 * PAGE, 64 * PAGE);
			victim_say("done");
			break;
		case 'o': /* another mapping in the same place */
			(void)munmap(m + 640 * PAGE, 64 * PAGE);
			if (mmap(m + 640 * PAGE, 64 * PAGE, PROT_READ | PROT_WRITE,
			         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
				_exit(3);
			victim_fill(m + 650 * PAGE, 8 * PAGE);
			victim_say("done");
			break;
		case 'p': /* PROT_NONE with contents */
			victim_fill(m + 768 * PAGE, 16 * PAGE);
			(void)mprotect(m + 768 * PAGE, 16 * PAGE, PROT_NONE);
			victim_say("done");
			break;
		case 'q':
			(void)mprotect(m + 768 * PAGE, 16 * PAGE, PROT_READ | PROT_WRITE);
			victim_say("done");
			break;
		case 'b': /* the heap grows */
			victim_fill(sbrk(64 * PAGE), 64 * PAGE);
			victim_say("done");
			break;
		case 'm': /* moved away, and back to half the place */ {
			char *n = mremap(m + 1024 * PAGE, 64 * PAGE, 64 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
			                 victim_map(64 * PAGE, PROT_NONE));
			if (n == MAP_FAILED || mremap(n, 32 * PAGE, 32 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
			                              m + 1024 * PAGE) == MAP_FAILED)
				_exit(4);
			victim_say("done");
			break;
		}
		case 'l': victim_say(mlock(m + 1200 * PAGE, 32 * PAGE) == 0 ? "done" : "no"); break;
		case 'k':
			(void)munlock(m + 1200 * PAGE, 32 * PAGE);
			victim_fill(m + 1210 * PAGE, PAGE);
			victim_say("done");
			break;
		default: victim_say("what?");
		}
}

/* A moved mapping that merges with a neighbour which was there before. */
static void merge(void)
{
	char *m = victim_map(256 * PAGE, PROT_READ | PROT_WRITE), *away = victim_map(256 * PAGE, PROT_NONE);
	victim_fill(m, 256 * PAGE);
	victim_say("ready");
	for (;;)
		switch (victim_step()) {
		case 'm':
			/* Away and back: the offsets fit again, so it merges. */
			if (mremap(m + 128 * PAGE, 128 * PAGE, 128 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, away) ==
			            MAP_FAILED ||
			    mremap(away, 128 * PAGE, 128 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, m + 128 * PAGE) ==
			            MAP_FAILED)
				_exit(4);
			victim_fill(m + 10 * PAGE, 20 * PAGE);
			victim_say("done");
			break;
		case 'w':
			victim_fill(m + 15 * PAGE, 2 * PAGE);
			victim_say("done");
			break;
		default: victim_say("what?");
		}
}

static void children(void)
{
	char *m = victim_map(256 * PAGE, PROT_READ | PROT_WRITE);
	char *secret = victim_map(16 * PAGE, PROT_READ | PROT_WRITE);
	pid_t kid[64];
	int n = 0;
	victim_fill(m, 256 * PAGE);
	victim_fill(secret, 16 * PAGE);
	(void)madvise(secret, 16 * PAGE, MADV_DONTFORK);
	victim_say("ready");
	for (;;)
		switch (victim_step()) {
		case 'f':
			kid[n] = fork();
			if (kid[n] == 0) {
				(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
				victim_fill(m + 20 * PAGE, 10 * PAGE);
				for (;;)
					pause();
			}
			victim_fill(m + 25 * PAGE, 10 * PAGE);
			victim_say("%d", kid[n++]);
			break;
		case 'k': /* the last one ends, and is reaped */
			(void)kill(kid[--n], SIGKILL);
			(void)waitpid(kid[n], NULL, 0);
			victim_say("done");
			break;
		case 'z': /* ends and stays a zombie */
			(void)kill(kid[--n], SIGKILL);
			(void)waitid(P_PID, (id_t)kid[n], NULL, WEXITED | WNOWAIT);
			victim_say("done");
			break;
		case 'c': /* many that come and go */
			for (int i = 0; i < 200; i++) {
				pid_t p = fork();
				if (p == 0) {
					victim_fill(m + 50 * PAGE, 5 * PAGE);
					_exit(0);
				}
				if (i % 2)
					(void)waitpid(p, NULL, 0);
			}
			while (waitpid(-1, NULL, WNOHANG) > 0)
				;
			victim_say("done");
			break;
		default: victim_say("what?");
		}
}

static int vfork_child(void *arg)
{
	int *to = arg;
	char c;
	(void)close(to[1]);
	while (read(to[0], &c, 1) < 0 && errno == EINTR)
		;
	_exit(0);
}

/* 'v': a vfork whose child sits there until 'x' comes to a thread. */
static int vfork_pipe[2];

static void *vfork_thread(void *arg)
{
	(void)arg;
	static char stack[64 << 10];
	pid_t p = clone(vfork_child, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD, vfork_pipe);
	(void)waitpid(p, NULL, 0);
	return NULL;
}

static void vforks(void)
{
	char *m = victim_map(16 * PAGE, PROT_READ | PROT_WRITE);
	victim_fill(m, 16 * PAGE);
	if (pipe(vfork_pipe) < 0)
		_exit(5);
	pthread_t th;
	victim_say("ready");
	for (;;)
		switch (victim_step()) {
		case 't': /* in a thread: another one can still be stopped */
			(void)pthread_create(&th, NULL, vfork_thread, NULL);
			usleep(50000);
			victim_say("done");
			break;
		case 'v': /* in the only thread; the answer comes before */
			victim_say("done");
			(void)vfork_thread(NULL);
			break;
		case 'x':
			(void)!write(vfork_pipe[1], "x", 1);
			victim_say("done");
			break;
		default: victim_say("what?");
		}
}

static void execs(const char *self)
{
	char *m = victim_map(256 * PAGE, PROT_READ | PROT_WRITE);
	victim_fill(m, 256 * PAGE);
	victim_say("ready");
	for (;;)
		switch (victim_step()) {
		case 'e': execl(self, "track_victim", "plain", NULL); _exit(6);
		default: victim_say("what?");
		}
}

static void many(void)
{
	enum { VMAS = 3000 };
	char *m = victim_map(VMAS * 2 * PAGE, PROT_READ | PROT_WRITE);
	for (int i = 0; i < VMAS; i++) {
		victim_fill(m + i * 2 * PAGE, PAGE);
		if (mprotect(m + (i * 2 + 1) * PAGE, PAGE, PROT_READ) < 0)
			_exit(7);
	}
	victim_say("ready");
	for (;;)
		switch (victim_step()) {
		case 'w':
			for (int i = 0; i < VMAS; i += 7)
				victim_fill(m + i * 2 * PAGE, PAGE);
			victim_say("done");
			break;
		default: victim_say("what?");
		}
}

static unsigned deep(unsigned n)
{
	volatile char here[PAGE];
	here[0] = (char)n;
	here[PAGE - 1] = (char)mark;
	return n ? deep(n - 1) + (unsigned)here[0] : 0;
}

static void stack(void)
{
	(void)deep(10);
	victim_say("ready");
	for (;;)
		switch (victim_step()) {
		case 'g':
			mark++;
			victim_say("%u", deep(200));
			break;
		default: victim_say("what?");
		}
}

static void sparse(void)
{
	size_t len = (size_t)64 << 30;
	char *m = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (m == MAP_FAILED)
		_exit(8);
	for (size_t i = 0; i < 64; i++)
		victim_fill(m + (i << 30) + i * PAGE, PAGE);
	victim_say("ready");
	for (;;)
		switch (victim_step()) {
		case 'w':
			for (size_t i = 0; i < 64; i += 5)
				victim_fill(m + (i << 30) + 77 * PAGE, 2 * PAGE);
			victim_say("done");
			break;
		default: victim_say("what?");
		}
}

static void huge(void)
{
	size_t len = (size_t)16 << 20;
	char *m = victim_map(len + (2 << 20), PROT_READ | PROT_WRITE);
	m = (char *)(((unsigned long)m + (2 << 20) - 1) & ~((2ul << 20) - 1));
	if (madvise(m, len, MADV_HUGEPAGE) < 0) {
		victim_say("skip");
		_exit(0);
	}
	victim_fill(m, len / 2);
	victim_say("ready");
	for (;;)
		switch (victim_step()) {
		case 'a': victim_say("%lx", (unsigned long)m); break;
		case 'w':
			victim_fill(m + 600 * PAGE, PAGE);
			victim_say("done");
			break;
		case 'z': /* the huge zero page */ {
			(void)madvise(m, 2 << 20, MADV_DONTNEED);
			volatile char c = m[5 * PAGE];
			volatile char d = m[len - 5 * PAGE];
			victim_say("done%d", c + d);
			break;
		}
		case 'd':
			(void)madvise(m + 700 * PAGE, 10 * PAGE, MADV_DONTNEED);
			victim_say("done");
			break;
		default: victim_say("what?");
		}
}

/* Memory that is not anybody's to carry as pages. */
static void odd(void)
{
	char *m = victim_map(64 * PAGE, PROT_READ | PROT_WRITE);
	victim_fill(m, 64 * PAGE);
	char *drop = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, 0x08 /* MAP_DROPPABLE */ | MAP_ANONYMOUS, -1, 0);
	if (drop != MAP_FAILED)
		victim_fill(drop, 4 * PAGE);
	char *locked = victim_map(8 * PAGE, PROT_READ | PROT_WRITE);
	(void)mlock(locked, 8 * PAGE);
	victim_fill(locked, 8 * PAGE);
	(void)madvise(m + 16 * PAGE, 4 * PAGE, 102 /* MADV_GUARD_INSTALL */);
	(void)madvise(m + 32 * PAGE, 4 * PAGE, MADV_DONTDUMP);
	(void)madvise(m + 40 * PAGE, 4 * PAGE, MADV_WIPEONFORK);
	int zero = open("/dev/zero", O_RDWR);
	char *z = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, zero, 0);
	if (z != MAP_FAILED)
		victim_fill(z, 4 * PAGE);
	int self = open("/proc/self/exe", O_RDONLY);
	char *cow = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, self, 0);
	if (cow != MAP_FAILED)
		victim_fill(cow, 2 * PAGE);
	victim_say("ready");
	for (;;)
		switch (victim_step()) {
		case 'g': /* guards where there were pages */
			(void)madvise(m + 50 * PAGE, 4 * PAGE, 102);
			victim_say("done");
			break;
		case 'w':
			victim_fill(locked, 2 * PAGE);
			victim_fill(m, 2 * PAGE);
			victim_say("done");
			break;
		case 's': /* advice for a part: two mappings of one */
			victim_fill(m, PAGE);
			(void)madvise(m + 4 * PAGE, 4 * PAGE, MADV_DONTFORK);
			victim_say("done");
			break;
		case 'n': /* a new one, and one with other protection */
			victim_fill(victim_map(32 * PAGE, PROT_READ | PROT_WRITE), 4 * PAGE);
			(void)mprotect(m, 2 * PAGE, PROT_READ);
			victim_say("done");
			break;
		default: victim_say("what?");
		}
}

int main(int argc, char **argv)
{
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	const char *what = argc > 1 ? argv[1] : "";
	if (n < 0)
		return 1;
	self[n] = 0;
	static const struct {
		const char *name;
		void (*run)(void);
	} all[] = {
	        {"plain", plain}, {"merge", merge},   {"children", children}, {"vforks", vforks}, {"many", many},
	        {"stack", stack}, {"sparse", sparse}, {"huge", huge},         {"odd", odd},
	};
	if (!strcmp(what, "execs"))
		execs(self);
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (!strcmp(what, all[i].name))
			all[i].run();
	victim_more(what);
	return 64;
}
