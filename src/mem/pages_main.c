#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/gw_log.h"
#include "base/io.h"
#include "base/scope.h"
#include "mem/pages.h"
#include "mem/pages_priv.h"
#include "mem/recharge.h"

/* Exit codes: for the log of whoever looks; godwitd reads link_shared. */
enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_ABANDONED = 3, EXIT_USAGE = 100 };
enum { EVENTS = 64, RETRY_US = 50, SPIN_US = 300, TURN_US = 500, AFTER_FAULT_US = 100, FAULTS_FIRST_US = 2000 };

/* The word at the end of CRIU's restore, "RSTF" (criu/uffd.c of CRIU 4.2). No pid is as large. */
static const uint32_t RESTORE_FINISHED = 0x52535446;

void pages_fail(struct server *s, int err, const char *fmt, ...)
{
	if (s->failed)
		return;
	s->failed = true;
	char text[300];
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	(void)gw_fail(&s->why, GW_SYS, err, "%s", text);
}

/* ---- godwitd's socket ---- */

static void reply(struct server *s, uint32_t type, const struct gw_err *e)
{
	struct link_msg m = {.magic = LINK_MAGIC, .type = type};
	if (e && e->class != GW_OK) {
		m.err = e->err ? e->err : EIO;
		(void)snprintf(m.text, sizeof(m.text), "%.*s", LINK_TEXT - 1, e->text);
	}
	/* A godwitd that is gone needs no answer. */
	(void)gw_send_fds(s->link, &m, sizeof(m), NULL, 0);
}

static int add_space(struct server *s, const struct link_msg *m, int take_mem, int take_bits, struct gw_err *e)
{
	gw_auto(fd) int mem = take_mem;
	gw_auto(fd) int bits = take_bits;
	struct space *sp = calloc(1, sizeof(*sp));
	if (!sp)
		return gw_fail(e, GW_SYS, ENOMEM, "memory space %u", m->space);
	int rc = gw_bits_open(gw_take_fd(&bits), &sp->data);
	if (rc < 0) {
		free(sp);
		return gw_fail(e, GW_SYS, -rc, "page map of memory space %u", m->space);
	}
	sp->id = m->space;
	sp->vpid = m->vpid;
	sp->memfd = gw_take_fd(&mem);
	sp->next = s->spaces;
	s->spaces = sp;
	return 0;
}

