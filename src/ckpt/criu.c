#include "ckpt/criu.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "base/proc.h"
#include "base/scope.h"
#include "criu.pb-c.h"

enum { MSG_BYTES_MAX = 256 * 1024 };

struct gw_criu {
	pid_t pid;
	int sock;
};

int gw_criu_open(const struct gw_criu_opts *o, struct gw_criu **out, struct gw_err *e)
{
	int sv[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		return gw_fail(e, GW_SYS, errno, "socketpair");
	gw_auto(fd) int mine = sv[0];
	gw_auto(fd) int theirs = sv[1];
	const char *const argv[] = {o->program ?: "criu", "swrk", "3", NULL};
	struct gw_spawn s = {
	        .argv = argv, .env = o->env, .stdio = {-1, -1, -1}, .extra_fds = &theirs, .nextra = 1, .nice = o->nice};
	pid_t pid;
	int rc = gw_proc_start(&s, &pid, e);
	if (rc < 0)
		return rc;
	struct gw_criu *c = calloc(1, sizeof(*c));
	if (!c) {
		(void)kill(pid, SIGKILL);
		(void)waitpid(pid, NULL, 0);
		return gw_fail(e, GW_SYS, ENOMEM, "start criu");
	}
	c->pid = pid;
	c->sock = gw_take_fd(&mine);
	*out = c;
	return 0;
}

void gw_criu_close(struct gw_criu *c)
{
	if (!c)
		return;
	(void)close(c->sock);
	if (waitpid(c->pid, NULL, WNOHANG) == 0) {
		(void)kill(c->pid, SIGKILL);
		(void)waitpid(c->pid, NULL, 0);
	}
	free(c);
}

pid_t gw_criu_pid(const struct gw_criu *c)
{
	return c->pid;
}

int gw_criu_send(struct gw_criu *c, const struct CriuReq *req, struct gw_err *e)
{
	size_t len = criu_req__get_packed_size(req);
	gw_auto(mem) uint8_t *buf = malloc(len);
	if (!buf)
		return gw_fail(e, GW_SYS, ENOMEM, "talk to criu");
	(void)criu_req__pack(req, buf);
	if (send(c->sock, buf, len, MSG_NOSIGNAL) != (ssize_t)len)
		return gw_fail(e, GW_SYS, errno, "talk to criu");
	return 0;
}

int gw_criu_recv(struct gw_criu *c, int timeout_ms, struct CriuResp **out, struct gw_err *e)
{
	struct pollfd p = {.fd = c->sock, .events = POLLIN};
	int n;
	do
		n = poll(&p, 1, timeout_ms);
	while (n < 0 && errno == EINTR);
	if (n == 0)
		return gw_fail(e, GW_SYS, ETIMEDOUT, "criu did not answer within %d ms", timeout_ms);
	gw_auto(mem) uint8_t *buf = malloc(MSG_BYTES_MAX);
	if (!buf)
		return gw_fail(e, GW_SYS, ENOMEM, "listen to criu");
	ssize_t len = recv(c->sock, buf, MSG_BYTES_MAX, 0);
	if (len <= 0)
		return gw_fail(e, GW_SYS, len < 0 ? errno : ECHILD, "criu ended without an answer");
	CriuResp *r = criu_resp__unpack(NULL, (size_t)len, buf);
	if (!r)
		return gw_fail(e, GW_PEER, EPROTO, "unreadable answer of criu");
	*out = r;
	return 0;
}

int gw_criu_answer(struct gw_criu *c, bool ok, struct gw_err *e)
{
	CriuReq req = CRIU_REQ__INIT;
	req.type = CRIU_REQ_TYPE__NOTIFY;
	req.has_notify_success = true;
	req.notify_success = ok;
	return gw_criu_send(c, &req, e);
}

static int ask(const struct gw_criu_opts *o, const CriuReq *req, CriuResp **out, struct gw_err *e)
{
	struct gw_criu *c;
	int rc = gw_criu_open(o, &c, e);
	if (rc < 0)
		return rc;
	rc = gw_criu_send(c, req, e);
	if (rc == 0)
		rc = gw_criu_recv(c, 10000, out, e);
	gw_criu_close(c);
	return rc;
}

/* One line of printable ASCII: it goes to a peer. */
static void plain_words(const char *text, char out[GW_CRIU_WHY_MAX])
{
	size_t n = 0;
	for (; text[n] && text[n] != '\n' && n < GW_CRIU_WHY_MAX - 1; n++)
		out[n] = text[n] >= 0x20 && text[n] <= 0x7e ? text[n] : '?';
	out[n] = 0;
}

int gw_criu_version(const struct gw_criu_opts *o, int *out_version, bool *out_lazy_pages, char why[GW_CRIU_WHY_MAX],
                    struct gw_err *e)
{
	CriuReq req = CRIU_REQ__INIT;
	CriuFeatures feat = CRIU_FEATURES__INIT;
	CriuResp *r;
	req.type = CRIU_REQ_TYPE__VERSION;
	int rc = ask(o, &req, &r, e);
	if (rc < 0)
		return rc;
	int version = 0;
	if (r->success && r->version)
		version = r->version->major_number * 10000 + r->version->minor_number * 100 + r->version->sublevel;
	criu_resp__free_unpacked(r, NULL);
	if (!version)
		return gw_fail(e, GW_INPUT, EPROTO, "criu does not tell its version");
	req.type = CRIU_REQ_TYPE__FEATURE_CHECK;
	feat.has_lazy_pages = true;
	feat.lazy_pages = true;
	req.features = &feat;
	rc = ask(o, &req, &r, e);
	if (rc < 0)
		return rc;
	why[0] = 0;
	if (!r->success)
		plain_words(r->cr_errmsg ?: "its feature check fails", why);
	*out_lazy_pages = r->success && r->features && r->features->lazy_pages;
	*out_version = version;
	criu_resp__free_unpacked(r, NULL);
	return 0;
}

void gw_criu_log_reason(const char *log_path, const char *fallback, char *out, size_t size)
{
	(void)snprintf(out, size, "%s", fallback);
	gw_auto(file) FILE *f = fopen(log_path, "re");
	char line[1024];
	while (f && fgets(line, sizeof(line), f)) {
		char *p = strstr(line, "Error (");
		char *words = p ? strstr(p, "): ") : NULL;
		/* Where CAP_SYS_RESOURCE is missing CRIU says so, and goes on. */
		if (!words || strstr(words, "rlimit: Can't setup RLIMIT_NOFILE"))
			continue;
		words += 3;
		words[strcspn(words, "\n")] = 0;
		(void)snprintf(out, size, "%s", words);
		return;
	}
}
