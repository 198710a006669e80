#!/usr/bin/env bash
# Builds the real parts (API server, etcd, containerd, registry, tools) into .parts/bin, once.
# A part of several programs has its own folder .parts/PART: the older containerds and runc.
#
#   hack/parts.sh PART...    build these parts if they are missing or their pins changed
#   hack/parts.sh --list     what there is
#
# Nothing is installed system-wide: Debian's packages are only downloaded and unpacked.
# A part is rebuilt when its go.mod, go.sum or flags change.
# KUBEBUILDER_ASSETS, when set, supplies kube-apiserver, etcd and kubectl instead.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
bin=$root/.parts/bin
stamps=$root/.parts/stamps
logs=$root/.parts/logs

k8s=v1.35.4
# The oldest and the newest API server that the module promises to work with.
k8s_oldest=v1.30.14
k8s_newest=v1.36.3
containerd=v2.4.2
helm=v4.3.1
k8s_ldflags() { # version
	local minor=${1#v1.} flags="-s -w" pkg
	for pkg in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
		flags+=" -X $pkg.gitVersion=$1 -X $pkg.gitMajor=1 -X $pkg.gitMinor=${minor%.*}"
	done
	echo "$flags"
}
k8s_ldflags=$(k8s_ldflags $k8s)
containerd_ldflags="-s -w -X github.com/containerd/containerd/v2/version.Version=$containerd"
containerd17=v1.7.35
containerd17_pkg=github.com/containerd/containerd/cmd
containerd16=1.6.20~ds1-1+deb12u3
runc=1.1.5+ds1-1+deb12u1
cni_pkg=github.com/containernetworking/plugins/plugins
cni_ldflags="-s -w -X github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion=v1.9.1"
nft="nftables=1.0.6-2+deb12u2 libnftables1 libedit2 libgmp10 libjansson4 libmnl0 libnftnl11 libxtables12 libbsd0 libtinfo6 libmd0"
tree=2.1.0-1
nginx="nginx=1.22.1-9+deb12u7 libpcre2-8-0 libssl3 zlib1g libcrypt1"
skopeo="skopeo=1.9.3+ds1-1+b10 libgpgme11 libassuan0 libgpg-error0 libdevmapper1.02.1 libselinux1 libudev1 libpcre2-8-0"
containerd17_ldflags="-s -w -X github.com/containerd/containerd/version.Version=$containerd17"
containerd_tags=no_btrfs,no_devmapper,no_zfs,no_aufs

# name | module folder | packages | build tags | ldflags | minutes on 2 cores, cold
# name | debian | package=version library... | programs || minutes
parts() {
	cat <<EOF
etcd|hack/parts/etcd|go.etcd.io/etcd/server/v3||-s -w|2
kube-apiserver|hack/parts/kubernetes|k8s.io/kubernetes/cmd/kube-apiserver||$k8s_ldflags|8
kubectl|hack/parts/kubernetes|k8s.io/kubernetes/cmd/kubectl||$k8s_ldflags|2
kubelet|hack/parts/kubernetes|k8s.io/kubernetes/cmd/kubelet||$k8s_ldflags|4
kube-controller-manager|hack/parts/kubernetes|k8s.io/kubernetes/cmd/kube-controller-manager||$k8s_ldflags|4
kube-scheduler|hack/parts/kubernetes|k8s.io/kubernetes/cmd/kube-scheduler||$k8s_ldflags|2
kube-proxy|hack/parts/kubernetes|k8s.io/kubernetes/cmd/kube-proxy||$k8s_ldflags|2
kube-apiserver-1.30|hack/parts/kubernetes130|k8s.io/kubernetes/cmd/kube-apiserver||$(k8s_ldflags $k8s_oldest)|8
kube-apiserver-1.36|hack/parts/kubernetes136|k8s.io/kubernetes/cmd/kube-apiserver||$(k8s_ldflags $k8s_newest)|8
containerd|hack/parts/containerd|github.com/containerd/containerd/v2/cmd/containerd|$containerd_tags|$containerd_ldflags|3
containerd-shim-runc-v2|hack/parts/containerd|github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2|$containerd_tags|$containerd_ldflags|1
ctr|hack/parts/containerd|github.com/containerd/containerd/v2/cmd/ctr|$containerd_tags|$containerd_ldflags|1
containerd-1.7|hack/parts/containerd17|$containerd17_pkg/containerd $containerd17_pkg/containerd-shim-runc-v2 $containerd17_pkg/ctr|$containerd_tags|$containerd17_ldflags|4
containerd-1.6|debian|containerd=$containerd16|containerd containerd-shim-runc-v2 ctr||1
runc|debian|runc=$runc|runc||1
cni|hack/parts/cni|$cni_pkg/main/ptp $cni_pkg/main/loopback $cni_pkg/ipam/host-local||$cni_ldflags|1
coredns|hack/parts/coredns|.||-s -w|3
nft|debian|$nft|nft||1
tree|debian|tree=$tree|tree||1
nginx|debian|$nginx|nginx||1
skopeo|debian|$skopeo|skopeo||1
pause|hack/parts/pause|.||-s -w|1
conformance|hack/parts/conformance|github.com/opencontainers/distribution-spec/conformance||-s -w|1
registry|hack/parts/distribution|github.com/distribution/distribution/v3/cmd/registry||-s -w|2
helm|hack/parts/helm|helm.sh/helm/v4/cmd/helm||-s -w -X helm.sh/helm/v4/internal/version.version=$helm|2
golangci-lint|tools|github.com/golangci/golangci-lint/v2/cmd/golangci-lint||-s -w|5
gotestsum|tools|gotest.tools/gotestsum||-s -w|1
controller-gen|tools|sigs.k8s.io/controller-tools/cmd/controller-gen||-s -w|1
yq|tools|github.com/mikefarah/yq/v4||-s -w|1
EOF
}

# Shows that the build is alive: a line with seconds on a terminal, one line every
# half minute in a pipe.
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

# The path of a part: one program is in .parts/bin, several have their own folder.
place() { # name dir packages
	case $2:$3 in
	debian:* | *" "*) echo "$root/.parts/$1" ;;
	*) echo "$bin/$1" ;;
	esac
}

