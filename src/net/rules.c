#include "net/rules.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <netinet/icmp6.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "net/nft.h"
#include "net/nl.h"

enum {
	RULES_MAX = 1 + 4 * GW_POD_ADDRS_MAX, /* of one pod */
	TABLES_MAX = 64,
	TCP_FLAGS_AT = 13, /* RFC 9293, 3.1 */
};

/* Lives only between the two output chains, where no one else looks. */
static const uint32_t MARK_BIT = 0x10000000;

#define TABLE_PREFIX "godwit-hold-"

/* The table of one network namespace. Never freed: see rules.h. */
struct table {
	struct table *next;
	dev_t dev; /* of the namespace */
	ino_t ino;
	char name[32];
	bool xt; /* this kernel queues by the xtables target */
	struct gw_nl nl;
};

static pthread_mutex_t tables_lock = PTHREAD_MUTEX_INITIALIZER; /* guards the list and every table's socket */
static struct table *tables;

struct gw_rules {
	struct table *t;
	unsigned n;
	const char *chain[RULES_MAX];
	uint64_t handle[RULES_MAX];
};

/* Router and neighbour discovery is talk between the links' ends, not the pod's. */
static void pass_discovery(struct gw_nft *b, const char *table, const char *chain)
{
	const uint8_t v6 = NFPROTO_IPV6, proto = IPPROTO_ICMPV6, first = ND_ROUTER_SOLICIT, last = ND_REDIRECT;
	gw_nft_rule_start(b, table, chain, "neighbour discovery");
	gw_nft_meta(b, NFT_META_NFPROTO);
	gw_nft_cmp(b, NFT_CMP_EQ, &v6, sizeof(v6));
	gw_nft_meta(b, NFT_META_L4PROTO);
	gw_nft_cmp(b, NFT_CMP_EQ, &proto, sizeof(proto));
	gw_nft_payload(b, NFT_PAYLOAD_TRANSPORT_HEADER, offsetof(struct icmp6_hdr, icmp6_type), 1);
	gw_nft_cmp(b, NFT_CMP_GTE, &first, sizeof(first));
	gw_nft_cmp(b, NFT_CMP_LTE, &last, sizeof(last));
	gw_nft_accept(b);
	gw_nft_rule_end(b);
}

static int make_table(struct table *t, struct gw_err *e)
{
	gw_auto(nft) struct gw_nft b = {0};
	int rc = gw_nft_begin(&b, &t->nl, e);
	if (rc < 0)
		return rc;
	gw_nft_table_new(&b, t->name, "godwit: packets to containers that are being moved wait here", true);
	gw_nft_chain_base(&b, t->name, "prerouting", "filter", NF_INET_PRE_ROUTING, GW_RULES_HOOK_PRIORITY);
	gw_nft_chain_base(&b, t->name, "output", "filter", NF_INET_LOCAL_OUT, GW_RULES_HOOK_PRIORITY);
	gw_nft_chain_base(&b, t->name, "reroute", "route", NF_INET_LOCAL_OUT, GW_RULES_HOOK_PRIORITY + 1);
	pass_discovery(&b, t->name, "prerouting");
	pass_discovery(&b, t->name, "output");
	gw_nft_rule_start(&b, t->name, "reroute", "let go: look for the way again");
	gw_nft_meta(&b, NFT_META_MARK);
	gw_nft_bits(&b, MARK_BIT, 0);
	gw_nft_cmp(&b, NFT_CMP_NEQ, &(uint32_t){0}, sizeof(uint32_t));
	gw_nft_meta(&b, NFT_META_MARK);
	gw_nft_bits(&b, ~MARK_BIT, 0);
	gw_nft_meta_set(&b, NFT_META_MARK);
	gw_nft_rule_end(&b);
	return gw_nft_commit(&b, &t->nl, NULL, 0, "make an nf_tables table (kernel 5.12 or later, CAP_NET_ADMIN)", e);
}

/* A rule in a chain that nothing jumps to, and away with it. */
static int try_queue(struct table *t, bool xt, struct gw_err *e)
{
	gw_auto(nft) struct gw_nft b = {0};
	uint64_t handle = 0;
	int rc = gw_nft_begin(&b, &t->nl, e);
	if (rc < 0)
		return rc;
	gw_nft_chain_plain(&b, t->name, "try");
	gw_nft_rule_start(&b, t->name, "try", "can this kernel queue?");
	gw_nft_queue(&b, 0, xt);
	gw_nft_rule_end(&b);
	rc = gw_nft_commit(&b, &t->nl, &handle, 1, "queue packets by nf_tables", e);
	if (rc < 0)
		return rc;
	gw_auto(nft) struct gw_nft undo = {0};
	rc = gw_nft_begin(&undo, &t->nl, e);
	if (rc < 0)
		return rc;
	gw_nft_rule_delete(&undo, t->name, "try", handle);
	gw_nft_chain_delete(&undo, t->name, "try");
	return gw_nft_commit(&undo, &t->nl, NULL, 0, "remove a tried rule", e);
}

