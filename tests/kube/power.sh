#!/usr/bin/env bash
# The source's node loses its power around the commit: what was committed stays, what
# was not is one pod again; nothing runs twice.
export GODWIT_LAB=${GODWIT_LAB_POWER:-${GODWIT_LAB:-godwit-test}-power}
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/install.sh"
. "$(dirname "$0")/workloads.sh"
[ -x "$GW/bin/godwit-controller" ] || skip_all "godwit is not built (tools/build)"
need_kube --cni none
plan 16
exec 3>&1 # for what is noted inside a check
back() { # NODE: with its power, its disk and its godwitd
	"$KUBE" start-node "$1" >/dev/null && gw_agent "$1" && retry 20 gw_up "$1"
}

put_godwit

# ---- after the commit, before the API server has heard of it
check "a Deployment's pod starts on node-a" owned Deployment web node-a
pod=$(running web)
check "a client writes to it" client web "$(pod_ip "$pod")"
on node-a sh -c 'echo "source-moved hang" >/run/godwit/fault'
mig web-1 "$pod" node-b
check "it moves, and its old node hangs when it has committed" retry 120 reached node-a source-moved
check "there the power is cut" "$KUBE" kill-node node-a
sleep 3
check "it answers from node-b" answers web
check "the power comes back" back node-a
check "the migration has succeeded" ends web-1 Succeeded
check "there is one pod, on node-b" retry 120 one_on web node-b
is "in which nothing was started anew" "$(kn get pod "$(running web)" -o 'jsonpath={.status.containerStatuses[0].restartCount}')" 0
check "its client kept its connection and every key" content web

# ---- before the commit
check "another Deployment's pod starts on node-a" owned Deployment old node-a
on node-a sh -c 'echo "source-frozen hang" >/run/godwit/fault'
mig old-1 "$(running old)" node-b
check "its node hangs in the freeze, and the power is cut" eval 'retry 120 reached node-a source-frozen && "$KUBE" kill-node node-a'
check "when it is back the migration is over" eval 'back node-a && retry 240 over old-1'
whole() { kn rollout status deployment/old --timeout=90s >/dev/null && [ "$(running old | wc -w)" = 1 ]; }
check "and there is one pod that serves" retry 20 whole
