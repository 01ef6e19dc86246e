#!/usr/bin/env bash
# godwit as a user puts it on a cluster: the image, kubectl apply -f deploy/, a label;
# certificates, restarts, and removal that leaves the hosts as they were.
# --containerd of kube up: GODWIT_DEPLOY_CONTAINERD (1.6 or 2).
export GODWIT_LAB=${GODWIT_LAB_DEPLOY:-${GODWIT_LAB:-godwit-test}-deploy}
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/workloads.sh"
GW=$TOP/build/install/opt/godwit
[ -x "$GW/libexec/godwit/godwit-install" ] || skip_all "godwit is not built (tools/build)"
need_kube --cni none --bare ${GODWIT_DEPLOY_CONTAINERD:+--containerd "$GODWIT_DEPLOY_CONTAINERD"}
plan 44
exec 3>&1
NODES=(node-a node-b node-c)
LOAD=$GW/libexec/godwit/lab/lab-load
ends() { # NAME PHASE
	retry 60 over "$1"
	phase_is "$1" "$2" || { kn get migration "$1" -o json | jq '.status | del(.network, .successor)'; k -n godwit-system logs -l app.kubernetes.io/name=godwitd --tail=8; return 1; }
}
clients=()
client() { # NAME IP
	on node-c "$LOAD" --host "$2" --port 6379 --rate 500 --keys 2000 --seconds 0 --control "/run/load-$1.sock" >"$T/load-$1.end" 2>"$T/load-$1.err" &
	clients+=("$1:$!")
	started_loads+=($!)
	sleep 1
	on node-c "$LOAD" ctl "/run/load-$1.sock" peek >/dev/null
}
content() { # NAME: its connection and its keys
	local c
	for c in "${clients[@]}"; do
		[ "${c%:*}" = "$1" ] || continue
		on node-c "$LOAD" ctl "/run/load-$1.sock" stop >/dev/null
		wait "${c#*:}" && echo "# $1: $(jq -c '{wait_max_us, retransmits, timeouts}' "$T/load-$1.end")" >&3 && [ "$(jq -c '[.lost, .same_port]' "$T/load-$1.end")" = "[0,true]" ] || { cat "$T/load-$1.end" "$T/load-$1.err"; return 1; }
	done
}
# Everything on a host's own disk but logs: names, kinds, modes, owners, links, contents.
files_of() {
	on "$1" sh -c 'find / -xdev \( -path /tmp -o -path /run -o -path /var/log -o -path /var/cache -o -path /var/lib/cni \) -prune -o -type f -exec sha256sum {} + -o -printf "%p %y %m %U %G %l\n" | sort
		find / -xdev -path /tmp -prune -o -type f -printf "%p %m %U %G %s\n" | grep -v "^/var/log\|^/var/cache\|^/var/lib/cni\|^/run" | sort
		ls -d /run/godwit 2>/dev/null; ip route show proto 71; ip -6 route show proto 71; exit 0'
}
gws() { k -n godwit-system "$@"; }
condition() { k get node "$1" -o json | jq -r ".status.conditions[] | select(.type == \"GodwitReady\") | .$2"; }
condition_is() { [ "$(condition "$1" "$2")" = "$3" ] || { condition "$1" message; return 1; }; }
agent_on() { gws get pods -l app.kubernetes.io/name=godwitd --field-selector "spec.nodeName=$1" -o 'jsonpath={.items[0].metadata.name}'; }
ready() { [ "$(k get nodes --no-headers | grep -c ' Ready')" = 3 ]; }
serial() { on "$1" sh -c 'openssl x509 -in /run/godwit/tls/node.pem -noout -serial'; }
containerd_pid() { "$KUBE" service "$1" containerd pid; }

check "the image is made" "$TOP/tools/image" --no-build
check "and given to the nodes" "$KUBE" load "$TOP/build/image/godwit.tar"
for n in "${NODES[@]}"; do files_of "$n" >"$T/before-$n"; done

# ---- there
# Something of others is in the way on one node: it is not touched.
on node-c sh -c 'echo theirs >/opt/cni/bin/godwit-cni'
check "kubectl apply -f deploy/" k apply -f "$TOP/deploy/"
check "the nodes get their label" k label node "${NODES[@]}" live.godwit.dev/node=true
for _ in 1 2 3 4; do sleep 0.5; gws delete pod "$(agent_on node-b)" --grace-period=0 --force >/dev/null 2>&1; done
check "a node where somebody else's file is in the way says so" retry 60 condition_is node-c reason InTheWay
is "it is left as it was" "$(on node-c cat /opt/cni/bin/godwit-cni)" theirs
is "and an Event tells it" "$(k get events --field-selector involvedObject.kind=Node,involvedObject.name=node-c,reason=InTheWay -o json | jq '.items | length')" 1
on node-c rm /opt/cni/bin/godwit-cni
check "out of the way, godwit is on all nodes" gws rollout status daemonset/godwitd --timeout=120s
check "with its network plugin the nodes are Ready" retry 60 ready
check "and so is the controller" gws rollout status deployment/godwit-controller --timeout=60s
for n in "${NODES[@]}"; do check "the condition GodwitReady of $n is True" retry 20 condition_is "$n" status True; done
is "containerd of node-a reads the runtime handler" "$(on node-a sh -c 'containerd --config /etc/containerd/config.toml config dump' | grep -c '/opt/godwit/bin/godwit-runtime')" 1
pids=$(for n in "${NODES[@]}"; do containerd_pid "$n"; done)

