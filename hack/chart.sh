#!/usr/bin/env bash
# Packages the chart so that it names the image that was just built by digest:
#
#   hack/chart.sh OUT [VERSION]     OUT/registry.digest -> OUT/registry-VERSION.tgz
#
# A tag can be moved by whoever may push; a digest is these bytes and no others.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
out=$1
version=${2:-$(git -C "$root" describe --tags --always --dirty)}
if ! digest=$(grep -xE 'sha256:[0-9a-f]{64}' "$out/registry.digest" 2>/dev/null); then
	echo "$out/registry.digest holds no digest: run make image first" >&2
	exit 2
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -rL "$root/charts/registry" "$work/registry"
sed -i "s|^image: \"\"\$|image: \"registry@$digest\"|" "$work/registry/values.yaml"
grep -q "^image: \"registry@$digest\"\$" "$work/registry/values.yaml"
chart=${version#v}
# What git describes without a tag is no version to Helm.
[[ $chart =~ ^[0-9]+\.[0-9]+\.[0-9]+ ]] || chart=0.0.0-g$chart
"$root/.parts/bin/helm" package "$work/registry" --destination "$out" --version "$chart" --app-version "$version"
