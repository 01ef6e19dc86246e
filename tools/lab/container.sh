# Sourced by tools/godwit-lab: containers with an address of their own.

# ------------------------------------------------------------------ network
# A pod: a /32 (and /128) in a network namespace, a veth to the host, a
# gateway that exists only as a permanent neighbour entry, a route on the host.
POD_GW_MAC=ee:ee:ee:ee:ee:ee
pod_ip() { echo "10.88.$(($1 / 256)).$(($1 % 256))"; }
pod_ip6() { printf 'fd88::%x' "$1"; }
pod_mac() { printf '02:58:00:00:%02x:%02x' $(($1 / 256)) $(($1 % 256)); }
pod_index() { # NAME: the one it has, or the lowest free one from 5 on
	local n=$1 i used
	mkdir -p "$ST/pods"
	if [ ! -e "$ST/pods/$n" ]; then
		used=" $(cat "$ST"/pods/* 2>/dev/null | tr '\n' ' ') "
		i=5
		while [[ $used == *" $i "* ]]; do i=$((i + 1)); done
		echo "$i" >"$ST/pods/$n"
	fi
	cat "$ST/pods/$n"
}
need_pod() { [ -e "$ST/pods/$1" ] || die "there is no container \"$1\": \"godwit-lab status\" lists them"; }

pod_up() { # HOST NAME [dormant]: dormant leaves out the host's route
	local h=$1 n=$2 i ip ip6 v
	i=$(pod_index "$n") ip=$(pod_ip "$i") ip6=$(pod_ip6 "$i") v=pod$i
	in_host "$h" sh -c "set -e
		ip netns add '$n'
		ip link add $v address $POD_GW_MAC type veth peer name eth0 address $(pod_mac "$i") netns '$n'
		ip link set $v addrgenmode none; ip link set $v up
		ip netns exec '$n' sh -c 'echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad'
		ip -n '$n' link set lo up; ip -n '$n' link set eth0 addrgenmode none; ip -n '$n' link set eth0 up
		ip -n '$n' addr add $ip/32 dev eth0; ip -n '$n' addr add $ip6/128 dev eth0 nodad
		ip -n '$n' route add 169.254.1.1 dev eth0 scope link; ip -n '$n' route add default via 169.254.1.1 dev eth0
		ip -n '$n' -6 route add fe80::1 dev eth0; ip -n '$n' -6 route add default via fe80::1 dev eth0
		ip -n '$n' neigh add 169.254.1.1 lladdr $POD_GW_MAC dev eth0 nud permanent
		ip -n '$n' neigh add fe80::1 lladdr $POD_GW_MAC dev eth0 nud permanent
		ip neigh add $ip lladdr $(pod_mac "$i") dev $v nud permanent
		ip neigh add $ip6 lladdr $(pod_mac "$i") dev $v nud permanent"
	[ "${3:-}" = dormant ] || pod_route_local "$h" "$n"
}
pod_route_local() { # HOST NAME
	local i; i=$(pod_index "$2")
	in_host "$1" sh -c "ip route replace $(pod_ip "$i")/32 dev pod$i && ip -6 route replace $(pod_ip6 "$i")/128 dev pod$i"
}
pod_route_via() { # ON-HOST NAME VIA-HOST
	local i; i=$(pod_index "$2")
	in_host "$1" sh -c "ip route replace $(pod_ip "$i")/32 via $(host_ip "$3") && ip -6 route replace $(pod_ip6 "$i")/128 via $(host_ip6 "$3")"
}
pod_down() { # HOST NAME: also what godwitd made for it
	local i; i=$(pod_index "$2")
	in_host "$1" sh -c "for n in '$2' 'gw-$2'; do [ ! -e /run/netns/\$n ] || ip netns del \$n; done
		ip route del $(pod_ip "$i")/32; ip -6 route del $(pod_ip6 "$i")/128; ip link del pod$i; true" 2>/dev/null
}

help_route() { echo "godwit-lab route NAME HOST: host-c sends packets for container NAME to HOST from now on"; }
cmd_route() {
	case ${1:-} in -h | --help) help_route; return ;; esac
	[ $# = 2 ] || usage_error "needs a container and a host"
	need_host "$2"
	need_pod "$1"
	pod_route_via $CLIENT_HOST "$1" "$2"
}
cmd_ip() {
	case ${1:-} in -h | --help) echo "godwit-lab ip NAME: the container's IPv4 and IPv6 address"; return ;; esac
	[ $# = 1 ] || usage_error "needs one container"
	need_up
	need_pod "$1"
	echo "$(pod_ip "$(pod_index "$1")") $(pod_ip6 "$(pod_index "$1")")"
}

