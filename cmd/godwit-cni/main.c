/* godwit-cni: the CNI plugin of godwit. Called by the container runtime: CNI_*
 * in the environment, the configuration on stdin, the answer on stdout. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "cni/attach.h"
#include "cni/result.h"

static const char help[] =
        "godwit-cni " GODWIT_VERSION ": a CNI plugin, called by container runtimes: pods get a /32 or /128 that can\n"
        "move to another host. CNI_COMMAND is ADD, DEL, CHECK, GC, STATUS or VERSION, the configuration comes on\n"
        "stdin. CNI 0.4.0, 1.0.0, 1.1.0. Keys of the configuration, files and error codes: docs/cni.md.\n";

static int run(const struct gw_cni_conf *c, const struct gw_cni_env *env, char **out_text, struct gw_err *e)
{
	struct gw_pod p;
	int rc = 0;
	switch (env->command) {
	case GW_CNI_ADD:
		rc = gw_cni_add(c, env, &p, e);
		if (rc == 0)
			*out_text = gw_cni_added_text(c, env->netns, &p);
		return rc;
	case GW_CNI_DEL: return gw_cni_del(c, env, e);
	case GW_CNI_CHECK: return gw_cni_check(c, env, e);
	case GW_CNI_GC: return gw_cni_gc(c, e);
	case GW_CNI_STATUS: return gw_cni_status(c, e);
	case GW_CNI_VERSION: *out_text = gw_cni_version_text(c->version); return 0;
	}
	return rc;
}

static int read_stdin(char **out_text, size_t *out_len, struct gw_err *e)
{
	size_t len = 0;
	gw_auto(mem) char *text = malloc(GW_CNI_CONF_MAX + 1);
	if (!text)
		return gw_fail_code(e, GW_INPUT, "IoFailure", "no memory for the configuration on stdin");
	for (;;) {
		ssize_t n = read(STDIN_FILENO, text + len, GW_CNI_CONF_MAX + 1 - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return gw_fail_code(e, GW_INPUT, "IoFailure", "read the configuration on stdin: %s",
			                    strerrordesc_np(errno));
		if (n == 0)
			break;
		len += (size_t)n;
		if (len > GW_CNI_CONF_MAX)
			return gw_fail_code(e, GW_INPUT, "IoFailure",
			                    "the configuration on stdin is larger than %d bytes", GW_CNI_CONF_MAX);
	}
	*out_text = gw_take(text);
	*out_len = len;
	return 0;
}

static int say(const char *text)
{
	if (!text)
		return 0;
	int rc = gw_write_full(STDOUT_FILENO, text, strlen(text));
	return rc < 0 ? rc : gw_write_full(STDOUT_FILENO, "\n", 1);
}

int main(int argc, char **argv)
{
	gw_auto(mem) char *in = NULL;
	gw_auto(mem) char *out = NULL;
	gw_auto(cni_conf) struct gw_cni_conf c = {0};
	struct gw_cni_env env;
	struct gw_err e = {0};
	size_t len = 0;
	if (argc > 1) {
		bool asked = !strcmp(argv[1], "-h") || !strcmp(argv[1], "--help") || !strcmp(argv[1], "--version");
		(void)fputs(help, asked ? stdout : stderr);
		return asked ? 0 : 2;
	}
	int rc = gw_cni_env_read(&env, &e);
	if (rc == 0)
		rc = read_stdin(&in, &len, &e);
	if (rc == 0)
		rc = gw_cni_conf_parse(in, len, env.command, &c, &e);
	if (rc == 0)
		rc = run(&c, &env, &out, &e);
	if (rc < 0)
		out = gw_cni_error_text(c.version, &e);
	/* An answer that nobody heard: the runtime will DEL. */
	if (say(out) < 0)
		return 1;
	return rc < 0;
}
