#!/usr/bin/env bash
# Migration objects: Deployment, StatefulSet and bare pod move under clients that keep
# their connections; refusals, limits, cancellation; controller and agents killed.
export GODWIT_LAB=${GODWIT_LAB_MIG:-${GODWIT_LAB:-godwit-test}-mig}
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/install.sh"
. "$(dirname "$0")/workloads.sh"
[ -x "$GW/bin/godwit-controller" ] || skip_all "godwit is not built (tools/build)"
need_kube --cni none
plan 60
exec 3>&1 # for what is noted inside a check
events_of() { kn get events --field-selector "involvedObject.kind=$1,reason=$2" -o name | wc -l; }

put_godwit

# ---- a Deployment
check "a Deployment's pod starts" owned Deployment web node-a
web=$(pod_of web) ip=$(pod_ip "$(pod_of web)")
check "a client writes to it" client web "$ip"
check "a Migration is made" mig web-1 "$web" node-b
check "it succeeds" ends web-1 Succeeded
echo "# frozen $(st web-1 result.freezeMs) ms"
new=$(pod_of web)
is "the pod is on node-b" "$(node_of "$new")" node-b
is "with the address it had" "$(pod_ip "$new")" "$ip"
is "the ReplicaSet owns it" "$(kn get pod "$new" -o 'jsonpath={.metadata.ownerReferences[0].kind}')" ReplicaSet
gone() { ! kn get pod "$1" >/dev/null 2>&1; }
check "the old pod is gone" retry 20 gone "$web"
sleep 2
is "the ReplicaSet made no other pod" "$(events_of ReplicaSet SuccessfulCreate)" 1
is "nothing was started anew" "$(kn get pod "$new" -o 'jsonpath={.status.containerStatuses[0].restartCount}')" 0
check "the Deployment is whole" kn rollout status deployment/web --timeout=20s
check "it moves on to node-a" mig web-2 "$new" node-a
check "and succeeds" ends web-2 Succeeded
is "still under the address it had" "$(pod_ip "$(pod_of web)")" "$ip"
check "its client kept its connection and its keys" content web

# ---- a StatefulSet
check "a StatefulSet's pod starts under godwit's runtime" owned StatefulSet db node-a '.runtimeClassName = "godwit"'
ip=$(pod_ip db-0)
check "a client writes to it" client db "$ip"
check "a Migration is made" mig db-1 db-0 node-b
check "it succeeds" ends db-1 Succeeded
is "the pod is on node-b under its name" "$(node_of db-0)" node-b
is "with the address it had" "$(pod_ip db-0)" "$ip"
check "and Ready" kn wait --for=condition=Ready pod/db-0 --timeout=20s
is "the StatefulSet owns it" "$(kn get pod db-0 -o 'jsonpath={.metadata.ownerReferences[0].kind}')" StatefulSet
is "nothing was started anew" "$(kn get pod db-0 -o 'jsonpath={.status.containerStatuses[0].restartCount}')" 0
check "it moves home" mig db-2 db-0 node-a
check "and succeeds" ends db-2 Succeeded
check "its client kept its connection and its keys" content db

# ---- a bare pod, with the controller killed all the time
check "a bare pod starts" bare solo node-a '.runtimeClassName = "godwit"'
check "a client writes to it" client solo "$(pod_ip solo)"
mig solo-1 solo node-b
for _ in 1 2 3 4 5 6; do sleep 0.4; gw_controller_stop KILL; gw_controller; done
check "it moves although the controller is killed six times on the way" ends solo-1 Succeeded
is "to node-b" "$(node_of solo)" node-b
on node-a sh -c 'echo "dest-restored fail" >/run/godwit/fault'
mig solo-2 solo node-a
check "it moves back although its first restore fails: its object is gone, so it is tried again" ends solo-2 Succeeded
is "to node-a" "$(node_of solo)" node-a
on node-b sh -c 'echo "dest-restored failing" >/run/godwit/fault'
mig solo-3 solo node-b
still_trying() { [ "$(st solo-3 reason)" = StillTrying ]; }
check "when every restore fails, it tries on" retry 240 still_trying
check "while its process serves the client" answers solo
on node-b rm /run/godwit/fault
check "and moves when it can" ends solo-3 Succeeded
is "to node-b" "$(node_of solo)" node-b
check "its client kept its connection and its keys" content solo
kn delete pod solo --wait=false >/dev/null

# ---- what is refused, and why
check "to a node that does not exist: NoSuchNode" refused no-1 "$(pod_of web)" node-x NoSuchNode
check "to where it is: SameNode" refused no-2 "$(pod_of web)" "$(node_of "$(pod_of web)")" SameNode
check "a pod that does not exist: NoSuchPod" refused no-3 nobody node-b NoSuchPod
check "a bare pod of plain runc starts" bare plain node-a
check "whose name would have to stay: RuntimeNotGodwit" refused no-4 plain node-b RuntimeNotGodwit
check "a Deployment that asks for more than half of a node starts" owned Deployment big node-a '.containers[0].resources.requests.cpu = "1.2"'
check "another one on node-b" owned Deployment full node-b '.containers[0].resources.requests.cpu = "1.2"'
check "there is no room for both: NoCapacity" refused no-6 "$(pod_of big)" node-b NoCapacity
runs_on() { [ "$(kn get pods -l "app=$1" -o json | jq -r '[.items[] | select(.status.phase == "Running") | .spec.nodeName] | join(" ")')" = "$2" ]; }
check "it runs on, alone" runs_on big node-a
kn delete deployment big full --wait=false >/dev/null

# ---- called off
check "a client writes to the Deployment again" client web2 "$(pod_ip "$(pod_of web)")"
mig off-1 "$(pod_of web)" node-b '.spec.options.bandwidth = 20000'
check "a slow migration is under way" retry 20 phase_is off-1 PreCopy
kn patch migration off-1 --type=merge -p '{"spec":{"cancel":true}}' >/dev/null
check "and can be cancelled" ends off-1 Cancelled
targets() { [ -z "$(kn get pods -o json | jq -r '.items[] | select(.metadata.annotations["godwit.dev/migration"]) | select(.metadata.ownerReferences | not) | select(.metadata.name != "solo") | .metadata.name')" ]; }
check "its target is gone" retry 20 targets
mig off-2 "$(pod_of web)" node-b '.spec.options.bandwidth = 20000'
retry 20 phase_is off-2 PreCopy
check "another one is deleted on its way" kn delete migration off-2 --timeout=30s
check "its target is gone too" retry 20 targets
mig off-3 "$(pod_of web)" node-b '.spec.options.bandwidth = 20000'
retry 20 phase_is off-3 PreCopy
source=$(node_of "$(pod_of web)")
gw_stop "$source" KILL
gw_agent "$source"
check "a godwitd of the source that is killed in pre-copy takes it up again" retry 30 phase_is off-3 PreCopy
kn patch migration off-3 --type=merge -p '{"spec":{"cancel":true}}' >/dev/null
check "until it is cancelled" ends off-3 Cancelled
check "all that while the client lost nothing" content web2
check "nothing is left on any node" retry 20 nothing_left
is "and the ReplicaSet has still made one pod only" "$(kn get events --field-selector involvedObject.kind=ReplicaSet,reason=SuccessfulCreate -o json | jq -r '[.items[] | select(.involvedObject.name | startswith("web-"))] | length')" 1
