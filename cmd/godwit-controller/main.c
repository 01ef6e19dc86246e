/* godwit-controller: one (or several, one of which acts) in a cluster. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/gw_log.h"
#include "base/scope.h"
#include "ctrl/controller.h"

enum { EXIT_USAGE = 2, MAX_ACTIVE = 20, MAX_PER_NODE = 2, PORT = 9460 };

static const char usage[] =
        "usage: godwit-controller [options]\n"
        "\n"
        "Carries out the Migration objects of a cluster, with a godwitd --kube on every node.\n"
        "\n"
        "  --kubeconfig FILE   JSON, as kubectl config view --raw -o json writes it  [as in a pod]\n"
        "  --max-active N      migrations at once in the cluster                     [20]\n"
        "  --max-per-node N    migrations at once that one node takes part in        [2]\n"
        "  --port N            where godwitd listen                                  [9460]\n"
        "  --namespace NS      of the Lease by which one of several controllers acts [godwit-system]\n"
        "  --metrics ADDR:PORT /metrics and /healthz over HTTP, without a password    [none]\n"
        "  --log-format text|json\n"
        "  --help  --version\n"
        "\n"
        "exit codes: 0 ended by SIGTERM, 2 bad usage or configuration, 111 the system refuses\n";

static bool number(const char *name, const char *s, unsigned max, unsigned *out)
{
	char *end;
	unsigned long v = strtoul(s, &end, 10);
	if (!*s || *end || v == 0 || v > max)
		return fprintf(stderr, "godwit-controller: --%s is a number from 1 to %u\n", name, max), false;
	*out = (unsigned)v;
	return true;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {{"kubeconfig", 1, NULL, 'k'},   {"max-active", 1, NULL, 'a'},
	                                      {"max-per-node", 1, NULL, 'n'}, {"port", 1, NULL, 'p'},
	                                      {"namespace", 1, NULL, 's'},    {"log-format", 1, NULL, 'f'},
	                                      {"help", 0, NULL, 'h'},         {"version", 0, NULL, 'v'},
	                                      {"metrics", 1, NULL, 'm'},      {0}};
	char host[64] = "", identity[128];
	unsigned port = PORT;
	enum gw_log_format format = GW_LOG_TEXT;
	struct ctrl_opts o = {
	        .max_active = MAX_ACTIVE, .max_per_node = MAX_PER_NODE, .lease_namespace = "godwit-system"};
	bool ok = true;
	for (int c; ok && (c = getopt_long(argc, argv, "h", longs, NULL)) != -1;) {
		switch (c) {
		case 'k': o.kubeconfig = optarg; break;
		case 'a': ok = number("max-active", optarg, 10000, &o.max_active); break;
		case 'n': ok = number("max-per-node", optarg, 1000, &o.max_per_node); break;
		case 'p': ok = number("port", optarg, 65535, &port); break;
		case 's': o.lease_namespace = optarg; break;
		case 'm': o.metrics = optarg; break;
		case 'f': format = !strcmp(optarg, "json") ? GW_LOG_JSON : GW_LOG_TEXT; break;
		case 'h': return fputs(usage, stdout) < 0;
		case 'v': return puts("godwit-controller " GODWIT_VERSION) < 0;
		default: ok = false;
		}
	}
	if (!ok || optind < argc)
		return fprintf(stderr, "godwit-controller: see --help\n"), EXIT_USAGE;
	gw_log_init("godwit-controller", GW_INFO, format);
	(void)gethostname(host, sizeof(host) - 1);
	(void)snprintf(identity, sizeof(identity), "%s_%d", host, getpid());
	o.identity = identity;
	o.port = (uint16_t)port;
	return ctrl_run(&o);
}
