#include "move/check.h"

/* Rows of one group stand together: docs/limits.md is printed in this order. */
#define ROW(c, w, o)  {.group = GROUP, .code = c, .what = w, .way_out = o}
#define WARN(c, w, o) {.group = GROUP, .code = c, .what = w, .way_out = o, .is_warning = true}

const struct gw_reason_row gw_reason_table[] = {
#define GROUP "Processes"
        ROW("NotStarted", "The container is created but not started.", "Start it first: runc start ID."),
        ROW("Paused", "The container is paused (its cgroup is frozen).", "Resume it first: runc resume ID."),
        ROW("ProcessStopped",
            "A process is stopped by a signal (SIGSTOP, SIGTSTP). CRIU waits without end for such a process of a "
            "frozen "
            "cgroup.",
            "Let it go on (kill -CONT PID), or end it."),
        ROW("ProcessTraced", "A process is traced by a debugger, strace or the like; CRIU has to trace it itself.",
            "Detach the tracer."),
        ROW("ZombieThreads", "A process whose first thread has ended while others run on.",
            "Restart that program so that its first thread stays (join the others instead of pthread_exit in main)."),
        ROW("SessionOutside", "A process belongs to a session that was begun outside the container.",
            "Start it through runc (runc exec, kubectl exec) or with setsid, instead of entering with nsenter."),
        ROW("ProcessOutsideCgroup",
            "A process of the container was moved out of the container's cgroup, so that it would not be frozen with "
            "it.",
            "Move it back: write its pid into the container's cgroup.procs."),
        ROW("NestedPidNamespace",
            "A process inside the container made a pid namespace of its own (a container in a container, a sandbox).",
            "Turn the inner sandbox off, or move its workload into a container of its own."),
        ROW("NestedNamespace",
            "A process inside the container made a user, mount, network, IPC, UTS, cgroup or time namespace of its "
            "own.",
            "Turn the inner sandbox off (for a browser: --no-sandbox), or move its workload into a container of its "
            "own."),
        ROW("Chroot", "The container's first process has another root directory than the container.",
            "Make that directory the container's root (root.path) instead of calling chroot."),
        ROW("OrphanProcess",
            "In a pod with shareProcessNamespace, a process lost its parent and became a child of the pod's first "
            "process: it is in no container's tree any more.",
            "Let the program stay in the foreground instead of making itself a daemon, or run it under an init of the "
            "container that takes orphans (tini -s)."),
        WARN("ExecSession",
             "A process was started by runc exec or kubectl exec. It stays behind and ends with the source.",
             "Nothing if it is a probe; otherwise let it finish first, or start it from the container's own "
             "processes."),
        WARN("Uninterruptible",
             "A task does not leave the kernel (state D): the freeze would wait for it and be given up.",
             "Look at what it waits for (cat /proc/PID/stack): a slow disk or a network file system without an "
             "answer."),
#undef GROUP
#define GROUP "Files"
        ROW("IoUring", "A process uses io_uring, which CRIU cannot save.",
            "Kubernetes: seccompProfile RuntimeDefault and runtimeClassName godwit (or containerd 2); elsewhere a "
            "seccomp profile without io_uring_setup, or sysctl kernel.io_uring_disabled=2: programs then use epoll. "
            "Node.js: UV_USE_IO_URING=0 is not enough. MariaDB: innodb_use_native_aio=0."),
        ROW("Terminal", "The container has a terminal, or a process holds one whose other end is outside.",
            "Run it without a terminal (process.terminal false; Kubernetes: tty false; docker: no -t)."),
        ROW("Gpu", "A process uses a GPU; its state is in the device and does not move.",
            "Move it while the device is closed, or run it where it can stay."),
        ROW("Device", "A process has a device open or mapped (other than null, zero, full, random, urandom).",
            "Close the device, or run the workload where it can stay."),
        ROW("KernelObject",
            "A process holds a kernel object that CRIU cannot save: perf events, BPF, userfaultfd, KVM, secret memory, "
            "landlock, a pidfd of a process outside, ...",
            "Switch off the feature that uses it, or the agent that put it there."),
        ROW("Uprobes", "A tracing agent has set breakpoints ([uprobes]) in a process.",
            "Detach the agent (bpftrace, an eBPF profiler) before moving."),
        ROW("FileOutside",
            "A file is open or mapped that is on no mount of the container, typically standard output on a file of the "
            "host.",
            "Give the container pipes or /dev/null as standard streams; open files by a path inside the container."),
        ROW("FileHidden", "An open file is not what its path leads to any more: another mount or file is in its place.",
            "Reopen the file (most servers: SIGHUP), or undo the mount over it."),
        ROW("DeletedFileTooBig",
            "An open or mapped file was deleted and is larger than 64 MiB: its contents would have to go in the "
            "freeze.",
            "Close it (rotate logs, restart the worker that holds it)."),
        ROW("UnlinkedFile",
            "An open file lost the name it was opened by but has another one: no path leads to it on the destination.",
            "Close or reopen it."),
        ROW("MessageQueue", "A POSIX message queue is in use; CRIU saves neither the open queue nor its messages.",
            "Close and unlink the queue, or use a System V queue or a socket."),
        ROW("FileWatch",
            "An inotify or fanotify watch is on a file that cannot be found again by its handle: on overlayfs, or on a "
            "whole file system.",
            "Watch a directory on a volume or tmpfs, or let the program poll (.NET: DOTNET_USE_POLLING_FILE_WATCHER=1; "
            "tail: --disable-inotify)."),
        ROW("EventfdSemaphore", "An eventfd counts down by one at each read (EFD_SEMAPHORE); CRIU loses that flag.",
            "Use a plain eventfd or a semaphore in shared memory."),
        ROW("PacketPipe", "A pipe is in packet mode (O_DIRECT).", "Use a unix socket of type seqpacket instead."),
        WARN("FileWatchEvents",
             "A fanotify group is in use: events queued in it at the moment of the freeze are dropped.",
             "Nothing if the program can bear a lost event."),
#undef GROUP
#define GROUP "Sockets"
        ROW("Mptcp", "A socket is MPTCP, which cannot be moved. Go 1.24 and later listen with it by default.",
            "Go: set GODEBUG=multipathtcp=0. Others: set sysctl net.mptcp.enabled=0 in the pod before the server "
            "starts."),
        ROW("RawSocket", "A raw IP socket (ping, routing daemons): packets that it has not read yet would be lost.",
            "Close it; ping works without one (sysctl net.ipv4.ping_group_range)."),
        ROW("PacketSocket", "A packet socket (tcpdump, DHCP client): packets that it has not read yet would be lost.",
            "End the capture."),
        ROW("SctpSocket", "An SCTP socket: associations cannot be saved.",
            "Use TCP, or run the workload where it can stay."),
        ROW("SocketFamily", "A socket of a family or protocol that CRIU cannot save (vsock, XDP, DCCP, CAN, ...).",
            "Close it, or run the workload where it can stay."),
        ROW("SocketOutside",
            "A socket that belongs to another network namespace (passed in from the host, or opened before the "
            "container's network).",
            "Let the program open it itself inside the container."),
        ROW("UnixSocketOutside",
            "A unix socket is connected to a process outside the container (docker.sock, a log daemon). Streams "
            "between "
            "two containers of one pod move with it, datagram sockets do not.",
            "Connect by TCP, or close the connection before moving; within a pod use a stream or seqpacket socket."),
        ROW("UnixSocketBusy",
            "A unix socket between two containers of a pod holds unread descriptors or credentials. Found while "
            "moving.",
            "Try again; a program that does not read should be looked at."),
        ROW("UnixSocketShared",
            "Processes of two containers of a pod have the same unix socket (one was passed to the other). Found while "
            "moving.",
            "Let each container have a connection of its own."),
        ROW("PendingConnections", "A server does not accept connections that wait in its queue; CRIU cannot save them.",
            "Try again when it accepts; a listener that nobody serves should be closed."),
        ROW("UnreadDatagrams", "Datagrams wait on a UDP socket and are not read; CRIU does not save them.",
            "Try again when the program reads; close a socket that nobody reads."),
        ROW("NetlinkSocket",
            "A netlink socket has unread messages, or listens to groups without an address of its own.",
            "Let the program read its messages; try again."),
#undef GROUP
#define GROUP "Memory"
        WARN("LockedMemory", "Memory is locked (mlock): it is copied in the freeze, not before.",
             "Do not lock it, or bear the longer freeze."),
        WARN("HugePages", "Memory is in huge pages (hugetlb): it is copied in the freeze, not before.",
             "Use transparent huge pages, or bear the longer freeze."),
        WARN("SharedMemory",
             "Much memory is in a memfd of which a process has a descriptor: what write() changes is seen by nobody, "
             "so "
             "it is copied in the freeze.",
             "Close the descriptor once the memory is mapped, or bear the longer freeze."),
        WARN("TmpfsContents", "Much data is in the container's own tmpfs mounts: it is copied in the freeze.",
             "Empty them, or bear the longer freeze."),
        ROW("NotConverging",
            "Memory is written faster than it can be sent, so that the freeze would become too long. Found while "
            "moving.",
            "Allow a longer freeze (--max-freeze), let godwit slow the writer (--throttle), or move at a quieter "
            "time."),
#undef GROUP
#define GROUP "Configuration of the container"
        ROW("HostNamespace", "The container shares the host's pid, IPC or mount namespace.",
            "Give it its own (config.json, linux.namespaces; Kubernetes: hostPID, hostIPC false)."),
        ROW("SharedPidNamespace", "The container joined another container's pid namespace.",
            "Give it its own. (Pods with shareProcessNamespace can move.)"),
        ROW("UserNamespace", "The container has a user namespace.", "Run it without one (Kubernetes: hostUsers true)."),
        ROW("CgroupNamespace",
            "The container has a cgroup namespace: it would come back in the host's and see all of the host's cgroups.",
            "Take the cgroup namespace out of config.json (containerd: cgroupns private is the default on cgroup v2)."),
        ROW("WritableLayer",
            "The root file system is writable, and what was written to it cannot be told: only a pod's is copied, and "
            "only where it is an overlay without renamed directories of the image.",
            "Set root.readonly true (Kubernetes: readOnlyRootFilesystem) and put a tmpfs or an emptyDir where the "
            "program "
            "writes; or, if both hosts share it, list / in the annotation live.godwit.dev/shared-paths."),
        ROW("LocalVolume",
            "A bind mount is of a writable file or directory that is on this host only (hostPath, local volume, "
            "emptyDir "
            "of huge pages). The other emptyDirs of a pod are copied.",
            "Put it on a file system that both hosts mount (NFS, CephFS), and list it in the annotation "
            "live.godwit.dev/shared-paths if godwit cannot see that."),
        ROW("VolumeMissing", "The target pod's container lacks a volume of the source's. Found while moving.",
            "Make both from the same template."),
        ROW("NoDiskRoom", "The destination's disk is full: files were to be copied there. Found while moving.",
            "Free some of it, or choose another destination."),
        ROW("MountInside",
            "A file system is mounted in the container that is not in its config and that CRIU cannot mount again.",
            "Unmount it, or mount it through the config."),
        WARN("ReadOnlyVolume",
             "A bind mount is of a read-only directory of this host. The destination must have the same contents; this "
             "is not compared.",
             "Nothing if both hosts have the same; list it in the annotation live.godwit.dev/shared-paths to say so."),
        ROW("RuntimeNotGodwit",
            "A pod whose name stays (a StatefulSet's, or one without a controller) runs under plain runc. godwit's "
            "runtime keeps kubelet's hands off it while its object is replaced.",
            "Set runtimeClassName: godwit in the pod's template, or make godwit the default runtime of the node, and "
            "let it start anew."),
#undef GROUP
#define GROUP "Network"
        ROW("HostNetwork", "The container uses the host's network: its address belongs to the host.",
            "Give it a network namespace and an address of its own (Kubernetes: hostNetwork false)."),
        ROW("NoNetworkPath",
            "The network namespace was made by runc and has no path, so that it cannot be prepared on the destination.",
            "Make it first and give its path (config.json, linux.namespaces, type network, path)."),
        ROW("NoAddress", "The container has no interface that is up, or no global address.",
            "Give it one, or recreate it on the destination."),
        ROW("ManyInterfaces", "The container has more than one interface that is up.", "Take the others away."),
        ROW("NotVeth", "The container's interface is no veth (macvlan, ipvlan, SR-IOV, ...).",
            "Use a network that gives pods a veth."),
        ROW("NotRouted",
            "The host's end of the veth is a port of a bridge or in another namespace: packets to the pod are not "
            "routed by the host.",
            "Use a network that routes to pods (godwit-cni, Calico)."),
        ROW("ManyAddresses", "The container has more than 8 addresses.", "Take some away."),
        ROW("ManyRoutes", "The container has more than 16 routes or 8 gateways.", "Take some away."),
        ROW("OddRoute", "A route of the container has several next hops, or a gateway of another family.",
            "Replace it by plain routes."),
        ROW("NoForwarding", "A host does not forward packets. Found while preparing.",
            "sysctl net.ipv4.ip_forward=1 (net.ipv6.conf.all.forwarding=1)."),
        ROW("NoSharedLink", "The hosts share no link over which packets could follow the pod. Found while preparing.",
            "Connect the hosts by a common network."),
        ROW("AddressInUse", "Something else has the container's address on the destination. Found while preparing.",
            "Remove it there, or choose another destination."),
#undef GROUP
#define GROUP "Hosts"
        ROW("Architecture", "The hosts have processors of different architectures.",
            "Choose a destination of the same architecture."),
        ROW("CpuVendor",
            "The hosts have processors of different makers: programs chose code paths for the one they started on.",
            "Choose a destination with processors of the same maker."),
        ROW("CpuFeatures",
            "The destination's processor lacks instructions that the source's has; programs may be using them.",
            "Choose a destination with at least these features, or start the container on the older processor first: "
            "moving to a richer one works."),
        ROW("KernelTooOld", "A kernel older than 5.13 (no way to save restartable sequences).",
            "Update the kernel of that host."),
        ROW("CgroupVersion", "One host has cgroup v1, the other v2, and the container has cgroups mounted.",
            "Choose a destination of the same kind, or leave the mount of /sys/fs/cgroup out of the config."),
        ROW("NoUserfaultfd", "The destination's kernel has no userfaultfd.",
            "Use a kernel with CONFIG_USERFAULTFD there."),
        ROW("NoTracking",
            "The source's kernel can tell written pages neither by userfaultfd (6.7 and later) nor by soft-dirty "
            "(CONFIG_MEM_SOFT_DIRTY).",
            "Update the kernel of the source."),
        ROW("CannotHold", "The source can't hold packets during the freeze: no nfqueue by nftables or iptables.",
            "Load or install what is named: kernel modules nfnetlink_queue and nft_queue or xt_NFQUEUE, program nft or "
            "iptables."),
        ROW("CriuMissing", "A host has no CRIU that starts.", "Install CRIU 4.1.1 or later there."),
        ROW("CriuTooOld", "A host's CRIU is older than 4.1.", "Install CRIU 4.1.1 or later there."),
        ROW("CriuFails", "CRIU of a host cannot look at its kernel.",
            "criu check on that host says more. Too many open files at inotify: raise "
            "fs.inotify.max_user_instances."),
        ROW("CriuOlder", "The destination's CRIU is older than the source's: it may not read what the source writes.",
            "Update CRIU on the destination; moving to a newer one works."),
        ROW("CriuNoLazyPages", "The destination's CRIU cannot restore with memory on demand.",
            "Install a CRIU with lazy-pages there, and a kernel with userfaultfd."),
        ROW("RuncMissing", "A host has no runc.", "Install runc 1.1 or later there."),
        ROW("RuncTooOld", "A host's runc is older than 1.1.", "Install runc 1.1 or later there."),
        ROW("NoRoom", "The destination has not enough memory free: it needs the container's and a tenth more.",
            "Free memory there, or choose another destination."),
        ROW("NameTaken", "The destination has a container of that name.", "Delete it there (runc delete ID)."),
        ROW("RootfsMissing", "The destination does not have the root file system.",
            "Unpack the same image at the same path there."),
        ROW("BindSourceMissing", "The source of a bind mount does not exist on the destination.",
            "Make it there, with the same contents."),
        ROW("DeviceMissing", "A device of the container's config does not exist on the destination.",
            "Take it out of the config, or choose a destination that has it."),
        ROW("LsmProfile",
            "The container's AppArmor profile is not loaded on the destination, or SELinux is on on the source only. "
            "Otherwise profile and label go along, as runc and CRIU set them.",
            "Load the same profile there, or switch SELinux on there."),
        ROW("HookMissing", "A hook program of the container's config does not exist on the destination.",
            "Install it there."),
#undef GROUP
        {.code = NULL},
};
