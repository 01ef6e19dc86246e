#include "cni/ipam.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/io.h"
#include "net/rtnl.h"

enum { LOCK_WITHIN_MS = 30000, LOCK_EVERY_US = 2000, TRIES_MAX = 1 << 17, FILE_MAX = 4096 };

static const char *plain(const struct gw_addr *a, char out[INET6_ADDRSTRLEN])
{
	if (!inet_ntop(a->family, a->bytes, out, INET6_ADDRSTRLEN))
		out[0] = 0;
	return out;
}

static void path_of(const struct gw_ipam *s, const char *kind, const struct gw_addr *a, char out[PATH_MAX])
{
	char t[INET6_ADDRSTRLEN];
	gw_path(out, PATH_MAX, "%s/%s/%s", s->dir, kind, plain(a, t));
}

static int lock(const char *path, int *out_fd, struct gw_err *e)
{
	gw_auto(fd) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return gw_fail(e, GW_SYS, errno, "open %s", path);
	/* A lock that cannot be waited for with a limit is asked for again and again. */
	for (uint64_t end = gw_now_ms() + LOCK_WITHIN_MS; flock(fd, LOCK_EX | LOCK_NB) < 0;
	     gw_sleep_us(LOCK_EVERY_US)) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return gw_fail(e, GW_SYS, errno, "lock %s", path);
		if (gw_now_ms() > end)
			return gw_fail_code(e, GW_RETRY, "TryAgain", "%s is held by another call for more than %d s",
			                    path, LOCK_WITHIN_MS / 1000);
	}
	*out_fd = gw_take_fd(&fd);
	return 0;
}

int gw_ipam_open(const char *data_dir, struct gw_ipam *out, struct gw_err *e)
{
	static const char *const kinds[] = {"addr", "pod", "last", "reserved", "away", "done"};
	gw_auto(ipam) struct gw_ipam s = {.lock = -1};
	char path[PATH_MAX];
	if (strlen(data_dir) >= sizeof(s.dir))
		return gw_fail(e, GW_INPUT, ENAMETOOLONG, "folder %s", data_dir);
	(void)snprintf(s.dir, sizeof(s.dir), "%s", data_dir);
	for (unsigned i = 0; i < gw_countof(kinds); i++) {
		gw_path(path, sizeof(path), "%s/%s", s.dir, kinds[i]);
		int rc = gw_mkdirs(path, e);
		if (rc < 0)
			return rc;
	}
	gw_path(path, sizeof(path), "%s/lock", s.dir);
	int rc = lock(path, &s.lock, e);
	if (rc < 0)
		return rc;
	*out = s;
	s.lock = -1;
	return 0;
}

void gw_ipam_owner(struct gw_ipam_owner *o, const char *network, const char *container, const char *ifname)
{
	*o = (struct gw_ipam_owner){0};
	(void)snprintf(o->network, sizeof(o->network), "%s", network);
	(void)snprintf(o->container, sizeof(o->container), "%s", container);
	(void)snprintf(o->ifname, sizeof(o->ifname), "%s", ifname);
}

bool gw_ipam_same(const struct gw_ipam_owner *a, const struct gw_ipam_owner *b)
{
	return !strcmp(a->network, b->network) && !strcmp(a->container, b->container) && !strcmp(a->ifname, b->ifname);
}

static int exists(const char *path)
{
	return access(path, F_OK) == 0;
}

bool gw_ipam_marked(const struct gw_ipam *s, const char *kind, const struct gw_addr *a)
{
	char path[PATH_MAX];
	path_of(s, kind, a, path);
	return exists(path);
}

/* One that a power cut left behind empty belongs to nobody: what was set up
 * under it went with the power. */
static int owner_in(const char *path, struct gw_ipam_owner *out, struct gw_err *e)
{
	gw_auto(mem) char *text = NULL;
	struct gw_err mine = {0};
	struct gw_ipam_owner o = {0};
	int rc = gw_read_file(path, FILE_MAX, &text, NULL, &mine);
	if (rc == -ENOENT)
		return 0;
	if (rc < 0) {
		if (e)
			*e = mine;
		return rc;
	}
	static_assert(GW_CNI_ID_MAX == 128 && IFNAMSIZ == 16);
	if (sscanf(text, "%128s %128s %15s", o.network, o.container, o.ifname) != 3)
		return 0;
	*out = o;
	return 1;
}

int gw_ipam_who(struct gw_ipam *s, const struct gw_addr *a, struct gw_ipam_owner *out, struct gw_err *e)
{
	char path[PATH_MAX];
	path_of(s, "addr", a, path);
	return owner_in(path, out, e);
}

