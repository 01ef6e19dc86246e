#!/usr/bin/env bash
# godwit-cni is the network plugin of a cluster: addresses, reach, Services, host ports, restarts, dormant pods.
# GODWIT_CNI=PROGRAM takes another build than build/cmd/godwit-cni.
# A cluster of its own, since it has no network plugin to begin with.
export GODWIT_LAB=${GODWIT_LAB:-godwit-test}-cni
. "$(dirname "$0")/lib.sh"
plugin=${GODWIT_CNI:-$TOP/build/cmd/godwit-cni}
[ -x "$plugin" ] || skip_all "godwit-cni is not built"
need_kube --cni none
plan 46
NODES=(node-a node-b node-c)
DATA=/var/lib/godwit/cni

cidr() { k get node "$1" -o "jsonpath={.spec.podCIDRs[$2]}"; }
host_no() { case $1 in node-a) echo 2 ;; node-b) echo 3 ;; node-c) echo 4 ;; esac; }
conflist() { # RANGE RANGE
	cat <<-C
		{"cniVersion": "1.0.0", "name": "godwit", "plugins": [
		 {"type": "godwit-cni", "ranges": ["$1", "$2"], "capabilities": {"io.kubernetes.cri.pod-annotations": true}},
		 {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true}]}
	C
}
install_on() {
	on "$1" install -m 755 "$plugin" /opt/cni/bin/godwit-cni &&
		conflist "$(cidr "$1" 0)" "$(cidr "$1" 1)" | on "$1" sh -c 'cat >/etc/cni/net.d/.g && mv /etc/cni/net.d/.g /etc/cni/net.d/10-godwit.conflist'
}
# What godwitd does from the Node objects (src/cni/fabric.h).
routes() { # HOST...
	local h n
	for h in "$@"; do for n in "${NODES[@]}"; do
		[ "$h" = "$n" ] && continue
		on "$h" ip route replace "$(cidr "$n" 0)" via "10.9.0.$(host_no "$n")" && on "$h" ip -6 route replace "$(cidr "$n" 1)" via "fd09::$(host_no "$n")" || return 1
	done; done
}
not_ready() { [ "$(k get nodes --no-headers | grep -c NotReady)" = 3 ]; }
ready() { [ "$(k get nodes --no-headers | grep -c ' Ready')" = 3 ]; }
ips() { kn get pod "$1" -o 'jsonpath={range .status.podIPs[*]}{.ip}{"\n"}{end}'; }
ip4() { ips "$1" | grep -v :; }
ip6() { ips "$1" | grep :; }
given() { on "$1" sh -c "ls $DATA/addr 2>/dev/null"; }
get() { kn exec "$1" -- timeout 3 wget -qO- "http://$2/"; }
in_cidr() { # ADDRESS CIDR: of the whole-byte prefixes that nodes get
	python3 -c 'import ipaddress,sys; sys.exit(ipaddress.ip_address(sys.argv[1]) not in ipaddress.ip_network(sys.argv[2]))' "$@"
}

check "without a network plugin the nodes are not Ready" retry 60 not_ready
for n in "${NODES[@]}"; do check "the plugin is put on $n" install_on "$n"; done
check "and makes them Ready" retry 120 ready
check "routes lead from node to node" routes control "${NODES[@]}"

# Servers on each node, one of them with a port of its host.
kn apply -f "$HERE/manifests/prove.yaml" >/dev/null
kn apply -f "$HERE/manifests/cni.yaml" >/dev/null
for n in a b c; do check "a pod on node-$n gets its network and passes its probes" kn wait --for=condition=Ready "pod/web-$n" --timeout=60s; done
for n in a b c; do
	check "the IPv4 address of the pod on node-$n is of its range" in_cidr "$(ip4 web-$n)" "$(cidr node-$n 0)"
	check "and so is the IPv6 address" in_cidr "$(ip6 web-$n)" "$(cidr node-$n 1)"
