#include "mem/inject.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "again.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/scope.h"
#include "mem/inject_arch.h"
#include "mem/maps.h"
#include "mem/procs.h"

enum {
	STOP_WAIT_US = 400000, /* a thread that is in the kernel for longer is stuck, or waits for a vfork */
	STOP_TRIES = 3,
	POLL_YIELDS = 60,
	POLL_MAX_US = 500,
	RSEQ_CS_AT = 8, /* offset of rseq_cs in struct rseq (linux/rseq.h) */
	SIGSET_BYTES = 8,
};

/* linux/ptrace.h: struct ptrace_sud_config, since 6.4. */
struct sud {
	uint64_t mode, selector, offset, len;
};

struct gw_inject {
	pid_t pid, tid;
	struct gw_before before;
	gw_user_regs saved;
	uint64_t mask;
	uint64_t insn;    /* where a call can be made */
	uint64_t rseq_at; /* address of the thread's rseq_cs word, 0: none */
	long rseq_cs;
	struct sud sud;
	uint64_t stopped_at;
	bool ready;   /* mask and dispatch are ours */
	bool moved;   /* its registers are ours */
	bool resave;  /* saved differs from what the thread has */
	int stop_sig; /* a SIGSTOP that came while it ran for us */
};

pid_t gw_inject_tid(const struct gw_inject *in)
{
	return in->tid;
}

/* Next stop or end of tid. deadline_us 0: for ever. Waiting is polling:
 * a stop takes 5-50 us, and nothing wakes us at a deadline otherwise. */
static int wait_stop(pid_t tid, uint64_t deadline_us, int *out_status)
{
	uint64_t pause = 5;
	for (unsigned i = 0;; i++) {
		pid_t got = waitpid(tid, out_status, __WALL | __WNOTHREAD | WNOHANG);
		if (got == tid)
			return WIFSTOPPED(*out_status) ? 0 : -ESRCH;
		if (got < 0 && errno != EINTR)
			return errno == ECHILD ? -ESRCH : -errno;
		if (i < POLL_YIELDS) {
			(void)sched_yield();
			continue;
		}
		if (deadline_us && gw_now_us() > deadline_us)
			return -ETIMEDOUT;
		gw_sleep_us(pause);
		pause = pause * 2 < POLL_MAX_US ? pause * 2 : POLL_MAX_US;
	}
}

static int pt(enum __ptrace_request req, pid_t tid, uintptr_t addr, const void *data)
{
	return ptrace(req, tid, (void *)addr, (void *)(uintptr_t)data) < 0 ? -errno : 0;
}

static bool is_event_stop(int status)
{
	return status >> 16 == PTRACE_EVENT_STOP;
}

static int regs_get(struct gw_inject *in, gw_user_regs *r)
{
	struct iovec iov = {.iov_base = r, .iov_len = sizeof(*r)};
	int rc = pt(PTRACE_GETREGSET, in->tid, NT_PRSTATUS, &iov);
	if (rc < 0)
		return rc;
	return iov.iov_len == sizeof(*r) ? 0 : -ENOEXEC;
}

static int regs_set(struct gw_inject *in, const gw_user_regs *r)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)r, .iov_len = sizeof(*r)};
	return pt(PTRACE_SETREGSET, in->tid, NT_PRSTATUS, &iov);
}

static void hide_eintr(struct gw_inject *in)
{
	if (gw_arch_again_is_final && gwc_signal_waits(in->tid))
		return;
	/* The kernel would go on with a wait that keeps its time, but as a call of another
	 * number: then nobody knows in the freeze what to make again. */
	if (gwc_may_begin_again(gw_arch_eintr(&in->saved, &in->before)) ||
	    gwc_keeps_its_time(gw_arch_restart_block(&in->saved))) {
		gw_arch_again(&in->saved, &in->before);
		in->resave = true;
	}
}

static bool has_seccomp(pid_t tid)
{
	char path[64];
	gw_auto(mem) char *text = NULL;
	gw_path(path, sizeof(path), "/proc/%d/status", tid);
	return gw_read_file(path, 4 << 20, &text, NULL, NULL) == 0 && !strstr(text, "\nSeccomp:\t0");
}

