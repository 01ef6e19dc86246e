#!/usr/bin/env bash
# The link between the hosts goes dead at a step of the hand-over and comes back
# later; the file system that godwit's files are on is full, on either side:
# afterwards exactly one copy of the container runs, with its data.
. "$(dirname "$0")/lib.sh"
need_migration

# The step at which a godwitd waits (3 s) while the link is cut; where it runs
# once the link is back.
cuts="
source source-frozen stays
source source-restored moves
destination dest-images stays
destination dest-restored stays
source source-committing moves
destination dest-commit-point moves
destination dest-committed moves
"
# Whose file system has how many KiB left.
fulls="
destination 4
destination 300
source 4
source 300
"
plan $((2 + 7 * 3 + 4 * 4 + 2))

check "redis starts on host-a" redis host-a r385 32
check "a client writes" load_start r385 --rate 200

# Frames are dropped at the host's port of the bridge; nothing else is told.
link() { on host-c bridge link set dev to-b state "$([ "$1" = cut ] && echo 0 || echo 3)"; }
trap 'link back 2>/dev/null; finish' EXIT
running_on() { on "$1" runc list 2>/dev/null | awk '$1 == "r385" && $3 == "running"' | grep -c . || true; }
# Four looks one after the other are no picture: only what two rounds show alike counts.
settle() { # until one runs and none is in any other state, for 30 s or more
	local i a b now last=
	for i in $(seq 1 150); do
		a=$(running_on host-a) b=$(running_on host-b) now=
		if [ $((a + b)) = 1 ] && [ "$(on host-a runc list -q; on host-b runc list -q)" = r385 ]; then
			[ "$a" = 1 ] && now=host-a || now=host-b
		fi
		[ -z "$now" ] || [ "$now" != "$last" ] || { echo "$now"; return; }
		last=$now
		sleep 0.2
	done
	echo "host-a: $(on host-a runc list | tail -n +2) / host-b: $(on host-b runc list | tail -n +2)"
}
other() { [ "$1" = host-a ] && echo host-b || echo host-a; }

at=host-a
while read -r side point outcome; do
	[ -n "$side" ] || continue
	to=$(other $at)
	[ "$side" = source ] && h=$at || h=$to
	on "$h" sh -c "echo '$point hang' >/run/godwit/fault"
	migrate r385 $to >"$T/words" 2>&1 &
	mover=$!
	for i in $(seq 1 400); do on "$h" test -e /run/godwit/fault || break; sleep 0.05; done
	link cut
	# It ends by itself, or it is in doubt and waits for the link.
	for i in $(seq 1 40); do kill -0 $mover 2>/dev/null || break; sleep 0.3; done
	alive=$(running_on $at)
	[ $outcome = stays ] && want=1 || want=0
	is "cut at $point: the source $([ $want = 1 ] && echo runs again || echo "stands still") before the link is back" "$alive" $want || diag <"$T/words"
	link back
	wait $mover
	now=$(settle)
	is "cut at $point: exactly one runs in the end, and it $outcome" "$now" "$([ $outcome = moves ] && echo $to || echo $at)" || logs | diag
	check "cut at $point: nothing is left behind" eval 'clean host-a && clean host-b'
	case $now in host-a | host-b) at=$now ;; *) break ;; esac
done <<<"$cuts"

room() { # HOST KIB|-: /run is a tmpfs of the host's own
	on "$1" sh -c 'u=$(df -k /run | awk "END {print \$3}"); [ "$0" = - ] && s=50% || s=$((u + $0))k; mount -o remount,size=$s /run' "$2"
}
while read -r side left; do
	[ -n "$side" ] || continue
	to=$(other $at)
	[ "$side" = source ] && h=$at || h=$to
	room "$h" "$left"
	check_fails "$left KiB left on the $side: it does not move" migrate r385 $to
	check "$left KiB left on the $side: the reason is said" grep -qi "no space left" "$T/migrate.out" "$T/migrate.err" || cat "$T/migrate.out" "$T/migrate.err" | diag
	room "$h" -
	is "$left KiB left on the $side: it runs on where it was" "$(settle)" $at
	check "$left KiB left on the $side: nothing is left behind" eval 'clean host-a && clean host-b'
done <<<"$fulls"

check "the client lost nothing by all that" load_stop r385
is "and kept its connection" "$(field "$T/load-r385.end" same_port) $(field "$T/load-r385.end" lost)" "true 0"
