# Sourced by tests that put godwit on the nodes by hand: programs, network plugin,
# certificates, one godwitd a node. Needs tests/kube/lib.sh, and a cluster made
# with --cni none.
GW=$TOP/build/install/opt/godwit
NODES=(node-a node-b node-c)
host_no() { case $1 in control) echo 1 ;; node-a) echo 2 ;; node-b) echo 3 ;; node-c) echo 4 ;; esac; }
cidr() { k get node "$1" -o "jsonpath={.spec.podCIDRs[$2]}"; }

gw_cni() { # HOST: the plugin and its configuration
	on "$1" install -D -m 755 "$GW/libexec/godwit/godwit-cni" /opt/cni/bin/godwit-cni &&
		cat <<-C | on "$1" sh -c 'cat >/etc/cni/net.d/.g && mv /etc/cni/net.d/.g /etc/cni/net.d/10-godwit.conflist'
			{"cniVersion": "1.0.0", "name": "godwit", "plugins": [
			 {"type": "godwit-cni", "ranges": ["$(cidr "$1" 0)", "$(cidr "$1" 1)"], "capabilities": {"io.kubernetes.cri.pod-annotations": true}},
			 {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true}]}
		C
}
gw_routes() { # HOST...: what godwitd does from the Node objects
	local h n
	for h in "$@"; do for n in "${NODES[@]}"; do
		[ "$h" = "$n" ] && continue
		on "$h" ip route replace "$(cidr "$n" 0)" via "10.9.0.$(host_no "$n")" && on "$h" ip -6 route replace "$(cidr "$n" 1)" via "fd09::$(host_no "$n")" || return 1
	done; done
}
gw_pki() {
	local d=$T/pki h
	mkdir -p "$d"
	"$TOP/tools/in-root" sh -e -c 'cd "$1"; shift
		openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/CN=godwit test" -addext basicConstraints=critical,CA:true -addext keyUsage=critical,keyCertSign,cRLSign -keyout ca.key -out ca.pem
		for h; do
			printf "subjectAltName=DNS:%s\nextendedKeyUsage=serverAuth,clientAuth\nkeyUsage=critical,digitalSignature\nbasicConstraints=critical,CA:false\n" "$h" >ext
			openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$h" -keyout "$h.key" -out "$h.csr"
			openssl x509 -req -in "$h.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile ext -out "$h.pem"
		done' sh "$d" "${NODES[@]}" >"$T/pki.log" 2>&1 || { diag <"$T/pki.log"; return 1; }
	for h in "${NODES[@]}"; do
		on "$h" mkdir -p /etc/godwit
		on "$h" sh -c 'cat >/etc/godwit/ca.pem' <"$d/ca.pem"
		on "$h" sh -c 'cat >/etc/godwit/cert.pem' <"$d/$h.pem"
		on "$h" sh -c 'umask 077; cat >/etc/godwit/key.pem' <"$d/$h.key"
		for n in "${NODES[@]}"; do echo "$n 10.9.0.$(host_no "$n"),fd09::$(host_no "$n") 9460"; done | on "$h" sh -c 'cat >/etc/godwit/hosts'
	done
}
gw_programs() { # HOST
	gw_stop "$1" TERM
	on "$1" sh -c 'mkdir -p /opt/godwit/bin /opt/godwit/libexec/godwit && rm -f /opt/godwit/bin/godwit-runtime &&
		cp "$0"/bin/* /opt/godwit/bin/ && cp "$0"/libexec/godwit/godwit-* "$0"/libexec/godwit/*.so /opt/godwit/libexec/godwit/' "$GW"
}
gw_stop() { # HOST SIGNAL: ends its godwitd, if there is one
	on "$1" sh -c 'p=$(cat /run/godwit/pid 2>/dev/null) || exit 0; kill -$0 $p 2>/dev/null || exit 0
		for i in $(seq 1 200); do kill -0 $p 2>/dev/null || exit 0; sleep 0.05; done; exit 1' "$2"
}
gw_up() { on "$1" test -S /run/godwit/godwit.sock; }
gw_daemon() { # HOST: starts it (again); its log is /var/log/godwitd.log there
	on "$1" sh -c 'mkdir -p /run/godwit; setsid /opt/godwit/bin/godwitd --name "$0" --runc-root /run/containerd/runc/k8s.io --log-level debug >>/var/log/godwitd.log 2>&1 </dev/null & echo $! >/run/godwit/pid' "$1"
}
gw_kubeconfig() { # HOST
	k config view --raw --flatten -o json | on "$1" sh -c 'mkdir -p /etc/godwit; umask 077; cat >/etc/godwit/kubeconfig.json'
}
# The same as part of the cluster: Migration objects say what to do.
gw_agent() { # HOST
	on "$1" sh -c 'mkdir -p /run/godwit; setsid /opt/godwit/bin/godwitd --name "$0" --kube --kubeconfig /etc/godwit/kubeconfig.json --runc-root /run/containerd/runc/k8s.io --log-level debug '"${GW_AGENT_OPTIONS:-}"' >>/var/log/godwitd.log 2>&1 </dev/null & echo $! >/run/godwit/pid' "$1"
}
gw_controller() { # starts it (again) on the control host
	gw_controller_stop TERM
	on control sh -c 'mkdir -p /opt/godwit/bin; setsid "$0/bin/godwit-controller" --kubeconfig /etc/godwit/kubeconfig.json '"${GW_CONTROLLER_OPTIONS:-}"' >>/var/log/godwit-controller.log 2>&1 </dev/null & echo $! >/run/godwit-controller.pid' "$GW"
}
gw_controller_stop() { # SIGNAL
	on control sh -c 'p=$(cat /run/godwit-controller.pid 2>/dev/null) || exit 0; kill -$0 $p 2>/dev/null || exit 0; while kill -0 $p 2>/dev/null; do sleep 0.05; done' "$1"
}
# All of it, as deploy/ says, with the programs as processes of the hosts instead
# of the DaemonSet and the Deployment (deploy.sh has those).
gw_cluster() {
	local n objects=("$TOP"/deploy/[123]*.yaml)
	for n in "${NODES[@]}"; do gw_cni "$n" && gw_programs "$n" && gw_kubeconfig "$n" || return 1; done
	gw_kubeconfig control && gw_pki && gw_routes control && k apply "${objects[@]/#/-f=}" >/dev/null || return 1
	k label node "${NODES[@]}" live.godwit.dev/node=true --overwrite >/dev/null || return 1
	for n in "${NODES[@]}"; do gw_agent "$n" && retry 10 gw_up "$n" || return 1; done
	gw_controller
}
nodes_ready() { [ "$(k get nodes --no-headers | grep -c ' Ready')" = ${#NODES[@]} ]; }
# The same as the first two checks of a test; pods can be made in $NS then.
put_godwit() {
	check "godwit is put on the cluster as deploy/ says" gw_cluster
	check "its nodes are Ready" retry 120 nodes_ready
	retry 60 kn get serviceaccount default
}
gw_log() { on "$1" tail -n "${2:-15}" /var/log/godwitd.log; }
gw_install() {
	local n
	for n in "${NODES[@]}"; do gw_cni "$n" && gw_programs "$n" || return 1; done
	gw_pki && gw_routes control "${NODES[@]}" || return 1
	for n in "${NODES[@]}"; do gw_daemon "$n" && retry 10 gw_up "$n" || return 1; done
}
gw() { local h=$1; shift; timeout 90 "$KUBE" exec "$h" /opt/godwit/bin/godwit "$@"; }
# The runtime's id of a container of a pod.
cid() { kn get pod "$1" -o "jsonpath={.status.containerStatuses[${2:-0}].containerID}" | sed 's,.*//,,'; }