static int seize(struct gw_inject *in, struct gw_err *e)
{
	uintptr_t opts = PTRACE_O_TRACESYSGOOD;
	int rc = pt(PTRACE_SEIZE, in->tid, 0, (void *)(opts | PTRACE_O_SUSPEND_SECCOMP));
	/* Without CAP_SYS_ADMIN, under seccomp ourselves, or an odd kernel: fine
	 * as long as the thread has no filter. */
	if ((rc == -EPERM || rc == -EINVAL) && !has_seccomp(in->tid))
		rc = pt(PTRACE_SEIZE, in->tid, 0, (void *)opts);
	if (rc == -ESRCH)
		return gw_fail(e, GW_RETRY, ESRCH, "stop thread %d of process %d", in->tid, in->pid);
	if (rc < 0) {
		struct gw_task t;
		if (gw_task_read(in->tid, &t) < 0 || t.state == 'Z' || t.state == 'X')
			return gw_fail(e, GW_RETRY, ESRCH, "stop thread %d of process %d", in->tid, in->pid);
		if (t.tracer)
			return gw_fail(e, GW_INPUT, EPERM,
			               "process %d is being traced by process %d (a debugger?): end that first",
			               in->pid, t.tracer);
		return gw_fail(e, GW_SYS, -rc,
		               "trace process %d (needs CAP_SYS_PTRACE, and CAP_SYS_ADMIN to pass its seccomp filter)",
		               in->pid);
	}
	return 0;
}

/* Seized and interrupted already: wait until it stands in a PTRACE_EVENT_STOP. */
static int await_stop(struct gw_inject *in, uint64_t deadline_us, struct gw_err *e)
{
	for (;;) {
		int st, rc = wait_stop(in->tid, deadline_us, &st);
		if (rc == 0 && is_event_stop(st))
			break;
		if (rc == 0) /* a signal came first: deliver it, the trap is still to come */
			rc = pt(PTRACE_CONT, in->tid, 0, (void *)(uintptr_t)WSTOPSIG(st));
		if (rc == -ETIMEDOUT)
			return gw_fail(e, GW_RETRY, ETIMEDOUT,
			               "thread %d of process %d did not stop within %d ms: it waits in the kernel (a "
			               "vfork, a dead disk, or it is frozen)",
			               in->tid, in->pid, STOP_WAIT_US / 1000);
		if (rc < 0)
			return gw_fail(e, GW_RETRY, -rc, "stop thread %d of process %d", in->tid, in->pid);
	}
	int rc = regs_get(in, &in->saved);
	if (rc == -ENOEXEC)
		return gw_fail(e, GW_INPUT, ENOEXEC, "process %d runs 32-bit code: not supported", in->pid);
	if (rc < 0)
		return gw_fail(e, GW_RETRY, -rc, "read registers of thread %d", in->tid);
	hide_eintr(in);
	return 0;
}

static int stop(struct gw_inject *in, uint64_t deadline_us, struct gw_err *e)
{
	gw_arch_before(in->pid, in->tid, &in->before);
	in->stopped_at = gw_now_us();
	int rc = seize(in, e);
	if (rc < 0)
		return rc;
	rc = pt(PTRACE_INTERRUPT, in->tid, 0, NULL);
	if (rc < 0)
		return gw_fail(e, GW_RETRY, -rc, "interrupt thread %d of process %d", in->tid, in->pid);
	return await_stop(in, deadline_us, e);
}

/* In a PTRACE_EVENT_STOP, with nothing of ours left but perhaps registers. */
static void let_go(struct gw_inject *in)
{
	if (in->resave)
		(void)regs_set(in, &in->saved);
	if (in->stop_sig)
		(void)syscall(SYS_tgkill, in->pid, in->tid, in->stop_sig);
	(void)pt(PTRACE_DETACH, in->tid, 0, NULL);
}

