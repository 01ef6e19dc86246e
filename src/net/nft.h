#pragma once
#include <linux/netfilter/nf_tables.h>
#include <stdint.h>

#include "base/gw_err.h"
#include "net/nl.h"
#include "net/pod.h"

/* nft: one transaction of nf_tables, spoken over netlink without a program.
 *
 * All of a batch happens or none of it. Family is always inet (IPv4 and IPv6
 * in one table). Only what holding packets takes; numbers and layouts:
 * linux/netfilter/nf_tables.h, nf_tables_compat.h.
 * Owner: whoever began the batch. Limits: GW_NFT_BATCH_MAX bytes; a batch
 * that is too long fails in gw_nft_commit. Threads: one at a time. */
enum { GW_NFT_BATCH_MAX = 65536 };

struct gw_nft {
	char *buf;
	size_t len;
	uint32_t seq;
	struct nlmsghdr *h;   /* being built */
	struct nlattr *exprs; /* of the rule being built */
	bool full;
};

int gw_nft_begin(struct gw_nft *b, struct gw_nl *n, struct gw_err *e);
static inline void gw_end_nft(struct gw_nft *b)
{
	free(b->buf);
	b->buf = NULL;
}

/* owned: must be new; the kernel lets nobody else change the table (not even
 * `nft flush ruleset`) and removes it when the socket closes, so when its
 * owner dies. Not owned: may be there already, and stays. */
void gw_nft_table_new(struct gw_nft *b, const char *table, const char *comment, bool owned);
void gw_nft_table_delete(struct gw_nft *b, const char *table);
void gw_nft_chain_base(struct gw_nft *b, const char *table, const char *chain, const char *type, uint32_t hook,
                       int32_t priority);
void gw_nft_chain_plain(struct gw_nft *b, const char *table, const char *chain);
void gw_nft_chain_delete(struct gw_nft *b, const char *table, const char *chain);
void gw_nft_rule_delete(struct gw_nft *b, const char *table, const char *chain, uint64_t handle);

/* Exactly this interface name, after gw_nft_meta(NFT_META_IIFNAME) or gw_nft_fib_oifname. */
void gw_nft_cmp_ifname(struct gw_nft *b, const char *name);
/* From IPv4's or IPv6's header: destined to this address. */
void gw_nft_to(struct gw_nft *b, const struct gw_addr *a);

/* A rule: start, expressions in order, end. Loads go to one register, which
 * gw_nft_cmp compares. The comment shows in `nft list ruleset`. */
void gw_nft_rule_start(struct gw_nft *b, const char *table, const char *chain, const char *comment);
void gw_nft_rule_end(struct gw_nft *b);
void gw_nft_meta(struct gw_nft *b, uint32_t key);
void gw_nft_payload(struct gw_nft *b, uint32_t base, uint32_t offset, uint32_t len);
void gw_nft_cmp(struct gw_nft *b, uint32_t op, const void *data, size_t len);
void gw_nft_bits(struct gw_nft *b, uint32_t keep, uint32_t flip); /* reg = (reg & keep) ^ flip */
void gw_nft_meta_set(struct gw_nft *b, uint32_t key);
void gw_nft_fib_oifname(struct gw_nft *b); /* by which interface the packet would leave */
void gw_nft_notrack(struct gw_nft *b);     /* no connection tracking for this packet */
void gw_nft_accept(struct gw_nft *b);
void gw_nft_drop(struct gw_nft *b);
/* To an nfqueue; past it when nobody listens there. xt: by the NFQUEUE target
 * of xtables (kernels built without the `queue` statement). */
void gw_nft_queue(struct gw_nft *b, uint16_t queue, bool xt);

/* Handles of the rules made, in order, into out_handles (NULL: not wanted). */
int gw_nft_commit(struct gw_nft *b, struct gw_nl *n, uint64_t *out_handles, size_t max, const char *what,
                  struct gw_err *e);
