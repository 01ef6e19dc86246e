#include "mem/pages.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/proc.h"
#include "base/scope.h"
#include "mem/bits.h"
#include "mem/pages_link.h"

enum { START_TIMEOUT_MS = 10000, ANSWER_TIMEOUT_MS = 10000, END_TIMEOUT_MS = 2000 };

struct gw_pages {
	int link, pidfd;
	pid_t pid;
	struct link_shared *shared;
	bool *passed; /* by space id */
	uint32_t npassed;
};

static void gw_end_pages(struct gw_pages **p)
{
	gw_pages_free(*p, true);
}

static int answer(struct gw_pages *p, uint32_t type, int timeout_ms, struct gw_err *e)
{
	struct pollfd pf = {.fd = p->link, .events = POLLIN};
	struct link_msg m;
	unsigned nfds = 0;
	int n;
	do
		n = poll(&pf, 1, timeout_ms);
	while (n < 0 && errno == EINTR);
	if (n == 0)
		return gw_fail(e, GW_SYS, ETIMEDOUT, "page server does not answer");
	ssize_t got = gw_recv_fds(p->link, &m, sizeof(m), NULL, &nfds);
	if (got <= 0)
		return gw_fail(e, GW_SYS, got < 0 ? (int)-got : ECONNRESET, "page server ended");
	if (got != (ssize_t)sizeof(m) || m.magic != LINK_MAGIC || m.type != type)
		return gw_fail(e, GW_INPUT, EPROTO, "godwitd and godwit-pages are of different versions");
	m.text[LINK_TEXT - 1] = 0;
	return m.err ? gw_fail(e, GW_INPUT, m.err, "page server: %s", m.text) : 0;
}

static int spawn(const struct gw_pages_opts *o, int link, int shared, struct gw_err *e)
{
	const char *argv[] = {o->program, "--socket",     o->socket_path, "--cgroup", o->cgroup_dir,
	                      "--reason", o->reason_path, "--label",      o->label,   NULL};
	const int extra[] = {link, shared};
	struct gw_spawn sp = {
	        .argv = argv, .stdio = {-1, -1, STDERR_FILENO}, .extra_fds = extra, .nextra = 2, .new_session = true};
	pid_t pid;
	int st, rc = gw_proc_start(&sp, &pid, e);
	if (rc < 0)
		return rc;
	rc = gw_proc_wait(pid, START_TIMEOUT_MS, &st, e);
	if (rc == -ETIMEDOUT) {
		(void)kill(pid, SIGKILL);
		(void)waitpid(pid, &st, 0);
	}
	if (rc < 0)
		return rc;
	if (!WIFEXITED(st) || WEXITSTATUS(st) != 0)
		return gw_fail(e, GW_SYS, EIO, "%s ended at once (status 0x%x)", o->program, (unsigned)st);
	return 0;
}

struct passing {
	struct gw_pages *p;
	struct gw_store *s;
	struct gw_err *e;
	int spans; /* descriptor of the recent spans, -1: not asked for */
	uint64_t nspans;
};

static int pass_space(struct passing *w, const struct gw_space *space, int memfd)
{
	struct gw_pages *p = w->p;
	if (space->id >= p->npassed) {
		uint32_t n = (space->id + 64) * 2;
		bool *more = realloc(p->passed, n * sizeof(*more));
		if (!more)
			return gw_fail(w->e, GW_SYS, ENOMEM, "memory space %u", space->id);
		memset(more + p->npassed, 0, (n - p->npassed) * sizeof(*more));
		p->passed = more;
		p->npassed = n;
	}
	if (p->passed[space->id])
		return 0;
	struct link_msg m = {.magic = LINK_MAGIC, .type = LINK_SPACE, .space = space->id, .vpid = space->vpid};
	int fds[2] = {memfd, gw_store_bits_fd(w->s, space->id)};
	int rc = gw_send_fds(p->link, &m, sizeof(m), fds, 2);
	if (rc < 0)
		return gw_fail(w->e, GW_SYS, -rc, "hand memory space %u to the page server", space->id);
	p->passed[space->id] = true;
	return 0;
}

static int pass_recent(struct passing *w, uint32_t space, const struct gw_span *recent, size_t n)
{
	struct link_span out[512];
	for (size_t i = 0, k; i < n; i += k) {
		for (k = 0; k < gw_countof(out) && i + k < n; k++)
			out[k] = (struct link_span){
			        .addr = recent[i + k].addr, .space = space, .npages = recent[i + k].npages};
		ssize_t want = (ssize_t)(k * sizeof(out[0]));
		if (pwrite(w->spans, out, (size_t)want, (off_t)(w->nspans * sizeof(out[0]))) != want)
			return gw_fail(w->e, GW_SYS, errno, "hand %zu recent spans to the page server", n);
		w->nspans += k;
	}
	return 0;
}

/* Shared memory goes back to CRIU's images, not through page faults. */
static int pass(void *ctx, const struct gw_space *space, int memfd, const struct gw_span *recent, size_t n)
{
	struct passing *w = ctx;
	if (space->kind != GW_SPACE_PROC)
		return 0;
	int rc = pass_space(w, space, memfd);
	if (rc < 0 || w->spans < 0)
		return rc;
	return pass_recent(w, space->id, recent, n);
}

