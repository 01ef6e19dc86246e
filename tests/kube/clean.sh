#!/usr/bin/env bash
# However the cluster ends, `kube down` leaves nothing behind; two clusters do not meet.
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] || skip_all "needs root"
plan 7
two() { GODWIT_LAB=$GODWIT_LAB-two "$KUBE" "$@"; }
trap 'two down >/dev/null 2>&1; kube_finish' EXIT
two=$GODWIT_LAB-two-kube
left() { # prints what is left of it
	ls -d "/run/$two" "/var/lib/$two" 2>/dev/null
	find /sys/fs/cgroup -maxdepth 3 -name "$two" 2>/dev/null
	grep "/$two/" /proc/[0-9]*/cgroup 2>/dev/null | grep -v "(deleted)" # a dead one, not yet reaped
	grep "/$two/" /proc/mounts
}
pod() { # a pod runs
	"/run/$two/kubectl" run "$1" --image=kube.test/busybox:1 --image-pull-policy=IfNotPresent >/dev/null &&
		"/run/$two/kubectl" wait --for=condition=Ready "pod/$1" --timeout=60s
}
knobs() { cat /proc/sys/kernel/panic /proc/sys/kernel/panic_on_oops /proc/sys/vm/overcommit_memory /proc/sys/vm/panic_on_oom /proc/sys/net/netfilter/nf_conntrack_max 2>/dev/null | tr '\n' ' '; }
before=$(knobs) links=$(ip -o link | wc -l)

check "a second cluster comes up beside whatever is there" two up --nodes a
check "a pod runs on it" pod p
two down >/dev/null 2>&1
is "nothing is left after down" "$(left)" ""
killed() {
	two up --nodes a && pod p || return 1
	kill -KILL "$(cut -d' ' -f1 "/run/$two/node-a/pid")" "$(cat "/run/$two/control/starter")"
	two down
}
check "down works after a node's and the control host's first processes were killed" killed
is "nothing is left then" "$(left)" ""
lost() {
	two up --nodes a && pod p || return 1
	rm -rf --one-file-system "/run/$two"
	two down && two down && [ -z "$(left)" ]
}
check "down finds everything when the state is lost, and may be called twice" lost
is "the machine's settings and links are as before" "$(knobs)$(ip -o link | wc -l)" "$before$links"
