#include "move/journal.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/gw_log.h"
#include "base/io.h"
#include "base/json.h"

enum { JOURNAL_MAX = 1 << 20, JOURNAL_VERSION = 1 };

static void path_of(const char *state_dir, const char *mig, char *out, size_t size)
{
	gw_path(out, size, "%s/journal/%s.json", state_dir, mig);
}

void gw_commit_path(const char *state_dir, const char *mig, char *out, size_t size)
{
	gw_path(out, size, "%s/mig/%s.commit", state_dir, mig);
}

int gw_journal_write(const char *state_dir, const struct gw_journal *j, struct gw_err *e)
{
	char path[PATH_MAX];
	path_of(state_dir, j->mig, path, sizeof(path));
	gw_auto(jmut) yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *o = yyjson_mut_obj(doc);
	yyjson_mut_doc_set_root(doc, o);
	yyjson_mut_obj_add_uint(doc, o, "version", JOURNAL_VERSION);
	yyjson_mut_obj_add_str(doc, o, "mig", j->mig);
	yyjson_mut_obj_add_str(doc, o, "role", j->is_source ? "source" : "destination");
	yyjson_mut_obj_add_str(doc, o, "state",
	                       j->is_source ? gw_source_state_name(j->source) : gw_dest_state_name(j->dest));
	yyjson_mut_obj_add_str(doc, o, "container", j->container);
	yyjson_mut_obj_add_str(doc, o, "peer", j->peer);
	yyjson_mut_obj_add_str(doc, o, "runc_root", j->runc_root);
	yyjson_mut_obj_add_str(doc, o, "freezer_dir", j->freezer_dir);
	yyjson_mut_obj_add_str(doc, o, "cpu_quota_path", j->cpu_quota_path);
	yyjson_mut_obj_add_str(doc, o, "cpu_quota", j->cpu_quota);
	yyjson_mut_obj_add_str(doc, o, "netns_path", j->netns_path);
	yyjson_mut_obj_add_bool(doc, o, "claimed", j->is_claimed);
	yyjson_mut_obj_add_str(doc, o, "sandbox", j->sandbox);
	yyjson_mut_obj_add_str(doc, o, "leader", j->leader);
	yyjson_mut_obj_add_str(doc, o, "pod", j->pod_json ?: "");
	size_t len;
	gw_auto(mem) char *text = gw_json_text(doc, &len);
	return gw_write_file(path, text, len, e);
}

static void get(yyjson_val *o, const char *key, char *out, size_t size)
{
	(void)snprintf(out, size, "%s", gw_json_str(o, key, ""));
}

int gw_journal_read(const char *path, struct gw_journal *out, struct gw_err *e)
{
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	int rc = gw_json_file(path, JOURNAL_MAX, &doc, e);
	if (rc < 0)
		return rc;
	yyjson_val *o = yyjson_doc_get_root(doc);
	struct gw_journal j = {.is_source = !strcmp(gw_json_str(o, "role", ""), "source")};
	const char *state = gw_json_str(o, "state", "");
	bool known = j.is_source ? gw_source_state_parse(state, &j.source) : gw_dest_state_parse(state, &j.dest);
	get(o, "mig", j.mig, sizeof(j.mig));
	if (gw_json_u64(o, "version", 0) != JOURNAL_VERSION || !known || !j.mig[0])
		return gw_fail(e, GW_INPUT, EINVAL, "%s is no journal entry of this version", path);
	get(o, "container", j.container, sizeof(j.container));
	get(o, "peer", j.peer, sizeof(j.peer));
	get(o, "runc_root", j.runc_root, sizeof(j.runc_root));
	get(o, "freezer_dir", j.freezer_dir, sizeof(j.freezer_dir));
	get(o, "cpu_quota_path", j.cpu_quota_path, sizeof(j.cpu_quota_path));
	get(o, "cpu_quota", j.cpu_quota, sizeof(j.cpu_quota));
	get(o, "netns_path", j.netns_path, sizeof(j.netns_path));
	get(o, "sandbox", j.sandbox, sizeof(j.sandbox));
	get(o, "leader", j.leader, sizeof(j.leader));
	j.is_claimed = gw_json_bool(o, "claimed", false);
	const char *pod = gw_json_str(o, "pod", "");
	j.pod_json = *pod ? strdup(pod) : NULL;
	*out = j;
	return 0;
}

void gw_journal_done(struct gw_journal *j)
{
	free(j->pod_json);
	j->pod_json = NULL;
}

void gw_journal_remove(const char *state_dir, const char *mig)
{
	char path[PATH_MAX];
	path_of(state_dir, mig, path, sizeof(path));
	(void)unlink(path);
}

void gw_journal_each(const char *state_dir, gw_journal_fn *fn, void *ctx)
{
	char dir[PATH_MAX];
	gw_path(dir, sizeof(dir), "%s/journal", state_dir);
	gw_auto(dir) DIR *d = opendir(dir);
	for (struct dirent *de; d && (de = readdir(d));) {
		size_t n = strlen(de->d_name);
		if (n < 6 || strcmp(de->d_name + n - 5, ".json") != 0)
			continue;
		char path[PATH_MAX + 300];
		gw_path(path, sizeof(path), "%s/%s", dir, de->d_name);
		struct gw_journal j;
		struct gw_err e;
		if (gw_journal_read(path, &j, &e) < 0) {
			gw_error("unreadable journal entry", kv_str("path", path), kv_str("reason", e.text));
			continue;
		}
		fn(ctx, &j);
		gw_journal_done(&j);
	}
}
