#!/usr/bin/env bash
# What godwit-controller does besides moving: counts, Events, metrics, KIND/NAME, Jobs,
# Services that never lose their endpoint, disruption budgets, limits.
export GODWIT_LAB=${GODWIT_LAB_CTRL:-${GODWIT_LAB:-godwit-test}-ctrl}
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/install.sh"
. "$(dirname "$0")/workloads.sh"
[ -x "$GW/bin/godwit-controller" ] || skip_all "godwit is not built (tools/build)"
need_kube --cni none
plan 62
kg() { k godwit "$@" -n "$NS"; }

put_godwit
GW_CONTROLLER_OPTIONS='--metrics 10.9.0.1:9461' GW_AGENT_OPTIONS='--metrics 127.0.0.1:9461'
as_accounts() {
	local n
	as_account control godwit-controller && gw_controller || return 1
	for n in "${NODES[@]}"; do as_account "$n" godwitd && gw_stop "$n" TERM && gw_agent "$n" && retry 20 gw_up "$n" || return 1; done
}
check "its programs get their own accounts, with the rights of deploy/20-rbac.yaml" as_accounts

# ---- requests to the API server are counted
check "a Deployment's pod starts" owned Deployment web node-a
mig web-1 "$(pod_of web)" node-b
check "it moves" ends web-1 Succeeded
counted() { # NAME
	kn get migration "$1" -o json | jq -e '.status | (.requests.controller > 5) and (.requests.agents >= 2) and (.result.apiRequests == .requests.controller + .requests.agents)' >/dev/null || { kn get migration "$1" -o json | jq .status; return 1; }
}
check "the requests made for it are counted" counted web-1
echo "# API requests: $(st web-1 result.apiRequests)"
check "and kubectl godwit status tells them" has "$(st web-1 result.apiRequests) API requests" kg status web-1
mig web-2 "$(pod_of web)" node-x
check "one that fails" ends web-2 Failed
counted_too() { [ "$(st web-2 result.apiRequests)" -gt 3 ]; }
check "tells them as well" retry 10 counted_too

# ---- Events
events() { # KIND NAME: reasons, in the order of their time
	kn get events.events.k8s.io -o json | jq -r --arg k "$1" --arg n "$2" '[.items[] | select(.regarding.kind == $k and .regarding.name == $n and .reportingController == "godwit.dev/controller")] | sort_by(.eventTime) | [.[].reason] | join(" ")'
}
is "a Migration has its Events" "$(events Migration web-1)" "Started PreCopy Committed Succeeded"
is "its source has them" "$(events Pod "$(st web-1 source.pod)")" "MigrationStarted MigrationPreCopy MigrationCommitted MigrationSucceeded"
is "its target too, from pre-copy on" "$(events Pod "$(st web-1 target.pod)")" "MigrationPreCopy MigrationCommitted MigrationSucceeded"
check "the freeze is in the one of the commit" has "frozen for $(st web-1 result.freezeMs) ms" kn get events.events.k8s.io -o 'jsonpath={.items[?(@.reason=="Committed")].note}'
check "the reason in the one of a failure" has "NoSuchNode" kn get events.events.k8s.io -o 'jsonpath={.items[?(@.reason=="Failed")].note}'
check "kubectl describe shows them" has "frozen for" kn describe migration web-1
mig web-3 "$(pod_of web)" node-a
for _ in 1 2 3 4; do sleep 0.5; gw_controller_stop KILL; gw_controller; done
check "a pod moves although the controller is killed on the way" ends web-3 Succeeded
retry 10 has Succeeded events Migration web-3
is "and no Event is there twice" "$(events Migration web-3)" "Started PreCopy Committed Succeeded"

# ---- a pod that is only starting
jq -n --argjson spec "$(on_node node-a <<<"$spec" | jq '.initContainers = [{name: "first", image: "kube.test/redis:1", command: ["sleep", "5"]}]')" \
	'{apiVersion: "apps/v1", kind: "Deployment", metadata: {name: "slow"}, spec: {replicas: 1, selector: {matchLabels: {app: "slow"}}, template: {metadata: {labels: {app: "slow"}}, spec: $spec}}}' | kn apply -f - >/dev/null