done
for pair in a:b b:c c:a; do
	from=${pair%:*} to=${pair#*:}
	check "a pod on node-$from reaches one on node-$to by IPv4" has "hello from web-$to" get web-$from "$(ip4 web-$to)"
	check "and by IPv6 from node-$from" has "hello from web-$to" get web-$from "[$(ip6 web-$to)]"
done
check "the port host-b is served on the pod's own address" kn wait --for=condition=Ready pod/host-b --timeout=60s
check "two pods of one node reach each other" has "hello from host-b" get web-b "$(ip4 host-b)"
svc=$(kn get service web-b -o 'jsonpath={.spec.clusterIP}') port=$(kn get service web-b -o 'jsonpath={.spec.ports[0].nodePort}')
for n in a b; do check "a pod on node-$n reaches the Service of one on node-b" retry 10 has "hello from web-b" get web-$n "$svc"; done
check "a NodePort answers on a node that does not have the pod" retry 10 has "hello from web-b" on control curl -s -m 3 "http://10.9.0.4:$port/"
check "a host port leads to its pod, through portmap" retry 10 has "hello from host-b" on control curl -s -m 3 http://10.9.0.3:8088/
check "also for a pod on another node" has "hello from host-b" get web-a 10.9.0.3:8088
check_fails "a node without the pod does not have that port" on control curl -s -m 2 http://10.9.0.4:8088/
check "the plugin's own CHECK finds the pod whole" on node-a bash -c '
	id=$(ls '$DATA'/pod | head -n 1); r=/var/lib/cni/results/godwit-$id-eth0
	ns=$(sed -n "s/.*\"netns\": \"\([^\"]*\)\".*/\1/p" '$DATA'/pod/$id)
	jq -c "{cniVersion, name: \"godwit\", dataDir: \"'$DATA'\", prevResult: .}" < <(jq .result "$r") |
		CNI_COMMAND=CHECK CNI_CONTAINERID=$id CNI_NETNS=$ns CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin /opt/cni/bin/godwit-cni'

# Addresses come back, and go out to others last.
old=$(ip4 host-b)
kn delete pod host-b --wait >/dev/null
freed() { ! given node-b | grep -qxF "$old"; }
check "a deleted pod's address is free" retry 20 freed
check_fails "and so is its host port" on control curl -s -m 2 http://10.9.0.3:8088/
kn apply -f "$HERE/manifests/cni.yaml" >/dev/null
check "made anew it is there again" kn wait --for=condition=Ready pod/host-b --timeout=60s
check_fails "with another address, for clients may know the old one" test "$(ip4 host-b)" = "$old"

kn create deployment many --image=kube.test/busybox:1 --replicas=18 -- sleep 3600 >/dev/null
check "eighteen pods at once get their networks" kn rollout status deployment/many --timeout=120s
all() { kn get pods -l "$1" -o 'jsonpath={range .items[*]}{range .status.podIPs[*]}{.ip}{"\n"}{end}{end}'; }
is "no two have the same address" "$(all app=many | sort -u | wc -l)" 36
kn delete deployment many --wait >/dev/null

# A pod that moves in: web-a's network, dormant on node-c.
net=$(cat <<J
{"ifname":"eth0","mac":"02:00:00:00:00:77","hostIfname":"gw0","hostMac":"ee:ee:ee:ee:ee:ee","mtu":1500,"addrs":["$(ip4 web-a)/32"],
"routes":[{"dst":"169.254.1.1/32"},{"dst":"0.0.0.0/0","via":"169.254.1.1"}],"gateways":["169.254.1.1/32"]}
J
)
jq -n --arg net "$net" '{apiVersion: "v1", kind: "Pod", metadata: {name: "moving", annotations: {"godwit.dev/migration": "m-1", "godwit.dev/network": $net}},
	spec: {nodeName: "node-c", terminationGracePeriodSeconds: 0, containers: [{name: "c", image: "kube.test/busybox:1", command: ["sleep", "3600"]}]}}' | kn apply -f - >/dev/null
check "a pod whose annotations say so starts with the address of the pod that moves" kn wait --for=condition=Ready pod/moving --timeout=60s
is "which is what the API says of it" "$(ip4 moving)" "$(ip4 web-a)"
check "its address leads to the old pod still" has "hello from web-a" get web-b "$(ip4 web-a)"
check_fails "the host of the new one has no route to it" on node-c sh -c "ip route show $(ip4 web-a) | grep -q ."
kn delete pod moving --wait >/dev/null
moved_out() { ! given node-c | grep -qxF "$(ip4 web-a)"; }
check "taken away again it leaves nothing" retry 20 moved_out
check "and the old pod serves" has "hello from web-a" get web-c "$(ip4 web-a)"

# A node without power.
"$KUBE" kill-node node-b
check "a node without power comes back" "$KUBE" start-node node-b
routes node-b
started() { [ "$(kn get pod web-b -o 'jsonpath={.status.containerStatuses[0].restartCount}{.status.containerStatuses[0].ready}')" = 1true ]; }
check "its pods get their networks again" retry 120 started
served() { has "hello from web-b" get web-a "$(ip4 web-b)" && has "hello from web-b" get web-c "[$(ip6 web-b)]"; }
check "and are reached" retry 20 served
kn delete -f "$HERE/manifests/prove.yaml" -f "$HERE/manifests/cni.yaml" --wait >/dev/null 2>&1
empty() { local n; for n in "${NODES[@]}"; do [ -z "$(on $n sh -c "ls $DATA/addr $DATA/pod | grep -v : ; ip -br link | grep ^gw")" ] || { on "$n" sh -c "ls $DATA/addr; ip -br link"; return 1; }; done; }
check "when all pods are gone no address and no interface is left on any node" retry 60 empty