/* What must not act while the thread runs for us. */
static int make_ready(struct gw_inject *in)
{
	struct __ptrace_rseq_configuration rseq = {0};
	if (ptrace(PTRACE_GET_RSEQ_CONFIGURATION, in->tid, sizeof(rseq), &rseq) > 0 && rseq.rseq_abi_pointer) {
		errno = 0;
		long cs =
		        ptrace(PTRACE_PEEKDATA, in->tid, (void *)(uintptr_t)(rseq.rseq_abi_pointer + RSEQ_CS_AT), NULL);
		if (errno == 0 && cs) {
			in->rseq_at = rseq.rseq_abi_pointer + RSEQ_CS_AT;
			in->rseq_cs = cs;
		}
	}
	if (pt(PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, in->tid, sizeof(in->sud), &in->sud) < 0)
		in->sud.mode = 0;
	int rc = pt(PTRACE_GETSIGMASK, in->tid, SIGSET_BYTES, &in->mask);
	if (rc < 0)
		return rc;
	const uint64_t all = ~(uint64_t)0;
	const struct sud off = {0};
	if (in->sud.mode)
		rc = pt(PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG, in->tid, sizeof(off), &off);
	if (rc == 0)
		rc = pt(PTRACE_SETSIGMASK, in->tid, SIGSET_BYTES, &all);
	in->ready = true;
	return rc;
}

/* The next stop that is the beginning or end of a system call. No deadline:
 * its registers are ours, there is no going back but through here. Whoever
 * freezes the process now holds us too until it is thawed. */
static int to_syscall_stop(struct gw_inject *in)
{
	for (;;) {
		int rc = pt(PTRACE_SYSCALL, in->tid, 0, NULL), st;
		if (rc == 0)
			rc = wait_stop(in->tid, 0, &st);
		if (rc < 0)
			return rc;
		if (st >> 8 == (SIGTRAP | 0x80))
			return 0;
		if (is_event_stop(st))
			continue;
		/* All others are blocked, or the fault of the call itself. */
		if (WSTOPSIG(st) != SIGSTOP)
			return -EFAULT;
		in->stop_sig = SIGSTOP;
	}
}

int gw_inject_call(struct gw_inject *in, long nr, const uint64_t args[6], int64_t *out_ret)
{
	int rc = in->ready ? 0 : make_ready(in);
	if (rc < 0)
		return rc;
	gw_user_regs r = in->saved;
	gw_arch_call(&r, in->insn, nr, args);
	in->moved = in->resave = true;
	rc = regs_set(in, &r);
	if (rc == 0)
		rc = to_syscall_stop(in);
	if (rc == 0)
		rc = to_syscall_stop(in);
	if (rc == 0)
		rc = regs_get(in, &r);
	if (rc < 0)
		return rc;
	*out_ret = gw_arch_result(&r);
	return 0;
}

/* From the end of our last call back to where the thread was. The registers
 * must be put back in a stop that the kernel looks for signals after, or an
 * interrupted system call of its own would not begin again: so trap it once
 * more on its way out. */
static int put_back(struct gw_inject *in)
{
	int rc = 0, st;
	if (in->moved) {
		rc = pt(PTRACE_INTERRUPT, in->tid, 0, NULL);
		do {
			if (rc == 0)
				rc = pt(PTRACE_CONT, in->tid, 0, NULL);
			if (rc == 0)
				rc = wait_stop(in->tid, 0, &st);
			if (rc < 0)
				return rc;
			if (!is_event_stop(st) && WSTOPSIG(st) == SIGSTOP)
				in->stop_sig = SIGSTOP;
		} while (!is_event_stop(st));
	}
	if (!in->ready)
		return 0;
	rc = pt(PTRACE_SETSIGMASK, in->tid, SIGSET_BYTES, &in->mask);
	if (rc == 0 && in->sud.mode)
		rc = pt(PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG, in->tid, sizeof(in->sud), &in->sud);
	/* The kernel has cleared it when it saw the thread outside: without it
	 * the critical section would go on instead of being aborted. */
	if (rc == 0 && in->rseq_at)
		rc = pt(PTRACE_POKEDATA, in->tid, (uintptr_t)in->rseq_at, (void *)(uintptr_t)in->rseq_cs);
	return rc;
}

