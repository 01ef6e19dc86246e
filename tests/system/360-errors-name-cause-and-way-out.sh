#!/usr/bin/env bash
# What a person gets wrong is said in words, with a code and an exit code.
. "$(dirname "$0")/lib.sh"
need_migration
plan 13

godwit() { timeout 60 "$TOP/bin/godwit" "$@"; }
check "redis starts on host-a" redis host-a r360 20
fails_with() { # EXIT-CODE WORDS ARGS...
	local want=$1 words=$2 rc
	shift 2
	godwit "$@" >"$T/o" 2>"$T/e"
	rc=$?
	cat "$T/o" "$T/e"
	[ $rc = "$want" ] && grep -qiE -e "$words" "$T/o" "$T/e"
}
check "an unknown container" fails_with 1 'nosuch' migrate nosuch --to host-b
check "an unknown container has a code" fails_with 1 '"code":"NoSuchContainer"' migrate nosuch --to host-b -o json
check "an unknown host" fails_with 1 'nowhere' migrate r360 --to nowhere
check "an unknown host has a code" fails_with 1 '"code":"[A-Z]' migrate r360 --to nowhere -o json
check "itself as the destination" fails_with 1 'host-a' migrate r360 --to host-a
check "no destination" fails_with 2 '--to' migrate r360
check "an unknown option" fails_with 2 'help|unrecognized|unknown' migrate r360 --to host-b --frobnicate
"$LAB_TOOL" daemon host-b stop
check "a destination without godwitd" fails_with 1 'host-b' migrate r360 --to host-b -o json
"$LAB_TOOL" daemon host-b start
"$LAB_TOOL" daemon host-a stop
check "no godwitd here" fails_with 4 'godwitd' status
"$LAB_TOOL" daemon host-a start
check "every verb has --help" sh -c 'for v in migrate check status cancel; do "$0" $v --help | grep -q usage || exit 1; done' "$TOP/bin/godwit"
check "after all that it still moves" migrate r360 host-b
is "and answers" "$(cli r360 ping)" PONG
