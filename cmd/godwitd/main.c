/* godwitd: one per host. Options in, gw_daemon_run; everything else is in src/move. */
#include <dlfcn.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/gw_log.h"
#include "base/io.h"
#include "base/scope.h"
#include "move/daemon.h"
#include "node/agent.h"
#include "node/agent_identity.h"

enum { EXIT_USAGE = 2, EXIT_SYSTEM = 111 };

static const char usage[] =
        "usage: godwitd --name NAME [options]\n"
        "\n"
        "Moves running containers from and to this host. One per host, as root.\n"
        "\n"
        "  --name NAME        this host's name, as in its certificate\n"
        "  --listen ADDR:PORT for other godwitd                    [0.0.0.0:9460]\n"
        "  --hosts FILE       lines \"NAME ADDR[,ADDR6] PORT\"       [/etc/godwit/hosts]\n"
        "  --ca FILE          who signs peers' certificates        [/etc/godwit/ca.pem]\n"
        "  --cert FILE        our certificate                      [/etc/godwit/cert.pem]\n"
        "  --key FILE         its key                              [/etc/godwit/key.pem]\n"
        "  --socket PATH      for local programs                   [/run/godwit/godwit.sock]\n"
        "  --state DIR        journal and work files, on tmpfs     [/run/godwit]\n"
        "  --runc PROGRAM     [runc in PATH]      --criu PROGRAM   [criu in PATH]\n"
        "  --runc-root DIR    runc's state        [/run/runc]\n"
        "  --libexec DIR      libgodwit-criu.so and godwit-pages   [where they were installed]\n"
        "  --cni-dir DIR      godwit-cni's dataDir              [/var/lib/godwit/cni]\n"
        "  --files-dir DIR    where arriving files wait         [/var/lib/godwit/files]\n"
        "  --kube             take part in a Kubernetes cluster: --name is the node's, --hosts is written\n"
        "  --tls DIR          with --kube: a certificate signed by the cluster, kept in DIR; no --ca, --cert, --key\n"
        "  --kubeconfig FILE  JSON, as kubectl config view --raw -o json writes it [as in a pod]\n"
        "  --metrics ADDR:PORT with --kube: /metrics and /healthz over HTTP        [none]\n"
        "  --data-conns N     connections for memory, 1 to 8       [2]\n"
        "  --log-level debug|info|warn|error   --log-format text|json\n"
        "  --help   --version\n"
        "\n"
        "exit codes: 0 ended by SIGTERM, 2 bad usage or configuration, 111 the system refuses\n";

struct options {
	struct gw_config cfg;
	char libexec[PATH_MAX / 2];
	char kubeconfig[PATH_MAX], tls[PATH_MAX / 2];
	char metrics[160];
	bool kube;
	enum gw_level level;
	enum gw_log_format format;
};

static void set(char *out, size_t size, const char *v)
{
	(void)snprintf(out, size, "%s", v);
}

static bool parse_level(const char *s, enum gw_level *out)
{
	static const char *const names[] = {"debug", "info", "warn", "error"};
	for (size_t i = 0; i < gw_countof(names); i++)
		if (!strcmp(names[i], s))
			return *out = (enum gw_level)i, true;
	return false;
}

/* One table for the options that are only copied. */
static char *place_of(struct options *o, const char *name, size_t *size)
{
	struct {
		const char *name;
		char *at;
		size_t size;
	} t[] = {
	        {"name", o->cfg.name, sizeof(o->cfg.name)},
	        {"listen", o->cfg.listen, sizeof(o->cfg.listen)},
	        {"hosts", o->cfg.hosts_path, sizeof(o->cfg.hosts_path)},
	        {"ca", o->cfg.ca, sizeof(o->cfg.ca)},
	        {"cert", o->cfg.cert, sizeof(o->cfg.cert)},
	        {"key", o->cfg.key, sizeof(o->cfg.key)},
	        {"socket", o->cfg.socket, sizeof(o->cfg.socket)},
	        {"state", o->cfg.state_dir, sizeof(o->cfg.state_dir)},
	        {"runc", o->cfg.runc, sizeof(o->cfg.runc)},
	        {"criu", o->cfg.criu, sizeof(o->cfg.criu)},
	        {"cni-dir", o->cfg.cni_dir, sizeof(o->cfg.cni_dir)},
	        {"files-dir", o->cfg.files_dir, sizeof(o->cfg.files_dir)},
	        {"runc-root", o->cfg.runc_root, sizeof(o->cfg.runc_root)},
	        {"kubeconfig", o->kubeconfig, sizeof(o->kubeconfig)},
	        {"metrics", o->metrics, sizeof(o->metrics)},
	        {"libexec", o->libexec, sizeof(o->libexec)},
	        {"tls", o->tls, sizeof(o->tls)},
	};
	for (size_t i = 0; i < gw_countof(t); i++)
		if (!strcmp(t[i].name, name))
			return *size = t[i].size, t[i].at;
	return NULL;
}

