// Package nodescript runs NodeGroupConfigurations on one node: the scripts that
// concern the node, in the order of their weights, as root on the host. All of
// them run again when one changes, after a reboot, and every four hours. A script
// that fails is tried again until it succeeds; those after it wait.
//
// It decides nothing about containerd. What a script may use is in
// docs/scripts.md. Start at Runner in runner.go. What runs is in plan.go, when in
// round.go, how in execute.go; statedir.go is what is kept on disk, and
// library.bash are the helpers that scripts may call.
package nodescript
