# Sourced by tests/kube/kube: the small commands.

kube_kubectl() { need_up; exec "$ST/kubectl" "$@"; }
kube_exec() {
	case ${1:-} in -h | --help) echo "kube exec HOST CMD...: run CMD on HOST (control or a node) as root; the exit code is CMD's"; return ;; esac
	[ $# -ge 2 ] || usage_error "needs a host and a command"
	need_host "$1"
	enter_exec "$@"
}
kube_shell() {
	case ${1:-} in -h | --help) echo "kube shell HOST: an interactive shell on HOST"; return ;; esac
	[ $# = 1 ] || usage_error "needs one host"
	need_host "$1"
	enter_exec "$1" PS1="[$1 \\w]# " bash --norc -i
}

kube_kill_node() {
	case ${1:-} in -h | --help) echo "kube kill-node NODE: as if its power were cut; the API notices after some 20 s"; return ;; esac
	[ $# = 1 ] || usage_error "needs one node"
	need_node "$1"
	power_off "$1"
}
kube_start_node() {
	case ${1:-} in -h | --help) echo "kube start-node NODE: switch a node on again, wait until it is Ready; its disk is as it was"; return ;; esac
	[ $# = 1 ] || usage_error "needs one node"
	need_node "$1"
	if host_pid "$1" >/dev/null; then
		say "$1 is on already"
		wire_pods # it may have been deleted and registered anew, with other addresses
		return 0
	fi
	power_off "$1"
	# A node that stands half is off: the next start-node begins anew.
	trap 'rc=$?; trap - EXIT; [ $rc = 0 ] || power_off "'"$1"'"; exit $rc' EXIT
	power_on "$1"
	trap - EXIT
	wait_for 60 "$1 has pod addresses" node_wanted "$1" || exit 1
	wire_pods
	[ "$(setting cni)" = none ] || wait_for 90 "$1 is Ready" node_ready "$1" || exit 1
}

help_service() {
	cat <<'H'
kube service HOST NAME start|stop|kill|restart|pid|log
  start    start it; returns when it runs
  stop     SIGTERM (SIGKILL after 10 s); it stays down until start
  kill     SIGKILL; it is started again after a second
  restart  stop, then start
  pid      its pid on the host
  log      follow what it says (the file is /run/NAME-kube/HOST/log/SERVICE.log)
H
}
kube_service() {
	case ${1:-} in -h | --help) help_service; return ;; esac
	[ $# = 3 ] || usage_error "needs a host, a service and one of start, stop, kill, restart, pid, log"
	need_host "$1"
	local s=/run/sv/$2
	[ -d "$ST/$1/sv/$2" ] || die "$1 has no service \"$2\": there are $(echo $(ls "$ST/$1/sv"))"
	case $3 in
		start) in_host "$1" sv -w 10 start "$s" >/dev/null ;;
		stop) in_host "$1" sv -w 10 force-stop "$s" >/dev/null ;;
		kill) in_host "$1" sv kill "$s" >/dev/null ;;
		restart) in_host "$1" sv -w 10 force-restart "$s" >/dev/null ;;
		pid) in_host "$1" sh -c 'p=$(cat "$0/supervise/pid") && [ -n "$p" ] && echo "$p"' "$s" || die "$2 does not run on $1" ;;
		log) exec tail -n 50 -F "$ST/$1/log/$2.log" ;;
		*) usage_error "\"$3\" is not one of start, stop, kill, restart, pid, log" ;;
	esac
}

# Prints the name of an image's file below image-files, made if need be.
image_file() { # RECIPE|TAR
	local f
	if [ -e "$HERE/images/$1.recipe" ]; then f=$("$HERE/image" "$1"); else f=$(readlink -f "$1"); fi
	[ -f "$f" ] || die "no image \"$1\": it is neither a file nor one of $(cd "$HERE/images" && echo *.recipe | sed 's/\.recipe//g')"
	[ -e "$ST/image-files/${f##*/}" ] && [ ! "$f" -nt "$ST/image-files/${f##*/}" ] || ln -f "$f" "$ST/image-files/" 2>/dev/null || cp "$f" "$ST/image-files/"
	echo "${f##*/}"
}
kube_load() {
	case ${1:-} in
		-h | --help) echo "kube load IMAGE [NODE...]: import an image on nodes (default: all): a name of tests/kube/images (makes it if need be) or a docker-archive or OCI tar"; return ;;
	esac
	[ $# -ge 1 ] || usage_error "needs an image"
	need_up
	local f n
	f=$(image_file "$1")
	shift
	# shellcheck disable=SC2046
	[ $# -gt 0 ] || set -- $(nodes)
	for n in "$@"; do
		need_host "$n"
		in_host "$n" ctr -n k8s.io images import "/run/images/$f" >/dev/null || die "$n does not take $f"
		grep -qxF "$f" "$ST/$n/images" || echo "$f" >>"$ST/$n/images"
		in_host "$n" touch "/var/lib/containerd/.have-$f"
	done
}

kube_status() {
	case ${1:-} in -h | --help) echo "kube status: hosts, services, nodes and pods. Exit code 1 when the cluster is not up or a host is off."; return ;; esac
	need_up
	local h s p rss bad=0
	for h in $(hosts_up); do
		if ! host_pid "$h" >/dev/null; then
			printf '%-8s off\n' "$h"
			bad=1
			continue
		fi
		printf '%-8s %-10s' "$h" "$(host_ip "$h")"
		for s in "$ST/$h/sv"/*; do
			s=${s##*/}
			p=$(in_host "$h" cat "/run/sv/$s/supervise/pid" 2>/dev/null) || p=
			rss=down
			[ -z "$p" ] || rss=$(in_host "$h" awk '/VmRSS/{print int($2/1024) " MiB"}' "/proc/$p/status" 2>/dev/null) || rss=down
			printf '  %s %s' "$s" "$rss"
			[ "$rss" != down ] || bad=1
		done
		echo
	done
	k get nodes -o wide || bad=1
	k get pods -A -o wide || bad=1
	return $bad
}
