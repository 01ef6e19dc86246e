#pragma once
#include <stdint.h>
#include <stdio.h>

#include "base/json.h"

/* view: what `make demo` shows.
 *
 * Events come as JSON lines on stdin (tools/lab/demo.sh, godwit -o jsonl) and
 * from the client's report file; the model holds what is known, draw paints it
 * on a terminal, plain prints lines where there is none. One thread; nothing
 * here can hold up the migration or the client. */
enum { VIEW_ROWS_MAX = 100, VIEW_WAITS = 46 };

struct view_row {
	unsigned n;
	char from[32], to[32];
	unsigned rounds;
	double bytes, dirty_bps, predicted_ms, freeze_ms;
	double wait_ms; /* the client's longest, during this migration */
	unsigned retransmits;
};

struct view {
	char title[120];
	char note[160];
	char home[32]; /* where the container runs */
	double mib;    /* its size */
	unsigned planned;
	/* the migration under way */
	bool moving;
	unsigned n;
	char from[32], to[32], phase[24];
	unsigned rounds;
	double total_bytes, bytes, dirty_bps, send_bps, predicted_ms;
	/* those that are done */
	unsigned nrows;
	struct view_row rows[VIEW_ROWS_MAX];
	/* the client */
	bool client;
	double rate, p50_ms;
	float waits[VIEW_WAITS]; /* ms, the longest in each tick, newest last */
	bool ended;
	char verdict[400];
	char error[500];
	unsigned tick;
};

/* One event. Unknown ones are ignored. What changed: */
enum view_change { VIEW_NOTHING, VIEW_TICK, VIEW_NOTE, VIEW_MOVE, VIEW_PHASE, VIEW_ROW, VIEW_END };
enum view_change view_take(struct view *v, const char *line, size_t len);

void view_draw(struct view *v, FILE *out); /* over what was drawn before */
void view_finish(FILE *out);               /* cursor back */
void view_plain(const struct view *v, enum view_change c, FILE *out);
void view_row_text(const struct view_row *r, char *out, size_t size);
extern const char *const view_row_head[2];
/* "812 MiB", "1.02 GiB" */
void view_size(double bytes, char *out, size_t size);
