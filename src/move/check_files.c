/* check_files: the open descriptors of a process, by what they are. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "base/io.h"
#include "base/scope.h"
#include "move/check_look.h"

enum { LINK_MAX_BYTES = 4096, PROTO_MAX = 64 };
/* Documentation/admin-guide/devices.txt */
enum { MAJOR_TTYAUX = 5, MINOR_TTY = 0, MINOR_CONSOLE = 1, MINOR_PTMX = 2, MAJOR_PTS = 136, MAJOR_PTS_LAST = 143 };

/* One descriptor of one process. */
struct fd_look {
	struct gw_look *l;
	size_t proc;
	int fd;
	const char *who;
	const char *path; /* "/proc/PID/fd/N" */
	const char *link; /* what it shows */
	const char *info; /* its fdinfo, read when first asked for */
	char *owned_info;
};

static const char *info_of(struct fd_look *f)
{
	if (!f->info) {
		f->owned_info = gw_look_text("/proc/%d/fdinfo/%d", f->l->procs[f->proc].pid, f->fd);
		f->info = f->owned_info ?: "";
	}
	return f->info;
}

static unsigned long flags_of(struct fd_look *f)
{
	const char *v = gw_look_field(info_of(f), "flags:");
	return v ? strtoul(v, NULL, 8) : 0;
}

/* ---- sockets ---- */

/* sk->sk_prot->name, by the kernel's system.sockprotoname. */
static const struct {
	const char *proto;
	const char *code; /* NULL: fine as far as this goes */
	enum gw_look_kind kind;
} PROTOS[] = {
        {"TCP", NULL, GW_SK_INET},         {"TCPv6", NULL, GW_SK_INET},      {"UDP", NULL, GW_SK_INET},
        {"UDPv6", NULL, GW_SK_INET},       {"UDP-Lite", NULL, GW_SK_INET},   {"UDPLITEv6", NULL, GW_SK_INET},
        {"PING", NULL, GW_SK_INET},        {"PINGv6", NULL, GW_SK_INET},     {"UNIX", NULL, GW_SK_UNIX},
        {"UNIX-STREAM", NULL, GW_SK_UNIX}, {"NETLINK", NULL, GW_SK_NETLINK}, {"MPTCP", "Mptcp", 0},
        {"MPTCPv6", "Mptcp", 0},           {"RAW", "RawSocket", 0},          {"RAWv6", "RawSocket", 0},
        {"PACKET", "PacketSocket", 0},     {"SCTP", "SctpSocket", 0},        {"SCTPv6", "SctpSocket", 0},
};

static int add_sock(struct fd_look *f, uint64_t ino, enum gw_look_kind kind)
{
	void *array = f->l->socks;
	if (gw_look_grow(&array, &f->l->socks_cap, f->l->nsocks, sizeof(*f->l->socks)) < 0)
		return -ENOMEM;
	f->l->socks = array;
	f->l->socks[f->l->nsocks++] = (struct gw_look_sock){.ino = ino, .proc = f->proc, .fd = f->fd, .kind = kind};
	return 0;
}

static int look_socket(struct fd_look *f)
{
	char proto[PROTO_MAX] = "";
	ssize_t n = getxattr(f->path, "system.sockprotoname", proto, sizeof(proto) - 1);
	if (n < 0)
		return errno == ENOENT ? 0 : -errno;
	proto[n] = 0;
	for (size_t i = 0; i < gw_countof(PROTOS); i++) {
		if (strcmp(proto, PROTOS[i].proto) != 0)
			continue;
		if (!PROTOS[i].code)
			return add_sock(f, strtoull(f->link + strlen("socket:["), NULL, 10), PROTOS[i].kind);
		gw_reasons_add(f->l->out, PROTOS[i].code, "%s has a socket of protocol %s (fd %d)", f->who, proto,
		               f->fd);
		return 0;
	}
	gw_reasons_add(f->l->out, "SocketFamily", "%s has a socket of protocol %s (fd %d)", f->who, proto, f->fd);
	return 0;
}

/* ---- what has no path ---- */

static bool pid_in_tree(const struct gw_look *l, pid_t pid)
{
	for (size_t i = 0; i < l->nprocs; i++)
		if (l->procs[i].pid == pid)
			return l->procs[i].in_tree;
	return false;
}

