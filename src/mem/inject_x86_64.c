#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "mem/inject_arch.h"

/* Not in uapi headers: the kernel's own (include/linux/errno.h). Seen by a
 * tracer in rax; the kernel turns it into EINTR when a handler runs, and
 * into the same call again otherwise. */
enum { ERESTARTNOHAND = 514, ERESTART_RESTARTBLOCK = 516 };

const uint8_t gw_arch_syscall_insn[] = {0x0f, 0x05};
const size_t gw_arch_syscall_len = sizeof(gw_arch_syscall_insn), gw_arch_insn_align = 1;
const bool gw_arch_again_is_final = false;

void gw_arch_before(pid_t pid, pid_t tid, struct gw_before *out)
{
	(void)pid;
	(void)tid;
	*out = (struct gw_before){0};
}

void gw_arch_call(gw_user_regs *r, uint64_t insn, long nr, const uint64_t args[6])
{
	r->rip = insn;
	r->rax = (unsigned long)nr;
	/* Not inside a system call: or the kernel "restarts" one on the way out. */
	r->orig_rax = (unsigned long)-1;
	r->rdi = args[0];
	r->rsi = args[1];
	r->rdx = args[2];
	r->r10 = args[3];
	r->r8 = args[4];
	r->r9 = args[5];
}

int64_t gw_arch_result(const gw_user_regs *r)
{
	return (int64_t)r->rax;
}

long gw_arch_eintr(const gw_user_regs *r, const struct gw_before *b)
{
	(void)b;
	return (int64_t)r->rax == -EINTR ? (long)r->orig_rax : -1;
}

long gw_arch_restart_block(const gw_user_regs *r)
{
	return (int64_t)r->rax == -ERESTART_RESTARTBLOCK ? (long)r->orig_rax : -1;
}

void gw_arch_again(gw_user_regs *r, const struct gw_before *b)
{
	(void)b;
	r->rax = (unsigned long)-ERESTARTNOHAND;
}
