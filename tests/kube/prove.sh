#!/usr/bin/env bash
# The cluster is a Kubernetes on which pods can be moved: what godwit's tests rest on, shown without godwit.
. "$(dirname "$0")/lib.sh"
need_kube
plan 36

ready_nodes() { k get nodes --no-headers | grep -c ' Ready'; }
is "three nodes are Ready" "$(ready_nodes)" 3
is "each node has pod addresses of its own, of both families" \
	"$(k get nodes -o 'jsonpath={range .items[*]}{.spec.podCIDRs[0]}{"\n"}{.spec.podCIDRs[1]}{"\n"}{end}' | sort -u | grep -c /)" 6
is "nodes have the versions the project is written for" \
	"$(k get nodes -o 'jsonpath={range .items[*]}{.status.nodeInfo.kubeletVersion} {end}' | tr ' ' '\n' | grep -c '^v1\.34\.')" 3
check "a node has a CRIU that works with this kernel" on node-a criu check

kn apply -f "$HERE/manifests/prove.yaml" >/dev/null
for n in a b c; do check "a pod runs on node-$n" kn wait --for=condition=Ready "pod/web-$n" --timeout=60s; done
check "a StatefulSet's pod runs under the runtime class godwit" kn rollout status statefulset/redis --timeout=60s
pod_ip() { kn get pod "$1" -o 'jsonpath={.status.podIP}'; }
get() { kn exec "$1" -- timeout 3 wget -qO- "http://$2/"; }
check "logs come through" has started kn logs web-a
check "exec runs a command in the container" has web-c kn exec web-c -- hostname
for pair in a:b b:c c:a a:a; do
	from=${pair%:*} to=${pair#*:}
	check "a pod on node-$from reaches a pod on node-$to" has "hello from web-$to" get web-$from "$(pod_ip web-$to)"
done
svc=$(kn get service web-b -o 'jsonpath={.spec.clusterIP}') port=$(kn get service web-b -o 'jsonpath={.spec.ports[0].nodePort}')
for n in a b c; do check "a pod on node-$n reaches the Service of one on node-b" retry 10 has "hello from web-b" get web-$n "$svc"; done
check "a NodePort answers on a node that does not have the pod" retry 10 has "hello from web-b" on control curl -s -m 3 "http://10.9.0.4:$port/"
check "a port is forwarded" retry 1 timeout 20 bash -c '
	"$1" -n "$2" port-forward pod/web-c 18080:80 >/dev/null & p=$!
	trap "kill $p" EXIT
	for i in $(seq 40); do nsenter -t "$3" -n bash -c "exec 3<>/dev/tcp/127.0.0.1/18080 && printf \"GET / HTTP/1.0\r\n\r\n\" >&3 && grep -q web-c <&3" && exit 0; sleep 0.2; done
	exit 1' forward "$KST/kubectl" "$NS" "$(cut -d' ' -f1 "$KST/control/pid")"

token=$(kn exec web-a -- cat /var/run/secrets/kubernetes.io/serviceaccount/token)
is "a pod's service account token is taken by the API under the Service's address, from a node" \
	"$(on node-a curl -sk -m 5 -o /dev/null -w '%{http_code}' -H "Authorization: Bearer $token" https://10.96.0.1/api/v1)" 200
is "a token made up is not" "$(on node-a curl -sk -m 5 -o /dev/null -w '%{http_code}' -H "Authorization: Bearer x$token" https://10.96.0.1/api/v1)" 401

# The handler's program is a path: whatever stands there is called.
on node-b sh -c 'rm /opt/godwit/bin/godwit-runtime && cat >/opt/godwit/bin/godwit-runtime && chmod 755 /opt/godwit/bin/godwit-runtime' <<'S'
#!/bin/bash
for ((i = 1; i <= $#; i++)); do
	[ "${!i}" = --bundle ] && j=$((i + 1)) && jq -c "{hostname, annotations}" "${!j}/config.json" >>/run/handler.log
done
exec /usr/sbin/runc "$@"
S
uid=$(kn get pod redis-0 -o 'jsonpath={.metadata.uid}')
kn delete pod redis-0 --wait >/dev/null
back() { [ "$(kn get pod redis-0 -o 'jsonpath={.metadata.uid}')" != "$uid" ] && kn wait --for=condition=Ready pod/redis-0 --timeout=20s; }
check "a StatefulSet's pod that is deleted comes back under its name" retry 60 back
check "the runtime class calls the program of its handler" on node-b grep -q redis-0 /run/handler.log
check "godwit's annotations reach the container's settings" on node-b grep -q '"live.godwit.dev/note":"handed on"' /run/handler.log
check_fails "other annotations do not" on node-b grep -q 'kept back' /run/handler.log
check_fails "pods of other classes do not come by it" on node-b grep -q web-b /run/handler.log
on node-b ln -sf /usr/sbin/runc /opt/godwit/bin/godwit-runtime
check "redis in a pod keeps what it is told" has v1 kn exec redis-0 -- sh -c 'redis-cli set k v1 >/dev/null; redis-cli get k'

# A webhook that refuses, on a node, behind a Service.
on node-c sh -c 'mkdir -p /tmp/hook && cd /tmp/hook && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=hook \
	-addext "subjectAltName=DNS:hook.$0.svc" -keyout key.pem -out cert.pem 2>/dev/null && cat >answer && chmod 755 answer' "$NS" <<'S'
#!/bin/bash
while IFS= read -r line; line=${line%$'\r'}; [ -n "$line" ]; do
	case ${line,,} in content-length:*) n=${line#*:} ;; esac
done
uid=$(head -c "${n// /}" | jq -r .request.uid)
body='{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"'$uid'","allowed":false,"status":{"message":"refused by the hook"}}}'
printf 'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s' ${#body} "$body"
S
on node-c socat OPENSSL-LISTEN:8443,fork,reuseaddr,cert=/tmp/hook/cert.pem,key=/tmp/hook/key.pem,verify=0 EXEC:/tmp/hook/answer >"$T/hook" 2>&1 &
hook=$!
ca=$(on node-c base64 -w0 /tmp/hook/cert.pem)
sed "s|@NS@|$NS|; s|@ADDRESS@|10.9.0.4|; s|@CA@|$ca|" "$HERE/manifests/webhook.yaml" | kn apply -f - >/dev/null
refused() { has "refused by the hook" kn create configmap x --from-literal=a=b || { kn delete configmap x; return 1; }; }
check "an admission webhook behind a Service is asked" retry 20 refused
k delete validatingwebhookconfiguration "hook-$NS" >/dev/null
on node-c pkill -x socat
wait $hook 2>/dev/null

# What breaks comes back.
restarts() { kn get pods -o 'jsonpath={range .items[*]}{.status.containerStatuses[0].restartCount} {end}'; }
for s in kubelet containerd; do
	old=$("$KUBE" service node-b $s pid)
	"$KUBE" service node-b $s kill
	new_pid() { local p; p=$("$KUBE" service node-b $s pid) && [ "$p" != "$old" ]; }
	check "$s that is killed is started again" retry 20 new_pid
done
check "the pods do not notice" retry 20 has v1 kn exec redis-0 -- redis-cli get k
is "none of them was started anew" "$(restarts)" "0 0 0 0 "
"$KUBE" kill-node node-b
not_ready() { [ "$(k get node node-b -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}')" = Unknown ]; }
check "a node without power is noticed" retry 90 not_ready
check "it comes back" "$KUBE" start-node node-b
served() { [ "$(kn get pod redis-0 -o 'jsonpath={.status.containerStatuses[0].restartCount}{.status.containerStatuses[0].ready}')" = 1true ]; }
check "and so do its pods" retry 60 served

kn delete -f "$HERE/manifests/prove.yaml" --wait >/dev/null 2>&1
empty() { local n; for n in a b c; do [ -z "$(on node-$n ctr -n k8s.io tasks ls -q)" ] || return 1; done; }
check "deleted pods leave no process behind" retry 60 empty