static int take_recent(struct server *s, uint64_t count, int take_fd, struct gw_err *e)
{
	gw_auto(fd) int fd = take_fd;
	struct stat st;
	if (count == 0)
		return 0;
	if (fstat(fd, &st) < 0 || (uint64_t)st.st_size / sizeof(struct link_span) < count)
		return gw_fail(e, GW_INPUT, EINVAL, "recent spans: %llu announced, file too short",
		               (unsigned long long)count);
	s->recent_bytes = (size_t)st.st_size;
	s->recent = mmap(NULL, s->recent_bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (s->recent == MAP_FAILED) {
		s->recent = NULL;
		return gw_fail(e, GW_SYS, errno, "map recent spans");
	}
	s->nrecent = count;
	return 0;
}

static void begin_serving(struct server *s)
{
	s->given = true;
	uint64_t pages = 0;
	for (struct space *sp = s->spaces; sp; sp = sp->next)
		pages += sp->total_pages = gw_bits_count(&sp->data);
	atomic_store(&s->shared->left_bytes, pages * GW_PAGE_BYTES);
	for (struct consumer *c = s->consumers; c && !s->failed; c = c->next)
		consumer_attach(s, c);
}

static void on_message(struct server *s, const struct link_msg *m, int *fds, unsigned nfds)
{
	struct gw_err e = {.class = GW_OK};
	int a = nfds > 0 ? gw_take_fd(&fds[0]) : -1, b = nfds > 1 ? gw_take_fd(&fds[1]) : -1;
	switch (m->type) {
	case LINK_SPACE:
		if (s->given || b < 0)
			(void)gw_fail(&e, GW_INPUT, EPROTO, "memory space %u without its files, or after the last",
			              m->space);
		else if (add_space(s, m, gw_take_fd(&a), gw_take_fd(&b), &e) == 0)
			return;
		reply(s, LINK_ANSWER, &e);
		break;
	case LINK_GO:
		if (s->given)
			(void)gw_fail(&e, GW_INPUT, EALREADY, "memory was given before");
		else
			(void)take_recent(s, m->count, gw_take_fd(&a), &e);
		/* First the answer: godwitd's freeze waits for it, a page fault not yet. */
		reply(s, LINK_ANSWER, &e);
		if (e.class == GW_OK)
			begin_serving(s);
		break;
	case LINK_DISCARD: atomic_store(&s->shared->outcome, OUT_DISCARDED); break;
	default: (void)gw_fail(&e, GW_INPUT, EPROTO, "unknown request %u", m->type); reply(s, LINK_ANSWER, &e);
	}
	if (a >= 0)
		(void)close(a);
	if (b >= 0)
		(void)close(b);
}

static void on_link(struct server *s)
{
	struct link_msg m;
	int fds[2] = {-1, -1};
	unsigned n = 2;
	ssize_t got = gw_recv_fds(s->link, &m, sizeof(m), fds, &n);
	if (got == -EAGAIN)
		return;
	if (got <= 0) {
		/* godwitd is gone. What was given is ours to finish. */
		(void)close(gw_take_fd(&s->link));
		if (!s->given && atomic_load(&s->shared->holds))
			pages_fail(s, EPIPE, "godwitd ended before it had given the memory");
		else if (!s->given ||
		         (s->criu < 0 && !s->restored)) /* then CRIU was waiting for godwitd, and gives up too */
			atomic_store(&s->shared->outcome, OUT_DISCARDED);
		return;
	}
	if (got == (ssize_t)sizeof(m) && m.magic == LINK_MAGIC) {
		on_message(s, &m, fds, n);
		return;
	}
	for (unsigned i = 0; i < n; i++)
		(void)close(fds[i]);
	struct gw_err e;
	(void)gw_fail(&e, GW_INPUT, EPROTO, "godwitd and godwit-pages are of different versions");
	reply(s, LINK_ANSWER, &e);
}

/* ---- CRIU's socket ---- */

static void add_watch(struct server *s, int fd, void *tag, const char *what)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = tag};
	if (epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &ev) < 0)
		pages_fail(s, errno, "watch %s", what);
}

static void on_connect(struct server *s)
{
	int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return;
	s->criu = fd;
	atomic_store(&s->shared->connected, 1);
	(void)close(gw_take_fd(&s->listener)); /* there is one CRIU only */
	add_watch(s, fd, &s->criu, "CRIU's socket");
}

static void on_restored(struct server *s)
{
	s->restored = true;
	s->restored_us = s->worked_us = gw_now_us();
	s->sweep = true;
	atomic_store(&s->shared->restored, 1);
	for (struct space *sp = s->spaces; sp; sp = sp->next)
		if (!sp->first && sp->total_pages) {
			/* A process that ended during the pre-copy, or a zombie. */
			gw_debug("memory of nobody", kv_str("mig", s->label), kv_i64("pid", sp->vpid));
			(void)atomic_fetch_sub(&s->shared->left_bytes, sp->total_pages * GW_PAGE_BYTES);
			(void)gw_bits_clear(&sp->data, 0, GW_BITS_PAGES);
			release_later(s, sp, 0, GW_BITS_PAGES);
		}
}

static void on_uffd(struct server *s, int take_fd)
{
	struct gw_err e;
	struct consumer *c = consumer_new(s, take_fd, s->pending_vpid, &e);
	s->pending_vpid = 0;
	if (!c)
		pages_fail(s, e.err, "%s", e.text);
	else if (s->given)
		consumer_attach(s, c);
}

