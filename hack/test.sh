#!/usr/bin/env bash
# Runs every test that this machine can run and names what was skipped. Make runs
# it through hack/leftovers.sh, which fails if a test left something behind.
#
#   hack/test.sh PACKAGE...          all tests
#   hack/test.sh --fast PACKAGE...   without the real parts
#
# RUN=regexp runs only the tests of that name, as go test -run does.
#
# Tests run in lanes, two side by side: one waits for real servers while the other
# computes with the race detector.
#   plain     LANE_PLAIN packages at a time, the longest first
#   race      LANE_RACE packages at a time
#   modules   test/containerd and hack/image, which are modules of their own; when
#             the first of the others is done
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD

# How many packages of a lane run at a time. More would make API servers and
# containerds slow each other down.
LANE_PLAIN=${LANE_PLAIN:-2}
LANE_RACE=${LANE_RACE:-1}

export KUBEBUILDER_ASSETS=${KUBEBUILDER_ASSETS:-$root/.parts/bin}
# One in four of the kills of test/matrix, another four at each run; 1 for all.
export KILL_EVERY=${KILL_EVERY:-4}

# The longest first, so that none of them runs alone at the end.
longest='internal/control/controller test/matrix internal/control/switchover charts test/rollout
	test/usermirror internal/node/agent internal/node/reconfigure internal/datapath/proxy'
# The race detector where goroutines meet. Not where nothing runs side by side
# (switchover, layout, upstream), and not where most of the work is a real API
# server's: it would only make these wait (five times as long).
plain='/(cmd/[a-z-]+|charts|deploy|demo|docs|internal/(control/(controller|switchover)|layout|upstream)|test/(clients|conformance|e2e|harness/(machine|kube)|house|matrix|rollout|stores))$'
# In both lanes, with the race detector without the tests of which it would see nothing:
# each operation of a model's disk, one process after the other, by thousands; and the real
# program, which is built without it.
both='/internal/datapath/store(/blob|/fill)?$'
unraced='^Test(Crashes|CrashesAreNoticed|FailingOperations|KillInMidFill)$'
modules='test/containerd hack/image'

# The packages of a lane, the longest first.
packages() { # lane
	local all name
	# shellcheck disable=SC2086 # packages are words
	all=$(go list $PACKAGES)
	case $1 in
	plain) all=$(grep -E "$plain|$both" <<<"$all" || true) ;;
	race) all=$(grep -vE "$plain" <<<"$all" || true) ;;
	esac
	for name in $longest; do grep "/$name\$" <<<"$all" || true; done
	# shellcheck disable=SC2086 # names are words
	grep -vE "/($(echo $longest | tr ' ' '|'))\$" <<<"$all" || true
}

# gotestsum with our arguments; its events go to a file beside.
tests() { # lane, arguments of go test...
	local lane=$1 format=pkgname-and-test-fails
	shift
	[ -t 1 ] && format=pkgname
	"$root/.parts/bin/gotestsum" --format "$format" --no-color ${HIDE:+--hide-summary "$HIDE"} --jsonfile-timing-events "$EVENTS/$lane.json" \
		-- ${RUN:+-run "$RUN"} "$@"
}

run_lane() { # lane
	local failed=0 module
	case $1 in
	fast)
		# shellcheck disable=SC2046 # packages are words
		tests fast -short -p 2 -tags brokenprotocol -timeout 5m $(packages fast) || failed=1
		;;
	plain | race)
		local list at=$LANE_PLAIN race=()
		list=$(packages "$1")
		if [ -z "$list" ]; then return; fi
		if [ "$1" = race ]; then at=$LANE_RACE race=(-race -skip "$unraced"); fi
		# shellcheck disable=SC2086 # packages are words
		tests "$1" "${race[@]}" -p "$at" -tags brokenprotocol -timeout 30m $list || failed=1
		;;
	modules)
		for module in $modules; do
			(cd "$module" && tests "$(basename "$module")" ${FAST:+-short} -timeout 15m ./...) || failed=1
		done
		;;
	esac
	return $failed
}

# In a run of everything a lane prints at its end, so that what lanes say stays
# apart; the first one shows that something goes on.
lane() { # name
	if [ "$1" = "${LANES%% *}" ] || [ "$PACKAGES" != ./... ]; then
		run_lane "$1"
		return
	fi
	local log=$EVENTS/$1.log failed=0
	run_lane "$1" >"$log" 2>&1 || failed=1
	cat "$log"
	return $failed
}

# What a short run left out, a line for each package.
left_out() {
	cat "$EVENTS"/*.json | sed -nE '/"Action":"skip"/s/.*"Package":"[^"]*d8-registry\/registry\/([^"]*)".*"Test":"([^"]*)".*/\1 \2/p' | sort -u |
		awk '{
			split($2, name, "/")
			if (!($1 in tests)) order[++n] = $1
			if (!seen[$1, name[1]]++) tests[$1] = tests[$1] " " name[1]
		} END {
			if (n) print "\nNot run, or not in full, without real parts; make test runs them:"
			for (i = 1; i <= n; i++) print "  " order[i] ":" tests[order[i]]
		}'
}

if [ "${1:-}" = --lane ]; then
	lane "$2"
	exit
fi
FAST=
HIDE=
if [ "${1:-}" = --fast ]; then
	FAST=yes HIDE=skipped LANES='fast'
	shift
else
	LANES='plain race'
fi
PACKAGES="${*:-./...}"
if [ "$PACKAGES" = ./... ]; then LANES+=' modules'; fi
EVENTS=$(mktemp -d)
trap 'rm -rf "$EVENTS"' EXIT
export RUN=${RUN:-} FAST HIDE LANES PACKAGES EVENTS LANE_PLAIN LANE_RACE
failed=0
# xargs: children get Ctrl-C, and one that fails does not stop the others.
# shellcheck disable=SC2086 # lanes are words
printf '%s\n' $LANES | xargs -P 2 -n 1 "$0" --lane || failed=1
if [ -n "$FAST" ]; then left_out; fi
if [ -n "$RUN" ] && ! grep -qs '"Test":' "$EVENTS"/*.json; then
	echo "no test of $PACKAGES is called $RUN" >&2
	failed=1
fi
exit $failed
