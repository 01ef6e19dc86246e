# Sourced by what boots a host out of namespaces (tools/lab/host-boot and
# tests/kube/node-boot): the kernel's file systems of its root.

# ROOT: proc, sys, run, tmp and a dev of its own, in the caller's namespaces.
fs_kernel() {
	local r=$1 i n
	mount -t proc proc "$r/proc"
	mount -t sysfs sysfs "$r/sys"
	mount -t tmpfs -o mode=755 run "$r/run"
	mount -t tmpfs -o mode=1777 tmp "$r/tmp"
	mount -t tmpfs -o mode=755,nosuid dev "$r/dev"
	mkdir "$r/dev/pts" "$r/dev/shm" "$r/dev/mqueue" "$r/dev/net" "$r/run/lock" "$r/run/netns" "$r/run/lab"
	mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$r/dev/pts"
	mount -t tmpfs -o mode=1777 shm "$r/dev/shm"
	mount -t mqueue mqueue "$r/dev/mqueue"
	ln -s pts/ptmx "$r/dev/ptmx"
	ln -s /proc/self/fd "$r/dev/fd"
	for i in "0 stdin" "1 stdout" "2 stderr"; do ln -s "/proc/self/fd/${i% *}" "$r/dev/${i#* }"; done
	for n in null zero full random urandom tty kmsg userfaultfd fuse net/tun; do
		[ -e "/dev/$n" ] || continue
		mknod -m 666 "$r/dev/$n" c "0x$(stat -c %t "/dev/$n")" "0x$(stat -c %T "/dev/$n")"
	done
}

# The cgroup namespace begins at this host's cgroup: mounted afresh, every
# hierarchy shows that one as its root.
fs_cgroups() { # ROOT
	local r=$1 v1=0 ctrl name o
	mount -t tmpfs -o mode=755 cgroup "$r/sys/fs/cgroup"
	while IFS=: read -r _ ctrl _; do
		[ -n "$ctrl" ] || continue
		v1=1 name=${ctrl#name=} o=$ctrl
		[ "$name" = "$ctrl" ] || o=none,$ctrl
		mkdir "$r/sys/fs/cgroup/$name"
		mount -t cgroup -o "$o" cgroup "$r/sys/fs/cgroup/$name"
	done </proc/self/cgroup
	if grep -q '^0::' /proc/self/cgroup; then
		if [ $v1 = 1 ]; then
			mkdir "$r/sys/fs/cgroup/unified"
			mount -t cgroup2 cgroup2 "$r/sys/fs/cgroup/unified"
		else
			umount "$r/sys/fs/cgroup"
			mount -t cgroup2 cgroup2 "$r/sys/fs/cgroup"
		fi
	fi
}
