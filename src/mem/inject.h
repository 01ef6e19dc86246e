#pragma once
#include <stdint.h>
#include <sys/types.h>

#include "base/gw_err.h"

/* inject: stop a thread of another process, run system calls in it, and let
 * it go on as if nothing had happened.
 *
 * PTRACE_SEIZE, PTRACE_INTERRUPT. The calls are made at a `syscall`
 * instruction that is already in the process (the vDSO has one), so its code
 * is never written to. Afterwards everything is as it was: registers, the
 * system call that was interrupted (begun again; also those that the kernel does
 * not restart by itself, epoll_wait and such, so that no EINTR is seen that no
 * signal caused: preload/again.h; a sleep without a place for its rest, or a
 * poll, of the stopped thread then begins anew, also when the migration is given up),
 * signal mask, rseq critical section, group stop. Signals that come meanwhile
 * stay pending in the kernel and are delivered after it. seccomp is suspended
 * for the time (needs CAP_SYS_ADMIN).
 *
 * Every use runs in a thread of its own that ends with it: when a thread
 * cannot be stopped (a vfork whose child is still going, a dead disk), the
 * end of our thread makes the kernel let go of it. Nobody else in this
 * process may wait for any child (waitpid(-1)): it could take our stops.
 *
 * Owner: none; no state between calls. Threads: any. Errors: -ESRCH gone
 * (normal), GW_RETRY -ETIMEDOUT not stopped in time, -EPERM traced by
 * somebody else, GW_INPUT -ENOEXEC a 32-bit process. */
struct gw_inject;

typedef int gw_inject_fn(struct gw_inject *in, void *ctx, struct gw_err *e);

/* Stop a thread of pid (the first one when it can be), run fn, let it go.
 * out_stopped_us: how long it stood; may be NULL. */
int gw_inject_run(pid_t pid, gw_inject_fn *fn, void *ctx, uint64_t *out_stopped_us, struct gw_err *e);

/* Inside fn: one system call. 0 and its result (-errno as the kernel says
 * it) in *out_ret; -ESRCH when the process died of something meanwhile. */
int gw_inject_call(struct gw_inject *in, long nr, const uint64_t args[6], int64_t *out_ret);
pid_t gw_inject_tid(const struct gw_inject *in);

/* Stop all threads of pid, run fn, let them go. No calls inside. */
typedef int gw_hold_fn(void *ctx, struct gw_err *e);
int gw_inject_hold(pid_t pid, gw_hold_fn *fn, void *ctx, uint64_t *out_stopped_us, struct gw_err *e);
