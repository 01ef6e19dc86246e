#include "plug.h"

#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

char plug_out[4096];
yyjson_doc *plug_doc;
const char plug_ranges[] = "[\"10.88.0.0/24\",\"fd88::/64\"]";

const char *plug_conf(const char *version, const char *ranges, const char *more)
{
	static char text[16384];
	(void)snprintf(text, sizeof(text),
	               "{\"cniVersion\":\"%s\",\"name\":\"net\",\"type\":\"godwit-cni\",\"dataDir\":\"" PLUG_DIR
	               "\",\"ranges\":%s%s}",
	               version, ranges, more);
	return text;
}

int plug_call(const struct plug *p)
{
	static const char script[] = "/run/plug.json";
	char cmd[1024];
	const char *conf = p->conf ? p->conf : plug_conf("1.0.0", plug_ranges, "");
	FILE *f = fopen(script, "w");
	if (!f || fputs(conf, f) < 0 || fclose(f) != 0)
		fail_msg("write %s", script);
	(void)snprintf(cmd, sizeof(cmd),
	               "CNI_COMMAND=%s CNI_CONTAINERID=%s CNI_NETNS=%s%s CNI_IFNAME=%s CNI_PATH=/opt/cni/bin ip netns "
	               "exec %s %s <%s",
	               p->command, p->container ? p->container : "", p->netns ? "/run/netns/" : "",
	               p->netns ? p->netns : "", p->ifname ? p->ifname : "eth0", p->host, getenv("GODWIT_CNI"), script);
	FILE *out = popen(cmd, "r");
	if (!out)
		fail_msg("popen");
	size_t n = fread(plug_out, 1, sizeof(plug_out) - 1, out);
	plug_out[n] = 0;
	int st = pclose(out);
	yyjson_doc_free(plug_doc);
	plug_doc = NULL;
	if (n && gw_json_parse(plug_out, n, "the answer", &plug_doc, NULL) < 0)
		fail_msg("the answer is no JSON: %s", plug_out);
	return WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
}

void plug_ok(const struct plug *p)
{
	int rc = plug_call(p);
	if (rc != 0)
		fail_msg("%s %s: %d: %s", p->command, p->container ? p->container : "", rc, plug_out);
}

void plug_fails(const struct plug *p, int code, const char *words)
{
	int rc = plug_call(p);
	yyjson_val *obj = yyjson_doc_get_root(plug_doc);
	if (rc != 1 || gw_json_i64(obj, "code", -1) != code || !gw_json_str(obj, "cniVersion", NULL))
		fail_msg("%s: wanted code %d, got exit %d: %s", p->command, code, rc, plug_out);
	if (!strstr(gw_json_str(obj, "msg", ""), words) && !strstr(gw_json_str(obj, "details", ""), words))
		fail_msg("%s: \"%s\" is not in %s", p->command, words, plug_out);
}

const char *plug_ip(int family)
{
	static char text[2][64];
	static unsigned next;
	char *to = text[next++ % 2];
	size_t i, max;
	yyjson_val *v;
	yyjson_arr_foreach(yyjson_obj_get(yyjson_doc_get_root(plug_doc), "ips"), i, max, v)
	{
		const char *a = gw_json_str(v, "address", "");
		if ((strchr(a, ':') != NULL) != (family == AF_INET6))
			continue;
		(void)snprintf(to, 64, "%.*s", (int)strcspn(a, "/"), a);
		return to;
	}
	fail_msg("no address of family %d in %s", family, plug_out);
	return NULL;
}

const char *plug_add(const char *container)
{
	lab_sh("ip netns add %s", container);
	plug_ok(&(struct plug){.host = "hA", .command = "ADD", .container = container, .netns = container});
	return plug_ip(AF_INET);
}

void plug_del(const char *container)
{
	plug_ok(&(struct plug){.host = "hA", .command = "DEL", .container = container, .netns = container});
}

struct gw_addr plug_addr(const char *text)
{
	struct gw_addr a;
	if (gw_addr_parse(text, &a) < 0)
		fail_msg("%s", text);
	return a;
}

int plug_teardown(void **state)
{
	(void)state;
	yyjson_doc_free(plug_doc);
	plug_doc = NULL;
	lab_down();
	return 0;
}
