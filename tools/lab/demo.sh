# Sourced by tools/godwit-lab: the guided tour that `make demo` gives.

help_demo() {
	cat <<'H'
godwit-lab demo [--mib 1024] [--rate 5000] [--times 5] [--plain] [--no-build]
Two hosts, a redis of so many MiB on host-a, a client on host-c that writes RATE
keys a second over one connection and checks every answer. The container moves
to host-b and back, TIMES in all. At the end every key is read back.
  --no-build  take build/install as it is
  --plain     lines instead of the live display (also when stdout is no terminal)
Ctrl-C ends it and cleans everything up. It has a lab of its own and leaves one
that is up alone.
H
}
demo_emit() { printf '%s\n' "$1" >&7; }
demo_end() {
	local rc=$?
	trap - EXIT INT TERM
	exec 7>&- || true
	[ -z "${view:-}" ] || wait "$view" 2>/dev/null || true
	[ ! -t 1 ] || printf '\033[?25h'
	QUIET=1 cmd_down || rc=1
	rm -rf "$demo_tmp"
	exit $rc
}
demo_sleep() { local i; for ((i = 0; i < $1 * 10; i++)); do sleep 0.1; done; }

cmd_demo() {
	local mib=1024 rate=5000 times=5 plain= build= n from=host-a to=host-b i
	while [ $# -gt 0 ]; do
		case $1 in
			--mib | --rate | --times)
				[[ ${2:-} =~ ^[1-9][0-9]*$ ]] || usage_error "$1 needs a number from 1 on"
				case $1 in --mib) mib=$2 ;; --rate) rate=$2 ;; --times) times=$2 ;; esac
				shift
				;;
			--plain) plain=--plain ;;
			--no-build) build=--no-build ;;
			-h | --help) help_demo; return ;;
			*) usage_error "unknown argument \"$1\"" ;;
		esac
		shift
	done
	LAB=${GODWIT_DEMO_LAB:-godwit-demo}
	ST=/run/$LAB
	export GODWIT_LAB=$LAB
	view= demo_tmp=$(mktemp -d)
	trap demo_end EXIT
	trap 'exit 130' INT TERM
	demo_room "$mib"
	say "making ready (the first time this installs a Debian 13 root and builds, a few minutes)"
	"$TOP/tools/godwit-lab" up $build
	need_up
	[ -x "$BUILD/install/opt/godwit/bin/godwitd" ] || die "godwitd is not in $BUILD/install, so there is nothing to show"
	say "filling redis with $mib MiB"
	cmd_run host-a web --mib "$mib" >/dev/null

	mkfifo "$demo_tmp/events"
	# The view runs on host-c: it needs nothing of the outer machine but the terminal.
	( enter_exec $CLIENT_HOST lab-view --client /run/lab/load-web.json $plain ) <"$demo_tmp/events" &
	view=$!
	exec 7>"$demo_tmp/events"
	demo_emit "{\"ev\":\"title\",\"text\":\"redis of $mib MiB, $rate writes a second on one connection\",\"mib\":$mib,\"times\":$times,\"home\":\"host-a\"}"
	"$TOP/tools/godwit-lab" load web --rate "$rate" --every-ms 100 7>&- >"$demo_tmp/client" 2>"$demo_tmp/client.err" &
	local client=$!
	demo_sleep 3
	demo_load peek >/dev/null || { cat "$demo_tmp/client.err" >&2; die "the client did not start (above)"; }
	for ((n = 1; n <= times; n++)); do
		demo_move "$n" "$from" "$to" || die "migration $n failed (above): the container stays on $from; its log is shown below
$(tail -n 15 "$ST"/host-[ab]/godwitd.log)"
		i=$from from=$to to=$i
	done
	demo_emit '{"ev":"note","text":"reading every key back"}'
	demo_load stop >/dev/null
	local verdict=0
	wait $client || verdict=1
	demo_verdict "$verdict"
	exec 7>&-
	wait "$view" || true
	view=
	[ $verdict = 0 ] || { cat "$demo_tmp/client.err" "$demo_tmp/client" >&2; die "the client is not content (above)"; }
}
demo_room() { # MIB: the container, its copy in the store, and the rest of the machine
	local free; free=$(awk '/MemAvailable/{print int($2/1024)}' /proc/meminfo)
	[ "$free" -gt $(($1 * 5 / 2 + 500)) ] || die "$1 MiB of redis need about $(($1 * 5 / 2 + 500)) MiB of memory for two hosts, $free are free: try --mib $(((free - 500) * 2 / 5))"
}
demo_load() { in_host $CLIENT_HOST lab-load ctl /run/lab/load-web.sock "$@"; }
demo_move() { # N FROM TO
	local mark
	demo_load mark before >/dev/null
	demo_emit "{\"ev\":\"move\",\"n\":$1,\"from\":\"$2\",\"to\":\"$3\"}"
	"$TOP/bin/godwit" migrate web --to "$3" -o jsonl 2>"$demo_tmp/godwit.err" | tee -a "$demo_tmp/move.$1" >&7 || {
		exec 7>&-
		wait "$view" || true
		view=
		cat "$demo_tmp/godwit.err" >&2
		return 1
	}
	demo_sleep 2
	mark=$(demo_load mark "$1")
	demo_emit "{\"ev\":\"result\",\"migration\":$(tail -n 1 "$demo_tmp/move.$1"),\"client\":$mark}"
	demo_emit '{"ev":"note","text":"resting"}'
}
demo_verdict() { # RC
	local keys port wrong lost re
	keys=$(json_field keys_checked) port=$(json_field port) wrong=$(json_field keys_wrong) lost=$(json_field lost) re=$(json_field retransmits)
	if [ "$1" = 0 ]; then
		demo_emit "{\"ev\":\"end\",\"text\":\"All $keys keys are right. The client's connection is the one it began with (port $port): nothing lost, $re retransmits.\"}"
	else
		demo_emit "{\"ev\":\"end\",\"text\":\"NOT GOOD: ${wrong:-?} of ${keys:-?} keys wrong, ${lost:-?} answers lost.\"}"
	fi
}
json_field() { sed -n 's/.*"'"$1"'":\([0-9]*\).*/\1/p' "$demo_tmp/client" | tail -n 1; }
