/* kubectl-godwit: a person's hand on Migrations. Talks to the API server only. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/proc.h"
#include "base/scope.h"
#include "plugin.h"

enum { CONFIG_TAKES_MS = 20000 };

static const char usage[] =
        "usage: kubectl godwit VERB [ARGS] [options]\n"
        "\n"
        "Live migration of pods: memory, processes, connections and address move to another node.\n"
        "\n"
        "  migrate POD|KIND/NAME --to NODE   move a pod (the one running pod of a Deployment, StatefulSet, Job)\n"
        "  check POD|KIND/NAME --to NODE     can it move? reasons and ways out; nothing is frozen\n"
        "  status [MIGRATION]                migrations, or one of them\n"
        "  cancel MIGRATION                  stop one before its commit\n"
        "  nodes                             which nodes take part\n"
        "  drain NODE [--to NODE]            cordon it, move away what can move, evict the rest, say which was which\n"
        "\n"
        "  -n, --namespace NS    [the context's]        -A, --all-namespaces   with status\n"
        "  -w, --watch           follow it to its end: rounds, bytes, predicted freeze\n"
        "  -o json               the object instead of words\n"
        "  --max-freeze MS       rather fail (NotConverging) than freeze longer   [1000]\n"
        "  --bandwidth MIB       limit for memory, MiB per second                 [none]\n"
        "  --timeout S           of a migration                                   [600]\n"
        "  --throttle            slow the pod down if it writes too fast\n"
        "  --zstd                compress memory on its way\n"
        "  --evict               evict the pod if it cannot be moved\n"
        "  --context NAME, --kubeconfig FILE   as kubectl's\n"
        "\n"
        "exit codes: 0 done, 1 failed or cannot move (the pod runs on where it was), 2 bad usage, 4 no cluster\n";

static const struct {
	const char *name;
	int (*run)(struct plugin *p);
	int min_args, max_args;
	bool needs_to;
} verbs[] = {
        {"migrate", verb_migrate, 1, 1, true}, {"check", verb_check, 1, 1, true},  {"status", verb_status, 0, 1, false},
        {"cancel", verb_cancel, 1, 1, false},  {"nodes", verb_nodes, 0, 0, false}, {"drain", verb_drain, 1, 1, false},
};

int plugin_fail(const struct gw_err *e)
{
	(void)fprintf(stderr, "kubectl godwit: %s%s%s%s\n", e->text, e->code[0] ? " (" : "", e->code,
	              e->code[0] ? ")" : "");
	return !strcmp(e->code, "Unreachable") ? PLUGIN_NO_CLUSTER : PLUGIN_FAILED;
}

/* kubectl knows where kubeconfigs are and what they mean. */
static int connect_to(const char *context, const char *file, struct gw_kube **out, struct gw_err *e)
{
	const char *argv[12] = {"kubectl", "config", "view", "--raw", "--flatten", "--minify", "-o", "json"};
	int n = 8;
	if (context) {
		argv[n++] = "--context";
		argv[n++] = context;
	}
	if (file) {
		argv[n++] = "--kubeconfig";
		argv[n++] = file;
	}
	gw_auto(mem) char *text = NULL;
	struct gw_kube_config c;
	const struct gw_spawn s = {.argv = argv, .stdio = {-1, -1, -1}};
	int rc = gw_proc_run(&s, CONFIG_TAKES_MS, &text, e);
	if (rc < 0)
		return gw_wrap(e, "ask kubectl for the cluster's address");
	rc = gw_kube_config_parse(text, strlen(text), &c, e);
	if (rc < 0)
		return rc;
	rc = gw_kube_open(&c, out, e);
	gw_kube_config_done(&c);
	return rc;
}

static bool number(struct plugin *p, yyjson_mut_val *options, const char *name, const char *key, uint64_t scale)
{
	char *end;
	unsigned long long v = strtoull(optarg, &end, 10);
	if (!*optarg || *end || v == 0 || v > UINT32_MAX)
		return fprintf(stderr, "kubectl godwit: --%s %s is not a number\n", name, optarg), false;
	return yyjson_mut_obj_add_uint(p->options, options, key, v * scale);
}

struct args {
	const char *context, *kubeconfig;
};

