#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/gw_err.h"

/* frame: what travels between two godwitd, one header and one payload.
 *
 *   0      2      3      4        8        12            16
 *   +------+------+------+--------+--------+-------------+----------- ...
 *   | 'GW' | ver  | type | length | serial | header crc  | payload
 *   +------+------+------+--------+--------+-------------+----------- ...
 *
 * All numbers little-endian. The codec is pure: bytes in, struct out; a
 * length is checked against the type's limit before anything is allocated.
 * Payloads are protected by TLS; the crc32c of the first 12 header bytes
 * finds a reader that lost its place. docs/wire.md has a page per message.
 * Any thread. */
enum {
	GW_FRAME_HDR_BYTES = 16,
	GW_FRAME_VERSION = 1,
	GW_FRAME_JSON_MAX = 1 << 20,
	GW_FRAME_DATA_MAX = (1 << 20) + 65536,
	GW_PAGE = 4096,
};

enum gw_frame_type {
	GW_F_HELLO = 1,       /* JSON: who speaks, for which migration, on what kind of connection */
	GW_F_MSG = 2,         /* JSON: a control message, key "type" says which */
	GW_F_PAGES = 3,       /* binary: page runs and their contents */
	GW_F_DROP = 4,        /* binary: runs that were sent and exist no more */
	GW_F_BARRIER = 5,     /* binary: u64 number; everything before it must be stored before the answer */
	GW_F_BARRIER_ACK = 6, /* binary: u64 number */
	GW_F_FILE = 7,        /* binary: a piece of an image file */
	GW_F_TREE = 8,        /* binary: records of files/record.h */
};

struct gw_frame_hdr {
	uint8_t type;
	uint32_t length; /* of the payload */
	uint32_t serial; /* counts up per connection and direction */
};

void gw_frame_pack(const struct gw_frame_hdr *h, uint8_t out[GW_FRAME_HDR_BYTES]);
/* GW_PEER with words when magic, version, type, length or crc is wrong. */
int gw_frame_unpack(const uint8_t in[GW_FRAME_HDR_BYTES], struct gw_frame_hdr *out, struct gw_err *e);
/* The payload lengths a type allows; 0 for a type that does not exist. */
uint32_t gw_frame_min(uint8_t type);
uint32_t gw_frame_max(uint8_t type);

/* A run of pages of one space. addr is page-aligned. */
struct gw_run {
	uint64_t addr;
	uint32_t npages;
	uint32_t flags; /* GW_RUN_* */
};
enum { GW_RUN_ZERO = 1 /* all bytes zero, no data in the frame */ };

/* PAGES payload: u32 space, u32 nruns, u32 codec (0 plain, 1 zstd), u32
 * raw_bytes, then nruns x 16 bytes (u64 addr, u32 npages, u32 flags), then
 * the data of all runs without GW_RUN_ZERO, in order (compressed as one
 * block when codec is zstd). DROP payload: u32 space, u32 nruns, runs. */
struct gw_pages_hdr {
	uint32_t space;
	uint32_t nruns;
	uint32_t codec;
	uint32_t raw_bytes; /* of the data before compression */
};
enum { GW_CODEC_PLAIN = 0, GW_CODEC_ZSTD = 1 };
enum { GW_PAGES_HDR_BYTES = 16, GW_RUN_BYTES = 16, GW_RUNS_MAX = 4096, GW_PAGES_RAW_MAX = 1 << 20 };

/* Writes GW_PAGES_HDR_BYTES + nruns * GW_RUN_BYTES; returns that count. */
size_t gw_pages_pack(const struct gw_pages_hdr *h, const struct gw_run *runs, uint8_t *out);
/* Checks everything: run count, page alignment, address below 2^57, sum of
 * the runs against raw_bytes, data length against codec. *out_data_at is an
 * offset into payload; runs are read with gw_run_unpack. */
int gw_pages_unpack(const uint8_t *payload, size_t len, struct gw_pages_hdr *out, size_t *out_data_at,
                    struct gw_err *e);
int gw_drop_unpack(const uint8_t *payload, size_t len, struct gw_pages_hdr *out, struct gw_err *e);
size_t gw_drop_pack(uint32_t space, const struct gw_run *runs, uint32_t nruns, uint8_t *out);
/* i-th run of a checked PAGES (runs start at GW_PAGES_HDR_BYTES) or DROP (at 8) payload. */
void gw_run_unpack(const uint8_t *runs_at, uint32_t i, struct gw_run *out);

/* BARRIER and BARRIER_ACK payload: u64 number. */
enum { GW_BARRIER_BYTES = 8 };
void gw_barrier_pack(uint64_t number, uint8_t out[GW_BARRIER_BYTES]);
int gw_barrier_unpack(const uint8_t *payload, size_t len, uint64_t *out_number, struct gw_err *e);

/* FILE payload: u16 name length, u16 flags (GW_FILE_LAST), u32 mode
 * (permission bits, the rest is masked off), u64 offset, name (no '/', no NUL, not "." or ".."), data. */
struct gw_file_hdr {
	char name[256];
	uint32_t mode;
	uint64_t offset;
	uint16_t flags;
};
enum { GW_FILE_LAST = 1 /* no more pieces of this file */ };
size_t gw_file_pack(const struct gw_file_hdr *h, uint8_t out[16 + 256]);
int gw_file_unpack(const uint8_t *payload, size_t len, struct gw_file_hdr *out, size_t *out_data_at, struct gw_err *e);
