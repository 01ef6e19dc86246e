#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "view.h"

enum { BOX = 31, GAP = 14, BAR = 27 };

#define DIM    "\033[2m"
#define BOLD   "\033[1m"
#define CYAN   "\033[36m"
#define GREEN  "\033[32m"
#define YELLOW "\033[33m"
#define RED    "\033[31m"
#define OFF    "\033[0m"

static unsigned drawn; /* lines on the screen that are ours */
static unsigned width;

/* Fits a terminal of 80 columns. */
const char *const view_row_head[2] = {
        "  #  from   to    rounds     sent   writes predicted   frozen   client retrans-",
        "                                                                waited     mits",
};

void view_size(double bytes, char *out, size_t size)
{
	double mib = bytes / 1048576;
	if (mib >= 10240)
		(void)snprintf(out, size, "%.1f GiB", mib / 1024);
	else
		(void)snprintf(out, size, "%.*f MiB", mib < 10 ? 1 : 0, mib);
}

void view_row_text(const struct view_row *r, char *out, size_t size)
{
	char sent[32];
	char rate[32];
	view_size(r->bytes, sent, sizeof sent);
	view_size(r->dirty_bps, rate, sizeof rate);
	(void)snprintf(out, size, "  %-2u %-7s%-7s%5u%9s%7s/s%7.0f ms%6.1f ms%6.1f ms%9u", r->n, r->from, r->to,
	               r->rounds, sent, rate, r->predicted_ms, r->freeze_ms, r->wait_ms, r->retransmits);
}

/* One line, cut at the terminal's width; colours take no room. */
[[gnu::format(printf, 2, 3)]]
static void line(FILE *out, const char *fmt, ...)
{
	char text[2400];
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	unsigned col = 0;
	bool escape = false;
	for (const char *p = text; *p; p++) {
		if (*p == '\033')
			escape = true;
		bool starts = ((unsigned char)*p & 0xc0) != 0x80;
		if (!escape && starts && ++col >= width)
			break;
		(void)fputc(*p, out);
		if (escape && *p == 'm')
			escape = false;
	}
	(void)fputs(OFF "\033[K\n", out);
	drawn++;
}

static void repeat(char *out, const char *what, unsigned n)
{
	for (*out = 0; n; n--)
		out = stpcpy(out, what);
}

static void bar(double part, unsigned cells, char *out)
{
	static const char *const eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
	part = part < 0 || isnan(part) ? 0 : part > 1 ? 1 : part;
	unsigned n = (unsigned)(part * cells * 8 + 0.5);
	char *p = out;
	for (unsigned i = 0; i < n / 8; i++)
		p = stpcpy(p, "█");
	p = stpcpy(p, eighths[n % 8]);
	for (unsigned i = n / 8 + (n % 8 != 0); i < cells; i++)
		p = stpcpy(p, "·");
}

/* The three inner lines of one host's box, each exactly BOX-4 columns. */
static void inside(const struct view *v, const char *host, char l[3][300])
{
	char a[32];
	char t[200];
	const unsigned w = BOX - 4;
	bool here = strcmp(v->home, host) == 0;
	bool arriving = v->moving && !here && strcmp(v->to, host) == 0;
	bool frozen = v->moving && here && (strcmp(v->phase, "Freezing") == 0 || strcmp(v->phase, "Committing") == 0);
	for (int i = 0; i < 3; i++)
		(void)snprintf(l[i], 300, "%*s", (int)w, "");
	if (here) {
		view_size(v->mib * 1048576, a, sizeof a);
		(void)snprintf(t, sizeof t, "redis   %s", a);
		(void)snprintf(l[0], 300, "%s●" OFF " " BOLD "%-*s" OFF, frozen ? CYAN : GREEN, (int)w - 2, t);
		(void)snprintf(t, sizeof t, "%s", frozen ? "frozen" : "running");
		if (v->moving && v->dirty_bps > 0 && !frozen) {
			view_size(v->dirty_bps, a, sizeof a);
			(void)snprintf(t, sizeof t, "running, writes %s/s", a);
		}
		(void)snprintf(l[1], 300, "  " DIM "%-*s" OFF, (int)w - 2, t);
	} else if (arriving) {
		double part = v->total_bytes > 0 ? v->bytes / v->total_bytes : 0;
		bar(part, BAR, t);
		(void)snprintf(l[0], 300, CYAN "%s" OFF, t);
		view_size(v->bytes, a, sizeof a);
		(void)snprintf(t, sizeof t, "%s sent", a);
		(void)snprintf(l[1], 300, "%-*s", (int)w, v->total_bytes > 0 ? t : "");
		view_size(v->send_bps, a, sizeof a);
		(void)snprintf(t, sizeof t, "round %u   %s/s", v->rounds, a);
		(void)snprintf(l[2], 300, DIM "%-*s" OFF, (int)w, v->total_bytes > 0 ? t : "");
	}
}

