#!/usr/bin/env bash
# kubectl godwit drain and disruption budgets; how many migrations run at once.
export GODWIT_LAB=${GODWIT_LAB_CTRL:-${GODWIT_LAB:-godwit-test}-ctrl}
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/install.sh"
. "$(dirname "$0")/workloads.sh"
[ -x "$GW/bin/godwit-controller" ] || skip_all "godwit is not built (tools/build)"
need_kube --cni none
plan 22

put_godwit
as_account control godwit-controller && gw_controller
k uncordon "${NODES[@]}" >/dev/null

# ---- limits
apps=(one two three)
for a in "${apps[@]}"; do owned Deployment "$a" node-a >/dev/null & done
wait
all_run() { [ "$(kn get pods --field-selector=status.phase=Running -o json | jq --arg n "$1" '[.items[] | select(.spec.nodeName == $n)] | length')" = 3 ]; }
check "three Deployments' pods start on node-a" all_run node-a
all() { # PREFIX NODE [jq]: a Migration for each
	local a
	for a in "${apps[@]}"; do mig "$1-$a" "$(pod_of "$a")" "$2" "${3:-.}"; done
}
most= queued=
watch_all() { # PREFIX: until all are over; the most that were under way at once
	local now i
	most=0 queued=0
	for i in $(seq 400); do
		kn get migrations -o json >"$T/all"
		now=$(jq --arg p "$1-" '[.items[] | select(.metadata.name | startswith($p)) | .status.phase // "" | select(. != "" and . != "Pending" and . != "Succeeded" and . != "Failed" and . != "Cancelled")] | length' "$T/all")
		[ "$now" -le "$most" ] || most=$now
		! grep -q '"reason": "Queued"' "$T/all" || queued=1
		[ "$(jq --arg p "$1-" '[.items[] | select(.metadata.name | startswith($p)) | select(.status.phase == "Succeeded")] | length' "$T/all")" != 3 ] || return 0
		sleep 0.1
	done
	jq -c '.items[] | [.metadata.name, .status.phase, .status.reason, .status.message]' "$T/all"
	return 1
}
GW_CONTROLLER_OPTIONS='--max-active 1' gw_controller
all single node-b
check "with --max-active 1 all three move" watch_all single
is "one after the other" "$most" 1
is "the others say that they are Queued meanwhile" "$queued" 1
GW_CONTROLLER_OPTIONS='--max-per-node 2' gw_controller
all pair node-a '.spec.options.bandwidth = 1000000'
check "with --max-per-node 2 all three move" watch_all pair
is "two at once" "$most" 2
GW_CONTROLLER_OPTIONS='' gw_controller
# Other nodes, but one is shared: node-a takes part in all of them.
for a in one two; do mig "star-$a" "$(pod_of $a)" node-b '.spec.options.bandwidth = 1000000'; done
mig star-three "$(pod_of three)" node-c '.spec.options.bandwidth = 1000000'
check "two by default, and to other nodes too" watch_all star
is "since one node is shared" "$most" 2
kn delete deployment "${apps[@]}" >/dev/null

# ---- a budget holds an eviction, not a move
budget() { # APP
	jq -n --arg a "$1" '{apiVersion: "policy/v1", kind: "PodDisruptionBudget", metadata: {name: $a}, spec: {minAvailable: 1, selector: {matchLabels: {app: $a}}}}' | kn apply -f - >/dev/null
}
guarded() { [ "$(kn get pdb "$1" -o 'jsonpath={.status.currentHealthy}')" = 1 ]; }
check "a Deployment's pod starts on node-a" owned Deployment web node-a
check "and a bare pod of plain runc, which cannot move" bare stay node-a
budget web
budget stay
check "each has a disruption budget that allows none to go" retry 40 guarded web
retry 40 guarded stay
k godwit drain node-a --to node-b --max-freeze 30000 >"$T/drain" 2>"$T/drain.err" &
drain=$!
started_loads+=($drain)
told() { grep -qF -- "$1" "$2" || { cat "$T/drain" "$T/drain.err"; return 1; }; }
check "drain moves the Deployment's pod all the same" retry 80 told "moved    $NS/web" "$T/drain"
is "to node-b" "$(node_of "$(pod_of web)")" node-b
check "and says what holds the other one" retry 40 told "disruption budget" "$T/drain.err"
sleep 3
is "which is not evicted" "$(kn get pod stay -o 'jsonpath={.status.phase}{.metadata.deletionTimestamp}')" Running
mig evict-1 stay node-b '.spec.fallback = "Evict"'
check "a failed migration with fallback Evict waits for it too" retry 20 phase_is evict-1 Failed
sleep 3
is "it is still there" "$(kn get pod stay -o 'jsonpath={.status.phase}{.metadata.deletionTimestamp}')" Running
mig other-1 "$(pod_of web)" node-c
check "while other migrations go on" ends other-1 Succeeded
kn delete pdb stay >/dev/null
check "when the budget is gone, so is the pod" retry 60 eval '! kn get pod stay'
wait "$drain"
is "and drain has done its work" "$?" 0
k uncordon node-a >/dev/null
