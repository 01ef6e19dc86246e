# Sourced by tools/godwit-lab: names, messages, cgroups, entering a host.
#
# A lab host is a process tree in namespaces of its own. Nothing of it is
# pinned outside: when its PID 1 dies, the kernel takes its mounts, links and
# network namespaces along. What is left to `down` are two directories: the
# state under /run and one cgroup in every hierarchy. The cgroup is also the
# list of what to kill, so a lost state directory loses nothing.

LAB=${GODWIT_LAB:-godwit-lab}
ST=/run/$LAB
BUILD=${GODWIT_BUILD:-$TOP/build}
CLIENT_HOST=host-c
HOST_PATH=/opt/godwit/bin:/opt/godwit/libexec/godwit/lab:/usr/sbin:/usr/bin:/sbin:/bin

say() { [ -n "${QUIET:-}" ] || printf '%s\n' "$*" >&2; }
die() { printf 'godwit-lab: %s\n' "$*" >&2; exit 1; }
usage_error() { printf 'godwit-lab %s: %s\nTry: godwit-lab %s --help\n' "$CMD" "$*" "$CMD" >&2; exit 2; }

need_root() { [ "$(id -u)" = 0 ] || die "making namespaces and cgroups needs root: run it with sudo"; }
need_up() { [ -e "$ST/up" ] || die "the lab is not up: start it with \"tools/godwit-lab up\""; }

base_root() { if [ "${GODWIT_NATIVE:-0}" = 1 ]; then echo /; else "$TOP/tools/root"; fi; }
in_base() { local b; b=$(cat "$ST/base"); chroot "$b" /usr/bin/env PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 "$@"; }