static uint64_t find_in(int mem, const struct gw_vma *v, bool *read_any)
{
	enum { PIECE = 64 << 10, LOOK_MAX = 16 << 20 };
	gw_auto(mem) uint8_t *buf = malloc(PIECE);
	uint64_t end = v->end - v->start > LOOK_MAX ? v->start + LOOK_MAX : v->end;
	for (uint64_t at = v->start; buf && at < end; at += PIECE) {
		ssize_t n = pread(mem, buf, end - at < PIECE ? end - at : PIECE, (off_t)at);
		if (n <= 0)
			return 0;
		*read_any = true;
		for (size_t i = 0; i + gw_arch_syscall_len <= (size_t)n; i += gw_arch_insn_align)
			if (!memcmp(buf + i, gw_arch_syscall_insn, gw_arch_syscall_len))
				return at + i;
	}
	return 0;
}

/* A system call instruction of the process: the vDSO has one for the clocks
 * it cannot read itself; libc has many. */
static int find_insn(pid_t pid, uint64_t *out, struct gw_err *e)
{
	struct gw_maps m = {0};
	char path[64];
	gw_path(path, sizeof(path), "/proc/%d/mem", pid);
	gw_auto(fd) int mem = open(path, O_RDONLY | O_CLOEXEC);
	int rc = mem < 0 ? -errno : gw_maps_read(&m, pid);
	uint64_t at = 0;
	bool read_any = false;
	for (int vdso = 1; rc == 0 && !at && vdso >= 0; vdso--)
		for (size_t i = 0; i < m.n && !at; i++)
			if (m.v[i].prot & GW_PROT_X && gw_vma_named(&m, &m.v[i], "[vdso]") == vdso &&
			    !gw_vma_named(&m, &m.v[i], "[vsyscall]"))
				at = find_in(mem, &m.v[i], &read_any);
	gw_maps_done(&m);
	/* The memory of one that is ending reads as nothing. */
	if ((rc == 0 && !read_any) || rc == -ENOENT || rc == -ESRCH)
		return gw_fail(e, GW_RETRY, ESRCH, "look into process %d", pid);
	if (rc < 0)
		return gw_fail(e, GW_SYS, -rc, "look into process %d", pid);
	if (!at)
		return gw_fail(e, GW_INPUT, ENOEXEC, "process %d has no instruction that makes a system call", pid);
	*out = at;
	return 0;
}

/* Each use in a thread of its own. */
struct job {
	int (*body)(struct job *j);
	pid_t pid, tid;
	uint64_t insn;
	gw_inject_fn *fn;
	gw_hold_fn *hold;
	void *ctx;
	uint64_t stopped_us;
	struct gw_err err;
	int rc;
};

static void *job_main(void *arg)
{
	struct job *j = arg;
	/* The default slack of 50 us would be most of the time a process stands still. */
	(void)prctl(PR_SET_TIMERSLACK, 1000UL, 0, 0, 0);
	j->rc = j->body(j);
	return NULL;
}

static int job_run(struct job *j, struct gw_err *e)
{
	pthread_t th;
	sigset_t all, old;
	sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	int rc = pthread_create(&th, NULL, job_main, j);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc)
		return gw_fail(e, GW_SYS, rc, "start a thread to trace process %d", j->pid);
	(void)pthread_join(th, NULL);
	if (j->rc < 0 && e)
		*e = j->err;
	return j->rc;
}

static int run_body(struct job *j)
{
	struct gw_inject in = {.pid = j->pid, .tid = j->tid, .insn = j->insn};
	int rc = stop(&in, gw_now_us() + STOP_WAIT_US, &j->err);
	/* A 32-bit one stands already. */
	if (rc == -ENOEXEC)
		let_go(&in);
	if (rc < 0)
		return rc;
	rc = j->fn(&in, j->ctx, &j->err);
	int back = put_back(&in);
	let_go(&in);
	j->stopped_us = gw_now_us() - in.stopped_at;
	if (back < 0)
		return gw_fail(&j->err, GW_RETRY, -back, "process %d ended while it was looked at", j->pid);
	return rc;
}

