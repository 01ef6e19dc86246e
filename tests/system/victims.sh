# Sourced by the tests that move victims: each program there and back again.
victims_plan() { plan $(($# * 6)); }
there_and_back() { # PROGRAM [run options]
	local v=$1 n=v-$1
	shift
	if ! check "$v: sets itself up" victim host-a "$n" "$v" "$@"; then
		local i; for i in 1 2 3 4 5; do not_ok "$v: (was not set up)"; done
		return
	fi
	sleep 0.3
	check "$v: is content before" content "$n"
	if check "$v: moves to host-b" migrate "$n" host-b; then check "$v: is content there" content "$n"; else not_ok "$v: is content there" "it did not move"; fi
	sleep 0.3
	if check "$v: moves back" migrate "$n" host-a; then check "$v: is content again" content "$n"; else not_ok "$v: is content again" "it did not move"; fi
	drop "$n" >/dev/null 2>&1
}
