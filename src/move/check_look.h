#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/json.h"
#include "move/check.h"

/* check_look: what the parts of one check share; included by check*.c only.
 *
 * The parts run in this order: config, mounts, procs, then files and maps of
 * each process, then terminals and sockets. Each adds reasons; each returns
 * < 0 only when it could not look. A process or descriptor that goes away
 * meanwhile is nobody's error. Owner and thread: gw_check's caller. */
struct gw_look_mnt {
	int id;
	unsigned major, minor;
	const char *root;  /* what of the file system is mounted */
	const char *point; /* where in the container */
	const char *type;
	bool external; /* made by runc from outside: CRIU is told so */
};

struct gw_look_proc {
	pid_t pid, ppid;
	char who[80]; /* "process 7 (redis-server)": its number in the container */
	bool in_tree; /* descends from the container's first process: CRIU takes it along */
	bool in_cgroup;
	bool is_zombie;
	bool own_mounts; /* is in a mount namespace of its own */
};

struct gw_look_sock {
	uint64_t ino;
	size_t proc; /* index of a process that holds it */
	int fd;
	enum gw_look_kind { GW_SK_INET, GW_SK_UNIX, GW_SK_NETLINK } kind;
	uint64_t unread; /* UDP: bytes that waited at the first look */
	bool is_read;    /* UDP: the queue was empty, or another one, at a later look */
	bool found;      /* in a table of the container's network namespace */
};

struct gw_look_tty {
	int index;
	size_t proc;
	int fd;
	bool is_master;
};

/* A task that was in the kernel when we looked: looked at again at the end. */
struct gw_look_stuck {
	pid_t pid, tid;
	char who[80];
};

/* Which mapped file was judged already. */
struct gw_look_seen {
	uint64_t dev, ino;
};

struct gw_look {
	const struct gw_container *c;
	struct gw_reasons *out;
	yyjson_doc *config;
	int root_fd;     /* the container's root directory; -1 until gw_look_mounts */
	char *mountinfo; /* what mnts points into */
	struct gw_look_mnt *mnts;
	size_t nmnts, mnts_cap;
	struct gw_look_proc *procs; /* sorted by pid */
	size_t nprocs, procs_cap;
	struct gw_look_sock *socks;
	size_t nsocks, socks_cap;
	bool look_again; /* something waited in a queue */
	struct gw_look_tty *ttys;
	size_t nttys, ttys_cap;
	struct gw_look_stuck *stuck;
	size_t nstuck, stuck_cap;
	struct gw_look_seen *seen;
	size_t nseen, seen_cap;
	uint64_t locked, huge, shared; /* bytes; shared: the largest memfd that is open */
};

int gw_look_config(struct gw_look *l, struct gw_err *e);             /* check_config.c */
int gw_look_mounts(struct gw_look *l, struct gw_err *e);             /* check_mounts.c */
int gw_look_procs(struct gw_look *l, struct gw_err *e);              /* check_proc.c */
int gw_look_files(struct gw_look *l, size_t proc, struct gw_err *e); /* check_files.c */
void gw_look_ttys(struct gw_look *l);                                /* check_files.c */
int gw_look_maps(struct gw_look *l, size_t proc, struct gw_err *e);  /* check_maps.c */
int gw_look_socks(struct gw_look *l, struct gw_err *e);              /* check_socks.c */
void gw_look_stuck_again(struct gw_look *l);                         /* check_proc.c */
void gw_look_hosts(const struct gw_container *c, uint64_t memory, const struct gw_facts *here,
                   const struct gw_facts *there, struct gw_reasons *out); /* check_hosts.c */
void gw_look_room(uint64_t need, uint64_t available, struct gw_reasons *out);

/* The marks in the fdinfo of an inotify or fanotify descriptor (check_watch.c). */
void gw_look_watch(struct gw_look *l, size_t proc, int fd, const char *fdinfo);

/* check_path.c: one open or mapped file. */
struct gw_look_file {
	size_t proc;
	const char *how;  /* "fd 3", "mapping 7f..." */
	const char *link; /* "/proc/PID/fd/3" */
	const char *path; /* what that link shows, with " (deleted)" */
	struct stat st;
	int mnt_id; /* < 0: not known, not judged */
	bool is_map;
};
void gw_look_file(struct gw_look *l, const struct gw_look_file *f);
/* Character and block devices other than those every container has. true: reported. */
bool gw_look_device(struct gw_look *l, const struct gw_look_file *f);

/* check_pod.c: is it a container of a pod? Then what was written to its root,
 * and a bind mount (true: it is kubelet's or containerd's, and judged). */
bool gw_look_is_pods(const struct gw_look *l);
void gw_look_pod_layer(struct gw_look *l);
bool gw_look_pod_bind(struct gw_look *l, const char *dest, const char *source);
/* Does the annotation live.godwit.dev/shared-paths name this mount? An entry
 * is a mount's destination, or a directory of the host that has its source. */
bool gw_look_listed(const struct gw_look *l, const char *dest, const char *source);

bool gw_look_is_bind(yyjson_val *mount); /* of config.json; check_config.c */
int gw_look_mnt_id(int fd);              /* from /proc/self/fdinfo, -1: not known */
/* Open a path of the container with O_PATH, never leaving its root. < 0: -errno. */
int gw_look_open(const struct gw_look *l, const char *path, bool follow);

/* Room for one more element of `size` bytes behind the n there are. */
int gw_look_grow(void **array, size_t *cap, size_t n, size_t size);
/* A small /proc file; NULL with errno when it can't be read. The caller frees. */
[[gnu::format(printf, 1, 2)]]
char *gw_look_text(const char *fmt, ...);
/* The value behind "KEY" at the beginning of a line; NULL: not there. */
const char *gw_look_field(const char *text, const char *key);
