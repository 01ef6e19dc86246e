#include "node/agent_identity.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "base/clock.h"
#include "base/gw_log.h"
#include "base/io.h"
#include "base/scope.h"
#include "kube/node_object.h"
#include "move/daemon.h"
#include "pki/pki.h"

enum { PEM_MAX = 1 << 20, LOOK_MS = 5000, AGAIN_MS = 10000, SIGN_LOOK_MS = 300, SIGN_WAIT_MS = 30000 };
#define CSRS "/apis/certificates.k8s.io/v1/certificatesigningrequests"

static void paths(const char *dir, char *ca, char *node, size_t size)
{
	gw_path(ca, size, "%s/ca.pem", dir);
	gw_path(node, size, "%s/node.pem", dir);
}

/* ---- what there is ---- */

static int look(const char *dir, const char *name, int64_t *from, int64_t *until, struct gw_err *e)
{
	char ca_path[PATH_MAX], node_path[PATH_MAX];
	gw_auto(mem) char *ca = NULL;
	gw_auto(pem) char *node = NULL;
	paths(dir, ca_path, node_path, PATH_MAX);
	int rc = gw_read_file(ca_path, PEM_MAX, &ca, NULL, e);
	if (rc == 0)
		rc = gw_read_file(node_path, PEM_MAX, &node, NULL, e);
	return rc < 0 ? rc : pki_look(ca, node, node, name, from, until, e);
}

static bool is_due(int64_t from, int64_t until)
{
	return (int64_t)time(NULL) >= from + (until - from) / 3 * 2;
}

/* ---- asking ---- */

static int get_ca(struct gw_kube *k, char **out, struct gw_err *e)
{
	char path[300];
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	(void)snprintf(path, sizeof(path), "/api/v1/namespaces/%s/configmaps/godwit-ca", gw_kube_namespace(k));
	int rc = gw_kube_get(k, path, &doc, e);
	if (rc == -ENOENT)
		return gw_fail(e, GW_RETRY, ENOENT, "no controller has made the certificate authority yet (%s)", path);
	if (rc < 0)
		return rc;
	const char *text = gw_json_str(yyjson_obj_get(yyjson_doc_get_root(doc), "data"), "ca.crt", "");
	*out = *text ? strdup(text) : NULL;
	return *out ? 0 : gw_fail(e, GW_INPUT, EINVAL, "the ConfigMap godwit-ca has no ca.crt");
}

static int post_request(struct gw_kube *k, const char *node, const char *request, char *out_name, size_t size,
                        struct gw_err *e)
{
	static const char *usages[] = {"digital signature", "client auth", "server auth"};
	uint32_t random;
	gw_auto(mem) unsigned char *text = malloc(strlen(request) / 3 * 4 + 8);
	gw_auto(jmut) yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *o = yyjson_mut_obj(doc), *meta = yyjson_mut_obj(doc), *spec = yyjson_mut_obj(doc);
	if (!text || getrandom(&random, sizeof(random), 0) != sizeof(random))
		return gw_fail(e, GW_SYS, errno, "random numbers");
	(void)EVP_EncodeBlock(text, (const unsigned char *)request, (int)strlen(request));
	(void)snprintf(out_name, size, "godwit-%.200s-%08x", node, random);
	yyjson_mut_doc_set_root(doc, o);
	yyjson_mut_obj_add_str(doc, o, "apiVersion", "certificates.k8s.io/v1");
	yyjson_mut_obj_add_str(doc, o, "kind", "CertificateSigningRequest");
	yyjson_mut_obj_add_str(doc, meta, "name", out_name);
	yyjson_mut_obj_add_val(doc, o, "metadata", meta);
	yyjson_mut_obj_add_str(doc, spec, "request", (const char *)text);
	yyjson_mut_obj_add_str(doc, spec, "signerName", "godwit.dev/node");
	yyjson_mut_obj_add_val(doc, spec, "usages", yyjson_mut_arr_with_str(doc, usages, gw_countof(usages)));
	yyjson_mut_obj_add_val(doc, o, "spec", spec);
	return gw_kube_create(k, CSRS, doc, NULL, e);
}

static int denial(yyjson_val *csr, struct gw_err *e)
{
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(yyjson_obj_get(csr, "status"), "conditions"));
	for (yyjson_val *c; (c = yyjson_arr_iter_next(&it));)
		if (strcmp(gw_json_str(c, "type", ""), "Approved") != 0)
			return gw_fail(e, GW_INPUT, EACCES, "the certificate was refused: %s",
			               gw_json_str(c, "message", ""));
	return 0;
}

static int wait_signed(struct gw_kube *k, const char *name, char **out_cert, struct gw_err *e)
{
	char path[500];
	uint64_t end = gw_now_ms() + SIGN_WAIT_MS;
	(void)snprintf(path, sizeof(path), CSRS "/%s", name);
	for (uint64_t pause = SIGN_LOOK_MS; gw_now_ms() < end; pause = pause * 3 / 2) {
		gw_auto(jdoc) yyjson_doc *doc = NULL;
		gw_sleep_us(pause * 1000);
		int rc = gw_kube_get(k, path, &doc, e);
		if (rc == 0)
			rc = denial(yyjson_doc_get_root(doc), e);
		if (rc < 0)
			return rc;
		const char *text = gw_json_str(yyjson_obj_get(yyjson_doc_get_root(doc), "status"), "certificate", "");
		size_t n = strlen(text);
		if (n == 0)
			continue;
		char *cert = calloc(1, n + 1);
		if (!cert || EVP_DecodeBlock((unsigned char *)cert, (const unsigned char *)text, (int)n) < 0) {
			free(cert);
			return gw_fail(e, GW_PEER, EBADMSG, "the certificate of %s can't be read", name);
		}
		*out_cert = cert;
		return 0;
	}
	return gw_fail(e, GW_RETRY, ETIMEDOUT, "nobody has signed %s: does godwit-controller run?", name);
}

