#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* record: TLS 1.3's record layer (RFC 8446, 5) for one direction of a
 * connection whose handshake OpenSSL has done.
 *
 * What OpenSSL's own does costs two copies and a walk through its state
 * machine for each 16 KiB. Here a record is sealed from where its data lies
 * into the buffer that goes to the kernel, and opened from the buffer that
 * came from there to where its data shall lie. On the wire it is the same.
 *
 * Pure: bytes in, bytes out, no I/O. One thread at a time per direction. */
enum {
	GW_RECORD_DATA = 16384, /* content of a record, at most */
	GW_RECORD_HEAD = 5,
	GW_RECORD_OVER = GW_RECORD_HEAD + 1 + 16,              /* what sealing adds: header, type, tag */
	GW_RECORD_MAX = GW_RECORD_HEAD + GW_RECORD_DATA + 256, /* as it may come in */
	GW_SECRET_MAX = 48
};

enum { GW_RECORD_ALERT = 21, GW_RECORD_HANDSHAKE = 22, GW_RECORD_APP = 23 };

/* A traffic secret (RFC 8446, 7.1) and what is done with it. Names as
 * OpenSSL's EVP_CIPHER_fetch and EVP_MD_fetch take them. */
struct gw_secret {
	const char *cipher, *digest;
	size_t len; /* of bytes */
	uint8_t bytes[GW_SECRET_MAX];
};

struct gw_record;

/* NULL: no memory, or OpenSSL does not have the cipher. */
struct gw_record *gw_record_new(const struct gw_secret *s, bool is_sealing);
void gw_record_free(struct gw_record *r);

/* The concatenation of iov (at most GW_RECORD_DATA bytes) as one record of
 * len + GW_RECORD_OVER bytes at out. -EIO: OpenSSL has failed. */
int gw_record_seal(struct gw_record *r, uint8_t type, const struct iovec *iov, unsigned niov, uint8_t *out);

/* What a record's header says is the length of all of it; -EPROTO when no
 * record of TLS 1.3 begins so. */
int gw_record_length(const uint8_t head[GW_RECORD_HEAD]);
/* How much content it has at most: that much room an opened one needs. */
static inline size_t gw_record_room(size_t record_len)
{
	return record_len - GW_RECORD_OVER;
}

/* Opens the whole record at rec to out, which is apart from rec or is its
 * content (rec + GW_RECORD_HEAD). -EPROTO: it is forged, or breaks the rules;
 * out is then to be forgotten. */
int gw_record_open(struct gw_record *r, const uint8_t *rec, size_t record_len, uint8_t *out, size_t *out_len,
                   uint8_t *out_type);

/* The next key, as after a KeyUpdate. -EIO: OpenSSL has failed. */
int gw_record_next_key(struct gw_record *r);
