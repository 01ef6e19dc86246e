/* SPDX-License-Identifier: MIT
 *
 * System calls that are made again when a thread was stopped while it waited in one.
 * Shared by those who stop threads: src/mem/inject.c and the library here. */
#pragma once
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/types.h>

/* Calls that end with EINTR when a thread is stopped, where the kernel would
 * restart others (signal(7), "Interruption of system calls by stop signals";
 * the socket calls do so when the socket has a timeout). None of them has
 * done anything when it says EINTR, so it may begin again. */
static inline bool gwc_may_begin_again(long nr)
{
	static const long calls[] = {
#ifdef SYS_epoll_wait
	        SYS_epoll_wait,
#endif
	        SYS_epoll_pwait, SYS_epoll_pwait2, SYS_rt_sigtimedwait, SYS_semop,
	        SYS_semtimedop,  SYS_io_getevents, SYS_io_pgetevents,   SYS_io_uring_enter,
	        SYS_msgrcv,      SYS_msgsnd,       SYS_mq_timedreceive, SYS_mq_timedsend,
	        SYS_read,        SYS_readv,        SYS_write,           SYS_writev,
	        SYS_recvfrom,    SYS_recvmsg,      SYS_recvmmsg,        SYS_sendto,
	        SYS_sendmsg,     SYS_sendmmsg,     SYS_accept,          SYS_accept4,
	        SYS_connect,
	};
	for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++)
		if (calls[i] == nr)
			return true;
	return false;
}

/* Calls that the kernel goes on with by a state of its own (ERESTART_RESTARTBLOCK), which
 * nobody can read or move. Made again from its arguments a sleep goes on with what was
 * left where the kernel has put the rest where it found the time, and begins anew
 * elsewhere; a poll waits its whole time again. Futexes are not among them: their waiters look
 * again whatever the call says. */
static inline bool gwc_keeps_its_time(long nr)
{
#ifdef SYS_poll
	if (nr == SYS_poll)
		return true;
#endif
	return nr == SYS_nanosleep || nr == SYS_clock_nanosleep;
}

/* A signal that a stopped thread gets as soon as it goes on: EINTR may be what it waits for. */
static inline bool gwc_signal_waits(pid_t tid)
{
	siginfo_t si[32];
	uint64_t mask = 0;
	(void)ptrace(PTRACE_GETSIGMASK, tid, (void *)sizeof(mask), &mask);
	for (unsigned shared = 0; shared < 2; shared++) {
		struct __ptrace_peeksiginfo_args a = {.nr = sizeof(si) / sizeof(*si),
		                                      .flags = shared ? PTRACE_PEEKSIGINFO_SHARED : 0};
		long n = ptrace(PTRACE_PEEKSIGINFO, tid, &a, si);
		for (long i = 0; i < n; i++)
			if (!(mask >> (si[i].si_signo - 1) & 1))
				return true;
	}
	return false;
}