static int obtain(struct gw_kube *k, const char *dir, const char *node, struct gw_err *e)
{
	char name[300], ca_path[PATH_MAX], node_path[PATH_MAX];
	gw_auto(mem) char *ca = NULL, *request = NULL, *cert = NULL;
	gw_auto(pem) char *key = NULL, *both = NULL;
	int64_t from, until;
	int rc = get_ca(k, &ca, e);
	if (rc == 0)
		rc = pki_key_new(&key, e);
	if (rc == 0)
		rc = pki_request(key, node, &request, e);
	if (rc == 0)
		rc = post_request(k, node, request, name, sizeof(name), e);
	if (rc == 0)
		rc = wait_signed(k, name, &cert, e);
	if (rc == 0)
		rc = pki_look(ca, cert, key, node, &from, &until, e);
	if (rc == 0 && asprintf(&both, "%s%s", key, cert) < 0) {
		both = NULL;
		rc = gw_fail(e, GW_SYS, ENOMEM, "keep the certificate");
	}
	paths(dir, ca_path, node_path, PATH_MAX);
	if (rc == 0)
		rc = gw_mkdirs(dir, e);
	if (rc == 0)
		rc = gw_write_file(ca_path, ca, strlen(ca), e);
	if (rc == 0)
		rc = gw_write_file(node_path, both, strlen(both), e);
	if (rc == 0)
		gw_info("certificate", kv_str("request", name), kv_i64("days", (until - from) / 86400));
	return rc;
}

int gw_identity_begin(const struct gw_agent_opts *o, struct gw_err *e)
{
	struct gw_kube_config config = {0};
	struct gw_kube *k = NULL;
	int64_t from, until;
	if (look(o->tls_dir, o->node, &from, &until, e) == 0)
		return 0;
	int rc = gw_kube_config_find(o->kubeconfig, &config, e);
	if (rc == 0)
		rc = gw_kube_open(&config, &k, e);
	char said[sizeof(e->text)] = "";
	while (rc == 0 && obtain(k, o->tls_dir, o->node, e) < 0) {
		struct gw_err ignored;
		if (strcmp(said, e->text) != 0)
			gw_warn("no certificate yet", kv_str("reason", e->text));
		(void)snprintf(said, sizeof(said), "%s", e->text);
		(void)gw_node_condition(k, o->node, false, "NoCertificate", e->text, &ignored);
		gw_sleep_us(AGAIN_MS * 1000ULL);
	}
	gw_kube_close(k);
	gw_kube_config_done(&config);
	return rc;
}

/* ---- keeping it ---- */

struct keep {
	struct gw_daemon *d;
	const struct gw_kube_config *config;
	struct gw_agent_opts o;
	bool is_told;
};

static int renew(struct keep *w, struct gw_kube *k, struct gw_err *e)
{
	char ca[PATH_MAX], node[PATH_MAX];
	int rc = obtain(k, w->o.tls_dir, w->o.node, e);
	paths(w->o.tls_dir, ca, node, PATH_MAX);
	return rc < 0 ? rc : gw_tls_reload(w->d->tls, ca, node, node, e);
}

static void tell_ready(struct keep *w, struct gw_kube *k)
{
	struct gw_err e;
	if (w->is_told)
		return;
	w->is_told = gw_node_condition(k, w->o.node, true, "Ready",
	                               "godwitd " GODWIT_VERSION " moves pods from and to this node", &e) == 0;
	if (!w->is_told)
		gw_warn("the node's condition is not set", kv_str("reason", e.text));
}

static void *keep_main(void *arg)
{
	struct keep *w = arg;
	struct gw_kube *k;
	struct gw_err e;
	struct pollfd stop = {.fd = w->d->stop_fd, .events = POLLIN};
	if (gw_kube_open(w->config, &k, &e) < 0) {
		gw_error("the certificate is not renewed", kv_str("reason", e.text));
		return NULL;
	}
	int wait = 0;
	while (poll(&stop, 1, wait) == 0) {
		int64_t from = 0, until = 0;
		wait = LOOK_MS;
		tell_ready(w, k);
		if (look(w->o.tls_dir, w->o.node, &from, &until, &e) == 0 && !is_due(from, until))
			continue;
		if (renew(w, k, &e) == 0)
			continue;
		gw_warn("the certificate is not renewed; tried again", kv_str("reason", e.text));
		wait = AGAIN_MS;
	}
	gw_kube_close(k);
	return NULL;
}

int gw_identity_keep(struct gw_daemon *d, const struct gw_kube_config *config, const struct gw_agent_opts *o,
                     struct gw_err *e)
{
	static struct keep w;
	pthread_t t;
	w = (struct keep){.d = d, .config = config, .o = *o};
	int rc = pthread_create(&t, NULL, keep_main, &w);
	if (rc != 0)
		return gw_fail(e, GW_SYS, rc, "start the thread that renews the certificate");
	pthread_detach(t);
	return 0;
}
