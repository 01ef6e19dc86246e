#pragma once
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/gw_err.h"
#include "base/json.h"

/* client: one conversation with a Kubernetes API server.
 *
 * REST over libcurl, one handle and so one kept connection each; TLS is always
 * verified. An object is a path ("/api/v1/namespaces/NS/pods/NAME"); documents
 * are yyjson's. One thread at a time; make one per thread.
 *
 * Errors carry the server's words and a stable code: NotFound (ENOENT),
 * AlreadyExists (EEXIST), Conflict (ESTALE), Forbidden (EACCES), Invalid
 * (EINVAL), TooManyRequests (EBUSY), Unreachable (EHOSTUNREACH), Gone
 * (EKEYEXPIRED), ApiError. Reads and writes that the server answers with 429 or
 * 5xx, or whose connection fails, are tried again for some seconds; a create
 * that may have been done answers AlreadyExists then. Source of the protocol:
 * Kubernetes API concepts (kubernetes.io, reference/using-api/api-concepts). */
struct gw_kube;

struct gw_kube_config {
	char server[300];          /* https://HOST:PORT */
	char token_path[PATH_MAX]; /* read again for every connection; "" for none */
	char namespace[64];        /* of the context, or of the pod; "default" */
	char *ca, *cert, *key;     /* PEM */
	char *token;
};

/* A kubeconfig in JSON (kubectl config view --raw --flatten -o json), its current context. */
int gw_kube_config_parse(const char *json, size_t len, struct gw_kube_config *out, struct gw_err *e);
/* What a pod is given (token, ca.crt, KUBERNETES_SERVICE_HOST). */
int gw_kube_config_in_cluster(struct gw_kube_config *out, struct gw_err *e);
/* path NULL: $KUBECONFIG_JSON, then in-cluster. */
int gw_kube_config_find(const char *path, struct gw_kube_config *out, struct gw_err *e);
void gw_kube_config_done(struct gw_kube_config *c);

int gw_kube_open(const struct gw_kube_config *c, struct gw_kube **out, struct gw_err *e); /* c is copied */
void gw_kube_close(struct gw_kube *k);                                                    /* NULL is fine */
const char *gw_kube_namespace(const struct gw_kube *k);

enum gw_kube_patch { GW_PATCH_MERGE, GW_PATCH_JSON, GW_PATCH_STRATEGIC };

/* *out may be NULL; else the caller frees it. Bodies are borrowed. */
int gw_kube_get(struct gw_kube *k, const char *path, yyjson_doc **out, struct gw_err *e);
int gw_kube_create(struct gw_kube *k, const char *path, yyjson_mut_doc *body, yyjson_doc **out, struct gw_err *e);
int gw_kube_patch(struct gw_kube *k, const char *path, enum gw_kube_patch kind, yyjson_mut_doc *body, yyjson_doc **out,
                  struct gw_err *e);
/* uid NULL: whatever has the name; grace_s < 0: the object's own. */
int gw_kube_delete(struct gw_kube *k, const char *path, const char *uid, int grace_s, struct gw_err *e);

/* Requests made by this process so far, of all clients. */
uint64_t gw_kube_requests(void);
/* An account: what this client's requests are made for. They are counted from
 * `spent` on, tries again included; who is borrowed. */
void gw_kube_account(struct gw_kube *k, const char *who, uint64_t spent);
/* fn hears each object that a good answer brings (lists too), before the caller
 * does; it is borrowed for the call. */
void gw_kube_hear(struct gw_kube *k, void (*fn)(void *ctx, yyjson_val *object), void *ctx);
/* false: what would be tried again is told at once. */
void gw_kube_patience(struct gw_kube *k, bool patient);
uint64_t gw_kube_spent(const struct gw_kube *k, const char **who); /* *who: NULL for no account */

/* metadata.resourceVersion as a number: of two states of an object the larger
 * one is newer. 0 when there is none. */
uint64_t gw_kube_version(yyjson_val *object);

/* ---- for kube/follow.c ---- */
/* One GET whose body goes to fn piece by piece; fn < 0 ends it (then that is
 * the result). Ends with -ECANCELED when stop_fd (-1: none) is readable. */
typedef int gw_kube_piece(void *ctx, const char *data, size_t len, struct gw_err *e);
int gw_kube_stream(struct gw_kube *k, const char *path, int idle_s, int stop_fd, gw_kube_piece *fn, void *ctx,
                   struct gw_err *e);
/* An error as the API tells it: a Status object, or a bare HTTP code. */
int gw_kube_fail(struct gw_err *e, long http, yyjson_val *status, const char *what);
