#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/gw_err.h"

/* criu: one `criu swrk` process and its RPC socket.
 *
 * Messages are those of criu.proto over SOCK_SEQPACKET; the generated types
 * stay inside this layer. Owner: whoever opened it; one thread at a time. */
struct gw_criu;
struct CriuReq;
struct CriuResp;

/* What works while a container stands must not wait for what only runs. */
enum { GW_FREEZE_NICE = -10, GW_CRIU_WHY_MAX = 200 };

struct gw_criu_opts {
	const char *program;    /* NULL: "criu" in PATH */
	int nice;               /* priority; its tasks get their own back (CRIU restores it) */
	const char *const *env; /* "K=V" list put before ours, NULL-terminated; NULL: none */
};

int gw_criu_open(const struct gw_criu_opts *o, struct gw_criu **out, struct gw_err *e);
void gw_criu_close(struct gw_criu *c); /* kills it when it still runs, and reaps it; NULL is fine */
pid_t gw_criu_pid(const struct gw_criu *c);

int gw_criu_send(struct gw_criu *c, const struct CriuReq *req, struct gw_err *e);
/* Next message; the caller frees it with criu_resp__free_unpacked. The end of
 * the stream is an error: CRIU is gone. */
int gw_criu_recv(struct gw_criu *c, int timeout_ms, struct CriuResp **out, struct gw_err *e);
/* Answer a notification. false: CRIU is to give up what it is doing. */
int gw_criu_answer(struct gw_criu *c, bool ok, struct gw_err *e);

/* Version as major * 10000 + minor * 100 + sublevel, and what it supports. why:
 * what it says when it cannot look at the kernel, else empty. */
int gw_criu_version(const struct gw_criu_opts *o, int *out_version, bool *out_lazy_pages, char why[GW_CRIU_WHY_MAX],
                    struct gw_err *e);

/* The first error line of a CRIU log, without its prefix, or `fallback`. */
void gw_criu_log_reason(const char *log_path, const char *fallback, char *out, size_t size);
