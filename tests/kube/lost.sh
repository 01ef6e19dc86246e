#!/usr/bin/env bash
# The source's node is lost and does not come back: the destination says whether there was
# a commit. A source that was only cut off can never commit after that; nothing runs
# twice, nothing stays in its phase.
export GODWIT_LAB=${GODWIT_LAB_LOST:-${GODWIT_LAB:-godwit-test}-lost}
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/install.sh"
. "$(dirname "$0")/workloads.sh"
[ -x "$GW/bin/godwit-controller" ] || skip_all "godwit is not built (tools/build)"
need_kube --cni none
plan 35
exec 3>&1 # for what is noted inside a check
alone() { [ "$(kn get pods -l "app=$1" --no-headers | wc -l)" = 1 ]; } # not even one that is terminating
restarts() { kn get pod "$(running "$1")" -o 'jsonpath={.status.containerStatuses[0].restartCount}'; }
signal() { on "$1" sh -c 'kill -$0 $(cat /run/godwit/pid)' "$2"; } # NODE SIGNAL: its godwitd
taint() { k taint node node-a "node.kubernetes.io/out-of-service=lost:NoSchedule$1" >/dev/null; }
settled() { ! kn get migration "$1" -o 'jsonpath={.metadata.finalizers}' | grep godwit >/dev/null; }
said() { [ "$(st "$1" reason)" = "$2" ] || { st "$1" reason; return 1; }; }
cut_for_good() { "$KUBE" kill-node node-a && k delete node node-a --wait=false >/dev/null; }
back() { # node-a, as a node that nobody knows
	"$KUBE" start-node node-a >/dev/null && k label node node-a live.godwit.dev/node=true --overwrite >/dev/null &&
		gw_cni node-a && gw_agent node-a && retry 20 gw_up node-a && retry 120 nodes_ready
}

put_godwit

# ---- not off, only away: it comes back and wants to commit
check "a Deployment's pod starts on node-a" owned Deployment web node-a
pod=$(running web)
check "a client writes to it" client web "$(pod_ip "$pod")"
on node-a sh -c 'echo "source-committing hang" >/run/godwit/fault'
mig web-1 "$pod" node-b
check "its node is cut off between freeze and commit" eval 'retry 120 reached node-a source-committing && signal node-a STOP'
check "and somebody says that it is off" taint ""
check "the migration fails" ends web-1 Failed
check "for that reason" said web-1 SourceLost
check "its target goes" retry 40 settled web-1
check "and is not waited for" retry 40 alone web
check "the node comes back: it may not commit any more" signal node-a CONT
check "the pod runs on there" retry 40 answers web
is "and nothing was started anew" "$(running web) $(restarts web)" "$pod 0"
check "its client kept its connection and every key" content web
check "nobody says that the node is off any more" taint -

# ---- off, after the commit, before the API server has heard of it
check "a client writes to it again" client web2 "$(pod_ip "$pod")"
on node-a sh -c 'echo "source-commit-sent hang" >/run/godwit/fault'
mig web-2 "$pod" node-b
check "it moves, and its node is off as soon as it has said commit" eval 'retry 120 reached node-a source-commit-sent && sleep 1 && "$KUBE" kill-node node-a'
check "its Node is deleted" k delete node node-a --wait=false
check "the migration succeeds: the destination tells of the commit" ends web-2 Succeeded
check "there is one pod, on node-b" retry 240 one_on web node-b
is "in which nothing was started anew" "$(restarts web)" 0
check "its client kept its connection and every key" content web2
check "the node comes back, as a new one" back
sleep 3
check "there is still one pod, on node-b" one_on web node-b

# ---- off, before the commit; the destination is silent at first
check "another Deployment's pod starts on node-a" owned Deployment early node-a
check "and a StatefulSet's" owned StatefulSet db node-a '.runtimeClassName = "godwit"'
uid=$(kn get pod db-0 -o 'jsonpath={.metadata.uid}')
mig early-1 "$(running early)" node-b '.spec.options.bandwidth = 20000'
retry 60 phase_is early-1 PreCopy
on node-a sh -c 'echo "source-frozen hang" >/run/godwit/fault'
mig db-1 db-0 node-b
check "one is copied, the other handed over and frozen: now the power goes" eval 'retry 120 reached node-a source-frozen && "$KUBE" kill-node node-a'
gw_stop node-b KILL
k delete node node-a --wait=false >/dev/null
asked() { said early-1 SourceLost && said db-1 SourceLost; }
check "the destination is asked" retry 60 asked
sleep 3
is "and while it says nothing, nothing is decided" "$(st early-1 phase) $(st db-1 phase)" "PreCopy HandOver"
check "its godwitd comes back" eval 'gw_agent node-b && retry 20 gw_up node-b'
check "both migrations fail" eval 'ends early-1 Failed && ends db-1 Failed'
check "and keep no place" eval 'retry 40 settled early-1 && retry 40 settled db-1'
check "the Deployment's pod is made anew" kn rollout status deployment/early --timeout=120s
anew() { [ "$(kn get pod db-0 -o 'jsonpath={.metadata.uid}')" != "$uid" ] && kn wait --for=condition=Ready pod/db-0 --timeout=1s; }
check "and the StatefulSet's, under its name" retry 240 anew
check "the node comes back once more" back
