#pragma once
#include <stddef.h>
#include <stdint.h>

#include "base/gw_err.h"
#include "mem/space.h"

/* store: the memory of a container that is moving in, on the destination.
 *
 * One sparse memfd per space, file offset = address. Receivers overwrite in
 * place; the page server (pages.h) drains it into the restored processes and
 * frees what it has handed over. A page never written is a hole: zero.
 *
 * Owner: the migration. Threads: writes from several threads are fine. */
struct gw_store;

struct gw_store *gw_store_new(void);
void gw_store_free(struct gw_store *s); /* closes the memfds; NULL is fine */

/* Make the memfd of a new space. A second add of the same id is -EEXIST, but
 * for a shared object: it has another size from now on. */
int gw_store_add(struct gw_store *s, const struct gw_space *space, struct gw_err *e);

/* npages from data at addr. remember: note the span as recently written
 * (the page server fills those first). Unknown space: GW_PEER. No room:
 * GW_SYS ENOSPC/ENOMEM. */
int gw_store_write(struct gw_store *s, uint32_t space, uint64_t addr, uint32_t npages, const void *data,
                   struct gw_err *e);
/* The span reads as zero from now on and costs no memory. */
int gw_store_drop(struct gw_store *s, uint32_t space, uint64_t addr, uint32_t npages, struct gw_err *e);

/* At most 131,072 spans of a space are remembered; the rest is as old as any.
 * Forget which spans are recent: called at the start of each round, so that
 * after the last one exactly its spans are. */
void gw_store_new_round(struct gw_store *s);
uint64_t gw_store_bytes(const struct gw_store *s); /* memory held now */

/* The page map (bits.h) of a space: a set bit is a page that was written, a
 * clear one reads as zero. Borrowed; -1: no such space. */
int gw_store_bits_fd(struct gw_store *s, uint32_t space);

/* A shared object as it is now, size_bytes long (a System V segment in whole
 * pages), to be given to the container:
 * its memory is not copied, the caller's is the last word (nothing may be
 * written any more). Borrowed. -ENOENT: no such space. */
int gw_store_object(struct gw_store *s, uint32_t space, uint64_t size_bytes, int *out_fd, struct gw_err *e);

/* Before they become the container's: shared objects but System V segments, as
 * they are now, charged to the memory cgroup dir by `program` (recharge.h).
 * After a failure the store is of no use any more. */
int gw_store_recharge(struct gw_store *s, const char *program, const char *dir, struct gw_err *e);

/* Walk the spaces: fn(ctx, space, memfd, recent spans, count). Borrowed. */
typedef int gw_store_fn(void *ctx, const struct gw_space *space, int memfd, const struct gw_span *recent, size_t n);
int gw_store_each(struct gw_store *s, gw_store_fn *fn, void *ctx);
