#!/usr/bin/env bash
# make kube-demo itself: it ends well, says so without a terminal's means, and leaves
# nothing, also when it is interrupted; it says no when something was not right.
export GODWIT_LAB=${GODWIT_LAB_DEMO:-${GODWIT_LAB:-godwit-test}-demo}
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] || skip_all "needs root"
[ -x "$TOP/build/install/opt/godwit/bin/kubectl-godwit" ] || skip_all "godwit is not built (tools/build)"
DEMO=$HERE/demo
"$KUBE" down >/dev/null 2>&1
plan 13

out=$T/demo.out
check "make kube-demo ARGS=--quick ends well" make -s -C "$TOP" kube-demo ARGS=--quick
cp "$T/check.out" "$out"
has_line() { grep -qE "$1" "$out" || { cat "$out"; return 1; }; }
check "it says that all is right" has_line '^All is right: 3 pods moved'
check "the Deployment's ReplicaSet has made no other pod" has_line 'its ReplicaSet has it, as web-.*-m.*, and made no other'
check "the StatefulSet's pod kept its name" has_line 'name stayed: db-0$'
check "the bare pod kept its name" has_line 'name stayed: solo$'
is "each kept its address" "$(grep -c 'address stayed: 10\.244\.' "$out")" 3
is "each kept its connection" "$(grep -c 'connection lives' "$out")" 3
is "of both redis all keys were read back" "$(grep -cE ': [1-9][0-9]* keys read back, all right' "$out")" 2
check "PostgreSQL has all of its transactions" has_line 'all of its [1-9][0-9]* transactions are in the tables'

check_fails "nothing is in it that only a terminal understands" grep -q $'[\e\r]' "$out"
left() { [ ! -e "$KST" ] && [ ! -d "/var/lib/$GODWIT_LAB-kube" ] && [ -z "$(find /sys/fs/cgroup -maxdepth 2 -name "$GODWIT_LAB-kube")" ] || { ls -d "$KST" /var/lib/"$GODWIT_LAB"-kube; return 1; }; }
check "it leaves no cluster" left

# Interrupted in the middle of it, as by Ctrl-C: the whole foreground group gets the signal.
set -m
"$DEMO" --quick --plain >"$T/int.out" 2>&1 </dev/null &
pid=$!
set +m
writes() { grep -q "writes to" "$T/int.out" || ! kill -0 $pid; }
retry 240 writes
kill -INT -- -$pid
wait $pid
is "interrupted, it ends with 130" $? 130
check "and leaves no cluster either" left
