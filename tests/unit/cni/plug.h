#pragma once
#include "base/json.h"
#include "lab.h"

/* plug: call the plugin as a container runtime does, on a lab host.
 *
 * The program is $GODWIT_CNI (the test's build puts it there). Owner: one test
 * program, one thread. */
#define PLUG_DIR "/run/cni" /* dataDir of hA; hB has /run/cniB */

struct plug {
	const char *host;      /* a lab host */
	const char *command;   /* "ADD" */
	const char *container; /* NULL: not given */
	const char *netns;     /* a name below /run/netns, NULL: not given */
	const char *ifname;    /* NULL: eth0 */
	const char *conf;      /* the whole JSON, NULL: plug_conf's */
};
/* A configuration for tests: CNI `version`, what `more` adds, e.g. ",\"mtu\":1400". Static buffer. */
const char *plug_conf(const char *version, const char *ranges, const char *more);
extern const char plug_ranges[]; /* 10.88.0.0/24 and fd88::/64 */

/* Its exit code; stdout into plug_out, parsed into plug_doc (NULL when it said nothing). */
int plug_call(const struct plug *p);
extern char plug_out[4096];
extern yyjson_doc *plug_doc;

/* The call must succeed, or fail with this code and these words in msg or details. */
void plug_ok(const struct plug *p);
void plug_fails(const struct plug *p, int code, const char *words);
/* ADD on hA into a new namespace of the container's name; the address of that family. Static buffers, two deep. */
const char *plug_add(const char *container);
const char *plug_ip(int family); /* of the last ADD, without prefix */
void plug_del(const char *container);
struct gw_addr plug_addr(const char *text); /* it must be one */
int plug_teardown(void **state);            /* of a group of tests */
