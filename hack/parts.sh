#!/usr/bin/env bash
# Builds the real parts (API server, etcd, containerd, registry, tools) into .parts/bin, once.
#
#   hack/parts.sh PART...    build these parts if they are missing or their pins changed
#   hack/parts.sh --list     what there is
#
# Nothing is installed system-wide. A part is rebuilt when its go.mod, go.sum or flags change.
# KUBEBUILDER_ASSETS, when set, supplies kube-apiserver, etcd and kubectl instead.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
bin=$root/.parts/bin
stamps=$root/.parts/stamps
logs=$root/.parts/logs

k8s=v1.35.4
containerd=v2.4.2
k8s_ldflags="-s -w"
for pkg in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
	k8s_ldflags+=" -X $pkg.gitVersion=$k8s -X $pkg.gitMajor=1 -X $pkg.gitMinor=35"
done
containerd_ldflags="-s -w -X github.com/containerd/containerd/v2/version.Version=$containerd"
containerd_tags=no_btrfs,no_devmapper,no_zfs,no_aufs

# name | module folder | package | build tags | ldflags | minutes on 2 cores, cold
parts() {
	cat <<EOF
etcd|hack/parts/etcd|go.etcd.io/etcd/server/v3||-s -w|2
kube-apiserver|hack/parts/kubernetes|k8s.io/kubernetes/cmd/kube-apiserver||$k8s_ldflags|8
kubectl|hack/parts/kubernetes|k8s.io/kubernetes/cmd/kubectl||$k8s_ldflags|2
containerd|hack/parts/containerd|github.com/containerd/containerd/v2/cmd/containerd|$containerd_tags|$containerd_ldflags|3
containerd-shim-runc-v2|hack/parts/containerd|github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2|$containerd_tags|$containerd_ldflags|1
ctr|hack/parts/containerd|github.com/containerd/containerd/v2/cmd/ctr|$containerd_tags|$containerd_ldflags|1
registry|hack/parts/distribution|github.com/distribution/distribution/v3/cmd/registry||-s -w|2
golangci-lint|tools|github.com/golangci/golangci-lint/v2/cmd/golangci-lint||-s -w|5
gotestsum|tools|gotest.tools/gotestsum||-s -w|1
controller-gen|tools|sigs.k8s.io/controller-tools/cmd/controller-gen||-s -w|1
yq|tools|github.com/mikefarah/yq/v4||-s -w|1
EOF
}

# seconds left over, so that a person sees the build is alive: a ticking line
# on a terminal, one line every half minute in a pipe.
watch_build() { # pid label
	local start=$SECONDS every=30
	[ -t 2 ] && every=1
	while kill -0 "$1" 2>/dev/null; do
		sleep 1
		if ((every == 1)); then
			printf '\r%s … %d s ' "$2" $((SECONDS - start)) >&2
		elif (((SECONDS - start) % every == 0)); then
			printf '%s … %d s\n' "$2" $((SECONDS - start)) >&2
		fi
	done
	if ((every == 1)); then printf '\r\033[K' >&2; fi
}

build() { # name dir package tags ldflags
	local name=$1 dir=$2 pkg=$3 tags=$4 ldflags=$5
	(cd "$root/$dir" && CGO_ENABLED=0 go build -trimpath -buildvcs=false -tags "$tags" -ldflags "$ldflags" -o "$bin/.$name.new" "$pkg") \
		>"$logs/$name.log" 2>&1 && mv "$bin/.$name.new" "$bin/$name"
}

from_assets() { # name
	case $1 in
	kube-apiserver | etcd | kubectl)
		[ -n "${KUBEBUILDER_ASSETS:-}" ] && [ "$KUBEBUILDER_ASSETS" != "$bin" ] && [ -x "$KUBEBUILDER_ASSETS/$1" ] ;;
	*) return 1 ;;
	esac
}

main() {
	if [ "${1:-}" = --list ]; then parts | cut -d'|' -f1; exit; fi
	command -v go >/dev/null || { echo "go is missing: install Go 1.26 or newer (https://go.dev/dl)" >&2; exit 3; }
	mkdir -p "$bin" "$stamps" "$logs"
	local todo=() minutes=0 want line name dir pkg tags ldflags cost stamp
	for want in "$@"; do
		line=$(parts | grep "^$want|") || { echo "no such part: $want (try --list)" >&2; exit 2; }
		IFS='|' read -r name dir pkg tags ldflags cost <<<"$line"
		if from_assets "$name"; then ln -sf "$KUBEBUILDER_ASSETS/$name" "$bin/$name"; rm -f "$stamps/$name"; continue; fi
		stamp=$({ cat "$root/$dir/go.mod" "$root/$dir/go.sum"; echo "$line"; go env GOVERSION; } | sha256sum | cut -d' ' -f1)
		if [ -x "$bin/$name" ] && [ "$(cat "$stamps/$name" 2>/dev/null)" = "$stamp" ]; then continue; fi
		todo+=("$line|$stamp")
		minutes=$((minutes + cost))
	done
	((${#todo[@]})) || return 0
	echo "Building ${#todo[@]} real part(s) into .parts, once: about $minutes min on 2 cores with empty caches, far less with warm ones." >&2
	local i=0 label started pid
	for line in "${todo[@]}"; do
		IFS='|' read -r name dir pkg tags ldflags cost stamp <<<"$line"
		i=$((i + 1))
		label="[$i/${#todo[@]}] $name (up to $cost min)"
		echo "$label" >&2
		started=$SECONDS
		build "$name" "$dir" "$pkg" "$tags" "$ldflags" &
		pid=$!
		watch_build "$pid" "$label"
		if ! wait "$pid"; then
			echo "$name did not build; the end of .parts/logs/$name.log:" >&2
			tail -20 "$logs/$name.log" >&2
			exit 1
		fi
		echo "$stamp" >"$stamps/$name"
		echo "[$i/${#todo[@]}] $name built in $((SECONDS - started)) s" >&2
	done
}

main "$@"
