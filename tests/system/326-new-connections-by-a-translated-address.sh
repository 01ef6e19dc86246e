#!/usr/bin/env bash
# New connections by an address that a host translates, as a Service's is: opened on the
# destination itself, on the source, and from outside by the destination's own port, every
# 20 ms through two migrations. Each is answered, and no SYN has to be sent twice.
. "$(dirname "$0")/lib.sh"
need_migration
plan 9

check "redis starts on host-a" redis host-a r326 64
read -r ip _ <<<"$("$LAB_TOOL" ip r326)"
for h in host-a host-b host-c; do on "$h" tee /run/knock.py <"$TOP/tests/kube/knock.py" >/dev/null; done
for h in host-a host-b; do
	[ $h = host-a ] && own=10.9.0.2 || own=10.9.0.3
	on "$h" nft "add table ip t326; add chain ip t326 o { type nat hook output priority -100; }; add chain ip t326 p { type nat hook prerouting priority -100; }
		add chain ip t326 q { type nat hook postrouting priority 100; }
		add rule ip t326 o ip daddr 10.96.0.1 tcp dport 80 dnat to $ip:7001
		add rule ip t326 p ip daddr { 10.9.0.2, 10.9.0.3 } tcp dport 8326 dnat to $ip:7001
		add rule ip t326 q ip daddr $ip ip saddr 10.9.0.1 snat to $own"
done
away() { on host-a nft delete table ip t326; on host-b nft delete table ip t326; }
knock() { # HOST ADDR:PORT...
	local h=$1
	shift
	on "$h" rm -f /run/knock.stop
	on "$h" python3 /run/knock.py --every 0.02 /run/knock.stop "$@" >"$T/knock-$h" 2>"$T/knock-$h.err" &
	started_loads+=($!)
}
knock host-a 10.96.0.1:80
knock host-b 10.96.0.1:80
knock host-c 10.9.0.2:8326 10.9.0.3:8326
sleep 1
check "it moves to host-b" migrate r326 host-b
there=$(field "$T/migrate.json" freeze_ms)
sleep 1
check "and back" migrate r326 host-a
echo "# frozen $there and $(field "$T/migrate.json" freeze_ms) ms"
# A SYN is sent again after a second: on a machine so busy that it stands for longer, rightly so.
slow() { ! less "$there" 900 || ! less "$(field "$T/migrate.json" freeze_ms)" 900; }
sleep 1
for h in host-a host-b host-c; do on "$h" touch /run/knock.stop; done
wait "${started_loads[@]}"
away
diag < <(cat "$T"/knock-host-?)
answers() { cat "$T/knock-$1.err"; [ "$(wc -l <"$T/knock-$1")" = "$2" ] && ! grep -v '"wrong": {}' "$T/knock-$1" && ! grep -E '"answered": [0-9]{1,2},' "$T/knock-$1" && ! cat "$T/knock-$1.err" | grep .; }
once() { slow || [ "$(grep -c '"syn_again": 0' "$T/knock-$1")" = "$2" ]; }
for h in host-a host-b host-c; do
	check "all connections of $h were answered" answers $h "$([ $h = host-c ] && echo 2 || echo 1)"
	check "and none asked for twice" once $h "$([ $h = host-c ] && echo 2 || echo 1)"
done
