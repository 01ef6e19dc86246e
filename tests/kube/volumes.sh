#!/usr/bin/env bash
# Volumes that are not the pod's own: a claim on storage that both nodes reach, Secrets,
# tokens and the downward API move with a pod; a directory of its node holds it back.
export GODWIT_LAB=${GODWIT_LAB_VOLUMES:-${GODWIT_LAB:-godwit-test}-vol}
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/install.sh"
. "$(dirname "$0")/workloads.sh"
[ -x "$GW/bin/godwit-controller" ] || skip_all "godwit is not built (tools/build)"
need_kube --cni none
plan 28
exec 3>&1 # for what is noted inside a check
# One disk in both nodes: NFS would need a kernel that has it. The last umount, at the end of
# the nodes' namespaces, gives the loop device back.
shared_disk() {
	local dev n rc=0
	truncate -s 64M "$KST/shared.img" && mkfs.ext4 -q "$KST/shared.img" && dev=$(losetup --find --show "$KST/shared.img") || return 1
	for n in node-a node-b; do
		on "$n" sh -c '[ -b "$0" ] || mknod "$0" b 7 "${0#/dev/loop}"; mkdir -p /srv/shared && mount "$0" /srv/shared' "$dev" || rc=1
	done
	losetup -d "$dev" # when nobody has it mounted any more
	[ $rc = 0 ] && on node-a mkdir /srv/shared/pv && on node-b test -d /srv/shared/pv
}
claim() {
	jq -n --arg ns "$NS" '{apiVersion: "v1", kind: "List", items: [
		{apiVersion: "v1", kind: "PersistentVolume", metadata: {name: ("shared-" + $ns)}, spec: {capacity: {storage: "64Mi"}, accessModes: ["ReadWriteMany"], storageClassName: "",
		 persistentVolumeReclaimPolicy: "Retain", hostPath: {path: "/srv/shared/pv"}, claimRef: {namespace: $ns, name: "data"}}},
		{apiVersion: "v1", kind: "PersistentVolumeClaim", metadata: {name: "data", namespace: $ns}, spec: {accessModes: ["ReadWriteMany"], storageClassName: "", volumeName: ("shared-" + $ns), resources: {requests: {storage: "64Mi"}}}}]}' |
		k apply -f - >/dev/null && kn wait --for=jsonpath='{.status.phase}'=Bound pvc/data --timeout=30s
}
with_claim() { # DEPLOYMENT NODE [shared paths]
	local s
	s=$(on_node "$2" <<<"$spec" | jq '.runtimeClassName = "godwit" | .volumes = [{name: "data", persistentVolumeClaim: {claimName: "data"}}] | .containers[0] |= (.args = ["--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--dir", "/data", "--protected-mode", "no"] | .volumeMounts = [{name: "data", mountPath: "/data"}])')
	jq -n --arg name "$1" --arg shared "${3:-}" --argjson spec "$s" '{apiVersion: "apps/v1", kind: "Deployment", metadata: {name: $name}, spec: {replicas: 1, strategy: {type: "Recreate"}, selector: {matchLabels: {app: $name}},
		template: {metadata: {labels: {app: $name}, annotations: (if $shared == "" then {} else {"live.godwit.dev/shared-paths": $shared} end)}, spec: $spec}}}' |
		kn apply -f - >/dev/null && kn rollout status "deployment/$1" --timeout=60s
}
in_pod() { kn exec "$1" -- sh -c "$2"; }
size() { in_pod "$1" 'redis-cli dbsize' | tr -dc 0-9; }

put_godwit

