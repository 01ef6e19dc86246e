#!/usr/bin/env bash
# A pod's container moves from node to node under a client that keeps its connection:
# real kubelet, containerd and runc; the steps of the controller done by hand.
export GODWIT_LAB=${GODWIT_LAB_POD:-${GODWIT_LAB:-godwit-test}-pod}
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/install.sh"
[ -x "$GW/bin/godwit-runtime" ] || skip_all "godwit is not built (tools/build)"
need_kube --cni none
plan 39
LOAD=$GW/libexec/godwit/lab/lab-load
rm -f "/run/$GODWIT_LAB-kube/node-c/load.sock"

redis_pod() { # NAME NODE
	jq -n --arg name "$1" --arg node "$2" '{apiVersion: "v1", kind: "Pod", metadata: {name: $name, labels: {app: $name}},
		spec: {nodeName: $node, terminationGracePeriodSeconds: 2, containers: [{name: "redis", image: "kube.test/redis:1",
		args: ["--save", "", "--appendonly", "no", "--protected-mode", "no"],
		readinessProbe: {tcpSocket: {port: 6379}, periodSeconds: 1}, livenessProbe: {tcpSocket: {port: 6379}, periodSeconds: 1, failureThreshold: 1}}]}}' | kn apply -f - >/dev/null &&
		kn wait --for=condition=Ready "pod/$1" --timeout=60s
}
ip_of() { kn get pod "$1" -o 'jsonpath={.status.podIP}'; }
# begin POD FROM TO [options]: pre-copy begins, and waits for its target
begin() {
	local pod=$1 from=$2 to=$3
	shift 3
	MIG=$(cat /proc/sys/kernel/random/uuid)
	gw "$from" migrate "$(cid "$pod")" --to "$to" --claim redis --id "$MIG" --max-freeze 60000 -o jsonl "$@" >"$T/mig.out" 2>"$T/mig.err" &
	mig_pid=$!
	retry 20 phase_is Waiting
}
phase() { tail -n 1 "$T/mig.out" | jq -r .phase; }
phase_is() { [ "$(phase)" = "$1" ]; }
target() { # POD NEW-NAME NODE
	local from net
	from=$(kn get pod "$1" -o 'jsonpath={.spec.nodeName}')
	net=$(on "$from" cat "/run/godwit/journal/$MIG.json" | jq -r .pod)
	kn get pod "$1" -o json | jq --arg name "$2" --arg node "$3" --arg mig "$MIG" --arg net "$net" '{apiVersion, kind,
		metadata: {name: $name, labels: .metadata.labels, annotations: {"godwit.dev/migration": $mig, "godwit.dev/network": $net}},
		spec: (.spec | .nodeName = $node | .runtimeClassName = "godwit" | .volumes |= map(select(.projected | not)) | .containers[].volumeMounts |= map(select(.name | startswith("kube-api") | not)))}' |
		kn apply -f - >/dev/null
}
moved() { # POD NEW-NAME FROM TO
	begin "$1" "$3" "$4" && target "$1" "$2" "$4" && retry 30 phase_is Moved
}
ended() { kn delete pod "$1" --wait=false >/dev/null && gw "$2" release "$MIG" && wait "$mig_pid"; }
gone() { ! kn get pod "$1" >/dev/null 2>&1; }
load_start() { # IP
	on node-c "$LOAD" --host "$1" --port 6379 --rate 1000 --keys 3000 --seconds 0 --control /run/load.sock >"$T/load.end" 2>"$T/load.err" &
	load_pid=$!
	started_loads+=($!)
	sleep 1
	on node-c "$LOAD" ctl /run/load.sock peek >/dev/null
}
load_stop() { on node-c "$LOAD" ctl /run/load.sock stop >/dev/null && wait "$load_pid" || { cat "$T/load.end" "$T/load.err"; return 1; }; }
runs_on() { [ "$(on "$2" runc --root /run/containerd/runc/k8s.io state "$(cid "$1")" | jq -r .status)" = running ]; }
nothing_left() { # HOST
	[ -z "$(on "$1" sh -c 'ls /run/godwit/journal /run/godwit/held /run/godwit/mig 2>/dev/null | grep -v :$ | grep .')" ] || { on "$1" find /run/godwit; return 1; }
}
away() { on "$1" ls /var/lib/godwit/cni/away; }

