#include "net/forward.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdio.h>
#include <string.h>

#include "net/nft.h"
#include "net/nl.h"
#include "net/tagged.h"

enum {
	BEFORE_TRACKING = -300, /* the raw table's priority; tracking has -200 */
};

static const char table[] = "godwit-forward";
static const char chain[] = "prerouting";

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
	struct gw_tagged o = {.table = table, .chain = chain, .comment = gw_addr_text(a, text, sizeof(text))};
	int rc = gw_nl_open(NETLINK_NETFILTER, &n, e);
	if (rc == 0)
		rc = gw_tagged_find(&n, &o, e);
	if (rc == 0 && (link || o.n))
		rc = gw_nft_begin(&b, &n, e);
	if (rc < 0 || !b.buf)
		return rc;
	if (link)
		put_rule(&b, a, link, text);
	for (size_t i = 0; i < o.n; i++)
		gw_nft_rule_delete(&b, table, chain, o.handle[i]);
	return gw_nft_commit(&b, &n, NULL, 0, "exempt forwarded packets from connection tracking (CONFIG_NFT_FIB_INET)",
	                     e);
}

int gw_forward_allow(const struct gw_addr *a, const char *link, struct gw_err *e)
{
	return replace(a, link, e);
}

int gw_forward_forget(const struct gw_addr *a, struct gw_err *e)
{
	return replace(a, NULL, e);
}