static void on_word(struct server *s)
{
	int32_t word;
	memcpy(&word, s->word, sizeof(word));
	s->nword = 0;
	if ((uint32_t)word == RESTORE_FINISHED && s->given)
		on_restored(s);
	else if ((uint32_t)word == RESTORE_FINISHED || word == 0)
		pages_fail(s, EPROTO, "CRIU said 0x%x before it had memory", (unsigned)word);
	else if (word > 0)
		s->pending_vpid = word;
	/* else a zombie: it has no memory */
}

static void on_criu_end(struct server *s, ssize_t rc)
{
	(void)close(gw_take_fd(&s->criu));
	if (s->restored)
		return;
	gw_error("CRIU ended before the restore was whole", kv_str("mig", s->label), kv_i64("errno", rc < 0 ? -rc : 0));
	(void)snprintf(s->shared->reason, LINK_TEXT, "CRIU ended before the restore was whole: see its log");
	atomic_store(&s->shared->outcome, OUT_ABANDONED);
}

/* criu/uffd.c, send_uffd(): an int, then one byte with the descriptor. */
static void on_criu(struct server *s)
{
	while (s->criu >= 0 && !s->failed && atomic_load(&s->shared->outcome) == OUT_RUNNING) {
		unsigned n = 1;
		int fd = -1;
		size_t want = s->pending_vpid ? 1 : sizeof(s->word) - s->nword;
		unsigned char *to = s->pending_vpid ? s->word : s->word + s->nword;
		ssize_t got = gw_recv_fds(s->criu, to, want, &fd, &n);
		if (got == -EAGAIN)
			return;
		if (got <= 0) {
			on_criu_end(s, got);
			return;
		}
		if (s->pending_vpid && n == 1) {
			on_uffd(s, fd);
			continue;
		}
		if (n == 1)
			(void)close(fd);
		if (s->pending_vpid || n == 1) {
			pages_fail(s, EPROTO, "CRIU sent %s userfaultfd where there should be %s", n ? "a" : "no",
			           n ? "none" : "one");
			return;
		}
		s->nword += (unsigned)got;
		if (s->nword == sizeof(s->word))
			on_word(s);
	}
}

/* ---- the loop ---- */

static void on_signal(struct server *s)
{
	struct signalfd_siginfo si;
	if (read(s->signals, &si, sizeof(si)) != sizeof(si) || si.ssi_signo == SIGCHLD)
		return;
	if (!s->given && !atomic_load(&s->shared->holds)) {
		atomic_store(&s->shared->outcome, OUT_DISCARDED);
		return;
	}
	if (!s->refused)
		gw_warn("does not end before all memory is in place", kv_str("mig", s->label),
		        kv_u64("signal", si.ssi_signo), kv_u64("left_bytes", atomic_load(&s->shared->left_bytes)));
	s->refused = true;
}

static void on_keeper_end(struct server *s)
{
	int st;
	(void)epoll_ctl(s->epoll, EPOLL_CTL_DEL, s->keeper_pidfd, NULL);
	(void)close(gw_take_fd(&s->keeper_pidfd));
	(void)waitpid(s->keeper, &st, 0);
	gw_warn("keeper ended, starting another", kv_str("mig", s->label), kv_i64("pid", s->keeper),
	        kv_i64("status", st));
	int rc = keeper_start(s);
	if (rc < 0)
		pages_fail(s, -rc, "start a keeper");
	else
		add_watch(s, s->keeper_pidfd, &s->keeper_pidfd, "the keeper");
}

static void dispatch(struct server *s, const struct epoll_event *ev)
{
	void *tag = ev->data.ptr;
	if (tag == &s->link)
		on_link(s);
	else if (tag == &s->listener)
		on_connect(s);
	else if (tag == &s->criu)
		on_criu(s);
	else if (tag == &s->signals)
		on_signal(s);
	else if (tag == &s->keeper_pidfd)
		on_keeper_end(s);
	else
		consumer_read(s, tag);
}