# ---- a claim on storage that both nodes reach
check "both nodes have the same disk" shared_disk
check "a claim on it is bound" claim
check "a Deployment keeps its redis' append-only file there" with_claim web node-a
check "godwit cannot see that both nodes have it: LocalVolume" refused no-1 "$(pod_of web)" node-b LocalVolume
check "its pods are told so, by an annotation" with_claim web node-a /data
web=$(pod_of web)
check "a client writes to it" client web "$(pod_ip "$web")"
check "it moves" move web-1 "$web" node-b
new=$(pod_of web)
is "to node-b" "$(node_of "$new")" node-b
is "with its claim" "$(kn get pod "$new" -o 'jsonpath={.spec.volumes[?(@.name=="data")].persistentVolumeClaim.claimName}')" data
grows() { local a b; a=$(on node-a sh -c 'cat /srv/shared/pv/appendonlydir/*.aof | wc -c'); sleep 2; b=$(on node-a sh -c 'cat /srv/shared/pv/appendonlydir/*.aof | wc -c'); [ "$b" -gt "$a" ] || { echo "$a, then $b"; return 1; }; }
check "it goes on writing its file, which the other node sees" grows
check "and moves back" move web-2 "$new" node-a
check "its client kept its connection and its keys" content web
n=$(size "$(pod_of web)")
kn delete pod "$(pod_of web)" --timeout=30s >/dev/null
kn rollout status deployment/web --timeout=60s >/dev/null
is "a redis that starts anew finds all of it in the file" "$(size "$(pod_of web)")" "$n"
check "there was something to find" test "$n" -gt 500
kn delete deployment web --wait=false >/dev/null

# ---- what the cluster gives a pod to read
kn create secret generic pass --from-literal=word=first >/dev/null
check "a pod with a Secret, a token and the downward API starts" bare reader node-a '.runtimeClassName = "godwit" | .serviceAccountName = "default" | .volumes = [
	{name: "s", secret: {secretName: "pass"}}, {name: "d", downwardAPI: {items: [{path: "labels", fieldRef: {fieldPath: "metadata.labels"}}, {path: "name", fieldRef: {fieldPath: "metadata.name"}}]}},
	{name: "t", projected: {sources: [{serviceAccountToken: {path: "token", audience: "godwit-test", expirationSeconds: 3600}}, {secret: {name: "pass"}}]}}]
	| .containers[0].volumeMounts = [{name: "s", mountPath: "/s"}, {name: "d", mountPath: "/d"}, {name: "t", mountPath: "/t"}]
	| .containers[0].env = [{name: "WORD", valueFrom: {secretKeyRef: {name: "pass", key: "word"}}}]'
# Of whom a token says it is: the signature is the API server's own business.
token_of() { in_pod "$1" 'cat /t/token' | cut -d. -f2 | tr '_-' '/+' | awk '{ while (length($0) % 4) $0 = $0 "="; print }' | base64 -d | jq -r '.["kubernetes.io"].pod.uid'; }
uid_of() { kn get pod "$1" -o 'jsonpath={.metadata.uid}'; }
is "the token is the pod's" "$(token_of reader)" "$(uid_of reader)"
old=$(uid_of reader)
check "it moves" move reader-1 reader node-b
is "to node-b" "$(node_of reader)" node-b
check "its object is another one" test "$(uid_of reader)" != "$old"
is "and the token of the moved pod is that one's" "$(token_of reader)" "$(uid_of reader)"
is "Secret and names are there" "$(in_pod reader 'cat /s/word; echo; cat /t/word; echo; cat /d/name; echo; echo $WORD')" "first
first
reader
first"
kn patch secret pass --type=merge -p '{"stringData": {"word": "second"}}' >/dev/null
kn label pod reader colour=green >/dev/null
told() { [ "$(in_pod reader 'cat /s/word')" = second ] && [ "$(in_pod reader 'cat /t/word')" = second ] && in_pod reader 'cat /d/labels' | grep -F 'colour="green"' >/dev/null; }
check "what changes later reaches the moved pod" retry 240 told
is "nothing was started anew" "$(kn get pod reader -o 'jsonpath={.status.containerStatuses[0].restartCount}')" 0
kn delete pod reader --wait=false >/dev/null

# ---- a directory of the node
check "a pod that writes into a directory of its node starts" bare local node-a '.runtimeClassName = "godwit" | .volumes = [{name: "h", hostPath: {path: "/srv/local", type: "DirectoryOrCreate"}}] | .containers[0].volumeMounts = [{name: "h", mountPath: "/h"}]'
check "and stays: LocalVolume" refused no-2 local node-b LocalVolume
is "where it was" "$(node_of local) $(kn get pod local -o 'jsonpath={.status.containerStatuses[0].restartCount}')" "node-a 0"
on node-a rm -rf /srv/local