int gw_pages_start(const struct gw_pages_opts *o, struct gw_store *s, struct gw_pages **out, struct gw_err *e)
{
	gw_auto(pages) struct gw_pages *p = calloc(1, sizeof(*p));
	if (!p)
		return gw_fail(e, GW_SYS, ENOMEM, "page server");
	p->link = p->pidfd = -1;
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return gw_fail(e, GW_SYS, errno, "page server");
	p->link = pair[0];
	gw_auto(fd) int theirs = pair[1];
	gw_auto(fd) int shared = memfd_create("godwit-pages-status", MFD_CLOEXEC);
	if (shared < 0 || ftruncate(shared, (off_t)sizeof(*p->shared)) < 0)
		return gw_fail(e, GW_SYS, errno, "page server");
	p->shared = mmap(NULL, sizeof(*p->shared), PROT_READ | PROT_WRITE, MAP_SHARED, shared, 0);
	if (p->shared == MAP_FAILED) {
		p->shared = NULL;
		return gw_fail(e, GW_SYS, errno, "page server");
	}
	int rc = spawn(o, theirs, shared, e);
	(void)close(gw_take_fd(&theirs));
	if (rc == 0)
		rc = answer(p, LINK_HELLO, START_TIMEOUT_MS, e);
	if (rc < 0)
		return rc;
	p->pid = atomic_load(&p->shared->server);
	p->pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
	if (p->pidfd < 0)
		return gw_fail(e, GW_SYS, errno, "page server ended");
	struct passing w = {.p = p, .s = s, .e = e, .spans = -1};
	rc = gw_store_each(s, pass, &w);
	if (rc < 0)
		return rc;
	*out = gw_take(p);
	return 0;
}

int gw_pages_give(struct gw_pages *p, struct gw_store *s, struct gw_err *e)
{
	gw_auto(fd) int spans = memfd_create("godwit-recent", MFD_CLOEXEC);
	if (spans < 0)
		return gw_fail(e, GW_SYS, errno, "recent spans");
	struct passing w = {.p = p, .s = s, .e = e, .spans = spans};
	int rc = gw_store_each(s, pass, &w);
	if (rc < 0)
		return rc;
	struct link_msg m = {.magic = LINK_MAGIC, .type = LINK_GO, .count = w.nspans};
	rc = gw_send_fds(p->link, &m, sizeof(m), &spans, 1);
	if (rc < 0)
		return gw_fail(e, GW_SYS, -rc, "hand the memory to the page server");
	return answer(p, LINK_ANSWER, ANSWER_TIMEOUT_MS, e);
}

static bool has_ended(const struct gw_pages *p, int timeout_ms)
{
	struct pollfd pf = {.fd = p->pidfd, .events = POLLIN};
	return p->pidfd < 0 || poll(&pf, 1, timeout_ms) > 0;
}

int gw_pages_status(struct gw_pages *p, struct gw_pages_status *out, struct gw_err *e)
{
	/* In this order: an end that comes in between is seen at the next call. */
	bool ended = has_ended(p, 0);
	const struct link_shared *sh = p->shared;
	char reason[LINK_TEXT];
	switch (atomic_load(&sh->outcome)) {
	case OUT_DONE: break;
	case OUT_RUNNING:
		if (!ended)
			break;
		return gw_fail(e, GW_LOST, EPIPE,
		               "page server (process %d) was killed or crashed with %llu bytes missing", p->pid,
		               (unsigned long long)atomic_load(&sh->left_bytes));
	case OUT_ABANDONED:
	case OUT_FAILED:
		(void)snprintf(reason, sizeof(reason), "%.*s", LINK_TEXT - 1, sh->reason);
		return gw_fail(e, atomic_load(&sh->restored) ? GW_LOST : GW_INPUT, EPIPE, "page server: %s", reason);
	default: return gw_fail(e, GW_INPUT, ESHUTDOWN, "page server was told to end");
	}
	*out = (struct gw_pages_status){
	        .connected = atomic_load(&sh->connected),
	        .restored = atomic_load(&sh->restored),
	        .done = atomic_load(&sh->outcome) == OUT_DONE,
	        .faults = atomic_load(&sh->faults),
	        .copied_bytes = atomic_load(&sh->copied_bytes),
	        .left_bytes = atomic_load(&sh->left_bytes),
	        .fill_us = atomic_load(&sh->fill_us),
	        .fault_us_max = atomic_load(&sh->fault_us_max),
	};
	return 0;
}

pid_t gw_pages_pid(const struct gw_pages *p)
{
	return p->pid;
}

/* The keeper first: with the page server stopped it is not replaced, and
 * without a keeper nobody kills a container that its owner discards. */
static void end_by_force(struct gw_pages *p)
{
	(void)syscall(SYS_pidfd_send_signal, p->pidfd, SIGSTOP, NULL, 0);
	pid_t keeper = atomic_load(&p->shared->keeper);
	if (keeper > 0 && !has_ended(p, 0))
		(void)kill(keeper, SIGKILL);
	(void)syscall(SYS_pidfd_send_signal, p->pidfd, SIGKILL, NULL, 0);
	(void)has_ended(p, END_TIMEOUT_MS);
}

void gw_pages_free(struct gw_pages *p, bool is_kill)
{
	if (!p)
		return;
	if (is_kill && p->link >= 0 && p->pidfd >= 0 && !has_ended(p, 0)) {
		struct link_msg m = {.magic = LINK_MAGIC, .type = LINK_DISCARD};
		if (gw_send_fds(p->link, &m, sizeof(m), NULL, 0) < 0 || !has_ended(p, END_TIMEOUT_MS))
			end_by_force(p);
	}
	if (p->link >= 0)
		(void)close(p->link);
	if (p->pidfd >= 0)
		(void)close(p->pidfd);
	if (p->shared)
		(void)munmap(p->shared, sizeof(*p->shared));
	free(p->passed);
	free(p);
}
