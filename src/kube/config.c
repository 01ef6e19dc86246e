#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "base/io.h"
#include "base/scope.h"
#include "kube/client.h"

enum { CONFIG_MAX = 1 << 20 };
static const char ACCOUNT[] = "/var/run/secrets/kubernetes.io/serviceaccount";

/* $GODWIT_ACCOUNT: a program that has left its pod's file system reaches the
 * folder through a descriptor, /proc/self/fd/N; our children get none of it. */
static const char *account(void)
{
	const char *given = getenv("GODWIT_ACCOUNT");
	int fd;
	if (!given || !*given)
		return ACCOUNT;
	if (sscanf(given, "/proc/self/fd/%d", &fd) == 1)
		(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
	return given;
}

void gw_kube_config_done(struct gw_kube_config *c)
{
	free(c->ca);
	free(c->cert);
	if (c->key)
		explicit_bzero(c->key, strlen(c->key));
	free(c->key);
	free(c->token);
	*c = (struct gw_kube_config){0};
}

static yyjson_val *named(yyjson_val *list, const char *name, const char *member)
{
	yyjson_arr_iter it = yyjson_arr_iter_with(list);
	for (yyjson_val *v; (v = yyjson_arr_iter_next(&it));)
		if (!strcmp(gw_json_str(v, "name", ""), name))
			return yyjson_obj_get(v, member);
	return NULL;
}

static char *decode(const char *base64)
{
	size_t n = strlen(base64), pad = 0;
	while (pad < 2 && pad < n && base64[n - 1 - pad] == '=')
		pad++;
	unsigned char *out = malloc(n / 4 * 3 + 4);
	int len = out ? EVP_DecodeBlock(out, (const unsigned char *)base64, (int)n) : -1;
	if (len < (int)pad) {
		free(out);
		return NULL;
	}
	out[(size_t)len - pad] = 0;
	return (char *)out;
}

/* KEY-data holds it, or KEY names a file; neither is fine. */
static int take_pem(yyjson_val *o, const char *key, char **out, struct gw_err *e)
{
	char data[64];
	(void)snprintf(data, sizeof(data), "%s-data", key);
	const char *inline_text = gw_json_str(o, data, ""), *path = gw_json_str(o, key, "");
	if (*inline_text) {
		*out = decode(inline_text);
		return *out ? 0 : gw_fail(e, GW_INPUT, EINVAL, "kubeconfig: %s is not base64", data);
	}
	return *path ? gw_read_file(path, CONFIG_MAX, out, NULL, e) : 0;
}

int gw_kube_config_parse(const char *json, size_t len, struct gw_kube_config *out, struct gw_err *e)
{
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	struct gw_kube_config c = {.namespace = "default"};
	int rc = gw_json_parse(json, len, "kubeconfig", &doc, e);
	if (rc < 0)
		return rc;
	yyjson_val *o = yyjson_doc_get_root(doc);
	const char *name = gw_json_str(o, "current-context", "");
	yyjson_val *ctx = named(yyjson_obj_get(o, "contexts"), name, "context");
	yyjson_val *cluster = named(yyjson_obj_get(o, "clusters"), gw_json_str(ctx, "cluster", ""), "cluster");
	yyjson_val *user = named(yyjson_obj_get(o, "users"), gw_json_str(ctx, "user", ""), "user");
	const char *server = gw_json_str(cluster, "server", "");
	if (strncmp(server, "https://", 8) != 0 || strlen(server) >= sizeof(c.server))
		return gw_fail(e, GW_INPUT, EINVAL,
		               "kubeconfig: context \"%s\" leads to no server that starts with https://", name);
	(void)snprintf(c.server, sizeof(c.server), "%s", server);
	(void)snprintf(c.namespace, sizeof(c.namespace), "%s", gw_json_str(ctx, "namespace", "default"));
	(void)snprintf(c.token_path, sizeof(c.token_path), "%s", gw_json_str(user, "tokenFile", ""));
	const char *token = gw_json_str(user, "token", "");
	if (*token)
		c.token = strdup(token);
	rc = take_pem(cluster, "certificate-authority", &c.ca, e);
	if (rc == 0)
		rc = take_pem(user, "client-certificate", &c.cert, e);
	if (rc == 0)
		rc = take_pem(user, "client-key", &c.key, e);
	if (rc < 0) {
		gw_kube_config_done(&c);
		return rc;
	}
	*out = c;
	return 0;
}

int gw_kube_config_in_cluster(struct gw_kube_config *out, struct gw_err *e)
{
	const char *host = getenv("KUBERNETES_SERVICE_HOST"), *port = getenv("KUBERNETES_SERVICE_PORT");
	struct gw_kube_config c = {0};
	char path[PATH_MAX];
	const char *dir = account();
	if (!host || !*host)
		return gw_fail(
		        e, GW_INPUT, ENOENT,
		        "no API server: this is no pod (KUBERNETES_SERVICE_HOST is not set) and no --kubeconfig was "
		        "given");
	bool v6 = strchr(host, ':');
	(void)snprintf(c.server, sizeof(c.server), "https://%s%s%s:%s", v6 ? "[" : "", host, v6 ? "]" : "",
	               port && *port ? port : "443");
	(void)snprintf(c.token_path, sizeof(c.token_path), "%.4000s/token", dir);
	(void)snprintf(path, sizeof(path), "%.4000s/ca.crt", dir);
	int rc = gw_read_file(path, CONFIG_MAX, &c.ca, NULL, e);
	if (rc < 0)
		return rc;
	gw_auto(mem) char *ns = NULL;
	(void)snprintf(path, sizeof(path), "%.4000s/namespace", dir);
	bool known = gw_read_file(path, sizeof(c.namespace) - 1, &ns, NULL, NULL) == 0;
	(void)snprintf(c.namespace, sizeof(c.namespace), "%s", known ? ns : "default");
	*out = c;
	return 0;
}

int gw_kube_config_find(const char *path, struct gw_kube_config *out, struct gw_err *e)
{
	if (!path || !*path)
		path = getenv("KUBECONFIG_JSON");
	if (!path || !*path)
		return gw_kube_config_in_cluster(out, e);
	gw_auto(mem) char *text = NULL;
	size_t len;
	int rc = gw_read_file(path, CONFIG_MAX, &text, &len, e);
	return rc < 0 ? rc : gw_kube_config_parse(text, len, out, e);
}
