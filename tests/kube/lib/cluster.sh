# Sourced by tests/kube/kube: up and down.

help_up() {
	cat <<'H'
kube up [--cni ptp|none] [--bare] [--nodes a,b,c] [--containerd VERSION] [--keep]
  --cni ptp    (default) pods get addresses of their node's podCIDR by the standard
               ptp plugin, with routes between the nodes; IPv4 only
  --cni none   no network plugin: the nodes become Ready when one is installed
  --bare       no runtime handler "godwit" in containerd's settings, as on a
               machine where godwit was never installed
  --nodes      single letters (default a,b,c)
  --containerd another version than Debian 13's 1.7: 1.6 (Debian 12) or 2 (Debian sid)
  --keep       leave everything as it is when something fails, to look at it
The first time it makes the root of the nodes, Kubernetes (half an hour on one
core) and the images, all below GODWIT_CACHE (default /var/cache/godwit).
KUBE_APISERVER_FLAGS, KUBE_CONTROLLER_FLAGS, KUBE_SCHEDULER_FLAGS, KUBE_KUBELET_FLAGS
are added to the command lines, KUBE_V is kubelet's verbosity.
When the cluster is up already, nothing is changed.
H
}
kube_up() {
	local cni=ptp bare=0 list=$ALL_NODES keep= containerd= n names
	while [ $# -gt 0 ]; do
		case $1 in
			--cni) [ $# -ge 2 ] || usage_error "--cni needs ptp or none"; cni=$2; shift ;;
			--bare) bare=1 ;;
			--nodes) [ $# -ge 2 ] || usage_error "--nodes needs a list, like a,b"; list=$2; shift ;;
			--containerd) [ $# -ge 2 ] || usage_error "--containerd needs a version, 1.6 or 2"; containerd=$2; shift ;;
			--keep) keep=1 ;;
			-h | --help) help_up; return ;;
			*) usage_error "unknown argument \"$1\"" ;;
		esac
		shift
	done
	[[ $list =~ ^[a-z](,[a-z])*$ ]] || usage_error "--nodes is a list of single letters, like a,b,c"
	case $cni in ptp | none) ;; *) usage_error "--cni is ptp or none" ;; esac
	names=$(printf 'node-%s ' ${list//,/ })
	if all_on $names; then
		say "the cluster is up already: $(echo $(hosts_up))"
		return 0
	fi
	if [ -e "$ST" ] || [ -e "$DISKS" ] || [ -n "$(cg_pids)" ]; then QUIET=1 kube_down; fi
	local began
	trap 'rc=$?; trap - EXIT; failed_up $rc "'"$keep"'"; exit $rc' EXIT
	prepare "$cni" "$bare" "$containerd" $names
	began=${EPOCHREALTIME/[.,]/}
	start_cluster $names
	touch "$ST/up"
	trap - EXIT
	say "up: $(echo $(hosts_up)), in $(awk "BEGIN { printf \"%.1f\", (${EPOCHREALTIME/[.,]/} - $began) / 1e6 }") s"
}
all_on() {
	local h
	[ -e "$ST/up" ] || return 1
	for h in $CONTROL "$@"; do host_pid "$h" >/dev/null || return 1; done
}
failed_up() { # RC KEEP
	local f
	[ "$1" != 0 ] || return 0
	for f in "$ST"/*/init.log "$ST"/*/log/*.log; do
		[ -s "$f" ] || continue
		printf -- '-- the end of %s:\n' "$f" >&2
		tail -n 4 "$f" | cut -c1-300 >&2
	done
	! grep -qs "inotify_init: too many open files" "$ST"/*/log/kubelet.log ||
		say "this machine's limit of inotify instances ($(cat /proc/sys/fs/inotify/max_user_instances), a cluster takes 40) is used up: end another cluster, or sysctl fs.inotify.max_user_instances=1024"
	if [ -n "$2" ]; then say "left as it is; \"kube down\" clears it away"; else QUIET=1 kube_down || true; fi
}

# An overlay cannot have its upper side on an overlay, which is what / is in
# most containers: then the disks are in memory.
choose_disks() {
	mkdir -p "$DISKS"
	[ "$(stat -f -c %T "$DISKS")" != overlayfs ] || mount -t tmpfs -o mode=755 "$LAB" "$DISKS"
}
prepare() { # CNI BARE CONTAINERD NODE...: files only, nothing runs yet
	local cni=$1 bare=$2 containerd=$3 h n i root bin
	shift 3
	root=$("$TOP/tools/kube-root")
	bin=$("$HERE/build")
	mkdir -p "$ST/settings" "$CACHE/kube-images" "$ST/image-files"
	choose_disks
	echo "$root" >"$ST/settings/root"
	echo "$root" >"$ST/base"
	echo "$bin" >"$ST/settings/bin"
	echo "$cni" >"$ST/settings/cni"
	echo "$bare" >"$ST/settings/bare"
	for i in pause busybox redis; do image_file $i >/dev/null; done
	init_program
	{
		echo "127.0.0.1 localhost"
		for h in $CONTROL "$@"; do echo "$(host_ip "$h") $h"; echo "$(host_ip6 "$h") $h"; done
	} >"$ST/hosts"
	for h in $CONTROL "$@"; do
		mkdir -p "$ST/$h/kube" "$ST/$h/log" "$ST/$h/sv" "$DISKS/$h"
		echo "$h" >"$ST/$h/kind"
	done
	control_services
	for n in "$@"; do
		node_services "$n"
		for i in pause busybox redis; do image_file $i; done >"$ST/$n/images"
		[ -z "$containerd" ] || other_containerd "$n" "$containerd"
	done
	cat >"$ST/kubectl" <<-E
		#!/bin/bash
		# kubectl in the control host's network, with this machine's files and plugins.
		read -r p _ <$ST/$CONTROL/pid || { echo "kube: the cluster is not up" >&2; exit 1; }
		# kubectl-godwit is built for Debian 13, which this machine need not be: it runs on the host.
		[ "\${1:-}" != godwit ] || exec nsenter -t "\$p" -m -u -i -n -p -C -- /usr/bin/env -i HOME=/root LC_ALL=C.UTF-8 TERM="\${TERM:-dumb}" \\
			PATH=$BUILD/install/opt/godwit/bin:$HOST_PATH kubectl "\$@"
		export KUBECONFIG=$ST/pki/admin.conf KUBECACHEDIR=$ST/kubectl-cache PATH=$bin:$TOP/bin:\$PATH
		exec nsenter -t "\$p" -n $bin/kubectl "\$@"
	E
	chmod 755 "$ST/kubectl"
}
# PID 1 of the lab's hosts does here as well: it reaps, and keeps runsvdir running.
init_program() {
	local f
	f=$CACHE/kube-init-$(sha256sum "$TOP/tests/lab/init.c" | cut -c1-12)
	[ -x "$f" ] || "$HERE/in-scratch" sh -c 'gcc -std=gnu23 -O2 -static -o "$1.new" "$2" && mv "$1.new" "$1"' init "$f" "$TOP/tests/lab/init.c" ||
		die "can't compile tests/lab/init.c (above)"
	cp "$f" "$ST/lab-init"
}

start_cluster() { # NODE...
	local n args=()
	boot_host $CONTROL
	wait_host $CONTROL
	wire_client
	for n in "$@"; do args+=("$n=$(host_ip "$n"),$(host_ip6 "$n")"); done
	mkdir "$ST/$CONTROL/pki"
	in_host $CONTROL bash -s -- "$API" "${args[@]}" <"$HERE/lib/pki.sh"
	mv "$ST/$CONTROL/pki" "$ST/pki"
	cp "$ST"/pki/*.{crt,key,pub,conf} "$ST/$CONTROL/kube/"
	chown $KUBE_USER "$ST/$CONTROL"/kube/*
	start_services $CONTROL
	for n in "$@"; do cp "$ST/pki/ca.crt" "$ST/pki/$n"/* "$ST/$n/kube/" && chown $KUBE_USER "$ST/$n"/kube/kube-proxy.*; done
	power_on "$@"
	wait_for 90 "the API server answers" k get --raw /readyz || return 1
	wait_for 30 "the first objects are taken" k apply -f "$HERE/manifests/cluster.yaml" || return 1
	for n in "$@"; do wait_for 90 "$n is registered and has pod addresses" node_wanted "$n" || return 1; done
	wire_pods
	[ "$(setting cni)" != none ] || return 0
	for n in "$@"; do wait_for 90 "$n is Ready" node_ready "$n" || return 1; done
	wait_for 30 "the default service account is there" k get serviceaccount default
}

kube_down() {
	case ${1:-} in
		-h | --help) echo "kube down: kill every process of the cluster, remove its cgroups, state and disks. Works in every state, also twice."; return ;;
		'') ;;
		*) usage_error "unknown argument \"$1\"" ;;
	esac
	local was=
	[ ! -e "$ST" ] || was=1
	cg_kill
	cg_drop
	! mountpoint -q "$DISKS" || umount "$DISKS"
	rm -rf --one-file-system "$ST" "$DISKS"
	[ -z "$was" ] && say "the cluster was not up" || say "down: nothing is left"
}