static void table_free(struct table *t)
{
	gw_end_nl(&t->nl);
	free(t);
}

static int table_new(const struct stat *ns, struct table **out, struct gw_err *e)
{
	struct table *t = calloc(1, sizeof(*t));
	if (!t)
		return gw_fail(e, GW_SYS, ENOMEM, "hold packets");
	t->dev = ns->st_dev;
	t->ino = ns->st_ino;
	int rc = gw_nl_open(NETLINK_NETFILTER, &t->nl, e);
	if (rc == 0) {
		(void)snprintf(t->name, sizeof(t->name), TABLE_PREFIX "%u", mnl_socket_get_portid(t->nl.sock));
		rc = make_table(t, e);
	}
	if (rc == 0 && try_queue(t, false, NULL) < 0) {
		t->xt = true;
		rc = try_queue(t, true, e);
		if (rc < 0)
			rc = gw_fail_code(
			        e, GW_INPUT, "CannotHold",
			        "this kernel can't hold packets: it has neither the nf_tables queue statement "
			        "(CONFIG_NFT_QUEUE) nor the xtables NFQUEUE target behind nft_compat");
	}
	if (rc < 0) {
		table_free(t);
		return rc;
	}
	*out = t;
	return 0;
}

/* With the lock held. */
static int table_of_here(struct table **out, struct gw_err *e)
{
	struct stat ns;
	if (stat("/proc/thread-self/ns/net", &ns) < 0)
		return gw_fail(e, GW_SYS, errno, "look at our network namespace");
	for (struct table *t = tables; t; t = t->next)
		if (t->dev == ns.st_dev && t->ino == ns.st_ino) {
			*out = t;
			return 0;
		}
	struct table *t = NULL;
	int rc = table_new(&ns, &t, e);
	if (rc < 0)
		return rc;
	t->next = tables;
	tables = t;
	*out = t;
	return 0;
}

/* A SYN that is no answer to one. */
static void only_fresh(struct gw_nft *b)
{
	const uint8_t tcp = IPPROTO_TCP;
	const union {
		uint8_t byte[4];
		uint32_t reg;
	} mask = {.byte = {TH_SYN | TH_ACK}};
	const uint8_t syn = TH_SYN;
	gw_nft_meta(b, NFT_META_L4PROTO);
	gw_nft_cmp(b, NFT_CMP_EQ, &tcp, sizeof(tcp));
	gw_nft_payload(b, NFT_PAYLOAD_TRANSPORT_HEADER, TCP_FLAGS_AT, 1);
	gw_nft_bits(b, mask.reg, 0);
	gw_nft_cmp(b, NFT_CMP_EQ, &syn, sizeof(syn));
}

static void rule_to(struct gw_nft *b, struct gw_rules *r, const char *comment, const char *chain,
                    const struct gw_addr *a, bool fresh, uint16_t queue)
{
	r->chain[r->n++] = chain;
	gw_nft_rule_start(b, r->t->name, chain, comment);
	gw_nft_to(b, a);
	if (fresh)
		only_fresh(b);
	if (!strcmp(chain, "output")) {
		gw_nft_meta(b, NFT_META_MARK);
		gw_nft_bits(b, ~MARK_BIT, MARK_BIT);
		gw_nft_meta_set(b, NFT_META_MARK);
	}
	gw_nft_queue(b, queue, r->t->xt);
	gw_nft_rule_end(b);
}

static void pod_rules(struct gw_nft *b, struct gw_rules *r, const char *comment, const struct gw_pod *p,
                      const struct gw_rules_queues *q)
{
	static const char *const chains[] = {"prerouting", "output"};
	const struct table *t = r->t;
	if (q->out) {
		r->chain[r->n++] = "prerouting";
		gw_nft_rule_start(b, t->name, "prerouting", comment);
		gw_nft_meta(b, NFT_META_IIFNAME);
		gw_nft_cmp_ifname(b, p->host_ifname);
		gw_nft_queue(b, q->out, t->xt);
		gw_nft_rule_end(b);
	}
	for (unsigned i = 0; i < p->naddrs; i++)
		for (unsigned c = 0; c < gw_countof(chains); c++) {
			rule_to(b, r, comment, chains[c], &p->addrs[i], true, q->fresh);
			rule_to(b, r, comment, chains[c], &p->addrs[i], false, q->in);
		}
}

