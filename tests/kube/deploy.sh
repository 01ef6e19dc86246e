#!/usr/bin/env bash
# godwit as a user puts it on a cluster: the image, kubectl apply -f deploy/, a label;
# certificates, restarts, and removal that leaves the hosts as they were.
# --containerd of kube up: GODWIT_DEPLOY_CONTAINERD (1.6 or 2).
export GODWIT_LAB=${GODWIT_LAB_DEPLOY:-${GODWIT_LAB:-godwit-test}-deploy}
. "$(dirname "$0")/lib.sh"
CLIENTS=control
. "$(dirname "$0")/workloads.sh"
GW=$TOP/build/install/opt/godwit
[ -x "$GW/libexec/godwit/godwit-install" ] || skip_all "godwit is not built (tools/build)"
need_kube --cni none --bare --nodes a,b ${GODWIT_DEPLOY_CONTAINERD:+--containerd "$GODWIT_DEPLOY_CONTAINERD"}
plan 59
exec 3>&1
NODES=(node-a node-b)
ends() { # NAME PHASE
	retry 60 over "$1"
	phase_is "$1" "$2" || { kn get migration "$1" -o json | jq '.status | del(.network, .successor)'; k -n godwit-system logs -l app.kubernetes.io/name=godwitd --tail=8; return 1; }
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
ready() { [ "$(k get nodes --no-headers | grep -c ' Ready')" = 2 ]; }
serial() { on "$1" sh -c 'openssl x509 -in /run/godwit/tls/node.pem -noout -serial'; }
containerd_pid() { "$KUBE" service "$1" containerd pid; }

check "the image is made" "$TOP/tools/image" --no-build
check "and given to the nodes" "$KUBE" load "$TOP/build/image/godwit.tar"
for n in "${NODES[@]}"; do files_of "$n" >"$T/before-$n"; done

# ---- there
# Something of others is in the way on one node: it is not touched.
on node-b sh -c 'echo theirs >/opt/cni/bin/godwit-cni'
on node-a sh -c 'echo "{\"cniVersion\": \"1.0.0\", \"name\": \"other\", \"plugins\": [{\"type\": \"loopback\"}]}" >/etc/cni/net.d/99-other.conflist'
check "kubectl apply -f deploy/" k apply -f "$TOP/deploy/"
check "the nodes get their label" k label node "${NODES[@]}" live.godwit.dev/node=true
check "a node where somebody else's file is in the way says so" retry 60 condition_is node-b reason InTheWay
is "it is left as it was" "$(on node-b cat /opt/cni/bin/godwit-cni)" theirs
is "and an Event tells it" "$(k get events --field-selector involvedObject.kind=Node,involvedObject.name=node-b,reason=InTheWay -o json | jq '.items | length')" 1
check "a node with another network plugin says so" retry 60 condition_is node-a reason OtherNetwork
on node-a rm /etc/cni/net.d/99-other.conflist
on node-b rm /opt/cni/bin/godwit-cni
# Killed on its way, again and again.
for _ in 1 2 3 4; do sleep 0.5; gws delete pod "$(agent_on node-a)" --grace-period=0 --force >/dev/null 2>&1; done
check "out of the way, godwit is on all nodes" gws rollout status daemonset/godwitd --timeout=120s
check "with its network plugin the nodes are Ready" retry 60 ready
check "and so is the controller" gws rollout status deployment/godwit-controller --timeout=60s
for n in "${NODES[@]}"; do check "the condition GodwitReady of $n is True" retry 20 condition_is "$n" status True; done
is "containerd of node-a reads the runtime handler" "$(on node-a sh -c 'containerd --config /etc/containerd/config.toml config dump' | grep -c '/opt/godwit/bin/godwit-runtime')" 1
pids=$(for n in "${NODES[@]}"; do containerd_pid "$n"; done)

# ---- the Helm chart is the same manifests
values() { # JQ: the chart's own, changed
	{ printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: values}\nvalues:\n'; sed 's/^/  /' "$TOP/deploy/helm/values.yaml"; } |
		k create --dry-run=client --validate=false -o json -f - | jq ".values | $1" >"$T/values.json"
}
chart() { values "$1" && "$HERE/chart/render" "$T/values.json" >"$T/chart.yaml"; }
same() { chart . && k diff -f "$T/chart.yaml"; }
check "the chart with its defaults is what was applied" same
changed() {
	chart '.image = "registry.example/g:2" | .nodeSelector.pool = "live" | .controller.maxActive = 7 | .controller.replicas = 3 | .godwitd.network = false | .godwitd.args = ["--log-level=debug"] | .imagePullSecrets = [{name: "pull"}]' &&
		k create --dry-run=client -o json -f "$T/chart.yaml" >"$T/chart.json" || return 1
	[ "$(jq -s -r '[.[] | if .kind == "List" then .items[] else . end] | (.[] | select(.kind == "DaemonSet" and .metadata.name == "godwitd") | .spec.template.spec | .nodeSelector.pool, .containers[0].image, .imagePullSecrets[0].name, (.containers[0].command | join(" "))),
		(.[] | select(.kind == "Deployment") | .spec.replicas, (.spec.template.spec.containers[0].command | join(" ")))' "$T/chart.json" | tr '\n' '|')" = \
		'live|registry.example/g:2|pull|/opt/godwit/libexec/godwit/godwit-install run --node=$(NODE) --no-network -- --log-level=debug|3|/opt/godwit/bin/godwit-controller --metrics=0.0.0.0:9461 --max-active=7 --max-per-node=2|' ] || { tail -n 60 "$T/chart.yaml"; return 1; }
}
check "its values reach the manifests" changed

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
k label node node-b live.godwit.dev/node- >/dev/null
check "a godwitd that ends says so on its Node" retry 40 condition_is node-b reason NotRunning
k label node node-b live.godwit.dev/node=true >/dev/null
check "until it is there again" retry 60 condition_is node-b status True
gws delete pod "$(agent_on node-a)" --grace-period=0 --force >/dev/null 2>&1
check "a godwitd killed right after comes back" gws rollout status daemonset/godwitd --timeout=60s
check "the client kept its connection and its keys" content web

# ---- as the default runtime of the nodes
default() { # NODE FROM TO
	on "$1" sed -i "s/default_runtime_name = \"$2\"/default_runtime_name = \"$3\"/" /etc/containerd/config.toml && "$KUBE" service "$1" containerd restart
}
check "godwit becomes the default runtime of both nodes" eval 'default node-a runc godwit && default node-b runc godwit'
check "which are Ready" retry 60 ready
check "a bare pod that names no runtime starts" bare solo node-a
is "under none" "$(kn get pod solo -o 'jsonpath={.spec.runtimeClassName}')" ""
check "a client writes to it" client solo "$(pod_ip solo)"
check "commands run in it, its log is read" eval 'kn exec solo -- redis-cli ping && kn logs solo | grep . >/dev/null'
mig solo-1 solo node-b
check "it moves under its name" ends solo-1 Succeeded
check "its client kept its connection and its keys" content solo
kn delete pod solo --wait >/dev/null
check "node-a has its own again" default node-a godwit runc

# ---- gone
mig web-3 "$(pod_of web)" node-b
check "it moves once more, away from home" ends web-3 Succeeded
check "both nodes shall be left" k label node node-a node-b live.godwit.dev/node=remove --overwrite
waits() { condition_is "$1" reason InUse && condition "$1" message | tee "$T/waits" | grep -F "$2" || { cat "$T/waits"; return 1; }; }
check "which waits for the address that lives elsewhere" retry 80 waits node-a "a pod that moved from here runs on another node with the address $ip"
check "and node-b, whose pods would have no runtime" retry 80 condition_is node-b reason DefaultRuntime
check "it has its own again" default node-b godwit runc
gws delete pod -l app.kubernetes.io/name=godwit-remove --field-selector spec.nodeName=node-b >/dev/null
check "and node-b for the pod that runs there" retry 80 waits node-b "containers run under godwit's runtime"
check "the workload and the controller go" kn delete deployment web --wait
check "as a user takes it off the cluster" k delete -f "$TOP/deploy/50-controller.yaml" --wait
gone() { [ "$(gws get pods -l app.kubernetes.io/name=godwit-remove -o json | jq '[.items[].status.containerStatuses[]? | select(.ready)] | length')" = 2 ]; }
check "nothing of it is in use any more" retry 160 gone
for n in "${NODES[@]}"; do
	files_of "$n" >"$T/after-$n"
	check "$n is as it was before" diff "$T/before-$n" "$T/after-$n"
done
is "no node has the condition any more" "$(k get nodes -o json | jq -r '[.items[].status.conditions[] | select(.type == "GodwitReady")] | length')" 0
