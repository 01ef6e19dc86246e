#pragma once
#include <stdbool.h>

#include "base/gw_err.h"
#include "base/json.h"
#include "wire/conn.h"

/* msg: control messages, JSON objects in GW_F_MSG (docs/wire.md).
 *
 * Every message has "type". "error" carries {class, code, text} and becomes
 * the receiver's gw_err. Building: start, add to ->root, send. */
struct gw_msg {
	yyjson_mut_doc *doc;
	yyjson_mut_val *root;
};

struct gw_msg gw_msg_new(const char *type);
int gw_msg_send(struct gw_conn *c, struct gw_msg *m, struct gw_err *e); /* frees m */
int gw_msg_send_type(struct gw_conn *c, const char *type, struct gw_err *e);
int gw_msg_send_error(struct gw_conn *c, const struct gw_err *why, struct gw_err *e);

/* Parse a GW_F_MSG or GW_F_HELLO frame. *out_type is borrowed from *out. */
int gw_msg_parse(const struct gw_frame *f, yyjson_doc **out, const char **out_type, struct gw_err *e);
/* Receive; must be `type`. An "error" fills *e with the peer's reason. *out may be NULL. */
int gw_msg_expect(struct gw_conn *c, const char *type, int timeout_ms, yyjson_doc **out, struct gw_err *e);
/* Turn an error message into *e: returns its -errno. */
int gw_msg_to_err(yyjson_val *root, const char *peer, struct gw_err *e);

/* First frame of a connection, both ways: {version, role, mig, name}. */
int gw_hello_send(struct gw_conn *c, const char *role, const char *mig, struct gw_err *e);
int gw_hello_recv(struct gw_conn *c, int timeout_ms, char *out_role, size_t role_size, char *out_mig, size_t mig_size,
                  struct gw_err *e);
bool gw_mig_valid(const char *mig); /* hex and dashes (a UUID), 8 to 36 characters: safe in file names */
