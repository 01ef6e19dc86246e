#!/usr/bin/env bash
# Shared memory is given to the copy before the commit, and what waits is stopped in its
# system calls: when the move fails after that, on either side, the source goes on with
# its own, and can move again.
. "$(dirname "$0")/lib.sh"
need_migration
cases="
host-a source-dumped fail
host-a source-restored kill
host-b dest-images fail
host-b dest-restored fail
host-b dest-restored kill
"
# A folder where the migration that is in its freeze wants to write a file.
in_the_way() { # FILE
	local i
	for i in $(seq 1 100); do
		! on host-a sh -c "d=\$(echo /run/godwit/mig/*/${1%/*}); mkdir \"\$d/${1##*/}\"" 2>/dev/null || return 0
		sleep 0.05
	done
	return 1
}
plan $((2 + 5 * 3 + 2 + 3 + 2 + 4))
check "four processes share memory" victim host-a v-buffers buffers
check "they find it as they wrote it" content v-buffers
while read -r host point action; do
	[ -n "$host" ] || continue
	on "$host" sh -c "echo '$point $action' > /run/godwit/fault"
	check_fails "$action at $point: it does not move" migrate v-buffers host-b
	for _ in $(seq 1 150); do
		[ "$(on host-a runc list 2>/dev/null | awk '$1 == "v-buffers" {print $3}') $(on host-b runc list -q)" != "running " ] || break
		sleep 0.1
	done
	is "$action at $point: it runs where it was" "$(on host-a runc list | awk '$1 == "v-buffers" {print $3}') $(on host-b runc list -q)" "running "
	check "$action at $point: the memory is right" content v-buffers
done <<<"$cases"
for _ in $(seq 1 100); do on host-b godwit status >/dev/null 2>&1 && break; sleep 0.1; done
check "then it moves" migrate v-buffers host-b
check "and the memory is right there" content v-buffers

# ---- what waits in the kernel
check "threads wait in system calls" victim host-a v-sleepers sleepers
on host-a sh -c "echo 'source-dumped fail' > /run/godwit/fault"
check_fails "their process is dumped, and does not move" migrate v-sleepers host-b
check "they wait on" content v-sleepers

# ---- CRIU has stopped them all, and fails before it has come to any
on host-a sh -c "echo 'source-frozen hang' > /run/godwit/fault"
in_the_way images/files.img &
check_fails "CRIU can't write its first image: it does not move" migrate v-sleepers host-b
wait $!
check "they wait on, all of them" content v-sleepers

# ---- where the rest of a sleep was written can't be told
on host-a sh -c "echo 'source-frozen hang' > /run/godwit/fault"
in_the_way shim/late &
check_fails "it is not dumped with a wrong page" migrate v-sleepers host-b
wait $!
check "they wait on, again" content v-sleepers
check "then it moves, too" migrate v-sleepers host-b
check "with what was left of their sleeps" content v-sleepers