static void arrow(const struct view *v, char *out)
{
	bool right = strcmp(v->from, "host-a") == 0;
	const unsigned w = GAP - 2;
	if (!v->moving) {
		repeat(out, "─", w);
		return;
	}
	*out = 0;
	for (unsigned i = 0; i < w; i++) {
		unsigned at = right ? (i + 3 * w - v->tick % w) % 4 : (i + v->tick) % 4;
		out = stpcpy(out, at == 0 ? (right ? "▶" : "◀") : "━");
	}
}

static void hosts(const struct view *v, FILE *out)
{
	char a[3][300];
	char b[3][300];
	char edge[200];
	char link[200];
	inside(v, "host-a", a);
	inside(v, "host-b", b);
	repeat(edge, "─", BOX - 2);
	arrow(v, link);
	line(out, "  " BOLD "%-*s" OFF "%*s" BOLD "%s" OFF, BOX, "host-a", GAP, "", "host-b");
	line(out, "  ┌%s┐%*s┌%s┐", edge, GAP, "", edge);
	line(out, "  │ %s │%*s│ %s │", a[0], GAP, "", b[0]);
	line(out, "  │ %s │ %s%s" OFF " │ %s │", a[1], v->moving ? CYAN : DIM, link, b[1]);
	line(out, "  │ %s │%*s│ %s │", a[2], GAP, "", b[2]);
	line(out, "  └%s┘%*s└%s┘", edge, GAP, "", edge);
}

/* A wait of 0.1 ms to 1 s, by its logarithm. */
static void sparks(const struct view *v, char *out)
{
	static const char *const level[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
	for (int i = 0; i < VIEW_WAITS; i++) {
		float w = v->waits[i];
		double h = w > 0.1f ? (log10((double)w) + 1) / 4 * 8 : 0;
		unsigned n = h > 7 ? 7 : (unsigned)h;
		out = stpcpy(out, w > 500 ? RED : w > 20 ? YELLOW : GREEN);
		out = stpcpy(out, w > 0 ? level[n] : " ");
	}
	(void)stpcpy(out, OFF);
}

static void client(const struct view *v, FILE *out)
{
	char s[2000];
	sparks(v, s);
	if (!v->client) {
		line(out, "  client " DIM "not started yet" OFF);
		line(out, " ");
		return;
	}
	line(out, "  client %s%6.0f writes/s%s   answers in %.2f ms, all checked" DIM "   longest wait: " OFF "%.1f ms",
	     v->rate > 0 ? GREEN : YELLOW, v->rate, OFF, v->p50_ms, (double)v->waits[VIEW_WAITS - 1]);
	line(out, "         %s" DIM " wait per 0.1 s" OFF, s);
}

void view_draw(struct view *v, FILE *out)
{
	struct winsize ws = {0};
	width = ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) == 0 && ws.ws_col >= 20 ? ws.ws_col : 80;
	v->tick++;
	if (drawn)
		(void)fprintf(out, "\033[%uA", drawn);
	else
		(void)fputs("\033[?25l", out);
	drawn = 0;
	line(out, "  " BOLD "godwit" OFF "  %s", v->title);
	line(out, " ");
	hosts(v, out);
	if (v->moving && v->predicted_ms > 0)
		line(out, "  %u of %u  %s%s" OFF "   " DIM "a freeze now would take about" OFF " %.0f ms", v->n,
		     v->planned, CYAN, *v->phase ? v->phase : "Starting", v->predicted_ms);
	else if (v->moving)
		line(out, "  %u of %u  " CYAN "%s" OFF, v->n, v->planned, *v->phase ? v->phase : "Starting");
	else
		line(out, "  " DIM "%s" OFF, v->note);
	line(out, " ");
	client(v, out);
	line(out, " ");
	line(out, DIM "%s" OFF, view_row_head[0]);
	line(out, DIM "%s" OFF, view_row_head[1]);
	unsigned first = v->nrows > 12 ? v->nrows - 12 : 0;
	for (unsigned i = first; i < v->nrows; i++) {
		char row[300];
		view_row_text(&v->rows[i], row, sizeof row);
		line(out, "%s", row);
	}
	if (v->error[0])
		line(out, "  " RED "%s" OFF, v->error);
	(void)fputs("\033[J", out);
	(void)fflush(out);
}

void view_finish(FILE *out)
{
	(void)fputs("\033[?25h", out);
	(void)fflush(out);
}
