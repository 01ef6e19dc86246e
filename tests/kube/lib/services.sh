# Sourced by tests/kube/kube: what the hosts run, and the settings of it.
#
# A service is a runit folder with a run script; runsvdir on the host starts
# it again when it ends. Its output is STATE/HOST/log/NAME.log.

service() { # HOST NAME: the lines of the run script on stdin
	local d=$ST/$1/sv/$2
	mkdir -p "$d" "$ST/$1/log"
	{ printf '#!/bin/bash\nexec >>/var/log/kube/%s.log 2>&1 </dev/null\nexport HOME=/root PATH=%s\n' "$2" "$HOST_PATH"; cat; } >"$d/run"
	chmod 755 "$d/run"
}

# No root for who needs none: API server, controller manager, kube-proxy. It also
# spares inotify instances, of which a user has 128 on the whole machine: a cluster
# takes 24 of root's, and 14 more would be these.
KUBE_USER=64001
AS_KUBE="setpriv --reuid=$KUBE_USER --regid=$KUBE_USER --clear-groups"

control_services() {
	local k=/etc/kubernetes
	# The data live as long as the cluster: a power cut of this machine is not survived, so nothing waits for the disk.
	service $CONTROL etcd <<-E
		exec etcd --data-dir /var/lib/etcd --unsafe-no-fsync --log-level warn \\
			--listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \\
			--listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 --initial-cluster default=http://127.0.0.1:2380
	E
	# Webhooks and aggregated APIs are reached at their endpoints: no kube-proxy runs here.
	service $CONTROL kube-apiserver <<-E
		exec $AS_KUBE kube-apiserver --etcd-servers=http://127.0.0.1:2379 --bind-address=:: --advertise-address=$API_IP --secure-port=6443 \\
			--service-cluster-ip-range=$SERVICE_CIDRS --client-ca-file=$k/ca.crt --tls-cert-file=$k/apiserver.crt --tls-private-key-file=$k/apiserver.key \\
			--kubelet-client-certificate=$k/apiserver-kubelet.crt --kubelet-client-key=$k/apiserver-kubelet.key --kubelet-certificate-authority=$k/ca.crt \\
			--kubelet-preferred-address-types=InternalIP --service-account-issuer=https://kubernetes.default.svc.cluster.local \\
			--service-account-key-file=$k/sa.pub --service-account-signing-key-file=$k/sa.key --authorization-mode=Node,RBAC \\
			--enable-admission-plugins=NodeRestriction --allow-privileged=true --profiling=false --enable-aggregator-routing=true \\
			--requestheader-client-ca-file=$k/ca.crt --requestheader-allowed-names=front-proxy-client \\
			--requestheader-extra-headers-prefix=X-Remote-Extra- --requestheader-group-headers=X-Remote-Group --requestheader-username-headers=X-Remote-User \\
			--proxy-client-cert-file=$k/front-proxy.crt --proxy-client-key-file=$k/front-proxy.key ${KUBE_APISERVER_FLAGS:-}
	E
	# A dead node is noticed after 20 s instead of 50.
	service $CONTROL kube-controller-manager <<-E
		exec $AS_KUBE kube-controller-manager --kubeconfig=$k/kube-controller-manager.conf --authentication-kubeconfig=$k/kube-controller-manager.conf \\
			--authorization-kubeconfig=$k/kube-controller-manager.conf --bind-address=127.0.0.1 --leader-elect=false --profiling=false \\
			--use-service-account-credentials=true --service-account-private-key-file=$k/sa.key --root-ca-file=$k/ca.crt \\
			--cluster-signing-cert-file=$k/ca.crt --cluster-signing-key-file=$k/ca.key --node-monitor-grace-period=20s --controllers='*' \\
			--allocate-node-cidrs=true --cluster-cidr=$POD_CIDRS --service-cluster-ip-range=$SERVICE_CIDRS ${KUBE_CONTROLLER_FLAGS:-}
	E
	service $CONTROL kube-scheduler <<-E
		exec kube-scheduler --kubeconfig=$k/kube-scheduler.conf --authentication-kubeconfig=$k/kube-scheduler.conf \\
			--authorization-kubeconfig=$k/kube-scheduler.conf --bind-address=127.0.0.1 --leader-elect=false --profiling=false ${KUBE_SCHEDULER_FLAGS:-}
	E
}

