#!/usr/bin/env bash
# The demo ends well, and Ctrl-C at any moment of it leaves nothing behind.
. "$(dirname "$0")/lib.sh"
need_migration
plan 12
export GODWIT_DEMO_LAB=$GODWIT_LAB-demo

left() { # what is there of the demo's lab
	[ ! -e "/run/$GODWIT_DEMO_LAB" ] || echo "/run/$GODWIT_DEMO_LAB"
	find /sys/fs/cgroup -maxdepth 2 -name "$GODWIT_DEMO_LAB*"
	grep -F "/run/$GODWIT_DEMO_LAB/" /proc/mounts
	pgrep -fa "/run/$GODWIT_DEMO_LAB/"
}
# In a process group of its own, as in a terminal: Ctrl-C is for all of it.
start() { set -m; "$LAB_TOOL" demo --no-build --plain --mib 64 --rate 1000 --times 2 >"$T/demo" 2>&1 & demo=$!; set +m; }
interrupted_at() { # WORDS: it ends, and says that it was not to its end
	local i
	start
	for i in $(seq 1 600); do ! grep -qF "$1" "$T/demo" || break; sleep 0.05; done
	kill -INT -- "-$demo"
	! wait "$demo"
}

for words in "filling redis" "a second on one connection" "1 of 2: host-a to host-b"; do
	check "Ctrl-C at \"$words\" ends it" interrupted_at "$words"
	check "and it had come that far" grep -qF "$words" "$T/demo"
	is "and nothing is left" "$(left)" ""
done
start
check "the demo runs to its end" wait "$demo"
check "and finds every key right" grep -q "keys are right. The client's connection is the one it began with" "$T/demo" || diag <"$T/demo"
is "and leaves nothing" "$(left)" ""
