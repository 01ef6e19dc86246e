# Sourced by tests/kube/demo and bench/kube: a cluster with godwit on it, redis in
# pods of node-a and node-b, clients in pods of node-c.
#
#   stage_open LAB     names and folders; how it ends
#   stage_cluster      builds and starts what is missing, puts godwit on the nodes
#   redis_workload ... and what follows
#
# No TAP: what fails says why and returns 1. Needs TOP and root.
HERE=$TOP/tests/kube
KUBE=$HERE/kube
NS=stage
stage_open() { # LAB
	export GODWIT_LAB=$1
	KST=/run/$GODWIT_LAB-kube
	T=$(mktemp -d)
	stage_ours=1
	[ ! -e "$KST/up" ] || stage_ours=
	LOAD=$TOP/build/install/opt/godwit/libexec/godwit/lab/lab-load
}
# In every state, also half up; a cluster that was up before stays, without our pods.
stage_close() {
	local rc=0 p
	for p in $(jobs -pr); do kill -TERM "$p" 2>/dev/null; kill -TERM -- "-$p" 2>/dev/null; done
	wait
	if [ -n "$stage_ours" ]; then "$KUBE" down >/dev/null 2>&1 || rc=1
	elif [ -e "$KST/up" ]; then
		k uncordon node-a node-b >/dev/null 2>&1
		k delete namespace $NS --wait=false >/dev/null 2>&1
	fi
	rm -rf "$T"
	return $rc
}
k() { "$KST/kubectl" "$@"; }
kn() { k -n $NS "$@"; }
on() { "$KUBE" exec "$@"; }
diag() { sed 's/^/  /' >&2; }
retry() { # TIMES CMD...: every half second
	local i n=$1
	shift
	for ((i = 0; i < n; i++)); do
		"$@" >"$T/retry" 2>&1 && return
		sleep 0.5
	done
	cat "$T/retry" >&2
	return 1
}
stage_build() { "$TOP/tools/build" --quiet; }
stage_up() { [ -e "$KST/up" ] || GODWIT_JOBS=${GODWIT_JOBS:-2} "$KUBE" up --bare --cni none; }
# As on anybody's cluster: the image, the manifests, one label.
stage_godwit() {
	"$TOP/tools/image" --no-build && "$KUBE" load "$TOP/build/image/godwit.tar" && k apply -f "$TOP/deploy/" || return 1
	k label node node-a node-b node-c live.godwit.dev/node=true --overwrite || return 1
	k -n godwit-system rollout status daemonset/godwitd --timeout=180s && retry 120 nodes_ready &&
		k -n godwit-system rollout status deployment/godwit-controller --timeout=120s || { k get pods -A -o wide; return 1; }
	k delete namespace $NS --ignore-not-found --timeout=60s >/dev/null 2>&1
	k create namespace $NS >/dev/null && retry 60 kn get serviceaccount default
}
stage_step() { # WORDS CMD...: the demo has a finer one
	printf '%s\n' "$1" >&2
	shift
	"$@" >"$T/step" 2>&1 || { tail -n 30 "$T/step" | diag; return 1; }
}
stage_cluster() {
	stage_step "building godwit" stage_build &&
		stage_step "a Kubernetes of four hosts (built from source the first time, some minutes)" stage_up &&
		stage_step "godwit on its nodes" stage_godwit
}
nodes_ready() { [ "$(k get nodes --no-headers | grep -c ' Ready')" = 3 ]; }

