#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/scope.h"
#include "mem/inject_arch.h"

/* svc #0. On this processor the kernel has already wound a restartable call
 * back (pc on the svc, x0 as it was) when the tracer sees the thread, so
 * restoring the registers begins it again. What a call with a relative
 * timeout (nanosleep) had already waited is waited again: the kernel keeps
 * its restart block only inside the stop that we run our calls in. */
const uint8_t gw_arch_syscall_insn[] = {0x01, 0x00, 0x00, 0xd4};
const size_t gw_arch_syscall_len = sizeof(gw_arch_syscall_insn), gw_arch_insn_align = 4;
const bool gw_arch_again_is_final = true;

void gw_arch_before(pid_t pid, pid_t tid, struct gw_before *out)
{
	char path[64];
	*out = (struct gw_before){0};
	gw_path(path, sizeof(path), "/proc/%d/task/%d/syscall", pid, tid);
	gw_auto(file) FILE *f = fopen(path, "re");
	unsigned long a[6], sp, pc;
	long nr;
	/* "running" or "-1 sp pc": not in a call that could be broken off. */
	if (f && fscanf(f, "%ld %lx %lx %lx %lx %lx %lx %lx %lx", &nr, &a[0], &a[1], &a[2], &a[3], &a[4], &a[5], &sp,
	                &pc) == 9)
		*out = (struct gw_before){.known = true, .nr = nr, .arg0 = a[0], .sp = sp, .pc = pc};
}

void gw_arch_call(gw_user_regs *r, uint64_t insn, long nr, const uint64_t args[6])
{
	r->pc = insn;
	r->regs[8] = (uint64_t)nr;
	memcpy(r->regs, args, 6 * sizeof(args[0]));
}

int64_t gw_arch_result(const gw_user_regs *r)
{
	return (int64_t)r->regs[0];
}

long gw_arch_eintr(const gw_user_regs *r, const struct gw_before *b)
{
	bool same = b->known && b->sp == r->sp && b->pc == r->pc && (uint64_t)b->nr == r->regs[8];
	return same && (int64_t)r->regs[0] == -EINTR ? b->nr : -1;
}

/* It has been wound back. */
long gw_arch_restart_block(const gw_user_regs *r)
{
	(void)r;
	return -1;
}

void gw_arch_again(gw_user_regs *r, const struct gw_before *b)
{
	r->regs[0] = b->arg0;
	r->pc -= sizeof(gw_arch_syscall_insn);
}
