#!/usr/bin/env bash
# The tracker's tests on a Debian kernel in a virtual machine: both backends.
# This machine's own kernel may have one of them only.
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] || skip_all "needs root"
"$TOP/tools/vm-root" >/dev/null 2>"$T/vm" || skip_all "no QEMU and kernel for a virtual machine: $(tail -n 1 "$T/vm")"
mem=$TOP/build/tests/unit/mem
[ -x "$mem/test_track_shm" ] || skip_all "the unit tests are not built"
plan 3
in_vm() { # BACKEND TEST
	"$TOP/tests/vm/run" --env GW_TRACK_VICTIM=/t/track_victim --env GW_TRACK_BACKEND="$1" --env CMOCKA_MESSAGE_OUTPUT=TAP \
		"$mem/$2" "$mem/track_victim" -- "$2"
}
check "userfaultfd follows private memory" in_vm uffd test_track
check "userfaultfd follows shared memory" in_vm uffd test_track_shm
check "soft-dirty follows private memory" in_vm soft-dirty test_track