static char state_of(pid_t tid)
{
	struct gw_task t;
	return gw_task_read(tid, &t) < 0 ? 'X' : t.state;
}

int gw_inject_run(pid_t pid, gw_inject_fn *fn, void *ctx, uint64_t *out_stopped_us, struct gw_err *e)
{
	struct job j = {.body = run_body, .pid = pid, .fn = fn, .ctx = ctx};
	struct gw_err err = {0};
	int rc = find_insn(pid, &j.insn, e);
	if (rc < 0)
		return rc;
	struct gw_pids threads = {0};
	rc = gw_threads_read(&threads, pid);
	if (rc < 0)
		rc = gw_fail(&err, GW_RETRY, -rc, "list the threads of process %d", pid);
	bool again = rc == 0;
	/* First those that are not in an uninterruptible wait. */
	for (int pass = 0, tries = 0; again && pass < 2; pass++)
		for (size_t i = 0; again && i < threads.n && tries < STOP_TRIES; i++) {
			char s = state_of(threads.v[i]);
			if (s == 'X' || s == 'Z' || (s == 'D') != pass)
				continue;
			j.tid = threads.v[i];
			rc = job_run(&j, &err);
			tries++;
			again = rc == -ETIMEDOUT || (rc == -ESRCH && j.tid != pid);
		}
	gw_pids_done(&threads);
	if (rc == 0 && !j.tid)
		rc = gw_fail(&err, GW_RETRY, ESRCH, "process %d has ended", pid);
	if (rc < 0 && e)
		*e = err;
	if (rc == 0 && out_stopped_us)
		*out_stopped_us = j.stopped_us;
	return rc;
}

/* Threads may start more threads until the last of them stands. */
static int stop_all(struct job *j, struct gw_inject **all, size_t *n)
{
	struct gw_pids threads = {0};
	uint64_t deadline = gw_now_us() + STOP_WAIT_US;
	int rc = 0;
	bool more = true;
	while (more && rc == 0) {
		more = false;
		rc = gw_threads_read(&threads, j->pid);
		if (rc < 0)
			rc = gw_fail(&j->err, GW_RETRY, -rc, "list the threads of process %d", j->pid);
		for (size_t i = 0; rc == 0 && i < threads.n; i++) {
			bool known = false;
			for (size_t k = 0; k < *n && !known; k++)
				known = (*all)[k].tid == threads.v[i];
			if (known)
				continue;
			struct gw_inject *grown = reallocarray(*all, *n + 1, sizeof(**all));
			if (!grown) {
				rc = gw_fail(&j->err, GW_SYS, ENOMEM, "stop process %d", j->pid);
				break;
			}
			*all = grown;
			grown[*n] = (struct gw_inject){.pid = j->pid, .tid = threads.v[i]};
			rc = stop(&grown[*n], deadline, &j->err);
			if (rc == -ESRCH && threads.v[i] != j->pid) {
				rc = 0; /* that thread has ended */
				more = true;
				continue;
			}
			if (rc == 0) {
				++*n;
				more = true;
			}
		}
	}
	gw_pids_done(&threads);
	return rc;
}

static int hold_body(struct job *j)
{
	struct gw_inject *all = NULL;
	size_t n = 0;
	uint64_t from = gw_now_us();
	int rc = stop_all(j, &all, &n);
	if (rc == 0)
		rc = j->hold(j->ctx, &j->err);
	for (size_t i = 0; i < n; i++)
		let_go(&all[i]);
	free(all);
	j->stopped_us = gw_now_us() - from;
	return rc;
}

int gw_inject_hold(pid_t pid, gw_hold_fn *fn, void *ctx, uint64_t *out_stopped_us, struct gw_err *e)
{
	struct job j = {.body = hold_body, .pid = pid, .hold = fn, .ctx = ctx};
	int rc = job_run(&j, e);
	if (out_stopped_us)
		*out_stopped_us = j.stopped_us;
	return rc;
}
