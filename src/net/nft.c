#include "net/nft.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables_compat.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/xt_NFQUEUE.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <stdio.h>
#include <string.h>

enum {
	NFT_MSG_ROOM = 2048,   /* no message of ours is longer */
	NFT_COMMENT_MAX = 127, /* with its NUL; nft refuses longer ones */
	UDATA_COMMENT = 0,     /* NFTNL_UDATA_{TABLE,RULE}_COMMENT: type, length, text */
	NFQUEUE_REVISION = 3,  /* struct xt_NFQ_info_v3 */
	REG = NFT_REG_1,
};

static void message(struct gw_nft *b, uint16_t type, uint16_t flags, uint8_t family, uint16_t res_id)
{
	if (b->len + NFT_MSG_ROOM > GW_NFT_BATCH_MAX) {
		/* What follows is built over the last message; commit will refuse. */
		b->full = true;
		b->len = GW_NFT_BATCH_MAX - NFT_MSG_ROOM;
	}
	b->h = mnl_nlmsg_put_header(b->buf + b->len);
	b->h->nlmsg_type = type;
	b->h->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	b->h->nlmsg_seq = ++b->seq;
	struct nfgenmsg *g = mnl_nlmsg_put_extra_header(b->h, sizeof(*g));
	g->nfgen_family = family;
	g->version = NFNETLINK_V0;
	g->res_id = htons(res_id);
}

static void message_end(struct gw_nft *b)
{
	assert(b->h->nlmsg_len <= NFT_MSG_ROOM);
	b->len += b->h->nlmsg_len;
}

static void nft_message(struct gw_nft *b, unsigned type, uint16_t flags)
{
	message(b, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type), flags, NFPROTO_INET, 0);
}

