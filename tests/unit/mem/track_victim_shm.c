/* The victims with shared memory. Steps are the same for every kind. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

#include "track_victim.h"

enum { PAGES = 64 };
static char *m;
static int segment = -1;
static char *second;
static int to_kid[2];

/* The object by another descriptor, which a container's process seldom can. */
static int again(int flags)
{
	char path[96];
	(void)snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", (unsigned long)m,
	               (unsigned long)m + PAGES * PAGE);
	int fd = open(path, flags | O_CLOEXEC);
	if (fd < 0)
		_exit(21);
	return fd;
}

static char *map_again(size_t len, int prot)
{
	if (segment >= 0)
		return shmat(segment, NULL, 0);
	int fd = again(prot & PROT_WRITE ? O_RDWR : O_RDONLY);
	char *p = mmap(NULL, len, prot, MAP_SHARED, fd, 0);
	(void)close(fd);
	return p;
}

/* Large, and mapped by so many that page tables for all of it would be too much. */
static void set_up_crowd(void)
{
	enum { SIZE = 128 << 20, CROWD = 400 };
	m = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (m == MAP_FAILED)
		_exit(27);
	memset(m, 1, SIZE);
	for (unsigned i = 0; i < CROWD; i++)
		if (fork() == 0) {
			(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (;;)
				(void)pause();
		}
}

static void set_up(const char *kind)
{
	if (!strcmp(kind, "crowd")) {
		set_up_crowd();
		return;
	}
	if (!strcmp(kind, "sysv")) {
		segment = shmget(IPC_PRIVATE, PAGES * PAGE, IPC_CREAT | 0600);
		m = shmat(segment, NULL, 0);
		/* It goes with its last process. */
		(void)shmctl(segment, IPC_RMID, NULL);
	} else if (!strcmp(kind, "anon")) {
		m = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	} else {
		int fd = memfd_create("vic tim", MFD_CLOEXEC);
		if (ftruncate(fd, PAGES * PAGE) < 0)
			_exit(22);
		m = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (strcmp(kind, "fd") != 0)
			(void)close(fd);
	}
	if (m == MAP_FAILED || pipe(to_kid) < 0)
		_exit(23);
}

/* A process that writes too, on demand. */
static pid_t writer(void)
{
	pid_t kid = fork();
	if (kid)
		return kid;
	char c;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	victim_mark(1000);
	while (read(to_kid[0], &c, 1) == 1)
		victim_fill(m + 5 * PAGE, 3 * PAGE);
	_exit(0);
}

/* A process that is never seen alive; waited for or not. */
static void passer_by(unsigned page, bool reap)
{
	pid_t p = fork();
	if (p == 0) {
		victim_mark(5000);
		victim_fill(m + page * PAGE, 2 * PAGE);
		_exit(0);
	}
	siginfo_t si;
	(void)waitid(P_PID, (id_t)p, &si, WEXITED | (reap ? 0 : WNOWAIT));
}

static void read_all(const volatile char *p)
{
	for (size_t i = 0; i < PAGES; i++)
		(void)p[i * PAGE];
}

static void write_through_another_mapping(void)
{
	char *p = map_again(PAGES * PAGE, PROT_READ | PROT_WRITE);
	if (p == MAP_FAILED)
		_exit(24);
	victim_fill(p + 30 * PAGE, 2 * PAGE);
	(void)munmap(p, PAGES * PAGE);
}

static void grow(void)
{
	int fd = again(O_RDWR);
	if (ftruncate(fd, 2L * PAGES * PAGE) < 0)
		_exit(25);
	char *p = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, PAGES * PAGE);
	if (p == MAP_FAILED)
		_exit(26);
	victim_fill(p, 3 * PAGE);
	(void)close(fd);
}

static void step(char c)
{
	switch (c) {
	case 'c': /* the other one writes */
		(void)!write(to_kid[1], "x", 1);
		(void)usleep(20000);
		break;
	case 'w': victim_fill(m + 40 * PAGE, 2 * PAGE); break;
	case 'd': /* its entries go, its contents do not */
		victim_fill(m + 10 * PAGE, 4 * PAGE);
		(void)madvise(m, PAGES * PAGE, MADV_DONTNEED);
		break;
	case 'r': (void)madvise(m + 20 * PAGE, 4 * PAGE, MADV_REMOVE); break;
	case 'h': /* a hole, and zero pages in it at once */
		(void)madvise(m + 8 * PAGE, 4 * PAGE, MADV_REMOVE);
		read_all(m);
		break;
	case 'b': /* written, and then behind a guard (MADV_GUARD_INSTALL) */
		victim_fill(m + 14 * PAGE, 2 * PAGE);
		(void)madvise(m + 14 * PAGE, 2 * PAGE, 102);
		break;
	case 'p': passer_by(28, true); break;
	case 'z': passer_by(26, false); break;
	case 'a': write_through_another_mapping(); break;
	case 'm': second = map_again(PAGES * PAGE, PROT_READ | PROT_WRITE); break;
	case 'u': /* the mapping that was there goes, after a write */
		victim_fill(second + 18 * PAGE, 2 * PAGE);
		(void)munmap(second, PAGES * PAGE);
		break;
	case 'o': read_all(map_again(PAGES * PAGE, PROT_READ)); break;
	case 's': (void)usleep(150000); break; /* times are settled */
	case 'g': grow(); break;
	default: victim_say("what?"); return;
	}
	victim_say("done");
}

void victim_more(const char *what)
{
	static const char with[] = "shared-";
	if (strncmp(what, with, sizeof(with) - 1) != 0)
		return;
	set_up(what + sizeof(with) - 1);
	victim_fill(m, 32 * PAGE);
	victim_say("ready");
	for (;;) {
		char c = victim_step();
		if (c == 'f')
			victim_say("%d", writer());
		else
			step(c);
	}
}
