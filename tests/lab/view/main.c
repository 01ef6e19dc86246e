/* lab-view [--client FILE] [--plain]: the display of `make demo`. See view.h. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/scope.h"
#include "view.h"

enum { FRAME_MS = 66, LINE_MAX_BYTES = 16384 };

struct source {
	int fd;
	size_t len;
	char buf[LINE_MAX_BYTES];
};

static volatile sig_atomic_t told_to_end;
static void on_term(int sig)
{
	(void)sig;
	told_to_end = 1;
}

/* The whole lines that are there. false: end of file. */
static bool drain(struct source *s, struct view *v, bool plain)
{
	ssize_t n = read(s->fd, s->buf + s->len, sizeof s->buf - s->len);
	if (n <= 0)
		return n < 0 && (errno == EAGAIN || errno == EINTR);
	s->len += (size_t)n;
	char *from = s->buf;
	char *eol;
	while ((eol = memchr(from, '\n', (size_t)(s->buf + s->len - from)))) {
		enum view_change c = view_take(v, from, (size_t)(eol - from));
		if (plain)
			view_plain(v, c, stdout);
		from = eol + 1;
	}
	s->len -= (size_t)(from - s->buf);
	memmove(s->buf, from, s->len);
	if (s->len == sizeof s->buf)
		s->len = 0; /* no event is that long */
	return true;
}

void view_plain(const struct view *v, enum view_change c, FILE *out)
{
	char row[300];
	switch (c) {
	case VIEW_NOTE: (void)fprintf(out, "%s\n", *v->note ? v->note : v->title); break;
	case VIEW_MOVE: (void)fprintf(out, "%u of %u: %s to %s\n", v->n, v->planned, v->from, v->to); break;
	case VIEW_ROW:
		if (v->nrows == 1)
			(void)fprintf(out, "%s\n%s\n", view_row_head[0], view_row_head[1]);
		view_row_text(&v->rows[v->nrows - 1], row, sizeof row);
		(void)fprintf(out, "%s\n", row);
		break;
	case VIEW_END:
		if (*v->error)
			(void)fprintf(out, "%s\n", v->error);
		if (*v->verdict)
			(void)fprintf(out, "%s\n", v->verdict);
		break;
	case VIEW_NOTHING:
	case VIEW_TICK:
	case VIEW_PHASE: break;
	}
	(void)fflush(out);
}

static void run(struct view *v, const char *client, bool plain)
{
	static struct source events = {.fd = STDIN_FILENO};
	static struct source report = {.fd = -1};
	bool open_ended = true;
	while (open_ended && !told_to_end) {
		struct pollfd p = {.fd = events.fd, .events = POLLIN};
		uint64_t frame = gw_now_ms() + FRAME_MS;
		int left = FRAME_MS;
		while (open_ended && left > 0 && !told_to_end) {
			if (poll(&p, 1, left) > 0)
				open_ended = drain(&events, v, plain);
			left = (int)(int64_t)(frame - gw_now_ms());
		}
		if (report.fd < 0 && client)
			report.fd = open(client, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
		if (report.fd >= 0)
			(void)drain(&report, v, plain);
		if (!plain)
			view_draw(v, stdout);
	}
	if (report.fd >= 0)
		(void)close(report.fd);
}

int main(int argc, char **argv)
{
	static struct view v;
	const char *client = NULL;
	bool plain = !isatty(STDOUT_FILENO);
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--plain") == 0)
			plain = true;
		else if (strcmp(argv[i], "--client") == 0 && i + 1 < argc)
			client = argv[++i];
		else
			return fprintf(stderr, "usage: lab-view [--client FILE] [--plain]\n"), 2;
	}
	/* Ctrl-C is for whoever drives the demo: it ends this by closing stdin. */
	struct sigaction ign = {.sa_handler = SIG_IGN};
	struct sigaction term = {.sa_handler = on_term};
	(void)sigaction(SIGINT, &ign, NULL);
	(void)sigaction(SIGTERM, &term, NULL);
	static char screen[1 << 16];
	(void)setvbuf(stdout, screen, _IOFBF, sizeof screen);
	run(&v, client, plain);
	if (!plain) {
		if (*v.verdict)
			(void)printf("\n  %s\n", v.verdict);
		view_finish(stdout);
	}
	return *v.error ? 1 : 0;
}