static void kernel_object(struct fd_look *f, const char *what)
{
	gw_reasons_add(f->l->out, "KernelObject", "%s holds %s (fd %d)", f->who, what, f->fd);
}

static void look_pidfd(struct fd_look *f)
{
	const char *v = gw_look_field(info_of(f), "Pid:");
	pid_t pid = v ? atoi(v) : -1;
	if (flags_of(f) & O_EXCL) /* PIDFD_THREAD */
		kernel_object(f, "a pidfd of a thread");
	else if (pid != -1 && !pid_in_tree(f->l, pid))
		kernel_object(f, "a pidfd of a process outside");
}

static void look_anon(struct fd_look *f, const char *name)
{
	const char *counting = !strcmp(name, "[eventfd]") ? gw_look_field(info_of(f), "eventfd-semaphore:") : NULL;
	if (counting && atoi(counting)) /* CRIU 4.2 restores it as a plain counter */
		gw_reasons_add(f->l->out, "EventfdSemaphore", "%s has an eventfd made with EFD_SEMAPHORE (fd %d)",
		               f->who, f->fd);
	static const char *const fine[] = {"[eventfd]", "[eventpoll]", "[signalfd]", "[timerfd]"};
	for (size_t i = 0; i < gw_countof(fine); i++)
		if (!strcmp(name, fine[i]))
			return;
	if (!strcmp(name, "inotify") || !strcmp(name, "[fanotify]") || !strcmp(name, "[inotify]"))
		gw_look_watch(f->l, f->proc, f->fd, info_of(f));
	else if (!strcmp(name, "[io_uring]"))
		gw_reasons_add(f->l->out, "IoUring", "%s has an io_uring (fd %d)", f->who, f->fd);
	else if (!strcmp(name, "[pidfd]"))
		look_pidfd(f);
	else
		kernel_object(f, name);
}

/* "net:[4026531833]" must be a namespace of the container. */
static void look_namespace(struct fd_look *f)
{
	char path[64], ours[64];
	size_t n = strcspn(f->link, ":");
	(void)snprintf(path, sizeof(path), "/proc/%d/ns/%.*s", f->l->c->init_pid, (int)(n < 20 ? n : 20), f->link);
	ssize_t len = readlink(path, ours, sizeof(ours) - 1);
	ours[len < 0 ? 0 : len] = 0;
	if (strcmp(ours, f->link) != 0)
		kernel_object(f, f->link);
}

/* ---- what has one ---- */

static int look_pts(struct fd_look *f, const struct stat *st, bool is_master)
{
	const char *v = is_master ? gw_look_field(info_of(f), "tty-index:") : NULL;
	int index = is_master ? (v ? atoi(v) : -1) : (int)((major(st->st_rdev) - MAJOR_PTS) << 20 | minor(st->st_rdev));
	void *array = f->l->ttys;
	if (gw_look_grow(&array, &f->l->ttys_cap, f->l->nttys, sizeof(*f->l->ttys)) < 0)
		return -ENOMEM;
	f->l->ttys = array;
	f->l->ttys[f->l->nttys++] =
	        (struct gw_look_tty){.index = index, .proc = f->proc, .fd = f->fd, .is_master = is_master};
	return 0;
}

static int look_tty(struct fd_look *f, const struct gw_look_file *file, bool *out_is_tty)
{
	unsigned maj = major(file->st.st_rdev), min = minor(file->st.st_rdev);
	bool slave = maj >= MAJOR_PTS && maj <= MAJOR_PTS_LAST, master = maj == MAJOR_TTYAUX && min == MINOR_PTMX;
	bool console = maj == MAJOR_TTYAUX && (min == MINOR_TTY || min == MINOR_CONSOLE);
	*out_is_tty = S_ISCHR(file->st.st_mode) && (slave || master || console);
	if (!*out_is_tty)
		return 0;
	bool inside = false;
	for (size_t i = 0; i < f->l->nmnts; i++)
		inside |= f->l->mnts[i].id == file->mnt_id;
	if (console || !inside)
		gw_reasons_add(f->l->out, "Terminal", "%s has the terminal %s open (fd %d)", f->who, f->link, f->fd);
	/* A slave without a name has lost its master: nothing hangs on it any more. */
	else if (master || !strstr(f->link, " (deleted)"))
		return look_pts(f, &file->st, master);
	return 0;
}