static bool is_running(struct server *s)
{
	return !s->failed && atomic_load(&s->shared->outcome) == OUT_RUNNING;
}

/* What nobody waits for is done in turn with sleep: we run before everything else
 * (self_prepare), and the container needs the core that it would take. In turns long
 * enough that a core with nothing else to do looks for work while we sleep: in gaps
 * of tens of us the kernel does not, and whoever waits for the other cores stands. */
static int64_t rested(struct server *s, uint64_t since_us)
{
	uint64_t now = gw_now_us();
	s->worked_us = now;
	s->turn_us += now - since_us;
	if (s->turn_us < TURN_US)
		return 0;
	s->sleep_until_us = now + s->turn_us;
	s->turn_us = 0;
	return (int64_t)(s->sleep_until_us - now);
}

/* Somebody who asks wakes us; what nobody waits for sleeps its turn out. Whoever was
 * just answered goes on first, perhaps on this core, perhaps to the next fault. */
static int64_t sleep_left(struct server *s, uint64_t now)
{
	uint64_t faults = atomic_load_explicit(&s->shared->faults, memory_order_relaxed);
	if (faults != s->faults_seen && now - s->worked_us < FAULTS_FIRST_US &&
	    s->sleep_until_us < now + AFTER_FAULT_US)
		s->sleep_until_us = now + AFTER_FAULT_US;
	s->faults_seen = faults;
	return s->sleep_until_us > now ? (int64_t)(s->sleep_until_us - now) : 0;
}

/* One piece of what nobody waits for. Returns how long to sleep before the next: 0 not at all, -1 until something
 * comes. */
static int64_t work(struct server *s)
{
	uint64_t t0 = gw_now_us();
	if (!s->restored)
		return -1;
	if (wipe_step(s))
		return 0;
	if (fill_soon(s)) {
		(void)release_step(s, false); /* in step, or what was written last is held twice */
		return 0;
	}
	int64_t sleep = sleep_left(s, t0);
	if (sleep > 0)
		return sleep;
	if (release_step(s, false))
		return rested(s, t0);
	switch (fill_step(s)) {
	case FILL_WORKED: return rested(s, t0);
	case FILL_LATER: return (int64_t)(s->restored_us + (uint64_t)REST_AFTER_US - t0) + 1;
	case FILL_BLOCKED: return release_step(s, true) ? rested(s, t0) : RETRY_US;
	case FILL_EMPTY: break;
	}
	if (release_step(s, true))
		return rested(s, t0);
	if (!s->consumers && is_running(s)) {
		atomic_store(&s->shared->fill_us, gw_now_us() - s->restored_us);
		atomic_store(&s->shared->outcome, OUT_DONE);
		return 0;
	}
	return -1;
}

/* A copy that was refused because a mapping changes: the moment when it is
 * taken comes right after the event was read and may be short, as a thread
 * that changes mappings all the time leaves no other. So spin first. */
static int64_t retry_pause(struct server *s)
{
	int64_t us = s->pause_us ? (int64_t)s->pause_us : RETRY_US;
	s->pause_us = 0;
	return gw_now_us() - s->event_us < SPIN_US ? 0 : us;
}

static int look(struct server *s, struct epoll_event *ev, int64_t pause_us)
{
	if (s->nwaiting || s->nunsettled || pause_us == RETRY_US)
		pause_us = pause_us == 0 ? 0 : retry_pause(s);
	struct timespec t = {.tv_sec = pause_us / 1000000, .tv_nsec = pause_us % 1000000 * 1000};
	uint64_t before = gw_now_ns();
	int n = epoll_pwait2(s->epoll, ev, EVENTS, pause_us < 0 ? NULL : &t, NULL);
	/* Did not sleep: it may have been asked any time since the last look. */
	s->asked_ns = pause_us == 0 ? before : gw_now_ns();
	return n;
}

