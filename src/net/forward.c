#include "net/forward.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdio.h>
#include <string.h>

#include "net/nft.h"
#include "net/nl.h"

enum {
	BEFORE_TRACKING = -300, /* the raw table's priority; tracking has -200 */
	RULES_MAX = 16,         /* of one address; more than one only after a race */
};

static const char table[] = "godwit-forward";
static const char chain[] = "prerouting";

struct old {
	const char *comment;
	uint64_t handle[RULES_MAX];
	size_t n;
};

static void reset_old(void *data)
{
	((struct old *)data)->n = 0;
}

static int on_rule(const struct nlmsghdr *h, void *data)
{
	struct old *o = data;
	uint64_t handle = 0;
	bool ours = false;
	if (h->nlmsg_type != (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWRULE))
		return MNL_CB_OK;
	gw_nl_each(a, h, sizeof(struct nfgenmsg)) {
		const char *u = mnl_attr_get_payload(a);
		size_t len = strlen(o->comment) + 1;
		if (mnl_attr_get_type(a) == NFTA_RULE_HANDLE)
			handle = be64toh(mnl_attr_get_u64(a));
		/* Type, length, text with its NUL: see put_comment in nft.c. */
		if (mnl_attr_get_type(a) == NFTA_RULE_USERDATA)
			ours = mnl_attr_get_payload_len(a) == len + 2 && !memcmp(u + 2, o->comment, len);
	}
	if (ours && o->n < RULES_MAX)
		o->handle[o->n++] = handle;
	return MNL_CB_OK;
}

static int find_old(struct gw_nl *n, struct old *o, struct gw_err *e)
{
	struct gw_nl_msg m;
	struct gw_err mine = {0};
	struct nlmsghdr *h = gw_nl_start(&m, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETRULE, NLM_F_DUMP,
					 sizeof(struct nfgenmsg));
	((struct nfgenmsg *)mnl_nlmsg_get_payload(h))->nfgen_family = NFPROTO_INET;
	mnl_attr_put_strz(h, NFTA_RULE_TABLE, table);
	mnl_attr_put_strz(h, NFTA_RULE_CHAIN, chain);
	int rc = gw_nl_ask(n, h, on_rule, reset_old, o, "list the rules for pods that left", &mine);
	if (rc == -ENOENT) /* no such table yet */
		return 0;
	if (rc < 0 && e)
		*e = mine;
	return rc;
}

static void put_rule(struct gw_nft *b, const struct gw_addr *a, const char *link, const char *comment)
{
	gw_nft_table_new(b, table, "godwit: passing packets on to pods that were moved", false);
	gw_nft_chain_base(b, table, chain, "filter", NF_INET_PRE_ROUTING, BEFORE_TRACKING);
	gw_nft_rule_start(b, table, chain, comment);
	gw_nft_meta(b, NFT_META_IIFNAME);
	gw_nft_cmp_ifname(b, link);
	gw_nft_to(b, a);
	gw_nft_fib_oifname(b);
	gw_nft_cmp_ifname(b, link);
	gw_nft_notrack(b);
	gw_nft_rule_end(b);
}

/* link NULL: only take the old ones away. */
static int replace(const struct gw_addr *a, const char *link, struct gw_err *e)
{
	char text[64];
	gw_auto(nl) struct gw_nl n = {0};
	gw_auto(nft) struct gw_nft b = {0};
	struct old o = {.comment = gw_addr_text(a, text, sizeof(text))};
	int rc = gw_nl_open(NETLINK_NETFILTER, &n, e);
	if (rc == 0)
		rc = find_old(&n, &o, e);
	if (rc == 0 && (link || o.n))
		rc = gw_nft_begin(&b, &n, e);
	if (rc < 0 || !b.buf)
		return rc;
	if (link)
		put_rule(&b, a, link, text);
	for (size_t i = 0; i < o.n; i++)
		gw_nft_rule_delete(&b, table, chain, o.handle[i]);
	return gw_nft_commit(&b, &n, NULL, 0, "exempt forwarded packets from connection tracking (CONFIG_NFT_FIB_INET)", e);
}

int gw_forward_allow(const struct gw_addr *a, const char *link, struct gw_err *e)
{
	return replace(a, link, e);
}

int gw_forward_forget(const struct gw_addr *a, struct gw_err *e)
{
	return replace(a, NULL, e);
}
