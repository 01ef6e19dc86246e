#!/usr/bin/env bash
# A redis under a client moves there and back with every runc and CRIU that
# godwit says it works with, and from an older to a newer one, but not back.
. "$(dirname "$0")/lib.sh"
need_migration

# host-a: runc, CRIU; host-b: runc, CRIU
cases="
1.1 4.2 1.1 4.2
1.1 4.1 1.1 4.1
1.2 4.2 1.2 4.2
1.2 4.1 1.2 4.1
1.3 4.2 1.3 4.2
1.3 4.1 1.3 4.1
1.4 4.2 1.4 4.2
1.1 4.1 1.3 4.2
1.4 4.1 1.2 4.2
"
plan $((9 * 6))

# What a host has after "lab up" is put back at the end, whatever happens.
put() { # HOST PROGRAM VERSION
	local d
	d=$("$TOP/tools/runtime" "$2" "$3" 2>"$T/why") || return
	tar -C "$d" -cf - usr | on "$1" sh -c "rm -f /usr/sbin/$2; tar -C / -xf - --no-same-owner --keep-directory-symlink"
}
put_all() { put host-a runc "$1" && put host-a criu "$2" && put host-b runc "$3" && put host-b criu "$4"; }
put_back() { put_all 1.1 4.2 1.1 4.2; }
trap 'put_back; finish' EXIT


refused() { ! "$TOP/bin/godwit" migrate "$1" --to "$2" -o json >"$T/refused" 2>&1 && grep -o '"code":"CriuOlder"' "$T/refused"; }

while read -r ra ca rb cb; do
	[ -n "$ra" ] || continue
	name="runc $ra, CRIU $ca"
	[ "$ra $ca" = "$rb $cb" ] || name="$name to runc $rb, CRIU $cb"
	put_all "$ra" "$ca" "$rb" "$cb"
	case $? in
		0) ;;
		3) for i in 1 2 3 4 5 6; do skip "$name" "$(tail -n 1 "$T/why")"; done; continue ;;
		*) diag <"$T/why" ;;
	esac
	c=r390-${ra/./}${ca/./}${rb/./}${cb/./}
	check "$name: redis starts" redis host-a "$c" 32
	check "$name: a client writes" load_start "$c" --rate 1000
	check "$name: it moves" migrate "$c" host-b
	echo "# frozen $(field "$T/migrate.json" freeze_ms) ms"
	sleep 0.5
	if [ "$ca" = "$cb" ]; then check "$name: and back" migrate "$c" host-a; else check "$name: not to the older CRIU again" refused "$c" host-a; fi
	check "$name: every key is right" load_stop "$c"
	is "$name: over one connection, nothing lost" "$(field "$T/load-$c.end" same_port) $(field "$T/load-$c.end" lost)" "true 0"
	drop "$c" >/dev/null 2>&1
done <<<"$cases"
