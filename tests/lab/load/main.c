/* lab-load: the checking client of the lab. See load.h; `lab-load --help`. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include "load.h"

static const char help[] = "lab-load --host ADDRESS --port P [options]\n"
                           "lab-load ctl SOCKET mark NAME|peek|rate N|stop\n"
                           "\n"
                           "Holds one connection to a redis, writes keys by the clock, checks every answer\n"
                           "and at the end every key. Never reconnects.\n"
                           "  --rate N         writes a second (5000); 0: a PING every 2 ms\n"
                           "  --value N        bytes of a value (900)\n"
                           "  --keys N         number of keys written (200000), named PREFIX:0 to PREFIX:N-1\n"
                           "  --prefix P       (k)\n"
                           "  --seconds N      how long (0: until `lab-load ctl SOCKET stop`)\n"
                           "  --pipeline N     requests that may wait for an answer (1)\n"
                           "  --read-every N   one read after N writes (20; 0: none)\n"
                           "  --stall-ms N     a gap this long is an event in the report (5)\n"
                           "  --report-file F  JSON lines: one a second, and events\n"
                           "  --control SOCK   unix socket for `lab-load ctl`\n"
                           "\n"
                           "Prints one JSON object at the end. Exit code 0 when the connection lived and\n"
                           "nothing was lost or wrong, 1 otherwise, 2 for wrong usage.\n";

static bool number(const char *text, uint32_t max, uint32_t *out)
{
	char *end;
	errno = 0;
	unsigned long n = strtoul(text, &end, 10);
	if (errno || end == text || *end || n > max)
		return false;
	*out = (uint32_t)n;
	return true;
}

static int parse(int argc, char **argv, struct load_opts *o)
{
	static const struct option names[] = {
	        {"host", 1, NULL, 'h'},     {"port", 1, NULL, 'p'},        {"rate", 1, NULL, 'r'},
	        {"value", 1, NULL, 'v'},    {"keys", 1, NULL, 'k'},        {"prefix", 1, NULL, 'x'},
	        {"seconds", 1, NULL, 's'},  {"pipeline", 1, NULL, 'n'},    {"read-every", 1, NULL, 'e'},
	        {"stall-ms", 1, NULL, 'm'}, {"report-file", 1, NULL, 'f'}, {"control", 1, NULL, 'c'},
	        {"every-ms", 1, NULL, 'E'}, {"help", 0, NULL, 'H'},        {NULL, 0, NULL, 0},
	};
	bool ok = true;
	int c;
	while (ok && (c = getopt_long(argc, argv, "", names, NULL)) >= 0) {
		switch (c) {
		case 'h': o->host = optarg; break;
		case 'p': o->port = optarg; break;
		case 'x':
			o->prefix = optarg;
			ok = strlen(optarg) < 60;
			break;
		case 'f': o->report = optarg; break;
		case 'c': o->control = optarg; break;
		case 'r': ok = number(optarg, 1000000, &o->rate); break;
		case 'v': ok = number(optarg, LOAD_VALUE_MAX, &o->value) && o->value; break;
		case 'k': ok = number(optarg, LOAD_KEYS_MAX, &o->keys) && o->keys; break;
		case 's': ok = number(optarg, 1000000, &o->seconds); break;
		case 'n': ok = number(optarg, LOAD_PIPELINE_MAX, &o->pipeline) && o->pipeline; break;
		case 'e': ok = number(optarg, 1000000, &o->read_every); break;
		case 'm': ok = number(optarg, 1000000, &o->stall_ms); break;
		case 'E': ok = number(optarg, 60000, &o->every_ms) && o->every_ms; break;
		case 'H': (void)fputs(help, stdout); return 1;
		default: return 2;
		}
		if (!ok)
			fprintf(stderr, "lab-load: \"%s\" is no good value; see --help\n", optarg);
	}
	if (ok && (!o->host || !o->port || optind != argc)) {
		fprintf(stderr, "lab-load: needs --host and --port and no other words; see --help\n");
		ok = false;
	}
	return ok ? 0 : 2;
}

static void summary(FILE *f, const struct load *l, uint64_t checked, uint64_t wrong, bool ok, const char *why)
{
	struct load_tcp t = load_tcp_now(l);
	fprintf(f,
	        "{\"event\":\"end\",\"ok\":%s,\"requests\":%" PRIu64 ",\"answers\":%" PRIu64 ",\"lost\":%" PRIu64
	        ",\"wrong_answers\":%" PRIu64 ",\"keys_checked\":%" PRIu64 ",\"keys_wrong\":%" PRIu64
	        ",\"reconnects\":0,\"port\":%u,\"same_port\":%s,\"retransmits\":%" PRIu32 ",\"probes\":%" PRIu64
	        ",\"timeouts\":%" PRIu64 ",\"why\":\"%s\"}\n",
	        ok ? "true" : "false", l->sent, l->answered, l->sent - l->answered, l->wrong_answers, checked, wrong,
	        l->port, load_local_port(l) == l->port ? "true" : "false", t.retransmits,
	        t.probes - l->tcp_start.probes, t.timeouts - l->tcp_start.timeouts, why);
	(void)fflush(f);
}

static int work(struct load *l)
{
	struct gw_err e = {0};
	uint64_t checked = 0;
	uint64_t wrong = 0;
	if (load_control_open(l, &e) < 0 || load_connect(l, &e) < 0) {
		fprintf(stderr, "lab-load: %s\n", e.text);
		return 1;
	}
	if (l->report) {
		fprintf(l->report, "{\"event\":\"start\",\"port\":%u,\"rate\":%" PRIu32 "}\n", l->port, l->o.rate);
		(void)fflush(l->report);
	}
	int rc = load_run(l, &e);
	if (rc == 0)
		rc = load_verify(l, &checked, &wrong, &e);
	if (rc < 0)
		fprintf(stderr, "lab-load: %s\n", e.text);
	bool ok = rc == 0 && !wrong && !l->wrong_answers && l->sent == l->answered && load_local_port(l) == l->port;
	if (l->report)
		summary(l->report, l, checked, wrong, ok, e.text);
	summary(stdout, l, checked, wrong, ok, e.text);
	return ok ? 0 : 1;
}

int main(int argc, char **argv)
{
	static struct load l = {
	        .o = {.prefix = "k",
	              .rate = 5000,
	              .value = 900,
	              .keys = 200000,
	              .pipeline = 1,
	              .read_every = 20,
	              .stall_ms = 5,
	              .every_ms = 1000},
	        .fd = -1,
	        .listen_fd = -1,
	        .ctl_fd = -1,
	        .random = 88172645463325252u,
	};
	if (argc > 2 && strcmp(argv[1], "ctl") == 0)
		return load_control_client(argc - 2, argv + 2);
	int rc = parse(argc, argv, &l.o);
	if (rc)
		return rc == 1 ? 0 : rc;
	/* The default slack of 50 us would be a quarter of the interval at 5,000 a second. */
	(void)prctl(PR_SET_TIMERSLACK, 1);
	l.versions = calloc(l.o.keys, sizeof *l.versions);
	if (!l.versions) {
		fprintf(stderr, "lab-load: no memory for %" PRIu32 " keys\n", l.o.keys);
		return 1;
	}
	if (l.o.report && !(l.report = fopen(l.o.report, "we"))) {
		fprintf(stderr, "lab-load: create %s: %s\n", l.o.report, strerror(errno));
		return 1;
	}
	/* A line is one write: a reader never sees half of it. */
	if (l.report)
		(void)setvbuf(l.report, NULL, _IOLBF, 4096);
	return work(&l);
}
