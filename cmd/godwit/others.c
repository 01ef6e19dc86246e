/* others: check, status, cancel, release, resolve. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/scope.h"
#include "verbs.h"

enum { WATCH_EVERY_US = 500000 };

static const struct option longs[] = {{"to", 1, NULL, 't'},
                                      {"output", 1, NULL, 'o'},
                                      {"watch", 0, NULL, 'w'},
                                      {"commit", 0, NULL, 'c'},
                                      {"abort", 0, NULL, 'a'},
                                      {"help", 0, NULL, 'h'},
                                      {0}};

static yyjson_mut_doc *request(const char *cmd, yyjson_mut_val **out)
{
	yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	*out = yyjson_mut_obj(doc);
	yyjson_mut_doc_set_root(doc, *out);
	yyjson_mut_obj_add_str(doc, *out, "cmd", cmd);
	return doc;
}

static void print_json(yyjson_val *v)
{
	gw_auto(mem) char *s = yyjson_val_write(v, 0, NULL);
	if (s)
		(void)puts(s);
}

/* One request, one answer. *out: the answer, NULL when an exit code says it all. */
static int ask_once(yyjson_mut_doc *doc, enum output o, yyjson_doc **out)
{
	struct client c;
	*out = NULL;
	int rc = client_ask(&c, doc, o);
	if (rc == 0) {
		gw_auto(jdoc) yyjson_doc *d = client_next(&c);
		yyjson_val *err = yyjson_obj_get(yyjson_doc_get_root(d), "error");
		if (err || !d)
			rc = print_error(err, o);
		else
			*out = gw_take(d);
	}
	client_close(&c);
	return rc;
}

static const char check_usage[] =
        "usage: godwit check CONTAINER --to HOST [-o text|json]\n"
        "\n"
        "Can this container move there? Answered without freezing it. Each reason has a code, words and a way out\n"
        "(docs/limits.md has them all).\n"
        "\n"
        "exit codes: 0 it can, 3 it cannot, 1 the check failed, 2 bad usage, 4 no godwitd\n";

static void show_reasons(yyjson_val *r)
{
	bool ok = gw_json_bool(r, "ok", false);
	(void)printf("%s %s move to %s\n", gw_json_str(r, "container", ""), ok ? "can" : "cannot",
	             gw_json_str(r, "to", ""));
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(r, "reasons"));
	for (yyjson_val *v; (v = yyjson_arr_iter_next(&it));)
		(void)printf("  %s %s: %s\n      way out: %s\n",
		             gw_json_bool(v, "is_warning", false) ? "note " : "BLOCKS", gw_json_str(v, "code", ""),
		             gw_json_str(v, "text", ""), gw_json_str(v, "way_out", ""));
}

int verb_check(int argc, char **argv)
{
	enum output o = OUT_TEXT;
	const char *to = NULL;
	for (int c; (c = getopt_long(argc, argv, "o:h", longs, NULL)) != -1;) {
		if (c == 't')
			to = optarg;
		else if (c == 'o' && parse_output(optarg, &o))
			continue;
		else if (c == 'h')
			return fputs(check_usage, stdout), GODWIT_OK;
		else
			return GODWIT_USAGE;
	}
	if (optind + 1 != argc || !to)
		return fprintf(stderr, "godwit: name one container and --to HOST (see godwit check --help)\n"),
		       GODWIT_USAGE;
	yyjson_mut_val *req;
	yyjson_mut_doc *doc = request("check", &req);
	yyjson_mut_obj_add_str(doc, req, "container", argv[optind]);
	yyjson_mut_obj_add_str(doc, req, "to", to);
	gw_auto(jdoc) yyjson_doc *d;
	int rc = ask_once(doc, o, &d);
	if (!d)
		return rc;
	yyjson_val *r = yyjson_doc_get_root(d);
	if (o == OUT_TEXT)
		show_reasons(r);
	else
		print_json(r);
	return gw_json_bool(r, "ok", false) ? GODWIT_OK : GODWIT_BLOCKED;
}

static const char status_usage[] = "usage: godwit status [--watch] [-o text|json]\n"
                                   "\n"
                                   "The migrations of this host, running and past.\n";

static void show_status(yyjson_val *r)
{
	(void)printf("%-14s %-20s %-8s %-10s %-12s %6s %10s %9s %9s  %s\n", "ID", "CONTAINER", "", "HOST", "PHASE",
	             "ROUNDS", "MIB", "PREDICTED", "FROZEN", "REASON");
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(r, "migrations"));
	for (yyjson_val *v; (v = yyjson_arr_iter_next(&it));) {
		bool in = gw_json_bool(v, "incoming", false);
		yyjson_val *err = yyjson_obj_get(v, "error");
		(void)printf("%-14s %-20s %-8s %-10s %-12s %6" PRIu64 " %10" PRIu64 " %6.0f ms %6.1f ms  %s\n",
		             gw_json_str(v, "id", ""), gw_json_str(v, "container", ""), in ? "from" : "to",
		             gw_json_str(v, in ? "from" : "to", ""), gw_json_str(v, "phase", ""),
		             gw_json_u64(v, "rounds", 0), gw_json_u64(v, "bytes", 0) >> 20,
		             gw_json_f64(v, "predicted_freeze_ms", 0), gw_json_f64(v, "freeze_ms", 0),
		             err ? gw_json_str(err, "text", "") : "");
	}
}

