# Sourced by every system test: TAP, containers, load, migrations.
#
#   . "$(dirname "$0")/lib.sh"
#   plan 3
#   check "a sentence about what holds" some command
#
# A test takes the lab that is up (GODWIT_LAB, default godwit-test) or starts
# one and takes it down again. Whatever it started goes at its end, however it
# ends. A check that fails prints the command's words and goes on.
set -uo pipefail
TOP=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.." && pwd)
export GODWIT_LAB=${GODWIT_LAB:-godwit-test}
LAB_TOOL=$TOP/tools/godwit-lab
STATE=/run/$GODWIT_LAB
T=$(mktemp -d)
tap_n=0 tap_plan= lab_ours= tap_failed=0
started_containers=() started_loads=()

finish() {
	local rc=$? c
	trap - EXIT INT TERM
	# Only what still runs as a child of ours: the number of one that ended may be someone else's by now.
	# shellcheck disable=SC2046
	kill $(jobs -pr) 2>/dev/null
	for c in ${started_containers[@]+"${started_containers[@]}"}; do
		[ ! -e "$STATE/pods/$c" ] || "$LAB_TOOL" rm "$c" >/dev/null 2>&1
	done
	[ -z "$lab_ours" ] || "$LAB_TOOL" down 2>/dev/null
	rm -rf "$T"
	if [ -n "$tap_plan" ] && [ "$tap_n" != "$tap_plan" ]; then
		echo "# $tap_n checks ran, $tap_plan were planned"
		exit 1
	fi
	[ $rc != 0 ] || [ $tap_failed = 0 ] || rc=1
	exit $rc
}
trap finish EXIT
trap 'exit 130' INT TERM

