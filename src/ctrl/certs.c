#include "ctrl/certs.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "base/gw_log.h"
#include "base/scope.h"
#include "kube/follow.h"
#include "kube/migration.h"
#include "pki/pki.h"

enum { REQUEST_MAX = 16384, AGAIN_MS = 5000, SECONDS_MIN = 600 };
#define CSRS "/apis/certificates.k8s.io/v1/certificatesigningrequests"

static char *from_base64(const char *text)
{
	size_t n = strlen(text), pad = 0;
	while (pad < 2 && pad < n && text[n - 1 - pad] == '=')
		pad++;
	unsigned char *out = n <= REQUEST_MAX * 2 ? malloc(n / 4 * 3 + 4) : NULL;
	int len = out ? EVP_DecodeBlock(out, (const unsigned char *)text, (int)n) : -1;
	if (len < (int)pad) {
		free(out);
		return NULL;
	}
	out[(size_t)len - pad] = 0;
	return (char *)out;
}

static char *to_base64(const char *text)
{
	size_t n = strlen(text);
	unsigned char *out = malloc(n / 3 * 4 + 8);
	if (out)
		(void)EVP_EncodeBlock(out, (const unsigned char *)text, (int)n);
	return (char *)out;
}

/* ---- may it? ---- */

static const char *only_extra(yyjson_val *spec, const char *key)
{
	yyjson_val *v = yyjson_obj_get(yyjson_obj_get(spec, "extra"), key);
	return yyjson_arr_size(v) == 1 ? yyjson_get_str(yyjson_arr_get_first(v)) ?: "" : "";
}

static bool usages_fit(yyjson_val *spec)
{
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(spec, "usages"));
	for (yyjson_val *v; (v = yyjson_arr_iter_next(&it));) {
		const char *u = yyjson_get_str(v) ?: "";
		if (strcmp(u, "digital signature") != 0 && strcmp(u, "client auth") != 0 &&
		    strcmp(u, "server auth") != 0)
			return false;
	}
	return true;
}

bool ctrl_certs_judge(yyjson_val *csr, const char *request, const char *namespace, char *why, size_t size)
{
	char account[200], name[PKI_NAME_MAX];
	struct gw_err e;
	yyjson_val *spec = yyjson_obj_get(csr, "spec");
	const char *user = gw_json_str(spec, "username", "");
	const char *node = only_extra(spec, "authentication.kubernetes.io/node-name");
	(void)snprintf(account, sizeof(account), "system:serviceaccount:%s:godwitd", namespace);
	if (strcmp(user, account) != 0)
		(void)snprintf(why, size, "asked for by %s: only %s may have one", user, account);
	else if (!*node || !*only_extra(spec, "authentication.kubernetes.io/pod-name"))
		(void)snprintf(why, size,
		               "the token is not bound to a pod on a node (spec.extra has no "
		               "authentication.kubernetes.io/node-name): Kubernetes 1.30 or later is needed");
	else if (!usages_fit(spec))
		(void)snprintf(why, size, "for digital signature, client auth and server auth only");
	else if (pki_request_name(request, name, &e) < 0)
		(void)snprintf(why, size, "%s", e.text);
	else if (strcmp(name, node) != 0)
		(void)snprintf(why, size, "for %s, and asked for from node %s: a node has its own name only", name,
		               node);
	else
		return true;
	return false;
}

/* ---- what was decided ---- */

static bool has_condition(yyjson_val *csr, const char *type)
{
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(yyjson_obj_get(csr, "status"), "conditions"));
	for (yyjson_val *c; (c = yyjson_arr_iter_next(&it));)
		if (!strcmp(gw_json_str(c, "type", ""), type))
			return true;
	return false;
}

/* An answer to what it was when we read it: whoever was faster wins. */
static yyjson_mut_doc *answer(yyjson_val *csr, yyjson_mut_val **out_status)
{
	yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *o = yyjson_mut_obj(doc), *meta = yyjson_mut_obj(doc);
	yyjson_mut_doc_set_root(doc, o);
	yyjson_mut_obj_add_strcpy(doc, meta, "resourceVersion",
	                          gw_json_str(yyjson_obj_get(csr, "metadata"), "resourceVersion", ""));
	*out_status = yyjson_mut_obj(doc);
	yyjson_mut_obj_add_val(doc, o, "metadata", meta);
	yyjson_mut_obj_add_val(doc, o, "status", *out_status);
	return doc;
}

static int send_answer(struct gw_kube *k, yyjson_val *csr, const char *sub, yyjson_mut_doc *doc, struct gw_err *e)
{
	char path[500];
	(void)snprintf(path, sizeof(path), CSRS "/%s/%s", gw_json_str(yyjson_obj_get(csr, "metadata"), "name", ""),
	               sub);
	return gw_kube_patch(k, path, GW_PATCH_MERGE, doc, NULL, e);
}

