# Sourced by tests/kube/kube: hosts on and off, their place in the network.

setting() { cat "$ST/settings/$1" 2>/dev/null || true; }

boot_host() { # HOST
	local h=$1
	rm -f "$ST/$h/ready" "$ST/$h/pid"
	cg_make "$h"
	( cg_enter "$h"
	  exec setsid unshare --net --mount --uts --ipc --pid --cgroup --fork --kill-child -- \
		/bin/bash "$HERE/node-boot" "$ST" "$h" "$(setting root)" "$DISKS/$h" "$(setting bin)" "$TOP" ) \
		</dev/null >"$ST/$h/init.log" 2>&1 &
	echo $! >"$ST/$h/starter"
}
start_services() { in_host "$1" kill -USR1 1; }

# A node's place: its link, then the routes to everybody's pods.
power_on() { # NODE...
	local n
	for n in "$@"; do
		date -u +%FT%TZ >"$ST/$n/boot"
		boot_host "$n"
	done
	for n in "$@"; do
		wait_host "$n"
		# shellcheck disable=SC2046
		wire_host "$n" $CONTROL $(nodes)
		start_services "$n"
	done
}
power_off() { # NODE: nobody in it gets a word in
	local n=$1 p
	if p=$(host_pid "$n"); then kill -KILL "$p" 2>/dev/null || true; fi
	cg_kill "$n"
	cg_drop "$n"
	rm -f "$ST/$n/pid" "$ST/$n/ready" "$ST/$n/daemon.pid"
}

# What a network plugin's daemon would do: each node gets a configuration for
# the addresses that the API gave it, every other a route to them. The control
# host, which is no node, gets its routes in any case: webhooks are pods.
pod_cidr() { k get node "$1" -o 'jsonpath={.spec.podCIDRs[0]}'; }
node_wanted() { [ -n "$(pod_cidr "$1")" ]; }
cni_config() { # SUBNET
	cat <<-E
		{"cniVersion": "1.0.0", "name": "kube", "plugins": [
		 {"type": "ptp", "ipMasq": false, "ipam": {"type": "host-local", "ranges": [[{"subnet": "$1"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
		 {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true}]}
	E
}
wire_pods() {
	local n h cidr
	for n in $(nodes); do
		host_pid "$n" >/dev/null || continue
		cidr=$(pod_cidr "$n")
		[ -n "$cidr" ] || continue
		in_host $CONTROL ip route replace "$cidr" via "$(host_ip "$n")"
		[ "$(setting cni)" = ptp ] || continue
		cni_config "$cidr" | in_host "$n" sh -c 'cat >/etc/cni/net.d/.kube.new && mv /etc/cni/net.d/.kube.new /etc/cni/net.d/10-kube.conflist'
		for h in $(nodes); do
			[ "$h" = "$n" ] || ! host_pid "$h" >/dev/null || in_host "$h" ip route replace "$cidr" via "$(host_ip "$n")"
		done
	done
}

# After a restart the API still knows the node as ready from before: only a
# heartbeat of this boot counts.
node_ready() { # NODE
	local s
	s=$(k get node "$1" -o 'jsonpath={range .status.conditions[?(@.type=="Ready")]}{.status} {.lastHeartbeatTime}{end}') || return 1
	[ "${s% *}" = True ] && [[ ! "${s#* }" < "$(cat "$ST/$1/boot")" ]]
}
