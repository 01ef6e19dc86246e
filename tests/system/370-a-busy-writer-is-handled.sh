#!/usr/bin/env bash
# A container that writes faster than the link: slowed down if allowed, refused
# with NotConverging if not, and in no case wrong memory.
. "$(dirname "$0")/lib.sh"
need_migration
plan 8

check "four threads write 160 MiB without pause" victim host-a w370 pages
sleep 0.5
not_converging() {
	if migrate w370 host-b --bandwidth 40 --max-freeze 5 --rounds 4 >"$T/words"; then echo "it moved within 5 ms at 40 MiB/s?"; return 1; fi
	grep -q '"code":"NotConverging"' "$T/migrate.out" || { cat "$T/migrate.out" "$T/migrate.err"; return 1; }
}
check "too fast for the link: NotConverging" not_converging
is "it runs on where it was" "$(where w370)" host-a
check "with its memory right" content w370
check "it moves when the freeze may take what it needs" migrate w370 host-b --max-freeze 60000
check "with its memory right" content w370
check "slowed down it moves back" migrate w370 host-a --throttle --max-freeze 60000
check "with its memory right" content w370
