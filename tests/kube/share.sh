#!/usr/bin/env bash
# Pods whose containers share more than a network: processes (shareProcessNamespace), host
# name and System V objects, unix sockets. What they share is one thing after a move, too.
export GODWIT_LAB=${GODWIT_LAB_SHARE:-${GODWIT_LAB:-godwit-test}-share}
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/install.sh"
. "$(dirname "$0")/workloads.sh"
[ -x "$GW/bin/godwit-controller" ] || skip_all "godwit is not built (tools/build)"
need_kube --cni none
"$KUBE" load python >"$T/load" 2>&1 || { diag <"$T/load"; echo "Bail out! no image with Python"; exit 1; }
plan 57
exec 3>&1 # for what is noted inside a check

in_pod() { kn exec "$1" -c "$2" -- sh -c "$3"; }
restarts() { kn get pod "$1" -o json | jq -c '[.status.containerStatuses[].restartCount]'; }
move() { # NAME POD NODE [PHASE]
	mig "$1" "$2" "$3" && ends "$1" "${4:-Succeeded}" && echo "# $1: frozen $(st "$1" result.freezeMs) ms" >&3
}
# share.py in a ConfigMap: what each container of a pod does is its argument.
kn_files() { kn create configmap programs --from-file="$HERE/share.py" >/dev/null; }
python() { # NAME ARGS-AS-JSON: a container
	jq -n --arg name "$1" --argjson args "$2" '{name: $name, image: "kube.test/python:1", command: (["/usr/bin/python3", "-u", "/programs/share.py"] + $args),
		volumeMounts: [{name: "programs", mountPath: "/programs"}, {name: "shared", mountPath: "/shared"}]}'
}
pod_of_two() { # ONE TWO [jq]
	jq -n --argjson one "$1" --argjson two "$2" '{terminationGracePeriodSeconds: 2, runtimeClassName: "godwit", containers: [$one, $two],
		volumes: [{name: "programs", configMap: {name: "programs"}}, {name: "shared", emptyDir: {}}]}' | jq "${3:-.}"
}
says() { in_pod "$1" "$2" "cat /shared/$3"; }
grows() { # POD FILE: a number that is written there
	local a b
	a=$(says "$1" one "$2") && sleep 1.5 && b=$(says "$1" one "$2") && [ "$b" -gt "$a" ] || { echo "$2: $a, $b"; return 1; }
}
fine() { [ -z "$(in_pod "$1" one 'cat /shared/*.error 2>/dev/null')" ] || { in_pod "$1" one 'cat /shared/*.error'; return 1; }; }

put_godwit
kn_files

# ---- processes
spec=$(pod_of_two "$(python one '["processes", "one"]')" "$(python two '["processes", "two"]')" '.shareProcessNamespace = true')
check "a Deployment whose containers share their processes starts" owned Deployment procs node-a
pod=$(pod_of procs)
retry 40 in_pod "$pod" one 'cat /shared/one.pid /shared/two.pid /shared/two.child'
pids() { in_pod "$pod" one 'echo $(cat /shared/one.pid /shared/two.pid /shared/two.child)'; }
# What each of these processes is called, from either container's /proc.
names() { in_pod "$pod" "$1" 'for p in $(cat /shared/one.pid /shared/two.pid /shared/two.child); do tr "\0" " " </proc/$p/cmdline; echo; done'; }
before=$(pids) seen=$(names one)
is "the second container sees what the first one does" "$(names two)" "$seen"
check "they count what they hear from each other by signals" grows "$pod" signals
check "it moves" move procs-1 "$pod" node-b
pod=$(pod_of procs)
is "to node-b, nothing started anew" "$(node_of "$pod") $(restarts "$pod")" "node-b [0,0]"
is "its processes have the numbers that they had" "$(pids)" "$before"
is "and see each other there" "$(names one)$(names two)" "$seen$seen"
is "the first of all is the pod's" "$(in_pod "$pod" one 'tr -d "\0" </proc/1/cmdline')" /pause
check "they signal each other" grows "$pod" signals
new() { in_pod "$pod" two 'for i in 1 2 3 4 5; do sh -c "echo \$\$" & wait; done'; }
taken() { for p in $(new); do case " $before " in *" $p "*) echo "$p is somebody's"; return 1 ;; esac; done; }
check "new processes get numbers of their own" taken
check "it moves back" move procs-2 "$pod" node-a
pod=$(pod_of procs)
is "with all processes" "$(pids) $(restarts "$pod")" "$before [0,0]"
check "nobody missed anything" fine "$pod"
in_pod "$pod" two 'echo orphan >/shared/two.do'
retry 20 in_pod "$pod" two 'test -e /shared/two.orphan'
mig procs-3 "$pod" node-b
check "a process that has lost its parent stands in the way: it is the pod's now" ends procs-3 Failed
is "OrphanProcess" "$(st procs-3 reason)" OrphanProcess
kn delete deployment procs --wait=false >/dev/null

