#!/usr/bin/env bash
# The lab's hosts share nothing that a container or a daemon could meet in.
. "$(dirname "$0")/lib.sh"
need_lab
plan 17

is "a host has its own name" "$(on host-a hostname) $(on host-b hostname)" "host-a host-b"
is "a host's first process is the lab's own" "$(on host-a cat /proc/1/comm)" lab-init
on host-a sleep 4242 &
disown
for _ in $(seq 1 40); do on host-a pgrep -x sleep >/dev/null && break; sleep 0.05; done
check "a process is seen on its own host" on host-a pgrep -fx "sleep 4242"
check_fails "a process is not seen on another host" on host-b pgrep -fx "sleep 4242"
on host-a pkill -fx "sleep 4242"

on host-a sh -c 'for d in /tmp /run /etc /var/lib /dev/shm /usr; do echo a > $d/lab-mark; done'
is "a file written on one host is on no other" "$(on host-b sh -c 'ls /tmp/lab-mark /run/lab-mark /etc/lab-mark /var/lib/lab-mark /dev/shm/lab-mark /usr/lab-mark 2>/dev/null')" ""
check_fails "a file written on a host is not in the root it is made of" test -e "$(cat "$STATE/base")/usr/lab-mark"
on host-a ipcmk -M 4096 >/dev/null
is "System V memory is a host's own" "$(on host-b sh -c 'grep -c . /proc/sysvipc/shm')" 1

cg=$(on host-a sh -c 'ls -d /sys/fs/cgroup/memory /sys/fs/cgroup 2>/dev/null | head -n 1')
on host-a mkdir "$cg/lab-mark"
check_fails "a cgroup made on one host is not on another" on host-b test -e "$cg/lab-mark"
on host-a rmdir "$cg/lab-mark"
is "a host sees its own cgroups as the root" "$(on host-a sh -c 'cut -d: -f3 /proc/self/cgroup | grep -vxE "/|/init" | wc -l')" 0

check "hosts reach each other over IPv4" on host-a ping -c 1 -W 2 10.9.0.3
check "hosts reach each other over IPv6" on host-b ping -c 1 -W 2 fd09::2
is "no lab mount is visible outside" "$(grep -c "/run/$GODWIT_LAB/" /proc/mounts)" 0

on host-a sh -c '(setsid sh -c "sleep 0.05" &) ; sleep 0.3'
is "an orphan that ends is reaped at once" "$(on host-a sh -c 'cat /proc/[0-9]*/stat 2>/dev/null | grep -c ") Z "')" 0

"$LAB_TOOL" exec nowhere true 2>"$T/err"
is "an unknown host is an error in words" "$? $(grep -c 'no host "nowhere"' "$T/err")" "1 1"
"$LAB_TOOL" frobnicate 2>/dev/null
is "wrong usage has an exit code of its own" $? 2

gone() { # the second lab left nothing
	[ ! -e "/run/$GODWIT_LAB-two" ] && ! find /sys/fs/cgroup -maxdepth 2 -name "$GODWIT_LAB-two" | grep . &&
		! grep "/$GODWIT_LAB-two/" /proc/[0-9]*/cgroup 2>/dev/null | grep -v "(deleted)" # a dead one, not yet reaped
}
two() { GODWIT_LAB=$GODWIT_LAB-two "$LAB_TOOL" "$@"; }
trap 'two down 2>/dev/null; finish' EXIT
killed_hard() {
	two up --no-build && two run host-a x -- /usr/bin/sleep 1000 && two exec host-a runc pause x || return 1
	kill -KILL "$(cut -d' ' -f1 "/run/$GODWIT_LAB-two/host-a/pid")"
	two down && gone
}
check "down leaves nothing, also after a host died with a frozen container in it" killed_hard
forgotten() {
	two up --no-build && two run host-b x -- /usr/bin/sleep 1000 || return 1
	rm -rf --one-file-system "/run/$GODWIT_LAB-two"
	two down && two down && gone
}
check "down finds everything when the lab's state is lost, and may be called twice" forgotten
