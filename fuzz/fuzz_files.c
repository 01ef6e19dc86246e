/* fuzz_files: the records of a TREE frame (src/files/record.h), fed with anything.
 * What is taken leads nowhere but below its tree, and packs to the same bytes. */
#include <stdlib.h>
#include <string.h>

#include "base/scope.h"
#include "files/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void check_path(const char *p)
{
	must(p[0] && p[0] != '/' && p[strlen(p) - 1] != '/' && !strstr(p, "//"));
	must(strcmp(p, "..") != 0 && strncmp(p, "../", 3) != 0 && !strstr(p, "/../"));
	must(strlen(p) < 3 || strcmp(p + strlen(p) - 3, "/..") != 0);
}

static void check_xattrs(const struct gw_rec *r)
{
	struct gw_xattr x;
	struct gw_err e = {0};
	size_t at = 0;
	int rc;
	while ((rc = gw_xattr_unpack(r->body, r->body_len, &at, &x, &e)) == 0)
		must(x.name[0] && at <= r->body_len && x.value + x.value_len == r->body + at);
	must(rc == 1 || e.class == GW_PEER);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct gw_rec r;
	struct gw_err e = {0};
	size_t at = 0, before = 0;
	int rc;
	while ((rc = gw_rec_unpack(data, size, &at, &r, &e)) == 0) {
		must(at <= size && r.tree < GW_REC_TREES_MAX && gw_rec_bytes(&r) == at - before);
		check_path(r.path);
		gw_auto(mem) uint8_t *again = malloc(gw_rec_bytes(&r));
		must(gw_rec_pack(&r, again) == at - before && memcmp(again, data + before, at - before) == 0);
		if (r.op == GW_REC_END)
			check_xattrs(&r);
		before = at;
	}
	must(rc == 1 || (rc < 0 && e.class == GW_PEER && e.text[0]));
	return 0;
}
