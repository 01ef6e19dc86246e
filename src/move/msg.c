#include "move/msg.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { PROTOCOL_VERSION = 1 };

struct gw_msg gw_msg_new(const char *type)
{
	struct gw_msg m = {.doc = yyjson_mut_doc_new(NULL)};
	m.root = yyjson_mut_obj(m.doc);
	yyjson_mut_doc_set_root(m.doc, m.root);
	yyjson_mut_obj_add_strcpy(m.doc, m.root, "type", type);
	return m;
}

static int send_as(struct gw_conn *c, enum gw_frame_type type, struct gw_msg *m, struct gw_err *e)
{
	size_t len;
	gw_auto(mem) char *text = gw_json_text(m->doc, &len);
	yyjson_mut_doc_free(gw_take(m->doc));
	if (len > GW_FRAME_JSON_MAX)
		return gw_fail(e, GW_INPUT, EMSGSIZE, "a control message of %zu bytes is over the limit of %d", len,
		               GW_FRAME_JSON_MAX);
	struct iovec v = {.iov_base = text, .iov_len = len};
	return gw_conn_send(c, type, &v, 1, e);
}

int gw_msg_send(struct gw_conn *c, struct gw_msg *m, struct gw_err *e)
{
	return send_as(c, GW_F_MSG, m, e);
}

int gw_msg_send_type(struct gw_conn *c, const char *type, struct gw_err *e)
{
	struct gw_msg m = gw_msg_new(type);
	return gw_msg_send(c, &m, e);
}

int gw_msg_send_error(struct gw_conn *c, const struct gw_err *why, struct gw_err *e)
{
	struct gw_msg m = gw_msg_new("error");
	yyjson_mut_obj_add_uint(m.doc, m.root, "class", (uint64_t)why->class);
	yyjson_mut_obj_add_uint(m.doc, m.root, "errno", (uint64_t)why->err);
	yyjson_mut_obj_add_strcpy(m.doc, m.root, "code", why->code);
	yyjson_mut_obj_add_strcpy(m.doc, m.root, "text", why->text);
	return gw_msg_send(c, &m, e);
}

int gw_msg_parse(const struct gw_frame *f, yyjson_doc **out, const char **out_type, struct gw_err *e)
{
	yyjson_doc *doc;
	if (f->type != GW_F_MSG && f->type != GW_F_HELLO)
		return gw_fail(e, GW_PEER, EPROTO, "frame type %d where a control message was expected", (int)f->type);
	int rc = gw_json_parse((const char *)f->payload, f->len, "control message", &doc, e);
	if (rc < 0)
		return rc;
	const char *type;
	rc = gw_json_need_str(yyjson_doc_get_root(doc), "type", &type, e);
	if (rc < 0) {
		yyjson_doc_free(doc);
		return gw_wrap(e, "control message");
	}
	*out = doc;
	*out_type = type;
	return 0;
}

int gw_msg_to_err(yyjson_val *root, const char *peer, struct gw_err *e)
{
	uint64_t class = gw_json_u64(root, "class", GW_PEER);
	uint64_t err = gw_json_u64(root, "errno", EIO);
	struct gw_err got = {.class = class > GW_OK && class <= GW_LOST ? (enum gw_class) class : GW_PEER,
	                     .err = err < 4096 ? (int)err : EIO};
	(void)snprintf(got.code, sizeof(got.code), "%s", gw_json_str(root, "code", ""));
	(void)snprintf(got.text, sizeof(got.text), "%s: %s", peer, gw_json_str(root, "text", "no reason given"));
	if (e)
		*e = got;
	return got.err ? -got.err : -EIO;
}

int gw_msg_expect(struct gw_conn *c, const char *type, int timeout_ms, yyjson_doc **out, struct gw_err *e)
{
	struct gw_frame f;
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	const char *got;
	int rc = gw_conn_recv(c, timeout_ms, &f, e);
	if (rc == -ETIMEDOUT)
		return gw_wrap(e, "%s did not answer with \"%s\" within %d ms", gw_conn_peer(c), type, timeout_ms);
	if (rc == 0)
		rc = gw_msg_parse(&f, &doc, &got, e);
	if (rc < 0)
		return rc;
	if (!strcmp(got, "error"))
		return gw_msg_to_err(yyjson_doc_get_root(doc), gw_conn_peer(c), e);
	if (strcmp(got, type) != 0)
		return gw_fail(e, GW_PEER, EPROTO, "%s says \"%s\" where \"%s\" was expected", gw_conn_peer(c), got,
		               type);
	if (out)
		*out = gw_take(doc);
	return 0;
}

int gw_hello_send(struct gw_conn *c, const char *role, const char *mig, struct gw_err *e)
{
	struct gw_msg m = gw_msg_new("hello");
	yyjson_mut_obj_add_uint(m.doc, m.root, "version", PROTOCOL_VERSION);
	yyjson_mut_obj_add_strcpy(m.doc, m.root, "role", role);
	yyjson_mut_obj_add_strcpy(m.doc, m.root, "mig", mig);
	yyjson_mut_obj_add_str(m.doc, m.root, "godwit", GODWIT_VERSION);
	return send_as(c, GW_F_HELLO, &m, e);
}

bool gw_mig_valid(const char *mig)
{
	size_t n = strlen(mig);
	return n >= 8 && n <= 36 && mig[0] != '-' && strspn(mig, "0123456789abcdef-") == n;
}

int gw_hello_recv(struct gw_conn *c, int timeout_ms, char *out_role, size_t role_size, char *out_mig, size_t mig_size,
                  struct gw_err *e)
{
	struct gw_frame f;
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	const char *type;
	int rc = gw_conn_recv(c, timeout_ms, &f, e);
	if (rc == 0 && f.type != GW_F_HELLO)
		rc = gw_fail(e, GW_PEER, EPROTO, "%s does not begin with a hello", gw_conn_peer(c));
	if (rc == 0)
		rc = gw_msg_parse(&f, &doc, &type, e);
	if (rc < 0)
		return rc;
	yyjson_val *o = yyjson_doc_get_root(doc);
	uint64_t version = gw_json_u64(o, "version", 0);
	if (version != PROTOCOL_VERSION)
		return gw_fail_code(e, GW_PEER, "VersionMismatch",
		                    "%s speaks protocol version %lu, this godwitd %d: update the older one",
		                    gw_conn_peer(c), (unsigned long)version, PROTOCOL_VERSION);
	const char *mig = gw_json_str(o, "mig", "");
	const char *role = gw_json_str(o, "role", "");
	if (!gw_mig_valid(mig) || strlen(mig) >= mig_size || strlen(role) >= role_size)
		return gw_fail(e, GW_PEER, EPROTO, "%s sent a hello with a bad migration id or role", gw_conn_peer(c));
	(void)snprintf(out_role, role_size, "%s", role);
	(void)snprintf(out_mig, mig_size, "%s", mig);
	return 0;
}