check "godwit is put on three nodes" gw_install
ready() { [ "$(k get nodes --no-headers | grep -c ' Ready')" = 3 ]; }
check "which become Ready with its network" retry 120 ready
check "a pod of plain runc starts on node-a" redis_pod r1 node-a
ip=$(ip_of r1)
check "its container can move to node-b" gw node-a check "$(cid r1)" --to node-b
check "a client on node-c writes to it" load_start "$ip"

check "it moves to node-b, where containerd makes its target" moved r1 r2 node-a node-b
echo "# frozen $(tail -n 1 "$T/mig.out" | jq .freeze_ms) ms"
note() { echo "# after $1: $(on node-c "$LOAD" ctl /run/load.sock peek | jq -c '{wait_max_us, retransmits, probes, timeouts}')"; }
check "the target is Ready" kn wait --for=condition=Ready pod/r2 --timeout=20s
is "with the address it had" "$(ip_of r2)" "$ip"
check "nothing was created anew" test "$(kn get pod r1 r2 -o 'jsonpath={.items[*].status.containerStatuses[*].restartCount}')" = "0 0"
sleep 3
is "and is not while the old pod's object is there, though its probes fail" "$(kn get pod r1 -o 'jsonpath={.status.containerStatuses[0].restartCount}')" 0
check "kubectl exec runs in it" kn exec r2 -- true
check "kubectl logs shows what it says" kn logs r2
note "the old pod is deleted, its copy ended"
check "the old pod is deleted, its copy ended" ended r1 node-a
check "and its object goes" retry 20 gone r1
check "nothing is left of the migration on node-a" retry 10 nothing_left node-a
is "but that its address lives elsewhere" "$(away node-a | grep -xF "$ip")" "$ip"

check "it moves home" moved r2 r3 node-b node-a
check "the target is Ready" kn wait --for=condition=Ready pod/r3 --timeout=20s
note "the one on node-b is ended"
check "the one on node-b is ended" ended r2 node-b
is "node-a knows that the address is home" "$(away node-a | grep -xF "$ip")" ""
check "nothing is left on node-b" retry 10 nothing_left node-b

# Before the commit everything can fail, and the source runs on.
note "a migration whose target never comes waits"
check "a migration whose target never comes waits" begin r3 node-a node-b
check "and can be cancelled" gw node-a cancel "$MIG"
wait "$mig_pid"
check "the container runs on" runs_on r3 node-a
check "nothing is left" retry 10 nothing_left node-a
on node-b sh -c 'echo "dest-restored fail" >/run/godwit/fault'
note "another one begins"
check "another one begins" begin r3 node-a node-b
check "its target is made" target r3 r4 node-b
check_fails "its restore fails" wait "$mig_pid"
check "the container runs on" runs_on r3 node-a
words() { kn get pod r4 -o 'jsonpath={.status.containerStatuses[0].lastState.terminated.message}{.status.containerStatuses[0].state.terminated.message}' | grep "migration $MIG did not fill this container: .*dest-restored"; }
check "the target's status says why" retry 20 words
kn delete pod r4 --grace-period=0 --force >/dev/null 2>&1
check "nothing is left on node-b" retry 20 nothing_left node-b

# A godwitd that dies with a dead copy in its hands.
note "it moves once more"
check "it moves once more" moved r3 r5 node-a node-b
note "gw_stop node-a KILL"
sleep 1
gw_stop node-a KILL
check "godwitd of the source is killed, and starts again" gw_daemon node-a
retry 10 gw_up node-a
sleep 2
is "the dead copy is still frozen" "$(on node-a runc --root /run/containerd/runc/k8s.io state "$(cid r3)" | jq -r .status)" paused
wait "$mig_pid" 2>/dev/null
kn delete pod r3 --wait=false >/dev/null
check "and ends when it is told to" gw node-a release "$MIG"
check "with its pod" retry 20 gone r3
check "nothing is left" retry 10 nothing_left node-a
check "the target is Ready" kn wait --for=condition=Ready pod/r5 --timeout=20s

note "through it all"
check "through it all the client kept its connection and its keys" load_stop
