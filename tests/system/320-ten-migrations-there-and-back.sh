#!/usr/bin/env bash
# Ten migrations of one container under one connection; nothing piles up.
. "$(dirname "$0")/lib.sh"
need_migration
plan 19

footprint() { # what the hosts hold besides the container
	local h
	for h in host-a host-b; do
		on "$h" sh -c '
			echo "fds $(ls /proc/$(cat /run/lab/daemon.pid)/fd | wc -l)"
			echo "processes $(ps -eo comm= | grep -vxE "sh|ps|sort|tr|redis-server" | sort | tr "\n" " ")"
			echo "netns $(ls /run/netns | wc -l)"
			echo "mounts $(wc -l </proc/mounts)"
			echo "rules $({ iptables-save; ip6tables-save; nft list ruleset; } 2>/dev/null | grep -cE "QUEUE|queue")"
			echo "links $(ls /sys/class/net | wc -l)"
			echo "state $(find /run/godwit -mindepth 2 | wc -l)"'
	done
}

check "redis starts on host-a" redis host-a r320 128
check "a client writes 3,000 keys a second" load_start r320 --rate 3000
for i in 1 2 3 4 5 6 7 8 9 10; do
	to=$([ $((i % 2)) = 1 ] && echo host-b || echo host-a)
	load_ctl r320 mark x >/dev/null
	check "migration $i, to $to" migrate r320 "$to" || break
	sleep 1
	load_ctl r320 mark x >"$T/mark"
	echo "# frozen $(field "$T/migrate.json" freeze_ms) ms, the client waited $(field "$T/mark" wait_max_us) us, retransmits $(field "$T/mark" retransmits)"
	[ $i != 2 ] || { sleep 2; footprint >"$T/after-2"; }
done
sleep 2
footprint >"$T/after-10"
is "it is where the last one brought it" "$(where r320)" host-a
load_ctl r320 peek >"$T/peek"
check "every key is right" load_stop r320
is "over the connection it began with" "$(field "$T/load-r320.end" same_port) $(field "$T/load-r320.end" lost)" "true 0"
is "nothing was sent twice in ten migrations" "$(field "$T/load-r320.end" retransmits)" 0
check "what the hosts hold did not grow from the second to the tenth" diff "$T/after-2" "$T/after-10"
check "godwitd is small on host-a" on host-a sh -c 'test $(awk "/VmRSS/{print \$2}" /proc/$(cat /run/lab/daemon.pid)/status) -lt 10240'
check "godwitd is small on host-b" on host-b sh -c 'test $(awk "/VmRSS/{print \$2}" /proc/$(cat /run/lab/daemon.pid)/status) -lt 10240'