static int decide(struct gw_kube *k, yyjson_val *csr, bool ok, const char *why, struct gw_err *e)
{
	char now[32];
	yyjson_mut_val *status;
	gw_auto(jmut) yyjson_mut_doc *doc = answer(csr, &status);
	yyjson_mut_val *all = yyjson_mut_arr(doc), *c = yyjson_mut_arr_add_obj(doc, all);
	gw_k8s_now(now);
	yyjson_mut_obj_add_str(doc, c, "type", ok ? "Approved" : "Denied");
	yyjson_mut_obj_add_str(doc, c, "status", "True");
	yyjson_mut_obj_add_str(doc, c, "reason", ok ? "GodwitdOfThisNode" : "NotGodwitdOfThisNode");
	yyjson_mut_obj_add_str(doc, c, "message", why);
	yyjson_mut_obj_add_str(doc, c, "lastUpdateTime", now);
	yyjson_mut_obj_add_val(doc, status, "conditions", all);
	return send_answer(k, csr, "approval", doc, e);
}

static int sign(struct ctrl_certs *s, struct gw_kube *k, yyjson_val *csr, const char *request, struct gw_err *e)
{
	gw_auto(pem) char *cert = NULL;
	yyjson_mut_val *status;
	int64_t seconds = gw_json_i64(yyjson_obj_get(csr, "spec"), "expirationSeconds", CTRL_CERT_S);
	if (seconds > CTRL_CERT_S || seconds < SECONDS_MIN)
		seconds = CTRL_CERT_S;
	int rc = pki_sign(s->ca_cert, s->ca_key, request, seconds, &cert, e);
	if (rc < 0)
		return rc;
	gw_auto(jmut) yyjson_mut_doc *doc = answer(csr, &status);
	gw_auto(mem) char *text = to_base64(cert);
	yyjson_mut_obj_add_strcpy(doc, status, "certificate", text ?: "");
	return send_answer(k, csr, "status", doc, e);
}

struct run {
	struct ctrl_certs *s;
	struct gw_kube *k;
};

static void on_request(void *arg, enum gw_follow_what what, yyjson_val *csr)
{
	struct run *r = arg;
	struct gw_err e = {.class = GW_OK};
	char why[500] = "its service account, from a pod on this node";
	if (!csr || what == GW_FOLLOW_DELETED || has_condition(csr, "Denied") || has_condition(csr, "Failed") ||
	    gw_json_str(yyjson_obj_get(csr, "status"), "certificate", "")[0])
		return;
	const char *name = gw_json_str(yyjson_obj_get(csr, "metadata"), "name", "");
	gw_auto(mem) char *request = from_base64(gw_json_str(yyjson_obj_get(csr, "spec"), "request", ""));
	bool ok = ctrl_certs_judge(csr, request ?: "", r->s->namespace, why, sizeof(why));
	int rc = 0;
	if (!ok && has_condition(csr, "Approved"))
		gw_warn("approved by somebody, and not signed", kv_str("request", name), kv_str("reason", why));
	else if (!ok || !has_condition(csr, "Approved"))
		rc = decide(r->k, csr, ok, why, &e);
	else
		rc = sign(r->s, r->k, csr, request, &e);
	if (rc == -ESTALE || rc == -ENOENT)
		return; /* another controller was faster */
	if (rc < 0)
		gw_warn("a certificate is not given", kv_str("request", name), kv_str("reason", e.text));
	else
		gw_info("certificate", kv_str("request", name),
		        kv_str("outcome", !ok                              ? "denied"
		                          : has_condition(csr, "Approved") ? "signed"
		                                                           : "approved"),
		        kv_str("reason", why));
}

/* ---- the authority ---- */

static int read_secret(struct ctrl_certs *s, struct gw_kube *k, struct gw_err *e)
{
	char path[300];
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	(void)snprintf(path, sizeof(path), "/api/v1/namespaces/%s/secrets/godwit-ca", s->namespace);
	int rc = gw_kube_get(k, path, &doc, e);
	if (rc < 0)
		return rc;
	yyjson_val *data = yyjson_obj_get(yyjson_doc_get_root(doc), "data");
	s->ca_cert = from_base64(gw_json_str(data, "tls.crt", ""));
	s->ca_key = from_base64(gw_json_str(data, "tls.key", ""));
	if (s->ca_cert && *s->ca_cert && s->ca_key && *s->ca_key)
		return 0;
	pki_wipe(&s->ca_cert);
	pki_wipe(&s->ca_key);
	return gw_fail(e, GW_INPUT, EINVAL,
	               "the Secret %s/godwit-ca has no tls.crt and tls.key: delete it, then a new one is made",
	               s->namespace);
}

