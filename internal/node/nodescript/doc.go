// Package nodescript runs NodeGroupConfigurations on one node: the scripts that
// concern the node, in the order of their weights, as root on the host; again
// whenever one of them changes, after a reboot and every four hours. A script
// that fails is tried again until it succeeds, and holds up those after it.
//
// It decides nothing about containerd. What a script may use is in
// docs/scripts.md. Start at Runner in runner.go; what is run when is in plan.go
// and record.go, how in execute.go, the helpers that scripts may call are
// library.bash.
package nodescript
