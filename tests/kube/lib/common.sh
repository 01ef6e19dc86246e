# Sourced by tests/kube/kube: names, numbers and messages; what differs from the lab's.
#
# A host of the cluster is a lab host (tools/lab/base.sh): a process tree in
# namespaces of its own, found and ended by its cgroup. Unlike the lab's it has
# a disk, a folder that outlives a power cut.

CONTROL=control
CLIENT_HOST=$CONTROL # the lab's word for the host with the bridge
ALL_NODES=a,b,c
CACHE=${GODWIT_CACHE:-/var/cache/godwit}
DISKS=${GODWIT_DISKS:-/var/lib}/$LAB
HOST_PATH=/opt/godwit/bin:/opt/kube/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin
REG=kube.test
API_IP=10.9.0.1
API=https://$API_IP:6443
POD_CIDRS=10.244.0.0/16,fd44::/48
SERVICE_CIDRS=10.96.0.0/16,fd96::/112

die() { printf 'kube: %s\n' "$*" >&2; exit 1; }
usage_error() { printf 'kube %s: %s\nTry: kube %s --help\n' "$CMD" "$*" "$CMD" >&2; exit 2; }
need_up() { [ -e "$ST/up" ] || die "the cluster is not up: start it with \"tests/kube/kube up\""; }
need_host() {
	need_up
	[ -d "$ST/$1" ] && [ -e "$ST/$1/kind" ] || die "no host \"$1\": there are $(echo $(hosts_up))"
	host_pid "$1" >/dev/null || die "host $1 is off: switch it on with \"kube start-node $1\""
}
need_node() {
	need_up
	[ -e "$ST/$1/kind" ] && [ "$1" != $CONTROL ] || die "no node \"$1\": there are $(echo $(nodes))"
}
hosts_up() { local d; for d in "$ST"/*/kind; do [ -e "$d" ] && basename "$(dirname "$d")"; done; }
nodes() { hosts_up | grep -v "^$CONTROL\$"; }
host_no() { case $1 in "$CONTROL") echo 1 ;; *) echo $((2 + $(printf '%d' "'${1#node-}") - 97)) ;; esac; }

wait_for() { # SECONDS WHAT CMD...
	local end=$((SECONDS + $1)) what=$2
	shift 2
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || { say "no success in time: $what"; return 1; }
		sleep 0.2
	done
}
# kubectl is this machine's process in the control host's network.
k() { "$ST/kubectl" "$@"; }
