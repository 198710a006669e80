#!/usr/bin/env bash
# Runs every test that this machine can run and names what was skipped. Make
# runs it through hack/leftovers.sh, which fails if a test left something behind.
set -euo pipefail
cd "$(dirname "$0")/.."

export KUBEBUILDER_ASSETS=${KUBEBUILDER_ASSETS:-$PWD/.parts/bin}
# One in four of the kills of test/matrix, another four at each run; 1 for all.
export KILL_EVERY=${KILL_EVERY:-4}

failed=0
format=pkgname
[ -t 1 ] || format=pkgname-and-test-fails
# The race detector where goroutines meet. Not where nothing runs side by side
# (switchover, layout, upstream), and not where most of the work is a real API
# server's: it would only make these wait (five times as long).
plain='/(charts|deploy|demo|docs|internal/(control/(controller|switchover)|layout|upstream)|test/(e2e|harness/(machine|kube)|matrix|rollout))$'
all=$(go list "$@")
run() { # go test's arguments
	# -p 2: the API servers and containerds of more packages at a time would
	# only make each other slow.
	.parts/bin/gotestsum --format "$format" --no-color -- -p 2 -tags brokenprotocol -timeout 20m "$@" || failed=1
}
if pkgs=$(grep -vE "$plain" <<<"$all"); then run -race $pkgs; fi
if pkgs=$(grep -E "$plain" <<<"$all"); then run $pkgs; fi
for own in test/containerd hack/image; do # modules of their own
	(cd "$own" && "$OLDPWD/.parts/bin/gotestsum" --format "$format" --no-color -- -timeout 15m ./...) || failed=1
done
exit $failed
