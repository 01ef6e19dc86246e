/* godwit-install: what the pods of godwit's DaemonSets run.
 *
 * run      puts godwit on the node, then is the node's godwitd: outside of the
 *          pod's file system, inside of its cgroup, with its credentials
 * remove   takes all of it away again and waits
 *
 * The pod's first process stays in the pod, where probes and kubectl exec look
 * for it; the work is a child's.
 * A node that can't be served, or not be left, is told so on its Node object
 * (condition GodwitReady, an Event), and looked at again until it can. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/gw_log.h"
#include "base/io.h"
#include "base/scope.h"
#include "install/host.h"
#include "install/install.h"
#include "kube/node_object.h"

enum { EXIT_USAGE = 2, ACCOUNT_FD = 19, AGAIN_S = 20, AGAIN_REMOVE_S = 5, ARGS_MAX = 64, CIDRS = 2 };

static const char usage[] =
        "usage: godwit-install VERB --node NAME [options] [-- godwitd's options]\n"
        "\n"
        "Run by godwit's DaemonSets (deploy/40-daemonset.yaml), as root in a privileged pod with\n"
        "hostPID and hostNetwork.\n"
        "\n"
        "  run      put godwit on the node, restart containerd if its settings changed, become godwitd\n"
        "  remove   undo exactly that, once no container needs it any more; then wait for SIGTERM\n"
        "  ready    does godwitd answer on this node? (a probe)\n"
        "  gone     is nothing of godwit left on this node? (a probe)\n"
        "\n"
        "  --node NAME        the Node this is\n"
        "  --no-network       leave the node's network plugin alone: godwit-cni is there already\n"
        "  --kubeconfig FILE  JSON [as in a pod]\n"
        "  --help  --version\n"
        "\n"
        "exit codes: 0 done (ready, gone: yes), 1 no, 2 bad usage\n";

struct run {
	struct gw_kube *k;
	const char *node;
	bool no_network;
	char said[64 + 480];
};

/* ---- the cluster ---- */

/* The service account's folder stays reachable, and so does what kubelet puts
 * there later. In a pod only. */
static void keep_account(void)
{
	char path[40];
	gw_auto(fd) int fd = open("/var/run/secrets/kubernetes.io/serviceaccount", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || dup2(fd, ACCOUNT_FD) < 0)
		return;
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", ACCOUNT_FD);
	(void)setenv("GODWIT_ACCOUNT", path, 1);
}

static int open_cluster(const char *kubeconfig, struct gw_kube **out, struct gw_err *e)
{
	struct gw_kube_config config = {0};
	int rc = gw_kube_config_find(kubeconfig, &config, e);
	if (rc == 0)
		rc = gw_kube_open(&config, out, e);
	gw_kube_config_done(&config);
	return rc;
}

/* Once for each new reason: on the Node, as an Event, in the log. */
static void tell(struct run *r, const struct gw_err *why, const char *otherwise)
{
	char now[sizeof(r->said)];
	const char *reason = why->code[0] ? why->code : otherwise;
	struct gw_err e;
	(void)snprintf(now, sizeof(now), "%s %s", reason, why->text);
	if (!strcmp(now, r->said))
		return;
	gw_error("not done; looked at again", kv_str("code", reason), kv_str("reason", why->text));
	if (gw_node_condition(r->k, r->node, false, reason, why->text, &e) == 0 &&
	    gw_node_event(r->k, r->node, "godwit-install", true, reason, why->text, &e) == 0)
		(void)snprintf(r->said, sizeof(r->said), "%s", now);
	else
		gw_warn("the Node is not told", kv_str("reason", e.text));
}

static int pod_ranges(struct run *r, char out[CIDRS][64], struct gw_err *e)
{
	char path[400];
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	(void)snprintf(path, sizeof(path), "/api/v1/nodes/%s", r->node);
	int rc = gw_kube_get(r->k, path, &doc, e);
	yyjson_val *spec = doc ? yyjson_obj_get(yyjson_doc_get_root(doc), "spec") : NULL,
	           *all = yyjson_obj_get(spec, "podCIDRs");
	for (size_t i = 0; i < CIDRS; i++)
		(void)snprintf(out[i], 64, "%s", yyjson_get_str(yyjson_arr_get(all, i)) ?: "");
	return rc;
}

