#include "move/claim.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fate.h"
#include "base/gw_log.h"
#include "base/io.h"
#include "base/scope.h"
#include "cni/ipam.h"
#include "cni/record.h"
#include "move/daemon.h"
#include "move/msg.h"

enum { LOOK_EVERY_MS = 5, LIFE_EVERY = 40 /* looks */ };

struct gw_claiming {
	struct gw_claiming *next;
	struct gw_claim c;
	enum { WAITING, TAKEN, GO, REFUSED } state;
	yyjson_mut_doc *answer; /* GO */
	struct gw_err why;      /* REFUSED */
};

static struct gw_claiming *find_locked(struct gw_daemon *d, const char *mig, const char *name)
{
	for (struct gw_claiming *k = d->claims; k; k = k->next)
		if (!strcmp(k->c.mig, mig) && !strcmp(k->c.name, name) && k->state < GO)
			return k;
	return NULL;
}

static int read_request(int fd, yyjson_val *req, struct gw_claim *c, struct gw_err *e)
{
	const struct {
		const char *key;
		char *out;
		size_t size;
	} words[] = {{"mig", c->mig, sizeof(c->mig)},
	             {"name", c->name, sizeof(c->name)},
	             {"id", c->id, sizeof(c->id)},
	             {"sandbox", c->sandbox, sizeof(c->sandbox)},
	             {"bundle", c->bundle, sizeof(c->bundle)},
	             {"root", c->root, sizeof(c->root)}};
	for (size_t i = 0; i < gw_countof(words); i++) {
		const char *v;
		int rc = gw_json_need_str(req, words[i].key, &v, e);
		if (rc < 0)
			return gw_wrap(e, "claim");
		if (strlen(v) >= words[i].size)
			return gw_fail(e, GW_INPUT, ENAMETOOLONG, "claim: \"%s\" is too long", words[i].key);
		(void)snprintf(words[i].out, words[i].size, "%s", v);
	}
	if (!gw_mig_valid(c->mig))
		return gw_fail_code(e, GW_INPUT, "NoSuchMigration", "claim: \"%s\" is not a migration's id", c->mig);
	c->kept = gw_json_bool(req, "kept", false);
	struct ucred who;
	socklen_t len = sizeof(who);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0)
		return gw_fail(e, GW_SYS, errno, "ask who claims %s", c->id);
	c->pid = who.pid;
	return 0;
}

static yyjson_mut_doc *word(const char *go)
{
	yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *o = yyjson_mut_obj(doc);
	yyjson_mut_doc_set_root(doc, o);
	yyjson_mut_obj_add_str(doc, o, "go", go);
	return doc;
}

/* 1: this migration's pod has arrived before: its container was restarted. */
static int is_over(const struct gw_daemon *d, const char *mig, struct gw_err *e)
{
	struct gw_ipam s;
	int rc = gw_ipam_open(d->cfg.cni_dir, &s, e);
	if (rc < 0)
		return rc;
	bool over = gw_record_is_done(&s, mig);
	gw_end_ipam(&s);
	return over;
}

/* containerd takes the bundle away when whoever asked for the container has gone
 * (kubelet died, or gave up), while the runtime it had started goes on unheard. */
int gw_claim_wanted(const struct gw_claim *c, struct gw_err *e)
{
	char path[PATH_MAX + 16];
	gw_path(path, sizeof(path), "%s/config.json", c->bundle);
	return access(path, F_OK) == 0 ? 0
	                               : gw_fail_code(e, GW_RETRY, "TargetGone",
	                                              "container %s of the target is not wanted any more", c->name);
}

int gw_claim_bind(struct gw_daemon *d, const struct gw_claim *c, struct gw_err *e)
{
	int rc = gw_claim_wanted(c, e);
	if (rc < 0)
		return rc;
	rc = gw_fate_decide(d->cfg.state_dir, c->id, GW_FATE_COMMIT, e);
	if (rc == -EBUSY || rc == -ENOENT)
		return gw_fail_code(e, GW_RETRY, "TargetGone", "container %s of the target has been ended", c->name);
	return rc;
}

