/* dest_shmem: shared memory goes from the page store into the container.
 *
 * A memfd is given away as it is: no copy, and the store's end leaves the
 * container as its only owner. A System V segment is filled from it by the
 * preloaded library, which gives back what it has copied. What the source has
 * listed and CRIU has not asked for would be zero: then nothing is committed. */
#include <errno.h>
#include <string.h>

#include "base/scope.h"
#include "move/dest_priv.h"

struct gw_dest_object {
	uint32_t space;
	bool sysv, taken;
	uint64_t shmid, size_bytes;
};

int gw_dest_shmem(struct gw_dest *s, yyjson_val *msg, struct gw_err *e)
{
	yyjson_val *list = yyjson_obj_get(msg, "objects");
	if (!s->restore || !s->store || s->shmem || !yyjson_is_arr(list))
		return gw_fail(e, GW_PEER, EPROTO,
		               "a list of shared memory before arm, for the second time, or a bad one");
	s->shmem = calloc(yyjson_arr_size(list) + 1, sizeof(s->shmem[0]));
	if (!s->shmem)
		return gw_fail(e, GW_SYS, ENOMEM, "list shared memory");
	yyjson_arr_iter it = yyjson_arr_iter_with(list);
	for (yyjson_val *o; (o = yyjson_arr_iter_next(&it));)
		s->shmem[s->nshmem++] = (struct gw_dest_object){.space = (uint32_t)gw_json_u64(o, "space", 0),
		                                                .sysv = yyjson_get_bool(yyjson_obj_get(o, "sysv")),
		                                                .shmid = gw_json_u64(o, "shmid", 0),
		                                                .size_bytes = gw_json_u64(o, "size_bytes", 0)};
	return 0;
}

/* CRIU keeps 32 bits of an inode; the source lists nothing ambiguous. */
static int object(struct gw_dest *s, uint64_t id, int *out_fd)
{
	struct gw_err e;
	for (size_t i = 0; i < s->nshmem; i++) {
		struct gw_dest_object *o = &s->shmem[i];
		if ((uint32_t)o->shmid != (uint32_t)id)
			continue;
		int rc = gw_store_object(s->store, o->space, o->size_bytes, out_fd, &e);
		if (rc < 0)
			return rc;
		o->taken = true;
		return o->sysv ? GW_HOME_SEGMENT : GW_HOME_GIVEN;
	}
	return GW_HOME_NOT_OURS;
}

int gw_dest_answer(void *dest, const char *what, uint64_t id, int *out_fd)
{
	if (!strcmp(what, "shmem"))
		return object(dest, id, out_fd);
	if (!strcmp(what, "ipc"))
		return gw_dest_pod_ipc(dest);
	if (!strcmp(what, "unix"))
		return gw_dest_pod_socket(dest, (uint32_t)id, out_fd);
	gw_dest_pod_ipc_made(dest);
	return GW_HOME_GIVEN;
}

int gw_dest_shmem_taken(const struct gw_dest *s, struct gw_err *e)
{
	for (size_t i = 0; i < s->nshmem; i++)
		if (!s->shmem[i].taken)
			return gw_fail(e, GW_SYS, EPROTO, "CRIU restored the container without its shared memory %llu",
			               (unsigned long long)s->shmem[i].shmid);
	return 0;
}
