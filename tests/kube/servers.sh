#!/usr/bin/env bash
# Real servers move there and back under clients that keep their connections and check
# every answer; those that cannot move are refused with their way out. (redis:
# migration.sh, PostgreSQL: files.sh.)
#   SERVERS="nginx go"   only these
export GODWIT_LAB=${GODWIT_LAB_SERVERS:-${GODWIT_LAB:-godwit-test}-servers}
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/install.sh"
[ -x "$GW/bin/godwit-controller" ] || skip_all "godwit is not built (tools/build)"
ALL="nginx memcached mariadb jvm jvm-zgc node python go"
SERVERS=${SERVERS:-$ALL}
need_kube --cni none
exec 3>&1 # for what is noted inside a check
for i in $SERVERS python; do
	"$KUBE" load "${i%-*}" >"$T/load" 2>&1 || { diag <"$T/load"; echo "Bail out! no image of $i"; exit 1; }
done
wanted() { [[ " $SERVERS " == *" $1 "* ]]; }
moved=$(wc -w <<<"$SERVERS") refused=0
for i in mariadb node go; do wanted $i && refused=$((refused + 1)); done
plan $((3 + 6 * moved + 3 * refused))

# NAME IMAGE NODE [jq on the pod's spec [jq on its metadata]]
pod() {
	jq -n --arg name "$1" --arg image "kube.test/$2:1" --arg n "$3" '{apiVersion: "v1", kind: "Pod", metadata: {name: $name}, spec: {terminationGracePeriodSeconds: 2, runtimeClassName: "godwit",
		containers: [{name: "c", image: $image, imagePullPolicy: "Never"}],
		affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 100, preference: {matchFields: [{key: "metadata.name", operator: "In", values: [$n]}]}}]}}}}' |
		jq ".spec |= (${4:-.}) | .metadata |= (${5:-.})" | kn apply -f - >/dev/null
}
PORT='.containers[0].readinessProbe = {tcpSocket: {port: 8080}, periodSeconds: 1}'
DATA='.volumes = [{name: "data", emptyDir: {}}] | .containers[0].volumeMounts = [{name: "data", mountPath: "/data"}] | .securityContext.fsGroup = 999'
SECCOMP='.securityContext.seccompProfile = {type: "RuntimeDefault"}'
env_of() { echo ".containers[0].env = [{name: \"$1\", value: \"$2\"}]"; }

st() { kn get migration "$1" -o "jsonpath={.status.$2}"; }
over() { case $(st "$1" phase) in Succeeded | Failed | Cancelled) true ;; *) false ;; esac; }
migration() { # NAME POD NODE [jq]
	jq -n --arg name "$1" --arg pod "$2" --arg to "$3" '{apiVersion: "godwit.dev/v1alpha1", kind: "Migration", metadata: {name: $name}, spec: {podName: $pod, to: $to, options: {maxFreezeMs: 60000}}}' |
		jq "${4:-.}" | kn apply -f - >/dev/null && retry 240 over "$1"
}
move() { # NAME POD NODE
	migration "$@"
	[ "$(st "$1" phase)" = Succeeded ] || { for n in node-a node-b; do gw_log $n 60 | grep -v level=debug | tail -n 4; done; kn get migration "$1" -o json | jq '.status | {phase, reason, message, check}'; return 1; }
	echo "# $1: frozen $(st "$1" result.freezeMs) ms" >&3
}
in_pod() { kn exec "$1" -- sh -c "$2"; }
node_of() { kn get pod "$1" -o 'jsonpath={.spec.nodeName}'; }

