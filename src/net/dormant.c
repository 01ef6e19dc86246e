#include "net/dormant.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <linux/netfilter.h> /* after netinet/in.h: they know each other in this order only */
#include <linux/netfilter/nf_tables.h>

#include "net/nft.h"
#include "net/nl.h"
#include "net/tagged.h"

enum { FIRST_OF_ALL = -310, TCP_FLAGS_AT = 13 /* RFC 9293, 3.1 */ };

static const char table[] = "godwit-dormant";
static const char chain[] = "prerouting";

static void put_rule(struct gw_nft *b, const char *link)
{
	const uint8_t tcp = IPPROTO_TCP, none = 0;
	const union {
		uint8_t byte[4];
		uint32_t reg;
	} flags = {.byte = {TH_FIN | TH_RST}};
	gw_nft_table_new(b, table, "godwit: copies that do not run yet end no connection", false);
	gw_nft_chain_base(b, table, chain, "filter", NF_INET_PRE_ROUTING, FIRST_OF_ALL);
	gw_nft_rule_start(b, table, chain, link);
	gw_nft_meta(b, NFT_META_IIFNAME);
	gw_nft_cmp_ifname(b, link);
	gw_nft_meta(b, NFT_META_L4PROTO);
	gw_nft_cmp(b, NFT_CMP_EQ, &tcp, sizeof(tcp));
	gw_nft_payload(b, NFT_PAYLOAD_TRANSPORT_HEADER, TCP_FLAGS_AT, 1);
	gw_nft_bits(b, flags.reg, 0);
	gw_nft_cmp(b, NFT_CMP_NEQ, &none, sizeof(none));
	gw_nft_drop(b);
	gw_nft_rule_end(b);
}

static int replace(const char *link, bool begin, struct gw_err *e)
{
	gw_auto(nl) struct gw_nl n = {0};
	gw_auto(nft) struct gw_nft b = {0};
	struct gw_tagged old = {.table = table, .chain = chain, .comment = link};
	int rc = gw_nl_open(NETLINK_NETFILTER, &n, e);
	if (rc == 0)
		rc = gw_tagged_find(&n, &old, e);
	if (rc == 0 && (begin || old.n))
		rc = gw_nft_begin(&b, &n, e);
	if (rc < 0 || !b.buf)
		return rc;
	if (begin)
		put_rule(&b, link);
	for (size_t i = 0; i < old.n; i++)
		gw_nft_rule_delete(&b, table, chain, old.handle[i]);
	return gw_nft_commit(&b, &n, NULL, 0, "keep a stopped copy from ending connections", e);
}

int gw_dormant_begin(const char *link, struct gw_err *e)
{
	return replace(link, true, e);
}

int gw_dormant_end(const char *link, struct gw_err *e)
{
	return replace(link, false, e);
}
