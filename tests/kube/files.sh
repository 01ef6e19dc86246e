#!/usr/bin/env bash
# What a pod has written moves with it: its root file system, emptyDirs on disk and
# in memory, /dev/shm; PostgreSQL under pgbench moves there and back and loses nothing.
export GODWIT_LAB=${GODWIT_LAB_FILES:-${GODWIT_LAB:-godwit-test}-files}
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/install.sh"
. "$(dirname "$0")/workloads.sh"
[ -x "$GW/bin/godwit-controller" ] || skip_all "godwit is not built (tools/build)"
need_kube --cni none
"$KUBE" load postgres >"$T/load" 2>&1 || { diag <"$T/load"; echo "Bail out! no image of PostgreSQL"; exit 1; }
"$KUBE" load python >"$T/load" 2>&1 || { diag <"$T/load"; echo "Bail out! no image of Python"; exit 1; }
plan 35
exec 3>&1 # for what is noted inside a check

pod_on() { # NAME NODE JSON-of-the-spec
	jq -n --arg name "$1" --arg n "$2" --argjson spec "$3" '{apiVersion: "v1", kind: "Pod", metadata: {name: $name}, spec: ($spec + {terminationGracePeriodSeconds: 5, runtimeClassName: "godwit",
		affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 100, preference: {matchFields: [{key: "metadata.name", operator: "In", values: [$n]}]}}]}}})}' |
		kn apply -f - >/dev/null && kn wait --for=condition=Ready "pod/$1" --timeout=60s
}
move() { # NAME POD NODE [PHASE]
	mig "$1" "$2" "$3" && ends "$1" "${4:-Succeeded}" && echo "# $1: frozen $(st "$1" result.freezeMs) ms, the last look at files $(st "$1" result.stepsUs.files) us" >&3
}
in_pod() { kn exec "$1" -- sh -c "$2"; }
restarts() { kn get pod "$1" -o 'jsonpath={.status.containerStatuses[0].restartCount}'; }

put_godwit

# ---- every kind of file
spec='{"containers": [{"name": "c", "image": "kube.test/busybox:1", "command": ["sh", "-c", "while :; do n=$((n + 1)); echo $n >/disk/n; echo $n >/memory/n; echo $n >>/log; sleep 0.05; done"],
	"volumeMounts": [{"name": "disk", "mountPath": "/disk"}, {"name": "memory", "mountPath": "/memory"}, {"name": "disk", "mountPath": "/part", "subPath": "a/part"}, {"name": "cm", "mountPath": "/cm"}]}],
	"volumes": [{"name": "disk", "emptyDir": {}}, {"name": "memory", "emptyDir": {"medium": "Memory"}}, {"name": "cm", "configMap": {"name": "words"}}]}'
