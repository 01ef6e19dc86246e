#pragma once
#include "base/gw_err.h"
#include "cni/config.h"

/* result: what a CNI plugin answers on stdout.
 *
 * Source: the CNI specification, "Result types" and "Error codes". Each
 * text is malloc'd, one line, and the caller's to free.
 *
 *   reason           CNI code
 *   BadVersion          1     the configuration's cniVersion
 *   UnsupportedField    2
 *   UnknownContainer    3     its namespace is gone
 *   BadEnvironment      4     CNI_*
 *   IoFailure           5     stdin or stdout
 *   BadJson             6
 *   BadConfig           7
 *   TryAgain           11     another call holds the lock for too long
 *   NotReady           50     STATUS: no ADD could be served
 *   NoFreeAddress     101
 *   AddressInUse      102
 *   AddressAway       103     CHECK: the pod lives on another host
 *   Damaged           104     CHECK
 *   BadMigration      105     the annotations of a pod that moves in
 *   AlreadyAttached   106
 *   NoForwarding      107
 *   anything else     100     the kernel or the disk said no: the words say what */
int gw_cni_code(const char *reason);

/* version NULL: the newest. */
char *gw_cni_error_text(const char *version, const struct gw_err *e);
char *gw_cni_version_text(const char *version);
/* p->host_ifname: this host's end. */
char *gw_cni_added_text(const struct gw_cni_conf *c, const char *netns, const struct gw_pod *p);
