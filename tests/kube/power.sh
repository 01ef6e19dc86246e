#!/usr/bin/env bash
# The source's node loses its power around the commit: what was committed stays, what
# was not is one pod again; nothing runs twice.
export GODWIT_LAB=${GODWIT_LAB_POWER:-${GODWIT_LAB:-godwit-test}-power}
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/install.sh"
[ -x "$GW/bin/godwit-controller" ] || skip_all "godwit is not built (tools/build)"
need_kube --cni none
plan 15
exec 3>&1 # for what is noted inside a check
LOAD=$GW/libexec/godwit/lab/lab-load

deployment() { # NAME NODE
	jq -n --arg name "$1" --arg n "$2" '{apiVersion: "apps/v1", kind: "Deployment", metadata: {name: $name}, spec: {replicas: 1, selector: {matchLabels: {app: $name}}, template: {metadata: {labels: {app: $name}}, spec: {
		terminationGracePeriodSeconds: 5, containers: [{name: "redis", image: "kube.test/redis:1", args: ["--save", "", "--appendonly", "no", "--protected-mode", "no"], readinessProbe: {tcpSocket: {port: 6379}, periodSeconds: 1}}],
		affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 100, preference: {matchFields: [{key: "metadata.name", operator: "In", values: [$n]}]}}]}}}}}}' |
		kn apply -f - >/dev/null && kn rollout status "deployment/$1" --timeout=60s
}
running() { kn get pods -l "app=$1" -o json | jq -r '[.items[] | select(.metadata.deletionTimestamp | not) | .metadata.name] | join(" ")'; }
node_of() { kn get pod "$1" -o 'jsonpath={.spec.nodeName}'; }
st() { kn get migration "$1" -o "jsonpath={.status.$2}"; }
phase_is() { [ "$(st "$1" phase)" = "$2" ]; }
over() { case $(st "$1" phase) in Succeeded | Failed | Cancelled) true ;; *) false ;; esac; }
mig() { # NAME POD NODE
	jq -n --arg name "$1" --arg pod "$2" --arg to "$3" '{apiVersion: "godwit.dev/v1alpha1", kind: "Migration", metadata: {name: $name}, spec: {podName: $pod, to: $to, options: {maxFreezeMs: 60000}}}' | kn apply -f - >/dev/null
}
ends() { # NAME PHASE
	retry 240 over "$1"
	phase_is "$1" "$2" || { kn get migration "$1" -o json | jq '.status | del(.network, .successor)'; for n in node-a node-b; do gw_log $n 60 | grep -v level=debug | tail -n 6; done; return 1; }
}
back() { # NODE: with its power, its disk and its godwitd
	"$KUBE" start-node "$1" >/dev/null && gw_agent "$1" && retry 20 gw_up "$1"
}
reached() { on "$1" grep -q "point=$2 " /var/log/godwitd.log; }

check "godwit is put on the cluster as deploy/ says" gw_cluster
ready() { [ "$(k get nodes --no-headers | grep -c ' Ready')" = 3 ]; }
check "its nodes are Ready" retry 120 ready
retry 60 kn get serviceaccount default

# ---- after the commit, before the API server has heard of it
check "a Deployment's pod starts on node-a" deployment web node-a
pod=$(running web)
ip=$(kn get pod "$pod" -o 'jsonpath={.status.podIP}')
on node-c "$LOAD" --host "$ip" --port 6379 --rate 300 --keys 2000 --seconds 0 --control /run/load.sock >"$T/load.end" 2>"$T/load.err" &
load=$!
started_loads+=($load)
sleep 1
on node-a sh -c 'echo "source-moved hang" >/run/godwit/fault'
mig web-1 "$pod" node-b
check "it moves, and its old node hangs when it has committed" retry 120 reached node-a source-moved
check "there the power is cut" "$KUBE" kill-node node-a
sleep 3
check "it answers from node-b" on node-c "$LOAD" ctl /run/load.sock peek
check "the power comes back" back node-a
check "the migration has succeeded" ends web-1 Succeeded
one_on() { [ "$(running "$1" | wc -w)" = 1 ] && [ "$(node_of "$(running "$1")")" = "$2" ]; }
check "there is one pod, on node-b" retry 120 one_on web node-b
is "in which nothing was started anew" "$(kn get pod "$(running web)" -o 'jsonpath={.status.containerStatuses[0].restartCount}')" 0
client() { on node-c "$LOAD" ctl /run/load.sock stop >/dev/null; wait $load && [ "$(jq -c '[.lost, .same_port]' "$T/load.end")" = "[0,true]" ] || { cat "$T/load.end" "$T/load.err"; return 1; }; }
check "its client kept its connection and every key" client

# ---- before the commit
check "another Deployment's pod starts on node-a" deployment old node-a
on node-a sh -c 'echo "source-frozen hang" >/run/godwit/fault'
mig old-1 "$(running old)" node-b
check "its node hangs in the freeze, and the power is cut" eval 'retry 120 reached node-a source-frozen && "$KUBE" kill-node node-a'
check "when it is back the migration is over" eval 'back node-a && retry 240 over old-1'
whole() { kn rollout status deployment/old --timeout=90s >/dev/null && [ "$(running old | wc -w)" = 1 ]; }
check "and there is one pod that serves" retry 20 whole