starting() { slow=$(kn get pods -l app=slow -o 'jsonpath={.items[0].metadata.name}') && [ "$(node_of "$slow")" = node-a ]; }
retry 40 starting
mig slow-1 "$slow" node-b
waits() { [ "$(st slow-1 phase) $(st slow-1 reason)" = "Pending NotRunning" ]; }
check "a migration of a pod that is only starting waits for it" retry 20 waits
check "and moves it when it runs" ends slow-1 Succeeded
kn delete deployment slow --wait=false >/dev/null

# ---- metrics
http() { # HOST ADDR PATH
	on "$1" bash -c 'exec 3<>"/dev/tcp/$0/9461" && printf "GET %s HTTP/1.0\r\n\r\n" "$1" >&3 && cat <&3' "$2" "$3"
}
mig web-4 "$(pod_of web)" node-b
check "a pod moves while it is counted" ends web-4 Succeeded
mig web-5 "$(pod_of web)" node-x
check "another one does not" ends web-5 Failed
check "the controller tells that it leads" retry 10 has "godwit_leader 1" http control 10.9.0.1 /metrics
check "and how the migrations ended" has 'godwit_migrations_total{result="Failed",reason="NoSuchNode"} 1' http control 10.9.0.1 /metrics
check "with the freezes" has "godwit_freeze_seconds_count $(http control 10.9.0.1 /metrics | sed -nE 's/^godwit_migrations_total\{result="Succeeded",reason=""\} ([0-9]+).*/\1/p')" http control 10.9.0.1 /metrics
check "it is well" has "200 OK" http control 10.9.0.1 /healthz
check "godwitd of the source has counted it" has 'godwit_migrations_total{result="Committed",reason=""} 3' http node-a 127.0.0.1 /metrics
check "and is well" has "200 OK" http node-a 127.0.0.1 /healthz

# ---- KIND/NAME
of() { # NAME TARGET NODE
	jq -n --arg name "$1" --arg t "$2" --arg to "$3" '{apiVersion: "godwit.dev/v1alpha1", kind: "Migration", metadata: {name: $name}, spec: {target: $t, to: $to, options: {maxFreezeMs: 60000}}}' | kn apply -f - >/dev/null
}
of kind-1 Deployment/web node-a
check "a Deployment's one pod moves by the Deployment's name" ends kind-1 Succeeded
is "to the node" "$(node_of "$(pod_of web)")" node-a
check "kubectl godwit migrate takes it so" has "to node-b as web-" kg migrate deploy/web --to node-b --max-freeze 30000 --watch
of kind-2 Deployment/nobody node-b
check "one that does not exist" ends kind-2 Failed
is "is NoSuchWorkload" "$(st kind-2 reason)" NoSuchWorkload
of kind-3 Gadget/web node-b
check "a kind that nobody knows" ends kind-3 Failed
is "is UnknownKind" "$(st kind-3 reason)" UnknownKind
kn scale deployment web --replicas=2 >/dev/null && kn rollout status deployment/web --timeout=60s >/dev/null
of kind-4 deployments/web node-b
check "one that has two pods" ends kind-4 Failed
is "is WhichPod" "$(st kind-4 reason)" WhichPod
kn scale deployment web --replicas=1 >/dev/null