static int parse(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
	        {"name", 1, NULL, 0},         {"listen", 1, NULL, 0},      {"hosts", 1, NULL, 0},
	        {"ca", 1, NULL, 0},           {"cert", 1, NULL, 0},        {"key", 1, NULL, 0},
	        {"socket", 1, NULL, 0},       {"state", 1, NULL, 0},       {"runc", 1, NULL, 0},
	        {"criu", 1, NULL, 0},         {"runc-root", 1, NULL, 0},   {"libexec", 1, NULL, 0},
	        {"cni-dir", 1, NULL, 0},      {"files-dir", 1, NULL, 0},   {"kube", 0, NULL, 'k'},
	        {"kubeconfig", 1, NULL, 0},   {"tls", 1, NULL, 0},         {"metrics", 1, NULL, 0},
	        {"data-conns", 1, NULL, 'n'}, {"log-level", 1, NULL, 'l'}, {"log-format", 1, NULL, 'f'},
	        {"help", 0, NULL, 'h'},       {"version", 0, NULL, 'v'},   {0}};
	int index, c;
	while ((c = getopt_long(argc, argv, "h", longs, &index)) != -1) {
		size_t size = 0;
		char *at = c == 0 ? place_of(o, longs[index].name, &size) : NULL;
		if (at) {
			set(at, size, optarg);
		} else if (c == 'n') {
			o->cfg.data_conns = (unsigned)strtoul(optarg, NULL, 10);
			if (o->cfg.data_conns < 1 || o->cfg.data_conns > 8)
				return fprintf(stderr, "godwitd: --data-conns is 1 to 8\n"), EXIT_USAGE;
		} else if (c == 'l' && !parse_level(optarg, &o->level)) {
			return fprintf(stderr, "godwitd: --log-level is debug, info, warn or error\n"), EXIT_USAGE;
		} else if (c == 'f') {
			o->format = !strcmp(optarg, "json") ? GW_LOG_JSON : GW_LOG_TEXT;
		} else if (c == 'k') {
			o->kube = true;
		} else if (c == 'h') {
			(void)fputs(usage, stdout);
			exit(0);
		} else if (c == 'v') {
			(void)puts("godwitd " GODWIT_VERSION);
			exit(0);
		} else if (c == '?') {
			return EXIT_USAGE;
		}
	}
	if (o->metrics[0] && !o->kube)
		return fprintf(stderr, "godwitd: --metrics is for --kube\n"), EXIT_USAGE;
	if (optind < argc || !o->cfg.name[0])
		return fprintf(stderr, "godwitd: --name is needed, and nothing but options (see --help)\n"), EXIT_USAGE;
	return 0;
}

/* libgodwit-kube.so has the agent. */
static void *agent_symbol(const struct options *o, const char *name, struct gw_err *e)
{
	char path[PATH_MAX];
	gw_path(path, sizeof(path), "%s/libgodwit-kube.so", o->libexec);
	void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	void *symbol = module ? dlsym(module, name) : NULL;
	if (!symbol)
		(void)gw_fail(e, GW_INPUT, ENOENT, "--kube needs libgodwit-kube.so: %s", dlerror());
	return symbol;
}

/* Every godwitd of a cluster listens on the same port. */
static struct gw_agent_opts agent_opts(const struct options *o)
{
	const char *port = strrchr(o->cfg.listen, ':');
	return (struct gw_agent_opts){.kubeconfig = o->kubeconfig,
	                              .node = o->cfg.name,
	                              .tls_dir = o->tls,
	                              .metrics = o->metrics[0] ? o->metrics : NULL,
	                              .port = port ? (uint16_t)strtoul(port + 1, NULL, 10) : 0};
}

