#!/usr/bin/env bash
# What CRIU does not carry is either carried all the same or refused by the
# check, with a code and words, and the container runs on. Never a failed freeze,
# never a container that is a little different afterwards.
. "$(dirname "$0")/lib.sh"
need_migration
set -- uring links semaphore queue
plan $(($# * 3))

right_or_refused() { # NAME
	if migrate "$1" host-b >"$T/words"; then
		content "$1" || { echo "it moved, but is not what it was"; return 1; }
		echo "# $1 moves"
		return 0
	fi
	[ "$(where "$1")" = host-a ] || { echo "it failed and does not run on host-a"; return 1; }
	grep -q '"code":"[A-Z][A-Za-z]*"' "$T/migrate.out" || { echo "refused without a reason code"; cat "$T/migrate.out" "$T/migrate.err"; return 1; }
	"$TOP/bin/godwit" check "$1" --to host-b -o json >"$T/check.json" && { echo "the migration failed, the check had found nothing"; cat "$T/migrate.out" "$T/check.json"; return 1; }
	return 0
}
for v in "$@"; do
	check "$v: sets itself up" victim host-a "v-$v" "$v"
	check "$v: moves right, or the check refuses it" right_or_refused "v-$v"
	if [ "$(where "v-$v" 2>/dev/null)" = host-a ]; then check "$v: runs on as before" content "v-$v"; else ok "$v: runs on as before"; fi
	drop "v-$v" >/dev/null 2>&1
done