# ---- what the API server lets nobody do
denied() { # WORDS COMMAND...: fails, for this reason
	local want=$1
	shift
	! "$@" >"$T/denied" 2>&1 && grep -qF -- "$want" "$T/denied" || { cat "$T/denied"; return 1; }
}
phase_to() { kn patch migration "$1" --subresource=status --type=merge -p "{\"status\":{\"phase\":\"$2\"}}"; }
check "a Migration names a pod or a workload, not both" denied "either podName or target" mig x-1 "$(pod_of web)" node-b '.spec.target = "Deployment/web"'
check "and not neither" denied "either podName or target" mig x-1 x node-b 'del(.spec.podName)'
check "what it asks for cannot be changed" denied "only cancel can be changed" kn patch migration kind-1 --type=merge -p '{"spec":{"options":{"zstd":true}}}'
check "what is over stays over" denied "what is over stays over" phase_to kind-1 PreCopy
check "also when it failed" denied "what is over stays over" phase_to kind-2 Pending
check "a status does not go away" denied "does not go away" kn patch migration kind-1 --subresource=status --type=json -p '[{"op":"remove","path":"/status/phase"}]'
gw_controller_stop TERM
mig x-2 "$(pod_of web)" node-b
phase_to x-2 Committed >/dev/null
check "what is committed cannot fail" denied "can only succeed" phase_to x-2 Failed
mig x-3 "$(pod_of web)" node-b
phase_to x-3 HandOver >/dev/null
check "a phase never goes back" denied "a phase never goes back" phase_to x-3 PreCopy
kn delete migration x-2 x-3 --wait=false >/dev/null
gw_controller

# ---- Jobs
job() { # NAME SECONDS [jq]: a Job that counts seconds, on node-a
	jq -n --arg name "$1" --arg s "$2" --argjson spec "$(on_node node-a <<<'{"restartPolicy": "Never", "terminationGracePeriodSeconds": 5}')" '{apiVersion: "batch/v1", kind: "Job", metadata: {name: $name}, spec: {backoffLimit: 0, template: {metadata: {labels: {app: $name}}, spec: ($spec + {
		containers: [{name: "c", image: "kube.test/busybox:1", command: ["sh", "-c", "i=0; while [ $i -lt \($s) ]; do i=$((i+1)); sleep 1; done; [ $i = \($s) ]"]}]})}}}' | jq "${3:-.}" | kn apply -f - >/dev/null
}
pods_run() { [ "$(kn get pods -l "app=$1" --field-selector=status.phase=Running -o name | wc -l)" = "$2" ]; }
made() { kn get events --field-selector "involvedObject.kind=Job,involvedObject.name=$1,reason=SuccessfulCreate" -o name | wc -l; }
job count 20
check "a Job's pod starts" retry 40 pods_run count 1
from=$(pod_of count)
of job-1 Job/count node-b
check "it moves" ends job-1 Succeeded
is "to node-b" "$(node_of "$(pod_of count)")" node-b
check "the old pod is gone" denied "not found" kn get pod "$from"
is "the new one is the Job's" "$(kn get pod "$(pod_of count)" -o 'jsonpath={.metadata.ownerReferences[0].kind}')" Job
check "the Job completes" kn wait --for=condition=complete job/count --timeout=60s
is "with one success and no failure" "$(kn get job count -o json | jq -c '.status | [.succeeded, .failed]')" "[1,null]"
is "it made one pod" "$(made count)" 1
is "and is what it was" "$(kn get job count -o 'jsonpath={.spec.podReplacementPolicy}')" TerminatingOrFailed
job both 16 '.spec.completions = 2 | .spec.parallelism = 2 | .spec.completionMode = "Indexed"'
check "an Indexed Job's two pods start" retry 40 pods_run both 2
mig job-2 "$(kn get pods -l app=both,batch.kubernetes.io/job-completion-index=1 -o 'jsonpath={.items[0].metadata.name}')" node-b
retry 20 phase_is job-2 Committed
gw_controller_stop KILL
gw_controller
check "one moves, the controller killed after the commit" ends job-2 Succeeded
check "the Job completes" kn wait --for=condition=complete job/both --timeout=60s
is "both indexes succeeded" "$(kn get job both -o json | jq -c '.status | [.completedIndexes, .succeeded, .failed]')" '["0,1",2,null]'
is "it made two pods" "$(made both)" 2
job brief 9 '.spec.template.spec.containers[0].command = ["sh", "-c", "sleep 9; exit 3"]'
check "a Job that will fail starts" retry 40 pods_run brief 1
of job-3 Job/brief node-b
check "its pod moves" ends job-3 Succeeded
check "and fails where it is now" kn wait --for=condition=failed job/brief --timeout=60s
is "once" "$(kn get job brief -o json | jq -c '.status | [.succeeded, .failed]')" "[null,1]"
