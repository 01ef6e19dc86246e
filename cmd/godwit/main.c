/* godwit: a person's hand on the local godwitd. The table is the whole map. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/scope.h"
#include "verbs.h"

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *what;
} verbs[] = {
        {"migrate", verb_migrate, "move a running container to another host"},
        {"check", verb_check, "can it move there? reasons and ways out, nothing is frozen"},
        {"status", verb_status, "migrations of this host, running and past"},
        {"cancel", verb_cancel, "stop a migration before its commit"},
        {"release", verb_release, "end what stayed of a pod's container that has moved"},
        {"resolve", verb_resolve, "decide one that is in doubt, the other host being dead"},
};

static void help(FILE *f)
{
	(void)fputs("usage: godwit [--socket PATH] VERB ...\n\nLive migration of running containers.\n\n", f);
	for (size_t i = 0; i < gw_countof(verbs); i++)
		(void)fprintf(f, "  %-10s %s\n", verbs[i].name, verbs[i].what);
	(void)fputs("\n  godwit VERB --help tells more; all take -o json.\n", f);
}

int main(int argc, char **argv)
{
	int at = 1;
	const char *env = getenv("GODWIT_SOCKET");
	if (env)
		client_socket = env;
	if (at + 1 < argc && !strcmp(argv[at], "--socket")) {
		client_socket = argv[at + 1];
		at += 2;
	}
	if (at < argc && (!strcmp(argv[at], "--help") || !strcmp(argv[at], "-h") || !strcmp(argv[at], "help")))
		return help(stdout), GODWIT_OK;
	if (at < argc && !strcmp(argv[at], "--version"))
		return puts("godwit " GODWIT_VERSION), GODWIT_OK;
	for (size_t i = 0; at < argc && i < gw_countof(verbs); i++)
		if (!strcmp(verbs[i].name, argv[at]))
			return verbs[i].run(argc - at, argv + at);
	if (at < argc)
		(void)fprintf(stderr, "godwit: unknown verb \"%s\"\n\n", argv[at]);
	help(stderr);
	return GODWIT_USAGE;
}
