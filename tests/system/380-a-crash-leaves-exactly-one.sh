#!/usr/bin/env bash
# godwitd fails or is killed at every step of the hand-over, on either side or on both: afterwards
# exactly one copy of the container runs, with its data and its connection.
. "$(dirname "$0")/lib.sh"
need_migration

# side of the crash, point (src/base/fault.h), action, where it runs then
cases="
source source-precopy fail stays
source source-precopy kill stays
source source-frozen fail stays
source source-frozen kill stays
source source-dumped fail stays
source source-dumped kill stays
source source-restored fail stays
source source-restored kill stays
source source-committing kill moves
source source-commit-sent kill moves
source source-commit-sent fail moves
source source-moved kill moves
destination dest-armed fail stays
destination dest-armed kill stays
destination dest-images fail stays
destination dest-images kill stays
destination dest-restored fail stays
destination dest-restored kill stays
destination dest-commit-point kill moves
destination dest-committed kill moves
destination dest-committed fail moves
both source-commit-sent+dest-commit-point kill moves
both source-commit-sent+dest-committed kill moves
"
plan $((2 + 23 * 3 + 2))

check "redis starts on host-a" redis host-a r380 64
check "a client writes" load_start r380 --rate 500

running_on() { on "$1" runc list 2>/dev/null | awk '$1 == "r380" && $3 == "running"' | grep -c . || true; }
settle() { # until one runs and none is in any other state, at most 15 s
	local i a b
	for i in $(seq 1 150); do
		a=$(running_on host-a) b=$(running_on host-b)
		# Both before and after: one may go and the other come between two looks.
		[ $((a + b)) = 1 ] && [ "$(on host-a runc list -q; on host-b runc list -q)" = r380 ] && [ "$(running_on host-a) $(running_on host-b)" = "$a $b" ] && { [ "$a" = 1 ] && echo host-a || echo host-b; return; }
		sleep 0.1
	done
	echo "host-a: $(on host-a runc list | tail -n +2) / host-b: $(on host-b runc list | tail -n +2)"
}

at=host-a
while read -r side point action outcome; do
	[ -n "$side" ] || continue
	to=$([ $at = host-a ] && echo host-b || echo host-a)
	hosts=$([ "$side" = source ] && echo $at || echo $to)
	[ "$side" != both ] || hosts="$at $to"
	points=$point
	for h in $hosts; do
		on $h sh -c "echo '${points%%+*} $action' > /run/godwit/fault"
		points=${points#*+}
	done
	migrate r380 $to >"$T/words" 2>&1
	now=$(settle)
	want=$([ $outcome = moves ] && echo $to || echo $at)
	is "$action at $point: exactly one runs, and it $outcome" "$now" $want || logs | diag
	check "$action at $point: it answers" cli r380 ping
	check "$action at $point: nothing is left behind" eval 'clean host-a && clean host-b && ! on host-a test -e /run/godwit/fault && ! on host-b test -e /run/godwit/fault'
	case $now in host-a | host-b) at=$now ;; *) break ;; esac
done <<<"$cases"
check "the client lost nothing by all that" load_stop r380
is "and kept its connection" "$(field "$T/load-r380.end" same_port) $(field "$T/load-r380.end" lost)" "true 0"
