/* SPDX-License-Identifier: MIT
 *
 * libgodwit-criu.so: loaded into an unmodified CRIU by LD_PRELOAD.
 *
 * What it changes, and only when GODWIT_CRIU_MODE says so:
 *
 *   dump     pages of the ranges that godwit moves itself look absent, so
 *            CRIU writes no image of them (PAGEMAP_SCAN, and pread of
 *            pagemap on kernels without it);
 *            /proc/PID/smaps is answered from a file godwit made: reading
 *            the real one walks all page tables (25-35 ms per GiB, frozen);
 *            a pod namespace with no tracked connection is not asked for
 *            them: the kernel walks the whole machine's hash table (12 ms);
 *            sysfs of an external network namespace is not mounted (10 ms);
 *            a periodic timerfd that is due is shown as due (fdinfo.c);
 *            a call that waits is made again instead of ending with EINTR (again.h);
 *            a socket that passes no credentials says so (sockopt.c);
 *            shared memory that godwit moves looks empty (shmem.c);
 *            before CRIU looks at the freezer it waits for godwit ("freeze").
 *   restore  before the first image is opened it waits ("images");
 *            shared memory that godwit has moved is put in place (shmem.c);
 *            System V objects that another container's restore has made in
 *            the pod's namespace are not made again (ipc.c);
 *            reserved address space needs no memory behind it (reserve.c);
 *            before the restored tasks are let go it waits ("resume");
 *            tasks it holds by ptrace die with it (PTRACE_O_EXITKILL), so
 *            that a killed CRIU cannot let them run before the commit.
 *   both     a process's limits are read from /proc/PID/limits where
 *            prlimit(2) is refused (no CAP_SYS_RESOURCE);
 *            small tmpfs contents are packed and unpacked here instead of by
 *            tar and gzip (tmpfs.c; the image stays a .tar.gz), in a child
 *            that needs no copy of CRIU (child.c).
 *
 *            GODWIT_CRIU_COMMIT names the file that must exist then.
 *
 * Waiting: connect to the unix socket GODWIT_CRIU_HOME, send one line
 * "POINT PID TASK\n", read one byte: 'g' goes on, anything else or the end of
 * the stream makes the call fail, which makes CRIU give up. docs/criu.md. */
#include "godwit-criu.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/user.h>
#include <unistd.h>

#include "again.h"

#define REAL(name)                                                                                                     \
	static typeof(&name) real;                                                                                     \
	if (!real)                                                                                                     \
	real = (typeof(&name))dlsym(RTLD_NEXT, #name)

/* ---- waiting for godwit ---- */

static bool wait_at(const char *point, int task)
{
	const char *home = getenv("GODWIT_CRIU_HOME");
	if (!home)
		return true;
	struct sockaddr_un su = {.sun_family = AF_UNIX};
	if (strlen(home) >= sizeof(su.sun_path))
		return false;
	strcpy(su.sun_path, home);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	char line[80], answer = 0;
	int n = snprintf(line, sizeof(line), "%s %d %d\n", point, (int)getpid(), task);
	bool ok = connect(fd, (struct sockaddr *)&su, sizeof(su)) == 0 && send(fd, line, (size_t)n, MSG_NOSIGNAL) == n;
	if (ok) {
		ssize_t r;
		do
			r = read(fd, &answer, 1);
		while (r < 0 && errno == EINTR);
		ok = r == 1 && answer == 'g';
	}
	close(fd);
	return ok;
}

static bool ends_with(const char *s, const char *tail)
{
	size_t a = strlen(s), b = strlen(tail);
	return a >= b && !strcmp(s + a - b, tail);
}

/* ---- which pages are godwit's ---- */

struct range {
	uint64_t start, end;
};

static struct {
	int pid;
	struct range *r;
	size_t n;
} lazy = {.pid = -1};

static const struct range *lazy_load(int pid, size_t *n)
{
	const char *dir = getenv("GODWIT_CRIU_DIR");
	*n = 0;
	if (!dir)
		return NULL;
	if (lazy.pid != pid) {
		char path[512];
		snprintf(path, sizeof(path), "%s/%d.lazy", dir, pid);
		free(lazy.r);
		lazy.r = NULL;
		lazy.n = 0;
		lazy.pid = pid;
		int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
		struct stat st;
		if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size > 0) {
			lazy.r = malloc((size_t)st.st_size);
			if (lazy.r && read(fd, lazy.r, (size_t)st.st_size) == st.st_size)
				lazy.n = (size_t)st.st_size / sizeof(struct range);
		}
		if (fd >= 0)
			close(fd);
	}
	*n = lazy.n;
	return lazy.r;
}

