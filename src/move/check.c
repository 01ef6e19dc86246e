#include "move/check.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "base/scope.h"
#include "move/check_look.h"
#include "net/pod.h"

enum { PROC_FILE_MAX = 4 << 20 };
/* Below these nobody notices in the freeze (some 1 ms at memory speed). */
static const uint64_t SLOW_BYTES = 16u << 20;

int gw_look_grow(void **array, size_t *cap, size_t n, size_t size)
{
	if (n < *cap)
		return 0;
	size_t want = *cap ? *cap * 2 : 32;
	void *more = reallocarray(*array, want, size);
	if (!more)
		return -ENOMEM;
	*array = more;
	*cap = want;
	return 0;
}

char *gw_look_text(const char *fmt, ...)
{
	char path[128];
	char *text = NULL;
	struct gw_err why;
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	int rc = gw_read_file(path, PROC_FILE_MAX, &text, NULL, &why);
	if (rc < 0)
		errno = -rc;
	return rc < 0 ? NULL : text;
}

const char *gw_look_field(const char *text, const char *key)
{
	size_t n = strlen(key);
	for (const char *p = text; p; p = strchr(p, '\n')) {
		p += *p == '\n';
		if (!strncmp(p, key, n))
			return p + n + strspn(p + n, " \t");
	}
	return NULL;
}

static void look_done(struct gw_look *l)
{
	yyjson_doc_free(l->config);
	if (l->root_fd >= 0)
		(void)close(l->root_fd);
	free(l->mountinfo);
	free(l->mnts);
	free(l->procs);
	free(l->socks);
	free(l->ttys);
	free(l->stuck);
	free(l->seen);
}

/* "frozen": runc pause. */
static void look_paused(struct gw_look *l)
{
	char path[PATH_MAX];
	struct gw_err why;
	static const char *const file[] = {"freezer.state", "cgroup.events"}, *const word[] = {"FROZEN", "frozen 1"};
	for (size_t i = 0; i < gw_countof(file); i++) {
		gw_auto(mem) char *text = NULL;
		(void)snprintf(path, sizeof(path), "%.4000s/%s", l->c->freezer_dir, file[i]);
		if (gw_read_file(path, 4096, &text, NULL, &why) == 0 && strstr(text, word[i])) {
			gw_reasons_add(l->out, "Paused", "container %s is paused", l->c->id);
			return;
		}
	}
}

static void look_started(struct gw_look *l)
{
	char path[PATH_MAX];
	(void)snprintf(path, sizeof(path), "%.3800s/%s/exec.fifo", l->c->runc_root, l->c->id);
	if (l->c->runc_root[0] && access(path, F_OK) == 0)
		gw_reasons_add(l->out, "NotStarted", "container %s is created, but not started", l->c->id);
}

static int look_network(struct gw_look *l, struct gw_err *e)
{
	struct gw_pod pod;
	struct gw_err why;
	char path[64];
	if (!l->c->own_netns) {
		gw_reasons_add(l->out, "HostNetwork", "container %s uses the host's network namespace", l->c->id);
		return 0;
	}
	if (!l->c->netns_path[0])
		gw_reasons_add(l->out, "NoNetworkPath", "config.json of %s gives no path for its network namespace",
		               l->c->id);
	gw_path(path, sizeof(path), "/proc/%d/ns/net", l->c->init_pid);
	int rc = gw_pod_inspect(path, &pod, &why);
	if (rc == 0 || gw_reasons_add_err(l->out, &why))
		return 0;
	if (e)
		*e = why;
	return rc;
}

static void look_memory(struct gw_look *l)
{
	if (l->locked > SLOW_BYTES)
		gw_reasons_add(l->out, "LockedMemory", "%lu MiB are locked", l->locked >> 20);
	if (l->huge > 0)
		gw_reasons_add(l->out, "HugePages", "%lu MiB are in huge pages", l->huge >> 20);
	if (l->shared > SLOW_BYTES)
		gw_reasons_add(l->out, "SharedMemory", "%lu MiB are in a memfd that is open", l->shared >> 20);
}

static int look(struct gw_look *l, struct gw_err *e)
{
	look_paused(l);
	look_started(l);
	int rc = gw_look_config(l, e);
	if (rc == 0)
		rc = gw_look_mounts(l, e);
	if (rc == 0)
		rc = gw_look_procs(l, e);
	for (size_t i = 0; rc == 0 && i < l->nprocs; i++) {
		if (!l->procs[i].in_tree || l->procs[i].is_zombie)
			continue;
		rc = gw_look_files(l, i, e);
		if (rc == 0)
			rc = gw_look_maps(l, i, e);
	}
	if (rc == 0)
		gw_look_ttys(l);
	if (rc == 0)
		rc = gw_look_socks(l, e);
	if (rc == 0)
		rc = look_network(l, e);
	if (rc == 0) {
		look_memory(l);
		gw_look_stuck_again(l);
	}
	return rc;
}

int gw_check(const struct gw_container *c, const struct gw_facts *here, const struct gw_facts *there,
             struct gw_reasons *out, struct gw_err *e)
{
	gw_auto(mem) struct gw_reasons *rs = calloc(1, sizeof(*rs));
	struct gw_look l = {.c = c, .out = rs, .root_fd = -1};
	uint64_t memory = 0;
	if (!rs)
		return gw_fail(e, GW_SYS, ENOMEM, "check %s", c->id);
	int rc = look(&l, e);
	if (rc == 0)
		rc = gw_check_memory(c, &memory, e);
	if (rc == 0)
		gw_look_hosts(c, memory, here, there, rs);
	look_done(&l);
	if (rc < 0)
		return gw_wrap(e, "check %s", c->id);
	*out = *rs;
	return 0;
}

/* v2: anon and shmem; v1: total_rss (anonymous) and total_shmem, with the children. */
int gw_check_memory(const struct gw_container *c, uint64_t *out_bytes, struct gw_err *e)
{
	static const char *const keys[] = {"anon ", "shmem ", "total_rss ", "total_shmem "};
	char path[PATH_MAX];
	gw_auto(mem) char *text = NULL;
	uint64_t sum = 0;
	if (c->memory_dir[0]) {
		(void)snprintf(path, sizeof(path), "%.4000s/memory.stat", c->memory_dir);
		int rc = gw_read_file(path, PROC_FILE_MAX, &text, NULL, e);
		if (rc < 0)
			return rc;
		bool v1 = gw_look_field(text, "total_rss ") != NULL;
		for (size_t i = v1 ? 2 : 0; i < (v1 ? 4 : 2); i++) {
			const char *v = gw_look_field(text, keys[i]);
			sum += v ? strtoull(v, NULL, 10) : 0;
		}
	} else {
		text = gw_look_text("/proc/%d/status", c->init_pid);
		if (!text)
			return gw_fail(e, GW_SYS, errno, "read the memory of process %d", c->init_pid);
		const char *v = gw_look_field(text, "VmRSS:");
		sum = v ? strtoull(v, NULL, 10) << 10 : 0;
	}
	*out_bytes = sum;
	return 0;
}
