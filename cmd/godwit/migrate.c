#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/scope.h"
#include "verbs.h"

static const char usage[] =
        "usage: godwit migrate CONTAINER --to HOST [options]\n"
        "\n"
        "Move a running container to another host: memory, processes, open files, connections, address.\n"
        "Ctrl-C before the commit cancels: the container stays as it was.\n"
        "\n"
        "  --to HOST            where to (a name of the hosts file)\n"
        "  --freeze MS          freeze as soon as it is predicted to take so long     [as short as it gets]\n"
        "  --max-freeze MS      rather fail (NotConverging) than freeze longer        [1000]\n"
        "  --throttle           slow the container down if it writes too fast\n"
        "  --bandwidth MIB      limit for memory, MiB per second                      [none]\n"
        "  --rounds N           at most so many rounds of pre-copy                    [30]\n"
        "  --timeout S          give up when not ready to freeze within S seconds     [none]\n"
        "  --zstd               compress memory on its way\n"
        "  --track uffd|soft-dirty   how writes are seen                              [what the kernel has]\n"
        "  --claim NAME         a pod's container of that name: the other host's containerd makes the target,\n"
        "                       and what stays here stays frozen until: godwit release\n"
        "  --same-name          with --claim: its pod is deleted before the freeze\n"
        "  --id ID              the migration's id: hex digits and dashes                [a new one]\n"
        "  -o text|json|jsonl   json: the result; jsonl: every step on the way\n"
        "\n"
        "exit codes: 0 moved, 1 failed (it runs on here), 2 bad usage, 4 no godwitd\n";

static volatile sig_atomic_t interrupted;

static void on_interrupt(int sig)
{
	(void)sig;
	interrupted = 1;
}

static void bar(double part, unsigned width, char *out)
{
	static const char *const eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
	double cells = (part < 0 ? 0 : part > 1 ? 1 : part) * width;
	*out = 0;
	unsigned n = 0;
	for (; n < (unsigned)cells; n++)
		strcat(out, "█");
	if (n < width) {
		strcat(out, eighths[(unsigned)((cells - n) * 8)]);
		n += (unsigned)((cells - n) * 8) > 0;
	}
	for (; n < width; n++)
		strcat(out, " ");
}

static void size_text(double bytes, char *out, size_t n)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	unsigned u = 0;
	for (; bytes >= 1024 && u < 4; u++)
		bytes /= 1024;
	(void)snprintf(out, n, "%.*f %s", u && bytes < 100 ? 1 : 0, bytes, units[u]);
}

static void show_live(yyjson_val *r, bool tty)
{
	char line[200], sent[32], rate[32];
	double total = (double)gw_json_u64(r, "total_pages", 0) * 4096, bytes = (double)gw_json_u64(r, "bytes", 0);
	const char *phase = gw_json_str(r, "phase", "");
	if (!tty)
		return;
	bar(total > 0 ? bytes / total : 0, 24, line);
	size_text(bytes, sent, sizeof(sent));
	size_text((double)gw_json_u64(r, "dirty_rate_bps", 0), rate, sizeof(rate));
	(void)fprintf(stderr, "\r\033[K%-10s \033[36m%s\033[0m %9s  round %-2" PRIu64 "  writes %s/s  freeze ~%.0f ms",
	              phase, line, sent, gw_json_u64(r, "rounds", 0), rate, gw_json_f64(r, "predicted_freeze_ms", 0));
	(void)fflush(stderr);
}

static void show_result(yyjson_val *r)
{
	char sent[32], rate[32];
	size_text((double)gw_json_u64(r, "bytes", 0), sent, sizeof(sent));
	size_text((double)gw_json_u64(r, "dirty_rate_bps", 0), rate, sizeof(rate));
	yyjson_val *steps = yyjson_obj_get(r, "steps");
	(void)printf("%s moved %s -> %s in %.1f s: frozen %.1f ms (predicted %.0f), %" PRIu64
	             " rounds, %s, writes %s/s, "
	             "%" PRIu64 " packets held\n",
	             gw_json_str(r, "container", ""), gw_json_str(r, "from", ""), gw_json_str(r, "to", ""),
	             (double)gw_json_u64(r, "elapsed_ms", 0) / 1000.0, gw_json_f64(r, "freeze_ms", 0),
	             gw_json_f64(r, "predicted_freeze_ms", 0), gw_json_u64(r, "rounds", 0), sent, rate,
	             gw_json_u64(r, "held_packets", 0));
	(void)printf("  the freeze: stop %.1f, dump %.1f (last pages %.1f beside it), images %.1f, restore %.1f, "
	             "commit %.1f ms\n",
	             gw_json_f64(steps, "stop", 0), gw_json_f64(steps, "dump", 0), gw_json_f64(steps, "last_pages", 0),
	             gw_json_f64(steps, "images", 0), gw_json_f64(steps, "restore", 0),
	             gw_json_f64(steps, "commit", 0));
}

static void cancel_it(const char *container)
{
	struct client c;
	yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *o = yyjson_mut_obj(doc);
	yyjson_mut_doc_set_root(doc, o);
	yyjson_mut_obj_add_str(doc, o, "cmd", "cancel");
	yyjson_mut_obj_add_strcpy(doc, o, "id", container);
	if (client_ask(&c, doc, OUT_TEXT) == 0)
		yyjson_doc_free(client_next(&c));
	client_close(&c);
}

static void print_json(yyjson_val *v)
{
	gw_auto(mem) char *s = yyjson_val_write(v, 0, NULL);
	if (s)
		(void)puts(s);
	(void)fflush(stdout);
}

