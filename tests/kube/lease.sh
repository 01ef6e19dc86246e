#!/usr/bin/env bash
# AddressLeases: an address that moved is never given out twice, also when its home node
# is deleted and its range is another's; every node sends to where it lives.
export GODWIT_LAB=${GODWIT_LAB_CTRL:-${GODWIT_LAB:-godwit-test}-ctrl}
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/install.sh"
. "$(dirname "$0")/workloads.sh"
[ -x "$GW/bin/godwit-controller" ] || skip_all "godwit is not built (tools/build)"
need_kube --cni none
plan 28

put_godwit
as_accounts() {
	local n
	as_account control godwit-controller && gw_controller || return 1
	for n in "${NODES[@]}"; do as_account "$n" godwitd && gw_stop "$n" TERM && gw_agent "$n" && retry 20 gw_up "$n" || return 1; done
}
check "its programs have their own accounts" as_accounts
lease() { k get addresslease "$1" -o "jsonpath={.spec.$2}"; }
lease_is() { [ "$(lease "$1" node)" = "$2" ]; }
no_lease() { ! k get addresslease "$1" >/dev/null 2>&1; }
via() { # NODE ADDRESS HOST: its packets for the address go there
	local d
	d=$(on "$1" ip route get "$2")
	grep -qF "via 10.9.0.$(host_no "$3") " <<<"$d" || { echo "$d"; return 1; }
}
has_file() { on "$1" test -e "/var/lib/godwit/cni/$2/$3"; }
lacks_file() { ! has_file "$@"; }

check "a Deployment's pod starts" owned Deployment web node-a
ip=$(pod_ip "$(pod_of web)")
mig web-1 "$(pod_of web)" node-b
check "it moves" ends web-1 Succeeded
check "its address is leased, to node-b" retry 10 lease_is "$ip" node-b
is "for the pod that it is now" "$(lease "$ip" pod.uid)" "$(kn get pod "$(pod_of web)" -o 'jsonpath={.metadata.uid}')"
check "a third node sends to where it is" retry 10 via node-c "$ip" node-b
check "its home may not give it out" has_file node-a reserved "$ip"
check "and knows that it is of its range" has home on node-a cat "/var/lib/godwit/cni/reserved/$ip"
is "which another node does not say" "$(on node-c cat "/var/lib/godwit/cni/reserved/$ip")" "lives on node-b"
mig web-2 "$(pod_of web)" node-c
check "it moves on" ends web-2 Succeeded
check "the lease says so" retry 10 lease_is "$ip" node-c
check "its home sends there" retry 10 via node-a "$ip" node-c
check "and the node in between" retry 10 via node-b "$ip" node-c
check "the pod answers on node-c" on node-b python3 -c 'import socket, sys; s = socket.create_connection((sys.argv[1], 6379), 5); s.sendall(b"PING\r\n"); sys.exit(s.recv(9) != b"+PONG\r\n")' "$ip"

# ---- its home is gone, and its range is somebody else's
reborn() { # node-a as a machine that was never here, with a range of two addresses, of which one is the leased one
	gw_stop node-a TERM
	"$KUBE" service node-a kubelet stop >/dev/null
	k delete node node-a >/dev/null || return 1
	on node-a sh -c 'rm -rf /var/lib/godwit/cni; ip route del "$0" 2>/dev/null; true' "$ip"
	"$KUBE" service node-a kubelet start >/dev/null
	retry 60 k get node node-a || return 1
	k label node node-a live.godwit.dev/node=true --overwrite >/dev/null
	on node-a sed -i -E 's,"ranges": \["[^"]*",'"\"ranges\": [\"$range\"," /etc/cni/net.d/10-godwit.conflist
	gw_agent node-a && retry 20 gw_up node-a && retry 120 nodes_ready
}
last=${ip##*.}
range=${ip%.*}.$((last / 4 * 4))/30
case $((last % 4)) in 0 | 3) range=$ip/32 ;; esac # not one that /30 gives to hosts
check "its home is deleted, and a new node has its range" reborn
check "which knows at once what it may not give out" retry 20 has_file node-a reserved "$ip"
check "and the way to it" retry 10 via node-a "$ip" node-c
for n in 1 2 3; do bare "late-$n" node-a 2>/dev/null & done
no_room() { has NoFreeAddress kn get events -o 'jsonpath={.items[*].message}' || has "no free address" kn get events -o 'jsonpath={.items[*].message}'; }
check "more pods than it has addresses for want to start there" retry 60 no_room
wait
is "and none of them got the leased one" "$(kn get pods -o json | jq --arg ip "$ip" '[.items[] | select(.metadata.name | startswith("late")) | select(.status.podIP == $ip)] | length')" 0
check "the pod answers as before" on node-b python3 -c 'import socket, sys; s = socket.create_connection((sys.argv[1], 6379), 5); s.sendall(b"PING\r\n"); sys.exit(s.recv(9) != b"+PONG\r\n")' "$ip"

# ---- the end of it
kn delete deployment web --wait=false >/dev/null
kn delete pod -l app=web --grace-period=1 >/dev/null
check "some time after its pod has gone the lease ends" retry 160 no_lease "$ip"
check "and the reservation" retry 10 lacks_file node-a reserved "$ip"
takes() { [ "$(kn get pods -o json | jq --arg ip "$ip" '[.items[] | select(.metadata.name | startswith("late")) | select(.status.podIP == $ip)] | length')" = 1 ]; }
check "now the address is given out again" retry 180 takes
kn delete pod late-1 late-2 late-3 --grace-period=0 --force >/dev/null 2>&1

check "another pod starts on node-b" owned Deployment two node-b
ip=$(pod_ip "$(pod_of two)")
mig two-1 "$(pod_of two)" node-c
ends two-1 Succeeded && retry 10 lease_is "$ip" node-c
mig two-2 "$(pod_of two)" node-b
check "it comes home" ends two-2 Succeeded
check "and needs no lease any more" retry 10 no_lease "$ip"