# --------------------------------------------------------------- containers
container_host() { # NAME: the host where runc says it runs
	local h
	for h in $(hosts_up); do
		[ "$h" != $CLIENT_HOST ] || continue
		[ "$(in_host "$h" runc state "$1" 2>/dev/null | awk -F'"' '$2 == "status" {print $4}')" = running ] && { echo "$h"; return; }
	done
	return 1
}
cmd_where() {
	case ${1:-} in -h | --help) echo "godwit-lab where NAME: the host on which container NAME runs"; return ;; esac
	[ $# = 1 ] || usage_error "needs one container"
	need_up
	container_host "$1" || die "container \"$1\" runs on no host"
}
cmd_list_containers() {
	local h n
	for h in $(hosts_up); do
		[ "$h" != $CLIENT_HOST ] || continue
		for n in $(in_host "$h" runc list -q 2>/dev/null); do
			[ -e "$ST/pods/$n" ] && printf '  %-12s on %-8s %s %s\n' "$n" "$h" "$(pod_ip "$(pod_index "$n")")" "$(in_host "$h" runc state "$n" | awk -F'"' '$2 == "status" {print $4}')"
		done
	done
	true
}

json_strings() { local s out=; for s in "$@"; do s=${s//\\/\\\\}; out+="${out:+,}\"${s//\"/\\\"}\""; done; echo "$out"; }

# The config of a container as container engines write it: six mounts, the
# usual capabilities, masked and read-only paths. No cgroup namespace (CRIU
# would have to recreate it), no terminal.
write_config() { # NETNS SECCOMP(0|1) TMP(0|1) NAME ARGS...
	local netns=$1 seccomp=$2 tmp=$3 name=$4
	shift 4
	local caps; caps=$(json_strings CAP_CHOWN CAP_DAC_OVERRIDE CAP_FSETID CAP_FOWNER CAP_MKNOD CAP_NET_RAW CAP_SETGID CAP_SETUID CAP_SETFCAP CAP_SETPCAP CAP_NET_BIND_SERVICE CAP_SYS_CHROOT CAP_KILL CAP_AUDIT_WRITE)
	local sec= mnt=
	[ "$seccomp" = 0 ] || sec=',"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"],"syscalls":[{"names":["io_uring_setup","io_uring_enter","io_uring_register","add_key","keyctl","request_key","bpf","userfaultfd","ptrace"],"action":"SCMP_ACT_ERRNO"}]}'
	[ "$(uname -m)" = x86_64 ] || sec=${sec/SCMP_ARCH_X86_64/SCMP_ARCH_AARCH64}
	[ "$tmp" = 0 ] || mnt=',{"destination":"/tmp","type":"tmpfs","source":"tmpfs","options":["nosuid","nodev","mode=1777"]}'
	cat <<J
{"ociVersion":"1.0.2",
 "process":{"terminal":false,"user":{"uid":0,"gid":0},"args":[$(json_strings "$@")],"cwd":"/","noNewPrivileges":true,
  "env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","LC_ALL=C.UTF-8"],
  "capabilities":{"bounding":[$caps],"effective":[$caps],"permitted":[$caps]},
  "rlimits":[{"type":"RLIMIT_NOFILE","hard":20000,"soft":10000}]},
 "root":{"path":"/opt/lab-rootfs","readonly":true},"hostname":"$name",
 "mounts":[
  {"destination":"/proc","type":"proc","source":"proc","options":["nosuid","noexec","nodev"]},
  {"destination":"/dev","type":"tmpfs","source":"tmpfs","options":["nosuid","strictatime","mode=755","size=65536k"]},
  {"destination":"/dev/pts","type":"devpts","source":"devpts","options":["nosuid","noexec","newinstance","ptmxmode=0666","mode=0620","gid=5"]},
  {"destination":"/dev/shm","type":"tmpfs","source":"shm","options":["nosuid","noexec","nodev","mode=1777","size=262144k"]},
  {"destination":"/dev/mqueue","type":"mqueue","source":"mqueue","options":["nosuid","noexec","nodev"]},
  {"destination":"/sys","type":"sysfs","source":"sysfs","options":["nosuid","noexec","nodev","ro"]},
  {"destination":"/sys/fs/cgroup","type":"cgroup","source":"cgroup","options":["nosuid","noexec","nodev","relatime","ro"]},
  {"destination":"/mnt","type":"bind","source":"/opt/godwit/libexec/godwit/lab","options":["rbind","ro"]}$mnt],
 "linux":{"cgroupsPath":"/lab/$name","resources":{"devices":[{"allow":false,"access":"rwm"}]},
  "namespaces":[{"type":"pid"},{"type":"ipc"},{"type":"uts"},{"type":"mount"},{"type":"network","path":"$netns"}],
  "maskedPaths":["/proc/acpi","/proc/asound","/proc/kcore","/proc/keys","/proc/latency_stats","/proc/timer_list","/proc/timer_stats","/proc/sched_debug","/sys/firmware","/proc/scsi"],
  "readonlyPaths":["/proc/bus","/proc/fs","/proc/irq","/proc/sys","/proc/sysrq-trigger"]$sec}}
J
}

help_run() {
	cat <<'H'
godwit-lab run HOST NAME [--mib N] [--port P] [--seccomp] [--tmp] [-- CMD...]
Start a container NAME on HOST with an address of its own. Without CMD: redis
on port P (default 7001) with N MiB of data (default 64).
  --seccomp   with a seccomp filter
  --tmp       with a writable /tmp (a tmpfs)
CMD runs in the Debian 13 root, read-only; the lab's own programs are in /mnt.
Prints the container's IPv4 address.
H
}
cmd_run() {
	local mib=64 port=7001 seccomp=0 tmp=0 h= n= redis=1
	while [ $# -gt 0 ]; do
		case $1 in
			--mib) [[ ${2:-} =~ ^[0-9]+$ ]] || usage_error "--mib needs a number"; mib=$2; shift ;;
			--port) [[ ${2:-} =~ ^[0-9]+$ ]] || usage_error "--port needs a number"; port=$2; shift ;;
			--seccomp) seccomp=1 ;;
			--tmp) tmp=1 ;;
			-h | --help) help_run; return ;;
			--) shift; redis=; break ;;
			-*) usage_error "unknown argument \"$1\"" ;;
			*) if [ -z "$h" ]; then h=$1; elif [ -z "$n" ]; then n=$1; else usage_error "too many arguments: \"$1\""; fi ;;
		esac
		shift
	done
	[ -n "$n" ] || usage_error "needs a host and a name"
	[[ $n =~ ^[a-z0-9][a-z0-9-]{0,30}$ ]] || usage_error "a name has small letters, digits and hyphens, at most 31"
	need_host "$h"
	[ "$h" != $CLIENT_HOST ] || die "$CLIENT_HOST is the client's, containers live on the others"
	[ ! -e "$ST/pods/$n" ] || die "there is a container \"$n\" already: \"godwit-lab rm $n\" removes it"
	if [ -n "$redis" ]; then
		set -- /usr/bin/redis-server --port "$port" --save '' --appendonly no --bind 0.0.0.0 '-::*' --protected-mode no --enable-debug-command yes --loglevel warning
	fi
	[ $# -gt 0 ] || usage_error "there is nothing after --"
	start_container "$h" "$n" "$seccomp" "$tmp" "$@" || { cmd_rm "$n" 2>/dev/null; die "container $n did not start on $h (above)"; }
	if [ -n "$redis" ]; then fill_redis "$h" "$n" "$port" "$mib" || { cmd_rm "$n"; die "redis in $n was not filled"; }; fi
	pod_ip "$(pod_index "$n")"
}
start_container() { # HOST NAME SECCOMP TMP ARGS...
	local h=$1 n=$2 seccomp=$3 tmp=$4
	shift 4
	pod_up "$h" "$n"
	pod_route_via $CLIENT_HOST "$n" "$h"
	in_host "$h" mkdir -p "/var/lib/lab/$n"
	mkdir -p "$ST/bundles"
	write_config "/run/netns/$n" "$seccomp" "$tmp" "$n" "$@" >"$ST/bundles/$n.json"
	in_host "$h" sh -c "cat > /var/lib/lab/$n/config.json" <"$ST/bundles/$n.json"
	# runc's own words are wanted, but the container must not inherit the log as its stderr.
	local try
	for try in 1 2 3; do
		in_host "$h" sh -c ": >/run/lab/runc.log; cd /var/lib/lab/$n && runc --log /run/lab/runc.log run -d --pid-file /var/lib/lab/$n/pid $n </dev/null >/dev/null 2>&1" && return 0
		# runc 1.1 copies itself into a sealed memfd; sealing fails now and then while
		# the kernel still holds a page of the copy.
		in_host "$h" grep -q 'cloned binary: Device or resource busy' /run/lab/runc.log || break
		in_host "$h" sh -c "[ ! -e /run/runc/$n ] || runc --log /run/lab/runc.log delete -f $n"
	done
	in_host "$h" tail -n 3 /run/lab/runc.log >&2
	return 1
}

