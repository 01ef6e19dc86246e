/* fuzz_cni: the CNI plugin's configuration, fed with anything.
 *
 *   CC=clang meson setup build-fuzz -Dfuzz=true
 *   ninja -C build-fuzz fuzz/fuzz_cni
 *   build-fuzz/fuzz/fuzz_cni -max_len=4096 fuzz/corpus/cni
 *
 * The first byte says which command. Beside "no bad access": a refusal has a
 * code of its own and words, and what is taken is what the rest relies on. */
#include <stdlib.h>
#include <string.h>

#include "cni/config.h"
#include "cni/result.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void refused_well(int rc, const struct gw_err *e, const char *version)
{
	must(rc < 0 && e->text[0] && e->code[0] && gw_cni_code(e->code) != 100);
	gw_auto(mem) char *text = gw_cni_error_text(version, e);
	must(text[0] == '{');
}

static void taken_well(const struct gw_cni_conf *c, enum gw_cni_command command)
{
	must(c->version &&
	     (command == GW_CNI_VERSION || (c->data_dir[0] == '/' && gw_cni_is_name(c->name, GW_CNI_ID_MAX))));
	must(c->nranges <= GW_CNI_RANGES_MAX);
	for (unsigned i = 0; i < c->nranges; i++)
		must(c->ranges[i].prefix <= (c->ranges[i].family == AF_INET ? 32 : 128));
	if (c->migration)
		must(c->arriving.naddrs > 0 && c->arriving.naddrs <= GW_POD_ADDRS_MAX && c->arriving.ifname[0]);
	if (command == GW_CNI_ADD && c->migration) {
		gw_auto(mem) char *text = gw_cni_added_text(c, "/run/netns/x", &c->arriving);
		must(text[0] == '{');
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	enum gw_cni_command command = (enum gw_cni_command)(data[0] % (GW_CNI_VERSION + 1));
	gw_auto(cni_conf) struct gw_cni_conf c = {0};
	struct gw_err e = {0};
	int rc = gw_cni_conf_parse((const char *)data + 1, size - 1, command, &c, &e);
	if (rc < 0)
		refused_well(rc, &e, c.version);
	else
		taken_well(&c, command);
	return 0;
}