static int follow(struct client *c, const char *container, enum output out)
{
	bool tty = isatty(STDERR_FILENO), cancelled = false;
	struct sigaction sa = {.sa_handler = on_interrupt}; /* no SA_RESTART: read returns */
	(void)sigaction(SIGINT, &sa, NULL);
	for (;;) {
		gw_auto(jdoc) yyjson_doc *d = client_next(c);
		if (interrupted && !cancelled) {
			cancelled = true;
			cancel_it(container);
		}
		if (!d && interrupted) {
			interrupted = 0;
			continue;
		}
		if (!d) {
			(void)fprintf(
			        stderr,
			        "godwit: godwitd went away; the migration goes on or is undone: see godwit status\n");
			return GODWIT_FAILED;
		}
		yyjson_val *r = yyjson_doc_get_root(d), *err = yyjson_obj_get(r, "error");
		bool ended = gw_json_bool(r, "ended", false);
		if (err && (ended || !yyjson_obj_get(r, "phase"))) {
			if (tty && out == OUT_TEXT)
				(void)fputs("\r\033[K", stderr);
			return print_error(err, out);
		}
		if (out == OUT_JSONL || (out == OUT_JSON && ended))
			print_json(r);
		if (out == OUT_TEXT && !ended)
			show_live(r, tty);
		if (ended) {
			if (out == OUT_TEXT) {
				if (tty)
					(void)fputs("\r\033[K", stderr);
				show_result(r);
			}
			return GODWIT_OK;
		}
	}
}

static bool number(const char *name, const char *s, uint64_t scale, uint64_t *out)
{
	char *end;
	errno = 0;
	unsigned long long v = strtoull(s, &end, 10);
	if (errno || *end || !*s || *s == '-' || v > UINT64_MAX / scale)
		return fprintf(stderr, "godwit: %s %s is not a number\n", name, s), false;
	*out = v * scale;
	return true;
}

/* Given twice, an option's last value counts. */
static bool option(yyjson_mut_doc *doc, yyjson_mut_val *o, const char *key, yyjson_mut_val *value)
{
	return yyjson_mut_obj_put(o, yyjson_mut_str(doc, key), value);
}

int verb_migrate(int argc, char **argv)
{
	static const struct option longs[] = {
	        {"to", 1, NULL, 't'},       {"freeze", 1, NULL, 'f'},    {"max-freeze", 1, NULL, 'm'},
	        {"throttle", 0, NULL, 'T'}, {"bandwidth", 1, NULL, 'b'}, {"rounds", 1, NULL, 'r'},
	        {"timeout", 1, NULL, 's'},  {"zstd", 0, NULL, 'z'},      {"track", 1, NULL, 'k'},
	        {"claim", 1, NULL, 'c'},    {"id", 1, NULL, 'i'},        {"same-name", 0, NULL, 'n'},
	        {"output", 1, NULL, 'o'},   {"help", 0, NULL, 'h'},      {0}};
	yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *o = yyjson_mut_obj(doc);
	yyjson_mut_doc_set_root(doc, o);
	enum output out = OUT_TEXT;
	bool ok = true, to = false;
	uint64_t v = 0;
	for (int c; ok && (c = getopt_long(argc, argv, "o:h", longs, NULL)) != -1;) {
		switch (c) {
		case 't': to = true, option(doc, o, "to", yyjson_mut_str(doc, optarg)); break;
		case 'f':
			ok = number("--freeze", optarg, 1, &v) &&
			     option(doc, o, "want_freeze_ms", yyjson_mut_uint(doc, v));
			break;
		case 'm':
			ok = number("--max-freeze", optarg, 1, &v) &&
			     option(doc, o, "max_freeze_ms", yyjson_mut_uint(doc, v));
			break;
		case 'b':
			ok = number("--bandwidth", optarg, 1u << 20, &v) &&
			     option(doc, o, "bandwidth", yyjson_mut_uint(doc, v));
			break;
		case 'r':
			ok = number("--rounds", optarg, 1, &v) && option(doc, o, "rounds_max", yyjson_mut_uint(doc, v));
			break;
		case 's':
			ok = number("--timeout", optarg, 1000, &v) &&
			     option(doc, o, "timeout_ms", yyjson_mut_uint(doc, v));
			break;
		case 'T': option(doc, o, "throttle", yyjson_mut_bool(doc, true)); break;
		case 'z': option(doc, o, "zstd", yyjson_mut_bool(doc, true)); break;
		case 'k':
			ok = !strcmp(optarg, "uffd") || !strcmp(optarg, "soft-dirty");
			if (!ok)
				(void)fprintf(stderr, "godwit: --track is uffd or soft-dirty\n");
			option(doc, o, "backend", yyjson_mut_str(doc, optarg));
			break;
		case 'c': option(doc, o, "claim", yyjson_mut_str(doc, optarg)); break;
		case 'i': option(doc, o, "mig", yyjson_mut_str(doc, optarg)); break;
		case 'n': option(doc, o, "same_name", yyjson_mut_bool(doc, true)); break;
		case 'o': ok = parse_output(optarg, &out); break;
		case 'h': return yyjson_mut_doc_free(doc), fputs(usage, stdout), GODWIT_OK;
		default: ok = false;
		}
	}
	if (ok && (optind + 1 != argc || !to)) {
		(void)fprintf(stderr, "godwit: name one container and --to HOST (see godwit migrate --help)\n");
		ok = false;
	}
	if (!ok)
		return yyjson_mut_doc_free(doc), GODWIT_USAGE;
	yyjson_mut_obj_add_str(doc, o, "cmd", "migrate");
	yyjson_mut_obj_add_str(doc, o, "container", argv[optind]);
	struct client cl;
	int rc = client_ask(&cl, doc, out);
	if (rc == 0)
		rc = follow(&cl, argv[optind], out);
	client_close(&cl);
	return rc;
}