# --------------------------------------------------------------- workloads
# Pods live on node-a or node-b, rather on the one named: node-c is the clients'.
pod_spec() { # IMAGE PORT NODE ARGS-AS-JSON
	jq -n --arg image "$1" --argjson port "$2" --arg node "$3" --argjson args "$4" '{terminationGracePeriodSeconds: 10,
		affinity: {nodeAffinity: {
			requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: "kubernetes.io/hostname", operator: "In", values: ["node-a", "node-b"]}]}]},
			preferredDuringSchedulingIgnoredDuringExecution: [{weight: 100, preference: {matchExpressions: [{key: "kubernetes.io/hostname", operator: "In", values: [$node]}]}}]}},
		containers: [{name: "main", image: $image, args: $args, resources: {requests: {cpu: "50m"}},
			readinessProbe: {tcpSocket: {port: $port}, periodSeconds: 1}}]}'
}
redis_spec() { pod_spec kube.test/redis:1 6379 "$1" '["--save", "", "--appendonly", "no", "--protected-mode", "no", "--enable-debug-command", "yes"]'; }
workload() { # KIND NAME PORT, the pod's spec on stdin: with a Service of its name
	jq --arg kind "$1" --arg name "$2" --argjson port "$3" '
		{metadata: {name: $name, labels: {app: $name}, annotations: {"kubectl.kubernetes.io/default-container": "main"}}} as $meta
		| (if $kind == "Pod" then {apiVersion: "v1", kind: "Pod", spec: .} + $meta
		   else {apiVersion: "apps/v1", kind: $kind, spec: {replicas: 1, selector: {matchLabels: {app: $name}}, template: (($meta | del(.metadata.name)) + {spec: .})}} + $meta
		   end | if $kind == "StatefulSet" then .spec.serviceName = $name else . end),
		{apiVersion: "v1", kind: "Service", metadata: {name: $name}, spec: {selector: {app: $name}, ports: [{port: $port}]}}' | kn apply -f - >/dev/null || return 1
	if [ "$1" = Pod ]; then kn wait --for=condition=Ready "pod/$2" --timeout=60s >/dev/null; else kn rollout status "$1/$2" --timeout=60s >/dev/null; fi
}
pods_of() { kn get pods -l "app=$1" -o json | jq -r '.items[] | select(.metadata.deletionTimestamp | not) | select(.status.phase == "Running") | .metadata.name'; }
pod_of() { pods_of "$1" | head -n 1; }
pod_ip() { kn get pod "$1" -o 'jsonpath={.status.podIP}'; }
node_of() { kn get pod "$1" -o 'jsonpath={.spec.nodeName}'; }
other_node() { [ "$1" = node-a ] && echo node-b || echo node-a; }

# Values of 900 bytes until redis is as big as asked.
redis_fill() { # POD MIB
	local rss i
	kn exec "$1" -- sh -c 'mib=$1 base= keys=0
		size() { echo $(($(sed -n "s/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p" /proc/1/status) / 1024)); }
		base=$(size)
		for i in 1 2 3 4; do
			rss=$(size)
			[ $rss -lt $mib ] || break
			if [ $keys = 0 ]; then step=$(((mib - rss) * 1048576 / 1150)); else step=$(((mib - rss) * keys / (rss - base + 1))); fi
			[ $step -gt 100 ] || break
			keys=$((keys + step))
			[ "$(redis-cli debug populate $keys k 900)" = OK ] || exit 1
		done' fill "$2"
}
redis_keys() { kn exec "$1" -- redis-cli dbsize; }

# ----------------------------------------------------------------- clients
# A pod of node-c with the lab's checking client in it (lab-load --help).
client_pod() { # NAME [IMAGE]
	jq -n --arg name "$1" --arg image "${2:-kube.test/redis:1}" --arg lab "${LOAD%/*}" '{apiVersion: "v1", kind: "Pod", metadata: {name: $name}, spec: {nodeName: "node-c", terminationGracePeriodSeconds: 0,
		containers: [{name: "client", image: $image, command: ["sleep", "1000000"], volumeMounts: [{name: "lab", mountPath: "/lab", readOnly: true}]}],
		volumes: [{name: "lab", hostPath: {path: $lab}}]}}' | kn apply -f - >/dev/null && kn wait --for=condition=Ready "pod/$1" --timeout=60s >/dev/null
}
declare -A client_pid
client_start() { # NAME ADDRESS [lab-load options]: holds one connection until client_stop
	local name=$1 ip=$2
	shift 2
	kn exec "$name" -- rm -f /tmp/ctl || return 1
	kn exec "$name" -- /lab/lab-load --host "$ip" --port 6379 --control /tmp/ctl --report-file /tmp/report --seconds 0 "$@" >"$T/$name.end" 2>"$T/$name.err" &
	client_pid[$name]=$!
	retry 20 client_ctl "$name" peek || { diag <"$T/$name.err"; return 1; }
}
client_ctl() { # NAME mark WORD|peek|stop
	local name=$1
	shift
	kn exec "$name" -- /lab/lab-load ctl /tmp/ctl "$@" 2>/dev/null
}
client_stop() { # NAME: reads every key back; its verdict is in $T/NAME.end; 1: something was lost
	client_ctl "$1" stop >/dev/null
	wait "${client_pid[$1]}"
}
