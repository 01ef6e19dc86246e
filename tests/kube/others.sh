#!/usr/bin/env bash
# What others do while a pod moves: its owner is scaled down or restarted, source, target,
# owner or namespace are deleted, before and after the commit. Afterwards there are as many
# programs as the cluster wants, and nothing of the migration is left anywhere.
export GODWIT_LAB=${GODWIT_LAB_OTHERS:-${GODWIT_LAB:-godwit-test}-others}
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/install.sh"
. "$(dirname "$0")/workloads.sh"
[ -x "$GW/bin/godwit-controller" ] || skip_all "godwit is not built (tools/build)"
need_kube --cni none
plan 56
exec 3>&1 # for what is noted inside a check
SLOW='.spec.options.bandwidth = 20000'
# Under way, in its pre-copy, for as long as one likes.
under_way() { mig "$1" "$2" "$3" "$SLOW" && retry 40 phase_is "$1" PreCopy; }
programs() { for n in "${NODES[@]}"; do on "$n" sh -c 'pgrep -x redis-server | wc -l'; done | awk '{ n += $1 } END { print n }'; }
want_programs() { [ "$(programs)" = "$1" ] || { echo "$(programs) programs"; kn get pods -o wide; return 1; }; }
is_over() { retry 120 over "$1" && [ "$(st "$1" phase)" != Succeeded ] && echo "# $1: $(st "$1" phase), $(st "$1" reason)" >&3 || { kn get migration "$1" -o json | jq '.status | {phase, reason, message}'; return 1; }; }
settled() { # PROGRAMS: as many run, each in a pod that is Ready, and nothing is left
	retry 120 want_programs "$1" && retry 60 nothing_left && { [ "$1" = 0 ] || retry 60 all_ready "$1"; }
}
all_ready() { [ "$(kn get pods -o json | jq '[.items[] | select(.metadata.deletionTimestamp | not) | select(.status.containerStatuses // [] | length > 0 and all(.ready))] | length')" = "$1" ] && [ "$(kn get pods --no-headers | wc -l)" = "$1" ] || { kn get pods -o wide; return 1; }; }

put_godwit
one='.runtimeClassName = "godwit"'

# ---- before the commit
check "a Deployment's pod starts" owned Deployment web node-a "$one"
check "its move is under way" under_way del-1 "$(pod_of web)" node-b
kn delete pod "$(kn get migration del-1 -o 'jsonpath={.spec.podName}')" --wait=false >/dev/null
check "somebody deletes it: the migration is over" is_over del-1
check "one new pod runs" settled 1
check "the next move is under way" under_way scale-1 "$(pod_of web)" node-b
kn scale deployment web --replicas=0 >/dev/null
check "it is scaled to nothing: the migration is over" is_over scale-1
check "nothing runs" settled 0
kn scale deployment web --replicas=1 >/dev/null
check "scaled up again it runs" settled 1
check "the next move is under way" under_way roll-1 "$(pod_of web)" node-b
kn rollout restart deployment/web >/dev/null
check "it is rolled out anew: the migration is over" is_over roll-1
check "one pod runs, of the new kind" settled 1
check "the next move is under way" under_way target-1 "$(pod_of web)" "$([ "$(node_of "$(pod_of web)")" = node-b ] && echo node-c || echo node-b)"
source=$(kn get migration target-1 -o 'jsonpath={.spec.podName}')
kn delete pod "$(kn get pods -o name | grep -- '-m[0-9a-f]\{5\}$' | cut -d/ -f2)" --grace-period=0 --force >/dev/null 2>&1
check "somebody deletes its target: the migration is over" is_over target-1
check "the source runs on" settled 1
is "the same, not begun anew" "$(pod_of web) $(kn get pod "$source" -o 'jsonpath={.status.containerStatuses[0].restartCount}')" "$source 0"
check "the next move is under way" under_way owner-1 "$(pod_of web)" "$([ "$(node_of "$(pod_of web)")" = node-b ] && echo node-c || echo node-b)"
kn delete deployment web --wait=false >/dev/null
check "its Deployment is deleted: the migration is over" is_over owner-1
check "nothing runs" settled 0

