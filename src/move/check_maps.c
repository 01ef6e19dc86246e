/* check_maps: what a process has mapped. Lines of /proc/PID/maps:
 * "7f00-7f10 r-xp 00000000 fe:01 12345   /usr/lib/x.so" (proc_pid_maps(5)). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "base/scope.h"
#include "move/check_look.h"

struct map_line {
	uint64_t start, end;
	unsigned major, minor;
	uint64_t ino;
	const char *name;
};

static bool parse(char *line, struct map_line *m)
{
	int at = 0;
	if (sscanf(line, "%lx-%lx %*s %*x %x:%x %lu %n", &m->start, &m->end, &m->major, &m->minor, &m->ino, &at) < 5 ||
	    at == 0)
		return false;
	m->name = line + at;
	return true;
}

static bool starts(const char *s, const char *with)
{
	return !strncmp(s, with, strlen(with));
}

/* Memory of the kernel's own: CRIU makes it again by other means than a path. */
static bool is_shm(const char *name)
{
	return starts(name, "/dev/zero (deleted)") || starts(name, "/SYSV") || starts(name, "/memfd:") ||
	       starts(name, "/anon_hugepage") || starts(name, "/[aio]");
}

static int seen_before(struct gw_look *l, const struct map_line *m)
{
	const struct gw_look_seen key = {.dev = (uint64_t)m->major << 32 | m->minor, .ino = m->ino};
	for (size_t i = l->nseen; i-- > 0;)
		if (l->seen[i].dev == key.dev && l->seen[i].ino == key.ino)
			return 1;
	void *array = l->seen;
	if (gw_look_grow(&array, &l->seen_cap, l->nseen, sizeof(*l->seen)) < 0)
		return -ENOMEM;
	l->seen = array;
	l->seen[l->nseen++] = key;
	return 0;
}

static int look_file(struct gw_look *l, size_t proc, const struct map_line *m)
{
	char path[96], how[48];
	int seen = seen_before(l, m);
	if (seen)
		return seen < 0 ? seen : 0;
	gw_path(path, sizeof(path), "/proc/%d/map_files/%lx-%lx", l->procs[proc].pid, m->start, m->end);
	(void)snprintf(how, sizeof(how), "mapped at %lx", m->start);
	struct gw_look_file f = {.proc = proc, .how = how, .link = path, .path = m->name, .is_map = true};
	/* The mapping may be gone, or be of what has no file. */
	gw_auto(fd) int fd = open(path, O_PATH | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &f.st) < 0)
		return 0;
	f.mnt_id = gw_look_mnt_id(fd);
	if (!gw_look_device(l, &f))
		gw_look_file(l, &f);
	return 0;
}

static int look_line(struct gw_look *l, size_t proc, char *line)
{
	struct map_line m;
	const char *who = l->procs[proc].who;
	if (!parse(line, &m))
		return 0;
	if (!strcmp(m.name, "anon_inode:[io_uring]"))
		gw_reasons_add(l->out, "IoUring", "%s has an io_uring mapped", who);
	else if (!strcmp(m.name, "[uprobes]"))
		gw_reasons_add(l->out, "Uprobes", "%s has uprobes set in it", who);
	else if (starts(m.name, "socket:["))
		gw_reasons_add(l->out, "PacketSocket", "%s has a packet ring mapped", who);
	else if (starts(m.name, "anon_inode:") || starts(m.name, "/secretmem"))
		gw_reasons_add(l->out, "KernelObject", "%s has %s mapped", who, m.name);
	else if (m.name[0] == '/' && !is_shm(m.name))
		return look_file(l, proc, &m);
	return 0;
}

int gw_look_maps(struct gw_look *l, size_t proc, struct gw_err *e)
{
	gw_auto(mem) char *text = gw_look_text("/proc/%d/maps", l->procs[proc].pid);
	if (!text && errno != ENOENT && errno != ESRCH)
		return gw_fail(e, GW_SYS, errno, "read the mappings of process %d", l->procs[proc].pid);
	char *save = NULL;
	for (char *line = text ? strtok_r(text, "\n", &save) : NULL; line; line = strtok_r(NULL, "\n", &save))
		if (look_line(l, proc, line) < 0)
			return gw_fail(e, GW_SYS, ENOMEM, "look at the mappings of process %d", l->procs[proc].pid);
	return 0;
}
