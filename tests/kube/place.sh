#!/usr/bin/env bash
# A target keeps its place like any pod: quota, taints, anti-affinity and spread decide;
# pods that belong to their node stay. And what one does with a pod goes on with a moved
# one: resources changed in place, attach, what kubelet says of its use.
export GODWIT_LAB=${GODWIT_LAB_PLACE:-${GODWIT_LAB:-godwit-test}-place}
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/install.sh"
. "$(dirname "$0")/workloads.sh"
[ -x "$GW/bin/godwit-controller" ] || skip_all "godwit is not built (tools/build)"
need_kube --cni none
plan 49
exec 3>&1 # for what is noted inside a check
# One pod of it, where it was, never begun anew: it was not touched.
as_before() { [ "$(kn get pods -l "app=$1" -o json | jq -r '[.items[] | select(.metadata.deletionTimestamp | not) | "\(.metadata.name) \(.spec.nodeName) \(.status.containerStatuses[0].restartCount)"] | join(",")')" = "$2 $3 0" ] || { kn get pods -l "app=$1" -o wide; return 1; }; }

put_godwit

# ---- the scheduler and the API server have the last word
check "a Deployment's pod starts" owned Deployment web node-a '.runtimeClassName = "godwit"'
web=$(pod_of web)
check "a client writes to it" client web "$(pod_ip "$web")"
kn create quota one --hard=pods=1 >/dev/null
quota_counts() { [ "$(kn get quota one -o 'jsonpath={.status.used.pods}')" = 1 ]; }
check "a quota allows one pod" retry 40 quota_counts
check "which a target would exceed: NoCapacity" refused quota-1 "$web" node-b NoCapacity "exceeded quota"
kn delete quota one >/dev/null
check "it was not touched" as_before web "$web" node-a
k taint node node-b test=yes:NoSchedule >/dev/null
check "node-b has a taint that it does not bear: NoCapacity" refused taint-1 "$web" node-b NoCapacity taint
check "it was not touched" as_before web "$web" node-a
check "one that bears it starts" owned Deployment bears node-a '.runtimeClassName = "godwit" | .tolerations = [{key: "test", operator: "Exists"}]'
check "and moves there" move taint-2 "$(pod_of bears)" node-b
k taint node node-b test- >/dev/null
kn delete deployment bears --wait=false >/dev/null
check "a pod that wants no other of its kind beside it starts" owned Deployment alone node-a '.runtimeClassName = "godwit" | .affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution = [{labelSelector: {matchLabels: {kind: "alone"}}, topologyKey: "kubernetes.io/hostname"}]'
check "one of that kind is on node-b" bare other node-b '.runtimeClassName = "godwit"'
kn label pod other kind=alone >/dev/null
check "so it cannot go there: NoCapacity" refused alone-1 "$(pod_of alone)" node-b NoCapacity anti-affinity
check "but elsewhere" move alone-2 "$(pod_of alone)" node-c
kn delete deployment/alone pod/other --wait=false >/dev/null
spread='.runtimeClassName = "godwit" | .topologySpreadConstraints = [{maxSkew: 1, topologyKey: "kubernetes.io/hostname", whenUnsatisfiable: "DoNotSchedule", labelSelector: {matchLabels: {app: "wide"}}}]'
check "a Deployment spreads over the nodes" owned Deployment wide node-a "$spread"
kn scale deployment wide --replicas=2 >/dev/null
kn rollout status deployment/wide --timeout=60s >/dev/null
read -r first second < <(kn get pods -l app=wide -o 'jsonpath={.items[*].metadata.name}')
check "with two pods on two nodes" test "$(node_of "$first")" != "$(node_of "$second")"
check "both on one would be too uneven: NoCapacity" refused wide-1 "$first" "$(node_of "$second")" NoCapacity "spread"
kn delete deployment wide --wait=false >/dev/null
# An admission policy that came after the pod: its successor under the same name would be refused.
policy() {
	jq -n --arg name "no-$NS" --arg ns "$NS" '{apiVersion: "v1", kind: "List", items: [
		{apiVersion: "admissionregistration.k8s.io/v1", kind: "ValidatingAdmissionPolicy", metadata: {name: $name}, spec: {failurePolicy: "Fail", validations: [{expression: "!has(object.metadata.labels) || !(\"app\" in object.metadata.labels) || object.metadata.labels[\"app\"] != \"single\"", message: "no more of these"}],
		 matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: ["v1"], operations: ["CREATE"], resources: ["pods"]}], namespaceSelector: {matchLabels: {"kubernetes.io/metadata.name": $ns}}}}},
		{apiVersion: "admissionregistration.k8s.io/v1", kind: "ValidatingAdmissionPolicyBinding", metadata: {name: $name}, spec: {policyName: $name, validationActions: ["Deny"]}}]}' | k apply -f - >/dev/null
}
probe() { jq -n --argjson spec "$spec" '{apiVersion: "v1", kind: "Pod", metadata: {name: "probe", labels: {app: "single"}}, spec: $spec}' | kn create --dry-run=server -f -; }
check "a pod whose name has to stay starts" bare single node-a '.runtimeClassName = "godwit"'
check "then a policy lets no more of its kind in" policy
check "and holds" retry 60 has "no more of these" probe
check "its object is not given up: TargetRefused" refused single-1 single node-b TargetRefused "no more of these"
check "it was not touched" as_before single single node-a
k delete validatingadmissionpolicybinding,validatingadmissionpolicy "no-$NS" >/dev/null
kn delete pod single --wait=false >/dev/null

