#!/usr/bin/env bash
# New connections while a pod moves: by ClusterIP and NodePort, on every node, one every
# 50 ms; each is answered, none refused, and none had to ask twice, although the moving pod is
# the Service's only one.
export GODWIT_LAB=${GODWIT_LAB_CTRL:-${GODWIT_LAB:-godwit-test}-ctrl}
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/install.sh"
. "$(dirname "$0")/workloads.sh"
[ -x "$GW/bin/godwit-controller" ] || skip_all "godwit is not built (tools/build)"
need_kube --cni none
plan 19
exec 3>&1

put_godwit
as_account control godwit-controller && gw_controller
for n in "${NODES[@]}"; do on "$n" tee /run/knock.py <"$HERE/knock.py" >/dev/null; done
on control tee /run/knock.py <"$HERE/knock.py" >/dev/null

service() { # NAME
	jq -n --arg n "$1" '{apiVersion: "v1", kind: "Service", metadata: {name: $n}, spec: {type: "NodePort", selector: {app: $n}, ports: [{port: 6379}]}}' | kn apply -f - >/dev/null
}
answers() { on node-c python3 -c 'import socket, sys; s = socket.create_connection((sys.argv[1], 6379), 2); s.sendall(b"PING\r\n"); sys.exit(s.recv(9) != b"+PONG\r\n")' "$1"; }
knock() { # SERVICE: on every node to its ClusterIP, from the control host to its port of every node
	local ip port n
	ip=$(kn get service "$1" -o 'jsonpath={.spec.clusterIP}') port=$(kn get service "$1" -o 'jsonpath={.spec.ports[0].nodePort}')
	retry 40 answers "$ip" || return 1
	for n in control "${NODES[@]}"; do
		on "$n" rm -f /run/knock.stop
		if [ "$n" = control ]; then on "$n" python3 /run/knock.py /run/knock.stop "10.9.0.2:$port" "10.9.0.3:$port" "10.9.0.4:$port" >"$T/knock-$n" 2>"$T/knock-$n.err" &
		else on "$n" python3 /run/knock.py /run/knock.stop "$ip:6379" >"$T/knock-$n" 2>"$T/knock-$n.err" & fi
		knocking+=($!)
	done
	sleep 1
}
knocking=()
# A SYN is sent again after a second: on a machine so busy that a pod stands for longer, rightly so.
slow() { ! kn get migrations -o json | jq -e '[.items[].status.result.freezeMs // 0 | select(. > 900)] == []' >/dev/null; }
all_answered() {
	local n again='.syn_again == 0'
	! slow || again=true
	sleep 1.5
	for n in control "${NODES[@]}"; do on "$n" touch /run/knock.stop; done
	wait "${knocking[@]}"
	knocking=()
	for n in control "${NODES[@]}"; do sed "s/^/# $n: /" "$T/knock-$n" >&3; done
	! cat "$T"/knock-*.err | grep . && [ "$(cat "$T"/knock-control "$T"/knock-node-? | jq -c "select(.answered > 20 and .wrong == {} and $again)" | wc -l)" = 6 ]
}
mirrors() { kn get endpointslices -l endpointslice.kubernetes.io/managed-by=godwit.dev -o name | wc -l; }

check "a StatefulSet's pod starts under godwit's runtime" owned StatefulSet db node-a '.runtimeClassName = "godwit"'
service db
check "its Service answers" knock db
mig db-1 db-0 node-b
check "the pod moves" ends db-1 Succeeded
check "and every new connection was answered, on every node, none asked for twice" all_answered
gone() { [ "$(mirrors)" = 0 ]; }
check "nothing of godwit's is left among the Service's endpoints" retry 20 gone
is "which has one" "$(kn get endpointslices -l kubernetes.io/service-name=db -o json | jq -c '[.items[].endpoints[]? | select(.conditions.ready).targetRef.name]')" '["db-0"]'
is "the pod's labels are all there" "$(kn get pod db-0 -o json | jq -r '.metadata.labels | keys | join(" ")')" "app apps.kubernetes.io/pod-index controller-revision-hash statefulset.kubernetes.io/pod-name"

check "a Deployment's pod starts" owned Deployment web node-a
service web
check "its Service answers" knock web
of=$(pod_of web)
mig web-1 "$of" node-b
check "the pod moves" ends web-1 Succeeded
check "and every new connection was answered, on every node, none asked for twice" all_answered
is "its Service has one endpoint" "$(kn get endpointslices -l kubernetes.io/service-name=web -o json | jq -c '[.items[].endpoints[]? | select(.conditions.ready).targetRef.name] == [$p]' --arg p "$(pod_of web)")" true

check "a bare pod starts" bare solo node-a '.runtimeClassName = "godwit"'
service solo
check "its Service answers" knock solo
mig solo-1 solo node-b '.spec.options.bandwidth = 20000'
retry 20 phase_is solo-1 PreCopy
kn patch migration solo-1 --type=merge -p '{"spec":{"cancel":true}}' >/dev/null
check "a move of it is called off" ends solo-1 Cancelled
check "and every new connection was answered" all_answered
is "nothing of godwit's is left" "$(mirrors)" 0