node_services() { # NODE
	local n=$1 k=/etc/kubernetes as_proxy="$AS_KUBE --inh-caps=+net_admin,+net_raw --ambient-caps=+net_admin,+net_raw"
	[ "${KUBE_PROXY_MODE:-nftables}" = nftables ] || as_proxy= # iptables wants root's lock file
	service "$n" containerd <<-'E'
		exec containerd --config /etc/containerd/config.toml
	E
	service "$n" kubelet <<-E
		until ctr version >/dev/null 2>&1; do sleep 0.1; done
		while read -r i; do
			[ ! -e "/var/lib/containerd/.have-\$i" ] || continue
			ctr -n k8s.io images import "/run/images/\$i" && touch "/var/lib/containerd/.have-\$i"
		done </run/lab/images
		exec kubelet --config=$k/kubelet.yaml --kubeconfig=$k/kubelet.conf --hostname-override=$n --node-ip=$(host_ip "$n"),$(host_ip6 "$n") \\
			--root-dir=/var/lib/kubelet --cert-dir=/var/lib/kubelet/pki --v=${KUBE_V:-1} ${KUBE_KUBELET_FLAGS:-}
	E
	service "$n" kube-proxy <<-E
		exec $as_proxy kube-proxy --config=$k/kube-proxy.yaml
	E
	mkdir -p "$ST/$n/kube/manifests"
	kubelet_config "$n" >"$ST/$n/kube/kubelet.yaml"
	proxy_config "$n" >"$ST/$n/kube/kube-proxy.yaml"
	containerd_config >"$ST/$n/containerd.toml"
}

# Without CAP_SYS_RESOURCE no oom_score_adj can be lowered: hence oomScoreAdj
# here and restrict_oom_score_adj in containerd's settings. The image collector
# never runs, because what it would drop can't be pulled again.
kubelet_config() { # NODE
	cat <<-E
		apiVersion: kubelet.config.k8s.io/v1beta1
		kind: KubeletConfiguration
		authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: /etc/kubernetes/ca.crt}}
		authorization: {mode: Webhook}
		tlsCertFile: /etc/kubernetes/kubelet-serving.crt
		tlsPrivateKeyFile: /etc/kubernetes/kubelet-serving.key
		address: "::"
		healthzBindAddress: 127.0.0.1
		containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
		staticPodPath: /etc/kubernetes/manifests
		cgroupDriver: cgroupfs
		cgroupsPerQOS: true
		enforceNodeAllocatable: [pods]
		failCgroupV1: false
		failSwapOn: false
		maxOpenFiles: 20000
		oomScoreAdj: 0
		resolvConf: ""
		clusterDomain: cluster.local
		serializeImagePulls: false
		imageGCHighThresholdPercent: 100
		imageGCLowThresholdPercent: 99
		evictionHard: {memory.available: 200Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}
		systemReserved: {memory: 1Gi}
		volumePluginDir: /var/lib/kubelet/volumeplugins
		shutdownGracePeriod: 0s
		syncFrequency: 10s
		nodeStatusUpdateFrequency: 5s
		nodeLeaseDurationSeconds: 20
	E
}
proxy_config() { # NODE
	cat <<-E
		apiVersion: kubeproxy.config.k8s.io/v1alpha1
		kind: KubeProxyConfiguration
		clientConnection: {kubeconfig: /etc/kubernetes/kube-proxy.conf}
		hostnameOverride: $1
		clusterCIDR: $POD_CIDRS
		mode: ${KUBE_PROXY_MODE:-nftables}
		conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
		healthzBindAddress: 127.0.0.1:10256
		metricsBindAddress: 127.0.0.1:10249
	E
}
# Version 2 of the format is understood by containerd 1.6, 1.7 and 2.
containerd_config() {
	cat <<-E
		version = 2
		oom_score = 0
		[plugins."io.containerd.internal.v1.opt"]
		  path = "/var/lib/containerd/opt"
		[plugins."io.containerd.grpc.v1.cri"]
		  sandbox_image = "$REG/pause:1"
		  restrict_oom_score_adj = true
		  disable_apparmor = true
		  disable_hugetlb_controller = true
		  tolerate_missing_hugetlb_controller = true
		  [plugins."io.containerd.grpc.v1.cri".cni]
		    bin_dir = "/opt/cni/bin"
		    conf_dir = "/etc/cni/net.d"
		  [plugins."io.containerd.grpc.v1.cri".containerd]
		    default_runtime_name = "runc"
		    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
		      runtime_type = "io.containerd.runc.v2"
		      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
		        BinaryName = "/usr/sbin/runc"
	E
	[ "$(setting bare)" = 1 ] || cat <<-'E'
		    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.godwit]
		      runtime_type = "io.containerd.runc.v2"
		      pod_annotations = ["godwit.dev/*", "*.godwit.dev/*"]
		      container_annotations = ["godwit.dev/*", "*.godwit.dev/*"]
		      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.godwit.options]
		        BinaryName = "/opt/godwit/bin/godwit-runtime"
	E
}

other_containerd() { # NODE VERSION: before the node's first boot
	local from to=$DISKS/$1/up/usr/local/sbin
	from=$("$HERE/containerd" "$2") || die "there is no containerd $2 for the nodes"
	mkdir -p "$to"
	cp "$from"/* "$to/"
}
