#include "net/tagged.h"

#include <endian.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <string.h>

static void reset(void *data)
{
	((struct gw_tagged *)data)->n = 0;
}

static int on_rule(const struct nlmsghdr *h, void *data)
{
	struct gw_tagged *t = data;
	uint64_t handle = 0;
	bool ours = false;
	if (h->nlmsg_type != (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWRULE))
		return MNL_CB_OK;
	gw_nl_each(a, h, sizeof(struct nfgenmsg))
	{
		const char *u = mnl_attr_get_payload(a);
		size_t len = strlen(t->comment) + 1;
		if (mnl_attr_get_type(a) == NFTA_RULE_HANDLE)
			handle = be64toh(mnl_attr_get_u64(a));
		/* Type, length, text with its NUL: see put_comment in nft.c. */
		if (mnl_attr_get_type(a) == NFTA_RULE_USERDATA)
			ours = mnl_attr_get_payload_len(a) == len + 2 && !memcmp(u + 2, t->comment, len);
	}
	if (ours && t->n < GW_TAGGED_MAX)
		t->handle[t->n++] = handle;
	return MNL_CB_OK;
}

int gw_tagged_find(struct gw_nl *n, struct gw_tagged *t, struct gw_err *e)
{
	struct gw_nl_msg m;
	struct gw_err mine = {0};
	struct nlmsghdr *h =
	        gw_nl_start(&m, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETRULE, NLM_F_DUMP, sizeof(struct nfgenmsg));
	((struct nfgenmsg *)mnl_nlmsg_get_payload(h))->nfgen_family = NFPROTO_INET;
	mnl_attr_put_strz(h, NFTA_RULE_TABLE, t->table);
	mnl_attr_put_strz(h, NFTA_RULE_CHAIN, t->chain);
	int rc = gw_nl_ask(n, h, on_rule, reset, t, "list our rules", &mine);
	if (rc == -ENOENT) /* no such table yet */
		return 0;
	if (rc < 0 && e)
		*e = mine;
	return rc;
}
