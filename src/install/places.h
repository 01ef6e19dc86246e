#pragma once
#include "install/install.h"

/* Where things are on a host. */
#define RECORD        GW_HOME "/installed.json"
#define CNI_BIN       "/opt/cni/bin"
#define CNI_NET       "/etc/cni/net.d"
#define CONFLIST_NAME "10-godwit.conflist"
#define CONFLIST      CNI_NET "/" CONFLIST_NAME
#define STATE_RUN     "/run/godwit"
#define STATE_CNI     "/var/lib/godwit"
