#!/usr/bin/env bash
# Runs every test that this machine can run, names what was skipped, and fails
# if a test left a process, mount, network namespace or temporary file behind.
set -euo pipefail
cd "$(dirname "$0")/.."

export KUBEBUILDER_ASSETS=${KUBEBUILDER_ASSETS:-$PWD/.parts/bin}
before=$(mktemp) after=$(mktemp)
trap 'rm -f "$before" "$after"' EXIT

hack/leftovers.sh >"$before"
failed=0
format=pkgname
[ -t 1 ] || format=pkgname-and-test-fails
# -p 2: the API servers and containerds of more packages at a time would only
# make each other slow.
.parts/bin/gotestsum --format "$format" --no-color -- -race -p 2 -timeout 15m "$@" || failed=1
(cd test/containerd && "$OLDPWD/.parts/bin/gotestsum" --format "$format" --no-color -- -timeout 15m ./...) || failed=1
hack/leftovers.sh >"$after"
if ! diff "$before" "$after"; then
	echo "the tests left this behind (lines with >)" >&2
	failed=1
fi
exit $failed