redis_cli() { local n=$1 p=$2; shift 2; in_host $CLIENT_HOST redis-cli -h "$(pod_ip "$(pod_index "$n")")" -p "$p" "$@"; }
redis_rss_mib() { in_host "$1" sh -c "awk '/VmRSS/{print int(\$2/1024)}' /proc/\$(cat /var/lib/lab/$2/pid)/status"; }
fill_redis() { # HOST NAME PORT MIB: values of 900 bytes until the process is as big as asked
	local h=$1 n=$2 port=$3 mib=$4 i keys=0 rss base step
	for i in $(seq 1 100); do
		[ "$(redis_cli "$n" "$port" ping 2>/dev/null)" = PONG ] && break
		[ "$i" -lt 100 ] || { echo "redis does not answer from $CLIENT_HOST" >&2; return 1; }
		sleep 0.05
	done
	base=$(redis_rss_mib "$h" "$n")
	for i in 1 2 3 4; do
		rss=$(redis_rss_mib "$h" "$n")
		[ "$rss" -lt "$mib" ] || break
		# 1,120 bytes a key is the first guess; afterwards what it really took.
		if [ $keys = 0 ]; then step=$(((mib - rss) * 1048576 / 1150)); else step=$(((mib - rss) * keys / (rss - base + 1))); fi
		[ "$step" -gt 100 ] || break
		keys=$((keys + step))
		[ "$(redis_cli "$n" "$port" debug populate "$keys" k 900)" = OK ] || return 1
	done
	echo "$keys" >"$ST/$h/keys-$n"
}

