#!/usr/bin/env bash
# A container has an address that every host reaches, and the checking client works.
. "$(dirname "$0")/lib.sh"
need_lab
plan 11

check "redis starts in a runc container" redis host-a r110 50
is "it runs where it was asked to" "$(where r110)" host-a
is "it answers a client on a third host" "$(cli r110 ping)" PONG
read -r ip ip6 <<<"$("$LAB_TOOL" ip r110)"
is "it answers over IPv6" "$(on host-c redis-cli -h "$ip6" -p 7001 ping)" PONG
is "it answers a client on its own host" "$(on host-a redis-cli -h "$ip" -p 7001 ping)" PONG
is "it answers a client on another container host" "$(on host-b redis-cli -h "$ip" -p 7001 ping)" PONG
rss=$(on host-a sh -c "awk '/VmRSS/{print int(\$2/1024)}' /proc/\$(cat /var/lib/lab/r110/pid)/status")
check "it is about as big as asked ($rss of 50 MiB)" test "$rss" -ge 45 -a "$rss" -le 60

check "the client starts" load_start r110 --rate 2000
sleep 1
check "the client finds every key as it wrote it" load_stop r110
is "the client kept its one connection" "$(field "$T/load-r110.end" same_port) $(field "$T/load-r110.end" lost)" "true 0"

load_start r110 --rate 2000 >/dev/null
cli r110 set k:0 spoiled >/dev/null
sleep 0.2
cli r110 flushall >/dev/null
check_fails "the client notices when data is lost" load_stop r110