void gw_claim_say_why(struct gw_daemon *d, const struct gw_claim *c, const struct gw_err *why)
{
	if (c->id[0])
		gw_fate_say_why(d->cfg.state_dir, c->id, why->text);
}

void gw_claim_unbind(struct gw_daemon *d, const struct gw_claim *c)
{
	gw_fate_reopen(d->cfg.state_dir, c->id);
}

static bool has_gone(int fd)
{
	char byte;
	ssize_t n = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

/* kubelet makes a container anew that a failed move has ended. While it waited
 * its pod, which is to go, could not, nor give up its address. */
static int look_life(struct gw_daemon *d, const struct gw_claiming *k, uint64_t since_ms, struct gw_err *e)
{
	if (!d->claim_life)
		return 0;
	enum gw_claim_life life = d->claim_life(d->may_come_ctx, k->c.mig);
	if (life == GW_CLAIM_OVER)
		return gw_fail_code(e, GW_RETRY, "MigrationOver", "migration %s has ended", k->c.mig);
	if (life == GW_CLAIM_UNKNOWN && gw_now_ms() - since_ms > GW_CLAIM_UNKNOWN_MS)
		return gw_fail_code(e, GW_RETRY, "NoSuchMigration", "the API server knows no migration %s", k->c.mig);
	return 0;
}

static int wait_answer(struct gw_daemon *d, int fd, struct gw_claiming *k, struct gw_err *e)
{
	uint64_t began = gw_now_ms(), end = began + GW_CLAIM_TAKES_MS;
	unsigned looks = 0;
	for (;;) {
		pthread_mutex_lock(&d->lock);
		int state = k->state;
		pthread_mutex_unlock(&d->lock);
		if (state == GO)
			return 0;
		if (state == REFUSED) {
			*e = k->why;
			return e->err ? -e->err : -ECANCELED;
		}
		if (has_gone(fd) || gw_claim_wanted(&k->c, e) < 0)
			return gw_fail(e, GW_PEER, EPIPE, "the runtime of %s has gone away", k->c.id);
		if (state == WAITING && gw_now_ms() > end)
			return gw_fail_code(e, GW_RETRY, "NoSuchMigration",
			                    "no migration %s has come for container %s within %d s", k->c.mig,
			                    k->c.name, GW_CLAIM_TAKES_MS / 1000);
		int rc = state == WAITING && looks++ % LIFE_EVERY == 0 ? look_life(d, k, began, e) : 0;
		if (rc < 0)
			return rc;
		/* Armed to restored is part of no freeze, so a look every few ms is soon enough. */
		struct pollfd p = {.fd = d->stop_fd, .events = POLLIN};
		if (poll(&p, 1, LOOK_EVERY_MS) > 0)
			return gw_fail_code(e, GW_RETRY, "Ending", "godwitd is ending");
	}
}

int gw_claim_serve(struct gw_daemon *d, int fd, yyjson_val *req, yyjson_mut_doc **doc, struct gw_err *e)
{
	struct gw_claiming k = {.state = WAITING};
	int rc = read_request(fd, req, &k.c, e);
	if (rc == 0)
		rc = is_over(d, k.c.mig, e);
	if (rc < 0)
		return rc;
	if (rc == 1) {
		*doc = word("create");
		return 0;
	}
	gw_info("container claimed", kv_str("mig", k.c.mig), kv_str("name", k.c.name), kv_str("container", k.c.id));
	gw_dest_claimed_again(d, k.c.mig, k.c.name, k.c.id);
	pthread_mutex_lock(&d->lock);
	/* A second container of that name means that nobody wants the first any more. */
	struct gw_claiming *old = find_locked(d, k.c.mig, k.c.name);
	if (old && old->state == WAITING) {
		(void)gw_fail_code(&old->why, GW_RETRY, "ClaimedTwice", "container %s was created again as %s",
		                   k.c.name, k.c.id);
		old->state = REFUSED;
		old = NULL;
	}
	bool taken = old != NULL;
	if (!taken) {
		k.next = d->claims;
		d->claims = &k;
	}
	pthread_mutex_unlock(&d->lock);
	if (taken)
		return gw_fail_code(e, GW_RETRY, "ClaimedTwice",
		                    "container %s of migration %s is being created already", k.c.name, k.c.mig);
	rc = wait_answer(d, fd, &k, e);
	pthread_mutex_lock(&d->lock);
	for (struct gw_claiming **p = &d->claims; *p; p = &(*p)->next)
		if (*p == &k) {
			*p = k.next;
			break;
		}
	pthread_mutex_unlock(&d->lock);
	if (rc == 0)
		*doc = k.answer;
	else
		yyjson_mut_doc_free(k.answer);
	return rc;
}

void gw_claim_keep(struct gw_daemon *d, const char *mig, const char *name)
{
	pthread_mutex_lock(&d->lock);
	struct gw_claiming *k = find_locked(d, mig, name);
	if (k && k->state == WAITING && !k->c.kept) {
		k->answer = word("keep");
		k->state = GO;
	}
	pthread_mutex_unlock(&d->lock);
}

bool gw_claim_here(struct gw_daemon *d, const char *mig, const char *name)
{
	pthread_mutex_lock(&d->lock);
	struct gw_claiming *k = find_locked(d, mig, name);
	bool here = k && k->state == WAITING && k->c.kept;
	pthread_mutex_unlock(&d->lock);
	return here;
}

int gw_claim_take(struct gw_daemon *d, const char *mig, const char *name, struct gw_claim *out, struct gw_err *e)
{
	pthread_mutex_lock(&d->lock);
	struct gw_claiming *k = find_locked(d, mig, name);
	if (k && k->state == WAITING && k->c.kept) {
		k->state = TAKEN;
		*out = k->c;
	} else {
		k = NULL;
	}
	pthread_mutex_unlock(&d->lock);
	return k ? 0 : gw_fail(e, GW_RETRY, ENOENT, "nobody is creating container %s of migration %s", name, mig);
}

static yyjson_mut_doc *go_text(const struct gw_claim_folders *f)
{
	yyjson_mut_doc *doc = word("restore");
	yyjson_mut_val *o = yyjson_mut_doc_get_root(doc);
	yyjson_mut_obj_add_strcpy(doc, o, "images", f->images);
	yyjson_mut_obj_add_strcpy(doc, o, "work", f->work);
	yyjson_mut_obj_add_strcpy(doc, o, "preload", f->preload);
	yyjson_mut_obj_add_strcpy(doc, o, "home", f->home);
	yyjson_mut_obj_add_strcpy(doc, o, "commit", f->commit);
	yyjson_mut_obj_add_strcpy(doc, o, "criu_conf", f->criu_conf);
	return doc;
}

void gw_claim_go(struct gw_daemon *d, const struct gw_claim *c, const struct gw_claim_folders *f)
{
	yyjson_mut_doc *doc = go_text(f);
	pthread_mutex_lock(&d->lock);
	struct gw_claiming *k = find_locked(d, c->mig, c->name);
	if (k && k->state == TAKEN && k->c.pid == c->pid) {
		k->answer = gw_take(doc);
		k->state = GO;
	}
	pthread_mutex_unlock(&d->lock);
	yyjson_mut_doc_free(doc);
}

void gw_claim_refuse(struct gw_daemon *d, const char *mig, const struct gw_err *why)
{
	pthread_mutex_lock(&d->lock);
	for (struct gw_claiming *k = d->claims; k; k = k->next)
		if (!strcmp(k->c.mig, mig) && k->state < GO) {
			k->why = *why;
			k->state = REFUSED;
		}
	pthread_mutex_unlock(&d->lock);
}
