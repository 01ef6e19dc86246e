#include "wire/frame.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

/* The highest user address of any 64-bit Linux: 57 bits with five-level
 * page tables (Documentation/arch/x86/x86_64/5level-paging.rst). */
static const uint64_t addr_end = UINT64_C(1) << 57;

enum {
	DROP_HDR_BYTES = 8,
	FILE_HDR_BYTES = 16,
	TREE_MIN_BYTES = 73 /* one record, a path of one byte */,
	MODE_MASK = 07777
};

static void put16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

static void put32(uint8_t *p, uint32_t v)
{
	for (unsigned i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

static void put64(uint8_t *p, uint64_t v)
{
	for (unsigned i = 0; i < 8; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t get32(const uint8_t *p)
{
	uint32_t v = 0;
	for (unsigned i = 0; i < 4; i++)
		v |= (uint32_t)p[i] << (8 * i);
	return v;
}

static uint64_t get64(const uint8_t *p)
{
	uint64_t v = 0;
	for (unsigned i = 0; i < 8; i++)
		v |= (uint64_t)p[i] << (8 * i);
	return v;
}

/* CRC-32C (RFC 3720 appendix B.4), reflected polynomial 0x82f63b78. Twelve
 * bytes a frame: a table would only cost cache. */
static uint32_t crc32c(const uint8_t *p, size_t len)
{
	uint32_t crc = UINT32_MAX;
	for (size_t i = 0; i < len; i++) {
		crc ^= p[i];
		for (unsigned bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (UINT32_C(0x82f63b78) & -(crc & 1));
	}
	return ~crc;
}

struct limits {
	uint32_t min, max;
};

/* {0, 0} for a type that does not exist. */
static struct limits limits_of(uint8_t type)
{
	switch (type) {
	case GW_F_HELLO:
	case GW_F_MSG: return (struct limits){2, GW_FRAME_JSON_MAX};
	case GW_F_PAGES: return (struct limits){GW_PAGES_HDR_BYTES + GW_RUN_BYTES, GW_FRAME_DATA_MAX};
	case GW_F_DROP:
		return (struct limits){DROP_HDR_BYTES + GW_RUN_BYTES, DROP_HDR_BYTES + GW_RUNS_MAX * GW_RUN_BYTES};
	case GW_F_BARRIER:
	case GW_F_BARRIER_ACK: return (struct limits){GW_BARRIER_BYTES, GW_BARRIER_BYTES};
	case GW_F_FILE: return (struct limits){FILE_HDR_BYTES + 1, GW_FRAME_DATA_MAX};
	case GW_F_TREE: return (struct limits){TREE_MIN_BYTES, GW_FRAME_DATA_MAX};
	default: return (struct limits){0, 0};
	}
}

uint32_t gw_frame_max(uint8_t type)
{
	return limits_of(type).max;
}

uint32_t gw_frame_min(uint8_t type)
{
	return limits_of(type).min;
}

void gw_frame_pack(const struct gw_frame_hdr *h, uint8_t out[GW_FRAME_HDR_BYTES])
{
	out[0] = 'G';
	out[1] = 'W';
	out[2] = GW_FRAME_VERSION;
	out[3] = h->type;
	put32(out + 4, h->length);
	put32(out + 8, h->serial);
	put32(out + 12, crc32c(out, 12));
}

int gw_frame_unpack(const uint8_t in[GW_FRAME_HDR_BYTES], struct gw_frame_hdr *out, struct gw_err *e)
{
	if (in[0] != 'G' || in[1] != 'W')
		return gw_fail(e, GW_PEER, EPROTO,
		               "frame starts with %02x %02x instead of 'GW': the peer is no godwitd or lost its place",
		               in[0], in[1]);
	/* Before the crc: a later version may lay out the rest differently. */
	if (in[2] != GW_FRAME_VERSION)
		return gw_fail(e, GW_PEER, EPROTONOSUPPORT,
		               "peer speaks frame version %u, we speak %d: install the same godwit on both hosts",
		               in[2], GW_FRAME_VERSION);
	uint32_t want = crc32c(in, 12), got = get32(in + 12);
	if (want != got)
		return gw_fail(e, GW_PEER, EPROTO, "frame header has checksum %08x, its bytes give %08x", got, want);
	struct gw_frame_hdr h = {.type = in[3], .length = get32(in + 4), .serial = get32(in + 8)};
	struct limits lim = limits_of(h.type);
	if (!lim.max)
		return gw_fail(e, GW_PEER, EPROTO, "frame of unknown type %u", h.type);
	if (h.length > lim.max)
		return gw_fail(e, GW_PEER, EMSGSIZE, "frame of type %u is %u bytes, the limit is %u", h.type, h.length,
		               lim.max);
	if (h.length < lim.min)
		return gw_fail(e, GW_PEER, EPROTO, "frame of type %u is %u bytes, the least is %u", h.type, h.length,
		               lim.min);
	*out = h;
	return 0;
}

static void run_pack(const struct gw_run *r, uint8_t *out)
{
	put64(out, r->addr);
	put32(out + 8, r->npages);
	put32(out + 12, r->flags);
}

void gw_run_unpack(const uint8_t *runs_at, uint32_t i, struct gw_run *out)
{
	const uint8_t *p = runs_at + (size_t)i * GW_RUN_BYTES;
	*out = (struct gw_run){.addr = get64(p), .npages = get32(p + 8), .flags = get32(p + 12)};
}

/* Every run lies in the user half; *out_bytes: of those that carry data. */
static int check_runs(const uint8_t *at, uint32_t nruns, uint32_t flags_known, uint64_t *out_bytes, struct gw_err *e)
{
	uint64_t bytes = 0;
	for (uint32_t i = 0; i < nruns; i++) {
		struct gw_run r;
		gw_run_unpack(at, i, &r);
		if (r.addr % GW_PAGE)
			return gw_fail(e, GW_PEER, EPROTO, "run %u starts inside a page (%#llx)", i,
			               (unsigned long long)r.addr);
		if (!r.npages)
			return gw_fail(e, GW_PEER, EPROTO, "run %u has no pages", i);
		if (r.addr >= addr_end || (uint64_t)r.npages * GW_PAGE > addr_end - r.addr)
			return gw_fail(e, GW_PEER, EPROTO, "run %u (%#llx, %u pages) ends above 2^57", i,
			               (unsigned long long)r.addr, r.npages);
		if (r.flags & ~flags_known)
			return gw_fail(e, GW_PEER, EPROTO, "run %u has unknown flags %#x", i, r.flags & ~flags_known);
		if (!(r.flags & GW_RUN_ZERO))
			bytes += (uint64_t)r.npages * GW_PAGE;
	}
	*out_bytes = bytes;
	return 0;
}

static int check_counts(const char *what, uint32_t space, uint32_t nruns, struct gw_err *e)
{
	if (!space)
		return gw_fail(e, GW_PEER, EPROTO, "%s for space 0, ids begin at 1", what);
	if (!nruns || nruns > GW_RUNS_MAX)
		return gw_fail(e, GW_PEER, EPROTO, "%s with %u runs, 1 to %d are allowed", what, nruns, GW_RUNS_MAX);
	return 0;
}

size_t gw_pages_pack(const struct gw_pages_hdr *h, const struct gw_run *runs, uint8_t *out)
{
	assert(h->nruns && h->nruns <= GW_RUNS_MAX);
	assert(h->raw_bytes <= GW_PAGES_RAW_MAX);
	put32(out, h->space);
	put32(out + 4, h->nruns);
	put32(out + 8, h->codec);
	put32(out + 12, h->raw_bytes);
	for (uint32_t i = 0; i < h->nruns; i++)
		run_pack(&runs[i], out + GW_PAGES_HDR_BYTES + (size_t)i * GW_RUN_BYTES);
	return GW_PAGES_HDR_BYTES + (size_t)h->nruns * GW_RUN_BYTES;
}

static int check_pages_data(const struct gw_pages_hdr *h, size_t data, struct gw_err *e)
{
	switch (h->codec) {
	case GW_CODEC_PLAIN:
		if (data != h->raw_bytes)
			return gw_fail(e, GW_PEER, EPROTO, "PAGES with %zu bytes of data, its header says %u", data,
			               h->raw_bytes);
		return 0;
	case GW_CODEC_ZSTD:
		/* A sender falls back to plain when compressing does not help. */
		if (!data || data >= h->raw_bytes)
			return gw_fail(e, GW_PEER, EPROTO, "PAGES with %zu compressed bytes for %u raw ones", data,
			               h->raw_bytes);
		return 0;
	default: return gw_fail(e, GW_PEER, EPROTO, "PAGES with unknown codec %u", h->codec);
	}
}

int gw_pages_unpack(const uint8_t *payload, size_t len, struct gw_pages_hdr *out, size_t *out_data_at, struct gw_err *e)
{
	if (len < GW_PAGES_HDR_BYTES || len > GW_FRAME_DATA_MAX)
		return gw_fail(e, GW_PEER, EPROTO, "PAGES of %zu bytes, %d to %d are allowed", len, GW_PAGES_HDR_BYTES,
		               GW_FRAME_DATA_MAX);
	struct gw_pages_hdr h = {.space = get32(payload),
	                         .nruns = get32(payload + 4),
	                         .codec = get32(payload + 8),
	                         .raw_bytes = get32(payload + 12)};
	int rc = check_counts("PAGES", h.space, h.nruns, e);
	if (rc < 0)
		return rc;
	size_t data_at = GW_PAGES_HDR_BYTES + (size_t)h.nruns * GW_RUN_BYTES;
	if (len < data_at)
		return gw_fail(e, GW_PEER, EPROTO, "PAGES of %zu bytes ends inside its %u runs", len, h.nruns);
	uint64_t bytes;
	rc = check_runs(payload + GW_PAGES_HDR_BYTES, h.nruns, GW_RUN_ZERO, &bytes, e);
	if (rc < 0) {
		(void)gw_wrap(e, "PAGES");
		return rc;
	}
	if (bytes != h.raw_bytes || bytes > GW_PAGES_RAW_MAX)
		return gw_fail(e, GW_PEER, EPROTO, "PAGES whose runs need %llu bytes, its header says %u (limit %d)",
		               (unsigned long long)bytes, h.raw_bytes, GW_PAGES_RAW_MAX);
	rc = check_pages_data(&h, len - data_at, e);
	if (rc < 0)
		return rc;
	*out = h;
	*out_data_at = data_at;
	return 0;
}

size_t gw_drop_pack(uint32_t space, const struct gw_run *runs, uint32_t nruns, uint8_t *out)
{
	assert(nruns && nruns <= GW_RUNS_MAX);
	put32(out, space);
	put32(out + 4, nruns);
	for (uint32_t i = 0; i < nruns; i++)
		run_pack(&runs[i], out + DROP_HDR_BYTES + (size_t)i * GW_RUN_BYTES);
	return DROP_HDR_BYTES + (size_t)nruns * GW_RUN_BYTES;
}

int gw_drop_unpack(const uint8_t *payload, size_t len, struct gw_pages_hdr *out, struct gw_err *e)
{
	if (len < DROP_HDR_BYTES)
		return gw_fail(e, GW_PEER, EPROTO, "DROP of %zu bytes, the least is %d", len, DROP_HDR_BYTES);
	struct gw_pages_hdr h = {.space = get32(payload), .nruns = get32(payload + 4)};
	int rc = check_counts("DROP", h.space, h.nruns, e);
	if (rc < 0)
		return rc;
	if (len != DROP_HDR_BYTES + (size_t)h.nruns * GW_RUN_BYTES)
		return gw_fail(e, GW_PEER, EPROTO, "DROP of %zu bytes does not fit its %u runs", len, h.nruns);
	uint64_t bytes;
	rc = check_runs(payload + DROP_HDR_BYTES, h.nruns, 0, &bytes, e);
	if (rc < 0) {
		(void)gw_wrap(e, "DROP");
		return rc;
	}
	*out = h;
	return 0;
}

void gw_barrier_pack(uint64_t number, uint8_t out[GW_BARRIER_BYTES])
{
	put64(out, number);
}

int gw_barrier_unpack(const uint8_t *payload, size_t len, uint64_t *out_number, struct gw_err *e)
{
	if (len != GW_BARRIER_BYTES)
		return gw_fail(e, GW_PEER, EPROTO, "BARRIER of %zu bytes instead of %d", len, GW_BARRIER_BYTES);
	*out_number = get64(payload);
	return 0;
}

static bool name_is_safe(const char *name, size_t len)
{
	if (!len || len > 255 || memchr(name, '/', len) || memchr(name, 0, len))
		return false;
	return !(name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')));
}

size_t gw_file_pack(const struct gw_file_hdr *h, uint8_t out[16 + 256])
{
	size_t n = strnlen(h->name, sizeof(h->name));
	assert(name_is_safe(h->name, n));
	put16(out, (uint16_t)n);
	put16(out + 2, h->flags);
	put32(out + 4, h->mode & MODE_MASK);
	put64(out + 8, h->offset);
	memcpy(out + FILE_HDR_BYTES, h->name, n);
	return FILE_HDR_BYTES + n;
}

int gw_file_unpack(const uint8_t *payload, size_t len, struct gw_file_hdr *out, size_t *out_data_at, struct gw_err *e)
{
	if (len < FILE_HDR_BYTES || len > GW_FRAME_DATA_MAX)
		return gw_fail(e, GW_PEER, EPROTO, "FILE of %zu bytes, %d to %d are allowed", len, FILE_HDR_BYTES,
		               GW_FRAME_DATA_MAX);
	struct gw_file_hdr h = {.flags = get16(payload + 2), .mode = get32(payload + 4), .offset = get64(payload + 8)};
	size_t n = get16(payload), data_at = FILE_HDR_BYTES + n;
	if (n > 255 || len < data_at)
		return gw_fail(e, GW_PEER, EPROTO, "FILE of %zu bytes with a name of %zu", len, n);
	/* The receiver opens this name in its image directory. */
	if (!name_is_safe((const char *)payload + FILE_HDR_BYTES, n))
		return gw_fail(e, GW_PEER, EPROTO, "FILE with a name that is empty, '.', '..' or has '/' or NUL in it");
	if (h.flags & ~GW_FILE_LAST || h.mode & ~(uint32_t)MODE_MASK)
		return gw_fail(e, GW_PEER, EPROTO, "FILE with unknown flags %#x or mode %#o", h.flags, h.mode);
	if (h.offset > (uint64_t)INT64_MAX - (len - data_at))
		return gw_fail(e, GW_PEER, EPROTO, "FILE with offset %llu, beyond any file",
		               (unsigned long long)h.offset);
	memcpy(h.name, payload + FILE_HDR_BYTES, n);
	*out = h;
	*out_data_at = data_at;
	return 0;
}