static yyjson_mut_doc *object(const char *kind, const char *name, const char *type, const char *const (*data)[2],
                              size_t n)
{
	yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *o = yyjson_mut_obj(doc), *meta = yyjson_mut_obj(doc), *d = yyjson_mut_obj(doc);
	yyjson_mut_doc_set_root(doc, o);
	yyjson_mut_obj_add_str(doc, o, "apiVersion", "v1");
	yyjson_mut_obj_add_str(doc, o, "kind", kind);
	yyjson_mut_obj_add_str(doc, meta, "name", name);
	yyjson_mut_obj_add_val(doc, o, "metadata", meta);
	if (type)
		yyjson_mut_obj_add_str(doc, o, "type", type);
	for (size_t i = 0; i < n; i++)
		yyjson_mut_obj_add_strcpy(doc, d, data[i][0], data[i][1]);
	yyjson_mut_obj_add_val(doc, o, type ? "stringData" : "data", d);
	return doc;
}

static int make_secret(struct ctrl_certs *s, struct gw_kube *k, struct gw_err *e)
{
	char path[300];
	gw_auto(pem) char *cert = NULL, *key = NULL;
	int rc = pki_authority_new("godwit nodes", CTRL_AUTHORITY_S, &cert, &key, e);
	if (rc < 0)
		return rc;
	const char *const data[][2] = {{"tls.crt", cert}, {"tls.key", key}};
	gw_auto(jmut) yyjson_mut_doc *doc = object("Secret", "godwit-ca", "kubernetes.io/tls", data, 2);
	(void)snprintf(path, sizeof(path), "/api/v1/namespaces/%s/secrets", s->namespace);
	rc = gw_kube_create(k, path, doc, NULL, e);
	return rc == -EEXIST ? 0 : rc; /* another controller's */
}

/* What the Secret says holds. */
static int publish(struct ctrl_certs *s, struct gw_kube *k, struct gw_err *e)
{
	char path[300];
	const char *const data[][2] = {{"ca.crt", s->ca_cert}};
	gw_auto(jmut) yyjson_mut_doc *doc = object("ConfigMap", "godwit-ca", NULL, data, 1);
	(void)snprintf(path, sizeof(path), "/api/v1/namespaces/%s/configmaps/godwit-ca", s->namespace);
	int rc = gw_kube_patch(k, path, GW_PATCH_MERGE, doc, NULL, e);
	if (rc != -ENOENT)
		return rc;
	(void)snprintf(path, sizeof(path), "/api/v1/namespaces/%s/configmaps", s->namespace);
	rc = gw_kube_create(k, path, doc, NULL, e);
	return rc == -EEXIST ? 0 : rc;
}

static int authority(struct ctrl_certs *s, struct gw_kube *k, struct gw_err *e)
{
	int rc = read_secret(s, k, e);
	if (rc == -ENOENT) {
		rc = make_secret(s, k, e);
		if (rc == 0)
			rc = read_secret(s, k, e);
	}
	return rc < 0 ? rc : publish(s, k, e);
}

static void *certs_main(void *arg)
{
	struct ctrl_certs *s = arg;
	struct gw_kube *k = NULL, *watch = NULL; /* answers are sent while the watch goes on */
	struct gw_err e;
	struct pollfd stop = {.fd = s->stop_fd, .events = POLLIN};
	if (gw_kube_open(s->config, &k, &e) < 0 || gw_kube_open(s->config, &watch, &e) < 0) {
		gw_error("no certificates can be given", kv_str("reason", e.text));
		gw_kube_close(k);
		return NULL;
	}
	while (!s->ca_key && authority(s, k, &e) < 0) {
		gw_warn("no certificates are given yet", kv_str("reason", e.text));
		pki_wipe(&s->ca_cert);
		pki_wipe(&s->ca_key);
		if (poll(&stop, 1, AGAIN_MS) > 0)
			break;
	}
	struct run r = {.s = s, .k = k};
	const struct gw_follow f = {.path = CSRS,
	                            .selector = "fieldSelector=spec.signerName%3Dgodwit.dev%2Fnode",
	                            .stop_fd = s->stop_fd,
	                            .fn = on_request,
	                            .ctx = &r};
	gw_kube_follow(watch, &f);
	gw_kube_close(watch);
	gw_kube_close(k);
	return NULL;
}

int ctrl_certs_start(struct ctrl_certs *c, struct gw_err *e)
{
	int rc = pthread_create(&c->thread, NULL, certs_main, c);
	return rc == 0 ? 0 : gw_fail(e, GW_SYS, rc, "start the signer's thread");
}

void ctrl_certs_join(struct ctrl_certs *c)
{
	(void)pthread_join(c->thread, NULL);
	pki_wipe(&c->ca_cert);
	pki_wipe(&c->ca_key);
}
