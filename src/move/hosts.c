/* hosts: the file that says where the other godwitd are. Read at every use:
 * a changed file needs no restart. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "base/scope.h"
#include "move/daemon.h"
#include "move/msg.h"

enum { HOSTS_FILE_MAX = 1 << 20, HELLO_TIMEOUT_MS = 10000 };

static bool parse_line(char *line, struct gw_host *out)
{
	char name[128], addrs[128];
	unsigned port;
	line[strcspn(line, "#\n")] = 0;
	if (sscanf(line, "%127s %127s %u", name, addrs, &port) != 3 || port == 0 || port > 65535)
		return false;
	*out = (struct gw_host){.port = (uint16_t)port};
	(void)snprintf(out->name, sizeof(out->name), "%s", name);
	(void)snprintf(out->addrs, sizeof(out->addrs), "%s", addrs);
	addrs[strcspn(addrs, ",")] = 0;
	(void)snprintf(out->dial, sizeof(out->dial), "%.63s", addrs);
	return true;
}

int gw_host_find(const struct gw_daemon *d, const char *name, struct gw_host *out, struct gw_err *e)
{
	gw_auto(mem) char *text = NULL;
	int rc = gw_read_file(d->cfg.hosts_path, HOSTS_FILE_MAX, &text, NULL, e);
	if (rc < 0)
		return gw_wrap(e, "hosts file");
	char known[300] = "";
	char *save = NULL;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		struct gw_host h;
		if (!parse_line(line, &h))
			continue;
		if (!strcmp(h.name, name)) {
			*out = h;
			return 0;
		}
		size_t n = strlen(known);
		(void)snprintf(known + n, sizeof(known) - n, "%s%s", n ? ", " : "", h.name);
	}
	return gw_fail_code(e, GW_INPUT, "NoSuchHost", "no host \"%s\" in %s; known: %s", name, d->cfg.hosts_path,
	                    known[0] ? known : "none");
}

int gw_host_dial(struct gw_daemon *d, const struct gw_host *h, const char *role, const char *mig, int timeout_ms,
                 struct gw_conn **out, struct gw_err *e)
{
	struct gw_conn *c;
	char got_role[16], got_mig[40];
	int rc = gw_conn_dial(d->tls, h->dial, h->port, h->name, timeout_ms, &c, e);
	if (rc < 0)
		return gw_wrap(e, "reach %s", h->name);
	rc = gw_hello_send(c, role, mig, e);
	if (rc == 0)
		rc = gw_hello_recv(c, HELLO_TIMEOUT_MS, got_role, sizeof(got_role), got_mig, sizeof(got_mig), e);
	if (rc < 0) {
		gw_conn_free(c);
		return gw_wrap(e, "greet %s", h->name);
	}
	*out = c;
	return 0;
}
