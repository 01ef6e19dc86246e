#!/usr/bin/env bash
# Clients on the source, on the destination and on a third host, over IPv4 and
# IPv6, TCP and UDP, all through the same two migrations.
. "$(dirname "$0")/lib.sh"
need_migration
plan 21

many() { # the loads of this test, one per line: NAME-SUFFIX HOST FAMILY
	echo "c4 host-c"; echo "a4 host-a"; echo "b4 host-b"; echo "c6 host-c --ipv6"; echo "a6 host-a --ipv6"; echo "b6 host-b --ipv6"
}
check "redis starts on host-a" redis host-a r325 64
check "an echo of datagrams starts on host-a" victim host-a e325 echo
read -r eip eip6 <<<"$("$LAB_TOOL" ip e325)"

while read -r tag host family; do
	# Keys of their own, so that no client overwrites another's.
	# shellcheck disable=SC2086
	"$LAB_TOOL" load r325 --on "$host" $family --rate 500 --keys 5000 --prefix "$tag" --control "/run/lab/$tag.sock" --seconds 0 >"$T/$tag.end" 2>"$T/$tag.err" &
	echo $! >"$T/$tag.pid"
	started_loads+=($!)
done < <(many)
for h in host-a host-b host-c; do
	for ip in "$eip" "$eip6"; do
		on "$h" lab-udp "$ip" 7200 200 25 >"$T/udp-$h-${ip//:/_}.end" &
		echo $! >"$T/udp-$h-${ip//:/_}.pid"
		started_loads+=($!)
	done
done
sleep 1
check "redis moves to host-b" migrate r325 host-b
check "the echo moves to host-b" migrate e325 host-b
sleep 1
# Datagrams that were held for a move that fails go to where they would have gone.
on host-a sh -c 'echo "dest-restored fail" >/run/godwit/fault'
check_fails "a move of the echo fails" migrate e325 host-a
sleep 1
check "redis moves back" migrate r325 host-a
check "the echo moves back" migrate e325 host-a
sleep 1
while read -r tag host family; do
	on "$host" lab-load ctl "/run/lab/$tag.sock" stop >/dev/null
	wait "$(cat "$T/$tag.pid")"
	rc=$?
	name="the client on $host over IPv${tag:1} kept its connection and its keys"
	if [ $rc = 0 ]; then ok "$name"; else not_ok "$name" "$(cat "$T/$tag.err" "$T/$tag.end")"; fi
done < <(many)
for h in host-a host-b host-c; do
	for ip in "$eip" "$eip6"; do
		f=$T/udp-$h-${ip//:/_}
		wait "$(cat "$f.pid")"
		rc=$?
		name="no datagram of $h to $ip is lost"
		if [ $rc = 0 ]; then ok "$name"; else not_ok "$name" "$(cat "$f.end")"; fi
	done
done
check "the echo is content" content e325
check "it answers new clients" ask e325 ping