static void loop(struct server *s)
{
	struct epoll_event ev[EVENTS];
	int64_t pause_us = -1;
	while (is_running(s)) {
		int n = look(s, ev, pause_us);
		if (n < 0 && errno != EINTR)
			pages_fail(s, errno, "wait for page faults");
		for (int i = 0; i < n && is_running(s); i++)
			dispatch(s, &ev[i]);
		if ((s->nwaiting || s->nunsettled) && is_running(s))
			consumers_retry(s);
		if (s->sweep && is_running(s))
			consumers_sweep(s);
		pause_us = is_running(s) ? work(s) : 0;
	}
}

/* ---- beginning and end ---- */

static int open_all(struct server *s, struct gw_err *e)
{
	struct stat st;
	if (fstat(LINK_SHARED_FD, &st) < 0 || st.st_size < (off_t)sizeof(struct link_shared) ||
	    fcntl(LINK_FD, F_SETFL, O_NONBLOCK) < 0)
		return gw_fail(e, GW_INPUT, EBADF, "godwit-pages is started by godwitd, with its descriptors");
	s->link = LINK_FD;
	s->shared = mmap(NULL, sizeof(*s->shared), PROT_READ | PROT_WRITE, MAP_SHARED, LINK_SHARED_FD, 0);
	s->zero = aligned_alloc(GW_PAGE_BYTES, GW_PAGE_BYTES);
	s->buf = aligned_alloc(GW_PAGE_BYTES, PIECE_PAGES * GW_PAGE_BYTES);
	if (s->shared == MAP_FAILED)
		s->shared = NULL;
	if (!s->shared || !s->zero || !s->buf)
		return gw_fail(e, GW_SYS, ENOMEM, "start");
	memset(s->zero, 0, GW_PAGE_BYTES);
	memset(s->buf, 0, PIECE_PAGES * GW_PAGE_BYTES);
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	sigset_t set;
	sigfillset(&set);
	for (int sig = 1; sig < NSIG; sig++)
		if (sig == SIGSEGV || sig == SIGBUS || sig == SIGABRT || sig == SIGFPE || sig == SIGILL)
			sigdelset(&set, sig);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	s->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	s->self_pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	if (s->epoll < 0 || s->signals < 0 || s->self_pidfd < 0)
		return gw_fail(e, GW_SYS, errno, "start");
	return 0;
}

static int ignore_pid(void *ctx, pid_t pid)
{
	(void)ctx;
	(void)pid;
	return 0;
}

static int begin(struct server *s, struct gw_err *e)
{
	int rc = open_all(s, e);
	if (rc < 0)
		return rc;
	rc = cgroup_each(s->cgroup_dir, ignore_pid, NULL);
	if (rc < 0)
		return gw_fail(e, GW_SYS, -rc, "read the container's cgroup %s", s->cgroup_dir);
	rc = gw_unix_listen(s->socket_path, &s->listener, e);
	if (rc < 0)
		return rc;
	self_prepare();
	atomic_store(&s->shared->server, getpid());
	rc = keeper_start(s);
	if (rc < 0)
		return gw_fail(e, GW_SYS, -rc, "start the keeper");
	add_watch(s, s->link, &s->link, "godwitd's socket");
	add_watch(s, s->listener, &s->listener, "the lazy-pages socket");
	add_watch(s, s->signals, &s->signals, "signals");
	add_watch(s, s->keeper_pidfd, &s->keeper_pidfd, "the keeper");
	if (s->failed)
		*e = s->why;
	return s->failed ? -s->why.err : 0;
}

static void free_all(struct server *s)
{
	consumers_sweep(s);
	wipe_forget(s);
	for (struct space *sp; (sp = s->spaces);) {
		s->spaces = sp->next;
		space_free(sp);
	}
	free(s->release);
	free(s->zero);
	free(s->buf);
}

