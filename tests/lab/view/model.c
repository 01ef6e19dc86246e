#include <stdio.h>
#include <string.h>

#include "view.h"

static void copy(char *out, size_t size, const char *s)
{
	(void)snprintf(out, size, "%s", s);
}

static enum view_change take_second(struct view *v, yyjson_val *o)
{
	v->client = true;
	/* Ticks are a tenth of a second: the rate is smoothed, or it would flicker. */
	double rate = gw_json_f64(o, "rate", 0);
	v->rate = v->rate > 0 ? v->rate * 0.8 + rate * 0.2 : rate;
	v->p50_ms = (double)gw_json_u64(o, "p50_us", 0) / 1000;
	double gap = (double)gw_json_u64(o, "gap_max_us", 0) / 1000;
	memmove(v->waits, v->waits + 1, sizeof v->waits - sizeof v->waits[0]);
	v->waits[VIEW_WAITS - 1] = (float)gap;
	return VIEW_TICK;
}

static enum view_change take_progress(struct view *v, yyjson_val *o)
{
	const char *phase = gw_json_str(o, "phase", "");
	bool new_phase = strcmp(phase, v->phase) != 0;
	copy(v->phase, sizeof v->phase, phase);
	v->rounds = (unsigned)gw_json_u64(o, "rounds", 0);
	v->total_bytes = (double)gw_json_u64(o, "total_pages", 0) * 4096;
	v->bytes = (double)gw_json_u64(o, "bytes", 0);
	v->dirty_bps = (double)gw_json_u64(o, "dirty_rate_bps", 0);
	v->send_bps = (double)gw_json_u64(o, "send_rate_bps", 0);
	v->predicted_ms = gw_json_f64(o, "predicted_freeze_ms", 0);
	if (strcmp(phase, "Done") == 0)
		copy(v->home, sizeof v->home, v->to);
	return new_phase ? VIEW_PHASE : VIEW_NOTHING;
}

static enum view_change take_result(struct view *v, yyjson_val *o)
{
	yyjson_val *m = yyjson_obj_get(o, "migration");
	yyjson_val *c = yyjson_obj_get(o, "client");
	v->moving = false;
	copy(v->home, sizeof v->home, v->to);
	if (v->nrows == VIEW_ROWS_MAX)
		return VIEW_NOTHING;
	struct view_row *r = &v->rows[v->nrows++];
	*r = (struct view_row){
	        .n = v->n,
	        .rounds = (unsigned)gw_json_u64(m, "rounds", 0),
	        .bytes = (double)gw_json_u64(m, "bytes", 0),
	        .dirty_bps = (double)gw_json_u64(m, "dirty_rate_bps", 0),
	        .predicted_ms = gw_json_f64(m, "predicted_freeze_ms", 0),
	        .freeze_ms = gw_json_f64(m, "freeze_ms", 0),
	        .wait_ms = (double)gw_json_u64(c, "wait_max_us", 0) / 1000,
	        .retransmits = (unsigned)gw_json_u64(c, "retransmits", 0),
	};
	copy(r->from, sizeof r->from, v->from);
	copy(r->to, sizeof r->to, v->to);
	return VIEW_ROW;
}

static enum view_change take_demo(struct view *v, const char *ev, yyjson_val *o)
{
	if (strcmp(ev, "title") == 0) {
		copy(v->title, sizeof v->title, gw_json_str(o, "text", ""));
		v->mib = gw_json_f64(o, "mib", (double)gw_json_u64(o, "mib", 0));
		v->planned = (unsigned)gw_json_u64(o, "times", 0);
		copy(v->home, sizeof v->home, gw_json_str(o, "home", ""));
		return VIEW_NOTE;
	}
	if (strcmp(ev, "note") == 0) {
		copy(v->note, sizeof v->note, gw_json_str(o, "text", ""));
		return VIEW_NOTE;
	}
	if (strcmp(ev, "move") == 0) {
		v->moving = true;
		v->n = (unsigned)gw_json_u64(o, "n", 0);
		copy(v->from, sizeof v->from, gw_json_str(o, "from", ""));
		copy(v->to, sizeof v->to, gw_json_str(o, "to", ""));
		v->phase[0] = 0;
		v->bytes = v->total_bytes = v->dirty_bps = v->predicted_ms = 0;
		v->rounds = 0;
		return VIEW_MOVE;
	}
	if (strcmp(ev, "result") == 0)
		return take_result(v, o);
	if (strcmp(ev, "end") == 0) {
		v->ended = true;
		copy(v->verdict, sizeof v->verdict, gw_json_str(o, "text", ""));
		return VIEW_END;
	}
	return VIEW_NOTHING;
}

enum view_change view_take(struct view *v, const char *line, size_t len)
{
	gw_auto(jdoc) yyjson_doc *d = yyjson_read(line, len, 0);
	yyjson_val *o = yyjson_doc_get_root(d);
	if (!yyjson_is_obj(o))
		return VIEW_NOTHING;
	const char *ev = gw_json_str(o, "ev", "");
	if (*ev)
		return take_demo(v, ev, o);
	if (strcmp(gw_json_str(o, "event", ""), "second") == 0)
		return take_second(v, o);
	yyjson_val *err = yyjson_obj_get(o, "error");
	if (yyjson_is_obj(err)) {
		(void)snprintf(v->error, sizeof v->error, "%s: %s", gw_json_str(err, "code", ""),
		               gw_json_str(err, "text", ""));
		v->moving = false;
		return VIEW_END;
	}
	if (*gw_json_str(o, "phase", ""))
		return take_progress(v, o);
	return VIEW_NOTHING;
}
