# Sourced by tests of Migration objects, after lib.sh and install.sh: workloads that are
# moved, what their Migrations say, clients. Descriptor 3 is for what is noted inside a check.
spec='{"terminationGracePeriodSeconds": 5, "containers": [{"name": "redis", "image": "kube.test/redis:1", "args": ["--save", "", "--appendonly", "no", "--protected-mode", "no"],
	"readinessProbe": {"tcpSocket": {"port": 6379}, "periodSeconds": 1}}]}'
on_node() { jq --arg n "$1" '.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution = [{weight: 100, preference: {matchFields: [{key: "metadata.name", operator: "In", values: [$n]}]}}]'; }
owned() { # KIND NAME NODE [jq on the pod's spec]
	jq -n --arg kind "$1" --arg name "$2" --argjson spec "$(on_node "$3" <<<"$spec" | jq "${4:-.}")" '{apiVersion: "apps/v1", kind: $kind, metadata: {name: $name},
		spec: {replicas: 1, selector: {matchLabels: {app: $name}}, template: {metadata: {labels: {app: $name}}, spec: $spec}}} | if $kind == "StatefulSet" then .spec.serviceName = $name else . end' |
		kn apply -f - >/dev/null && kn rollout status "$1/$2" --timeout=60s
}
bare() { # NAME NODE [jq]
	jq -n --arg name "$1" --argjson spec "$(on_node "$2" <<<"$spec" | jq "${3:-.}")" '{apiVersion: "v1", kind: "Pod", metadata: {name: $name, labels: {app: $name}}, spec: $spec}' |
		kn apply -f - >/dev/null && kn wait --for=condition=Ready "pod/$1" --timeout=60s
}
pod_of() { kn get pods -l "app=$1" --field-selector=status.phase=Running -o 'jsonpath={.items[0].metadata.name}'; }
# Those of its pods that are not on their way out.
running() { kn get pods -l "app=$1" -o json | jq -r '[.items[] | select(.metadata.deletionTimestamp | not) | .metadata.name] | join(" ")'; }
one_on() { [ "$(running "$1" | wc -w)" = 1 ] && [ "$(node_of "$(running "$1")")" = "$2" ]; }
reached() { on "$1" grep -q "point=$2 " /var/log/godwitd.log; } # NODE POINT: its godwitd, of a fault that was asked for
pod_ip() { kn get pod "$1" -o 'jsonpath={.status.podIP}'; }
node_of() { kn get pod "$1" -o 'jsonpath={.spec.nodeName}'; }
mig() { # NAME POD NODE [jq]
	jq -n --arg name "$1" --arg pod "$2" --arg to "$3" '{apiVersion: "godwit.dev/v1alpha1", kind: "Migration", metadata: {name: $name}, spec: {podName: $pod, to: $to, options: {maxFreezeMs: 60000}}}' |
		jq "${4:-.}" | kn apply -f - >/dev/null
}
st() { kn get migration "$1" -o "jsonpath={.status.$2}"; }
phase_is() { [ "$(st "$1" phase)" = "$2" ]; }
over() { case $(st "$1" phase) in Succeeded | Failed | Cancelled) true ;; *) false ;; esac; }
ends() { # NAME PHASE; TRIES half seconds
	retry "${TRIES:-240}" over "$1"
	phase_is "$1" "$2" || {
		kn get migration "$1" -o json | jq '.status | del(.network, .successor, .check)'
		on control tail -n 8 /var/log/godwit-controller.log
		for n in node-a node-b; do gw_log $n 60 | grep -v level=debug | tail -n 5; done
		return 1
	}
}
move() { mig "$1" "$2" "$3" && ends "$1" Succeeded && echo "# $1: frozen $(st "$1" result.freezeMs) ms" >&3; }
refused() { # NAME POD NODE REASON [WORDS]
	mig "$1" "$2" "$3" && ends "$1" Failed && [ "$(st "$1" reason)" = "$4" ] && st "$1" message | grep -F -- "${5:-}" >/dev/null || { kn get migration "$1" -o json | jq '.status | {phase, reason, message, check}'; return 1; }
}
nothing_left() { # on any node, of any migration
	local n
	for n in "${NODES[@]}"; do
		[ -z "$(on "$n" sh -c 'ls /run/godwit/journal /run/godwit/held /run/godwit/mig 2>/dev/null | grep -v :$ | grep .')" ] || { echo "$n:"; on "$n" find /run/godwit; return 1; }
	done
}
# Clients on one host, each with one connection that it keeps.
CLIENTS=${CLIENTS:-node-c}
LOAD=$TOP/build/install/opt/godwit/libexec/godwit/lab/lab-load
clients=()
client() { # NAME IP [PORT]
	on "$CLIENTS" "$LOAD" --host "$2" --port "${3:-6379}" --rate 500 --keys 2000 --seconds 0 --control "/run/load-$1.sock" >"$T/load-$1.end" 2>"$T/load-$1.err" &
	clients+=("$1:$!")
	started_loads+=($!)
	sleep 1
	answers "$1"
}
answers() { on "$CLIENTS" "$LOAD" ctl "/run/load-$1.sock" peek >/dev/null; }
content() { # NAME: its connection and its keys
	local c
	for c in "${clients[@]}"; do
		[ "${c%:*}" = "$1" ] || continue
		on "$CLIENTS" "$LOAD" ctl "/run/load-$1.sock" stop >/dev/null
		wait "${c#*:}" && echo "# $1: $(jq -c '{wait_max_us, retransmits, timeouts}' "$T/load-$1.end")" >&3 && [ "$(jq -c '[.lost, .same_port]' "$T/load-$1.end")" = "[0,true]" ] || { cat "$T/load-$1.end" "$T/load-$1.err"; return 1; }
	done
}
# What the programs are allowed is what deploy/20-rbac.yaml says, nothing more.
as_account() { # HOST ACCOUNT
	k config view --raw --flatten -o json | jq --arg t "$(k -n godwit-system create token "$2" --duration=4h)" '.users[].user = {token: $t}' |
		on "$1" sh -c 'umask 077; cat >/etc/godwit/kubeconfig.json'
}
