#!/usr/bin/env bash
# Parts of the cluster are killed while a pod moves under a client: it moves all the
# same, or runs on where it was; a failed move that an eviction asked for is one.
export GODWIT_LAB=${GODWIT_LAB_FAULTS:-${GODWIT_LAB:-godwit-test}-faults}
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/install.sh"
[ -x "$GW/bin/godwit-controller" ] || skip_all "godwit is not built (tools/build)"
need_kube --cni none
plan 29
LOAD=$GW/libexec/godwit/lab/lab-load

deployment() { # NAME NODE
	jq -n --arg name "$1" --arg n "$2" '{apiVersion: "apps/v1", kind: "Deployment", metadata: {name: $name}, spec: {replicas: 1, selector: {matchLabels: {app: $name}}, template: {metadata: {labels: {app: $name}}, spec: {
		terminationGracePeriodSeconds: 5, containers: [{name: "redis", image: "kube.test/redis:1", args: ["--save", "", "--appendonly", "no", "--protected-mode", "no"], readinessProbe: {tcpSocket: {port: 6379}, periodSeconds: 1}}],
		affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 100, preference: {matchFields: [{key: "metadata.name", operator: "In", values: [$n]}]}}]}}}}}}' |
		kn apply -f - >/dev/null && kn rollout status "deployment/$1" --timeout=60s
}
pod_of() { kn get pods -l "app=$1" -o json | jq -r '[.items[] | select(.metadata.deletionTimestamp | not) | select(.status.phase == "Running") | .metadata.name][0] // ""'; }
count() { kn get pods -l "app=$1" -o json | jq '[.items[] | select(.metadata.deletionTimestamp | not)] | length'; }
node_of() { kn get pod "$1" -o 'jsonpath={.spec.nodeName}'; }
other() { [ "$1" = node-a ] && echo node-b || echo node-a; }
st() { kn get migration "$1" -o "jsonpath={.status.$2}"; }
phase_is() { [ "$(st "$1" phase)" = "$2" ]; }
over() { case $(st "$1" phase) in Succeeded | Failed | Cancelled) true ;; *) false ;; esac; }
mig() { # NAME [jq]: the pod of web to its other node
	local pod
	pod=$(pod_of web)
	jq -n --arg name "$1" --arg pod "$pod" --arg to "$(other "$(node_of "$pod")")" '{apiVersion: "godwit.dev/v1alpha1", kind: "Migration", metadata: {name: $name}, spec: {podName: $pod, to: $to, options: {maxFreezeMs: 60000, bandwidth: 6000000}}}' |
		jq "${2:-.}" | kn apply -f - >/dev/null
}
ends() { # NAME PHASE
	retry 240 over "$1"
	phase_is "$1" "$2" || { kn get migration "$1" -o json | jq '.status | del(.network, .successor)'; for n in node-a node-b; do gw_log $n 60 | grep -v level=debug | tail -n 5; done; return 1; }
}
answers() { on node-c "$LOAD" ctl /run/load.sock peek >/dev/null; }
restarts() { kn get pod "$(pod_of web)" -o 'jsonpath={.status.containerStatuses[0].restartCount}'; }
alone() { [ "$(count web)" = 1 ]; }
# Under way, then SERVICE of HOST is killed (it is started again after a second).
hit() { # NAME HOST SERVICE
	mig "$1" && retry 60 phase_is "$1" PreCopy && "$KUBE" service "$2" "$3" kill >/dev/null
}

check "godwit is put on the cluster as deploy/ says" gw_cluster
ready() { [ "$(k get nodes --no-headers | grep -c ' Ready')" = 3 ]; }
check "its nodes are Ready" retry 120 ready
retry 60 kn get serviceaccount default
check "a Deployment's pod starts" deployment web node-a
on node-c "$LOAD" --host "$(kn get pod "$(pod_of web)" -o 'jsonpath={.status.podIP}')" --port 6379 --rate 300 --keys 2000 --seconds 0 --control /run/load.sock >"$T/load.end" 2>"$T/load.err" &
load=$!
started_loads+=($load)
sleep 1
kn exec "$(pod_of web)" -- sh -c 'redis-cli debug populate 40000 fill 400 >/dev/null' # so that pre-copy takes some seconds

n=0
for part in kubelet containerd; do
	for side in source destination; do
		n=$((n + 1)) from=$(node_of "$(pod_of web)")
		host=$([ $side = source ] && echo "$from" || other "$from")
		check "$part of the $side is killed in pre-copy" hit "m-$n" "$host" $part
		check "the migration comes to its end" retry 240 over "m-$n"
		check "and there is one pod" retry 60 alone
		is "that was not started anew" "$(restarts)" 0
		echo "# $(st "m-$n" phase) $(st "m-$n" reason)"
	done
done
check "the API server is killed in pre-copy" hit api control kube-apiserver
check "the pod moves when it is back" ends api Succeeded

from=$(node_of "$(pod_of web)")
on "$(other "$from")" sh -c 'echo "dest-restored kill" >/run/godwit/fault'
mig killed '.spec.options.bandwidth = 0'
check "godwitd of the destination is killed with the copy rebuilt: the migration fails" ends killed Failed
is "the pod runs on where it was" "$(node_of "$(pod_of web)") $(restarts)" "$from 0"
gw_agent "$(other "$from")"
check "its godwitd is started again" retry 20 gw_up "$(other "$from")"
check "nothing of the target is left" retry 60 alone
check "the client has its connection" answers

# ---- an eviction that asked for the move
on "$(other "$from")" sh -c 'echo "dest-restored fail" >/run/godwit/fault'
pod=$(pod_of web)
mig evicted '.spec.options.bandwidth = 0 | .spec.fallback = "Evict"'
check "a move that an eviction asked for fails" ends evicted Failed
gone() { ! kn get pod "$1" >/dev/null 2>&1; }
check "and is that eviction: the pod goes" retry 120 gone "$pod"
serves() { kn rollout status deployment/web --timeout=60s >/dev/null && alone; }
check "and its ReplicaSet has made another one" retry 20 serves
