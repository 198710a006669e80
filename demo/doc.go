// Demo shows the main job of the registry module on one machine without a
// cluster: it switches a cluster to Direct, changes its registry, and goes back,
// while every node keeps pulling. The parts are real; what is played is named in
// the output.
//
// All that it applies is plain YAML in this folder and in deploy/. The stories
// are story_*.go; what they promise is in promises.go. It ends with 0 only if
// every promise held, with 1 if one did not, and with 3 when this machine cannot
// run it. Start at main.go, then story_main.go.
package main
