#!/usr/bin/env bash
# Lists what tests and the demo could leave behind on this machine, a sorted
# line each: our processes, mounts, network namespaces, links and files.
set -euo pipefail
cd "$(dirname "$0")/.."
here=$PWD
{
	for exe in /proc/[0-9]*/exe; do
		target=$(readlink "$exe" 2>/dev/null) || continue
		case $target in
		"$here"/.parts/* | "$here"/bin/* | "$here"/.demo/* | /registry-test-pause) echo "process $target" ;;
		esac
	done
	awk -v here="$here" 'index($5, here) || $5 ~ /\/registry-apitest-|\/ctd[0-9]/ {print "mount " $5}' /proc/self/mountinfo
	ls /run/netns 2>/dev/null | sed 's/^/netns /' || true
	ls /sys/class/net | sed 's/^/link /'
	ls -d "${TMPDIR:-/tmp}"/registry-apitest-* "${TMPDIR:-/tmp}"/ctd[0-9]* 2>/dev/null | sed 's/^/file /' || true
	find /sys/fs/cgroup -maxdepth 2 -name 'registry-ctd*' 2>/dev/null | sed 's/^/cgroup /' || true
	find "$here/.demo" -mindepth 1 -maxdepth 1 2>/dev/null | sed 's/^/file /' || true
} | sort
