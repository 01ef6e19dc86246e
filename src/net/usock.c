#include "net/usock.h"

#include <errno.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static void reset(void *data)
{
	struct gw_usocks *t = data;
	for (size_t i = 0; i < t->n; i++)
		free(t->s[i].icons);
	t->n = 0;
}

void gw_usocks_done(struct gw_usocks *t)
{
	reset(t);
	free(t->s);
}

static void take_name(struct gw_usock *u, const struct nlattr *a)
{
	size_t n = mnl_attr_get_payload_len(a);
	const char *p = mnl_attr_get_payload(a);
	if (n > GW_USOCK_NAME)
		n = GW_USOCK_NAME;
	memcpy(u->name, p, n);
	u->name[n] = 0;
	if (n && !u->name[0])
		u->name[0] = '@';
}

static void take_attr(struct gw_usock *u, const struct nlattr *a)
{
	size_t n = mnl_attr_get_payload_len(a);
	switch (mnl_attr_get_type(a)) {
	case UNIX_DIAG_NAME: take_name(u, a); break;
	case UNIX_DIAG_PEER: u->peer = n >= sizeof(u->peer) ? mnl_attr_get_u32(a) : 0; break;
	case UNIX_DIAG_SHUTDOWN: u->shutdown = n ? mnl_attr_get_u8(a) : 0; break;
	case UNIX_DIAG_RQLEN:
		if (n >= sizeof(struct unix_diag_rqlen))
			u->unread = ((const struct unix_diag_rqlen *)mnl_attr_get_payload(a))->udiag_wqueue;
		break;
	case UNIX_DIAG_ICONS:
		free(u->icons);
		u->icons = malloc(n ?: 1);
		u->nicons = u->icons ? (uint32_t)(n / sizeof(uint32_t)) : 0;
		if (u->icons)
			memcpy(u->icons, mnl_attr_get_payload(a), u->nicons * sizeof(uint32_t));
		break;
	default: break;
	}
}

static int on_unix(const struct nlmsghdr *h, void *data)
{
	struct gw_usocks *t = data;
	if (h->nlmsg_type != SOCK_DIAG_BY_FAMILY || mnl_nlmsg_get_payload_len(h) < sizeof(struct unix_diag_msg))
		return MNL_CB_OK;
	const struct unix_diag_msg *m = mnl_nlmsg_get_payload(h);
	if (t->n == t->cap) {
		size_t cap = t->cap ? t->cap * 2 : 32;
		struct gw_usock *more = reallocarray(t->s, cap, sizeof(*more));
		if (!more) {
			errno = ENOMEM;
			return MNL_CB_ERROR;
		}
		t->s = more;
		t->cap = cap;
	}
	struct gw_usock *u = &t->s[t->n++];
	*u = (struct gw_usock){.ino = m->udiag_ino, .type = m->udiag_type, .state = m->udiag_state};
	gw_nl_each(a, h, sizeof(*m)) take_attr(u, a);
	return MNL_CB_OK;
}

static int by_ino(const void *a, const void *b)
{
	const struct gw_usock *x = a, *y = b;
	return (x->ino > y->ino) - (x->ino < y->ino);
}

int gw_usocks_read(struct gw_nl *n, struct gw_usocks *t, struct gw_err *e)
{
	struct gw_nl_msg m;
	struct nlmsghdr *h = gw_nl_start(&m, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, sizeof(struct unix_diag_req));
	struct unix_diag_req *r = mnl_nlmsg_get_payload(h);
	r->sdiag_family = AF_UNIX;
	r->udiag_states = UINT32_MAX;
	r->udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_PEER | UDIAG_SHOW_ICONS | UDIAG_SHOW_RQLEN;
	int rc = gw_nl_ask(n, h, on_unix, reset, t, "list the unix sockets", e);
	if (rc == 0 && t->n)
		qsort(t->s, t->n, sizeof(*t->s), by_ino);
	return rc;
}

const struct gw_usock *gw_usocks_find(const struct gw_usocks *t, uint32_t ino)
{
	const struct gw_usock key = {.ino = ino};
	return t->n ? bsearch(&key, t->s, t->n, sizeof(key), by_ino) : NULL;
}
