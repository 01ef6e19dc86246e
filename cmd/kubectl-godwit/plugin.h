#pragma once
#include "kube/migration.h"

/* plugin: what the verbs of kubectl-godwit share.
 *
 * Exit codes: 0 done, 1 it failed (or: cannot move), 2 bad usage, 4 no cluster. */
enum { PLUGIN_OK, PLUGIN_FAILED, PLUGIN_USAGE, PLUGIN_NO_CLUSTER = 4 };

struct plugin {
	struct gw_kube *k;
	const char *namespace; /* -n, or the context's */
	bool json, watch, all_namespaces;
	const char *to;
	yyjson_mut_doc *options; /* spec.options and what else goes into spec */
	const char *what[8];     /* arguments that are no options */
	int nwhat;
};

int verb_migrate(struct plugin *p);
int verb_check(struct plugin *p);
int verb_status(struct plugin *p);
int verb_cancel(struct plugin *p);
int verb_nodes(struct plugin *p);
int verb_drain(struct plugin *p); /* drain.c */

int plugin_fail(const struct gw_err *e); /* words to stderr; the exit code */
/* Make a Migration of POD or KIND/NAME; *out is it. check_only: nothing is moved. */
int plugin_make(struct plugin *p, const char *ns, const char *what, const char *to, bool check_only,
                struct gw_migration *out, struct gw_err *e);
/* Until it is over. show: as a person likes to see it, on stderr. *doc: the object at its end. */
int plugin_wait(struct plugin *p, const struct gw_migration *m, bool show, yyjson_doc **doc, struct gw_err *e);
yyjson_val *plugin_status(yyjson_doc *migration);