int verb_status(int argc, char **argv)
{
	enum output o = OUT_TEXT;
	bool watch = false;
	for (int c; (c = getopt_long(argc, argv, "o:h", longs, NULL)) != -1;) {
		if (c == 'w')
			watch = true;
		else if (c == 'o' && parse_output(optarg, &o))
			continue;
		else if (c == 'h')
			return fputs(status_usage, stdout), GODWIT_OK;
		else
			return GODWIT_USAGE;
	}
	if (optind != argc)
		return fprintf(stderr, "godwit: status takes no names (see godwit status --help)\n"), GODWIT_USAGE;
	for (;;) {
		yyjson_mut_val *req;
		yyjson_mut_doc *doc = request("status", &req);
		gw_auto(jdoc) yyjson_doc *d;
		int rc = ask_once(doc, o, &d);
		if (!d)
			return rc;
		if (watch && o == OUT_TEXT && isatty(STDOUT_FILENO))
			(void)fputs("\033[H\033[2J", stdout);
		if (o == OUT_TEXT)
			show_status(yyjson_doc_get_root(d));
		else
			print_json(yyjson_doc_get_root(d));
		(void)fflush(stdout);
		if (!watch)
			return GODWIT_OK;
		gw_sleep_us(WATCH_EVERY_US);
	}
}

/* One request about one migration. */
static int one_word(int argc, char **argv, const char *cmd, const char *usage)
{
	enum output o = OUT_TEXT;
	for (int c; (c = getopt_long(argc, argv, "o:h", longs, NULL)) != -1;) {
		if (c == 'o' && parse_output(optarg, &o))
			continue;
		return c == 'h' ? fputs(usage, stdout), GODWIT_OK : GODWIT_USAGE;
	}
	if (optind + 1 != argc)
		return fprintf(stderr, "godwit: name one migration (see godwit %s --help)\n", cmd), GODWIT_USAGE;
	yyjson_mut_val *req;
	yyjson_mut_doc *doc = request(cmd, &req);
	yyjson_mut_obj_add_str(doc, req, "id", argv[optind]);
	gw_auto(jdoc) yyjson_doc *d;
	int rc = ask_once(doc, o, &d);
	if (d && o != OUT_TEXT)
		print_json(yyjson_doc_get_root(d));
	return rc;
}

int verb_cancel(int argc, char **argv)
{
	return one_word(argc, argv, "cancel",
	                "usage: godwit cancel MIGRATION|CONTAINER\n\n"
	                "Stop a migration that is not committed yet (see godwit status); the container stays here.\n");
}

int verb_release(int argc, char **argv)
{
	return one_word(argc, argv, "release",
	                "usage: godwit release MIGRATION\n\n"
	                "A pod's container that was moved away stays here, frozen and without network, until its pod\n"
	                "is gone: ended earlier, kubelet would start it anew. This ends it. godwitd --kube does so by "
	                "itself.\n");
}

static const char resolve_usage[] = "usage: godwit resolve MIGRATION --commit|--abort\n"
                                    "\n"
                                    "Decide a migration that is in doubt because the other host cannot be asked any "
                                    "more. Only for someone who KNOWS\n"
                                    "what became of the other host:\n"
                                    "  on the destination:  --commit  run the copy here: the source host is dead\n"
                                    "                       --abort   discard the copy: the source runs it\n"
                                    "  on the source:       --commit  give it up here: the destination runs it\n"
                                    "                       --abort   run it here again: the destination host is dead\n"
                                    "A wrong word makes two running copies, or none.\n";

int verb_resolve(int argc, char **argv)
{
	enum output o = OUT_TEXT;
	int decision = -1;
	for (int c; (c = getopt_long(argc, argv, "o:h", longs, NULL)) != -1;) {
		if (c == 'c' || c == 'a')
			decision = c == 'c';
		else if (c == 'o' && parse_output(optarg, &o))
			continue;
		else if (c == 'h')
			return fputs(resolve_usage, stdout), GODWIT_OK;
		else
			return GODWIT_USAGE;
	}
	if (optind + 1 != argc || decision < 0)
		return fprintf(stderr,
		               "godwit: name one migration and --commit or --abort (see godwit resolve --help)\n"),
		       GODWIT_USAGE;
	yyjson_mut_val *req;
	yyjson_mut_doc *doc = request("resolve", &req);
	yyjson_mut_obj_add_str(doc, req, "id", argv[optind]);
	yyjson_mut_obj_add_bool(doc, req, "commit", decision == 1);
	gw_auto(jdoc) yyjson_doc *d;
	int rc = ask_once(doc, o, &d);
	if (d && o != OUT_TEXT)
		print_json(yyjson_doc_get_root(d));
	return rc;
}
