#pragma once
#include "base/gw_err.h"
#include "base/json.h"

/* verbs: what `godwit` can be told. Each gets its own argv (argv[0] is the
 * verb) and returns the exit code: 0 done, 1 it failed, 2 bad usage,
 * 3 cannot move (check), 4 no godwitd to talk to. */
enum { GODWIT_OK = 0, GODWIT_FAILED = 1, GODWIT_USAGE = 2, GODWIT_BLOCKED = 3, GODWIT_NO_DAEMON = 4 };
enum output { OUT_TEXT, OUT_JSON, OUT_JSONL };

int verb_migrate(int argc, char **argv);
int verb_check(int argc, char **argv);
int verb_status(int argc, char **argv);
int verb_cancel(int argc, char **argv);
int verb_release(int argc, char **argv);
int verb_resolve(int argc, char **argv);

/* client.c: the daemon's local socket. */
struct client {
	int fd;
	char *buf;
	size_t len, cap;
};
extern const char *client_socket; /* --socket */
/* Connect and send one request; takes doc. Prints why and returns an exit code, 0 when it went. */
int client_ask(struct client *c, yyjson_mut_doc *doc, enum output out);
/* Next answer; NULL at the end. The caller frees it. */
yyjson_doc *client_next(struct client *c);
void client_close(struct client *c);
/* Print an error object in the wanted form, with its way out. Returns GODWIT_FAILED. */
int print_error(yyjson_val *error, enum output out);
bool parse_output(const char *s, enum output *out);