# ------------------------------------------------------------------ cgroups
# One directory per mounted hierarchy that a lab host gets a cgroup in.
cg_hierarchies() {
	local dev at type rest
	while read -r dev at type rest; do
		case $type in cgroup | cgroup2) echo "$at" ;; esac
	done </proc/mounts | sort -u
}
cg_fill() { # DIR: a new v1 cpuset is empty and takes no process
	local d=$1 up=${1%/*}
	if [ -e "$d/cpuset.cpus" ] && [ -e "$d/cgroup.clone_children" ]; then
		cat "$up/cpuset.cpus" >"$d/cpuset.cpus"
		cat "$up/cpuset.mems" >"$d/cpuset.mems"
		echo 1 >"$d/cgroup.clone_children"
	fi
	if [ -e "$d/cgroup.subtree_control" ] && pure_v2; then cg_hand_on "$up"; fi
}
pure_v2() { [ -e /sys/fs/cgroup/cgroup.controllers ]; }
cg_hand_on() { # DIR: v2: its children get what it has
	local c
	for c in $(cat "$1/cgroup.controllers"); do echo "+$c" >"$1/cgroup.subtree_control" 2>/dev/null || true; done
}
cg_make() { # HOST
	local at
	for at in $(cg_hierarchies); do
		[ -d "$at/$LAB" ] || { mkdir "$at/$LAB" && cg_fill "$at/$LAB"; }
		[ -d "$at/$LAB/$1" ] || { mkdir "$at/$LAB/$1" && cg_fill "$at/$LAB/$1"; }
	done
}
cg_enter() { # HOST: move the calling (sub)shell
	local at d
	for at in $(cg_hierarchies); do
		d=$at/$LAB/$1
		[ ! -d "$d/init" ] || d=$d/init
		echo "$BASHPID" >"$d/cgroup.procs" || die "enter cgroup $d"
	done
}
# On v2 a cgroup with controllers switched on for its children holds no
# process itself: once the cgroup namespace is made (its root is where the
# host's first process was), the host's own go to a leaf beside the containers'.
cg_make_leaf() { # HOST
	local d=/sys/fs/cgroup/$LAB/$1 i p
	pure_v2 || return 0
	mkdir -p "$d/init"
	# A list that is read while it shrinks misses some: again until it is empty.
	for i in $(seq 1 50); do
		set -- $(cat "$d/cgroup.procs")
		[ $# -gt 0 ] || break
		for p in "$@"; do echo "$p" >"$d/init/cgroup.procs" 2>/dev/null || true; done
	done
	[ -z "$(cat "$d/cgroup.procs")" ] || die "processes stay in $d, so it can't hand its controllers on"
	cg_hand_on "$d"
}
cg_pids() { # [HOST]: every process of the lab
	local at
	for at in $(cg_hierarchies); do
		[ -d "$at/$LAB${1:+/$1}" ] || continue
		find "$at/$LAB${1:+/$1}" -name cgroup.procs -exec cat {} + 2>/dev/null || true
	done | sort -un
}
cg_thaw() { # a frozen v1 process does not die of SIGKILL
	local at f
	for at in $(cg_hierarchies); do
		[ -d "$at/$LAB${1:+/$1}" ] || continue
		while read -r f; do echo THAWED >"$f" 2>/dev/null || true; done < <(find "$at/$LAB${1:+/$1}" -name freezer.state 2>/dev/null)
		while read -r f; do echo 0 >"$f" 2>/dev/null || true; done < <(find "$at/$LAB${1:+/$1}" -name cgroup.freeze 2>/dev/null)
	done
}
cg_kill() { # [HOST]: end every process, wait until they are gone
	local i p pids
	for i in $(seq 1 200); do
		pids=$(cg_pids "$@" | grep -vx "$$" || true)
		[ -n "$pids" ] || return 0
		cg_thaw "$@"
		for p in $pids; do
			# Read again right before: a number that ended may be someone else's by now.
			[ "$p" -gt 1 ] && grep -qs ":/$LAB/" "/proc/$p/cgroup" && kill -KILL "$p" 2>/dev/null || true
		done
		sleep 0.05
	done
	die "these processes of the lab do not die: $(echo $pids)"
}
cg_drop() { # [HOST]
	local at i
	for at in $(cg_hierarchies); do
		[ -d "$at/$LAB${1:+/$1}" ] || continue
		for i in $(seq 1 40); do
			find "$at/$LAB${1:+/$1}" -depth -type d -exec rmdir {} + 2>/dev/null || true
			[ -d "$at/$LAB${1:+/$1}" ] || break
			sleep 0.05
		done
		[ ! -d "$at/$LAB${1:+/$1}" ] || die "cgroup $at/$LAB${1:+/$1} can't be removed: $(cat "$at/$LAB${1:+/$1}/cgroup.procs" 2>/dev/null | tr '\n' ' ')"
	done
}

# -------------------------------------------------------------------- hosts
start_time() { local s; s=$(cat "/proc/$1/stat" 2>/dev/null) || return 1; s=${s##*) }; set -- $s; echo "${20}"; }
host_pid() { # HOST: its PID 1 as seen from here; fails when it is not there
	local p t
	read -r p t 2>/dev/null <"$ST/$1/pid" || return 1
	[ "$(start_time "$p")" = "$t" ] || return 1
	echo "$p"
}
hosts_up() { local d; for d in "$ST"/host-*/; do [ -d "$d" ] && basename "$d"; done; }
need_host() {
	need_up
	[ -d "$ST/$1" ] || die "no host \"$1\": there are $(echo $(hosts_up))"
	host_pid "$1" >/dev/null || die "host $1 is dead (its PID 1 is gone): \"godwit-lab down\" and \"up\" again"
}
# Replaces the calling (sub)shell by CMD in HOST.
enter_exec() {
	local h=$1 p
	shift
	p=$(host_pid "$h") || die "host $h is dead"
	cg_enter "$h"
	exec nsenter -t "$p" -m -u -i -n -p -C -- /usr/bin/env -i PATH="$HOST_PATH" HOME=/root LC_ALL=C.UTF-8 TERM="${TERM:-dumb}" "$@"
}
in_host() { (enter_exec "$@"); }

host_no() { case $1 in host-c) echo 1 ;; host-a) echo 2 ;; host-b) echo 3 ;; *) local n=${1#host-}; echo $((4 + $(printf '%d' "'$n") - 100)) ;; esac; }
host_ip() { echo "10.9.0.$(host_no "$1")"; }
host_ip6() { echo "fd09::$(host_no "$1")"; }
host_mac() { printf '02:09:00:00:00:%02x' "$(host_no "$1")"; }