static int write_owner(struct gw_ipam *s, const struct gw_addr *a, const struct gw_ipam_owner *o, struct gw_err *e)
{
	char path[PATH_MAX], text[2 * GW_CNI_ID_MAX + 64];
	int n = snprintf(text, sizeof(text), "%s %s %s\n", o->network, o->container, o->ifname);
	path_of(s, "addr", a, path);
	return gw_write_file(path, text, (size_t)n, e);
}

static bool in_range(const struct gw_addr *a, const struct gw_addr *range)
{
	if (a->family != range->family)
		return false;
	for (unsigned i = 0; i < range->prefix; i++)
		if ((a->bytes[i / 8] ^ range->bytes[i / 8]) & (0x80u >> i % 8))
			return false;
	return true;
}

/* IPv4: not the range's own address nor its broadcast; IPv6: not the routers'
 * anycast address. A range of one or two has no such (RFC 3021, RFC 6164). */
static bool is_for_hosts(const struct gw_addr *a, const struct gw_addr *range)
{
	unsigned bits = (unsigned)gw_addr_len(a->family) * 8;
	bool zeros = true, ones = true;
	if (bits - range->prefix < 2)
		return true;
	for (unsigned i = range->prefix; i < bits; i++) {
		bool set = a->bytes[i / 8] & (0x80u >> i % 8);
		zeros &= !set;
		ones &= set;
	}
	return !zeros && !(ones && a->family == AF_INET);
}

static void step(struct gw_addr *a, const struct gw_addr *range)
{
	for (size_t i = gw_addr_len(a->family); i-- > 0;)
		if (++a->bytes[i])
			break;
	if (!in_range(a, range))
		memcpy(a->bytes, range->bytes, sizeof(a->bytes));
}

static void last_path(const struct gw_ipam *s, const struct gw_addr *range, char out[PATH_MAX])
{
	char t[INET6_ADDRSTRLEN];
	gw_path(out, PATH_MAX, "%s/last/%s_%u", s->dir, plain(range, t), range->prefix);
}

/* Where the search starts; a file that is damaged only means: at the beginning. */
static struct gw_addr last_of(const struct gw_ipam *s, const struct gw_addr *range)
{
	char path[PATH_MAX];
	gw_auto(mem) char *text = NULL;
	struct gw_addr a = *range, was;
	last_path(s, range, path);
	if (gw_read_file(path, FILE_MAX, &text, NULL, NULL) == 0 && gw_addr_parse(text, &was) == 0 &&
	    in_range(&was, range))
		a = was;
	a.prefix = (uint8_t)(gw_addr_len(range->family) * 8);
	return a;
}

static int take(struct gw_ipam *s, const struct gw_addr *range, const struct gw_addr *a, const struct gw_ipam_owner *o,
                struct gw_err *e)
{
	char path[PATH_MAX], text[64];
	int rc = write_owner(s, a, o, e);
	if (rc < 0)
		return rc;
	last_path(s, range, path);
	gw_addr_text(a, text, sizeof(text));
	return gw_write_file(path, text, strlen(text), e);
}

int gw_ipam_take(struct gw_ipam *s, const struct gw_addr *range, const struct gw_ipam_owner *o, gw_ipam_usable usable,
                 void *arg, struct gw_addr *out, struct gw_err *e)
{
	static const char *const taken[] = {"addr", "reserved", "away"};
	struct gw_addr a = last_of(s, range);
	char text[64];
	unsigned host_bits = (unsigned)gw_addr_len(a.family) * 8 - range->prefix;
	unsigned tries = host_bits < 17 ? 1u << host_bits : TRIES_MAX;
	for (unsigned i = 0; i < tries; i++) {
		step(&a, range);
		bool free = is_for_hosts(&a, range);
		for (unsigned k = 0; free && k < gw_countof(taken); k++)
			free = !gw_ipam_marked(s, taken[k], &a);
		int rc = free ? usable(arg, &a, e) : 0;
		if (rc == 1) {
			rc = take(s, range, &a, o, e);
			if (rc == 0)
				*out = a;
			return rc;
		}
		if (rc < 0)
			return rc;
	}
	return gw_fail_code(e, GW_INPUT, "NoFreeAddress",
	                    "no address of %s is free: %s/addr, reserved and away say who has them",
	                    gw_addr_text(range, text, sizeof(text)), s->dir);
}

int gw_ipam_take_this(struct gw_ipam *s, const struct gw_addr *a, const struct gw_ipam_owner *o, struct gw_err *e)
{
	struct gw_ipam_owner who;
	char text[INET6_ADDRSTRLEN];
	int rc = gw_ipam_who(s, a, &who, e);
	if (rc < 0)
		return rc;
	if (rc == 1 && !gw_ipam_same(&who, o) && !gw_ipam_marked(s, "away", a))
		return gw_fail_code(e, GW_INPUT, "AddressInUse", "address %s is given to container %.64s on this host",
		                    plain(a, text), who.container);
	return write_owner(s, a, o, e);
}

