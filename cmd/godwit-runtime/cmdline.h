#pragma once
#include <stddef.h>

#include "base/gw_err.h"

/* cmdline: what of runc's command line matters here. Borrowed from argv. */
struct cmdline {
	int argc;
	char **argv;
	int at_command; /* index of it in argv, argc: none */
	const char *command;
	const char *root, *log, *log_format;
	const char *bundle, *pid_file; /* of create; pid_file of exec too */
	const char *process;           /* of exec; NULL: given as arguments */
	const char *id;                /* "" when there is none */
};

void cmdline_parse(int argc, char **argv, struct cmdline *out);
/* An error as runc tells it: in --log, so that containerd shows it, and on stderr. Returns 1. */
int cmdline_complain(const struct cmdline *c, const struct gw_err *e);