build() { # place dir packages tags ldflags
	local new=$1.new out=$1.new
	[[ $3 == *" "* ]] && out=$1.new/ # go build makes the folder
	rm -rf "$new"
	# shellcheck disable=SC2086 # packages are words
	(cd "$root/$2" && CGO_ENABLED=0 go build -trimpath -buildvcs=false -tags "$4" -ldflags "$5" -o "$out" $3) || return 1
	rm -rf "$1"
	mv "$new" "$1"
}

# Debian's build, which many nodes run: downloaded and unpacked. If the machine has
# no package lists, we download our own.
#
# Packages after the first are libraries, in any version that is offered: they go
# to lib, and each program becomes a script that uses them, so the folder works
# wherever it is mounted.
unpack() { # place packages programs
	local new=$1.new want=$2 program real deb
	rm -rf "$new"
	mkdir -p "$new/deb" "$new/x"
	# shellcheck disable=SC2086 # packages are words
	download "$new/deb" $want || return 1
	for deb in "$new"/deb/*.deb; do dpkg-deb -x "$deb" "$new/x" || return 1; done
	for program in $3; do
		real=$(find "$new/x" -path "*bin/$program" -type f | head -1)
		mv "$real" "$new/$program" || return 1
		if [[ $want == *" "* ]]; then with_libraries "$new" "$program" || return 1; fi
		"$new/$program" --version || "$new/$program" -v || return 1 # a library of Debian's may be missing
	done
	rm -rf "$1" "$new/x" "$new/deb"
	mv "$new" "$1"
}

# The program becomes NAME.bin, and NAME a script that runs it.
with_libraries() { # folder program
	mkdir -p "$1/lib"
	find "$1/x" -path '*/lib/*' -name '*.so.*' -exec mv -t "$1/lib" {} + || return 1
	mv "$1/$2" "$1/$2.bin"
	cat >"$1/$2" <<-'EOF'
		#!/bin/sh
		self=$(readlink -f "$0")
		LD_LIBRARY_PATH=${self%/*}/lib exec "$self.bin" "$@"
	EOF
	chmod +x "$1/$2"
}

download() { # folder package...
	local to=$1 own=$root/.parts/apt want found=()
	shift
	if (cd "$to" && apt-get -o APT::Sandbox::User=root download "$@"); then return; fi
	local apt=(-o APT::Sandbox::User=root -o Dir::State::Lists="$own/lists" -o Dir::Cache="$own/cache")
	mkdir -p "$own/lists/partial" "$own/cache/archives/partial"
	apt-get "${apt[@]}" update || return 1
	for want in "$@"; do found+=("$(on_offer "$want" "${apt[@]}")") || return 1; done
	(cd "$to" && apt-get "${apt[@]}" download "${found[@]}")
}

# The package that is offered now: a security fix may have replaced the pinned one,
# and the same release will do.
on_offer() { # package[=version] apt's options...
	local want=$1 name=${1%%=*} release offered
	shift
	offered=$(apt-cache "$@" madison "$name" | awk -F' *[|] *' '{print $2}')
	if [[ $want != *=* ]] || grep -qxF "${want#*=}" <<<"$offered"; then
		echo "$want"
		return
	fi
	release=$(cut -d. -f1,2 <<<"${want#*=}")
	offered=$(awk -v r="$release." 'index($0, r) == 1 {print; exit}' <<<"$offered")
	if [ -z "$offered" ]; then
		echo "the machine's package sources offer no $name $release; Debian 12 (bookworm) has it" >&2
		return 1
	fi
	echo "taking $name=$offered instead of $want" >&2
	echo "$name=$offered"
}

make_part() { # name dir packages tags ldflags
	local to
	to=$(place "$1" "$2" "$3")
	case $2 in
	debian) unpack "$to" "$3" "$4" ;;
	*) build "$to" "$2" "$3" "$4" "$5" ;;
	esac >"$logs/$1.log" 2>&1
}

pins() { # dir: if this changes, the part is built again
	[ "$1" = debian ] || cat "$root/$1"/go.{mod,sum} "$root/$1"/*.go 2>/dev/null || true
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
		if [ "$dir" = debian ] && ! { command -v apt-get && command -v dpkg-deb; } >/dev/null; then
			echo "$name is Debian's ${pkg%%=*} package, and apt-get or dpkg-deb is missing: build on Debian 12 or in a container of it" >&2
			exit 3
		fi
		stamp=$({ pins "$dir"; echo "$line"; go env GOVERSION; } | sha256sum | cut -d' ' -f1)
		if [ -x "$(place "$name" "$dir" "$pkg")" ] && [ "$(cat "$stamps/$name" 2>/dev/null)" = "$stamp" ]; then continue; fi
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
		make_part "$name" "$dir" "$pkg" "$tags" "$ldflags" &
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
