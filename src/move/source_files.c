/* source_files: the container's trees on their way: a round of files with every
 * round of memory, the last one in the freeze, beside the dump. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/gw_log.h"
#include "base/io.h"
#include "base/scope.h"
#include "ckpt/freezer.h"
#include "move/msg.h"
#include "move/source_priv.h"

enum { LAST_WORDS_MS = 2000, WRITTEN_TIMEOUT_MS = 600000, MAPS_MAX = 64 << 20, PIDS_MAX = 1 << 20 };

static int on_records(void *ctx, const uint8_t *records, size_t len, struct gw_err *e)
{
	struct gw_source *s = ctx;
	if (!s->frozen_us)
		gw_rate_take(s->rate, len);
	struct iovec v = {.iov_base = (uint8_t *)(uintptr_t)records, .iov_len = len};
	int rc = gw_conn_send(s->ctl, GW_F_TREE, &v, 1, e);
	struct gw_err why;
	/* Nobody answers files, but the other host says why it takes no more. */
	if (rc < 0 && !s->frozen_us && !s->cancelled && gw_msg_expect(s->ctl, "files", LAST_WORDS_MS, NULL, &why) < 0 &&
	    why.code[0]) {
		*e = why;
		return why.err ? -why.err : -EIO;
	}
	return rc;
}

int gw_source_files_list(struct gw_source *s, struct gw_err *e)
{
	return s->o.claim[0] ? gw_trees_list(s->container->config_json, s->container->rootfs, &s->trees, e) : 0;
}

static int start(struct gw_source *s, struct gw_err *e)
{
	gw_auto(mem) struct gw_scan_tree *t = calloc(s->trees.n, sizeof(*t));
	if (!t)
		return gw_fail(e, GW_SYS, ENOMEM, "look at the files");
	for (size_t i = 0; i < s->trees.n; i++) {
		const char *view = s->trees.v[i].view;
		t[i] = (struct gw_scan_tree){
		        .root = s->trees.v[i].root, .is_layer = view[0] != 0, .view = view[0] ? view : NULL};
	}
	return gw_scan_new(t, s->trees.n, on_records, s, &s->scan, e);
}

/* "from-to rw-s offset dev inode   path", n bytes. */
static void mapped_line(struct gw_source *s, const char *line, size_t n)
{
	char copy[PATH_MAX + 128], path[PATH_MAX];
	const char *rest, *perms = memchr(line, ' ', n);
	if (!perms || n - (size_t)(perms - line) < 5 || perms[2] != 'w' || perms[4] != 's' || n >= sizeof(copy))
		return;
	memcpy(copy, line, n);
	copy[n] = 0;
	if (sscanf(copy, "%*x-%*x %*s %*s %*s %*s %4095[^\n]", path) != 1 || path[0] != '/')
		return;
	int tree = gw_trees_of_path(&s->trees, path, &rest);
	if (tree >= 0)
		gw_scan_mapped(s->scan, (uint32_t)tree, rest);
}

void gw_source_files_mapped(struct gw_source *s, const char *maps, size_t len)
{
	for (size_t at = 0; s->scan && at < len;) {
		const char *end = memchr(maps + at, '\n', len - at);
		size_t n = end ? (size_t)(end - maps) - at : len - at;
		mapped_line(s, maps + at, n);
		at += n + 1;
	}
}

static void look_at_maps(struct gw_source *s)
{
	char path[PATH_MAX + 32];
	gw_auto(mem) char *pids = NULL;
	struct gw_err ignored;
	gw_path(path, sizeof(path), "%s/cgroup.procs", s->container->freezer_dir);
	if (gw_read_file(path, PIDS_MAX, &pids, NULL, &ignored) < 0)
		return;
	char *save = NULL;
	for (char *pid = strtok_r(pids, "\n", &save); pid; pid = strtok_r(NULL, "\n", &save)) {
		gw_auto(mem) char *maps = NULL;
		size_t len;
		gw_path(path, sizeof(path), "/proc/%.20s/maps", pid);
		if (gw_read_file(path, MAPS_MAX, &maps, &len, &ignored) == 0)
			gw_source_files_mapped(s, maps, len);
	}
}

/* What was sent is written there: no later question waits behind it, nor does the freeze. */
static int wait_written(struct gw_source *s, struct gw_err *e)
{
	int rc = gw_msg_send_type(s->ctl, "files?", e);
	return rc < 0 ? rc : gw_msg_expect(s->ctl, "files", WRITTEN_TIMEOUT_MS, NULL, e);
}

int gw_source_files(struct gw_source *s, bool is_final, struct gw_err *e)
{
	struct gw_scan_stats st;
	if (!s->trees.n)
		return 0;
	uint64_t t0 = gw_now_us();
	int rc = s->scan ? 0 : start(s, e);
	if (rc == 0 && !is_final) /* in the freeze CRIU's maps have been looked at already */
		look_at_maps(s);
	if (rc == 0 && is_final)
		gw_scan_last(s->scan);
	if (rc == 0)
		rc = gw_scan_round(s->scan, &st, e);
	if (rc == 0 && !is_final && st.sent_bytes)
		rc = wait_written(s, e);
	if (rc < 0)
		return gw_wrap(e, "copy the files of %s", s->container->id);
	struct gw_facts_of_run *f = gw_progress_edit(s->progress);
	f->files = st.files;
	f->file_bytes += st.sent_bytes;
	if (is_final)
		f->step_us[GW_STEP_FILES] = gw_now_us() - t0;
	gw_progress_done(s->progress);
	gw_debug("files", kv_str("mig", s->mig), kv_u64("names", st.files), kv_u64("changed", st.changed),
	         kv_u64("sent_bytes", st.sent_bytes), kv_u64("read_bytes", st.read_bytes),
	         kv_u64("took_us", gw_now_us() - t0));
	return 0;
}
