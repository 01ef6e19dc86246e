#include "kube/address_lease.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define COPY(to, from) (void)snprintf(to, sizeof(to), "%s", from)

void gw_address_lease_name(const char *address, char out[64])
{
	(void)snprintf(out, 64, "%s", address);
	for (char *c = out; *c; c++)
		if (*c == ':')
			*c = '-';
}

int gw_address_lease_parse(yyjson_val *object, struct gw_address_lease *out)
{
	struct gw_address_lease l = {0};
	yyjson_val *meta = yyjson_obj_get(object, "metadata"), *spec = yyjson_obj_get(object, "spec"),
	           *pod = yyjson_obj_get(spec, "pod");
	COPY(l.name, gw_json_str(meta, "name", ""));
	COPY(l.uid, gw_json_str(meta, "uid", ""));
	COPY(l.address, gw_json_str(spec, "address", ""));
	COPY(l.node, gw_json_str(spec, "node", ""));
	COPY(l.namespace, gw_json_str(pod, "namespace", ""));
	COPY(l.pod, gw_json_str(pod, "name", ""));
	COPY(l.pod_uid, gw_json_str(pod, "uid", ""));
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(spec, "nodeAddresses"));
	for (yyjson_val *v; (v = yyjson_arr_iter_next(&it));) {
		size_t n = strlen(l.node_addresses);
		(void)snprintf(l.node_addresses + n, sizeof(l.node_addresses) - n, "%s%s", n ? "," : "",
		               yyjson_get_str(v) ?: "");
	}
	if (!l.address[0] || !l.node[0])
		return -EINVAL;
	*out = l;
	return 0;
}

yyjson_mut_doc *gw_address_lease_doc(const struct gw_address_lease *l)
{
	char list[sizeof(l->node_addresses)], *save = NULL;
	yyjson_mut_doc *doc = gw_status_new();
	yyjson_mut_val *o = yyjson_mut_doc_get_root(doc), *meta = yyjson_mut_obj(doc), *spec = yyjson_mut_obj(doc),
	               *pod = yyjson_mut_obj(doc), *via = yyjson_mut_arr(doc);
	COPY(list, l->node_addresses);
	for (char *one = strtok_r(list, ",", &save); one; one = strtok_r(NULL, ",", &save))
		yyjson_mut_arr_add_strcpy(doc, via, one);
	yyjson_mut_obj_add_str(doc, o, "apiVersion", "godwit.dev/v1alpha1");
	yyjson_mut_obj_add_str(doc, o, "kind", "AddressLease");
	yyjson_mut_obj_add_strcpy(doc, meta, "name", l->name);
	yyjson_mut_obj_add_strcpy(doc, spec, "address", l->address);
	yyjson_mut_obj_add_strcpy(doc, spec, "node", l->node);
	yyjson_mut_obj_add_val(doc, spec, "nodeAddresses", via);
	yyjson_mut_obj_add_strcpy(doc, pod, "namespace", l->namespace);
	yyjson_mut_obj_add_strcpy(doc, pod, "name", l->pod);
	yyjson_mut_obj_add_strcpy(doc, pod, "uid", l->pod_uid);
	yyjson_mut_obj_add_val(doc, spec, "pod", pod);
	yyjson_mut_obj_add_val(doc, o, "metadata", meta);
	yyjson_mut_obj_add_val(doc, o, "spec", spec);
	return doc;
}
