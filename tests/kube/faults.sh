#!/usr/bin/env bash
# Parts of the cluster are killed while a pod moves under a client: it moves all the
# same, or runs on where it was; a failed move that an eviction asked for is one.
export GODWIT_LAB=${GODWIT_LAB_FAULTS:-${GODWIT_LAB:-godwit-test}-faults}
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/install.sh"
. "$(dirname "$0")/workloads.sh"
[ -x "$GW/bin/godwit-controller" ] || skip_all "godwit is not built (tools/build)"
need_kube --cni none
plan 47
exec 3>&1 # for what is noted inside a check

count() { kn get pods -l "app=$1" -o json | jq '[.items[] | select(.metadata.deletionTimestamp | not)] | length'; }
other() { [ "$1" = node-a ] && echo node-b || echo node-a; }
web_to_other() { # NAME [jq]: slowly, so that something can happen on the way
	local pod
	pod=$(pod_of web)
	mig "$1" "$pod" "$(other "$(node_of "$pod")")" ".spec.options.bandwidth = 6000000 | ${2:-.}"
}
# A try that failed counts as a start of the target: what counts is the process, and
# a connection that is there says that it is the same one.
still() { answers web || { cat "$T/load-web.end" "$T/load-web.err"; return 1; }; }
restarts() { kn get pod "$(pod_of web)" -o 'jsonpath={.status.containerStatuses[0].restartCount}'; }
alone() { [ "$(count web)" = 1 ]; }
# Under way, then SERVICE of HOST is killed (it is started again after a second).
hit() { # NAME HOST SERVICE
	web_to_other "$1" && retry 60 phase_is "$1" PreCopy && "$KUBE" service "$2" "$3" kill >/dev/null
}

put_godwit
check "a Deployment's pod starts" owned Deployment web node-a
check "a client writes to it" client web "$(pod_ip "$(pod_of web)")"
kn exec "$(pod_of web)" -- sh -c 'redis-cli debug populate 40000 fill 400 >/dev/null' # so that pre-copy takes some seconds

both_ways() { # NAME, for its end, whichever it is
	check "the migration comes to its end" retry 240 over "$1"
	check "and there is one pod" retry 60 alone
	check "with its client's connection" still
	echo "# $(st "$1" phase) $(st "$1" reason) $(st "$1" message)"
}
for part in kubelet containerd; do
	check "$part of the source is killed in pre-copy" hit "m-$part" "$(node_of "$(pod_of web)")" $part
	both_ways "m-$part"
	check "$part of the destination is killed in pre-copy" hit "d-$part" "$(other "$(node_of "$(pod_of web)")")" $part
	both_ways "d-$part"
done
# While godwitd of the destination stands still there for some seconds: its container is
# started (a keeper), and waits to be restored; or is restored, and waits for the commit.
hit_at() { # NAME POINT SERVICE
	local to
	to=$(other "$(node_of "$(pod_of web)")")
	on "$to" sh -c "echo '$2 hang' >/run/godwit/fault"
	web_to_other "$1" '.spec.options.bandwidth = 0'
	at_point() { ! on "$to" test -s /run/godwit/fault; }
	retry 60 at_point && "$KUBE" service "$to" "$3" kill >/dev/null
}
for part in kubelet containerd; do
	for point in armed restored; do
		check "$part of the destination is killed when its copy is $point" hit_at "$point-$part" "dest-$point" $part
		both_ways "$point-$part"
	done
done
check "the API server is killed in pre-copy" hit api control kube-apiserver
check "the pod moves when it is back" ends api Succeeded
check "its client has its connection" still

from=$(node_of "$(pod_of web)")
on "$(other "$from")" sh -c 'echo "dest-restored kill" >/run/godwit/fault'
web_to_other killed '.spec.options.bandwidth = 0'
check "godwitd of the destination is killed with the copy rebuilt: the migration fails" ends killed Failed
is "the pod runs on where it was" "$(node_of "$(pod_of web)") $(restarts)" "$from 0"
gw_agent "$(other "$from")"
check "its godwitd is started again" retry 20 gw_up "$(other "$from")"
check "nothing of the target is left" retry 60 alone
check "the client has its connection" still

# ---- an eviction that asked for the move
on "$(other "$from")" sh -c 'echo "dest-restored fail" >/run/godwit/fault'
pod=$(pod_of web)
web_to_other evicted '.spec.options.bandwidth = 0 | .spec.fallback = "Evict"'
check "a move that an eviction asked for fails" ends evicted Failed
gone() { ! kn get pod "$1" >/dev/null 2>&1; }
check "and is that eviction: the pod goes" retry 120 gone "$pod"
serves() { kn rollout status deployment/web --timeout=60s >/dev/null && alone; }
check "and its ReplicaSet has made another one" retry 20 serves
