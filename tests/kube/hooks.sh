#!/usr/bin/env bash
# Lifecycle hooks: a move is neither a start nor a stop. preStop does not run in a source
# that is on its way, nor postStart in a target that has started long ago; both run when
# the moved pod is ended, or begun anew.
export GODWIT_LAB=${GODWIT_LAB_HOOKS:-${GODWIT_LAB:-godwit-test}-hooks}
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/install.sh"
. "$(dirname "$0")/workloads.sh"
[ -x "$GW/bin/godwit-controller" ] || skip_all "godwit is not built (tools/build)"
need_kube --cni none
plan 21
exec 3>&1 # for what is noted inside a check
spec='{"terminationGracePeriodSeconds": 8, "runtimeClassName": "godwit", "containers": [{"name": "c", "image": "kube.test/busybox:1", "command": ["sh", "-c", "trap \"exit 3\" TERM; while :; do n=$((n + 1)); echo $n >/disk/n; sleep 0.05; done"],
	"lifecycle": {"postStart": {"exec": {"command": ["sh", "-c", "echo start >>/disk/hooks"]}}, "preStop": {"exec": {"command": ["sh", "-c", "echo stop >>/disk/hooks; echo stopped by its hook >/proc/1/fd/1; kill -TERM 1; sleep 1"]}}},
	"volumeMounts": [{"name": "disk", "mountPath": "/disk"}]}], "volumes": [{"name": "disk", "emptyDir": {}}]}'
in_pod() { kn exec "$1" -- sh -c "$2"; }
restarts() { kn get pod "$1" -o 'jsonpath={.status.containerStatuses[0].restartCount}'; }
counts() { local a b; a=$(in_pod "$1" 'cat /disk/n'); sleep 0.5; b=$(in_pod "$1" 'cat /disk/n'); [ "$b" -gt "$a" ] && [ "$a" -gt "$2" ] || { echo "$2, then $a, then $b"; return 1; }; }

put_godwit

for kind in bare deploy; do
	if [ $kind = bare ]; then check "a bare pod with both hooks starts" bare bare node-a; else check "a Deployment with both hooks starts" owned Deployment deploy node-a; fi
	pod=$(pod_of $kind)
	is "its postStart has run" "$(in_pod "$pod" 'cat /disk/hooks')" start
	n=$(in_pod "$pod" 'cat /disk/n')
	check "it moves" move "move-${kind,,}" "$pod" node-b
	pod=$(pod_of $kind)
	is "to node-b" "$(node_of "$pod")" node-b
	sleep 3
	is "no hook has run" "$(in_pod "$pod" 'cat /disk/hooks') $(restarts "$pod")" "start 0"
	check "and it counts on" counts "$pod" "$n"
	in_pod "$pod" 'kill -9 1' >/dev/null 2>&1
	in_pod "$pod" 'kill -TERM 1' >/dev/null 2>&1
	again() { [ "$(restarts "$pod")" = 1 ] && [ "$(in_pod "$pod" 'cat /disk/hooks')" = "start
start" ]; }
	check "a container that is begun anew there runs its postStart" retry 60 again
	kn logs -f "$pod" >"$T/log-$kind" 2>/dev/null &
	sleep 1
	kn delete pod "$pod" --timeout=60s >/dev/null
	stopped() { grep -qF "stopped by its hook" "$T/log-$kind"; }
	check "and when its pod is deleted, its preStop" retry 10 stopped
done
kn delete deployment deploy --wait=false >/dev/null 2>&1

spec='{"terminationGracePeriodSeconds": 2, "runtimeClassName": "godwit", "containers": [{"name": "redis", "image": "kube.test/redis:1", "lifecycle": {"preStop": {"httpGet": {"path": "/", "port": 6379}}}}]}'
check "a pod whose preStop is an HTTP request starts" bare http node-a
check "kubelet would send it to the moved pod: HttpHook" refused http-1 http node-b HttpHook
is "it was not touched" "$(node_of http) $(restarts http)" "node-a 0"
