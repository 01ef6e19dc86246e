#!/usr/bin/env bash
# 320 MiB of shared memory, written by four processes all the time: it is right
# after three moves, and CRIU's images, which travel in the freeze, do not hold it.
. "$(dirname "$0")/lib.sh"
need_migration
plan 17
charged() { # HOST: 300 MiB and more, of 328
	local n
	n=$(on "$1" sh -c 'cat /sys/fs/cgroup/memory/lab/v-buffers/memory.usage_in_bytes /sys/fs/cgroup/lab/v-buffers/memory.current 2>/dev/null')
	less 314572800 "$n" || { echo "the container's cgroup is charged $n bytes"; return 1; }
}
small() { less "$(field "$T/migrate.json" image_bytes)" 8388608 || { cat "$T/migrate.json"; return 1; }; }
carried() { less 335544319 "$(field "$T/migrate.json" bytes)" || { cat "$T/migrate.json"; return 1; }; }
check "four processes share memory of three kinds" victim host-a v-buffers buffers
check "they find it as they wrote it" content v-buffers
for to in host-b host-a host-b; do
	if check "it moves to $to" migrate v-buffers $to; then
		echo "# freeze $(field "$T/migrate.json" freeze_ms) ms, images $(field "$T/migrate.json" image_bytes) bytes, $(field "$T/migrate.json" rounds) rounds"
	fi
	check "the images hold none of it" small
	check "the rounds carried it" carried
	check "they find it as they wrote it, there too" content v-buffers
	check "the container's cgroup is charged for it" charged $to
done
