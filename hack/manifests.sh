#!/usr/bin/env bash
# Prints the chart as one YAML, in the order in which it is applied.
#
#   hack/manifests.sh VALUES [yes]       yes: without namespace, CRDs and Secret of the platform,
#                                        which kubectl would overwrite and Helm does not
#   hack/manifests.sh VALUES uninstall   what removes the module from the cluster
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

if [ ! -f "${1:-}" ]; then
	echo "say which values: make manifests VALUES=file (charts/registry/values.yaml says what is in it)" >&2
	exit 2
fi
render() {
	"$root/.parts/bin/helm" template registry "$root/charts/registry" -n d8-system -f "$values" "$@" 2> >(grep -v 'found symbolic link' >&2)
}
values=$1
if [ "${2:-}" = uninstall ]; then
	render -s templates/uninstall.yaml
	exit
fi
if [ "${2:-}" != yes ]; then
	render -s templates/namespace.yaml -s templates/platform-crds.yaml -s templates/installation.yaml
fi
render --no-hooks
