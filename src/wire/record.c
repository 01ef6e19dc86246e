#include "wire/record.h"

#include <assert.h>
#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <stdlib.h>
#include <string.h>

enum { TAG = 16, NONCE = 12, KEY_MAX = 32 };

struct gw_record {
	EVP_CIPHER_CTX *ctx;
	EVP_CIPHER *cipher;
	struct gw_secret secret; /* of the key in use */
	bool is_sealing;
	uint8_t iv[NONCE];
	uint64_t seq;
};

/* RFC 8446, 7.1: HKDF-Expand-Label with an empty context. */
static int expand(const struct gw_secret *s, const char *label, uint8_t *out, size_t len)
{
	uint8_t info[64];
	size_t n = strlen(label), at = 0;
	assert(n + 10 <= sizeof(info));
	info[at++] = (uint8_t)(len >> 8);
	info[at++] = (uint8_t)len;
	info[at++] = (uint8_t)(6 + n);
	memcpy(info + at, "tls13 ", 6);
	memcpy(info + at + 6, label, n);
	at += 6 + n;
	info[at++] = 0;
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
	EVP_KDF_CTX *k = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
	int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
	/* OpenSSL's parameters are not const; these are only read. */
	OSSL_PARAM p[] = {
	        OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
	        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)(uintptr_t)s->digest, 0),
	        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)s->bytes, s->len),
	        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, at),
	        OSSL_PARAM_construct_end(),
	};
	int rc = k && EVP_KDF_derive(k, out, len, p) == 1 ? 0 : -EIO;
	EVP_KDF_CTX_free(k);
	EVP_KDF_free(kdf);
	return rc;
}

static int use_secret(struct gw_record *r)
{
	uint8_t key[KEY_MAX];
	size_t len = (size_t)EVP_CIPHER_get_key_length(r->cipher);
	if (len > sizeof(key) || EVP_CIPHER_get_iv_length(r->cipher) != NONCE)
		return -EIO;
	int rc = expand(&r->secret, "key", key, len);
	if (rc == 0)
		rc = expand(&r->secret, "iv", r->iv, sizeof(r->iv));
	if (rc == 0 && EVP_CipherInit_ex(r->ctx, r->cipher, NULL, key, NULL, r->is_sealing) != 1)
		rc = -EIO;
	OPENSSL_cleanse(key, sizeof(key));
	r->seq = 0;
	return rc;
}

struct gw_record *gw_record_new(const struct gw_secret *s, bool is_sealing)
{
	struct gw_record *r = calloc(1, sizeof(*r));
	if (!r)
		return NULL;
	r->secret = *s;
	r->is_sealing = is_sealing;
	r->ctx = EVP_CIPHER_CTX_new();
	r->cipher = EVP_CIPHER_fetch(NULL, s->cipher, NULL);
	if (r->ctx && r->cipher && use_secret(r) == 0)
		return r;
	gw_record_free(r);
	return NULL;
}

void gw_record_free(struct gw_record *r)
{
	if (!r)
		return;
	EVP_CIPHER_CTX_free(r->ctx);
	EVP_CIPHER_free(r->cipher);
	OPENSSL_cleanse(r, sizeof(*r));
	free(r);
}

int gw_record_next_key(struct gw_record *r)
{
	struct gw_secret next = r->secret;
	int rc = expand(&r->secret, "traffic upd", next.bytes, next.len);
	if (rc == 0) {
		r->secret = next;
		rc = use_secret(r);
	}
	OPENSSL_cleanse(&next, sizeof(next));
	return rc;
}

/* Nonce and additional data of the next record (5.2, 5.3). */
static int begin(struct gw_record *r, const uint8_t head[GW_RECORD_HEAD])
{
	uint8_t nonce[NONCE];
	int n;
	memcpy(nonce, r->iv, sizeof(nonce));
	for (unsigned i = 0; i < 8; i++)
		nonce[NONCE - 1 - i] ^= (uint8_t)(r->seq >> (8 * i));
	if (r->seq == UINT64_MAX || EVP_CipherInit_ex(r->ctx, NULL, NULL, NULL, nonce, -1) != 1 ||
	    EVP_CipherUpdate(r->ctx, NULL, &n, head, GW_RECORD_HEAD) != 1)
		return -EIO;
	r->seq++;
	return 0;
}

int gw_record_seal(struct gw_record *r, uint8_t type, const struct iovec *iov, unsigned niov, uint8_t *out)
{
	size_t len = 0;
	for (unsigned i = 0; i < niov; i++)
		len += iov[i].iov_len;
	assert(len <= GW_RECORD_DATA);
	size_t inner = len + 1 + TAG;
	const uint8_t head[GW_RECORD_HEAD] = {GW_RECORD_APP, 3, 3, (uint8_t)(inner >> 8), (uint8_t)inner};
	memcpy(out, head, sizeof(head));
	out += sizeof(head);
	int n;
	if (begin(r, head) < 0)
		return -EIO;
	for (unsigned i = 0; i < niov; i++) {
		if (EVP_CipherUpdate(r->ctx, out, &n, iov[i].iov_base, (int)iov[i].iov_len) != 1)
			return -EIO;
		out += n;
	}
	if (EVP_CipherUpdate(r->ctx, out, &n, &type, 1) != 1)
		return -EIO;
	out += n;
	if (EVP_CipherFinal_ex(r->ctx, out, &n) != 1 ||
	    EVP_CIPHER_CTX_ctrl(r->ctx, EVP_CTRL_AEAD_GET_TAG, TAG, out) != 1)
		return -EIO;
	return 0;
}

int gw_record_length(const uint8_t head[GW_RECORD_HEAD])
{
	int len = head[3] << 8 | head[4];
	if (head[0] != GW_RECORD_APP || head[1] != 3 || len < 1 + TAG || len > GW_RECORD_DATA + 256)
		return -EPROTO;
	return GW_RECORD_HEAD + len;
}

int gw_record_open(struct gw_record *r, const uint8_t *rec, size_t record_len, uint8_t *out, size_t *out_len,
                   uint8_t *out_type)
{
	uint8_t tag[TAG], type, none[TAG];
	size_t len = gw_record_room(record_len);
	int n;
	if (begin(r, rec) < 0)
		return -EIO;
	rec += GW_RECORD_HEAD;
	memcpy(tag, rec + len + 1, TAG);
	if (EVP_CipherUpdate(r->ctx, out, &n, rec, (int)len) != 1 ||
	    EVP_CipherUpdate(r->ctx, &type, &n, rec + len, 1) != 1 ||
	    EVP_CIPHER_CTX_ctrl(r->ctx, EVP_CTRL_AEAD_SET_TAG, TAG, tag) != 1)
		return -EIO;
	if (EVP_CipherFinal_ex(r->ctx, none, &n) != 1)
		return -EPROTO;
	/* Behind the type there may be zeros, as many as the sender likes (5.4). */
	while (type == 0 && len)
		type = out[--len];
	if (type == 0 || len > GW_RECORD_DATA)
		return -EPROTO;
	*out_len = len;
	*out_type = type;
	return 0;
}