# ---------------------------------------------------------------------- TAP
plan() { tap_plan=$1; echo "1..$1"; }
skip_all() { tap_plan=; echo "1..0 # SKIP $*"; exit 0; }
diag() { sed 's/^/# /' >&1; }
ok() { tap_n=$((tap_n + 1)); echo "ok $tap_n - $1"; }
not_ok() { # SENTENCE [WORDS...]
	tap_n=$((tap_n + 1)) tap_failed=1
	echo "not ok $tap_n - $1"
	shift
	[ $# = 0 ] || printf '%s\n' "$*" | diag
}
skip() { tap_n=$((tap_n + 1)); echo "ok $tap_n - $1 # SKIP $2"; }
check() { # SENTENCE CMD...
	local name=$1 rc
	shift
	"$@" >"$T/check.out" 2>&1
	rc=$?
	if [ $rc = 0 ]; then ok "$name"; return 0; fi
	not_ok "$name"
	{ echo "failed ($rc): $*"; tail -n 20 "$T/check.out"; } | diag
	return 1
}
check_fails() { # SENTENCE CMD...: the command must fail
	local name=$1
	shift
	if "$@" >"$T/check.out" 2>&1; then
		not_ok "$name" "succeeded though it should not: $*"
		return 1
	fi
	ok "$name"
}
is() { # SENTENCE GOT WANTED
	if [ "$2" = "$3" ]; then ok "$1"; return 0; fi
	not_ok "$1" "got \"$2\", wanted \"$3\""
	return 1
}

# ---------------------------------------------------------------------- lab
need_lab() {
	[ "$(id -u)" = 0 ] || skip_all "needs root"
	if ! "$LAB_TOOL" status >/dev/null 2>&1; then
		lab_ours=1
		"$LAB_TOOL" up ${LAB_NO_BUILD:+--no-build} >"$T/up" 2>&1 || { cat "$T/up" | diag; echo "Bail out! the lab does not come up"; exit 1; }
	fi
}
need_migration() {
	need_lab
	on host-a test -x /opt/godwit/bin/godwitd || skip_all "godwitd is not built"
	on host-a runc --version >/dev/null || skip_all "no runc"
}
on() { "$LAB_TOOL" exec "$@"; }
redis() { # HOST NAME MIB [args]
	local h=$1 n=$2 m=$3
	shift 3
	started_containers+=("$n")
	"$LAB_TOOL" run "$h" "$n" --mib "$m" "$@" >/dev/null
}
container() { # HOST NAME [args] -- CMD...
	started_containers+=("$2")
	"$LAB_TOOL" run "$@" >/dev/null
}
drop() { "$LAB_TOOL" rm "$1"; }
where() { "$LAB_TOOL" where "$1"; }
cli() { # NAME REDIS-COMMAND...: from host-c
	local ip
	ip=$("$LAB_TOOL" ip "$1") || return 1
	shift
	on host-c redis-cli -h "${ip% *}" -p 7001 "$@"
}

# ------------------------------------------------------------------ victims
victim() { # HOST NAME PROGRAM [run options]: started, set up and content
	local h=$1 n=$2 v=$3 i a
	shift 3
	container "$h" "$n" --tmp "$@" -- "/mnt/victim-$v" || return 1
	for i in $(seq 1 100); do
		a=$(ask "$n" ping 2>/dev/null)
		[ -z "$a" ] || break
		sleep 0.05
	done
	[ "$a" = ready ] || { echo "victim $v: ${a:-no answer}"; return 1; }
}
ask() { # NAME ping|check: what the victim says
	local ip
	ip=$("$LAB_TOOL" ip "$1") || return 1
	on host-c timeout 30 bash -c 'exec 3<>"/dev/tcp/$0/7100" && echo "$1" >&3 && cat <&3' "${ip% *}" "$2"
}
content() { # NAME: the victim finds itself unchanged
	local a
	a=$(ask "$1" check)
	[ "$a" = ok ] || { echo "the victim says: ${a:-nothing}"; return 1; }
}

# --------------------------------------------------------------------- load
load_start() { # NAME [--on HOST] [options]: in the background, returns when it has answers
	local n=$1 i on=host-c
	[ "${2:-}" != --on ] || on=$3
	rm -f "$STATE/$on/load-$n.json"
	"$LAB_TOOL" load "$@" >"$T/load-$n.end" 2>"$T/load-$n.err" &
	started_loads+=($!)
	printf '%s %s\n' "$!" "$on" >"$T/load-$n.pid"
	for i in $(seq 1 100); do
		load_ctl "$n" peek 2>/dev/null | grep -qE '"answers":[1-9][0-9]{1,}' && return 0
		kill -0 "${started_loads[-1]}" 2>/dev/null || break
		sleep 0.05
	done
	echo "the client did not start: $(cat "$T/load-$n.err")" >&2
	return 1
}
load_ctl() { # NAME mark WORD|peek|stop
	local n=$1 p o
	shift
	read -r p o <"$T/load-$n.pid"
	"$LAB_TOOL" load "$n" --on "$o" "$@"
}
load_stop() { # NAME: the client's verdict, its JSON in $T/load-NAME.end
	local n=$1 p o
	read -r p o <"$T/load-$n.pid"
	load_ctl "$n" stop >/dev/null && wait "$p" || { cat "$T/load-$n.end" "$T/load-$n.err"; return 1; }
}

# ----------------------------------------------------------------- migration
# The freeze may take what it takes on a slow machine; a test that cares says otherwise.
migrate() { # NAME TO [options]: the result in $T/migrate.json
	local n=$1 to=$2 rc
	shift 2
	timeout 180 "$TOP/bin/godwit" migrate "$n" --to "$to" --max-freeze 60000 -o json "$@" >"$T/migrate.out" 2>"$T/migrate.err"
	rc=$?
	tail -n 1 "$T/migrate.out" >"$T/migrate.json"
	[ $rc = 0 ] || { cat "$T/migrate.out" "$T/migrate.err"; logs; }
	return $rc
}
logs() { local h; for h in host-a host-b; do echo "-- godwitd on $h:"; tail -n 12 "$STATE/$h/godwitd.log" 2>/dev/null; done; }
field() { # FILE KEY: a number or a string out of a JSON line
	sed -n 's/.*"'"$2"'":\("\([^"]*\)"\|\([^,}]*\)\).*/\2\3/p' "$1" | tail -n 1
}
less() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a + 0 < b + 0) }'; }
# What a migration leaves on a host: nothing, within 40 s.
leftovers() { on "$1" sh -c 'ls /run/godwit/journal /run/godwit/mig; pgrep -x criu; pgrep -f [g]odwit-pages'; }
clean() { # HOST
	local i left
	for i in $(seq 1 200); do left=$(leftovers "$1" | grep -v '^/run\|^$'); [ -n "$left" ] || return 0; sleep 0.2; done
	echo "$1 keeps: $left"
	return 1
}