kn create configmap words --from-literal=word=hello >/dev/null
check "a pod that writes files all the time starts" pod_on files node-a "$spec"
cat >"$T/make" <<'S'
set -e
mkdir -p /disk/d/e /srv/x /etc/made
for i in $(seq 300); do echo "$i" >"/disk/d/f$i"; done
echo layered >/srv/x/file; ln /srv/x/file /srv/x/hard; ln -s file /srv/x/soft; mkfifo /srv/fifo
echo shm >/dev/shm/s; echo sub >/part/p
chmod 4711 /srv/x/file; chown 12:34 /srv/x; touch -d "2001-02-03 04:05:06" /srv/x/file
dd if=/dev/zero of=/disk/sparse bs=1 count=1 seek=50000000 2>/dev/null
echo changed >>/etc/group; rm /etc/hosts.none 2>/dev/null || :
[ ! -e /bin/who ] || rm /bin/who
rm -rf /usr/share/udhcpc; mkdir -p /usr/share/udhcpc; echo mine >/usr/share/udhcpc/new
S
kn exec -i files -- sh <"$T/make" || diag <"$T/make"
view='cd /; find srv disk part memory etc bin usr dev/shm -name n -prune -o -path etc/hosts -o -path etc/hostname -o -path etc/resolv.conf -o -print | sort | while read f; do stat -c "%N %F %a %u %g %h %t:%T %s" "$f"; [ ! -f "$f" ] || { stat -c %Y "$f"; md5sum <"$f"; }; done 2>&1'
in_pod files "$view" >"$T/before"
check "there is something to compare" test "$(wc -l <"$T/before")" -gt 900
check "it moves" move files-1 files node-b
is "to node-b" "$(node_of files)" node-b
in_pod files "$view" >"$T/after"
check "every file came along: name, type, owner, mode, links, time, contents" diff "$T/before" "$T/after"
# A line of the log for each number: nothing was lost and nothing written twice.
counted() { in_pod files "awk '\$1 != ++n { print \"line\", n, \"says\", \$1; exit 1 }' /log"; } # one look: it is written meanwhile
check "what it wrote during the move is whole" counted
on_disk() { a=$(in_pod files 'cat /disk/n'); sleep 0.5; b=$(in_pod files 'cat /disk/n'); [ "$b" -gt "$a" ] && [ "$(in_pod files 'cat /cm/word')" = hello ]; }
check "it goes on writing there, and reads its configMap" on_disk
is "the sparse file is sparse there too" "$(in_pod files '[ $(du -k /disk/sparse | cut -f1) -lt 100 ] && echo yes')" yes
in_pod files 'rm -r /disk/d /srv/fifo; mv /srv/x /srv/y; echo back >/back; echo >/dev/shm/s'
in_pod files "$view" >"$T/before"
check "it moves home, over what is new and gone" move files-2 files node-a
in_pod files "$view" >"$T/after"
check "with everything as it was" diff "$T/before" "$T/after"
check "and its log whole" counted
check "on no node does anything wait for a place" test -z "$(for n in "${NODES[@]}"; do on "$n" sh -c 'ls /var/lib/godwit/files 2>/dev/null'; done)"

# ---- many files that do not change
check "a pod with a small disk and many files starts" pod_on many node-a '{"containers": [{"name": "c", "image": "kube.test/busybox:1", "command": ["sleep", "3600"], "volumeMounts": [{"name": "disk", "mountPath": "/disk"}]}], "volumes": [{"name": "disk", "emptyDir": {}}]}'
in_pod many 'for d in $(seq 40); do mkdir /disk/$d; for f in $(seq 250); do echo $f >/disk/$d/$f; done; done'
check "its 10000 files move" move many-1 many node-b
is "nothing was started anew" "$(restarts many)" 0
is "all of them" "$(in_pod many 'find /disk -type f | wc -l; cat /disk/40/250')" "10000
250"

# ---- no room on the destination's disk
on node-a sh -c 'mkdir -p /var/lib/godwit/files && mount -t tmpfs -o size=2m none /var/lib/godwit/files'
check "to a node without room on its disk it does not go: NoDiskRoom" move many-2 many node-a Failed
is "for that reason" "$(st many-2 reason)" NoDiskRoom || kn get migration,pod -o yaml | diag
is "and it runs on where it is" "$(node_of many) $(in_pod many 'find /disk -type f | wc -l') $(restarts many)" "node-b 10000 0"
on node-a umount /var/lib/godwit/files
kn delete pod many --wait=false >/dev/null

# ---- large files that are written at random, by write and by a mapping: a version in every block
cat >"$T/blocks.py" <<'P'
import mmap, os, random, struct, time
B, N = 4096, 32768


def block(i, v):
    return struct.pack("<QQ", i, v) + bytes([v & 255]) * (B - 16)


def new(name):
    fd = os.open("/data/" + name, os.O_RDWR | os.O_CREAT)
    for i in range(0, N, 16):
        os.pwrite(fd, b"".join(block(i + k, 0) for k in range(16)), i * B)
    return fd


files = [new("written"), new("mapped")]
mapped = mmap.mmap(files[1], N * B)
versions = [[0] * N, [0] * N]
wrote = 0
open("/data/ready", "w").close()
while True:
    for _ in range(5):
        for which in 0, 1:
            i = random.randrange(N)
            versions[which][i] += 1
            wrote += 1
            if which:
                mapped[i * B : (i + 1) * B] = block(i, versions[which][i])
            else:
                os.pwrite(files[which], block(i, versions[which][i]), i * B)
    time.sleep(0.005)
    if os.path.exists("/data/check"):
        wrong = [(w, i) for w in (0, 1) for i in range(N) if os.pread(files[w], B, i * B) != block(i, versions[w][i])]
        with open("/data/result.new", "w") as f:
            print("whole" if not wrong else "%d blocks are wrong, first %s" % (len(wrong), wrong[0]), wrote, file=f)
        os.unlink("/data/check")
        os.rename("/data/result.new", "/data/result")