static int join_cluster(struct gw_daemon *d, void *ctx, struct gw_err *e)
{
	const struct gw_agent_opts a = agent_opts(ctx);
	typeof(gw_agent_start) *start = (typeof(gw_agent_start) *)agent_symbol(ctx, "gw_agent_start", e);
	return start ? start(d, &a, e) : -ENOENT;
}

/* Nobody is let in, and nowhere called, without a certificate: so this comes first. */
static int get_identity(struct options *o)
{
	struct gw_err e = {.class = GW_OK};
	const struct gw_agent_opts a = agent_opts(o);
	typeof(gw_identity_begin) *begin = (typeof(gw_identity_begin) *)agent_symbol(o, "gw_identity_begin", &e);
	if (!begin || begin(&a, &e) < 0)
		return gw_error("cannot start", kv_str("reason", e.text)),
		       e.class == GW_INPUT ? EXIT_USAGE : EXIT_SYSTEM;
	gw_path(o->cfg.ca, sizeof(o->cfg.ca), "%s/ca.pem", o->tls);
	gw_path(o->cfg.cert, sizeof(o->cfg.cert), "%s/node.pem", o->tls);
	gw_path(o->cfg.key, sizeof(o->cfg.key), "%s/node.pem", o->tls);
	return 0;
}

/* runc has no say in which CRIU it restores with: "criu" in PATH. */
static int lead_runc_to(const char *criu)
{
	const char *slash = strrchr(criu, '/'), *path = getenv("PATH");
	char all[2 * PATH_MAX];
	if (!slash)
		return 0;
	if (strcmp(slash, "/criu") != 0)
		return fprintf(stderr, "godwitd: --criu must end in /criu: runc finds it by that name only\n"),
		       EXIT_USAGE;
	(void)snprintf(all, sizeof(all), "%.*s:%s", (int)(slash - criu), criu, path ?: "/usr/sbin:/usr/bin:/sbin:/bin");
	return setenv("PATH", all, 1) == 0 ? 0 : EXIT_USAGE;
}

/* Tracking takes three descriptors a process of the container. */
static void allow_descriptors(void)
{
	struct rlimit r;
	if (getrlimit(RLIMIT_NOFILE, &r) < 0 || r.rlim_cur == r.rlim_max)
		return;
	r.rlim_cur = r.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &r) < 0)
		gw_debug("descriptors stay limited", kv_u64("limit", r.rlim_cur));
}

int main(int argc, char **argv)
{
	struct options o = {.cfg = {.listen = "0.0.0.0:9460",
	                            .hosts_path = "/etc/godwit/hosts",
	                            .ca = "/etc/godwit/ca.pem",
	                            .cert = "/etc/godwit/cert.pem",
	                            .key = "/etc/godwit/key.pem",
	                            .socket = "/run/godwit/godwit.sock",
	                            .state_dir = "/run/godwit",
	                            .runc_root = "/run/runc",
	                            .cni_dir = "/var/lib/godwit/cni",
	                            .files_dir = "/var/lib/godwit/files",
	                            .data_conns = 2},
	                    .libexec = GODWIT_LIBEXEC,
	                    .level = GW_INFO,
	                    .format = GW_LOG_TEXT};
	int rc = parse(argc, argv, &o);
	if (rc == 0)
		rc = lead_runc_to(o.cfg.criu);
	if (rc != 0)
		return rc;
	gw_log_init("godwitd", o.level, o.format);
	allow_descriptors();
	gw_path(o.cfg.preload, sizeof(o.cfg.preload), "%s/libgodwit-criu.so", o.libexec);
	gw_path(o.cfg.pages, sizeof(o.cfg.pages), "%s/godwit-pages", o.libexec);
	if (access(o.cfg.preload, R_OK) < 0 || access(o.cfg.pages, X_OK) < 0)
		return fprintf(stderr, "godwitd: libgodwit-criu.so and godwit-pages are not in %s (--libexec)\n",
		               o.libexec),
		       EXIT_USAGE;
	if (o.tls[0] && !o.kube)
		return fprintf(stderr, "godwitd: --tls needs --kube: it is the cluster that signs\n"), EXIT_USAGE;
	rc = o.tls[0] ? get_identity(&o) : 0;
	if (rc != 0)
		return rc;
	return gw_daemon_run(&o.cfg, o.kube ? join_cluster : NULL, &o);
}
