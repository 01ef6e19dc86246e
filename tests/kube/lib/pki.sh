# Run by bash on the control host in /run/lab/pki: the cluster's certificates.
# Arguments: the API's address, then NODE=IPv4,IPv6 for every node.
set -euo pipefail
api=$1
shift
umask 077
cd /run/lab/pki
key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }
key ca
openssl req -x509 -new -key ca.key -out ca.crt -days 3650 -subj /CN=kube-ca -addext basicConstraints=critical,CA:true \
	-addext keyUsage=critical,digitalSignature,keyCertSign,cRLSign
openssl genrsa -out sa.key 2048 2>/dev/null
openssl rsa -in sa.key -pubout -out sa.pub 2>/dev/null
cert() { # NAME SUBJECT EXTENSIONS
	key "$1"
	openssl req -new -key "$1.key" -out "$1.csr" -subj "$2"
	openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -out "$1.crt" -extfile <(printf '%b' "$3") 2>/dev/null
	rm "$1.csr"
}
conf() { # NAME USER: a kubeconfig that needs no other file
	printf '%s\n' 'apiVersion: v1' 'kind: Config' \
		"clusters: [{name: kube, cluster: {server: \"$api\", certificate-authority-data: $(base64 -w0 ca.crt)}}]" \
		"users: [{name: $2, user: {client-certificate-data: $(base64 -w0 "$1.crt"), client-key-data: $(base64 -w0 "$1.key")}}]" \
		"contexts: [{name: kube, context: {cluster: kube, user: $2}}]" 'current-context: kube' >"$1.conf"
}
client=extendedKeyUsage=clientAuth
name=kubernetes sans=
for part in '' .default .svc .cluster.local; do name=$name$part sans=$sans,DNS:$name; done
ip=${api#https://}
cert apiserver /CN=kube-apiserver "extendedKeyUsage=serverAuth\nsubjectAltName=DNS:localhost$sans,IP:127.0.0.1,IP:::1,IP:${ip%:*},IP:fd09::1,IP:10.96.0.1,IP:fd96::1"
cert apiserver-kubelet /O=system:masters/CN=kube-apiserver-kubelet-client $client
cert front-proxy /CN=front-proxy-client $client
cert admin /O=system:masters/CN=admin $client && conf admin admin
for c in kube-controller-manager kube-scheduler; do cert $c /CN=system:$c $client && conf $c $c; done
for n in "$@"; do
	ips=${n#*=} n=${n%%=*}
	mkdir "$n"
	cert "$n/kubelet" "/O=system:nodes/CN=system:node:$n" $client
	conf "$n/kubelet" "$n"
	cert "$n/kubelet-serving" "/O=system:nodes/CN=system:node:$n" "extendedKeyUsage=serverAuth\nsubjectAltName=DNS:$n,IP:${ips%,*},IP:${ips#*,}"
	cert "$n/kube-proxy" /CN=system:kube-proxy $client
	conf "$n/kube-proxy" kube-proxy
done