check "a StatefulSet's pod starts" owned StatefulSet db node-a "$one"
check "its move is under way" under_way sts-1 db-0 node-b
kn delete pod db-0 --wait=false >/dev/null
check "somebody deletes it: the migration is over" is_over sts-1
check "one db-0 runs" settled 1
check "the next move is under way" under_way sts-2 db-0 "$([ "$(node_of db-0)" = node-b ] && echo node-c || echo node-b)"
kn scale statefulset db --replicas=0 >/dev/null
check "it is scaled to nothing: the migration is over" is_over sts-2
check "nothing runs" settled 0
kn delete statefulset db --wait=false >/dev/null

# ---- in the freeze, and after the commit
frozen() { # NAME POD: on node-a, under way to node-b, and it stays so for a while
	on node-a sh -c ": >/var/log/godwitd.log; echo 'source-restored hang' >/run/godwit/fault"
	mig "$1-1" "$2" node-b
	check "it is frozen" retry 60 reached node-a source-restored
}
check "a Deployment's pod starts" owned Deployment cold node-a "$one"
frozen cold "$(pod_of cold)"
kn delete deployment cold --wait=false >/dev/null
check "its Deployment is deleted then: the migration is over" retry 120 over cold-1
echo "# cold-1: $(st cold-1 phase), $(st cold-1 reason)"
check "nothing runs" settled 0
# The object of a pod whose name stays is gone by then.
frozen_set() { # NAME
	check "a StatefulSet's pod starts" owned StatefulSet "$1" node-a "$one"
	frozen "$1" "$1-0"
}
set_over() { # NAME WORDS
	check "$2 then: the migration is over" retry 120 over "$1-1"
	is "for that reason" "$(st "$1-1" phase) $(st "$1-1" reason)" "Cancelled OwnerGone"
	check "nothing runs" settled 0
}
frozen_set ice
kn delete statefulset ice --wait=false >/dev/null
set_over ice "its StatefulSet is deleted"
frozen_set few
kn scale statefulset few --replicas=0 >/dev/null
kn delete pod few-0 --grace-period=0 --force >/dev/null 2>&1
set_over few "it is scaled down"
kn delete statefulset few --wait=false >/dev/null
# A godwitd that does not know any more what it has held.
frozen_set old
gw_stop node-a KILL
kn delete statefulset old --wait=false >/dev/null
gw_agent node-a
set_over old "godwitd of the source is killed and its StatefulSet deleted"
check "a Deployment's pod starts" owned Deployment late node-a "$one"
mig late-1 "$(pod_of late)" node-b
committed() { [ "$(st late-1 phase)" = Committed ] || over late-1; }
for _ in $(seq 200); do ! committed || break; sleep 0.05; done
kn delete pod -l app=late --field-selector spec.nodeName=node-b --wait=false >/dev/null
check "its target is deleted at the commit: the migration is over" retry 120 over late-1
echo "# late-1: $(st late-1 phase), $(st late-1 reason)"
check "one new pod runs" settled 1
check "the next move is under way" under_way ns-1 "$(pod_of late)" "$([ "$(node_of "$(pod_of late)")" = node-b ] && echo node-c || echo node-b)"
check "a bare pod starts" bare solo node-a "$one"
on node-b sh -c 'echo "dest-restored failing" >/run/godwit/fault'
mig solo-1 solo node-b
tried() { [ "$(st solo-1 reason)" = TryingAgain ]; }
check "its move does not succeed, and its object is gone" retry 120 tried
k delete namespace "$NS" --wait=false >/dev/null
gone() { ! k get namespace "$NS" >/dev/null 2>&1; }
check "its namespace is deleted: it goes" retry 240 gone
check "no program runs" retry 60 want_programs 0
check "nothing is left on any node" retry 60 nothing_left
on node-b rm -f /run/godwit/fault
check "the bare pod's hand-over ended with it" on control grep "handed over in a namespace that is being deleted" /var/log/godwit-controller.log
