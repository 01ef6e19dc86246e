#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/io.h"
#include "base/scope.h"
#include "load.h"

int load_control_open(struct load *l, struct gw_err *e)
{
	return l->o.control ? gw_unix_listen(l->o.control, &l->listen_fd, e) : 0;
}

static void hang_up(struct load *l)
{
	(void)close(l->ctl_fd);
	l->ctl_fd = -1;
	l->ctl_len = 0;
}

static void answer(struct load *l, FILE *f, char *line)
{
	char *arg = strchr(line, ' ');
	if (arg)
		*arg++ = 0;
	if (strcmp(line, "mark") == 0 || strcmp(line, "peek") == 0) {
		struct load_tcp r = load_tcp_now(l);
		load_window_print(f, l, &l->marked, line, arg ? arg : "", r);
		if (line[0] == 'm') {
			if (l->report)
				load_window_print(l->report, l, &l->marked, "mark", arg ? arg : "", r);
			load_window_reset(&l->marked, r);
		}
	} else if (strcmp(line, "rate") == 0 && arg) {
		l->o.rate = (uint32_t)strtoul(arg, NULL, 10);
		fprintf(f, "{\"event\":\"rate\",\"rate\":%u}\n", l->o.rate);
	} else if (strcmp(line, "stop") == 0) {
		l->stop = true;
		fprintf(f, "{\"event\":\"stop\"}\n");
	} else {
		fprintf(f, "{\"event\":\"error\",\"text\":\"commands are: mark NAME, peek, rate N, stop\"}\n");
	}
}

static void take_line(struct load *l)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);
	if (f) {
		answer(l, f, l->ctl_line);
		(void)fclose(f);
		(void)gw_write_full(l->ctl_fd, text, len);
		free(text);
	}
	hang_up(l);
}

void load_control_step(struct load *l, short listen_events, short ctl_events)
{
	if (listen_events & POLLIN && l->ctl_fd < 0) {
		l->ctl_fd = accept4(l->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		l->ctl_len = 0;
	} else if (l->ctl_fd >= 0 && ctl_events) {
		ssize_t n = recv(l->ctl_fd, l->ctl_line + l->ctl_len, sizeof l->ctl_line - 1 - l->ctl_len, 0);
		if (n <= 0) {
			if (n == 0 || errno != EAGAIN)
				hang_up(l);
			return;
		}
		l->ctl_len += (size_t)n;
		l->ctl_line[l->ctl_len] = 0;
		char *eol = strchr(l->ctl_line, '\n');
		if (eol) {
			*eol = 0;
			take_line(l);
		} else if (l->ctl_len == sizeof l->ctl_line - 1) {
			hang_up(l);
		}
	}
}

int load_control_client(int argc, char **argv)
{
	struct gw_err e = {0};
	gw_auto(fd) int fd = -1;
	char line[128] = "";
	if (argc < 2) {
		fprintf(stderr, "usage: lab-load ctl SOCKET mark NAME|peek|rate N|stop\n");
		return 2;
	}
	for (int i = 1; i < argc; i++)
		(void)snprintf(line + strlen(line), sizeof line - strlen(line) - 1, "%s%s", i > 1 ? " " : "", argv[i]);
	(void)strcat(line, "\n");
	if (gw_unix_connect(argv[0], &fd, &e) < 0) {
		fprintf(stderr, "lab-load ctl: %s\n", e.text);
		return 1;
	}
	if (gw_write_full(fd, line, strlen(line)) < 0)
		return 1;
	char buf[4096];
	ssize_t n;
	while ((n = recv(fd, buf, sizeof buf, 0)) > 0)
		(void)fwrite(buf, 1, (size_t)n, stdout);
	return n < 0;
}