static int look_path(struct fd_look *f)
{
	char how[24];
	bool is_tty = false;
	(void)snprintf(how, sizeof(how), "fd %d", f->fd);
	struct gw_look_file file = {.proc = f->proc, .how = how, .link = f->path, .path = f->link};
	const char *v = gw_look_field(info_of(f), "mnt_id:");
	if (!v || stat(f->path, &file.st) < 0)
		return 0;
	file.mnt_id = atoi(v);
	bool inside = false;
	for (size_t i = 0; i < f->l->nmnts; i++)
		inside |= f->l->mnts[i].id == file.mnt_id;
	/* Objects of the kernel's own mounts have names that look like paths. */
	if (!inside && (!strncmp(f->link, "/memfd:", 7) || !strncmp(f->link, "/anon_hugepage", 14))) {
		uint64_t held = (uint64_t)file.st.st_blocks * 512;
		f->l->shared = held > f->l->shared ? held : f->l->shared;
		return 0;
	}
	if (!inside && (!strncmp(f->link, "/secretmem", 10) || !strncmp(f->link, "/dmabuf:", 8))) {
		kernel_object(f, f->link);
		return 0;
	}
	int rc = look_tty(f, &file, &is_tty);
	if (rc == 0 && !is_tty && !gw_look_device(f->l, &file))
		gw_look_file(f->l, &file);
	return rc;
}

static int look_fd(struct fd_look *f)
{
	if (!strncmp(f->link, "socket:[", 8))
		return look_socket(f);
	if (!strncmp(f->link, "pipe:[", 6)) {
		if (flags_of(f) & O_DIRECT)
			gw_reasons_add(f->l->out, "PacketPipe", "%s has a pipe in packet mode (fd %d)", f->who, f->fd);
		return 0;
	}
	if (!strncmp(f->link, "anon_inode:", 11)) {
		look_anon(f, f->link + 11);
		return 0;
	}
	if (f->link[0] == '/')
		return look_path(f);
	if (!strncmp(f->link, "pidfd:", 6))
		look_pidfd(f);
	else
		look_namespace(f);
	return 0;
}

int gw_look_files(struct gw_look *l, size_t proc, struct gw_err *e)
{
	char dir[64], path[96], link[LINK_MAX_BYTES];
	const struct gw_look_proc *p = &l->procs[proc];
	gw_path(dir, sizeof(dir), "/proc/%d/fd", p->pid);
	gw_auto(dir) DIR *d = opendir(dir);
	if (!d && errno != ENOENT && errno != ESRCH)
		return gw_fail(e, GW_SYS, errno, "open %s", dir);
	for (struct dirent *de; d && (de = readdir(d));) {
		if (!isdigit((unsigned char)de->d_name[0]))
			continue;
		gw_path(path, sizeof(path), "%s/%.20s", dir, de->d_name);
		ssize_t n = readlink(path, link, sizeof(link) - 1);
		if (n < 0)
			continue;
		link[n] = 0;
		struct fd_look f = {
		        .l = l, .proc = proc, .fd = atoi(de->d_name), .who = p->who, .path = path, .link = link};
		int rc = look_fd(&f);
		free(f.owned_info);
		if (rc < 0)
			return gw_fail(e, GW_SYS, -rc, "look at %s", path);
	}
	return 0;
}

void gw_look_ttys(struct gw_look *l)
{
	for (size_t i = 0; i < l->nttys; i++) {
		const struct gw_look_tty *t = &l->ttys[i];
		bool has_master = t->is_master;
		for (size_t k = 0; k < l->nttys && !has_master; k++)
			has_master = l->ttys[k].is_master && l->ttys[k].index == t->index;
		if (!has_master)
			gw_reasons_add(l->out, "Terminal",
			               "%s has the terminal /dev/pts/%d open (fd %d), whose other end is outside",
			               l->procs[t->proc].who, t->index, t->fd);
	}
}
