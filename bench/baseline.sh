# Sourced by bench/run and by tests: the plain way of moving a container.
#
# runc checkpoint into memory, images copied over one plain TCP connection,
# runc restore on the other host, then the routes are turned. Nothing holds
# packets, so the client's TCP retransmits. The address is prepared on the
# destination beforehand, as godwit does: only the ways of moving differ. PLAIN_OPTIONS goes to runc.

baseline_prepare() { # NAME FROM TO
	local n=$1 to=$3
	in_host "$to" sh -c "[ ! -e /run/runc/$n ] || runc --log /run/lab/runc.log delete -f $n"
	pod_down "$to" "$n"
	pod_up "$to" "$n" dormant
	pod_route_via "$to" "$n" "$2"
	in_host "$to" mkdir -p "/var/lib/lab/$n"
	in_host "$to" sh -c "cat >/var/lib/lab/$n/config.json" <"$ST/bundles/$n.json"
	in_host "$to" sh -c 'rm -rf /run/plain; mkdir -p /run/plain/img /run/plain/work'
	in_host "$to" pkill -x tcpcopy || true # one of a move that failed
	# A container that godwit brought here names a file of options for CRIU (no network
	# lock) that runc would hand on: plain means without.
	in_host "$2" sh -c "f=\$(runc state $n | sed -n 's/.*\"bundle\": \"\(.*\)\".*/\1/p')/criu.conf; [ ! -e \$f ] || : >\$f"
	in_host "$2" sh -c 'rm -rf /run/plain; mkdir -p /run/plain/img /run/plain/work'
}

# When CRIU wrote the first line of LOG that matches PATTERN, in ns of wall
# time: lines count seconds from CRIU's start, the last was written at the mtime.
criu_log_time() { # HOST LOG PATTERN
	local m
	m=$(in_host "$1" stat -c %.9Y "$2")
	in_host "$1" cat "$2" | LC_ALL=C awk -v pat="$3" -v m="$m" '
		match($0, /^\([0-9.]+\)/) { t = substr($0, 2, RLENGTH - 2) + 0; if (!found && $0 ~ pat) { found = 1; at = t } }
		END { if (!found) exit 1; split(m, s, "."); ns = s[2] - int((t - at) * 1e9 + 0.5)
			while (ns < 0) { s[1]--; ns += 1e9 }
			printf "%d%09d\n", s[1], ns }'
}

# Prints one JSON object: freeze_ms, checkpoint_ms, copy_ms, restore_ms, bytes.
baseline_move() { # NAME FROM TO
	local n=$1 from=$2 to=$3 i t0 t1 t2 t3 rx frozen resumed
	i=$(pod_index "$n")
	baseline_prepare "$n" "$from" "$to"
	in_host "$to" tcpcopy recv 9500 /run/plain/img >"$ST/$to/plain.bytes" 2>"$ST/$to/plain.err" &
	rx=$!
	t0=$(date +%s%N)
	# shellcheck disable=SC2086
	in_host "$from" runc --log /run/lab/runc.log checkpoint --tcp-established ${PLAIN_OPTIONS:-} --image-path /run/plain/img --work-path /run/plain/work "$n" || {
		in_host "$to" pkill -x tcpcopy || true
		wait $rx || true
		in_host "$from" sh -c 'tail -n 3 /run/lab/runc.log; grep -a Error /run/plain/work/dump.log' >&2
		return 1
	}
	t1=$(date +%s%N)
	in_host "$from" sh -c "tcpcopy send $(host_ip "$to") 9500 /run/plain/img/*" && wait $rx || { echo "the copy of the images failed" >&2; return 1; }
	t2=$(date +%s%N)
	in_host "$to" sh -c "runc --log /run/lab/runc.log restore -d --tcp-established ${PLAIN_OPTIONS:-} --image-path /run/plain/img --work-path /run/plain/work \
		--bundle /var/lib/lab/$n --pid-file /var/lib/lab/$n/pid $n </dev/null >/dev/null 2>&1 &&
		ip route replace $(pod_ip "$i")/32 dev pod$i && ip -6 route replace $(pod_ip6 "$i")/128 dev pod$i" || {
		in_host "$to" sh -c 'tail -n 3 /run/lab/runc.log; grep -a Error /run/plain/work/restore.log' >&2
		return 1
	}
	pod_route_via "$from" "$n" "$to"
	t3=$(date +%s%N)
	frozen=$(criu_log_time "$from" /run/plain/work/dump.log 'freezing processes|Seized task') || { echo "no freeze in dump.log" >&2; return 1; }
	resumed=$(criu_log_time "$to" /run/plain/work/restore.log 'Restore finished successfully') || { echo "no resume in restore.log" >&2; return 1; }
	pod_down_keep_route "$from" "$n"
	in_host "$from" rm -rf /run/plain
	in_host "$to" rm -rf /run/plain
	printf '{"freeze_ms":%s,"checkpoint_ms":%s,"copy_ms":%s,"restore_ms":%s,"bytes":%s}\n' \
		"$(ms $((resumed - frozen)))" "$(ms $((t1 - t0)))" "$(ms $((t2 - t1)))" "$(ms $((t3 - t2)))" "$(cat "$ST/$to/plain.bytes")"
}
ms() { printf '%d.%d' $(($1 / 1000000)) $(($1 % 1000000 / 100000)); }
pod_down_keep_route() { # HOST NAME: namespace and veth go, the route to the other host stays
	local i; i=$(pod_index "$2")
	in_host "$1" sh -c "for n in '$2' 'gw-$2'; do [ ! -e /run/netns/\$n ] || ip netns del \$n; done; ip link del pod$i 2>/dev/null; true"
}
