package main

import (
	"path/filepath"
)

// invite tells a person how to look around, with KEEP=1.
func (d *demo) invite() {
	bin, err := filepath.Abs(filepath.Join(d.options.root, ".parts", "bin"))
	if err != nil {
		bin = ".parts/bin"
	}
	d.out.title("The cluster is left running until Ctrl-C. In another terminal:")
	d.out.line(`
  export KUBECONFIG=%s
  export PATH=%s:$PATH
  d8() { shift; kubectl "$@"; }        # "d8 k" of the documentation is kubectl

  d8 k get nodes
  d8 k get module registry -o wide
  d8 k -n d8-system -o yaml get secret registry-state | yq -C -P '.data | del .state | map_values(@base64d) | .conditions = (.conditions | from_yaml)'
  d8 k get registrynodes
  d8 k edit moduleconfig deckhouse

  Logs and files: %s
  Terminals of nodes: nsenter --net=/proc/PID/ns/net --mount=/proc/PID/ns/mnt sh`, d.cluster.API.Kubeconfig, bin, d.cluster.Run.Dir)
	for _, n := range d.cluster.Nodes {
		d.out.line("    %-10s PID=%d", n.Name, n.Space.PID())
	}
}
