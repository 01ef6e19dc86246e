/* check_wire: "check" and its answer between two hosts (docs/wire.md). */
#include <string.h>

#include "base/scope.h"
#include "ckpt/container.h"
#include "move/check.h"
#include "move/daemon.h"
#include "move/msg.h"

enum { CHECK_TIMEOUT_MS = 20000 };

static const char *or_null(const char *s)
{
	return *s ? s : NULL;
}

static int my_facts(struct gw_daemon *d, struct gw_facts *out, struct gw_err *e)
{
	return gw_facts_collect(d->cfg.name, or_null(d->cfg.criu), or_null(d->cfg.runc), out, e);
}

static void gw_end_facts(struct gw_facts *f)
{
	gw_facts_done(f);
}

int gw_check_answer(struct gw_daemon *d, struct gw_conn *c, yyjson_val *msg, struct gw_err *e)
{
	gw_auto(facts) struct gw_facts here = {0};
	struct gw_reasons rs = {.n = 0};
	const char *id, *config;
	int rc = gw_json_need_str(msg, "container", &id, e);
	if (rc == 0)
		rc = gw_json_need_str(msg, "config_json", &config, e);
	if (rc == 0)
		rc = gw_check_arrival(gw_json_bool(msg, "claimed", false) ? NULL : id, d->cfg.runc_root, config,
		                      gw_json_u64(msg, "memory_bytes", 0), &rs, e);
	if (rc == 0)
		rc = my_facts(d, &here, e);
	if (rc < 0)
		return rc;
	struct gw_msg m = gw_msg_new("check-answer");
	yyjson_mut_val *facts = yyjson_mut_obj(m.doc), *reasons = yyjson_mut_arr(m.doc);
	gw_facts_to_json(&here, m.doc, facts);
	gw_reasons_to_json(&rs, m.doc, reasons);
	yyjson_mut_obj_add_val(m.doc, m.root, "facts", facts);
	yyjson_mut_obj_add_val(m.doc, m.root, "reasons", reasons);
	return gw_msg_send(c, &m, e);
}

int gw_check_both(struct gw_daemon *d, struct gw_conn *ctl, const struct gw_container *c, uint64_t memory_bytes,
                  bool claimed, struct gw_reasons *out, struct gw_err *e)
{
	struct gw_msg m = gw_msg_new("check");
	yyjson_mut_obj_add_str(m.doc, m.root, "container", c->id);
	yyjson_mut_obj_add_str(m.doc, m.root, "config_json", c->config_json);
	yyjson_mut_obj_add_uint(m.doc, m.root, "memory_bytes", memory_bytes);
	yyjson_mut_obj_add_bool(m.doc, m.root, "claimed", claimed);
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	gw_auto(facts) struct gw_facts here = {0};
	gw_auto(facts) struct gw_facts there = {0};
	struct gw_reasons theirs = {.n = 0};
	int rc = gw_msg_send(ctl, &m, e);
	if (rc == 0)
		rc = my_facts(d, &here, e);
	if (rc == 0)
		rc = gw_msg_expect(ctl, "check-answer", CHECK_TIMEOUT_MS, &doc, e);
	if (rc < 0)
		return rc;
	yyjson_val *o = yyjson_doc_get_root(doc);
	rc = gw_facts_from_json(yyjson_obj_get(o, "facts"), &there, e);
	if (rc == 0)
		rc = gw_reasons_from_json(yyjson_obj_get(o, "reasons"), &theirs, e);
	if (rc == 0)
		rc = gw_check(c, &here, &there, out, e);
	if (rc == 0)
		gw_reasons_merge(out, &theirs);
	return rc;
}
