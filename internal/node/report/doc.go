// Package report owns what a node says in its RegistryNode.status, the only
// thing that the controller knows of it.
//
// A Reporter follows the RegistryNode and writes its status, only when that
// changes. Each pass of the agent makes a Report with Begin, fills it, and hands
// it to Finish. Report also keeps what lasts longer than a pass: what the node
// has proved, and since when something does not work.
//
// It decides nothing about containerd. Start at Reporter.
package report