static bool in_range(const char *address, const char *range)
{
	unsigned char a[16], r[16];
	char base[64];
	int family = strchr(address, ':') ? AF_INET6 : AF_INET;
	const char *slash = strchr(range, '/');
	(void)snprintf(base, sizeof(base), "%.*s", slash ? (int)(slash - range) : 0, range);
	if (!slash || inet_pton(family, address, a) != 1 || inet_pton(family, base, r) != 1)
		return false;
	int bits = atoi(slash + 1), whole = bits / 8, rest = bits % 8;
	return bits >= 0 && bits <= (family == AF_INET ? 32 : 128) && !memcmp(a, r, (size_t)whole) &&
	       (!rest || (a[whole] ^ r[whole]) >> (8 - rest) == 0);
}

/* Is this node its home, and does a pod on another node live under it? In doubt: yes. */
static bool address_lives(void *ctx, const char *address)
{
	struct run *r = ctx;
	char path[300], ranges[CIDRS][64] = {"", ""};
	struct gw_err e;
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	/* Of the second family the API can't be asked; the pod's first address answers for it. */
	if (strchr(address, ':'))
		return false;
	if (pod_ranges(r, ranges, &e) == 0 && !in_range(address, ranges[0]) && !in_range(address, ranges[1]))
		return false;
	(void)snprintf(path, sizeof(path), "/api/v1/pods?fieldSelector=status.podIP%%3D%s%%2Cstatus.phase%%3DRunning",
	               address);
	if (gw_kube_get(r->k, path, &doc, &e) < 0)
		return true;
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(yyjson_doc_get_root(doc), "items"));
	for (yyjson_val *v; (v = yyjson_arr_iter_next(&it));)
		if (strcmp(gw_json_str(yyjson_obj_get(v, "spec"), "nodeName", ""), r->node) != 0)
			return true;
	return false;
}

/* ---- verbs ---- */

