/* source_shmem: which shared memory is not CRIU's in this freeze, told to CRIU
 * (preload/shmem.c, by the file "shmem") and to the destination. Both go by
 * one list: an object that only the first has would be lost. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/scope.h"
#include "move/msg.h"
#include "move/source_priv.h"

struct object {
	uint64_t dev, ino, kind; /* as in the file */
};
enum { MEMFD, SEGMENT, EVERY_SEGMENT };

struct list {
	yyjson_mut_doc *doc;
	yyjson_mut_val *told;
	struct object v[GW_SHMEM_MAX];
	size_t n;
};

static int on_object(void *ctx, const struct gw_space *sp, struct gw_err *e)
{
	struct list *l = ctx;
	struct stat st;
	if (l->n == gw_countof(l->v))
		return gw_fail(e, GW_SYS, E2BIG, "list more than %d shared memory objects", GW_SHMEM_MAX);
	if (fstat(sp->fd, &st) < 0)
		return gw_fail(e, GW_SYS, errno, "look at shared memory %lu", (unsigned long)sp->shmid);
	l->v[l->n++] = (struct object){.dev = st.st_dev, .ino = st.st_ino, .kind = sp->sysv ? SEGMENT : MEMFD};
	yyjson_mut_val *o = yyjson_mut_arr_add_obj(l->doc, l->told);
	yyjson_mut_obj_add_uint(l->doc, o, "space", sp->id);
	yyjson_mut_obj_add_uint(l->doc, o, "shmid", sp->shmid);
	yyjson_mut_obj_add_bool(l->doc, o, "sysv", sp->sysv);
	yyjson_mut_obj_add_uint(l->doc, o, "size_bytes", sp->size_bytes);
	return 0;
}

/* Segments are in the dump of every container of a pod. What one of them moves none
 * dumps; what none moves the leader does. */
static int agree(struct gw_source *s, const struct list *l, struct gw_err *e)
{
	int rc = 0;
	for (size_t i = 0; rc == 0 && s->group && i < l->n; i++)
		if (l->v[i].kind == SEGMENT)
			rc = gw_group_add_segment(s->group, &(struct gw_group_segment){l->v[i].dev, l->v[i].ino});
	return rc < 0 ? gw_fail(e, GW_SYS, -rc, "list shared memory") : gw_group_meet(s->group, GW_GROUP_LISTED, e);
}

static int write_list(const struct gw_source *s, int dirfd, const struct list *l, struct gw_err *e)
{
	const struct object every = {.kind = EVERY_SEGMENT};
	const struct gw_group *g = s->group;
	if (!l->n && !s->member && (!g || !g->nsegments))
		return 0;
	gw_auto(fd) int fd = openat(dirfd, "shmem", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int rc = fd < 0 ? -errno : gw_write_full(fd, l->v, l->n * sizeof(l->v[0]));
	if (rc == 0 && s->member)
		rc = gw_write_full(fd, &every, sizeof(every));
	for (size_t i = 0; rc == 0 && g && !s->member && i < g->nsegments; i++) {
		const struct object o = {g->segments[i].dev, g->segments[i].ino, SEGMENT};
		rc = gw_write_full(fd, &o, sizeof(o));
	}
	return rc < 0 ? gw_fail(e, GW_SYS, -rc, "write the list of shared memory") : 0;
}

int gw_source_shmem(struct gw_source *s, int dirfd, struct gw_err *e)
{
	gw_auto(mem) struct list *l = calloc(1, sizeof(*l));
	if (!l)
		return gw_fail(e, GW_SYS, ENOMEM, "list shared memory");
	struct gw_msg m = gw_msg_new("shmem");
	l->doc = m.doc;
	l->told = yyjson_mut_arr(m.doc);
	yyjson_mut_obj_add_val(m.doc, m.root, "objects", l->told);
	int rc = gw_tracker_shmem(s->tracker, on_object, l, e);
	if (rc == 0)
		rc = agree(s, l, e);
	if (rc == 0)
		rc = write_list(s, dirfd, l, e);
	if (rc < 0 || !l->n) {
		yyjson_mut_doc_free(m.doc);
		return rc;
	}
	return gw_msg_send(s->ctl, &m, e);
}