int gw_nft_begin(struct gw_nft *b, struct gw_nl *n, struct gw_err *e)
{
	*b = (struct gw_nft){.buf = malloc(GW_NFT_BATCH_MAX), .seq = n->seq};
	if (!b->buf)
		return gw_fail(e, GW_SYS, ENOMEM, "build netfilter rules");
	message(b, NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
	message_end(b);
	return 0;
}

static void put_comment(struct gw_nft *b, uint16_t attr, const char *comment)
{
	uint8_t u[2 + NFT_COMMENT_MAX] = {UDATA_COMMENT};
	size_t n = strnlen(comment, NFT_COMMENT_MAX - 1);
	u[1] = (uint8_t)(n + 1);
	memcpy(u + 2, comment, n);
	mnl_attr_put(b->h, attr, n + 3, u);
}

void gw_nft_table_new(struct gw_nft *b, const char *table, const char *comment, bool owned)
{
	nft_message(b, NFT_MSG_NEWTABLE, owned ? NLM_F_CREATE | NLM_F_EXCL : NLM_F_CREATE);
	mnl_attr_put_strz(b->h, NFTA_TABLE_NAME, table);
	if (owned)
		mnl_attr_put_u32(b->h, NFTA_TABLE_FLAGS, htonl(NFT_TABLE_F_OWNER));
	put_comment(b, NFTA_TABLE_USERDATA, comment);
	message_end(b);
}

void gw_nft_table_delete(struct gw_nft *b, const char *table)
{
	nft_message(b, NFT_MSG_DELTABLE, 0);
	mnl_attr_put_strz(b->h, NFTA_TABLE_NAME, table);
	message_end(b);
}

void gw_nft_chain_base(struct gw_nft *b, const char *table, const char *chain, const char *type, uint32_t hook,
                       int32_t priority)
{
	nft_message(b, NFT_MSG_NEWCHAIN, NLM_F_CREATE);
	mnl_attr_put_strz(b->h, NFTA_CHAIN_TABLE, table);
	mnl_attr_put_strz(b->h, NFTA_CHAIN_NAME, chain);
	struct nlattr *nest = mnl_attr_nest_start(b->h, NFTA_CHAIN_HOOK);
	mnl_attr_put_u32(b->h, NFTA_HOOK_HOOKNUM, htonl(hook));
	mnl_attr_put_u32(b->h, NFTA_HOOK_PRIORITY, htonl((uint32_t)priority));
	mnl_attr_nest_end(b->h, nest);
	mnl_attr_put_strz(b->h, NFTA_CHAIN_TYPE, type);
	message_end(b);
}

static void plain_chain(struct gw_nft *b, unsigned type, uint16_t flags, const char *table, const char *chain)
{
	nft_message(b, type, flags);
	mnl_attr_put_strz(b->h, NFTA_CHAIN_TABLE, table);
	mnl_attr_put_strz(b->h, NFTA_CHAIN_NAME, chain);
	message_end(b);
}

void gw_nft_chain_plain(struct gw_nft *b, const char *table, const char *chain)
{
	plain_chain(b, NFT_MSG_NEWCHAIN, NLM_F_CREATE | NLM_F_EXCL, table, chain);
}

void gw_nft_chain_delete(struct gw_nft *b, const char *table, const char *chain)
{
	plain_chain(b, NFT_MSG_DELCHAIN, 0, table, chain);
}

void gw_nft_rule_delete(struct gw_nft *b, const char *table, const char *chain, uint64_t handle)
{
	nft_message(b, NFT_MSG_DELRULE, 0);
	mnl_attr_put_strz(b->h, NFTA_RULE_TABLE, table);
	mnl_attr_put_strz(b->h, NFTA_RULE_CHAIN, chain);
	mnl_attr_put_u64(b->h, NFTA_RULE_HANDLE, htobe64(handle));
	message_end(b);
}

void gw_nft_rule_start(struct gw_nft *b, const char *table, const char *chain, const char *comment)
{
	nft_message(b, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND | NLM_F_ECHO);
	mnl_attr_put_strz(b->h, NFTA_RULE_TABLE, table);
	mnl_attr_put_strz(b->h, NFTA_RULE_CHAIN, chain);
	put_comment(b, NFTA_RULE_USERDATA, comment);
	b->exprs = mnl_attr_nest_start(b->h, NFTA_RULE_EXPRESSIONS);
}

void gw_nft_rule_end(struct gw_nft *b)
{
	mnl_attr_nest_end(b->h, b->exprs);
	message_end(b);
}

struct expr {
	struct nlattr *elem, *data;
};

static struct expr expr_start(struct gw_nft *b, const char *name)
{
	struct expr x = {.elem = mnl_attr_nest_start(b->h, NFTA_LIST_ELEM)};
	mnl_attr_put_strz(b->h, NFTA_EXPR_NAME, name);
	x.data = mnl_attr_nest_start(b->h, NFTA_EXPR_DATA);
	return x;
}

static void expr_end(struct gw_nft *b, struct expr x)
{
	mnl_attr_nest_end(b->h, x.data);
	mnl_attr_nest_end(b->h, x.elem);
}

static void put_be32(struct gw_nft *b, uint16_t attr, uint32_t v)
{
	mnl_attr_put_u32(b->h, attr, htonl(v));
}

static void put_value(struct gw_nft *b, uint16_t attr, const void *data, size_t len)
{
	struct nlattr *nest = mnl_attr_nest_start(b->h, attr);
	mnl_attr_put(b->h, NFTA_DATA_VALUE, len, data);
	mnl_attr_nest_end(b->h, nest);
}

void gw_nft_meta(struct gw_nft *b, uint32_t key)
{
	struct expr x = expr_start(b, "meta");
	put_be32(b, NFTA_META_DREG, REG);
	put_be32(b, NFTA_META_KEY, key);
	expr_end(b, x);
}

void gw_nft_meta_set(struct gw_nft *b, uint32_t key)
{
	struct expr x = expr_start(b, "meta");
	put_be32(b, NFTA_META_KEY, key);
	put_be32(b, NFTA_META_SREG, REG);
	expr_end(b, x);
}

void gw_nft_payload(struct gw_nft *b, uint32_t base, uint32_t offset, uint32_t len)
{
	struct expr x = expr_start(b, "payload");
	put_be32(b, NFTA_PAYLOAD_DREG, REG);
	put_be32(b, NFTA_PAYLOAD_BASE, base);
	put_be32(b, NFTA_PAYLOAD_OFFSET, offset);
	put_be32(b, NFTA_PAYLOAD_LEN, len);
	expr_end(b, x);
}

void gw_nft_cmp(struct gw_nft *b, uint32_t op, const void *data, size_t len)
{
	struct expr x = expr_start(b, "cmp");
	put_be32(b, NFTA_CMP_SREG, REG);
	put_be32(b, NFTA_CMP_OP, op);
	put_value(b, NFTA_CMP_DATA, data, len);
	expr_end(b, x);
}

void gw_nft_bits(struct gw_nft *b, uint32_t keep, uint32_t flip)
{
	struct expr x = expr_start(b, "bitwise");
	put_be32(b, NFTA_BITWISE_SREG, REG);
	put_be32(b, NFTA_BITWISE_DREG, REG);
	put_be32(b, NFTA_BITWISE_LEN, sizeof(keep));
	put_value(b, NFTA_BITWISE_MASK, &keep, sizeof(keep));
	put_value(b, NFTA_BITWISE_XOR, &flip, sizeof(flip));
	expr_end(b, x);
}

void gw_nft_cmp_ifname(struct gw_nft *b, const char *name)
{
	char padded[IFNAMSIZ] = {0};
	memcpy(padded, name, strnlen(name, sizeof(padded) - 1));
	gw_nft_cmp(b, NFT_CMP_EQ, padded, sizeof(padded));
}

void gw_nft_to(struct gw_nft *b, const struct gw_addr *a)
{
	bool v4 = a->family == AF_INET;
	uint8_t nfproto = v4 ? NFPROTO_IPV4 : NFPROTO_IPV6;
	uint32_t len = v4 ? 4 : 16;
	gw_nft_meta(b, NFT_META_NFPROTO);
	gw_nft_cmp(b, NFT_CMP_EQ, &nfproto, sizeof(nfproto));
	gw_nft_payload(b, NFT_PAYLOAD_NETWORK_HEADER,
	               v4 ? offsetof(struct iphdr, daddr) : offsetof(struct ip6_hdr, ip6_dst), len);
	gw_nft_cmp(b, NFT_CMP_EQ, a->bytes, len);
}

void gw_nft_fib_oifname(struct gw_nft *b)
{
	struct expr x = expr_start(b, "fib");
	put_be32(b, NFTA_FIB_DREG, REG);
	put_be32(b, NFTA_FIB_RESULT, NFT_FIB_RESULT_OIFNAME);
	put_be32(b, NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR);
	expr_end(b, x);
}

void gw_nft_notrack(struct gw_nft *b)
{
	expr_end(b, expr_start(b, "notrack"));
}

static void verdict(struct gw_nft *b, uint32_t code)
{
	struct expr x = expr_start(b, "immediate");
	put_be32(b, NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
	struct nlattr *data = mnl_attr_nest_start(b->h, NFTA_IMMEDIATE_DATA);
	struct nlattr *what = mnl_attr_nest_start(b->h, NFTA_DATA_VERDICT);
	put_be32(b, NFTA_VERDICT_CODE, code);
	mnl_attr_nest_end(b->h, what);
	mnl_attr_nest_end(b->h, data);
	expr_end(b, x);
}

void gw_nft_accept(struct gw_nft *b)
{
	verdict(b, NF_ACCEPT);
}

void gw_nft_drop(struct gw_nft *b)
{
	verdict(b, NF_DROP);
}

void gw_nft_queue(struct gw_nft *b, uint16_t queue, bool xt)
{
	if (xt) {
		struct xt_NFQ_info_v3 info = {.queuenum = queue, .queues_total = 1, .flags = NFQ_FLAG_BYPASS};
		/* xtables wants its structures padded to 8 bytes. */
		uint8_t padded[(sizeof(info) + 7) / 8 * 8] = {0};
		memcpy(padded, &info, sizeof(info));
		struct expr x = expr_start(b, "target");
		mnl_attr_put_strz(b->h, NFTA_TARGET_NAME, "NFQUEUE");
		put_be32(b, NFTA_TARGET_REV, NFQUEUE_REVISION);
		mnl_attr_put(b->h, NFTA_TARGET_INFO, sizeof(padded), padded);
		expr_end(b, x);
		return;
	}
	struct expr x = expr_start(b, "queue");
	mnl_attr_put_u16(b->h, NFTA_QUEUE_NUM, htons(queue));
	mnl_attr_put_u16(b->h, NFTA_QUEUE_TOTAL, htons(1));
	mnl_attr_put_u16(b->h, NFTA_QUEUE_FLAGS, htons(NFT_QUEUE_FLAG_BYPASS));
	expr_end(b, x);
}

struct outcome {
	int err;       /* the first one */
	bool done;     /* the last message was acknowledged */
	uint32_t last; /* its number */
	uint64_t *handles;
	size_t max, n;
};

static void take_message(const struct nlmsghdr *h, struct outcome *o)
{
	if (h->nlmsg_type == NLMSG_ERROR) {
		const struct nlmsgerr *err = mnl_nlmsg_get_payload(h);
		if (err->error && !o->err)
			o->err = err->error;
		if (!err->error && h->nlmsg_seq == o->last)
			o->done = true;
		return;
	}
	if (h->nlmsg_type != (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWRULE))
		return;
	gw_nl_each(a, h, sizeof(struct nfgenmsg)) if (mnl_attr_get_type(a) == NFTA_RULE_HANDLE && o->n < o->max)
	        o->handles[o->n++] = be64toh(mnl_attr_get_u64(a));
}

/* The kernel has put all answers into the socket by the time the request
 * returns; reading until it is empty leaves nothing for the next batch. */
static void take_answers(struct gw_nl *n, struct outcome *o)
{
	alignas(8) char buf[32768];
	int fd = mnl_socket_get_fd(n->sock);
	for (;;) {
		ssize_t got = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			if (errno != EAGAIN && !o->err)
				o->err = -errno;
			return;
		}
		int left = (int)got;
		for (const struct nlmsghdr *h = (const struct nlmsghdr *)buf; mnl_nlmsg_ok(h, left);
		     h = mnl_nlmsg_next(h, &left))
			take_message(h, o);
	}
}

int gw_nft_commit(struct gw_nft *b, struct gw_nl *n, uint64_t *out_handles, size_t max, const char *what,
                  struct gw_err *e)
{
	struct outcome o = {.handles = out_handles, .max = out_handles ? max : 0};
	b->h->nlmsg_flags |= NLM_F_ACK;
	o.last = b->h->nlmsg_seq;
	message(b, NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
	message_end(b);
	n->seq = b->seq;
	if (b->full)
		return gw_fail(e, GW_SYS, E2BIG, "%s", what);
	ssize_t sent;
	do
		sent = mnl_socket_sendto(n->sock, b->buf, b->len);
	while (sent < 0 && errno == EINTR);
	if (sent < 0)
		return gw_fail(e, GW_SYS, errno, "%s", what);
	take_answers(n, &o);
	if (o.err)
		return gw_fail(e, GW_SYS, -o.err, "%s", what);
	if (!o.done)
		return gw_fail(e, GW_SYS, EPROTO, "%s: the kernel did not confirm it", what);
	return 0;
}
