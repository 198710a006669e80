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
		"$here"/.parts/* | "$here"/bin/* | "$here"/.demo/* | */d8-registry-*) echo "process $target" ;;
		esac
	done
	awk -v here="$here" 'index($5, here) || $5 ~ /d8-registry|d8r-/ {print "mount " $5}' /proc/self/mountinfo
	ls /run/netns 2>/dev/null | grep -E '^d8' | sed 's/^/netns /' || true
	ls /sys/class/net | grep -E '^d8' | sed 's/^/link /' || true
	ls -d "${TMPDIR:-/tmp}"/d8-registry-* "${TMPDIR:-/tmp}"/d8r-* 2>/dev/null | sed 's/^/file /' || true
	find "$here/.demo" -mindepth 1 -maxdepth 1 2>/dev/null | sed 's/^/file /' || true
} | sort