static int end(struct server *s)
{
	if (s->failed) {
		(void)snprintf(s->shared->reason, LINK_TEXT, "%.*s", LINK_TEXT - 1, s->why.text);
		/* Nothing of the container has run yet: whoever restores it sees it fail, and discards it. */
		gw_error("page server failed", kv_str("mig", s->label), kv_str("reason", s->why.text));
		atomic_store(&s->shared->outcome, OUT_FAILED);
	}
	unsigned out = atomic_load(&s->shared->outcome);
	if (out == OUT_DONE)
		gw_info("memory in place", kv_str("mig", s->label), kv_u64("faults", atomic_load(&s->shared->faults)),
		        kv_u64("copied_bytes", atomic_load(&s->shared->copied_bytes)),
		        kv_u64("fill_us", atomic_load(&s->shared->fill_us)),
		        kv_u64("fault_us_max", atomic_load(&s->shared->fault_us_max)));
	for (struct consumer *c = s->consumers; c; c = c->next) {
		if (out == OUT_FAILED)
			(void)gw_take_fd(&c->uffd); /* stays open, in the keeper too, until the container is dead */
		consumer_end(s, c);
	}
	if (out != OUT_FAILED)
		(void)unlink(s->socket_path);
	free_all(s);
	if (out == OUT_FAILED)
		return EXIT_FAILED;
	return out == OUT_ABANDONED ? EXIT_ABANDONED : EXIT_DONE;
}

static int arguments(struct server *s, int argc, char **argv)
{
	static const struct option o[] = {{"socket", required_argument, NULL, 's'},
	                                  {"cgroup", required_argument, NULL, 'c'},
	                                  {"reason", required_argument, NULL, 'r'},
	                                  {"label", required_argument, NULL, 'l'},
	                                  {0}};
	for (int c; (c = getopt_long(argc, argv, "", o, NULL)) != -1;) {
		switch (c) {
		case 's': s->socket_path = optarg; break;
		case 'c': s->cgroup_dir = optarg; break;
		case 'r': s->reason_path = optarg; break;
		case 'l': s->label = optarg; break;
		default: return -EINVAL;
		}
	}
	return s->socket_path && s->cgroup_dir && s->reason_path && s->label && optind == argc ? 0 : -EINVAL;
}

int gw_pages_main(int argc, char **argv)
{
	struct server s = {.epoll = -1,
	                   .link = -1,
	                   .listener = -1,
	                   .criu = -1,
	                   .signals = -1,
	                   .self_pidfd = -1,
	                   .keeper_pidfd = -1};
	gw_log_init("godwit-pages", GW_INFO, GW_LOG_TEXT);
	if (argc == 3 && !strcmp(argv[1], "recharge"))
		return gw_recharge_main(argv[2]);
	if (arguments(&s, argc, argv) < 0) {
		(void)fprintf(stderr, "usage: godwit-pages --socket PATH --cgroup DIR --reason PATH --label TEXT\n"
		                      "The page server of a container that moved in. godwitd starts it.\n");
		return EXIT_USAGE;
	}
	/* Not godwitd's child: it need not be waited for, and outlives it. */
	pid_t pid = fork();
	if (pid != 0)
		return pid > 0 ? EXIT_DONE : EXIT_FAILED;
	struct gw_err e = {.class = GW_OK};
	int rc = begin(&s, &e);
	if (s.link >= 0)
		reply(&s, LINK_HELLO, &e);
	if (rc < 0) {
		gw_error("page server did not start", kv_str("mig", s.label), kv_str("reason", e.text));
		if (s.shared)
			atomic_store(&s.shared->outcome, OUT_DISCARDED);
		free_all(&s);
		return EXIT_FAILED;
	}
	loop(&s);
	return end(&s);
}
