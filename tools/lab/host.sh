# Sourced by tools/godwit-lab: hosts up and down, the network between them.

help_up() {
	cat <<'H'
godwit-lab up [--hosts a,b] [--no-build] [--no-supervise]
Start host-c (client and router, 10.9.0.1) and the named hosts (default a,b:
host-a 10.9.0.2, host-b 10.9.0.3), with godwitd on each. Builds the tree first.
  --no-build       take build/install as it is
  --no-supervise   a godwitd that dies stays dead
When the lab is up already, nothing is changed.
H
}
cmd_up() {
	local hosts=a,b build=1 once= h
	while [ $# -gt 0 ]; do
		case $1 in
			--hosts) [ $# -ge 2 ] || usage_error "--hosts needs a list, like a,b"; hosts=$2; shift ;;
			--no-build) build= ;;
			--no-supervise) once=1 ;;
			-h | --help) help_up; return ;;
			*) usage_error "unknown argument \"$1\"" ;;
		esac
		shift
	done
	[[ $hosts =~ ^[a-z](,[a-z])*$ ]] && [[ ,$hosts, != *,c,* ]] || usage_error "--hosts is a list of single letters without c (that one is the client's), like a,b"
	hosts=$(printf 'host-%s ' ${hosts//,/ })
	if [ -e "$ST/up" ]; then
		local all=1
		for h in $CLIENT_HOST $hosts; do host_pid "$h" >/dev/null || all=; done
		[ -z "$all" ] || { say "the lab is up already: $(echo $(hosts_up))"; return 0; }
	fi
	if [ -e "$ST" ] || [ -n "$(cg_pids)" ]; then QUIET=1 cmd_down; fi
	mkdir -p "$ST"
	# Until everything stands, any failure takes it all down again.
	trap 'rc=$?; trap - EXIT; [ $rc = 0 ] || { QUIET=1 cmd_down || true; }; exit $rc' EXIT
	local base; base=$(base_root)
	echo "$base" >"$ST/base"
	[ -z "$build" ] || "$TOP/tools/build" --quiet || die "the build failed, so there is nothing to run on the hosts"
	[ -x "$BUILD/install/opt/godwit/libexec/godwit/lab/lab-init" ] || die "$BUILD/install is empty: leave out --no-build, or run \"make\""
	make_hosts_file $hosts
	make_pki $hosts
	for h in $CLIENT_HOST $hosts; do boot_host "$h" "$base" "$once"; done
	for h in $CLIENT_HOST $hosts; do wait_host "$h"; done
	wire_client
	for h in $hosts; do wire_host "$h" $CLIENT_HOST $hosts; done
	for h in $hosts; do start_daemon "$h"; done
	touch "$ST/up"
	trap - EXIT
	say "up: $(echo $(hosts_up))"
}

make_hosts_file() {
	local h
	for h in "$@"; do echo "$h $(host_ip "$h"),$(host_ip6 "$h") 9460"; done >"$ST/hosts"
	echo "$CLIENT_HOST $(host_ip $CLIENT_HOST),$(host_ip6 $CLIENT_HOST) 9460" >>"$ST/hosts"
}

# A certification authority for this lab alone; both directions of a
# connection show a certificate, checked by the host's name.
make_pki() {
	local h d=$ST/pki base
	base=$(cat "$ST/base")
	mkdir -p "$d"
	chmod 700 "$d"
	local ssl="chroot $base /usr/bin/openssl" tmp
	tmp=$(mktemp -d "$base/tmp/godwit-pki.XXXXXX")
	local in=${tmp#"${base%/}"}
	$ssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/CN=godwit lab" \
		-addext basicConstraints=critical,CA:true -addext keyUsage=critical,keyCertSign,cRLSign \
		-keyout "$in/ca.key" -out "$in/ca.pem" 2>"$tmp/log" || { cat "$tmp/log" >&2; rm -rf "$tmp"; die "openssl can't make the lab's authority"; }
	for h in "$@"; do
		printf 'subjectAltName=DNS:%s\nextendedKeyUsage=serverAuth,clientAuth\nkeyUsage=critical,digitalSignature\nbasicConstraints=critical,CA:false\n' "$h" >"$tmp/ext"
		{ $ssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$h" -keyout "$in/$h.key" -out "$in/$h.csr" &&
			$ssl x509 -req -in "$in/$h.csr" -CA "$in/ca.pem" -CAkey "$in/ca.key" -CAcreateserial -days 30 -extfile "$in/ext" -out "$in/$h.pem"; } \
			2>"$tmp/log" || { cat "$tmp/log" >&2; rm -rf "$tmp"; die "openssl can't make the certificate of $h"; }
		cp "$tmp/$h.key" "$tmp/$h.pem" "$d/"
	done
	cp "$tmp/ca.pem" "$d/"
	rm -rf "$tmp"
}

daemon_args() { # HOST
	echo /opt/godwit/bin/godwitd --name "$1" --listen 0.0.0.0:9460 --hosts /etc/godwit/hosts --ca /etc/godwit/ca.pem \
		--cert /etc/godwit/cert.pem --key /etc/godwit/key.pem --socket /run/godwit/godwit.sock --state /run/godwit
}
boot_host() { # HOST BASE ONCE
	local h=$1 base=$2 args=
	mkdir -p "$ST/$h/fs"
	[ -z "$3" ] || touch "$ST/$h/daemon.once"
	[ "$h" = $CLIENT_HOST ] || args=$(daemon_args "$h")
	cg_make "$h"
	# shellcheck disable=SC2086
	( cg_enter "$h"
	  exec setsid unshare --net --mount --uts --ipc --pid --cgroup --fork --kill-child -- \
		/bin/bash "$TOP/tools/lab/host-boot" "$ST" "$h" "$base" "$BUILD/install/opt/godwit" $args ) \
		</dev/null >"$ST/$h/init.log" 2>&1 &
	echo $! >"$ST/$h/starter"
}
wait_host() { # HOST
	local h=$1 i s p
	s=$(cat "$ST/$h/starter")
	for i in $(seq 1 200); do
		[ -e "$ST/$h/ready" ] && break
		kill -0 "$s" 2>/dev/null || { cat "$ST/$h/init.log" >&2; die "host $h did not start (its log is above)"; }
		sleep 0.05
	done
	[ -e "$ST/$h/ready" ] || { cat "$ST/$h/init.log" >&2; die "host $h did not come up in 10 s"; }
	p=$(awk '{print $1}' "/proc/$s/task/$s/children")
	echo "$p $(start_time "$p")" >"$ST/$h/pid"
	cg_make_leaf "$h"
}

knobs='net/ipv4/ip_forward=1 net/ipv4/conf/all/rp_filter=0 net/ipv4/conf/default/rp_filter=0
 net/ipv4/conf/all/send_redirects=0 net/ipv4/conf/default/send_redirects=0 net/ipv4/conf/all/accept_redirects=0
 net/ipv6/conf/all/forwarding=1 net/ipv6/conf/all/accept_dad=0 net/ipv6/conf/default/accept_dad=0
 net/ipv6/conf/all/accept_redirects=0 net/ipv6/conf/default/accept_redirects=0
 net/ipv4/neigh/default/proxy_delay=0 net/ipv6/neigh/default/proxy_delay=0'
set_knobs='for k in $0; do f=/proc/sys/${k%%=*}; [ ! -e "$f" ] || echo "${k#*=}" > "$f" || exit 1; done'

wire_client() {
	in_host $CLIENT_HOST sh -c "$set_knobs" "$knobs"
	in_host $CLIENT_HOST sh -c "set -e
		ip link set lo up
		ip link add name br0 address $(host_mac $CLIENT_HOST) type bridge
		ip link set br0 up
		ip addr add $(host_ip $CLIENT_HOST)/24 dev br0
		ip addr add $(host_ip6 $CLIENT_HOST)/64 dev br0 nodad"
}
wire_host() { # HOST ALL...
	local h=$1 p o cmds
	shift
	p=$(host_pid "$h")
	in_host "$h" sh -c "$set_knobs" "$knobs"
	# A veth end goes to another host by that host's PID 1, and only from
	# outside of both can that pid be named.
	local c; c=$(host_pid $CLIENT_HOST)
	nsenter -t "$c" -n ip link add "${h/host-/to-}" type veth peer name eth0 address "$(host_mac "$h")" netns "$p"
	in_host $CLIENT_HOST sh -c "ip link set ${h/host-/to-} master br0 && ip link set ${h/host-/to-} up"
	cmds="set -e; ip link set lo up; ip link set eth0 up; ip addr add $(host_ip "$h")/24 dev eth0; ip addr add $(host_ip6 "$h")/64 dev eth0 nodad
		ip route add default via $(host_ip $CLIENT_HOST); ip -6 route add default via $(host_ip6 $CLIENT_HOST)"
	for o in "$@"; do
		[ "$o" != "$h" ] || continue
		cmds="$cmds; ip neigh add $(host_ip "$o") lladdr $(host_mac "$o") dev eth0 nud permanent; ip neigh add $(host_ip6 "$o") lladdr $(host_mac "$o") dev eth0 nud permanent"
	done
	in_host "$h" sh -c "$cmds"
	in_host $CLIENT_HOST sh -c "ip neigh replace $(host_ip "$h") lladdr $(host_mac "$h") dev br0 nud permanent
		ip neigh replace $(host_ip6 "$h") lladdr $(host_mac "$h") dev br0 nud permanent"
}

# ------------------------------------------------------------------- daemon
daemon_pid() { local p; p=$(cat "$ST/$1/daemon.pid" 2>/dev/null) && echo "$p"; }
start_daemon() { # HOST: start it and wait until its socket answers
	local h=$1 i
	rm -f "$ST/$h/daemon.off"
	if [ ! -x "$BUILD/install/opt/godwit/bin/godwitd" ]; then
		say "  $h: there is no godwitd in $BUILD/install, so nothing can migrate"
		return 0
	fi
	in_host "$h" kill -USR1 1
	for i in $(seq 1 100); do
		in_host "$h" test -S /run/godwit/godwit.sock && [ -e "$ST/$h/daemon.pid" ] && return 0
		[ "$i" -lt 20 ] || [ -e "$ST/$h/daemon.pid" ] || [ ! -e "$ST/$h/daemon.once" ] || break
		sleep 0.05
	done
	tail -n 20 "$ST/$h/godwitd.log" "$ST/$h/init.log" >&2 || true
	die "godwitd on $h does not come up (its log is above and in $ST/$h/godwitd.log)"
}
stop_daemon() { # HOST SIGNAL
	local h=$1 p i
	touch "$ST/$h/daemon.off"
	p=$(daemon_pid "$h") || return 0
	in_host "$h" kill "-$2" "$p" 2>/dev/null || true
	for i in $(seq 1 200); do
		[ "$(daemon_pid "$h")" != "$p" ] && return 0
		sleep 0.05
	done
	die "godwitd on $h (pid $p there) does not end; \"godwit-lab daemon $h kill\" ends it for sure"
}
help_daemon() {
	cat <<'H'
godwit-lab daemon HOST start|stop|kill|restart|pid
  start    start godwitd and wait for its socket
  stop     SIGTERM; it stays down until start
  kill     SIGKILL; it stays down until start
  restart  stop, then start
  pid      its pid on the host
Its log is /run/godwit-lab/HOST/godwitd.log.
H
}
cmd_daemon() {
	case ${1:-} in -h | --help) help_daemon; return ;; esac
	[ $# = 2 ] || usage_error "needs a host and one of start, stop, kill, restart, pid"
	need_host "$1"
	case $2 in
		start) start_daemon "$1" ;;
		stop) stop_daemon "$1" TERM ;;
		kill) stop_daemon "$1" KILL ;;
		restart) stop_daemon "$1" TERM; start_daemon "$1" ;;
		pid) daemon_pid "$1" || die "no godwitd runs on $1" ;;
		*) usage_error "\"$2\" is not one of start, stop, kill, restart, pid" ;;
	esac
}

