#include "mem/segments.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/io.h"
#include "base/scope.h"

enum { STACK_BYTES = 256 << 10 };

struct job {
	int ns, rc;
	struct gw_segment *v;
	size_t n;
};

static int add(struct job *j, const struct gw_segment *s)
{
	struct gw_segment *more = reallocarray(j->v, j->n + 1, sizeof(*more));
	if (!more)
		return -ENOMEM;
	j->v = more;
	j->v[j->n++] = *s;
	return 0;
}

/* The file shows the namespace of whoever opens it. */
static void *read_list(void *arg)
{
	struct job *j = arg;
	char line[512];
	gw_auto(file) FILE *f = setns(j->ns, CLONE_NEWIPC) == 0 ? fopen("/proc/sysvipc/shm", "re") : NULL;
	if (!f) {
		j->rc = -errno;
		return NULL;
	}
	while (j->rc == 0 && fgets(line, sizeof(line), f)) {
		struct gw_segment s;
		/* key shmid perms size cpid lpid nattch */
		if (sscanf(line, "%*d %lu %*o %*u %*u %*u %lu", &s.id, &s.attached) == 2)
			j->rc = add(j, &s);
	}
	if (j->rc == 0 && ferror(f))
		j->rc = -EIO;
	return NULL;
}

int gw_segments_of(pid_t pid, struct gw_segment **out, size_t *out_n)
{
	char path[64];
	pthread_t t;
	pthread_attr_t attr;
	gw_path(path, sizeof(path), "/proc/%d/ns/ipc", pid);
	gw_auto(fd) int ns = open(path, O_RDONLY | O_CLOEXEC);
	if (ns < 0)
		return -errno;
	struct job j = {.ns = ns};
	pthread_attr_init(&attr);
	(void)pthread_attr_setstacksize(&attr, STACK_BYTES);
	int rc = pthread_create(&t, &attr, read_list, &j);
	pthread_attr_destroy(&attr);
	if (rc != 0)
		return -rc;
	pthread_join(t, NULL);
	if (j.rc < 0) {
		free(j.v);
		return j.rc;
	}
	*out = j.v;
	*out_n = j.n;
	return 0;
}
