/* SPDX-License-Identifier: MIT
 *
 * child: the process that CRIU forks for tar, without a copy of CRIU.
 *
 * For each tmpfs CRIU forks, and the child becomes tar, or here does tar's work (tmpfs.c).
 * A fork copies CRIU's mappings (some 300, of 60 libraries) and page tables, for both
 * sides to fault them in again and for the child to take them down: about half a millisecond
 * of the freeze for each of a container's tmpfs on either host (docs/bench.md). vfork(2) does without, and stops
 * the parent meanwhile, which does nothing but wait here anyway.
 *
 * fork() is not vfork(): the child goes on in the caller's frame, as its compiler was told
 * that nobody else does. So the stack above is put back before the parent goes on. What
 * else the child changes is its own (descriptors, signal mask, directory) or does no harm
 * when it stays (criu/util.c, cr_system_userns: it moves descriptors, and ends or becomes
 * another program). Where it first enters a user namespace it would leave a note in
 * CRIU's table of descriptors: then it is a fork. */
#include <dlfcn.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "godwit-criu.h"

static bool tar_next, userns;

void gwc_child_opened(const char *path, int fd)
{
	tar_next = fd >= 0 && !strncmp(path, "tmpfs-", 6);
	userns |= !strncmp(path, "userns-", 7);
}

#ifdef __x86_64__
enum { PAGE = 4096, STACK_MAX = 4 * PAGE, RED_ZONE = 128 };
static char stack[STACK_MAX + RED_ZONE];

/* Of the bytes from sp on, how many are there to be read. */
static size_t mapped(uintptr_t sp)
{
	uintptr_t at = sp & ~(uintptr_t)(PAGE - 1), end = at;
	unsigned char in[1];
	while (end - at < STACK_MAX && mincore((void *)end, PAGE, in) == 0)
		end += PAGE;
	return end - sp;
}

/* A second stack of return addresses would not be put back (CET, Linux 6.6 and later). */
static bool shadowed(void)
{
	uint64_t ssp = 0;
	__asm__ volatile("rdsspq %0" : "+r"(ssp));
	return ssp != 0;
}

/* One statement: between the two copies nothing of this frame may change. */
__attribute__((noinline)) static long clone_here(size_t n)
{
	long rc;
	register size_t len __asm__("r12") = n;
	register char *keep __asm__("r13") = stack;
	__asm__ volatile("lea -128(%%rsp), %%rsi\n\t"
	                 "mov %%r13, %%rdi\n\t"
	                 "mov %%r12, %%rcx\n\t"
	                 "rep movsb\n\t"
	                 "mov %[nr], %%eax\n\t"
	                 "mov %[flags], %%edi\n\t"
	                 "xor %%esi, %%esi\n\t"
	                 "xor %%edx, %%edx\n\t"
	                 "xor %%r10d, %%r10d\n\t"
	                 "xor %%r8d, %%r8d\n\t"
	                 "syscall\n\t"
	                 "test %%rax, %%rax\n\t"
	                 "jz 1f\n\t"
	                 "mov %%r13, %%rsi\n\t"
	                 "lea -128(%%rsp), %%rdi\n\t"
	                 "mov %%r12, %%rcx\n\t"
	                 "rep movsb\n\t"
	                 "1:"
	                 : "=&a"(rc)
	                 : "r"(len), "r"(keep), [nr] "i"(SYS_clone), [flags] "i"(CLONE_VM | CLONE_VFORK | SIGCHLD)
	                 : "rcx", "rdx", "rsi", "rdi", "r8", "r10", "r11", "memory", "cc");
	return rc;
}

static long child_here(void)
{
	/* Less than all of it: the other frame may begin a little higher. */
	return clone_here(mapped((uintptr_t)__builtin_frame_address(0)));
}
#endif

pid_t fork(void)
{
	static pid_t (*real)(void);
	bool is_tar = tar_next && !userns;
	tar_next = false;
#ifdef __x86_64__
	if (is_tar && !shadowed()) {
		long pid = child_here();
		if (pid >= 0)
			return (pid_t)pid;
	}
#else
	(void)is_tar;
#endif
	if (!real)
		real = (pid_t(*)(void))dlsym(RTLD_NEXT, "fork");
	return real();
}
