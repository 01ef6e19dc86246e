/* One mapping of every kind: guards, read-only, a file copied on write, a file
 * shared, sparse, huge reserves, a hole in the middle, locked, with madvise flags. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "victim.h"

enum { PAGE = 4096 };
static const size_t MIB = 1048576;
static uint8_t *guarded, *readonly, *cow, *shared_file, *sparse, *reserve, *beyond, *holed, *locked, *thp, *wipe;
static uint8_t original[PAGE];

static uint8_t *anon(size_t len, int prot, int flags)
{
	void *p = mmap(NULL, len, prot, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
	VICTIM_MUST(p != MAP_FAILED);
	return p;
}

/* The word after NAME in /proc/self/status or the flag in an address's smaps. */
static bool has_flag(const void *at, const char *flag)
{
	char line[512];
	bool in = false;
	bool yes = false;
	FILE *f = fopen("/proc/self/smaps", "re");
	if (!f)
		return false;
	while (fgets(line, sizeof line, f)) {
		unsigned long from;
		unsigned long to;
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			in = (uintptr_t)at >= from && (uintptr_t)at < to;
		else if (in && strncmp(line, "VmFlags:", 8) == 0)
			yes = strstr(line, flag) != NULL;
	}
	(void)fclose(f);
	return yes;
}

static bool unmapped(void *at)
{
	unsigned char v;
	return mincore(at, PAGE, &v) != 0;
}

static const char *check_contents(void)
{
	for (size_t p = 1; p < 9; p++)
		if (!victim_filled(guarded + p * PAGE, PAGE, 100 + p))
			return "the memory between two guards changed";
	if (!victim_filled(readonly, PAGE, 200))
		return "read-only memory changed";
	if (!victim_filled(cow + PAGE, PAGE, 300))
		return "a written page of a private file mapping is lost";
	if (memcmp(cow, original, PAGE) != 0)
		return "an untouched page of a private file mapping is not the file's";
	if (!victim_filled(shared_file, PAGE, 400))
		return "a page of a shared file mapping is lost";
	if (!victim_filled(sparse, PAGE, 500) || !victim_filled(sparse + 512 * MIB, PAGE, 501) || sparse[7 * MIB] != 0)
		return "sparse memory is not what it was";
	if (!victim_filled(reserve + ((size_t)32 << 30), PAGE, 600))
		return "the one page of a huge reservation is lost";
	if (!victim_filled(beyond + ((size_t)1 << 42), PAGE, 650))
		return "the one page of a reservation beyond all memory is lost";
	if (!victim_filled(holed, PAGE, 700) || !victim_filled(holed + PAGE + 64 * MIB, PAGE, 702))
		return "memory beside a hole is lost";
	if (!victim_filled(locked, PAGE, 800) || !victim_filled(thp, 4 * MIB, 900) || !victim_filled(wipe, PAGE, 1000))
		return "locked, huge or wipe-on-fork memory is lost";
	return NULL;
}

static const char *check(void)
{
	const char *bad = check_contents();
	if (bad)
		return bad;
	if (!unmapped(holed + 32 * MIB))
		return "a hole is filled";
	if (!has_flag(locked, " lo"))
		return "locked memory is no longer locked";
	if (!has_flag(wipe, " wf"))
		return "wipe-on-fork is forgotten";
	if (!has_flag(sparse, " dd"))
		return "don't-dump is forgotten";
	int p[2];
	if (pipe(p) != 0)
		return "no pipe";
	bool guard_there = write(p[1], guarded, 1) < 0 && write(p[1], readonly, 1) == 1 && read(p[0], readonly, 1) < 0;
	(void)close(p[0]);
	(void)close(p[1]);
	return guard_there ? NULL : "a guard page can be read, or read-only memory written";
}

static void set_up_files(void)
{
	int fd = open("/tmp/file", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int exe = open("/usr/bin/redis-server", O_RDONLY | O_CLOEXEC);
	VICTIM_MUST(fd >= 0 && exe >= 0 && ftruncate(fd, 4 * PAGE) == 0);
	shared_file = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	cow = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, exe, 0);
	VICTIM_MUST(shared_file != MAP_FAILED && cow != MAP_FAILED);
	VICTIM_MUST(pread(exe, original, PAGE, 0) == PAGE);
	(void)close(fd);
	(void)close(exe);
	victim_fill(cow + PAGE, PAGE, 300);
	victim_fill(shared_file, PAGE, 400);
}

int main(void)
{
	const int rw = PROT_READ | PROT_WRITE;
	guarded = anon(10 * PAGE, PROT_NONE, 0);
	VICTIM_MUST(mprotect(guarded + PAGE, 8 * PAGE, rw) == 0);
	for (size_t p = 1; p < 9; p++)
		victim_fill(guarded + p * PAGE, PAGE, 100 + p);
	readonly = anon(PAGE, rw, 0);
	victim_fill(readonly, PAGE, 200);
	VICTIM_MUST(mprotect(readonly, PAGE, PROT_READ) == 0);
	set_up_files();
	sparse = anon(1024 * MIB, rw, MAP_NORESERVE);
	VICTIM_MUST(madvise(sparse, 1024 * MIB, MADV_DONTDUMP) == 0);
	victim_fill(sparse, PAGE, 500);
	victim_fill(sparse + 512 * MIB, PAGE, 501);
	reserve = anon((size_t)64 << 30, PROT_NONE, MAP_NORESERVE);
	VICTIM_MUST(mprotect(reserve + ((size_t)32 << 30), PAGE, rw) == 0);
	victim_fill(reserve + ((size_t)32 << 30), PAGE, 600);
	/* As MariaDB does: writable and without MAP_NORESERVE no kernel would give it. */
	beyond = anon((size_t)1 << 43, PROT_NONE, 0);
	VICTIM_MUST(mprotect(beyond + ((size_t)1 << 42), PAGE, rw) == 0);
	victim_fill(beyond + ((size_t)1 << 42), PAGE, 650);
	locked = anon(4 * PAGE, rw, 0);
	victim_fill(locked, PAGE, 800);
	VICTIM_MUST(mlock(locked, 4 * PAGE) == 0);
	thp = anon(4 * MIB, rw, 0);
	(void)madvise(thp, 4 * MIB, MADV_HUGEPAGE);
	victim_fill(thp, 4 * MIB, 900);
	wipe = anon(PAGE, rw, 0);
	VICTIM_MUST(madvise(wipe, PAGE, MADV_WIPEONFORK) == 0);
	victim_fill(wipe, PAGE, 1000);
	/* 64 MiB wide and last: no later mapping lands in it. */
	holed = anon(2 * PAGE + 64 * MIB, rw, 0);
	victim_fill(holed, PAGE, 700);
	victim_fill(holed + PAGE + 64 * MIB, PAGE, 702);
	VICTIM_MUST(munmap(holed + PAGE, 64 * MIB) == 0);
	victim_serve(check, NULL);
}
