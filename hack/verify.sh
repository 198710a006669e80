#!/usr/bin/env bash
# What is generated is as it should be, and so are the go.mod of all modules. It
# compares files before and after, so other changes of the work tree do not matter;
# what it finds out of date is then up to date.
set -euo pipefail
cd "$(dirname "$0")/.."

hack/parts.sh controller-gen
generated() { find api deploy/crds -name 'zz_generated*' -o -path 'deploy/crds/*.yaml' | LC_ALL=C sort | xargs sha256sum; }
before=$(generated)
.parts/bin/controller-gen object paths=./api/...
.parts/bin/controller-gen crd paths=./api/... output:crd:artifacts:config=deploy/crds
failed=0
while read -r _ file; do
	echo "$file was out of date and is generated anew; commit it" >&2
	failed=1
done < <(comm -13 <(sort <<<"$before") <(generated | sort))
errors=$(mktemp)
trap 'rm -f "$errors"' EXIT
for module in . test/containerd test/containerd/v16 hack/image; do
	if diff=$(cd "$module" && go mod tidy -diff 2>"$errors"); then continue; fi
	if [ -n "$diff" ]; then
		echo "$diff" >&2
		echo "go.mod of $module is not tidy; run there: go mod tidy" >&2
		failed=1
	else # it needs modules that no build needs
		echo "go.mod of $module was not checked: $(tail -1 "$errors")" >&2
	fi
done
exit $failed
