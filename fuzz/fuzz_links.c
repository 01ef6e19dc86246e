/* fuzz_links: the file of unix connections between containers (src/move/links.h),
 * fed with anything. What is taken packs to the same bytes, and every record ends
 * within its queue. */
#include <stdlib.h>
#include <string.h>

#include "base/scope.h"
#include "move/links.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void walk(const struct gw_queue *q)
{
	const uint8_t *p;
	size_t at = 0, len;
	int rc;
	while ((rc = gw_queue_next(q, &at, &p, &len)) > 0)
		must(p + len == q->v + at && at <= q->len);
	must(rc == 0 && at == q->len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gw_links l;
	struct gw_err e = {0};
	int rc = gw_links_unpack(data, size, &l, &e);
	if (rc < 0) {
		must(e.class == GW_PEER && e.text[0]);
		return 0;
	}
	gw_auto(mem) uint8_t *again = NULL;
	size_t len;
	for (size_t i = 0; i < l.n; i++) {
		walk(&l.v[i].at[0]);
		walk(&l.v[i].at[1]);
	}
	must(gw_links_pack(&l, &again, &len, &e) == 0 && len == size && memcmp(again, data, len) == 0);
	gw_links_done(&l);
	return 0;
}