static int add_locked(struct gw_rules *r, const char *comment, const struct gw_pod *p, const struct gw_rules_queues *q,
                      struct gw_err *e)
{
	gw_auto(nft) struct gw_nft b = {0};
	int rc = table_of_here(&r->t, e);
	if (rc == 0)
		rc = gw_nft_begin(&b, &r->t->nl, e);
	if (rc < 0)
		return rc;
	pod_rules(&b, r, comment, p, q);
	return gw_nft_commit(&b, &r->t->nl, r->handle, RULES_MAX, "add the rules that hold packets", e);
}

int gw_rules_add(const char *id, const struct gw_pod *p, const struct gw_rules_queues *q, struct gw_rules **out,
                 struct gw_err *e)
{
	char comment[120];
	gw_auto(mem) struct gw_rules *r = calloc(1, sizeof(*r));
	if (!r)
		return gw_fail(e, GW_SYS, ENOMEM, "hold packets");
	if (p->naddrs == 0 || p->naddrs > GW_POD_ADDRS_MAX || (q->out && !p->host_ifname[0]))
		return gw_fail(e, GW_INPUT, EINVAL, "hold packets: the pod has no address or no host interface");
	(void)snprintf(comment, sizeof(comment), "godwit:%s", id);
	(void)pthread_mutex_lock(&tables_lock);
	int rc = add_locked(r, comment, p, q, e);
	(void)pthread_mutex_unlock(&tables_lock);
	if (rc == 0)
		*out = gw_take(r);
	return rc;
}

int gw_rules_remove(struct gw_rules *r, struct gw_err *e)
{
	gw_auto(nft) struct gw_nft b = {0};
	(void)pthread_mutex_lock(&tables_lock);
	int rc = gw_nft_begin(&b, &r->t->nl, e);
	if (rc == 0) {
		for (unsigned i = 0; i < r->n; i++)
			gw_nft_rule_delete(&b, r->t->name, r->chain[i], r->handle[i]);
		rc = gw_nft_commit(&b, &r->t->nl, NULL, 0, "remove the rules that hold packets", e);
	}
	(void)pthread_mutex_unlock(&tables_lock);
	free(r);
	return rc;
}

int gw_rules_supported(struct gw_err *e)
{
	struct table *t = NULL;
	(void)pthread_mutex_lock(&tables_lock);
	int rc = table_of_here(&t, e);
	(void)pthread_mutex_unlock(&tables_lock);
	return rc;
}

struct found {
	char names[TABLES_MAX][64];
	size_t n;
};

static void reset_found(void *data)
{
	((struct found *)data)->n = 0;
}

static int on_table(const struct nlmsghdr *h, void *data)
{
	struct found *f = data;
	const char *name = NULL;
	bool owned = false;
	gw_nl_each(a, h, sizeof(struct nfgenmsg))
	{
		if (mnl_attr_get_type(a) == NFTA_TABLE_NAME && mnl_attr_validate(a, MNL_TYPE_NUL_STRING) >= 0)
			name = mnl_attr_get_str(a);
		if (mnl_attr_get_type(a) == NFTA_TABLE_OWNER)
			owned = true;
	}
	/* One that is owned has a living owner: the kernel removes the others' itself. */
	if (name && !owned && !strncmp(name, TABLE_PREFIX, strlen(TABLE_PREFIX)) &&
	    strlen(name) < sizeof(f->names[0]) && f->n < TABLES_MAX)
		(void)strcpy(f->names[f->n++], name);
	return MNL_CB_OK;
}

int gw_rules_sweep(struct gw_err *e)
{
	gw_auto(nl) struct gw_nl n = {0};
	gw_auto(mem) struct found *f = calloc(1, sizeof(*f));
	struct gw_nl_msg m;
	if (!f)
		return gw_fail(e, GW_SYS, ENOMEM, "sweep rules");
	int rc = gw_nl_open(NETLINK_NETFILTER, &n, e);
	if (rc < 0)
		return rc;
	struct nlmsghdr *h =
	        gw_nl_start(&m, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE, NLM_F_DUMP, sizeof(struct nfgenmsg));
	((struct nfgenmsg *)mnl_nlmsg_get_payload(h))->nfgen_family = NFPROTO_INET;
	rc = gw_nl_ask(&n, h, on_table, reset_found, f, "list the nf_tables tables", e);
	for (size_t i = 0; rc == 0 && i < f->n; i++) {
		gw_auto(nft) struct gw_nft b = {0};
		rc = gw_nft_begin(&b, &n, e);
		if (rc == 0) {
			gw_nft_table_delete(&b, f->names[i]);
			rc = gw_nft_commit(&b, &n, NULL, 0, "remove rules left by a godwitd that died", e);
		}
	}
	return rc;
}