# ---- certificates
check "the certificate of node-a is the cluster's authority's" on node-a sh -c 'openssl verify -CAfile /run/godwit/tls/ca.pem /run/godwit/tls/node.pem && openssl x509 -in /run/godwit/tls/node.pem -noout -ext subjectAltName | grep -qx " *DNS:node-a"'
csr() { # NAME HOST: asked for by the admin
	on control sh -c 'cd /tmp && openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout k.pem -subj /O=x -addext "subjectAltName=DNS:$0" 2>/dev/null' "$2" >"$T/csr"
	jq -n --arg n "$1" --arg r "$(base64 -w0 "$T/csr")" '{apiVersion: "certificates.k8s.io/v1", kind: "CertificateSigningRequest", metadata: {name: $n}, spec: {request: $r, signerName: "godwit.dev/node", usages: ["client auth"]}}' | k create -f - >/dev/null
}
check "somebody else asks for one" csr forged node-a
denied() { k get csr forged -o json | jq -e '.status.conditions[] | select(.type == "Denied") | .message | contains("only system:serviceaccount:godwit-system:godwitd may have one")'; }
check "and is denied, with the reason" retry 20 denied
api() { on control curl -s --cacert /etc/kubernetes/ca.crt -H "Authorization: Bearer $token" "$@"; }
token=$(gws create token godwitd --bound-object-kind Pod --bound-object-name "$(agent_on node-a)")
patch='{"status": {"conditions": [{"type": "GodwitReady", "status": "False", "reason": "Test", "message": ""}]}}'
says() { api -X PATCH -H 'Content-Type: application/strategic-merge-patch+json' -d "$2" "https://10.9.0.1:6443/api/v1/nodes/$1/status"; }
check "a godwitd can't speak for another node" has "of its own node only" says node-b "$patch"
check "nor say more of its own than its own condition" has "GodwitReady only" says node-a "${patch/GodwitReady/Ready}"

# ---- a pod moves
retry 60 kn get serviceaccount default >/dev/null
check "a Deployment's pod starts" owned Deployment web node-a '.runtimeClassName = "godwit"'
ip=$(pod_ip "$(pod_of web)")
check "a client writes to it" client web "$ip"
pages_cgroups() { # of what must outlive a godwitd, on node-b
	on node-b sh -c 'end=$(($(date +%s) + 40)); while [ $(date +%s) -lt $end ] && [ ! -e /run/stop-looking ]; do for p in $(pgrep -x "godwit-pages|godwit-guard"); do c=$(cat /proc/$p/cgroup) && echo "$p" $c; done; done; rm -f /run/stop-looking' >"$T/pages" 2>/dev/null
}
pages_cgroups &
look=$!
check "a Migration is made" mig web-1 "$(pod_of web)" node-b
check "it succeeds" ends web-1 Succeeded
echo "# frozen $(st web-1 result.freezeMs) ms"
on node-b touch /run/stop-looking
wait $look
is "the pod is on node-b" "$(node_of "$(pod_of web)")" node-b
is "under the address it had" "$(pod_ip "$(pod_of web)")" "$ip"
# Where each was when it was last seen: they leave as soon as they are there.
not_pods() { grep -q . "$T/pages" && ! awk '{last[$1] = $0} END {for (p in last) print last[p]}' "$T/pages" | grep kubepods; }
check "its page server was in no pod's cgroup" not_pods

# ---- restarts
check "the DaemonSet is restarted" gws rollout restart daemonset/godwitd
check "node by node" gws rollout status daemonset/godwitd --timeout=120s
is "containerd is not restarted for that" "$(for n in "${NODES[@]}"; do containerd_pid "$n"; done)" "$pids"
old=$(serial node-a)
on node-a rm /run/godwit/tls/node.pem
renewed() { [ "$(serial node-a)" != "$old" ]; }
check "a certificate is renewed while godwitd runs" retry 60 renewed
check "and is what the others accept: the pod moves back" mig web-2 "$(pod_of web)" node-a
check "successfully" ends web-2 Succeeded
gws delete pod "$(agent_on node-a)" --grace-period=0 --force >/dev/null 2>&1
check "a godwitd killed right after comes back" gws rollout status daemonset/godwitd --timeout=60s
check "the client kept its connection and its keys" content web

# ---- gone
check "node-a shall be left" k label node node-a live.godwit.dev/node=remove --overwrite
check "which waits for the pod that runs there" retry 60 condition_is node-a reason InUse
check "the workload and the controller go" kn delete deployment web --wait
check "as a user takes it off the cluster" k delete -f "$TOP/deploy/50-controller.yaml" --wait
check "the other nodes shall be left too" k label node node-b node-c live.godwit.dev/node=remove --overwrite
gone() { [ "$(gws get pods -l app.kubernetes.io/name=godwit-remove -o json | jq '[.items[].status.containerStatuses[]? | select(.ready)] | length')" = 3 ]; }
check "nothing of it is in use any more" retry 160 gone
for n in "${NODES[@]}"; do
	files_of "$n" >"$T/after-$n"
	check "$n is as it was before" diff "$T/before-$n" "$T/after-$n"
done
is "no node has the condition any more" "$(k get nodes -o json | jq -r '[.items[].status.conditions[] | select(.type == "GodwitReady")] | length')" 0