# ------------------------------------------------------------ down, status...
cmd_down() {
	case ${1:-} in
		-h | --help) echo "godwit-lab down: kill every process of the lab, remove its cgroups and its state. Works in every state, also twice."; return ;;
		'') ;;
		*) usage_error "unknown argument \"$1\"" ;;
	esac
	local was=; [ -e "$ST" ] && was=1
	cg_kill
	cg_drop
	# The mounts died with their namespaces; an old fs folder is an empty mount point.
	rm -rf --one-file-system "$ST"
	[ -z "$was" ] && say "the lab was not up" || say "down: nothing is left"
}
cmd_status() {
	case ${1:-} in
		-h | --help) echo "godwit-lab status: hosts, daemons and containers. Exit code 1 when the lab is not up or a host is dead."; return ;;
		'') ;;
		*) usage_error "unknown argument \"$1\"" ;;
	esac
	need_up
	local h p bad=0 d
	for h in $(hosts_up); do
		if ! p=$(host_pid "$h"); then
			printf '%-8s DEAD\n' "$h"
			bad=1
			continue
		fi
		d=$(daemon_pid "$h") && d="godwitd pid $d there, $(in_host "$h" awk '/VmRSS/{printf "%.1f MiB", $2/1024}' "/proc/$d/status")" || d="no godwitd"
		[ "$h" != $CLIENT_HOST ] || d="client and router"
		printf '%-8s %-10s pid %-7s %s\n' "$h" "$(host_ip "$h")" "$p" "$d"
	done
	cmd_list_containers
	return $bad
}
cmd_shell() {
	case ${1:-} in -h | --help) echo "godwit-lab shell HOST: an interactive shell on HOST"; return ;; esac
	[ $# = 1 ] || usage_error "needs one host"
	need_host "$1"
	enter_exec "$1" PS1="[$1 \\w]# " bash --norc -i
}
cmd_exec() {
	case ${1:-} in -h | --help) echo "godwit-lab exec HOST CMD...: run CMD on HOST; the exit code is CMD's"; return ;; esac
	[ $# -ge 2 ] || usage_error "needs a host and a command"
	need_host "$1"
	enter_exec "$@"
}