static int remove_file(const char *path, struct gw_err *e)
{
	if (unlink(path) < 0 && errno != ENOENT)
		return gw_fail(e, GW_SYS, errno, "remove %s", path);
	return 0;
}

int gw_ipam_give_back(struct gw_ipam *s, const struct gw_addr *a, const struct gw_ipam_owner *o, struct gw_err *e)
{
	struct gw_ipam_owner who;
	char path[PATH_MAX];
	int rc = gw_ipam_who(s, a, &who, e);
	if (rc < 0 || (rc == 1 && !gw_ipam_same(&who, o)))
		return rc < 0 ? rc : 0;
	path_of(s, "addr", a, path);
	return remove_file(path, e);
}

int gw_ipam_each(struct gw_ipam *s, gw_ipam_visit fn, void *arg, struct gw_err *e)
{
	char path[PATH_MAX];
	gw_path(path, sizeof(path), "%s/addr", s->dir);
	gw_auto(dir) DIR *d = opendir(path);
	if (!d)
		return gw_fail(e, GW_SYS, errno, "list %s", path);
	for (struct dirent *de; (de = readdir(d));) {
		struct gw_addr a;
		struct gw_ipam_owner o = {0};
		/* Also not: "." and "..", and what a crash left of a file being written. */
		if (gw_addr_parse(de->d_name, &a) < 0)
			continue;
		int rc = gw_ipam_who(s, &a, &o, e);
		if (rc >= 0)
			rc = fn(arg, &a, &o, e);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int sync_dir(const char *dir, struct gw_err *e)
{
	gw_auto(fd) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) < 0)
		return gw_fail(e, GW_SYS, errno, "sync %s", dir);
	return 0;
}

/* A marker that a power cut loses would let an address be given out twice. */
static int mark(struct gw_ipam *s, const char *kind, const struct gw_addr *a, const char *note, struct gw_err *e)
{
	char path[PATH_MAX], dir[PATH_MAX];
	path_of(s, kind, a, path);
	gw_path(dir, sizeof(dir), "%s/%s", s->dir, kind);
	gw_auto(fd) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return gw_fail(e, GW_SYS, errno, "create %s", path);
	int rc = gw_write_full(fd, note, strlen(note));
	if (rc == 0 && fsync(fd) < 0)
		rc = -errno;
	return rc < 0 ? gw_fail(e, GW_SYS, -rc, "write %s", path) : sync_dir(dir, e);
}

static int unmark(const char *data_dir, const char *kind, const struct gw_addr *a, struct gw_err *e)
{
	gw_auto(ipam) struct gw_ipam s = {.lock = -1};
	char path[PATH_MAX];
	int rc = gw_ipam_open(data_dir, &s, e);
	if (rc < 0)
		return rc;
	path_of(&s, kind, a, path);
	rc = remove_file(path, e);
	if (rc < 0)
		return rc;
	gw_path(path, sizeof(path), "%s/%s", s.dir, kind);
	return sync_dir(path, e);
}

int gw_ipam_away_set(const char *data_dir, const struct gw_addr *a, const char *note, struct gw_err *e)
{
	gw_auto(ipam) struct gw_ipam s = {.lock = -1};
	int rc = gw_ipam_open(data_dir, &s, e);
	return rc < 0 ? rc : mark(&s, "away", a, note, e);
}

int gw_ipam_away_clear(const char *data_dir, const struct gw_addr *a, struct gw_err *e)
{
	return unmark(data_dir, "away", a, e);
}

int gw_ipam_reserve(const char *data_dir, const struct gw_addr *a, const char *note, struct gw_err *e)
{
	gw_auto(ipam) struct gw_ipam s = {.lock = -1};
	struct gw_ipam_owner who = {0};
	char text[INET6_ADDRSTRLEN];
	int rc = gw_ipam_open(data_dir, &s, e);
	if (rc == 0)
		rc = mark(&s, "reserved", a, note, e);
	if (rc == 0)
		rc = gw_ipam_who(&s, a, &who, e);
	if (rc == 1)
		return gw_fail_code(e, GW_INPUT, "AddressInUse",
		                    "address %s is reserved now, but container %.64s of this host has it",
		                    plain(a, text), who.container);
	return rc;
}

int gw_ipam_unreserve(const char *data_dir, const struct gw_addr *a, struct gw_err *e)
{
	return unmark(data_dir, "reserved", a, e);
}
