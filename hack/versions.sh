#!/usr/bin/env bash
# Runs the tests of the chart and of the admission policies on API servers of
# other minor versions of Kubernetes. The harness asks the server for its version
# and fails if it is another one.
#
#   hack/versions.sh 1.30 1.36
set -euo pipefail
cd "$(dirname "$0")/.."

hack/parts.sh etcd kubectl helm "${@/#/kube-apiserver-}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=0
for version in "$@"; do
	echo "kube-apiserver $version"
	# -p 1: keeps the output of the packages apart.
	result=0
	APISERVER=$version go test -p 1 -count=1 -timeout 20m -v ./test/harness/apiserver ./deploy ./charts >"$log" 2>&1 || result=$?
	grep -E '^(apitest: |ok|FAIL)|objects on v' "$log" | uniq | sed 's/^ */  /'
	echo "  $(grep -cE '^ *--- PASS' "$log") tests passed, $(grep -cE '^ *--- FAIL' "$log") failed, $(grep -cE '^ *--- SKIP' "$log") skipped"
	if ((result)); then
		failed=1
		grep -vE '^ *(=== |--- PASS)' "$log" >&2
	fi
done
exit $failed