cmd_rm() {
	case ${1:-} in -h | --help) echo "godwit-lab rm NAME: remove container NAME, its namespaces and routes, on every host"; return ;; esac
	[ $# = 1 ] || usage_error "needs one container"
	need_up
	need_pod "$1"
	local h n=$1
	for h in $(hosts_up); do
		host_pid "$h" >/dev/null || continue
		if [ "$h" != $CLIENT_HOST ]; then
			in_host "$h" sh -c "[ ! -e /run/runc/$n ] || runc --log /run/lab/runc.log delete -f $n; rm -rf /var/lib/lab/$n"
		fi
		pod_down "$h" "$n"
	done
	rm -f "$ST/pods/$n" "$ST/bundles/$n.json" "$ST"/*/keys-"$n"
}
help_load() {
	cat <<'H'
godwit-lab load NAME [--on HOST] [--ipv6] [--port P] [LAB-LOAD OPTIONS]
Run the checking client against redis container NAME, on host-c or on HOST, until
its --seconds are over or "godwit-lab load NAME stop". It holds one connection
and checks every answer, and at the end every key.
  godwit-lab load NAME mark WORD   numbers since the last mark, as JSON
  godwit-lab load NAME stop        verify and end
  --rate N --value N --keys N --seconds N ... go to lab-load ("lab-load --help" on a host)
One line a second goes to /run/godwit-lab/HOST/load-NAME.json.
H
}
cmd_load() {
	local n= on=$CLIENT_HOST v6= port=7001 keys
	local -a pass=()
	while [ $# -gt 0 ]; do
		case $1 in
			-h | --help) help_load; return ;;
			--on) [ $# -ge 2 ] || usage_error "--on needs a host"; on=$2; shift ;;
			--port) [ $# -ge 2 ] || usage_error "--port needs a number"; port=$2; shift ;;
			--ipv6) v6=1 ;;
			*) if [ -z "$n" ]; then n=$1; else pass+=("$1"); fi ;;
		esac
		shift
	done
	[ -n "$n" ] || usage_error "needs a container"
	need_host "$on"
	need_pod "$n"
	local s=/run/lab/load-$n.sock i
	case ${pass[0]:-} in
		mark | peek | rate | stop) in_host "$on" lab-load ctl "$s" "${pass[@]}"; return ;;
	esac
	keys=$(cat "$ST"/*/keys-"$n" 2>/dev/null || echo 200000)
	[ "$keys" -lt 200000 ] || keys=200000
	i=$(pod_index "$n")
	enter_exec "$on" lab-load --host "$(if [ -n "$v6" ]; then pod_ip6 "$i"; else pod_ip "$i"; fi)" --port "$port" --keys "$keys" \
		--report-file "/run/lab/load-$n.json" --control "$s" ${pass[@]+"${pass[@]}"}
}
