#pragma once
#include <elf.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

/* Both processors call it so. */
typedef struct user_regs_struct gw_user_regs;

/* inject_arch: what inject.c has to know about a processor. One file each. */

/* Where a thread was before it was stopped; arm64 has no other way to learn
 * the first argument of the system call that the stop has broken off. */
struct gw_before {
	bool known;
	long nr;
	uint64_t arg0, sp, pc;
};
void gw_arch_before(pid_t pid, pid_t tid, struct gw_before *out);

/* The instruction that makes a system call. */
extern const uint8_t gw_arch_syscall_insn[];
extern const size_t gw_arch_syscall_len, gw_arch_insn_align;

/* Make `r` ready to execute a system call whose instruction is at insn. */
void gw_arch_call(gw_user_regs *r, uint64_t insn, long nr, const uint64_t args[6]);
int64_t gw_arch_result(const gw_user_regs *r);

/* The call that the stop has broken off with EINTR, though no signal came:
 * its number, or -1. */
long gw_arch_eintr(const gw_user_regs *r, const struct gw_before *b);
/* The call that the kernel means to go on with by a restart block: its number, or -1. */
long gw_arch_restart_block(const gw_user_regs *r);
/* Make the kernel (or the processor) begin it again. Final: even when a
 * signal handler runs first; otherwise the kernel says EINTR then. */
extern const bool gw_arch_again_is_final;
void gw_arch_again(gw_user_regs *r, const struct gw_before *b);
