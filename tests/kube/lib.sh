# Sourced by every test on the cluster: TAP and pods.
#
#   . "$(dirname "$0")/lib.sh"
#   need_kube
#   plan 3
#
# A test takes the cluster that is up (GODWIT_LAB, default godwit-test) or starts
# one and takes it down again. What it makes lives in a namespace of its own,
# $NS, which goes at the end, however it ends.
# shellcheck source=/dev/null
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../system/lib.sh"
HERE=$TOP/tests/kube
KUBE=$HERE/kube
KST=/run/$GODWIT_LAB-kube
NS=t$$
kube_ours= ns_made=

kube_finish() {
	local rc=$?
	trap - EXIT INT TERM
	if [ -n "$kube_ours" ]; then
		"$KUBE" down >/dev/null 2>&1
	elif [ -n "$ns_made" ]; then
		k delete namespace "$NS" --wait=false >/dev/null 2>&1
	fi
	(exit $rc)
	finish
}
trap kube_finish EXIT
trap 'exit 130' INT TERM

need_kube() { # [arguments of kube up]
	[ "$(id -u)" = 0 ] || skip_all "needs root"
	if ! [ -e "$KST/up" ]; then
		kube_ours=1
		"$KUBE" up "$@" >"$T/up" 2>&1 || { diag <"$T/up"; echo "Bail out! the cluster does not come up"; exit 1; }
	fi
	k create namespace "$NS" >/dev/null && ns_made=1
	retry 60 k -n "$NS" get serviceaccount default || { echo "Bail out! no service account in a new namespace"; exit 1; }
}
k() { "$KST/kubectl" "$@"; }
kn() { k -n "$NS" "$@"; }
on() { "$KUBE" exec "$@"; }
retry() { # TIMES CMD...: every half second
	local i n=$1
	shift
	for i in $(seq "$n"); do
		"$@" >"$T/retry" 2>&1 && return
		sleep 0.5
	done
	cat "$T/retry"
	return 1
}
has() { # TEXT CMD...
	local want=$1
	shift
	"$@" >"$T/has" 2>&1
	grep -qF -- "$want" "$T/has" || { cat "$T/has"; return 1; }
}
