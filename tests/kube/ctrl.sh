#!/usr/bin/env bash
# What godwit-controller does besides moving: counts, Events, metrics, KIND/NAME, Jobs,
# Services that never lose their endpoint, disruption budgets, limits.
export GODWIT_LAB=${GODWIT_LAB_CTRL:-${GODWIT_LAB:-godwit-test}-ctrl}
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/install.sh"
. "$(dirname "$0")/workloads.sh"
[ -x "$GW/bin/godwit-controller" ] || skip_all "godwit is not built (tools/build)"
need_kube --cni none
plan 9
kg() { k godwit "$@" -n "$NS"; }

check "godwit is put on the cluster as deploy/ says" gw_cluster
ready() { [ "$(k get nodes --no-headers | grep -c ' Ready')" = 3 ]; }
check "its nodes are Ready" retry 120 ready
retry 60 kn get serviceaccount default
as_accounts() {
	local n
	as_account control godwit-controller && gw_controller || return 1
	for n in "${NODES[@]}"; do as_account "$n" godwitd && gw_stop "$n" TERM && gw_agent "$n" && retry 20 gw_up "$n" || return 1; done
}
check "its programs get their own accounts, with the rights of deploy/20-rbac.yaml" as_accounts

# ---- requests to the API server are counted
check "a Deployment's pod starts" owned Deployment web node-a
mig web-1 "$(pod_of web)" node-b
check "it moves" ends web-1 Succeeded
counted() { # NAME
	kn get migration "$1" -o json | jq -e '.status | (.requests.controller > 5) and (.requests.agents >= 2) and (.result.apiRequests == .requests.controller + .requests.agents)' >/dev/null || { kn get migration "$1" -o json | jq .status; return 1; }
}
check "the requests made for it are counted" counted web-1
echo "# API requests: $(st web-1 result.apiRequests)"
check "and kubectl godwit status tells them" has "$(st web-1 result.apiRequests) API requests" kg status web-1
mig web-2 "$(pod_of web)" node-x
check "one that fails" ends web-2 Failed
counted_too() { [ "$(st web-2 result.apiRequests)" -gt 3 ]; }
check "tells them as well" retry 10 counted_too