# Its client runs while it moves, and says at the end how that was.
client() { # NAME KIND
	local ip
	ip=$(kn get pod "$1" -o 'jsonpath={.status.podIP}')
	kn exec -i client -- python3 - "$2" "$ip" "/tmp/$1" <"$HERE/servers.py" >"$T/$1.end" 2>"$T/$1.err" &
	client_pid=$!
	retry 60 kn exec client -- test -e "/tmp/$1.runs" && sleep 2 && kill -0 $client_pid || { cat "$T/$1.end" "$T/$1.err"; return 1; }
}
well() { # NAME
	sleep 1
	kn exec client -- touch "/tmp/$1"
	wait $client_pid && jq -e '.errors == [] and .requests > 0' "$T/$1.end" >/dev/null || { cat "$T/$1.end" "$T/$1.err"; return 1; }
	echo "# $1: $(jq -c 'del(.errors)' "$T/$1.end")" >&3
}
ready() { kn wait --for=condition=Ready "pod/$1" --timeout=180s || { kn logs "$1" | tail -n 20; kn describe pod "$1" | tail -n 12; return 1; }; }
there_and_back() { # NAME KIND
	wanted "$1" || return 0
	check "$1: it starts" ready "$1"
	check "$1: its client keeps connections to it" client "$1" "$2"
	check "$1: it moves under load" move "$1-1" "$1" node-b
	is "$1: it is on node-b, and was not started anew" "$(node_of "$1") $(kn get pod "$1" -o 'jsonpath={.status.containerStatuses[0].restartCount}')" "node-b 0"
	check "$1: it moves back" move "$1-2" "$1" node-a
	check "$1: no request failed, no connection was lost, its data is right" well "$1"
	kn delete pod "$1" --wait=false >/dev/null
}
# NAME CODE WORDS CONDITION: refused by the check, with these words in its way out; where the kernel makes CONDITION true in the pod
refused() {
	wanted "${1%-*}" || return 0
	if ! ready "$1" >"$T/not" 2>&1 || ! in_pod "$1" "$4" >"$T/not" 2>&1; then
		for _ in 1 2 3; do skip "$1 is refused: $2" "it is not so with this kernel or containerd: $(grep -v "^command terminated" "$T/not" | tail -n 1)"; done
	else
		migration "$1-1" "$1" node-b '.spec.checkOnly = true'
		migration "$1-2" "$1" node-b
		found() { kn get migration "$1-1" -o json | jq -r --arg c "$2" '[.status.check.reasons[]? | select(.code == $c and (.isWarning | not))][0] | .code, .wayOut'; }
		is "$1: the check finds $2" "$(found "$@" | head -n 1)" "$2"
		check "$1: and names the way out" has "$3" found "$@"
		is "$1: so it does not move" "$(st "$1-2" phase) $(st "$1-2" reason) $(node_of "$1")" "Failed $2 node-a"
	fi
	kn delete pod "$1" --wait=false >/dev/null
}

put_godwit
start() { # all of them at once
	pod client python node-c '.containers[0].command = ["sleep", "100000"]' &&
		if wanted nginx; then pod nginx nginx node-a "$PORT"; fi &&
		if wanted memcached; then pod memcached memcached node-a "$PORT | .containers[0].readinessProbe.tcpSocket.port = 11211"; fi &&
		if wanted mariadb; then
			pod mariadb mariadb node-a "$PORT | .containers[0].readinessProbe.tcpSocket.port = 3306 | $DATA | $SECCOMP" && pod mariadb-uring mariadb node-a "$PORT | .containers[0].readinessProbe.tcpSocket.port = 3306 | $DATA"
		fi &&
		if wanted jvm; then pod jvm jvm node-a "$PORT"; fi &&
		if wanted jvm-zgc; then pod jvm-zgc jvm node-a "$PORT | $(env_of JAVA_TOOL_OPTIONS -XX:+UseZGC)"; fi &&
		if wanted node; then pod node node node-a "$PORT | $SECCOMP" && pod node-uring node node-a "$PORT | $SECCOMP | $(env_of UV_USE_IO_URING 1)" '.annotations["live.godwit.dev/io-uring"] = "allow"'; fi &&
		if wanted python; then pod python python node-a "$PORT"; fi &&
		if wanted go; then pod go go node-a "$PORT | $(env_of GODEBUG multipathtcp=0)" && pod go-mptcp go node-a "$PORT"; fi &&
		ready client
}
check "the servers are made" start
there_and_back nginx nginx
there_and_back memcached memcached
there_and_back mariadb mariadb
there_and_back jvm http
there_and_back jvm-zgc http # its heap is a memfd, which CRIU copies in the freeze
there_and_back node http
there_and_back python http
there_and_back go http
# What an io_uring is, and who listens with MPTCP, /proc says.
URING='ls -l /proc/[0-9]*/fd 2>/dev/null | grep io_uring || { echo "no io_uring is open"; exit 1; }'
refused node-uring IoUring UV_USE_IO_URING "$URING"
refused mariadb-uring IoUring RuntimeDefault "$URING"
refused go-mptcp Mptcp GODEBUG=multipathtcp=0 'grep -q 1 /proc/sys/net/mptcp/enabled || { echo "net.mptcp.enabled is not 1"; exit 1; }'
