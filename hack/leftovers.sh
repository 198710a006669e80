#!/usr/bin/env bash
# Lists what tests and the demo could leave on this machine, sorted, one line
# each: our processes, mounts, network namespaces, links, control groups and
# files.
#
#   hack/leftovers.sh              list it
#   hack/leftovers.sh COMMAND...   run the command, and fail if it leaves any
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
runs=$here/.demo # of the harness with nodes: demo, test/e2e

# Processes of our programs, and everything that runs in a node: it has the node's
# files mounted, whatever its name is.
processes() {
	local dir exe
	for dir in /proc/[0-9]*; do
		exe=$(readlink "$dir/exe" 2>/dev/null) || continue
		case $exe in
		"$here"/.parts/* | "$here"/bin/* | "$here"/.demo/* | /registry-test-pause) echo "process $exe" ;;
		*) if grep -qsF -e "$runs/" -e "$here/.parts/" "$dir/mountinfo"; then echo "process $exe in a node"; fi ;;
		esac
	done
}

list() {
	processes
	awk -v here="$here" 'index($5, here) || $5 ~ /\/registry-apitest-|\/ctd[0-9]/ {print "mount " $5}' /proc/self/mountinfo
	ls /run/netns 2>/dev/null | sed 's/^/netns /' || true
	ls /sys/class/net | sed 's/^/link /'
	local temp=${TMPDIR:-/tmp}
	ls -d "$temp"/registry-apitest-* "$temp"/ctd[0-9]* "$temp"/charts[0-9]* 2>/dev/null | sed 's/^/file /' || true
	find /sys/fs/cgroup -maxdepth 2 \( -name 'registry-ctd*' -o -name 'd8-registry-*' \) 2>/dev/null | sed 's/^/cgroup /' || true
	find "$runs" -mindepth 1 -maxdepth 1 2>/dev/null | sed 's/^/file /' || true
}

if (($# == 0)); then
	list | sort
	exit
fi
before=$(mktemp) after=$(mktemp)
trap 'rm -f "$before" "$after"' EXIT
list | sort >"$before"
code=0
"$@" || code=$?
list | sort >"$after"
if comm -13 "$before" "$after" | grep .; then
	echo "this was left behind" >&2
	exit 1
fi
exit $code