# ---- System V objects, host name
spec=$(pod_of_two "$(python one '["segments", "one"]')" "$(python two '["segments", "two"]')")
check "a bare pod whose containers share System V objects starts" bare segs node-a
retry 40 says segs one two.up
check "both write to one segment, take from one queue, count in one semaphore" grows segs turns
host=$(in_pod segs two hostname)
ns() { on "$1" sh -c 'for p in $(pgrep -f "[s]hare.py segments"); do readlink /proc/$p/ns/ipc /proc/$p/ns/uts; done' | sort -u | wc -l; }
is "in one IPC and one UTS namespace" "$(ns node-a)" 2
check "it moves" move segs-1 segs node-b
is "to node-b, nothing started anew" "$(node_of segs) $(restarts segs)" "node-b [0,0]"
check "they go on where they were" grows segs turns
check "and nothing that is shared came apart" fine segs
is "in one IPC and one UTS namespace there, too" "$(ns node-b)" 2
is "under the name they had" "$(in_pod segs one hostname) $(in_pod segs two hostname)" "$host $host"
check "it moves back" move segs-2 segs node-a
check "they go on" grows segs turns
check "with all that they share" fine segs
kn delete pod segs --wait=false >/dev/null

# ---- unix sockets
spec=$(pod_of_two "$(python one '["server"]')" "$(python two '["client"]')" '.containers += [{name: "redis", image: "kube.test/redis:1", args: ["--save", "", "--appendonly", "no", "--protected-mode", "no"]}]')
check "a Deployment whose containers talk over unix sockets starts" owned Deployment socks node-a
pod=$(pod_of socks)
retry 40 says "$pod" one stream.n
check "a client writes to its third container" client socks "$(pod_ip "$pod")"
check "they talk" grows "$pod" echoes
check "it moves" move socks-1 "$pod" node-b
pod=$(pod_of socks)
is "to node-b, nothing started anew" "$(node_of "$pod") $(restarts "$pod")" "node-b [0,0,0]"
check "they talk over the connections they had" grows "$pod" echoes
check "what was unread is read, in its order: of a stream" grows "$pod" stream.n
check "message by message of a seqpacket socket" grows "$pod" packets.n
check "an end that was shut stays so" grows "$pod" half.n
check "nothing was lost, doubled or cut" fine "$pod"
on node-a sh -c 'echo "dest-restored fail" >/run/godwit/fault'
mig socks-2 "$pod" node-a
check "a container cannot be restored: the pod does not move" ends socks-2 Failed
is "it runs on" "$(node_of "$pod") $(restarts "$pod")" "node-b [0,0,0]"
check "they talk on" grows "$pod" stream.n
check "it moves back" move socks-3 "$pod" node-a
pod=$(pod_of socks)
check "they talk there too" grows "$pod" echoes
check "and nothing was lost" fine "$pod"
in_pod "$pod" two 'echo close >/shared/client.do'
check "one end sees at once that the other is closed" retry 10 says "$pod" one closed
in_pod "$pod" one 'echo rights >/shared/server.do'
retry 20 says "$pod" one rights.sent
mig socks-4 "$pod" node-b
check "descriptors under way between containers stand in the way" ends socks-4 Failed
is "UnixSocketBusy" "$(st socks-4 reason)" UnixSocketBusy
in_pod "$pod" two 'echo read >/shared/client.do'
retry 20 says "$pod" one rights.read
check "when they are read it moves" move socks-5 "$pod" node-b
pod=$(pod_of socks)
check "they talk on" grows "$pod" stream.n
check "all that while nothing was lost" fine "$pod"
check "and the client of the third container kept its connection and its keys" content socks
kn delete deployment socks --wait=false >/dev/null

# ---- what does not move
spec=$(pod_of_two "$(python one '["receiver"]')" "$(python two '["sender"]')")
check "a bare pod whose containers send datagrams over a unix socket starts" bare dgram node-a
retry 40 says dgram one lines
mig dgram-1 dgram node-b
check "it is refused" ends dgram-1 Failed
is "UnixSocketOutside" "$(st dgram-1 reason)" UnixSocketOutside
check "and talks on" grows dgram lines
left() { for n in "${NODES[@]}"; do [ -z "$(on "$n" sh -c 'ls /run/godwit/journal /run/godwit/held /run/godwit/mig /run/godwit/kept 2>/dev/null | grep -v :$ | grep .')" ] || { on "$n" find /run/godwit; return 1; }; done; }
check "nothing is left on any node" retry 40 left
