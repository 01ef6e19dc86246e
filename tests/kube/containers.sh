#!/usr/bin/env bash
# Pods of several containers move in one freeze: both clients keep their connections,
# what the containers say to each other is not lost, a failure leaves all where they were.
export GODWIT_LAB=${GODWIT_LAB_TWO:-${GODWIT_LAB:-godwit-test}-two}
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/install.sh"
. "$(dirname "$0")/workloads.sh"
[ -x "$GW/bin/godwit-controller" ] || skip_all "godwit is not built (tools/build)"
need_kube --cni none
plan 34
exec 3>&1 # for what is noted inside a check

# Two redis and a third container that talks to the first over localhost, five times a second.
spec='{"terminationGracePeriodSeconds": 5, "runtimeClassName": "godwit", "initContainers": [{"name": "init", "image": "kube.test/busybox:1", "command": ["sh", "-c", "echo once >>/shared/init"], "volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}],
	"containers": [
	{"name": "one", "image": "kube.test/redis:1", "args": ["--save", "", "--appendonly", "no", "--protected-mode", "no"], "readinessProbe": {"tcpSocket": {"port": 6379}, "periodSeconds": 1}, "volumeMounts": [{"name": "shared", "mountPath": "/shared"}]},
	{"name": "two", "image": "kube.test/redis:1", "args": ["--port", "6380", "--save", "", "--appendonly", "no", "--protected-mode", "no"], "volumeMounts": [{"name": "shared", "mountPath": "/shared"}]},
	{"name": "talk", "image": "kube.test/busybox:1", "command": ["sh", "-c", "while :; do n=$((n + 1)); echo \"incr talk\"; echo $n >/shared/n; sleep 0.2; done | nc 127.0.0.1 6379 >>/shared/log"], "volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}],
	"volumes": [{"name": "shared", "emptyDir": {}}]}'
restarts() { # with what ended, when something has
	kn get pod "$1" -o json | jq -c '[.status.containerStatuses[].restartCount] + [.status.containerStatuses[].lastState.terminated | select(.) | {exitCode, signal, finishedAt}]'
}
in_pod() { kn exec "$1" -c "$2" -- sh -c "$3"; }
# Its answers are 1, 2, 3...: none is missing, none came twice.
talks() {
	in_pod "$1" talk 'grep -c ^: /shared/log >/shared/a; sleep 1; grep -c ^: /shared/log >/shared/b; [ $(cat /shared/b) -gt $(cat /shared/a) ] || { echo it is silent; exit 1; }; tr -d ":\r" </shared/log | awk "\$1 != ++n { print \"answer\", n, \"is\", \$1; exit 1 }"'
}

put_godwit

check "a Deployment of three containers starts" owned Deployment trio node-a
pod=$(pod_of trio) ip=$(kn get pod "$(pod_of trio)" -o 'jsonpath={.status.podIP}')
check "a client writes to the first" client one "$ip" 6379
check "another one to the second" client two "$ip" 6380
check "the third talks to the first" talks "$pod"
mig trio-1 "$pod" node-b
check "the pod moves" ends trio-1 Succeeded
pod=$(pod_of trio)
is "to node-b" "$(node_of "$pod")" node-b
is "no container was started anew" "$(restarts "$pod")" "[0,0,0]"
check "they go on talking over the connection they had" talks "$pod"
is "its init container did not run again" "$(in_pod "$pod" one 'cat /shared/init')" once
check "exec finds each of them" in_pod "$pod" two 'redis-cli -p 6380 ping | grep -q PONG'
mig trio-2 "$pod" node-a
check "it moves back" ends trio-2 Succeeded
pod=$(pod_of trio)
is "to node-a, nothing started anew" "$(node_of "$pod") $(restarts "$pod")" "node-a [0,0,0]"
check "they still talk" talks "$pod"

# ---- it fails on the way
on node-b sh -c 'echo "dest-restored fail" >/run/godwit/fault'
mig trio-3 "$pod" node-b
check "one container cannot be restored: the pod does not move" ends trio-3 Failed
is "it runs on" "$(node_of "$pod") $(restarts "$pod")" "node-a [0,0,0]"
check "and talks" talks "$pod"
check "the first one's client kept its connection and its keys" content one
check "and the second one's" content two

# ---- ends of a container that a keeper stood for
mig trio-4 "$pod" node-b
check "it moves once more" ends trio-4 Succeeded
pod=$(pod_of trio)
in_pod "$pod" one 'redis-cli shutdown nosave' >/dev/null 2>&1
restarted() { [ "$(restarts "$pod" | jq -c '.[0]')" = 1 ] && kn get pod "$pod" -o json | jq -e '.status.containerStatuses[0].state.running' >/dev/null; }
check "a container that ends there is started again by kubelet, as ever" retry 60 restarted
is "and it alone" "$(restarts "$pod" | jq -c '.[2]')" 0

# ---- a bare pod keeps its name
check "a bare pod of three containers starts" bare bare node-a
mig bare-1 bare node-b
check "it moves under its name" ends bare-1 Succeeded
is "to node-b, nothing started anew" "$(node_of bare) $(restarts bare)" "node-b [0,0,0]"

# ---- a native sidecar
spec=$(jq '.initContainers += [.containers[1] + {restartPolicy: "Always", startupProbe: {tcpSocket: {port: 6380}, periodSeconds: 1, failureThreshold: 30}, livenessProbe: {tcpSocket: {port: 6380}, periodSeconds: 2}}] | del(.containers[1])' <<<"$spec")
sidecar() { kn get pod "$1" -o json | jq -c '[.status.initContainerStatuses[] | select(.name == "two") | .restartCount]'; }
check "a bare pod with a native sidecar starts" bare side node-a
check "a client writes to the sidecar" client side "$(kn get pod side -o 'jsonpath={.status.podIP}')" 6380
mig side-1 side node-b
check "it moves" ends side-1 Succeeded
is "to node-b, nothing started anew" "$(node_of side) $(restarts side) $(sidecar side)" "node-b [0,0] [0]"
is "whose sidecar waits for no probe" "$(kn get pod side -o json | jq -c '.spec.initContainers[0] | [.startupProbe, .livenessProbe.initialDelaySeconds]')" "[null,30]"
check "its containers still talk" talks side
check "the sidecar's client kept its connection and its keys" content side
left() { for n in "${NODES[@]}"; do [ -z "$(on "$n" sh -c 'ls /run/godwit/journal /run/godwit/held /run/godwit/mig /run/godwit/kept 2>/dev/null | grep -v :$ | grep .')" ] || { on "$n" find /run/godwit; return 1; }; done; }
check "nothing is left on any node" retry 40 left