# ---- pods that belong to their node
daemons() {
	jq -n --argjson spec "$spec" '{apiVersion: "apps/v1", kind: "DaemonSet", metadata: {name: "every"}, spec: {selector: {matchLabels: {app: "every"}}, template: {metadata: {labels: {app: "every"}}, spec: $spec}}}' |
		kn apply -f - >/dev/null && kn rollout status daemonset/every --timeout=60s
}
check "a DaemonSet has its pods" daemons
check "which stay: DaemonSet" refused daemon-1 "$(kn get pods -l app=every -o json | jq -r '.items[] | select(.spec.nodeName == "node-a").metadata.name')" node-b DaemonSet
kn delete daemonset every --wait=false >/dev/null
static_pod() {
	jq -n --arg ns "$NS" --argjson spec "$spec" '{apiVersion: "v1", kind: "Pod", metadata: {name: "static", namespace: $ns}, spec: $spec}' | on node-a sh -c 'mkdir -p /etc/kubernetes/manifests && cat >/etc/kubernetes/manifests/static.json'
	retry 120 kn wait --for=condition=Ready pod/static-node-a --timeout=1s
}
check "a static pod starts" static_pod
check "and stays: StaticPod" refused static-1 static-node-a node-b StaticPod
on node-a rm /etc/kubernetes/manifests/static.json
check "a pod in its node's network starts" bare hostnet node-a '.hostNetwork = true | .containers[0].args += ["--port", "7777"] | .containers[0].readinessProbe.tcpSocket.port = 7777'
check "and stays: HostNetwork" refused host-1 hostnet node-b HostNetwork
kn delete pod hostnet --wait=false >/dev/null
check "all that while the client of the first one lost nothing" content web

# ---- resources changed in place
MIB=$((1 << 20))
limit_of() { on "$(node_of "$1")" runc --root /run/containerd/runc/k8s.io state "$(cid "$1")" >"$T/state" && on "$(node_of "$1")" sh -c 'p=$1; c=$(sed -n "s/^[0-9]*:memory://p" /proc/$p/cgroup); u=$(sed -n "s/^0:://p" /proc/$p/cgroup)
	cat "/sys/fs/cgroup/memory$c/memory.limit_in_bytes" 2>/dev/null || cat "/sys/fs/cgroup$u/memory.max"' sh "$(jq .pid "$T/state")"; }
resize() { kn patch pod "$1" --subresource resize --type=strategic -p "{\"spec\": {\"containers\": [{\"name\": \"redis\", \"resources\": {\"requests\": {\"memory\": \"$2Mi\"}, \"limits\": {\"memory\": \"$2Mi\"}}}]}}" >/dev/null; }
limit_is() { [ "$(limit_of "$1")" = $(($2 * MIB)) ] || { limit_of "$1"; kn get pod "$1" -o json | jq '.status | {resize, conditions, c: [.containerStatuses[] | {resources, allocatedResources}]}'; return 1; }; }
small='.runtimeClassName = "godwit" | .containers[0].resources = {requests: {memory: "100Mi"}, limits: {memory: "100Mi"}}'
check "a StatefulSet's pod with 100 MiB starts" owned StatefulSet db node-a "$small"
check "a client writes to it" client db "$(pod_ip db-0)"
is "its container has them" "$(limit_of db-0)" $((100 * MIB))
check "it is given 200" resize db-0 200
check "and has them, in place" retry 60 limit_is db-0 200
check "it moves" move db-1 db-0 node-b
is "with its 200 MiB" "$(limit_of db-0)" $((200 * MIB))
check "there it is given 150" resize db-0 150
check "and has them" retry 60 limit_is db-0 150
check "it moves home" move db-2 db-0 node-a
is "with its 150 MiB" "$(limit_of db-0)" $((150 * MIB))
check "its client kept its connection and its keys" content db
is "nothing was started anew" "$(kn get pod db-0 -o 'jsonpath={.status.containerStatuses[0].restartCount}')" 0
used() { k get --raw "/api/v1/nodes/$(node_of db-0)/proxy/stats/summary" | jq -e --arg ns "$NS" '.pods[] | select(.podRef.name == "db-0" and .podRef.namespace == $ns) | .containers[0] | .memory.workingSetBytes > 0 and .cpu.usageCoreNanoSeconds > 0'; }
check "kubelet tells what it uses" retry 60 used

# ---- attach
check "a pod that speaks starts" bare speaker node-a '.runtimeClassName = "godwit" | .containers = [{name: "c", image: "kube.test/busybox:1", command: ["sh", "-c", "while :; do n=$((n + 1)); echo \"number $n\"; sleep 0.1; done"]}]'
hears() { timeout -s INT 3 "$KST/kubectl" -n "$NS" attach speaker 2>/dev/null >"$T/heard"; grep '^number' "$T/heard" | tail -n 3 | wc -l | grep -qx 3; }
check "kubectl attach hears it" hears
last=$(tail -n 1 "$T/heard" | tr -dc 0-9)
check "it moves" move speaker-1 speaker node-b
check "kubectl attach hears it there" hears
check "where it goes on counting" test "$(tail -n 1 "$T/heard" | tr -dc 0-9)" -gt "$last"