[[noreturn]]
static void become_godwitd(struct run *r, const char *runc_root, int argc, char **argv)
{
	const char *args[ARGS_MAX] = {GW_HOME "/bin/godwitd",
	                              "--kube",
	                              "--name",
	                              r->node,
	                              "--tls",
	                              "/run/godwit/tls",
	                              "--hosts",
	                              "/run/godwit/hosts",
	                              "--runc-root",
	                              runc_root,
	                              "--criu",
	                              GW_HOME "/bin/criu"};
	int n = 12;
	if (access(GW_HOME "/runc", X_OK) == 0) {
		args[n++] = "--runc";
		args[n++] = GW_HOME "/runc";
	}
	for (int i = 0; i < argc && n < ARGS_MAX - 1; i++)
		args[n++] = argv[i];
	gw_kube_close(r->k);
	if (getenv("GODWIT_ACCOUNT"))
		(void)fcntl(ACCOUNT_FD, F_SETFD, 0);
	(void)setenv("PATH", GW_HOME "/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
	(void)execv(args[0], (char **)(uintptr_t)args);
	gw_error("cannot become godwitd", kv_str("reason", strerrordesc_np(errno)));
	exit(1);
}

static int verb_run(struct run *r, int image, int argc, char **argv)
{
	for (;; gw_sleep_us(AGAIN_S * 1000000ULL)) {
		char ranges[CIDRS][64] = {"", ""}, runc_root[PATH_MAX];
		struct gw_err e = {.class = GW_OK};
		int rc = pod_ranges(r, ranges, &e);
		const struct gw_install o = {
		        .image = image, .ranges = {ranges[0], ranges[1]}, .no_network = r->no_network};
		if (rc == 0)
			rc = gw_install(&o, runc_root, sizeof(runc_root), &e);
		if (rc == 0) {
			gw_info("installed", kv_str("node", r->node), kv_str("version", GODWIT_VERSION));
			become_godwitd(r, runc_root, argc, argv);
		}
		tell(r, &e, "InstallFailed");
	}
}

static int verb_remove(struct run *r)
{
	struct gw_err e = {.class = GW_OK};
	while (gw_uninstall(address_lives, r, &e) < 0) {
		tell(r, &e, "RemoveFailed");
		gw_sleep_us(AGAIN_REMOVE_S * 1000000ULL);
	}
	gw_info("nothing of godwit is left", kv_str("node", r->node));
	if (gw_node_condition_drop(r->k, r->node, &e) < 0 ||
	    gw_node_event(r->k, r->node, "godwit-install", false, "Removed", "godwit has left this node", &e) < 0)
		gw_warn("the Node is not told", kv_str("reason", e.text));
	gw_kube_close(r->k);
	while (pause() < 0)
		;
	return 0;
}

static bool answers(void)
{
	gw_auto(fd) int fd = -1;
	return gw_unix_connect("/proc/1/root/run/godwit/godwit.sock", &fd, NULL) == 0;
}

static pid_t child;

static void hand_on(int sig)
{
	(void)kill(child, sig);
}

/* What is on the Node would say otherwise until somebody starts it again. */
static void tell_end(const struct run *r, const char *kubeconfig, int st)
{
	struct gw_kube *k;
	struct gw_err e;
	char words[100];
	if (WIFSIGNALED(st))
		(void)snprintf(words, sizeof(words), "godwitd was ended by signal %d", WTERMSIG(st));
	else
		(void)snprintf(words, sizeof(words), "godwitd has ended with exit code %d", WEXITSTATUS(st));
	if (open_cluster(kubeconfig, &k, &e) == 0) {
		(void)gw_node_condition(k, r->node, false, "NotRunning", words, &e);
		gw_kube_close(k);
	}
}

/* Returns in the child. The parent ends as the child does. */
static void split(const struct run *r, const char *kubeconfig, bool is_godwitd)
{
	int st = 0;
	pid_t parent = getpid();
	child = fork();
	if (child == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGTERM);
		if (getppid() != parent)
			exit(1);
		return;
	}
	const struct sigaction act = {.sa_handler = hand_on};
	(void)sigaction(SIGTERM, &act, NULL);
	(void)sigaction(SIGINT, &act, NULL);
	while (child > 0 && waitpid(child, &st, 0) < 0 && errno == EINTR)
		;
	if (child > 0 && is_godwitd)
		tell_end(r, kubeconfig, st);
	exit(child > 0 && WIFEXITED(st) ? WEXITSTATUS(st) : child > 0 && WTERMSIG(st) == SIGTERM ? 0 : 1);
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {{"node", 1, NULL, 'n'},       {"kubeconfig", 1, NULL, 'k'},
	                                      {"no-network", 0, NULL, 'N'}, {"help", 0, NULL, 'h'},
	                                      {"version", 0, NULL, 'v'},    {0}};
	struct run r = {.node = ""};
	const char *kubeconfig = NULL, *verb = argc > 1 ? argv[1] : "";
	struct gw_err e = {.class = GW_OK};
	for (int c; (c = getopt_long(argc, argv, "h", longs, NULL)) != -1;) {
		switch (c) {
		case 'n': r.node = optarg; break;
		case 'k': kubeconfig = optarg; break;
		case 'N': r.no_network = true; break;
		case 'h': return fputs(usage, stdout) < 0;
		case 'v': return puts("godwit-install " GODWIT_VERSION) < 0;
		default: return EXIT_USAGE;
		}
	}
	if (!strcmp(verb, "ready"))
		return !answers();
	if (!strcmp(verb, "gone"))
		return access("/proc/1/root" GW_HOME "/installed.json", F_OK) == 0;
	bool run = !strcmp(verb, "run");
	if ((!run && strcmp(verb, "remove") != 0) || !*r.node)
		return fprintf(stderr, "godwit-install: a verb and --node are needed (see --help)\n"), EXIT_USAGE;
	gw_log_init("godwit-install", GW_INFO, GW_LOG_TEXT);
	gw_auto(fd) int image = open(GW_HOME, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	keep_account();
	split(&r, kubeconfig, run);
	if (gw_host_enter(&e) < 0 || open_cluster(kubeconfig, &r.k, &e) < 0)
		return gw_error("cannot start", kv_str("reason", e.text)), 1;
	(void)setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
	int first = optind < argc && !strcmp(argv[optind], verb) ? optind + 1 : optind;
	return run ? verb_run(&r, image, argc - first, argv + first) : verb_remove(&r);
}