P
check "a pod that writes at random into two files of 128 MiB starts" pod_on blocks node-a "$(jq -n --rawfile p "$T/blocks.py" '{containers: [{name: "c", image: "kube.test/python:1", command: ["python3", "-c", $p],
	readinessProbe: {exec: {command: ["test", "-e", "/data/ready"]}, periodSeconds: 1}, volumeMounts: [{name: "data", mountPath: "/data"}]}], volumes: [{name: "data", emptyDir: {}}]}')"
blocks() { # the program compares its files with what it remembers
	in_pod blocks 'rm -f /data/result; touch /data/check; for i in $(seq 300); do [ ! -e /data/result ] || break; sleep 0.2; done; cat /data/result' | tee "$T/blocks"
	grep -q '^whole ' "$T/blocks"
}
check "it moves while it writes" move blocks-1 blocks node-b
check "no block of either file is another than it wrote" blocks
last_read() { gw_log node-b 100000 | grep 'event="files".*names=' | sed -n 's/.*read_bytes=\([0-9]*\).*/\1/p' | tail -n 1; }
pages_only() {
	local n
	case $(in_pod blocks 'stat -f -c %T /data') in ext2/ext3 | xfs | btrfs) ;; *) return 0 ;; esac
	n=$(last_read)
	echo "# read in the freeze: $n bytes of 268435456" >&3
	[ -n "$n" ] && [ "$n" -lt 200000000 ]
}
check "and back" move blocks-2 blocks node-a
check "in the freeze its pages were read, not all of its files" pages_only
check "and again every block is what it wrote" blocks
kn delete pod blocks --wait=false >/dev/null

# ---- PostgreSQL under pgbench
pg='{"containers": [{"name": "pg", "image": "kube.test/postgres:1", "args": ["-c", "max_wal_size=64MB"], "volumeMounts": [{"name": "data", "mountPath": "/data"}],
	"readinessProbe": {"tcpSocket": {"port": 5432}, "periodSeconds": 1}}], "securityContext": {"fsGroup": 999}, "volumes": [{"name": "data", "emptyDir": {}}]}'
check "PostgreSQL starts" pod_on pg node-a "$pg"
check "a client on another node starts" pod_on bench node-c '{"containers": [{"name": "c", "image": "kube.test/postgres:1", "command": ["sleep", "3600"]}]}'
ip=$(kn get pod pg -o 'jsonpath={.status.podIP}')
PG=/usr/lib/postgresql/17/bin
check "pgbench makes its tables" in_pod bench "$PG/pgbench -h $ip -U postgres -i -s 5 -q postgres 2>&1 | tail -n 3"
in_pod bench "$PG/pgbench -h $ip -U postgres -c 4 -j 2 -T 30 -P 5 --failures-detailed postgres 2>&1" >"$T/pgbench" &
bench=$!
sleep 4
check "it moves under pgbench" move pg-1 pg node-b
sleep 2
check "and back" move pg-2 pg node-a
wait $bench
clean_run() { grep -q 'number of failed transactions: 0 ' "$T/pgbench" && ! grep -qiE 'error|fatal|aborted|terminat' "$T/pgbench" || { cat "$T/pgbench"; return 1; }; }
check "no transaction failed, no connection was lost" clean_run
grep -E 'tps|processed' "$T/pgbench" | sed 's/^/# /'
whole() { # history has one row for each transaction that pgbench was told to have been committed; balances agree
	local n said
	said=$(sed -n 's/number of transactions actually processed: \([0-9]*\).*/\1/p' "$T/pgbench")
	n=$(in_pod bench "$PG/psql -h $ip -U postgres -Atc 'select count(*) from pgbench_history' postgres")
	[ "$n" = "$said" ] && in_pod bench "$PG/psql -h $ip -U postgres -Atc 'select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history)' postgres" | grep -qx t || { echo "history has $n, pgbench says $said"; return 1; }
}
check "its tables have every transaction" whole
check "its files are sound" in_pod bench "$PG/psql -h $ip -U postgres -Atc 'checkpoint' -c 'vacuum analyze' -c 'select count(*) from pgbench_accounts' postgres | grep -qx 500000"
