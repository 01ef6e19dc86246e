#!/usr/bin/env bash
# Cancelling before the commit: the container runs on, the destination is clean.
. "$(dirname "$0")/lib.sh"
need_migration
plan 12

traces() { # on host-b, of container r350
	on host-b sh -c 'runc list -q | grep r350; ls /run/netns | grep r350; ls -d /sys/fs/cgroup/*/lab/r350 /sys/fs/cgroup/lab/r350 2>/dev/null
		find /run/godwit -name "*r350*"; pgrep -a criu; { iptables-save; ip6tables-save; } 2>/dev/null | grep QUEUE'
}
check "redis starts on host-a" redis host-a r350 100
check "a client writes" load_start r350 --rate 2000

cancel_with() { # SIGNAL-OR-VERB
	timeout 60 "$TOP/bin/godwit" migrate r350 --to host-b --bandwidth 10 -o jsonl >"$T/out" 2>"$T/err" &
	local p=$! i
	for i in $(seq 1 200); do grep -q '"phase":"PreCopy"' "$T/out" && break; sleep 0.05; done
	sleep 0.5
	"$TOP/bin/godwit" cancel r350 || return 1
	wait $p
	local rc=$?
	[ $rc = 1 ] || { echo "the cancelled migration ended with $rc"; cat "$T/out" "$T/err"; return 1; }
	grep -q '"code":"Cancelled"' "$T/out" || { echo "no code Cancelled"; tail -n 1 "$T/out"; return 1; }
}
check "a migration in its pre-copy is cancelled" cancel_with
is "the container runs on where it was" "$(where r350)" host-a
sleep 1
is "nothing of it is on the destination" "$(traces)" ""
is "no hold is left on the source" "$(on host-a sh -c '{ iptables-save; ip6tables-save; } 2>/dev/null | grep -c QUEUE')" 0

gone_peer() { # the destination's godwitd dies in the pre-copy
	timeout 60 "$TOP/bin/godwit" migrate r350 --to host-b --bandwidth 10 -o jsonl >"$T/out" 2>"$T/err" &
	local p=$! i
	for i in $(seq 1 200); do grep -q '"phase":"PreCopy"' "$T/out" && break; sleep 0.05; done
	sleep 0.3
	"$LAB_TOOL" daemon host-b kill
	wait $p
	local rc=$?
	"$LAB_TOOL" daemon host-b start || return 1
	[ $rc = 1 ] || { echo "the migration ended with $rc"; cat "$T/out" "$T/err"; return 1; }
	grep -q '"error"' "$T/out" || { cat "$T/out"; return 1; }
}
check "a destination whose godwitd dies in the pre-copy is an error, no more" gone_peer
is "the container runs on where it was" "$(where r350)" host-a
sleep 1
is "the restarted godwitd has cleaned up" "$(traces)" ""

check "the same container moves when it is asked again" migrate r350 host-b
check "the client lost nothing by all that" load_stop r350
is "and kept its connection" "$(field "$T/load-r350.end" same_port) $(field "$T/load-r350.end" lost)" "true 0"