static int parse(int argc, char **argv, struct plugin *p, struct args *a)
{
	static const struct option longs[] = {{"to", 1, NULL, 't'},
	                                      {"namespace", 1, NULL, 'n'},
	                                      {"all-namespaces", 0, NULL, 'A'},
	                                      {"watch", 0, NULL, 'w'},
	                                      {"output", 1, NULL, 'o'},
	                                      {"max-freeze", 1, NULL, 'm'},
	                                      {"bandwidth", 1, NULL, 'b'},
	                                      {"timeout", 1, NULL, 's'},
	                                      {"throttle", 0, NULL, 'T'},
	                                      {"zstd", 0, NULL, 'z'},
	                                      {"evict", 0, NULL, 'e'},
	                                      {"context", 1, NULL, 'c'},
	                                      {"kubeconfig", 1, NULL, 'k'},
	                                      {"help", 0, NULL, 'h'},
	                                      {"version", 0, NULL, 'v'},
	                                      {0}};
	yyjson_mut_val *spec = yyjson_mut_doc_get_root(p->options), *o = yyjson_mut_obj_get(spec, "options");
	bool ok = true;
	for (int c; ok && (c = getopt_long(argc, argv, "n:Awo:h", longs, NULL)) != -1;) {
		switch (c) {
		case 't': p->to = optarg; break;
		case 'n': p->namespace = optarg; break;
		case 'A': p->all_namespaces = true; break;
		case 'w': p->watch = true; break;
		case 'o': ok = !strcmp(optarg, "json"), p->json = true; break;
		case 'm': ok = number(p, o, "max-freeze", "maxFreezeMs", 1); break;
		case 'b': ok = number(p, o, "bandwidth", "bandwidth", 1 << 20); break;
		case 's': ok = number(p, o, "timeout", "timeoutSeconds", 1); break;
		case 'T': yyjson_mut_obj_add_bool(p->options, o, "throttle", true); break;
		case 'z': yyjson_mut_obj_add_bool(p->options, o, "zstd", true); break;
		case 'e': yyjson_mut_obj_add_str(p->options, spec, "fallback", "Evict"); break;
		case 'c': a->context = optarg; break;
		case 'k': a->kubeconfig = optarg; break;
		case 'h': (void)fputs(usage, stdout); exit(0);
		case 'v': (void)puts("kubectl-godwit " GODWIT_VERSION); exit(0);
		default: ok = false;
		}
	}
	if (!ok)
		return fprintf(stderr, "kubectl godwit: see --help\n"), PLUGIN_USAGE;
	for (int i = optind; i < argc && p->nwhat < (int)gw_countof(p->what); i++)
		p->what[p->nwhat++] = argv[i];
	return PLUGIN_OK;
}

int main(int argc, char **argv)
{
	struct plugin p = {.options = yyjson_mut_doc_new(NULL)};
	struct args a = {.context = NULL};
	struct gw_err e = {.class = GW_OK};
	yyjson_mut_val *spec = yyjson_mut_obj(p.options);
	yyjson_mut_doc_set_root(p.options, spec);
	yyjson_mut_obj_add_val(p.options, spec, "options", yyjson_mut_obj(p.options));
	int rc = parse(argc, argv, &p, &a);
	if (rc != PLUGIN_OK)
		return rc;
	if (p.nwhat == 0)
		return fputs(usage, stderr), PLUGIN_USAGE;
	for (size_t i = 0; i < gw_countof(verbs); i++) {
		if (strcmp(verbs[i].name, p.what[0]) != 0)
			continue;
		if (p.nwhat - 1 < verbs[i].min_args || p.nwhat - 1 > verbs[i].max_args || (verbs[i].needs_to && !p.to))
			return fprintf(stderr, "kubectl godwit %s: %s\n", p.what[0],
			               verbs[i].needs_to ? "name one pod, and the node with --to"
			                                 : "see --help for its arguments"),
			       PLUGIN_USAGE;
		if (connect_to(a.context, a.kubeconfig, &p.k, &e) < 0) {
			(void)plugin_fail(&e);
			return PLUGIN_NO_CLUSTER;
		}
		if (!p.namespace)
			p.namespace = gw_kube_namespace(p.k);
		rc = verbs[i].run(&p);
		gw_kube_close(p.k);
		yyjson_mut_doc_free(p.options);
		return rc;
	}
	return fprintf(stderr, "kubectl godwit: there is no verb \"%s\" (see --help)\n", p.what[0]), PLUGIN_USAGE;
}
