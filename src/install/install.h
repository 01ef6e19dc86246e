#pragma once
#include <stdbool.h>

#include "base/gw_err.h"

/* install: godwit's part of a host, put there and taken away.
 *
 *   /opt/godwit/releases/ID   programs and libraries of one version, from the image
 *   /opt/godwit/now           which of them counts; bin, lib and libexec lead there
 *   /opt/cni/bin, /etc/cni/net.d/10-godwit.conflist     the network plugin
 *   containerd's settings     the runtime handler godwit
 *   /run/godwit, /var/lib/godwit     godwitd's and the plugin's state
 *   /opt/godwit/installed.json       the record of all this (record.h)
 *
 * Called inside the host (host.h). May be killed at any point and called again;
 * what is in place already is left alone, so a call that finds everything in
 * order changes nothing and restarts nothing. Files of others are never
 * replaced ("InTheWay"). Errors carry a reason code for the Node's condition:
 * OldKernel, NoCgroups, NoRunc, NoContainerd, CriuFails, NoPodRanges,
 * OtherNetwork, InTheWay, BadSettings, NoRestart. */
struct gw_install {
	int image;             /* the image's /opt/godwit, a descriptor */
	const char *ranges[2]; /* the node's podCIDRs; "" */
	bool no_network;       /* somebody else cares for the network plugin */
};
#define GW_HOME "/opt/godwit"

/* out_runc_root: where containerd's runc keeps its state. */
int gw_install(const struct gw_install *o, char *out_runc_root, size_t size, struct gw_err *e);

/* "InUse" while containers run under godwit's runtime or pods have addresses of
 * its plugin; away (NULL: nobody) is asked whether a pod that moved away still
 * has this address. */
int gw_uninstall(bool (*away)(void *ctx, const char *address), void *ctx, struct gw_err *e);
bool gw_is_installed(void);