/* /proc/PID/WHAT behind a descriptor: the PID, or -1. */
static int proc_pid_of(int fd, const char *what)
{
	char link[64], path[256];
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, path, sizeof(path) - 1);
	if (n <= 0)
		return -1;
	path[n] = 0;
	/* CRIU may have mounted its own proc: take the last number in the path. */
	char *p = strstr(path, what);
	if (*what && (!p || p == path))
		return -1;
	if (*what)
		p[-1] = 0;
	char *slash = strrchr(path, '/');
	if (!slash || slash[1] < '0' || slash[1] > '9')
		return -1;
	return atoi(slash + 1);
}

/* Index of the first range that ends above addr. */
static size_t first_above(const struct range *r, size_t n, uint64_t addr)
{
	size_t lo = 0, hi = n;
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		if (r[mid].end <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* linux/fs.h of 6.7; spelled out so that older headers build it. */
struct scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
struct scan_region {
	uint64_t start, end, categories;
};
#define SCAN_IOCTL _IOWR('f', 16, struct scan_arg)

typedef int ioctl_fn(int, unsigned long, ...);

/* Walk [start, end) around godwit's ranges, which are not even looked at. */
static int scan_around(ioctl_fn *real, int fd, struct scan_arg *a, const struct range *r, size_t n)
{
	uint64_t at = a->start;
	uint64_t got = 0;
	for (size_t i = first_above(r, n, at); at < a->end;) {
		if (i < n && r[i].start <= at) {
			at = r[i].end;
			i++;
			continue;
		}
		uint64_t stop = i < n && r[i].start < a->end ? r[i].start : a->end;
		struct scan_arg part = *a;
		part.start = at;
		part.end = stop;
		part.vec = a->vec + got * sizeof(struct scan_region);
		part.vec_len = a->vec_len - got;
		if (part.vec_len == 0)
			break;
		int k = real(fd, SCAN_IOCTL, &part);
		if (k < 0)
			return k;
		got += (uint64_t)k;
		at = part.walk_end;
		if (part.walk_end < stop)
			break; /* the caller's vector is full */
	}
	a->walk_end = at < a->end ? at : a->end;
	return (int)got;
}

int ioctl(int fd, unsigned long req, ...)
{
	static ioctl_fn *real;
	if (!real)
		real = (ioctl_fn *)dlsym(RTLD_NEXT, "ioctl");
	va_list ap;
	va_start(ap, req);
	void *arg = va_arg(ap, void *);
	va_end(ap);
	if (req == SCAN_IOCTL && gwc_mode_is("dump")) {
		size_t n = 0;
		int pid = proc_pid_of(fd, "pagemap");
		const struct range *r = pid > 0 ? lazy_load(pid, &n) : NULL;
		if (n)
			return scan_around(real, fd, arg, r, n);
	}
	return real(fd, req, arg);
}

ssize_t pread64(int fd, void *buf, size_t len, off64_t off)
{
	REAL(pread64);
	ssize_t got = real(fd, buf, len, off);
	if (got < 8 || !gwc_mode_is("dump"))
		return got;
	int pid = proc_pid_of(fd, "pagemap");
	size_t n = 0;
	const struct range *r = pid > 0 ? lazy_load(pid, &n) : NULL;
	if (!n)
		return got;
	uint64_t *entry = buf;
	for (size_t k = 0; k < (size_t)got / 8; k++) {
		uint64_t addr = ((uint64_t)off / 8 + k) * 4096;
		size_t i = first_above(r, n, addr);
		if (i < n && r[i].start <= addr)
			entry[k] = 0;
	}
	return got;
}

/* ---- files ---- */

static int open_smaps(int dirfd)
{
	const char *dir = getenv("GODWIT_CRIU_DIR");
	int pid = proc_pid_of(dirfd, "");
	if (!dir || pid <= 0)
		return -1;
	char path[512];
	snprintf(path, sizeof(path), "%s/%d.smaps", dir, pid);
	return (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
}

/* A page that the kernel has written to could not be told of (rest_written). */
static bool page_lost;

/* false: the call must fail. */
static bool before_open(const char *path)
{
	/* The last image: every task is dumped and let go as after any dump. Ended in the
	 * middle, those that are still to come would see EINTR. */
	if (page_lost && ends_with(path, "inventory.img"))
		return false;
	static bool frozen, images;
	if (!frozen && gwc_mode_is("dump") &&
	    (ends_with(path, "/freezer.state") || ends_with(path, "/cgroup.freeze"))) {
		frozen = true;
		return wait_at("freeze", 0);
	}
	if (!images && gwc_mode_is("restore") && ends_with(path, "inventory.img")) {
		images = true;
		return wait_at("images", 0);
	}
	return true;
}

int openat64(int dirfd, const char *path, int flags, ...)
{
	REAL(openat64);
	va_list ap;
	va_start(ap, flags);
	mode_t mode = (mode_t)va_arg(ap, int);
	va_end(ap);
	if (!strcmp(path, "smaps") && gwc_mode_is("dump")) {
		int fd = open_smaps(dirfd);
		if (fd >= 0)
			return fd;
	}
	if (!before_open(path) || (gwc_mode_is("restore") && !gwc_shmem_open(dirfd, path))) {
		errno = ECANCELED;
		return -1;
	}
	int other = -1;
	if (gwc_mode_is("restore") && !gwc_ipc_open(dirfd, path, &other)) {
		errno = ECANCELED;
		return -1;
	}
	if (other >= 0)
		return other;
	int fd = real(dirfd, path, flags, mode);
	gwc_child_opened(path, fd);
	return gwc_mode_is("dump") && !strncmp(path, "fdinfo/", 7) ? gwc_fdinfo_open(fd) : fd;
}

int open64(const char *path, int flags, ...)
{
	REAL(open64);
	va_list ap;
	va_start(ap, flags);
	mode_t mode = (mode_t)va_arg(ap, int);
	va_end(ap);
	if (!before_open(path)) {
		errno = ECANCELED;
		return -1;
	}
	return real(path, flags, mode);
}

/* May the restored tasks run? Where a commit file is named its existence
 * alone decides: godwit may have made it and died before it could answer. */
static bool may_resume(int task)
{
	const char *commit = getenv("GODWIT_CRIU_COMMIT");
	bool told = wait_at("resume", task);
	return commit ? access(commit, F_OK) == 0 : told;
}

/* CRIU tells its client of each stage by a criu_notify message on its RPC
 * socket; "pre-resume" is the last word before the tasks are let go. */
ssize_t write(int fd, const void *buf, size_t len)
{
	REAL(write);
	static const char stage[] = "pre-resume";
	if (gwc_ipc_made() && gwc_ipc_write(fd, buf, len))
		return (ssize_t)len;
	if (len < 128 && len > sizeof(stage) && gwc_mode_is("restore") && memmem(buf, len, stage, sizeof(stage) - 1)) {
		struct stat st;
		int task = gwc_notify_pid(buf, len);
		bool is_word = fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
		/* Said first: runc does nothing at this stage, and its answer has come by
		 * the time the tasks may be let go. */
		ssize_t said = real(fd, buf, len);
		if (is_word && !may_resume(task)) {
			/* Nobody may let these tasks run. Init's death is its pid namespace's. */
			if (task > 0)
				kill(task, SIGKILL);
			_exit(1);
		}
		return said;
	}
	return real(fd, buf, len);
}

/* runc asks for CRIU's every step to be logged: 1,400 lines, all of them in
 * the freeze. An option of its own for that it does not have. */
ssize_t recv(int fd, void *buf, size_t len, int flags)
{
	REAL(recv);
	ssize_t n = real(fd, buf, len, flags);
	if (n > 0 && (size_t)n <= len && !(flags & MSG_PEEK) && gwc_mode_is("restore"))
		(void)gwc_quiet(buf, (size_t)n);
	return n;
}

int execvp(const char *file, char *const argv[])
{
	if (!strcmp(file, "tar"))
		gwc_tar(argv); /* returns when the real tar has to do it */
	/* Without LD_PRELOAD, in a copy: the child may share CRIU's memory (child.c). */
	size_t n = 0, k = 0;
	while (environ[n])
		n++;
	char **env = calloc(n + 1, sizeof(*env));
	for (size_t i = 0; env && i < n; i++)
		if (strncmp(environ[i], "LD_PRELOAD=", 11) != 0)
			env[k++] = environ[i];
	int rc = env ? execvpe(file, argv, env) : -1;
	free(env);
	return rc;
}

/* ---- the pod's network namespace ---- */

/* A socket whose dump request was answered by us, -1: none. */
static int quiet_sock = -1;

/* The file shows the reader's own network namespace. Absent: no conntrack. */
static bool no_tracked_connection(void)
{
	char text[32] = "";
	int fd = (int)syscall(SYS_openat, AT_FDCWD, "/proc/sys/net/netfilter/nf_conntrack_count", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	ssize_t n = read(fd, text, sizeof(text) - 1);
	close(fd);
	return n > 0 && atoi(text) == 0;
}

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	REAL(sendmsg);
	quiet_sock = -1;
	if (gwc_mode_is("dump") && msg->msg_iovlen == 1 && msg->msg_iov[0].iov_len >= sizeof(struct nlmsghdr)) {
		struct sockaddr_nl nl;
		socklen_t len = sizeof(nl);
		int proto = 0;
		socklen_t plen = sizeof(proto);
		struct nlmsghdr h;
		memcpy(&h, msg->msg_iov[0].iov_base, sizeof(h));
		bool ct = (h.nlmsg_type >> 8) == NFNL_SUBSYS_CTNETLINK ||
		          (h.nlmsg_type >> 8) == NFNL_SUBSYS_CTNETLINK_EXP;
		if (ct && (h.nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP &&
		    getsockname(fd, (struct sockaddr *)&nl, &len) == 0 && nl.nl_family == AF_NETLINK &&
		    getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &proto, &plen) == 0 && proto == NETLINK_NETFILTER &&
		    no_tracked_connection()) {
			quiet_sock = fd;
			return (ssize_t)msg->msg_iov[0].iov_len;
		}
	}
	return real(fd, msg, flags);
}

ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
	REAL(recvmsg);
	if (quiet_sock < 0 || fd != quiet_sock || msg->msg_iov[0].iov_len < NLMSG_LENGTH(sizeof(int)))
		return real(fd, msg, flags);
	struct nlmsghdr *h = msg->msg_iov[0].iov_base;
	memset(h, 0, NLMSG_LENGTH(sizeof(int)));
	h->nlmsg_len = NLMSG_LENGTH(sizeof(int));
	h->nlmsg_type = NLMSG_DONE;
	h->nlmsg_seq = 24680; /* CRIU's CR_NLMSG_SEQ; it ignores others */
	msg->msg_flags = 0;
	quiet_sock = -1;
	return (ssize_t)h->nlmsg_len;
}

/* ---- system calls that wait ---- */

#ifdef __x86_64__
/* linux/errno.h, not in the user's headers. */
enum { ERESTARTNOINTR_NR = 513, ERESTARTNOHAND_NR = 514, ERESTART_RESTARTBLOCK_NR = 516 };

/* A sleeper that CRIU interrupts has the rest of its time written by the kernel, into a page
 * that godwit may have looked at for the last time: it is told which (criu.md, "late"). false:
 * it can't be told. */
static bool rest_written(pid_t tid, uint64_t addr)
{
	char path[512], text[1024] = "";
	const char *dir = getenv("GODWIT_CRIU_DIR");
	snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
	int fd = dir ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC) : -1;
	if (fd < 0)
		return false;
	ssize_t got = read(fd, text, sizeof(text) - 1);
	close(fd);
	const char *tgid = got > 0 ? strstr(text, "\nTgid:") : NULL;
	size_t n = 0;
	const uint64_t late[2] = {tgid ? strtoull(tgid + 6, NULL, 10) : 0, addr};
	const struct range *r = late[0] ? lazy_load((int)late[0], &n) : NULL;
	size_t i = first_above(r, n, addr);
	if (i == n || r[i].start > addr)
		return late[0]; /* not godwit's to move */
	snprintf(path, sizeof(path), "%s/late", dir);
	fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	bool ok = fd >= 0 && write(fd, late, sizeof(late)) == (ssize_t)sizeof(late);
	if (fd >= 0)
		close(fd);
	return ok;
}

/* What restart_syscall goes on with, as godwitd saw it while the thread still waited (docs/criu.md,
 * "calls"): the number that the thread's registers had then, or the one they have. */
static long call_of(pid_t tid, const struct user_regs_struct *r)
{
	static struct {
		uint64_t tid, nr, sp, pc;
	} calls[4096];
	static ssize_t n = -1;
	const char *dir = getenv("GODWIT_CRIU_DIR");
	if (r->orig_rax != SYS_restart_syscall || !dir)
		return (long)r->orig_rax;
	if (n < 0) {
		char path[512];
		snprintf(path, sizeof(path), "%s/calls", dir);
		int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
		ssize_t got = fd < 0 ? 0 : read(fd, calls, sizeof(calls));
		n = got < 0 ? 0 : got / (ssize_t)sizeof(calls[0]);
		if (fd >= 0)
			close(fd);
	}
	for (ssize_t i = 0; i < n; i++)
		if (calls[i].tid == (uint64_t)tid && calls[i].sp == r->rsp && calls[i].pc == r->rip)
			return (long)calls[i].nr;
	return (long)r->orig_rax;
}

/* CRIU lets a call that waits end with EINTR if the kernel does not begin it again of its
 * own accord (again.h). A program that handles no signals does not expect that: busybox'
 * sleep is over then. So they become calls that the kernel begins again: a thread that has
 * just been stopped, before CRIU has come to it (the dump may fail first, and the thread
 * goes on as it is)... */
static void stopped(pid_t tid, long (*trace)(enum __ptrace_request, ...))
{
	struct user_regs_struct r;
	struct iovec v = {.iov_base = &r, .iov_len = sizeof(r)};
	if (trace(PTRACE_GETREGSET, tid, (void *)NT_PRSTATUS, &v) < 0 || v.iov_len != sizeof(r))
		return; /* a program of 32 bits, whose calls have other numbers */
	if ((int64_t)r.rax != -EINTR || !gwc_may_begin_again((long)r.orig_rax) || gwc_signal_waits(tid))
		return;
	r.rax = (unsigned long long)-ERESTARTNOHAND_NR;
	(void)trace(PTRACE_SETREGSET, tid, (void *)NT_PRSTATUS, &v);
}

/* ...and as CRIU sees it: also a call that the kernel would go on with by a state of its own. */
static void wait_again(pid_t tid, const struct iovec *v)
{
	struct user_regs_struct *r = v->iov_base;
	if (v->iov_len != sizeof(*r) || (int64_t)r->rax != -ERESTART_RESTARTBLOCK_NR)
		return;
	long nr = call_of(tid, r);
	uint64_t rest = nr == SYS_nanosleep ? r->rsi : nr == SYS_clock_nanosleep ? r->r10 : 0;
	if (rest && !rest_written(tid, rest))
		page_lost = true; /* no dump rather than one with a wrong page */
	if (!gwc_keeps_its_time(nr) || gwc_signal_waits(tid))
		return;
	r->orig_rax = (unsigned long long)nr;
	r->rax = (unsigned long long)-ERESTARTNOINTR_NR;
}
#else
/* Elsewhere the call's first argument is where its answer is: CRIU's way stays. */
static void stopped(pid_t pid, long (*trace)(enum __ptrace_request, ...))
{
	(void)pid;
	(void)trace;
}
static void wait_again(pid_t pid, const struct iovec *v)
{
	(void)pid;
	(void)v;
}
#endif

/* ---- dying together ---- */

long ptrace(enum __ptrace_request req, ...)
{
	static long (*real)(enum __ptrace_request, ...);
	if (!real)
		real = (long (*)(enum __ptrace_request, ...))dlsym(RTLD_NEXT, "ptrace");
	va_list ap;
	va_start(ap, req);
	pid_t pid = va_arg(ap, pid_t);
	void *addr = va_arg(ap, void *);
	uintptr_t data = (uintptr_t)va_arg(ap, void *);
	va_end(ap);
	if ((req == PTRACE_SEIZE || req == PTRACE_SETOPTIONS) && gwc_mode_is("restore"))
		data |= PTRACE_O_EXITKILL;
	long rc = real(req, pid, addr, data);
	if (rc == 0 && req == PTRACE_SETOPTIONS && gwc_mode_is("dump"))
		stopped(pid, real); /* compel/src/lib/infect.c, compel_wait_task(): once a thread, when it stands */
	if (rc == 0 && req == PTRACE_GETREGSET && (uintptr_t)addr == NT_PRSTATUS && gwc_mode_is("dump"))
		wait_again(pid, (const struct iovec *)data);
	return rc;
}

/* ---- limits ---- */

static const char *const limit_names[] = {
        "Max cpu time",       "Max file size",     "Max data size",         "Max stack size",
        "Max core file size", "Max resident set",  "Max processes",         "Max open files",
        "Max locked memory",  "Max address space", "Max file locks",        "Max pending signals",
        "Max msgqueue size",  "Max nice priority", "Max realtime priority", "Max realtime timeout",
};

static rlim64_t limit_value(const char *s)
{
	return *s == 'u' ? RLIM64_INFINITY : strtoull(s, NULL, 10);
}

static int limit_from_proc(pid_t pid, unsigned which, struct rlimit64 *out)
{
	char path[64], line[256];
	if (which >= sizeof(limit_names) / sizeof(limit_names[0]))
		return -1;
	snprintf(path, sizeof(path), "/proc/%d/limits", (int)pid);
	FILE *f = fopen(path, "r");
	if (!f)
		return -1;
	size_t k = strlen(limit_names[which]);
	int rc = -1;
	while (rc < 0 && fgets(line, sizeof(line), f)) {
		char soft[32], hard[32];
		if (strncmp(line, limit_names[which], k) || sscanf(line + k, "%31s %31s", soft, hard) != 2)
			continue;
		out->rlim_cur = limit_value(soft);
		out->rlim_max = limit_value(hard);
		rc = 0;
	}
	fclose(f);
	return rc;
}

int prlimit64(pid_t pid, enum __rlimit_resource which, const struct rlimit64 *new, struct rlimit64 *old)
{
	REAL(prlimit64);
	int rc = real(pid, which, new, old);
	if (rc == 0 || errno != EPERM || new || !old)
		return rc;
	rc = limit_from_proc(pid, (unsigned)which, old);
	if (rc < 0)
		errno = EPERM;
	return rc;
}

long syscall(long nr, ...)
{
	static long (*real)(long, ...);
	if (!real)
		real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
	long a[6];
	va_list ap;
	va_start(ap, nr);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	/* Wanted for the links of a namespace that CRIU dumps itself. */
	if (nr == SYS_fsopen && gwc_mode_is("dump") && getenv("GODWIT_CRIU_EXTERNAL_NET") && a[0] &&
	    !strcmp((const char *)a[0], "sysfs")) {
		errno = ENOSYS;
		return -1;
	}
	if (nr == SYS_prlimit64)
		return prlimit64((pid_t)a[0], (enum __rlimit_resource)a[1], (const struct rlimit64 *)a[2],
		                 (struct rlimit64 *)a[3]);
	long rc = real(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (nr == SYS_memfd_create)
		gwc_shmem_made((int)rc, (unsigned)a[1]);
	return rc;
}
